//! The errors, grouped by the side that caused them.

use std::fmt;
use std::io;
use std::time::Duration;

use pool_common::DialError;
use pool_common::connect::{ConnectError, InvalidUri};
use pool_common::retry::Fate;

use crate::foreign::OtherProtocol;
use crate::key::Key;

/// An error of any type, from the caller's own body stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request gave no response, or why a response's body ended early.
///
/// After any of these the connection that carried the request is closed, never lent again.
///
/// The text says everything, each thing once: what happened, then the cause, then the limit and the
/// origin (`http://host:port`, an IPv6 address in brackets), so that texts of one kind start alike.
/// [`source`](std::error::Error::source) gives only what the text does not say already;
/// [`io_error`](Error::io_error) gives the I/O error behind it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be sent as it is. Nothing was sent.
    InvalidRequest(InvalidRequest),
    /// The pool gave no connection: it is closed, all are in use, or the dial failed. Nothing was
    /// sent.
    Acquire(pool_common::Error<ConnectError>),
    /// The request's body stream failed, or did not keep to the length it had announced.
    RequestBody(BoxError),
    /// Reading or writing failed.
    Io {
        /// When.
        stage: Stage,
        /// The origin that was talked to.
        peer: Key,
        /// How.
        source: io::Error,
    },
    /// The peer closed the connection too early: before an answer, or within one.
    Closed {
        /// When.
        stage: Stage,
        /// The origin that was talked to.
        peer: Key,
    },
    /// The peer was silent for longer than the limit of this stage in [`Config`](crate::Config).
    Timeout {
        /// When.
        stage: Stage,
        /// The limit that passed.
        limit: Duration,
        /// The origin that was talked to.
        peer: Key,
    },
    /// The request's [`TotalTimeout`](pool_common::exchange::TotalTimeout) passed.
    TotalTimeout {
        /// How far the request had come, in the attempt that came furthest.
        stage: Stage,
        /// The limit that passed.
        limit: Duration,
        /// The origin of the request.
        peer: Key,
    },
    /// [`Body::read_all`](crate::Body::read_all) met more bytes than the caller allows.
    BodyTooLarge {
        /// What the caller allows.
        limit: usize,
    },
    /// The peer broke the protocol, or went beyond one of the [`Limits`](crate::Limits).
    Protocol {
        /// How.
        source: ProtocolError,
        /// The origin that was talked to.
        peer: Key,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(error) => write!(f, "invalid request: {error}"),
            Self::Acquire(error) => error.fmt(f),
            Self::RequestBody(error) => write!(f, "the request body failed: {error}"),
            Self::Io { stage, peer, source } => {
                write!(f, "the connection failed while {stage}: {source} ({peer})")
            }
            Self::Closed { stage, peer } => {
                write!(f, "the peer closed the connection while {stage} ({peer})")
            }
            Self::Timeout { stage, limit, peer } => {
                let name = stage.limit_name();
                write!(f, "timed out while {stage}: {name} = {limit:?} ({peer})")
            }
            Self::TotalTimeout { stage, limit, peer } => {
                write!(f, "timed out while {stage}: TotalTimeout = {limit:?} ({peer})")
            }
            Self::BodyTooLarge { limit } => {
                write!(f, "the response body is larger than read_all was told: {limit} bytes")
            }
            Self::Protocol { source, peer } => write!(f, "bad response: {source} ({peer})"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => source.source(),
            Self::RequestBody(error) => error.source(),
            // The text includes that of the failed dial.
            Self::Acquire(_) => self.io_error()?.source(),
            Self::InvalidRequest(_)
            | Self::Closed { .. }
            | Self::Timeout { .. }
            | Self::TotalTimeout { .. }
            | Self::BodyTooLarge { .. }
            | Self::Protocol { .. } => None,
        }
    }
}

impl From<InvalidRequest> for Error {
    fn from(error: InvalidRequest) -> Self {
        Self::InvalidRequest(error)
    }
}

impl From<InvalidUri> for Error {
    fn from(error: InvalidUri) -> Self {
        Self::InvalidRequest(error.into())
    }
}

impl From<pool_common::Error<ConnectError>> for Error {
    fn from(error: pool_common::Error<ConnectError>) -> Self {
        Self::Acquire(error)
    }
}

impl Error {
    /// Whether a time limit passed: the acquire's, the dial's, of the peer's silence, or the total one.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::TotalTimeout { .. } => true,
            Self::Acquire(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// What is known of the request.
    pub fn fate(&self) -> Fate {
        match self {
            // Bytes that came before the request was written.
            Self::Protocol { source: ProtocolError::Unsolicited, .. } => Fate::NotSent,
            Self::Protocol { .. } => Fate::Answered,
            error => match error.stage() {
                Some(Stage::Start) => Fate::NotSent,
                Some(Stage::Request | Stage::Response) | None => Fate::Unknown,
                Some(Stage::Body) => Fate::Answered,
            },
        }
    }

    /// Whether the request may have been carried out, in whole or in part. When this is false, sending
    /// it again cannot make it happen twice, whatever its method. `true` even if that is merely
    /// unknown. It speaks of the last attempt. With the retry rules that repeat a request which may have been
    /// carried out (`attempts` does so for every method), an earlier attempt may have run even then.
    pub fn may_have_executed(&self) -> bool {
        self.fate().may_have_executed()
    }

    /// How far the request had come, where that is known.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::InvalidRequest(_) | Self::Acquire(_) => Some(Stage::Start),
            Self::RequestBody(_) => Some(Stage::Request),
            Self::Io { stage, .. }
            | Self::Closed { stage, .. }
            | Self::Timeout { stage, .. }
            | Self::TotalTimeout { stage, .. } => Some(*stage),
            Self::BodyTooLarge { .. } => Some(Stage::Body),
            Self::Protocol { .. } => None,
        }
    }

    /// The I/O error behind it: of a read or write that failed, or of the dial that failed.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Acquire(error) => match error.dial_error()? {
                DialError::Failed(error) => Some(error.io_error()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The origin that was talked to, once a connection was there; after a
    /// [`TotalTimeout`](Self::TotalTimeout) always.
    pub fn peer(&self) -> Option<&Key> {
        match self {
            Self::Io { peer, .. }
            | Self::Closed { peer, .. }
            | Self::Timeout { peer, .. }
            | Self::TotalTimeout { peer, .. }
            | Self::Protocol { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

/// How far a request had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Nothing of it was sent.
    Start,
    /// Some of it was sent.
    Request,
    /// It was sent, and the head of the response had not arrived completely.
    Response,
    /// The head had arrived, and the body had not ended.
    Body,
}

impl Stage {
    /// The field of [`Config`](crate::Config) that bounds this stage.
    fn limit_name(self) -> &'static str {
        match self {
            Self::Start | Self::Request => "write_timeout",
            Self::Response => "response_timeout",
            Self::Body => "body_timeout",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "starting the request",
            Self::Request => "sending the request",
            Self::Response => "waiting for the response",
            Self::Body => "reading the response body",
        })
    }
}

/// Why a request cannot be sent as it is: the caller's fault, found before anything is dialed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// No connection can be opened for its URI.
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    /// A version other than HTTP/1.1 or HTTP/1.0.
    #[error("{0:?} cannot be spoken here")]
    Version(http::Version),
    /// Several `Host` headers.
    #[error("more than one Host header")]
    SeveralHosts,
    /// A `Content-Length` that is no number, or several that differ.
    #[error("the Content-Length header is not one decimal number")]
    ContentLength,
    /// A `Content-Length` that is not the length of the body.
    #[error("the Content-Length header says {header}, the body has {body} bytes")]
    LengthMismatch {
        /// The length of the header.
        header: u64,
        /// The length of the body.
        body: u64,
    },
    /// A `Transfer-Encoding` other than exactly `chunked`.
    #[error("the Transfer-Encoding header may only be chunked")]
    TransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding are set")]
    LengthAndTransferEncoding,
    /// A `Connection` header that names `Content-Length`, `Transfer-Encoding` or `Host`: a proxy
    /// would remove the field, and the server behind it see another request.
    #[error("the Connection header names a field that frames or routes the request")]
    ConnectionOption,
    /// A body of unknown length in an HTTP/1.0 request.
    #[error("an HTTP/1.0 request needs a body of known length")]
    ChunkedInHttp10,
    /// `CONNECT` with a body.
    #[error("CONNECT has no body")]
    ConnectWithBody,
}

/// How a peer broke the protocol. Each of these costs it the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The answer does not start with `HTTP/1.0` or `HTTP/1.1`, so the peer speaks something else.
    #[error("the answer is not HTTP/1, {looks_like}; it starts with \"{}\"", start.escape_ascii())]
    NotHttp1 {
        /// What it looks like.
        looks_like: OtherProtocol,
        /// Its first bytes, as many as had arrived, at most 32.
        start: Vec<u8>,
    },
    /// A `101` to a request without `Upgrade`, or to one of HTTP/1.0, which has no upgrades.
    #[error("101 Switching Protocols, though the request did not ask for an upgrade")]
    UnaskedUpgrade,
    /// The status line or a header line is malformed.
    #[error("malformed response head: {0}")]
    MalformedHead(&'static str),
    /// A line of the head or trailers ends with a line feed that no carriage return precedes.
    #[error("a line ends with a bare line feed")]
    BareLineFeed,
    /// More than `limits.head_bytes` (the number).
    #[error("the response head is too large: limits.head_bytes = {0}")]
    HeadTooLarge(usize),
    /// More than `limits.headers` (the number).
    #[error("too many header lines: limits.headers = {0}")]
    TooManyHeaders(usize),
    /// More than `limits.interim_responses` (the number).
    #[error("too many interim responses: limits.interim_responses = {0}")]
    TooManyInterim(usize),
    /// A `Content-Length` that is no number, is too large, or differs from another one.
    #[error("invalid or contradictory Content-Length")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.3, request smuggling).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndTransferEncoding,
    /// A `Transfer-Encoding` other than exactly `chunked`, or one from an HTTP/1.0 server.
    #[error("unsupported Transfer-Encoding")]
    TransferEncoding,
    /// A chunk's size line is malformed, or the size does not fit 64 bits.
    #[error("invalid chunk size")]
    InvalidChunkSize,
    /// A chunk's data is not followed by CR LF.
    #[error("a chunk does not end where its size says")]
    MissingChunkEnd,
    /// Chunk extensions and padding that exceed the data by more than
    /// `limits.chunk_extension_bytes` (the number).
    #[error("chunk extensions outweigh the data: limits.chunk_extension_bytes = {0}")]
    ChunkExtensionsTooLarge(usize),
    /// Bytes arrived that no request had asked for.
    #[error("bytes arrived before the request was sent")]
    Unsolicited,
    /// A trailer line is malformed.
    #[error("malformed trailers")]
    MalformedTrailers,
    /// Trailers of more than `limits.head_bytes` (the number).
    #[error("the trailers are too large: limits.head_bytes = {0}")]
    TrailersTooLarge(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Key {
        Key::from_uri(&http::Uri::from_static("http://[::1]:8080/")).unwrap()
    }

    #[test]
    fn texts_of_one_kind_start_alike_and_end_with_the_limit_and_the_origin() {
        let limit = Duration::from_secs(30);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        for (error, text) in [
            (
                Error::Closed { stage: Stage::Body, peer: peer() },
                "the peer closed the connection while reading the response body \
                 (http://[::1]:8080)",
            ),
            (
                Error::Timeout { stage: Stage::Request, limit, peer: peer() },
                "timed out while sending the request: write_timeout = 30s (http://[::1]:8080)",
            ),
            (
                Error::Io { stage: Stage::Response, peer: peer(), source: reset },
                "the connection failed while waiting for the response: connection reset \
                 (http://[::1]:8080)",
            ),
            (
                Error::Protocol { source: ProtocolError::HeadTooLarge(65_536), peer: peer() },
                "bad response: the response head is too large: limits.head_bytes = 65536 \
                 (http://[::1]:8080)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.peer(), Some(&peer()));
            assert!(std::error::Error::source(&error).is_none(), "{error}");
        }
    }

    /// A body error of the caller, whose text does not tell its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("the file is gone")]
    struct Gone(#[source] io::Error);

    #[test]
    fn the_source_goes_on_where_the_text_ends() {
        let error = Error::RequestBody(Box::new(Gone(io::ErrorKind::NotFound.into())));
        assert_eq!(error.to_string(), "the request body failed: the file is gone");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "entity not found");
    }
}
