//! Building a client: the pool's own builder, and what HTTP/2 adds to it.

use std::sync::Arc;
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::connect::Connector;
use pool_common::event::Observer;
#[cfg(feature = "metrics")]
use pool_common::metrics::Metrics;
use pool_common::policy::Policy;
use pool_common::profile::Profile;
use pool_common::{Builder, InvalidPolicy, Pool};

use crate::client::Client;
use crate::config::{Config, InvalidConfig};
use crate::key::Key;
use crate::manager::Manager;

/// Builds a [`Client`]. Everything has a default.
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

    /// How connections are pooled and requests retried. Default [`Client::default_policy`], which is
    /// also the base for other policies.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.pool = self.pool.policy(policy);
        self
    }

    /// Changes single fields of the policy: of the default, or of what [`policy`](Self::policy) or
    /// [`profile`](Self::profile) set before.
    ///
    /// ```
    /// # fn main() -> Result<(), h2_shared::BuildError> {
    /// let client = h2_shared::Client::builder()
    ///     .change_policy(|policy| policy.max_open_per_key = Some(4))
    ///     .build()?;
    /// assert_eq!(client.pool().initial_policy().retry, h2_shared::Client::default_policy().retry);
    /// # Ok(()) }
    /// ```
    pub fn change_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        self.pool = self.pool.change_policy(change);
        self
    }

    /// The policy of a surveyed pool, for instance
    /// [`pool_common::profile::net_http_h2()`](pool_common::profile::net_http).
    pub fn profile(self, profile: &Profile) -> Self {
        self.policy(profile.policy.clone())
    }

    /// How connections are opened and watched. Default [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.pool.manager_mut().config = Arc::new(config);
        self
    }

    /// Changes single fields of the config: of the default, or of what [`config`](Self::config) set
    /// before.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), h2_shared::BuildError> {
    /// let client = h2_shared::Client::builder()
    ///     .change_config(|config| config.response_timeout = Some(Duration::from_secs(5)))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn change_config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.pool.manager_mut().config));
        self
    }

    /// How connections are opened: a [`Connector`], or the settings of a
    /// [`TcpConnector`](pool_common::connect::TcpConnector). Default [`Connector::default`], which is
    /// plain TCP. What `tls` and `proxy` set stays, unless the connector has its own.
    pub fn connector(mut self, connector: impl Into<Connector>) -> Self {
        self.pool.manager_mut().connector.replace_with(connector.into());
        self
    }

    /// How TLS is spoken: whom to trust, and which certificate to show. Default: trust what the
    /// operating system trusts.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, tls: pool_common::connect::Tls) -> Self {
        self.pool.manager_mut().connector.set_tls(tls);
        self
    }

    /// Reaches hosts through HTTP proxies, for instance those of the environment:
    /// [`Proxy::from_env`](pool_common::connect::Proxy::from_env). Default none.
    ///
    /// All requests go through a tunnel, those of `http` as well. The proxy is a part of the [`Key`], so the limits of a key hold for each origin.
    ///
    /// A `Proxy-Authorization` among the headers of a request goes where the request goes: through a tunnel, to
    /// the server. So the login belongs into the URI of the proxy.
    #[cfg(feature = "proxy")]
    pub fn proxy(mut self, proxy: pool_common::connect::Proxy) -> Self {
        self.pool.manager_mut().connector.set_proxy(proxy);
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

    /// Reports what the pool does through the `metrics` crate, under OpenTelemetry's names for HTTP
    /// clients and with `name` as the pool's; see [`pool_common::metrics`]. Default nothing.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, name: impl Into<String>) -> Self {
        self.pool = self.pool.metrics(Metrics::http_client(name));
        self
    }

    /// Warns of streams that are held longer than `after`, with the line that called
    /// [`Client::request`]; see [`leak_detection`](Builder::leak_detection). Default off.
    pub fn leak_detection(mut self, after: Duration) -> Self {
        self.pool = self.pool.leak_detection(after);
        self
    }

    /// The client. Dials nothing yet.
    ///
    /// # Errors
    /// [`BuildError`] when the policy contradicts itself or a field of the config is out of its
    /// range.
    pub fn build(mut self) -> Result<Client, BuildError> {
        self.pool.manager_mut().config.validate()?;
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
    /// A field of the config is out of its range.
    #[error("invalid config: {0}")]
    Config(#[from] InvalidConfig),
}
