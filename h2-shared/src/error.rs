//! What can go wrong, by stage and by whose fault it is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;

use crate::config::InvalidConfig;

/// Why a request, or the reading of its response, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's: the request cannot be sent over HTTP/2 as it is. Nothing was sent.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The caller's: a field of the [`Config`](crate::Config) is out of range.
    #[error("invalid configuration: {0}")]
    InvalidConfig(#[from] InvalidConfig),

    /// The caller's: the pool's policy contradicts itself.
    #[error("invalid policy: {0}")]
    InvalidPolicy(#[from] pool_common::InvalidPolicy),

    /// The pool gave no stream slot: the dial failed, the time was up, the limit was reached, or
    /// the pool is closed. Nothing was sent.
    #[error("no connection: {0}")]
    Acquire(#[from] pool_common::Error<ConnectError>),

    /// The peer proved that it did not process the request: REFUSED_STREAM, a GOAWAY whose last
    /// stream id is lower, or the connection was gone before anything was sent. Repeating is safe
    /// whatever the method; the client does so itself within its bounds.
    #[error("the peer did not process the request: {source}")]
    Unprocessed {
        /// The peer's word for it, for example REFUSED_STREAM or ENHANCE_YOUR_CALM. `None` when the
        /// connection had ended without a word.
        reason: Option<Reason>,
        /// What the stream or the connection reported.
        #[source]
        source: h2::Error,
    },

    /// The stream was reset, by the peer or because it broke a rule. The request may have been
    /// processed. The connection goes on.
    #[error("the stream was reset ({reason})")]
    Reset {
        /// The code of the RST_STREAM frame.
        reason: Reason,
        /// What the stream reported.
        #[source]
        source: h2::Error,
    },

    /// The connection ended under the stream. The request may have been processed.
    #[error("the connection was lost: {cause}")]
    ConnectionLost {
        /// Why it ended.
        cause: Closed,
        /// What the stream reported.
        #[source]
        source: h2::Error,
    },

    /// The response head did not come within [`response_timeout`](crate::Config::response_timeout).
    /// The stream was reset.
    #[error("no response within {0:?}")]
    ResponseTimeout(Duration),

    /// The peer paused in the response body for longer than
    /// [`body_timeout`](crate::Config::body_timeout). The stream was reset.
    #[error("the response body paused for {0:?}")]
    BodyTimeout(Duration),

    /// The caller's request body failed, or did not have the length that the head declared. The
    /// stream was reset.
    #[error("the request body failed: {0}")]
    RequestBody(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether a time limit passed, ours or the pool's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::ResponseTimeout(_) | Self::BodyTimeout(_) => true,
            Self::Acquire(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// Whether it is certain that the peer did not process the request, so that sending it again
    /// cannot execute it twice.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Unprocessed { .. }
            | Self::Acquire(_)
            | Self::InvalidRequest { .. }
            | Self::InvalidConfig(_)
            | Self::InvalidPolicy(_) => true,
            Self::Reset { .. }
            | Self::ConnectionLost { .. }
            | Self::ResponseTimeout(_)
            | Self::BodyTimeout(_)
            | Self::RequestBody(_) => false,
        }
    }

    /// The HTTP/2 error code, where one was exchanged.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unprocessed { reason, .. } => *reason,
            Self::Reset { reason, .. } => Some(*reason),
            Self::ConnectionLost { source, .. } => source.reason(),
            _ => None,
        }
    }

    /// Sorts what a stream reported after the response head: the peer has processed the request.
    pub(crate) fn from_response(error: h2::Error, closed: Option<Closed>) -> Self {
        match Self::from_stream(error, closed) {
            Self::Unprocessed { reason: Some(reason), source } => Self::Reset { reason, source },
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
                Self::Unprocessed { reason: Some(reason), source: error }
            }
            Some(reason) if error.is_reset() => {
                match reason == Reason::REFUSED_STREAM && error.is_remote() {
                    true => Self::Unprocessed { reason: Some(reason), source: error },
                    false => Self::Reset { reason, source: error },
                }
            }
            _ => Self::ConnectionLost {
                cause: closed.unwrap_or_else(|| Closed::Broken(error.to_string().into())),
                source: error,
            },
        }
    }
}

/// Why a dial gave no usable HTTP/2 connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// TCP: refused, unreachable, name not found, timed out.
    #[error("{0}")]
    Io(#[from] io::Error),

    /// The connection preface could not be written.
    #[error("the HTTP/2 preface could not be sent: {0}")]
    Preface(#[source] h2::Error),

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
    /// We closed it: nobody used it any more.
    Local,
    /// The peer announced the end with GOAWAY, without naming a fault, or just closed.
    Peer,
    /// The peer announced the end with GOAWAY and this fault. ENHANCE_YOUR_CALM means that we asked
    /// for too much.
    GoAway(Reason),
    /// A PING stayed without an answer for
    /// [`keep_alive_timeout`](crate::Config::keep_alive_timeout).
    KeepAlive,
    /// The socket took no bytes for [`write_timeout`](crate::Config::write_timeout).
    WriteStalled,
    /// The socket failed, or the peer broke the protocol; in the words of the library that noticed.
    Broken(Arc<str>),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this side"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::GoAway(reason) => write!(f, "closed by the peer ({reason})"),
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
