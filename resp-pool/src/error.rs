//! The errors, by stage and by the side that caused them.

use std::{fmt, io, time::Duration};

use pool_common::{connect::ConnectError, retry::Fate};

use crate::{
    limits::ScanError,
    text::Shown,
    value::{ServerError, Value},
};

/// Any failure of this crate.
///
/// A [`Server`](Self::Server) or [`Conversion`](Self::Conversion) error leaves the connection in
/// step and usable; after any other error of a connection it is of no further use, and the pool
/// discards it.
///
/// Errors of the acquire name host and port; those that come later do not, since a client has one
/// server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pool gave no connection: it is closed, full, or the dial failed. The text is the pool's
    /// own; [`dial_error`](pool_common::Error::dial_error) and
    /// [`server_error`](Self::server_error) lead to the cause.
    #[error("{0}")]
    Acquire(Box<pool_common::Error<Error>>),
    /// The server could not be reached. The text names host and port.
    #[error(transparent)]
    Connect(ConnectError),
    /// The server was reached and refused a command of the handshake: wrong credentials, an unknown
    /// database, a protocol version it does not speak, too many clients.
    ///
    /// The text of a refused `AUTH`, and of a `HELLO` that carried credentials, is the server's only
    /// where it is known to repeat no argument; otherwise it is withheld, and the code is kept.
    #[error("{command} was refused in the handshake: {refusal}")]
    Handshake {
        /// The command that was refused.
        command: &'static str,
        /// What the server said, or as much of it as cannot repeat the password.
        refusal: ServerError,
    },
    /// Writing or reading failed, or the server closed the connection.
    #[error("connection lost while {stage}")]
    Io {
        /// What was going on.
        stage: Stage,
        /// Whether bytes of the request had been written.
        sent: bool,
        /// What the operating system said; `UnexpectedEof` when the server closed.
        #[source]
        source: io::Error,
    },
    /// The server had closed the connection, or sent bytes without a request, before the request
    /// was written. Nothing was sent.
    #[error("the connection went stale before the request was written")]
    Stale,
    /// A time limit passed.
    #[error("timed out while {stage}, after {after:?}")]
    Timeout {
        /// What was going on.
        stage: Stage,
        /// Whether bytes of the request had been written.
        sent: bool,
        /// The limit.
        after: Duration,
    },
    /// The server sent something that is not acceptable.
    #[error("protocol error: {0}")]
    Protocol(ProtocolError),
    /// The server refused the command.
    #[error(transparent)]
    Server(ServerError),
    /// The server refused the `MULTI` of a transaction. The commands between it and `EXEC` may have
    /// been carried out, each for itself and without a transaction. The connection stays usable.
    #[error("MULTI was refused, the commands were sent without a transaction: {0}")]
    NoTransaction(ServerError),
    /// The server did not carry out a transaction although it was complete: a watched key had
    /// changed. The connection stays usable.
    #[error("the transaction was aborted, nothing was carried out")]
    Aborted,
    /// The reply is not what the caller asked for.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    /// An earlier call on this connection was dropped before its reply had been read, so the next reply
    /// cannot be matched with a request.
    #[error("an earlier request on this connection was given up halfway")]
    Abandoned,
    /// The connection failed earlier; the first failure told why.
    #[error("the connection failed earlier")]
    Broken,
    /// This crate does not send the command, or not now.
    #[error("{command} refused: {reason}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The session could not be brought back to neutral.
    #[error("the session stays changed: {0}")]
    NotNeutral(&'static str),
}

impl Error {
    /// Whether a time limit passed: of a read, a write, a dial, or of the wait for a connection.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Acquire(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// What is known of the command.
    ///
    /// An error reply is proof that nothing ran only if it says "not now" (such as `LOADING`) and the
    /// command is one of the server's own that reads or writes data. A script, a function or a
    /// command of a module can answer with any error after it wrote, and so can one in a
    /// transaction.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Io { sent: true, .. } | Self::Timeout { sent: true, .. } => Fate::Unknown,
            Self::Protocol(_) | Self::Conversion(_) | Self::NoTransaction(_) => Fate::Answered,
            Self::Server(error) if error.proves_nothing_ran() => Fate::Unprocessed,
            Self::Server(_) => Fate::Answered,
            Self::Aborted => Fate::Unprocessed,
            _ => Fate::NotSent,
        }
    }

    /// Whether the command may have been executed, in whole or in part. When this is false, sending
    /// the command again cannot run it twice. `true` even if that is merely unknown.
    pub fn may_have_executed(&self) -> bool {
        self.fate().may_have_executed()
    }

    /// Whether trying again, on another connection and perhaps a little later, may help: the
    /// network or a time limit failed, or the server said so. Whether it is *safe* is another
    /// question, see [`may_have_executed`](Self::may_have_executed).
    ///
    /// Source: the rule of go-redis.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout { .. } | Self::Connect(_) => true,
            Self::Stale | Self::Broken | Self::Abandoned => true,
            Self::Server(error) | Self::Handshake { refusal: error, .. } => {
                error.kind().is_retryable()
            }
            Self::Acquire(error) => match &**error {
                error if error.is_closed() => false,
                pool_common::Error::Dial { source } => match source {
                    pool_common::DialError::Failed(error) => error.is_retryable(),
                    _ => true,
                },
                pool_common::Error::BackingOff { .. } => true,
                _ => error.is_timeout(),
            },
            _ => false,
        }
    }

    /// The server's error reply, when that is what happened, also while dialing.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) | Self::NoTransaction(error) => Some(error),
            Self::Handshake { refusal, .. } => Some(refusal),
            Self::Acquire(error) => match error.dial_error()? {
                pool_common::DialError::Failed(error) => error.server_error(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the connection this came from is still in step.
    pub(crate) fn leaves_connection_usable(&self) -> bool {
        matches!(
            self,
            Self::Server(_)
                | Self::NoTransaction(_)
                | Self::Aborted
                | Self::Conversion(_)
                | Self::Refused { .. }
        )
    }
}

impl From<pool_common::Error<Error>> for Error {
    fn from(error: pool_common::Error<Error>) -> Self {
        Self::Acquire(Box::new(error))
    }
}

/// The step in which a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Writing a request.
    Write,
    /// Waiting for a reply.
    Read,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "writing a request",
            Self::Read => "waiting for a reply",
        })
    }
}

/// Bytes of the server that are not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// They are not a frame within the limits.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The decoder refused the frame.
    #[error("the decoder refused a frame: {0}")]
    Decode(String),
    /// Scanner and decoder disagree about a frame. This has never been seen, and would be a defect of this crate.
    #[error("scanner and decoder disagree about a frame")]
    Mismatch,
    /// A reply came without a request.
    #[error("a reply without a request")]
    Unsolicited,
    /// The reply to a `PING` of this crate did not have the word that was sent.
    #[error("the reply to PING is not what was sent")]
    WrongEcho,
    /// More messages came than the connection keeps for its user, see
    /// [`Settings::max_pushes`](crate::Settings::max_pushes).
    #[error("too many messages are waiting to be received (max_pushes = {0})")]
    TooManyPushes(usize),
    /// Messages that were not received hold more memory than allowed, see
    /// [`Settings::max_push_bytes`](crate::Settings::max_push_bytes).
    #[error("the messages waiting to be received are too large (max_push_bytes = {0})")]
    TooManyPushBytes(usize),
    /// More came than a reset reads away, see
    /// [`Settings::drain_replies`](crate::Settings::drain_replies).
    #[error("a reset would have to read away more than drain_replies or drain_bytes allow")]
    TooMuchToDrain,
}

/// The reply is of another kind than the caller asked for, or does not fit. Names the command, what
/// was expected, what came, and a type that takes it. Holds no data of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionError {
    expected: &'static str,
    found: &'static str,
    server: Option<ServerError>,
    command: Option<Box<str>>,
}

impl ConversionError {
    /// `expected` in words, and what was found instead.
    pub fn new(expected: &'static str, found: &Value) -> Self {
        let server = match found {
            Value::Error(error) => Some(error.clone()),
            _ => None,
        };
        Self { expected, found: found.kind(), server, command: None }
    }

    /// The same, of the reply to the command of this name.
    pub(crate) fn answering(mut self, name: Option<&[u8]>) -> Self {
        self.command = name.map(|name| String::from_utf8_lossy(name).into());
        self
    }

    /// What the caller asked for, in words.
    pub fn expected(&self) -> &'static str {
        self.expected
    }

    /// The kind of the reply, see [`Value::kind`].
    pub fn found(&self) -> &'static str {
        self.found
    }

    /// The name of the command, where it is known: a conversion by hand
    /// ([`FromValue`](crate::FromValue)) does not know it.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// A type that takes what was found.
    fn way_out(&self) -> &'static str {
        match self.found {
            "null" => "Option<_>",
            "integer" => "i64",
            "double" => "f64",
            "boolean" => "bool",
            "simple string" | "bulk string" | "verbatim string" | "big number" => {
                "String or Vec<u8>"
            }
            "map" => "a HashMap, or a Vec of pairs",
            _ => "a Vec, or a tuple of as many elements",
        }
    }
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// No command of a server has a longer name.
        const LONGEST_NAME: usize = 64;
        write!(f, "expected {}, but the reply", self.expected)?;
        if let Some(name) = &self.command {
            write!(f, " to {}", Shown { text: name, most: LONGEST_NAME })?;
        }
        match &self.server {
            // What came is no data but a refusal, which no other type would take either.
            Some(error) => write!(f, " holds an error: {error}"),
            None => {
                let article = match self.found {
                    "null" => "",
                    "integer" | "array" => "an ",
                    _ => "a ",
                };
                write!(f, " is {article}{}, which does not convert; ", self.found)?;
                write!(f, "{} takes it, and Value takes every reply", self.way_out())
            }
        }
    }
}

impl std::error::Error for ConversionError {}

/// A setting or a URL that makes no sense. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The URL has no scheme, or one this crate does not know.
    #[error("unknown scheme {0:?}; redis://, rediss:// and redis+unix:// are supported")]
    Scheme(String),
    /// A part of the URL is malformed.
    #[error("malformed {part} in the URL")]
    Url {
        /// Which part.
        part: &'static str,
    },
    /// A query parameter of the URL is unknown. Holds its name if that is a word of small letters,
    /// otherwise nothing: it may be a part of a password.
    #[error(
        "unknown URL parameter {0:?} (known are protocol, client_name, and db of a Unix socket; a ? in a password is %3F)"
    )]
    Parameter(String),
    /// A setting is out of range or contradicts another.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting, or both of them.
        field: &'static str,
        /// What is wrong, and how to mend it.
        reason: &'static str,
    },
}
