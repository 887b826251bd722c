//! A peer that can hang up on a connection that is idle, and remembers what it was asked.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::{Exclusive, Manager, Notifier, Policy, Pool};

#[derive(Debug, thiserror::Error)]
#[error("the line is dead")]
pub struct Dead;

#[derive(Debug)]
pub struct Line {
    pub number: usize,
    /// The peer hung up, or sent something nobody asked for.
    stale: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
pub struct Peer {
    lines: Mutex<Vec<Arc<AtomicBool>>>,
    pub dials: AtomicU32,
    /// Which connections were checked, and how long they had been idle.
    pub checks: Mutex<Vec<(usize, Duration)>>,
    /// Whether checks fail.
    pub silent: AtomicBool,
}

impl Peer {
    pub fn hang_up(&self, number: usize) {
        self.lines.lock().expect("no panic under it")[number].store(true, SeqCst);
    }

    pub fn dials(&self) -> u32 {
        self.dials.load(SeqCst)
    }

    pub fn checks(&self) -> Vec<(usize, Duration)> {
        self.checks.lock().expect("no panic under it").clone()
    }
}

pub struct Office(Arc<Peer>);

impl Manager for Office {
    type Key = u8;
    type Lending = Exclusive<Line>;
    type Error = Dead;

    async fn connect(&self, _key: &u8, _notifier: Notifier) -> Result<Line, Dead> {
        self.0.dials.fetch_add(1, SeqCst);
        let stale = Arc::new(AtomicBool::new(false));
        let mut lines = self.0.lines.lock().expect("no panic under it");
        lines.push(Arc::clone(&stale));
        Ok(Line { number: lines.len() - 1, stale })
    }

    fn is_broken(&self, line: &mut Exclusive<Line>) -> bool {
        line.stale.load(SeqCst)
    }

    async fn check(&self, line: &mut Exclusive<Line>, idle_for: Duration) -> Result<(), Dead> {
        self.0.checks.lock().expect("no panic under it").push((line.number, idle_for));
        if self.0.silent.load(SeqCst) { Err(Dead) } else { Ok(()) }
    }
}

/// A pool of lines that follows tokio's clock, and its peer.
pub fn pool(policy: Policy) -> (Pool<Office>, Arc<Peer>) {
    let peer = Arc::new(Peer::default());
    let pool = Pool::builder(Office(Arc::clone(&peer)))
        .policy(policy)
        .clock(Clock::tokio())
        .seed(1)
        .build()
        .expect("a valid policy");
    (pool, peer)
}

/// `count` connections that become idle, the one with the lowest number first.
pub async fn idle(pool: &Pool<Office>, count: usize) {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(pool.acquire(&1).await.expect("dialed"));
    }
    leases.into_iter().for_each(drop);
}
