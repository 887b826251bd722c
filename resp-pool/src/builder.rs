//! Building a client: the pool's own builder, and what RESP adds to it.

use std::time::Duration;

#[cfg(feature = "metrics")]
use pool_common::metrics::Metrics;
use pool_common::{
    Builder, InvalidPolicy, Policy, Pool, clock::Clock, connect::Connector, event::Observer,
    profile::Profile,
};

use crate::{
    client::Client,
    config::Config,
    connection::Connection,
    error::InvalidConfig,
    key::Key,
    manager::{CheckFuture, Manager},
};

/// Builds a [`Client`]. Everything has a default; the server's is `127.0.0.1:6379`.
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ClientBuilder {
    pool: Builder<Manager>,
}

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        let pool = Pool::builder(Manager::default()).policy(Client::default_policy());
        Self { pool }
    }

    /// How connections are pooled and commands sent again. Default [`Client::default_policy`], which is
    /// also the base for other policies.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.pool = self.pool.policy(policy);
        self
    }

    /// Changes single fields of the policy: of the default, or of what [`policy`](Self::policy) or
    /// [`profile`](Self::profile) set before.
    ///
    /// ```
    /// # fn main() -> Result<(), resp_pool::BuildError> {
    /// let client = resp_pool::Client::builder()
    ///     .change_policy(|policy| policy.max_idle_per_key = Some(8))
    ///     .build()?;
    /// assert_eq!(client.pool().initial_policy().retry, resp_pool::Client::default_policy().retry);
    /// # Ok(()) }
    /// ```
    pub fn change_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        self.pool = self.pool.change_policy(change);
        self
    }

    /// The policy of a surveyed pool, for instance
    /// [`pool_common::profile::redigo()`](pool_common::profile::net_http).
    pub fn profile(self, profile: &Profile) -> Self {
        self.policy(profile.policy.clone())
    }

    /// Where to connect, as whom, and how. Default [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.pool.manager_mut().set_config(config);
        self
    }

    /// Changes single fields of the config: of the default, or of what [`config`](Self::config) set
    /// before.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), resp_pool::BuildError> {
    /// let client = resp_pool::Client::builder()
    ///     .change_config(|config| config.settings.read_timeout = Some(Duration::from_secs(1)))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn change_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let manager = self.pool.manager_mut();
        let mut config = manager.config().clone();
        change(&mut config);
        manager.set_config(config);
        self
    }

    /// How connections are opened: a [`Connector`], or the settings of a
    /// [`TcpConnector`](pool_common::connect::TcpConnector). Default [`Connector::default`], which is
    /// plain TCP. What `tls` set stays, unless the connector has its own.
    pub fn connector(mut self, connector: impl Into<Connector>) -> Self {
        self.pool.manager_mut().connector.replace_with(connector.into());
        self
    }

    /// Replaces the check before lending, a `PING` with a random word. *When* a connection is
    /// checked is the policy's choice (`check`, `check_after`); the time for it is bounded by
    /// `check_timeout`. Changes of the session by the check are undone.
    ///
    /// Source: redigo's `TestOnBorrow`; the duration is how long the connection has been idle.
    ///
    /// ```
    /// # fn main() -> Result<(), resp_pool::BuildError> {
    /// let client = resp_pool::Client::builder()
    ///     .check_with(|connection, _idle| {
    ///         Box::pin(async move { connection.query(&["ECHO", "still there?"]).await })
    ///     })
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn check_with<F>(mut self, check: F) -> Self
    where
        F: for<'a> Fn(&'a mut Connection, Duration) -> CheckFuture<'a> + Send + Sync + 'static,
    {
        self.pool.manager_mut().set_check(check);
        self
    }

    /// How TLS is spoken: whom to trust, and which certificate to show. Default: trust what the
    /// operating system trusts.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, tls: pool_common::connect::Tls) -> Self {
        self.pool.manager_mut().connector.set_tls(tls);
        self
    }

    /// Where the pool reads the time. Default [`Clock::coarse`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.pool = self.pool.clock(clock);
        self
    }

    /// Decides everything random in the pool. Default: a different one for each pool.
    pub fn seed(mut self, seed: u64) -> Self {
        self.pool = self.pool.seed(seed);
        self
    }

    /// Reports everything that happens to a connection to `observer`. Default none.
    pub fn observer(mut self, observer: impl Observer<Key>) -> Self {
        self.pool = self.pool.observer(observer);
        self
    }

    /// Reports what the pool does through the `metrics` crate, under OpenTelemetry's names for
    /// database clients and with `name` as the pool's; see [`pool_common::metrics`]. Default nothing.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, name: impl Into<String>) -> Self {
        self.pool = self.pool.metrics(Metrics::db(name));
        self
    }

    /// Warns of leases that are held longer than `after`, with the line that called
    /// [`Client::acquire`]; see [`leak_detection`](Builder::leak_detection). For a command sent without a
    /// lease, this crate takes the lease, and the warning names a line of it. Default off.
    pub fn leak_detection(mut self, after: Duration) -> Self {
        self.pool = self.pool.leak_detection(after);
        self
    }

    /// The client. Dials nothing yet.
    ///
    /// # Errors
    /// [`BuildError`] when the policy contradicts itself or a setting is out of range or
    /// contradicts another.
    pub fn build(mut self) -> Result<Client, BuildError> {
        self.pool.manager_mut().config().validate()?;
        Ok(self.pool.build()?.into())
    }
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy contradicts itself.
    #[error("invalid policy: {0}")]
    Policy(#[from] InvalidPolicy),
    /// A setting or a URL makes no sense.
    #[error("invalid config: {0}")]
    Config(#[from] InvalidConfig),
}
