//! Why there is no connection: the stage that failed, the peer, and the cause.

use std::fmt;
use std::io;

/// Why a [`Connector`](super::Connector) gave no stream.
///
/// The text names the peer, the stage where that is not plain TCP, and the cause.
#[derive(Debug)]
pub struct ConnectError {
    stage: ConnectStage,
    peer: String,
    source: io::Error,
}

/// The stages on the way to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectStage {
    /// Looking up the addresses of a name.
    Resolve,
    /// Opening the connection: TCP, a Unix socket, or a connector of the user's.
    Open,
    /// Reaching the proxy, or its answer to `CONNECT`.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// Looking at a connection that was open already, before it is lent.
    Check,
}

impl ConnectError {
    /// `stage` failed on the way to `peer`.
    pub fn new(stage: ConnectStage, peer: impl Into<String>, source: io::Error) -> Self {
        Self { stage, peer: peer.into(), source }
    }

    /// The stage that failed.
    pub fn stage(&self) -> ConnectStage {
        self.stage
    }

    /// Where the connection was to lead: `host:port`, or the path of a Unix socket. Not the proxy, which
    /// the text names.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The kind of the cause; `TimedOut` if the time of the dial was up in this stage.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether another dial would fail as well until a setting changes: the proxy wants another login.
    pub fn is_denied(&self) -> bool {
        self.stage == ConnectStage::Proxy && self.kind() == io::ErrorKind::PermissionDenied
    }

    /// The cause.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, peer, source } = self;
        match stage {
            ConnectStage::Resolve | ConnectStage::Open | ConnectStage::Proxy => {
                write!(f, "{peer}: {source}")
            }
            ConnectStage::Tls => write!(f, "{peer}: the TLS handshake failed: {source}"),
            ConnectStage::Check => write!(f, "{peer}: the check failed: {source}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text includes that of the I/O error.
        std::error::Error::source(&self.source)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
