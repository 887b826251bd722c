//! A recorder that panics costs the pool nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use pool_common::metrics::Metrics;
use pool_common::{Exclusive, Policy, Pool, Status};

use super::heard::under;
use crate::support::fake::{Connection, Fake, Peer, Way};

/// Counts its calls, and panics in each.
#[derive(Default)]
struct Handle(AtomicU32);

impl Handle {
    fn called(&self) {
        self.0.fetch_add(1, SeqCst);
        panic!("the recorder was told to panic");
    }
}

impl CounterFn for Handle {
    fn increment(&self, _: u64) {
        self.called();
    }
    fn absolute(&self, _: u64) {
        self.called();
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        self.called();
    }
    fn decrement(&self, _: f64) {
        self.called();
    }
    fn set(&self, _: f64) {
        self.called();
    }
}

impl HistogramFn for Handle {
    fn record(&self, _: f64) {
        self.called();
    }
}

struct Panicking {
    handle: Arc<Handle>,
    /// Panics already when a handle is asked for.
    early: bool,
}

impl Panicking {
    fn handle(&self) -> Arc<Handle> {
        if self.early {
            self.handle.called();
        }
        Arc::clone(&self.handle)
    }
}

impl Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle())
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle())
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle())
    }
}

type Fixture = (Pool<Fake<Exclusive<Connection>>>, Arc<Peer>, Arc<Handle>);

fn panicking(early: bool) -> Fixture {
    let handle = Arc::new(Handle::default());
    let recorder = Panicking { handle: Arc::clone(&handle), early };
    let policy = Policy {
        max_open_per_key: Some(1),
        acquire_timeout: Some(Duration::from_secs(5)),
        ..Policy::default()
    };
    let (pool, peer) = under(&recorder, policy, Some(Metrics::db("p")));
    (pool, peer, handle)
}

/// Everything a pool reports from: a dial, a hand-over, a hit, a timeout, a failed dial, an unwind.
async fn use_it(pool: &Pool<Fake<Exclusive<Connection>>>, peer: &Peer) {
    let lease = pool.acquire(&1).await.expect("dialed");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await }
    });
    crate::support::fake::until("waiting", || pool.status().waiting == 1).await;
    drop(lease);
    let lease = waiter.await.expect("no panic").expect("handed over");
    pool.acquire(&1).await.expect_err("its time is up");
    drop(lease);
    let lease = pool.acquire(&1).await.expect("idle");
    let unwinding = tokio::spawn(async move {
        let _lease = lease;
        panic!("the borrower panics");
    });
    assert!(unwinding.await.expect_err("a panic").is_panic());
    assert_eq!(pool.status(), Status::default(), "the slot came back in the unwind");
    peer.set(&peer.connect, Way::Fails);
    pool.acquire(&1).await.expect_err("the peer refuses");
    peer.set(&peer.connect, Way::Ok);
    drop(pool.acquire(&1).await.expect("dialed"));
    pool.close().await;
    assert_eq!(pool.status(), Status::default());
    assert_eq!(peer.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_costs_nothing() {
    let (pool, peer, handle) = panicking(false);
    use_it(&pool, &peer).await;
    assert!(handle.0.load(SeqCst) > 10, "it was called all the same");
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_at_registration_costs_nothing() {
    let (pool, peer, handle) = panicking(true);
    use_it(&pool, &peer).await;
    assert!(handle.0.load(SeqCst) > 10, "each handle was asked for");
}
