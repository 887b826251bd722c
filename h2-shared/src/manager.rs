//! What HTTP/2 brings to the pool: how to dial, how many leases, and what "healthy" means.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Extensions, Uri};
use pool_common::connect::{Connector, InvalidUri, PlainProxying};
use pool_common::{DialFailure, Notifier, Shared};
use tokio::time::Instant;

use crate::config::{Config, InvalidConfig};
use crate::connection::Connection;
use crate::error::ConnectError;
use crate::key::Key;
use crate::observed::{Listener, Phase};

/// Most the keep-alive interval is multiplied by for peers that complained.
const MOST_PATIENCE: u32 = 64;

/// Least time between two connections of a key that are given up because their peer refuses
/// streams.
const REPLACE_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two connections of a key that are given up because a caller gave up on a
/// silent peer. Callers cancel for other reasons, too, and must not cost a dial each. gRPC's
/// servers permit one PING in this time.
const DOUBT_INTERVAL: Duration = Duration::from_secs(300);

/// Brings HTTP/2 connections into a [`Pool`](pool_common::Pool): dials them with prior knowledge, and
/// judges them.
///
/// [`Client`](crate::Client) makes its own; public for programs that build a pool by hand, and make a
/// client of it with `Client::from(pool)` or lend connections without one.
#[derive(Debug)]
pub struct Manager {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: Connector,
    /// Multiplies the keep-alive interval of connections dialed from now on: doubled by every
    /// ENHANCE_YOUR_CALM, as gRPC does for "too_many_pings".
    patience: Arc<AtomicU32>,
    replaced: OncePer,
    doubts: Arc<OncePer>,
}

impl Manager {
    /// A manager that opens connections as `config` says.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a field is out of its range.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self { config: Arc::new(config), ..Self::default() })
    }

    /// Sets how connections are opened, and how TLS is spoken ([`Connector::with_tls`]). Default
    /// [`Connector::default`], which is plain TCP.
    #[must_use]
    pub fn with_connector(mut self, connector: impl Into<Connector>) -> Self {
        self.connector = connector.into();
        self
    }

    /// Whether a connection may be given up now because its peer refuses streams. Another
    /// connection may reach a peer that does not; but a peer that refuses has too much to do, so
    /// this is allowed once per [`REPLACE_INTERVAL`] for all callers of a key together.
    pub(crate) fn may_replace_refusing(&self, key: &Key) -> bool {
        self.replaced.allows(key, Instant::now())
    }

    /// The key of the connections for requests to `uri`, with the proxy that is set for it: for programs
    /// that ask the pool themselves.
    ///
    /// # Errors
    /// As [`Key::from_uri`].
    pub fn key(&self, uri: &Uri) -> Result<Key, InvalidUri> {
        self.connector.uri_key(uri, &Extensions::new())
    }

    /// How connections are opened and watched.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Default for Manager {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            connector: Connector::default(),
            patience: Arc::new(AtomicU32::new(1)),
            replaced: OncePer::new(REPLACE_INTERVAL),
            doubts: Arc::new(OncePer::new(DOUBT_INTERVAL)),
        }
    }
}

impl pool_common::Manager for Manager {
    type Key = Key;
    type Lending = Shared<Connection>;
    type Error = ConnectError;

    async fn connect(&self, key: &Key, notifier: Notifier) -> Result<Connection, ConnectError> {
        let plain = PlainProxying::Tunneled;
        let (stream, key) = self.connector.connect_uri(key, &[b"h2"], plain).await?;
        if stream.is_tls() && stream.alpn() != Some(b"h2") {
            return Err(ConnectError::NoHttp2 { origin: key.to_string() });
        }
        let listener = ToPool {
            notifier,
            patience: Arc::clone(&self.patience),
            key,
            doubts: Arc::clone(&self.doubts),
        };
        let patience = self.patience.load(Ordering::Relaxed);
        let config = Arc::clone(&self.config);
        // The driver is compiled for plain TCP separately, which so pays nothing for the other streams.
        let peer = stream.peer_addr();
        let mut connection = match stream.into_tcp() {
            Ok(socket) => Connection::start(socket, config, patience, listener).await,
            Err(stream) => Connection::start(stream, config, patience, listener).await,
        }?;
        connection.set_peer(peer);
        Ok(connection)
    }

    /// A proxy that wants another login refuses the next dial as well.
    fn dial_failure(&self, error: &ConnectError) -> DialFailure {
        match error {
            ConnectError::Connect(error) if error.is_denied() => DialFailure::Denied,
            _ => DialFailure::Unreachable,
        }
    }

    fn capacity(&self, connection: &Connection) -> u32 {
        connection.slots()
    }

    /// Only when it is gone: a draining connection still serves the leases that are out.
    fn is_broken(&self, connection: &mut Shared<Connection>) -> bool {
        connection.phase() == Phase::Closed
    }

    /// A PING, on the driver's own path.
    async fn check(
        &self,
        connection: &mut Shared<Connection>,
        _idle_for: Duration,
    ) -> Result<(), ConnectError> {
        connection.ping().await
    }

    async fn close(&self, connection: Shared<Connection>) {
        connection.close().await;
    }
}

/// Passes on to the pool what the driver sees.
struct ToPool {
    notifier: Notifier,
    patience: Arc<AtomicU32>,
    key: Key,
    doubts: Arc<OncePer>,
}

impl Listener for ToPool {
    fn capacity(&self, slots: u32) {
        self.notifier.set_capacity(slots);
    }

    fn retire(&self) {
        self.notifier.retire();
    }

    fn broken(&self, calm: bool) {
        if calm {
            let double = |patience: u32| Some(patience.saturating_mul(2).min(MOST_PATIENCE));
            let order = Ordering::Relaxed;
            // The closure always gives a value, so this cannot fail.
            let _ = self.patience.fetch_update(order, order, double);
        }
        self.notifier.broken();
    }

    fn may_doubt(&self) -> bool {
        self.doubts.allows(&self.key, Instant::now())
    }
}

/// Allows something once per interval for each key.
#[derive(Debug)]
struct OncePer {
    interval: Duration,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// When it was last allowed.
    times: HashMap<Key, Instant>,
    /// How many keys the map may have before it is searched for past ones.
    most: usize,
}

/// A map of fewer keys is never searched.
const FEW_KEYS: usize = 64;

impl OncePer {
    fn new(interval: Duration) -> Self {
        Self { interval, last: Mutex::default() }
    }

    fn allows(&self, key: &Key, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past = |time: Instant| now.saturating_duration_since(time) >= self.interval;
        if let Some(time) = last.times.get_mut(key) {
            let due = is_past(*time);
            if due {
                *time = now;
            }
            return due;
        }
        // The search is rare: since the one before, the number of keys has doubled.
        if last.times.len() >= last.most.max(FEW_KEYS) {
            last.times.retain(|_, time| !is_past(*time));
            last.most = 2 * last.times.len();
        }
        last.times.insert(key.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::from_authority(&format!("host-{number}:80").parse().unwrap()).unwrap()
    }

    #[test]
    fn each_key_is_allowed_once_per_interval() {
        let (rule, now) = (OncePer::new(REPLACE_INTERVAL), Instant::now());
        for number in 0..3 {
            assert!(rule.allows(&key(number), now), "another key does not count");
            assert!(!rule.allows(&key(number), now));
        }
        assert!(rule.allows(&key(0), now + REPLACE_INTERVAL));
        assert!(!rule.allows(&key(0), now + REPLACE_INTERVAL));
        assert!(rule.allows(&key(1), now + REPLACE_INTERVAL));
    }

    #[test]
    fn past_keys_are_dropped_when_the_map_has_doubled() {
        let (rule, start) = (OncePer::new(DOUBT_INTERVAL), Instant::now());
        let later = start + DOUBT_INTERVAL;
        let keys = |rule: &OncePer| rule.last.lock().unwrap().times.len();
        for number in 0..FEW_KEYS {
            assert!(rule.allows(&key(number), start));
        }
        assert!(rule.allows(&key(0), later));
        assert_eq!(keys(&rule), FEW_KEYS, "a known key causes no search");
        assert!(rule.allows(&key(FEW_KEYS), later));
        assert_eq!(keys(&rule), 2, "the two of now");
        for number in 0..10 * FEW_KEYS {
            rule.allows(&key(number), later);
        }
        assert_eq!(keys(&rule), 10 * FEW_KEYS, "none of them is past");
    }
}
