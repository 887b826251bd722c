//! What HTTP/1 brings to the pool: how to dial, and what a good connection is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, Uri};
use pool_common::connect::{
    ConnectError, ConnectStage, Connector, IDLE_LOOK, InvalidUri, PlainProxying,
};
use pool_common::{DialFailure, Exclusive, Notifier};

use crate::config::{Config, InvalidConfig};
use crate::connection::Connection;
use crate::key::Key;

/// Brings HTTP/1 connections into a [`Pool`](pool_common::Pool): dials them, and judges them.
///
/// [`Client`](crate::Client) makes its own; public for programs that build a pool by hand, and make a
/// client of it with `Client::from(pool)`.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: Connector,
}

impl Manager {
    /// A manager that holds peers to `config`.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a limit is out of its range.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self { config: Arc::new(config), connector: Connector::default() })
    }

    /// Sets how connections are opened, and how TLS is spoken ([`Connector::with_tls`]). Default
    /// [`Connector::default`], which is plain TCP.
    #[must_use]
    pub fn with_connector(mut self, connector: impl Into<Connector>) -> Self {
        self.connector = connector.into();
        self
    }

    /// The key of the connections for requests to `uri`, with the proxy that is set for it: for programs
    /// that ask the pool themselves.
    ///
    /// # Errors
    /// As [`Key::from_uri`].
    pub fn key(&self, uri: &Uri) -> Result<Key, InvalidUri> {
        self.connector.uri_key(uri, &Extensions::new())
    }

    /// The limits peers are held to.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl pool_common::Manager for Manager {
    type Key = Key;
    type Lending = Exclusive<Connection>;
    type Error = ConnectError;

    async fn connect(&self, key: &Key, _notifier: Notifier) -> Result<Connection, ConnectError> {
        let plain = PlainProxying::Forwarded;
        let (stream, key) = self.connector.connect_uri(key, &[b"http/1.1"], plain).await?;
        Ok(Connection::new(stream, key, Arc::clone(&self.config)))
    }

    /// A proxy that wants another login refuses the next dial as well.
    fn dial_failure(&self, error: &ConnectError) -> DialFailure {
        if error.is_denied() { DialFailure::Denied } else { DialFailure::Unreachable }
    }

    /// Whether a request is in flight, bytes came without a request, the peer closed, or either side
    /// wanted to end the connection after the last exchange.
    fn is_broken(&self, connection: &mut Exclusive<Connection>) -> bool {
        connection.is_broken()
    }

    /// A request in flight, bytes without a request, a peer that closed, a runtime that has ended.
    ///
    /// The socket itself is asked, with one system call, unless a read saw it empty less than 10 us
    /// ago: the runtime's driver may not have run since the connection was given back, and a second
    /// answer that arrived meanwhile would be read as the answer to the next request. See
    /// [`Socket`](pool_common::connect::Socket). The same is asked again right before the first byte
    /// of a request is written.
    fn is_stale(&self, connection: &mut Exclusive<Connection>, _idle_for: Duration) -> bool {
        connection.is_stale()
    }

    fn idle_look_interval(&self) -> Option<Duration> {
        Some(IDLE_LOOK)
    }

    /// HTTP/1 has no ping: every request is a request. So a check sees what a peek sees.
    async fn check(
        &self,
        connection: &mut Exclusive<Connection>,
        _idle_for: Duration,
    ) -> Result<(), ConnectError> {
        match connection.is_stale() {
            false => Ok(()),
            true => {
                let cause = io::ErrorKind::ConnectionAborted.into();
                Err(ConnectError::new(ConnectStage::Check, connection.peer().to_string(), cause))
            }
        }
    }
}
