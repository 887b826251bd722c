//! What the pool needs from this protocol: dial, is it broken, check, reset.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use pool_common::{
    DialFailure, Exclusive, Notifier,
    connect::{Connector, IDLE_LOOK},
};

use crate::{
    config::{Config, Settings},
    connection::Connection,
    error::{Error, InvalidConfig},
    key::Key,
    probe::Permissions,
};

/// The future of a check that the user wrote.
pub type CheckFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A check that the user wrote. It gets the connection, and how long it has been idle (redigo's
/// `TestOnBorrow`).
pub(crate) type CheckFunction =
    dyn for<'a> Fn(&'a mut Connection, Duration) -> CheckFuture<'a> + Send + Sync;

/// Brings RESP connections into a [`Pool`](pool_common::Pool): dials them, judges them, and brings
/// their sessions back to neutral.
///
/// [`Client`](crate::Client) makes its own; public for programs that build a pool by hand, and make a
/// client of it with `Client::from(pool)`.
#[derive(Clone, Default)]
pub struct Manager {
    config: Config,
    /// Those of `config`: each connection keeps a reference to them.
    settings: Arc<Settings>,
    pub(crate) connector: Connector,
    check: Option<Arc<CheckFunction>>,
    permissions: Arc<Permissions>,
}

impl Manager {
    /// A manager for the server that `config` names.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a setting is out of range or contradicts another.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let mut manager = Self::default();
        manager.set_config(config);
        Ok(manager)
    }

    /// Where connections lead, and how they behave.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Another config, which the caller validates.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.settings = Arc::new(config.settings.clone());
        self.config = config;
    }

    /// Sets how connections are opened, and how TLS is spoken ([`Connector::with_tls`]). Default
    /// [`Connector::default`], which is plain TCP.
    #[must_use]
    pub fn with_connector(mut self, connector: impl Into<Connector>) -> Self {
        self.connector = connector.into();
        self
    }

    /// Replaces the check (a `PING` with a random word) that the policy asks for before lending.
    #[must_use]
    pub fn with_check<F>(mut self, check: F) -> Self
    where
        F: for<'a> Fn(&'a mut Connection, Duration) -> CheckFuture<'a> + Send + Sync + 'static,
    {
        self.set_check(check);
        self
    }

    pub(crate) fn set_check<F>(&mut self, check: F)
    where
        F: for<'a> Fn(&'a mut Connection, Duration) -> CheckFuture<'a> + Send + Sync + 'static,
    {
        self.check = Some(Arc::new(check));
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("config", &self.config)
            .field("connector", &self.connector)
            .field("own_check", &self.check.is_some())
            .finish()
    }
}

impl pool_common::Manager for Manager {
    type Key = Key;
    type Lending = Exclusive<Connection>;
    type Error = Error;

    async fn connect(&self, key: &Key, _notifier: Notifier) -> Result<Connection, Error> {
        let settings = Arc::clone(&self.settings);
        let mut connection = Connection::dial_with(&self.connector, key, settings).await?;
        connection.permissions = Arc::clone(&self.permissions);
        Ok(connection)
    }

    /// Whatever the handshake was refused for (credentials, permissions, an unknown database or
    /// protocol version), the next dial would be refused as well. Not so when the server says "not
    /// now". A proxy that wants another login refuses the next dial, too.
    fn dial_failure(&self, error: &Error) -> DialFailure {
        match error {
            Error::Handshake { refusal, .. } if !refusal.kind().is_not_now() => DialFailure::Denied,
            Error::Connect(error) if error.is_denied() => DialFailure::Denied,
            _ => DialFailure::Unreachable,
        }
    }

    #[inline]
    fn is_broken(&self, connection: &mut Exclusive<Connection>) -> bool {
        Connection::is_broken(connection)
    }

    /// What `is_broken` says, and what the socket itself says, with one system call, unless a read saw
    /// it empty less than 10 us ago: the runtime's driver may not have run since the connection was
    /// given back, and a reply (or an end of stream) that arrived meanwhile would be taken for the
    /// reply to the next command. See [`Socket`](pool_common::connect::Socket). The same is asked
    /// again before a command is written. A push (RESP3) is dropped, and no reason not to lend.
    #[inline]
    fn is_stale(&self, connection: &mut Exclusive<Connection>, _idle_for: Duration) -> bool {
        Connection::is_stale(connection)
    }

    fn idle_look_interval(&self) -> Option<Duration> {
        Some(IDLE_LOOK)
    }

    #[inline]
    fn needs_reset(&self, connection: &Exclusive<Connection>) -> bool {
        Connection::needs_reset(connection)
    }

    async fn check(
        &self,
        connection: &mut Exclusive<Connection>,
        idle_for: Duration,
    ) -> Result<(), Error> {
        match &self.check {
            None => connection.ping().await?,
            Some(check) => {
                check(connection, idle_for).await?;
                // Changes of the session by the check are undone like those of a borrower.
                if connection.needs_reset() {
                    connection.reset().await?;
                }
            }
        }
        // Drops bytes that came during the check, since no request asked for them. A check of the user
        // may have hidden the failure that ended the connection.
        if Connection::is_broken(connection) { Err(Error::Broken) } else { Ok(()) }
    }

    async fn reset(&self, connection: &mut Exclusive<Connection>) -> Result<(), Error> {
        Connection::reset(connection).await
    }
}
