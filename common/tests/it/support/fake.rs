//! A protocol without sockets: every stage can be made slow, failing, panicking or endless, and it
//! counts what is open the way a server would.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::{Lending, Manager, Notifier, Policy, Pool};

/// How a stage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ok,
    Slow(Duration),
    Fails,
    SlowlyFails(Duration),
    Panics,
    Never,
}

#[derive(Debug, thiserror::Error)]
#[error("the fake peer refused")]
pub struct Refused;

impl Way {
    async fn go(self) -> Result<(), Refused> {
        match self {
            Way::Ok => Ok(()),
            Way::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Way::Fails => Err(Refused),
            Way::SlowlyFails(time) => {
                tokio::time::sleep(time).await;
                Err(Refused)
            }
            Way::Panics => panic!("the fake was told to panic"),
            Way::Never => std::future::pending().await,
        }
    }
}

/// What the peer sees, and how it behaves.
#[derive(Debug)]
pub struct Peer {
    pub connect: Mutex<Way>,
    pub check: Mutex<Way>,
    pub reset: Mutex<Way>,
    pub close: Mutex<Way>,
    pub capacity: AtomicU32,
    pub accepted: AtomicU32,
    pub open: AtomicU32,
    pub high_water: AtomicU32,
    pub checks: AtomicU32,
    pub resets: AtomicU32,
    /// Dials under way, and the most of them at a time.
    pub dialing: AtomicU32,
    pub attempts: AtomicU32,
    /// How often everything that was open died silently.
    pub deaths: AtomicU32,
    /// Checks of connections that had died; they never end.
    pub dead_checks: AtomicU32,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            connect: Mutex::new(Way::Ok),
            check: Mutex::new(Way::Ok),
            reset: Mutex::new(Way::Ok),
            close: Mutex::new(Way::Ok),
            capacity: AtomicU32::new(2),
            accepted: AtomicU32::new(0),
            open: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            checks: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            dialing: AtomicU32::new(0),
            attempts: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            dead_checks: AtomicU32::new(0),
        }
    }
}

impl Peer {
    pub fn set(&self, stage: &Mutex<Way>, way: Way) {
        *stage.lock().expect("no panic under it") = way;
    }

    fn way(stage: &Mutex<Way>) -> Way {
        *stage.lock().expect("no panic under it")
    }

    /// Everything that is open dies silently: nobody is told, and no answer comes any more.
    pub fn die(&self) {
        self.deaths.fetch_add(1, SeqCst);
    }

    pub fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }
}

/// One connection; the peer counts it until it is dropped.
#[derive(Debug)]
pub struct Connection {
    pub number: u32,
    pub broken: AtomicBool,
    pub dirty: AtomicBool,
    /// Its reset succeeds, and breaks it.
    pub fragile: AtomicBool,
    /// How often the peer had died when it was opened.
    born: u32,
    peer: Arc<Peer>,
}

impl Connection {
    fn open(peer: &Arc<Peer>) -> Self {
        let open = peer.open.fetch_add(1, SeqCst) + 1;
        peer.high_water.fetch_max(open, SeqCst);
        Self {
            number: peer.accepted.fetch_add(1, SeqCst),
            broken: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            fragile: AtomicBool::new(false),
            born: peer.deaths.load(SeqCst),
            peer: Arc::clone(peer),
        }
    }

    /// Whether it died silently.
    pub fn is_dead(&self) -> bool {
        self.born < self.peer.deaths.load(SeqCst)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.open.fetch_sub(1, SeqCst);
    }
}

pub struct Fake<L> {
    peer: Arc<Peer>,
    lending: PhantomData<fn() -> L>,
}

/// Counts a dial under way, also one that is dropped.
struct Dialing<'a>(&'a Peer);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.fetch_sub(1, SeqCst);
    }
}

impl<L: Lending<Connection = Connection>> Manager for Fake<L> {
    type Key = u8;
    type Lending = L;
    type Error = Refused;

    async fn connect(&self, _key: &u8, _notifier: Notifier) -> Result<Connection, Refused> {
        self.peer.attempts.fetch_add(1, SeqCst);
        self.peer.dialing.fetch_add(1, SeqCst);
        let _dialing = Dialing(&self.peer);
        Peer::way(&self.peer.connect).go().await?;
        Ok(Connection::open(&self.peer))
    }

    fn capacity(&self, _connection: &Connection) -> u32 {
        self.peer.capacity.load(SeqCst)
    }

    fn is_broken(&self, connection: &mut L) -> bool {
        connection.get().broken.load(SeqCst)
    }

    fn needs_reset(&self, connection: &L) -> bool {
        connection.get().dirty.load(SeqCst)
    }

    async fn check(&self, connection: &mut L, _idle_for: Duration) -> Result<(), Refused> {
        self.peer.checks.fetch_add(1, SeqCst);
        if connection.get().is_dead() {
            self.peer.dead_checks.fetch_add(1, SeqCst);
            return std::future::pending().await;
        }
        Peer::way(&self.peer.check).go().await
    }

    async fn reset(&self, connection: &mut L) -> Result<(), Refused> {
        self.peer.resets.fetch_add(1, SeqCst);
        Peer::way(&self.peer.reset).go().await?;
        let connection = connection.get();
        connection.dirty.store(false, SeqCst);
        connection.broken.fetch_or(connection.fragile.load(SeqCst), SeqCst);
        Ok(())
    }

    async fn close(&self, connection: L) {
        // Whether it succeeds or fails, the connection is gone afterwards.
        let _ = Peer::way(&self.peer.close).go().await;
        drop(connection);
    }
}

pub fn manager<L>() -> (Fake<L>, Arc<Peer>) {
    let peer = Arc::new(Peer::default());
    (Fake { peer: Arc::clone(&peer), lending: PhantomData }, peer)
}

/// A pool that follows tokio's clock, and its peer.
pub fn pool<L: Lending<Connection = Connection>>(policy: Policy) -> (Pool<Fake<L>>, Arc<Peer>) {
    let (manager, peer) = manager();
    let pool = Pool::builder(manager)
        .policy(policy)
        .clock(Clock::tokio())
        .seed(1)
        .build()
        .expect("a valid policy");
    (pool, peer)
}

/// Lets other tasks run until `done`; time stands still.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to: {what}");
}
