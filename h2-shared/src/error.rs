//! The errors, by stage and by the side that caused them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use pool_common::Stage;
use pool_common::connect::InvalidUri;
use pool_common::retry::Fate;

/// Why a request, or the reading of its response, failed.
///
/// The text says all of it once; `source` goes on where the text ends. Errors of the acquire name the
/// origin; those that come later do not, since the caller has the URI of the request.
#[non_exhaustive]
pub enum Error {
    /// The request cannot be sent as it is. Nothing was sent.
    InvalidRequest(InvalidRequest),

    /// The pool gave no stream slot: the dial failed, the time was up, the limit was reached, or
    /// the pool is closed. Nothing was sent.
    Acquire(pool_common::Error<ConnectError>),

    /// The peer proved that it did not process the request: REFUSED_STREAM, a GOAWAY whose last
    /// stream id is lower, or the connection was gone before anything was sent. Repeating is safe
    /// whatever the method; the client does so itself within its bounds.
    Unprocessed {
        /// The peer's code for it, for example REFUSED_STREAM or ENHANCE_YOUR_CALM. `None` when the
        /// stream has none; [`Error::reason`] then gives the one in `closed`.
        reason: Option<Reason>,
        /// Why the connection ended, if it has.
        closed: Option<Closed>,
        /// What the stream or the connection reported.
        source: h2::Error,
    },

    /// The stream was reset, by the peer or because it broke a rule. The request may have been
    /// processed. The connection goes on.
    Reset {
        /// The code of the RST_STREAM frame.
        reason: Reason,
        /// The rule that this client found broken; `None` when the code tells it all.
        fault: Option<&'static str>,
        /// What the stream reported.
        source: h2::Error,
    },

    /// The connection ended under the stream. The request may have been processed.
    ConnectionLost {
        /// Why it ended.
        cause: Closed,
        /// What the stream reported.
        source: h2::Error,
    },

    /// The response head did not come within [`response_timeout`](crate::Config::response_timeout).
    /// The stream was reset.
    ResponseTimeout(Duration),

    /// The peer paused in the response body for longer than
    /// [`body_timeout`](crate::Config::body_timeout). The stream was reset.
    BodyTimeout(Duration),

    /// The request's [`TotalTimeout`](pool_common::exchange::TotalTimeout) passed. The stream was
    /// reset, if there was one.
    TotalTimeout {
        /// The limit.
        limit: Duration,
        /// How far the request had come, in the attempt that came furthest.
        fate: Fate,
    },

    /// [`Body::read_all`](crate::Body::read_all) met more bytes than the caller allows. The stream
    /// was reset.
    BodyTooLarge {
        /// What the caller allows.
        limit: usize,
    },

    /// The caller's request body failed, or did not have the length that the head declared. The
    /// stream was reset.
    RequestBody(Box<dyn std::error::Error + Send + Sync>),
}

/// [`h2::Error`] without the debug data of a GOAWAY, which a peer may make as long as it likes.
pub(crate) struct Brief<'a>(pub(crate) &'a h2::Error);

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        f.debug_struct("h2::Error")
            .field("reason", &error.reason())
            .field("is_reset", &error.is_reset())
            .field("is_go_away", &error.is_go_away())
            .field("is_remote", &error.is_remote())
            .field("io", &error.get_io())
            .finish()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(error) => f.debug_tuple("InvalidRequest").field(error).finish(),
            Self::Acquire(error) => f.debug_tuple("Acquire").field(error).finish(),
            Self::Unprocessed { reason, closed, source } => f
                .debug_struct("Unprocessed")
                .field("reason", reason)
                .field("closed", closed)
                .field("source", &Brief(source))
                .finish(),
            Self::Reset { reason, fault, source } => f
                .debug_struct("Reset")
                .field("reason", reason)
                .field("fault", fault)
                .field("source", &Brief(source))
                .finish(),
            Self::ConnectionLost { cause, source } => f
                .debug_struct("ConnectionLost")
                .field("cause", cause)
                .field("source", &Brief(source))
                .finish(),
            Self::ResponseTimeout(limit) => f.debug_tuple("ResponseTimeout").field(limit).finish(),
            Self::BodyTimeout(limit) => f.debug_tuple("BodyTimeout").field(limit).finish(),
            Self::TotalTimeout { limit, fate } => {
                f.debug_struct("TotalTimeout").field("limit", limit).field("fate", fate).finish()
            }
            Self::BodyTooLarge { limit } => {
                f.debug_struct("BodyTooLarge").field("limit", limit).finish()
            }
            Self::RequestBody(error) => f.debug_tuple("RequestBody").field(error).finish(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(error) => write!(f, "invalid request: {error}"),
            Self::Acquire(error) => describe_acquire(error, f),
            Self::Unprocessed { reason, closed, source } => {
                describe_unprocessed(*reason, closed.as_ref(), source, f)
            }
            Self::Reset { reason, fault, source } => {
                let by = if source.is_remote() { "the peer" } else { "this side" };
                write!(f, "the stream was reset by {by} ({reason:?})")?;
                fault.map_or(Ok(()), |fault| write!(f, ": {fault}"))
            }
            Self::ConnectionLost { cause, .. } => write!(f, "the connection was lost: {cause}"),
            Self::ResponseTimeout(limit) => {
                write!(f, "no response within response_timeout, {limit:?}")
            }
            Self::BodyTimeout(limit) => {
                write!(f, "the response body paused for body_timeout, {limit:?}")
            }
            Self::TotalTimeout { limit, fate } => {
                let stage = match fate {
                    Fate::NotSent => "before the request was sent",
                    Fate::Unprocessed | Fate::Unknown => "before the response began",
                    Fate::Answered => "while the response body was being read",
                };
                write!(f, "the time limit of the whole exchange passed {stage}, {limit:?}")
            }
            Self::BodyTooLarge { limit } => {
                write!(f, "the response body is larger than read_all was told: {limit} bytes")
            }
            Self::RequestBody(error) => write!(f, "the request body failed: {error}"),
        }
    }
}

/// The pool knows leases only; the text for a caller whose wait timed out has to say that streams
/// are taken.
fn describe_acquire(
    error: &pool_common::Error<ConnectError>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    use pool_common::Error::{Exhausted, Timeout, TooManyWaiters};
    let status = match error {
        Timeout { stage: Stage::Queue, status, .. }
        | Exhausted { status, .. }
        | TooManyWaiters { status, .. } => Some(status),
        _ => None,
    };
    // While a dial is in progress, the caller waits for the dial and not for a stream.
    if status.is_some_and(|status| status.leases > 0 && status.dialing == 0) {
        f.write_str("all streams are taken (a lease is a stream): ")?;
    }
    fmt::Display::fmt(error, f)
}

fn describe_unprocessed(
    reason: Option<Reason>,
    closed: Option<&Closed>,
    source: &h2::Error,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match (reason, closed) {
        (Some(Reason::REFUSED_STREAM), _) if source.is_reset() => f.write_str(
            "the peer refused the stream (REFUSED_STREAM), it did not process the request",
        ),
        (_, Some(closed @ Closed::GoAway { .. })) => {
            write!(f, "the peer did not process the request: {closed}")
        }
        (Some(reason), _) => {
            write!(f, "the peer did not process the request: closed by the peer ({reason:?})")
        }
        (None, _) => f.write_str("the connection ended before the request was sent"),
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Acquire(error) => error.source(),
            Self::RequestBody(error) => error.source(),
            _ => None,
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
    /// Whether a time limit passed, ours, the pool's or the caller's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::ResponseTimeout(_) | Self::BodyTimeout(_) | Self::TotalTimeout { .. } => true,
            Self::Acquire(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// What is known of the request.
    pub fn fate(&self) -> Fate {
        match self {
            Self::InvalidRequest(_) | Self::Acquire(_) => Fate::NotSent,
            Self::Unprocessed { .. } => Fate::Unprocessed,
            Self::Reset { .. }
            | Self::ConnectionLost { .. }
            | Self::ResponseTimeout(_)
            | Self::RequestBody(_) => Fate::Unknown,
            Self::BodyTimeout(_) | Self::BodyTooLarge { .. } => Fate::Answered,
            Self::TotalTimeout { fate, .. } => *fate,
        }
    }

    /// Whether the request may have been carried out, in whole or in part. When this is false, sending
    /// it again cannot make it happen twice, whatever its method. `true` even if that is merely
    /// unknown. It speaks of the last attempt; an idempotent request that was repeated may have run in an
    /// earlier one even then.
    pub fn may_have_executed(&self) -> bool {
        self.fate().may_have_executed()
    }

    /// The HTTP/2 error code, where one was exchanged: of the stream's reset, or of the GOAWAY that
    /// ended its connection.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            // A peer may send a GOAWAY without a fault or just close, and name the fault later.
            Self::Unprocessed {
                reason: None | Some(Reason::NO_ERROR),
                closed: Some(Closed::GoAway { reason, .. }),
                ..
            } => Some(*reason),
            Self::Unprocessed { reason, .. } => *reason,
            Self::Reset { reason, .. } => Some(*reason),
            Self::ConnectionLost { cause: Closed::GoAway { reason, .. }, .. } => Some(*reason),
            Self::ConnectionLost { source, .. } => source.reason(),
            _ => None,
        }
    }

    /// This side found the response to break a rule, and resets its stream.
    pub(crate) fn bad_response(fault: &'static str) -> Self {
        let reason = Reason::PROTOCOL_ERROR;
        Self::Reset { reason, fault: Some(fault), source: reason.into() }
    }

    /// Sorts what a stream reported after the response head: the peer has processed the request.
    pub(crate) fn from_response(error: h2::Error, closed: Option<Closed>) -> Self {
        match Self::from_stream(error, closed) {
            Self::Unprocessed { reason: Some(reason), source, .. } => {
                Self::Reset { reason, fault: None, source }
            }
            other => other,
        }
    }

    /// Sorts what a stream reported before there was a response. `closed` is why its connection
    /// ended, if it has.
    pub(crate) fn from_stream(error: h2::Error, closed: Option<Closed>) -> Self {
        match error.reason() {
            // Only streams above the last id of a GOAWAY, or not yet opened when it came, see it as
            // their own error.
            Some(reason) if error.is_go_away() && error.is_remote() => {
                Self::Unprocessed { reason: Some(reason), closed, source: error }
            }
            Some(reason) if error.is_reset() => {
                match reason == Reason::REFUSED_STREAM && error.is_remote() {
                    true => Self::Unprocessed { reason: Some(reason), closed, source: error },
                    false => Self::Reset { reason, fault: None, source: error },
                }
            }
            _ => Self::ConnectionLost {
                cause: closed.unwrap_or_else(|| Closed::broken(&error)),
                source: error,
            },
        }
    }
}

/// Why a request cannot be sent as it is: the caller's fault, found before anything is dialed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// No connection can be opened for its URI.
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    /// `CONNECT`.
    #[error("CONNECT is not supported")]
    Connect,
    /// A `Host` header that is not `host` or `host:port`.
    #[error("the Host header is not a host")]
    Host,
    /// A `Content-Length` that is no number.
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
    /// The origin of a gRPC server with a path behind it.
    #[error("the origin of a gRPC server is a scheme, a host and a port, without a path")]
    OriginWithPath,
    /// A head that HTTP/2 cannot express, in another way.
    #[error("its head is not valid in HTTP/2")]
    Head,
}

/// Why a dial gave no usable HTTP/2 connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection could not be opened: refused, unreachable, name not found, timed out.
    #[error(transparent)]
    Connect(#[from] pool_common::connect::ConnectError),

    /// The server speaks TLS, and did not choose HTTP/2 in the handshake.
    #[error(
        "{origin} did not agree to HTTP/2 in the TLS handshake (ALPN h2); it may speak HTTP/1 only"
    )]
    NoHttp2 {
        /// The server.
        origin: String,
    },

    /// The connection preface could not be written.
    #[error("the HTTP/2 preface could not be sent: {0}")]
    Preface(h2::Error),

    /// The connection ended before the peer's SETTINGS came: it may not speak HTTP/2.
    #[error("the peer ended the connection before its SETTINGS: {0}")]
    Ended(Closed),

    /// The peer accepted and then sent no SETTINGS for
    /// [`settings_timeout`](crate::Config::settings_timeout).
    #[error("no SETTINGS from the peer within {0:?}")]
    SettingsTimeout(Duration),

    /// The peer's SETTINGS allowed no stream, and it did not change its mind for
    /// [`settings_timeout`](crate::Config::settings_timeout).
    #[error("the peer allowed no stream within {0:?} (MAX_CONCURRENT_STREAMS is 0)")]
    NoStreams(Duration),

    /// The PING before lending found the connection gone.
    #[error("the check found the connection gone: {0}")]
    CheckFailed(Closed),
}

/// Why a connection ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Closed {
    /// We closed it: it had no users any more.
    Local,
    /// The peer announced the end with GOAWAY, without naming a fault, or just closed.
    Peer,
    /// The peer announced the end with GOAWAY and a fault.
    GoAway {
        /// The fault. ENHANCE_YOUR_CALM means that we asked for too much.
        reason: Reason,
        /// The peer's words for it, for people: its control characters escaped, cut after 256
        /// bytes; often empty.
        message: Arc<str>,
    },
    /// A PING stayed without an answer for
    /// [`keep_alive_timeout`](crate::Config::keep_alive_timeout).
    KeepAlive,
    /// The socket took no bytes for [`write_timeout`](crate::Config::write_timeout).
    WriteStalled,
    /// The socket failed, or the peer broke the protocol; in the words of the library that noticed.
    Broken(Arc<str>),
}

impl Closed {
    /// In the words of h2, which may be followed by debug data of the peer.
    pub(crate) fn broken(error: &h2::Error) -> Self {
        const MOST: usize = 256;
        let words = error.to_string();
        let end = words.len().min(MOST);
        Self::Broken(legible(&words.as_bytes()[..end], end < words.len()).into())
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this side"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::GoAway { reason, message } if message.is_empty() => {
                write!(f, "closed by the peer ({reason:?})")
            }
            Self::GoAway { reason, message } => {
                write!(f, "closed by the peer ({reason:?}: {message})")
            }
            Self::KeepAlive => f.write_str("no answer to a keep-alive PING"),
            Self::WriteStalled => f.write_str("the peer stopped reading"),
            Self::Broken(words) => f.write_str(words),
        }
    }
}

/// A declared and an actual length of a request body that differ.
#[derive(Debug, thiserror::Error)]
#[error("content-length is {declared}, but the body has {} bytes", match .longer {
    true => "more".to_owned(),
    false => format!("{} only", .sent),
})]
pub(crate) struct LengthMismatch {
    pub(crate) declared: u64,
    pub(crate) sent: u64,
    pub(crate) longer: bool,
}

/// A peer's words as people can read them; `cut` says that there were more.
pub(crate) fn legible(bytes: &[u8], cut: bool) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character.is_control() {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
    if cut {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go_away(message: &str) -> Closed {
        Closed::GoAway { reason: Reason::ENHANCE_YOUR_CALM, message: message.into() }
    }

    #[test]
    fn a_lost_connection_has_the_reason_of_its_go_away() {
        let broken = || h2::Error::from(Reason::NO_ERROR);
        let error = Error::from_stream(broken(), Some(go_away("too_many_pings")));
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
        let text =
            "the connection was lost: closed by the peer (ENHANCE_YOUR_CALM: too_many_pings)";
        assert_eq!(error.to_string(), text);
        let silent = Error::from_stream(broken(), Some(go_away("")));
        assert!(silent.to_string().ends_with("closed by the peer (ENHANCE_YOUR_CALM)"));
    }

    #[test]
    fn words_of_a_peer_have_no_control_characters() {
        assert_eq!(legible(b"a\x1b[31m\r\n\xffb", false), "a\\u{1b}[31m\\r\\n\u{fffd}b");
        assert_eq!(legible(b"long", true), "long...");
    }

    #[test]
    fn each_thing_is_said_once() {
        let stage = pool_common::connect::ConnectStage::Open;
        let cause = std::io::Error::other("no route");
        let connect = pool_common::connect::ConnectError::new(stage, "a:80", cause);
        let connect = ConnectError::Connect(connect);
        let dial = pool_common::DialError::Failed(Arc::new(connect));
        let text = Error::Acquire(pool_common::Error::Dial { source: dial }).to_string();
        assert_eq!(text.matches("no route").count(), 1, "{text}");
        assert_eq!(text.matches("connect").count(), 1, "{text}");
    }
}
