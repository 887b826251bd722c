//! Room for other keys, the word of a connection about itself, and what is said of a limit, through the
//! async pool.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::lending::Lending;
use pool_common::policy::{Dial, WaiterOrder};
use pool_common::{DialError, Error, Exclusive, Manager, Notifier, Policy, Pool, Shared};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::support::fake::{Connection, Refused, Way, pool};
use crate::support::listen;

#[tokio::test(start_paused = true)]
async fn closes_that_hang_hold_up_no_key_for_longer_than_two_of_their_limits() {
    for dial in [Dial::Racing, Dial::Caller, Dial::Detached] {
        let policy = Policy {
            max_open: Some(100),
            max_open_per_key: None,
            dial_ramp: None,
            dial,
            ..Policy::default()
        };
        let limit = policy.close_timeout;
        let (pool, peer) = pool::<Exclusive<Connection>>(policy);
        let mut leases = Vec::new();
        for _ in 0..100 {
            leases.push(pool.acquire(&0).await.expect("dialed"));
        }
        drop(leases);
        assert_eq!(pool.status().idle, 100);
        peer.set(&peer.close, Way::Never);
        let started = Instant::now();
        let mut callers = JoinSet::new();
        for key in 1..=100 {
            let pool = pool.clone();
            callers.spawn(async move { pool.acquire(&key).await.map(drop) });
        }
        for served in callers.join_all().await {
            served.expect("there is room in the end");
        }
        assert!(started.elapsed() <= 2 * limit, "{dial:?}: {:?}", started.elapsed());
        peer.set(&peer.close, Way::Ok);
        pool.close().await;
    }
}

async fn another_key_has_its_turn<L: Lending<Connection = Connection>>() {
    for &dial in Dial::ALL {
        for &waiter_order in WaiterOrder::ALL {
            let policy = Policy { max_open: Some(4), dial, waiter_order, ..Policy::default() };
            let (pool, peer) = pool::<L>(policy);
            peer.capacity.store(1, SeqCst);
            let mut callers = JoinSet::new();
            for _ in 0..5 {
                let pool = pool.clone();
                callers.spawn(async move {
                    loop {
                        let lease = pool.acquire(&1).await.expect("served in turn");
                        sleep(Duration::from_millis(1)).await;
                        drop(lease);
                    }
                });
            }
            sleep(Duration::from_millis(50)).await;
            assert_eq!(pool.status().leased, 4);
            for _ in 0..3 {
                let started = Instant::now();
                drop(pool.acquire(&2).await.expect("served in turn"));
                let took = started.elapsed();
                assert!(took <= Duration::from_millis(10), "{dial:?}, {waiter_order:?}: {took:?}");
                sleep(Duration::from_millis(5)).await;
            }
            callers.shutdown().await;
            pool.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_key_do_not_keep_another_key_out() {
    another_key_has_its_turn::<Exclusive<Connection>>().await;
    another_key_has_its_turn::<Shared<Connection>>().await;
}

/// A manager whose connections say something of themselves while they are dialed.
struct Speaker<L> {
    /// How many of the first say that they are broken.
    broken: u32,
    attempts: AtomicU32,
    lending: std::marker::PhantomData<fn() -> L>,
}

impl<L: Lending<Connection = u32>> Manager for Speaker<L> {
    type Key = u8;
    type Lending = L;
    type Error = Refused;

    async fn connect(&self, _: &u8, notifier: Notifier) -> Result<u32, Refused> {
        sleep(Duration::from_millis(1)).await;
        let number = self.attempts.fetch_add(1, SeqCst);
        if number < self.broken {
            notifier.broken();
        }
        notifier.set_idle_limit(Duration::from_secs(5));
        Ok(number)
    }
}

fn speakers<L: Lending<Connection = u32>>(broken: u32, policy: Policy) -> Pool<Speaker<L>> {
    let attempts = AtomicU32::new(0);
    let manager = Speaker { broken, attempts, lending: std::marker::PhantomData };
    let pool = Pool::builder(manager).policy(policy).clock(Clock::tokio()).seed(1).build();
    pool.expect("a valid policy")
}

async fn broken_while_dialed<L: Lending<Connection = u32>>() {
    for &dial in Dial::ALL {
        let policy = Policy { dial, ..Policy::default() };
        let pool = speakers::<L>(2, policy);
        for _ in 0..2 {
            match pool.acquire(&1).await {
                Err(error @ Error::Dial { source: DialError::Broken }) => {
                    assert_eq!(
                        error.to_string(),
                        "could not connect: the connection broke before its handshake was over"
                    );
                }
                Err(other) => panic!("{dial:?}: {other}"),
                Ok(_) => panic!("{dial:?}: it is broken"),
            }
        }
        assert_eq!(pool.status().open, 0, "{dial:?}");
        drop(pool.acquire(&1).await.expect("the third is sound"));
        assert_eq!(pool.manager().attempts.load(SeqCst), 3, "{dial:?}: a dial for each");
        pool.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_while_it_is_dialed_is_a_failed_dial() {
    broken_while_dialed::<Exclusive<u32>>().await;
    broken_while_dialed::<Shared<u32>>().await;
}

async fn says_how_long_it_may_be_idle<L: Lending<Connection = u32>>() {
    let pool = speakers::<L>(0, Policy::default());
    let second = Duration::from_secs(1);
    // By its own word, from the dial on.
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(4 * second).await;
    assert_eq!(pool.status().idle, 1);
    sleep(2 * second).await;
    assert_eq!(pool.status().open, 0);
    // By the word of a lease, the last one.
    for limit in [second, 2 * second, 2 * second] {
        let mut lease = pool.acquire(&1).await.expect("dialed");
        lease.set_idle_limit(60 * second);
        lease.set_idle_limit(limit);
        drop(lease);
        sleep(limit / 2).await;
        assert_eq!(pool.status().idle, 1);
        sleep(limit).await;
        assert_eq!(pool.status().open, 0);
    }
    // A lease that has said nothing takes back what the connection has said.
    let mut lease = pool.acquire(&1).await.expect("dialed");
    lease.set_idle_limit(Duration::MAX);
    drop(lease);
    sleep(10 * second).await;
    assert_eq!(pool.status().idle, 1);
    pool.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_for_no_longer_than_it_says() {
    says_how_long_it_may_be_idle::<Exclusive<u32>>().await;
    says_how_long_it_may_be_idle::<Shared<u32>>().await;
}

/// Keeps the text of every event for people who run a pool.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target() == "pool_common"
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_first_wait_at_a_limit_is_said_once_for_each_pool() {
    let lines = Lines::default();
    let _listening = listen(lines.clone());
    for (per_key, over_all, said) in [
        (Some(2), None, "limit=\"max_open_per_key\" max=2 key=1"),
        (None, Some(3), "limit=\"max_open\" max=3 key=1"),
    ] {
        lines.0.lock().expect("no panic").clear();
        let policy = Policy {
            max_open_per_key: per_key,
            max_open: over_all,
            acquire_timeout: Some(Duration::from_secs(1)),
            ..Policy::default()
        };
        let (pool, _peer) = pool::<Exclusive<Connection>>(policy);
        let mut leases = Vec::new();
        for _ in 0..2 {
            leases.push(pool.acquire(&1).await.expect("below the limit"));
        }
        if over_all.is_some() {
            leases.push(pool.acquire(&2).await.expect("below the limit"));
        }
        assert_eq!(lines.0.lock().expect("no panic").len(), 0, "waits for dials are not told");
        for _ in 0..3 {
            pool.acquire(&1).await.expect_err("at the limit");
        }
        let lines = lines.0.lock().expect("no panic").clone();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(said), "{lines:?}");
        drop(leases);
    }
}
