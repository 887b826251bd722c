//! What the lock of a pool outlives, and what must not happen under it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use pool_common::{Exclusive, Lending, Manager, Notifier, Policy, Pool, Shared};
use tokio::runtime::{Builder, Runtime};

use crate::support::within;

/// A key whose `eq` panics once it was told to.
#[derive(Clone, Debug)]
struct Fragile(Arc<AtomicBool>);

impl PartialEq for Fragile {
    fn eq(&self, _: &Self) -> bool {
        assert!(!self.0.swap(false, SeqCst), "a key panics");
        true
    }
}

impl Eq for Fragile {}

impl Hash for Fragile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

/// Connections that cost nothing. Holds what tells whether it was dropped.
struct Free<K, L = Exclusive<u32>> {
    _alive: Arc<K>,
    close_panics: bool,
    lending: PhantomData<fn() -> L>,
}

impl<K> Free<K> {
    fn new(alive: K) -> Self {
        Self::counted(Arc::new(alive))
    }
}

impl<K, L> Free<K, L> {
    fn counted(alive: Arc<K>) -> Self {
        Self { _alive: alive, close_panics: false, lending: PhantomData }
    }
}

impl<K, L> Manager for Free<K, L>
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    L: Lending<Connection = u32>,
{
    type Key = K;
    type Lending = L;
    type Error = Infallible;

    async fn connect(&self, _: &K, _: Notifier) -> Result<u32, Infallible> {
        Ok(7)
    }

    async fn close(&self, _: L) {
        assert!(!self.close_panics, "as it was told");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

#[test]
fn a_panic_under_the_lock_stops_the_pool_for_ever() {
    within(|| {
        let fragile = Arc::new(AtomicBool::new(false));
        let key = Fragile(Arc::clone(&fragile));
        let runtime = runtime();
        let pool = Pool::builder(Free::new(key.clone())).build().expect("a valid policy");
        drop(runtime.block_on(pool.acquire(&key)).expect("dialed"));
        fragile.store(true, SeqCst);
        let panics = AssertUnwindSafe(|| drop(runtime.block_on(pool.acquire(&key))));
        assert!(catch_unwind(panics).is_err());
        assert_eq!(pool.status().idle, 1);
        drop(runtime.block_on(pool.acquire(&key)).expect("it costs one call"));
        drop(pool);
        // Whoever gets its lock next.
        let pool = Pool::builder(Free::new(key.clone())).build().expect("a valid policy");
        drop(runtime.block_on(pool.acquire(&key)).expect("dialed"));
    });
}

/// One that held an idle connection and what a lease of it was made of, and whose last lease ends
/// after it.
fn kept_by_what_it_kept<L: Lending<Connection = u32>>(close_panics: bool) {
    let alive = Arc::new(1_u8);
    let runtime = runtime();
    let manager = Free::<_, L> { close_panics, ..Free::counted(Arc::clone(&alive)) };
    let pool = Pool::builder(manager).build().expect("a valid policy");
    let held = runtime.block_on(async {
        let (lease, held) = (pool.acquire(&1).await, pool.acquire(&1).await);
        drop(lease);
        held.expect("dialed")
    });
    drop(pool);
    drop(held);
    drop(runtime);
    assert_eq!(Arc::strong_count(&alive), 1, "its manager is gone with it");
}

#[test]
fn a_pool_that_is_gone_is_kept_by_what_it_kept_for_the_next_lease() {
    for close_panics in [false, true] {
        kept_by_what_it_kept::<Exclusive<u32>>(close_panics);
        kept_by_what_it_kept::<Shared<u32>>(close_panics);
    }
}

#[test]
fn a_lease_that_ends_with_its_thread_aborts_the_process() {
    type Lent = pool_common::Lease<Free<u8>>;
    std::thread_local! {
        static CACHED: RefCell<Option<Lent>> = const { RefCell::new(None) };
    }
    let runtime = runtime();
    let pool = Pool::builder(Free::new(1_u8)).build().expect("a valid policy");
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            // Used first, it goes last: tokio's part of the thread is gone then.
            CACHED.with_borrow(|cached| assert!(cached.is_none()));
            let mut lease = runtime.block_on(pool.acquire(&1)).expect("dialed");
            lease.mark_broken();
            CACHED.set(Some(lease));
        });
        // The end of the scope would not wait for what the thread does at its end.
        thread.join().expect("the thread has ended");
    });
    assert_eq!(pool.status(), Default::default(), "closed, if without a word");
}

#[test]
fn the_next_pool_with_a_lock_finds_nothing_of_the_one_before() {
    let runtime = runtime();
    for waiters in 1..4 {
        let (limit, most) = (Some(2), Some(waiters));
        let policy = Policy { max_open_per_key: limit, max_waiters: most, ..Policy::default() };
        let pool = Pool::builder(Free::new(1_u8)).policy(policy.clone()).build();
        let pool = pool.expect("a valid policy");
        assert_eq!(pool.policy(), policy);
        assert_eq!(pool.status(), Default::default());
        assert_eq!(pool.stats(), Default::default());
        assert!(!pool.is_closed());
        runtime.block_on(async {
            let leases = (pool.acquire(&1).await, pool.acquire(&1).await);
            let mut waiter = pool.acquire(&1);
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut waiter).poll(&mut context).is_pending());
            assert_eq!((pool.status().open, pool.status().dialing), (2, 0));
            drop(leases);
            let Poll::Ready(Ok(lease)) = Pin::new(&mut waiter).poll(&mut context) else {
                panic!("it was handed over");
            };
            // Some end with a lease out, which comes back when the next has begun.
            drop(waiter);
            drop(pool);
            drop(lease);
        });
    }
}

#[test]
fn a_closed_pool_starts_its_maintenance_again() {
    let runtime = runtime();
    let pool = Pool::builder(Free::new(1_u8)).build().expect("a valid policy");
    runtime.block_on(async {
        let lease = pool.acquire(&1).await.expect("dialed");
        drop(pool.acquire(&1).await.expect("dialed"));
        pool.start_close();
        let tasks = || runtime.metrics().num_alive_tasks();
        while tasks() > 0 {
            tokio::task::yield_now().await;
        }
        drop(lease);
        assert_eq!(tasks(), 0, "nothing is left to be watched");
    });
}

/// Says that it is gone when it is dropped, as a connection with a task of its own does.
struct Speaks(Notifier);

impl Drop for Speaks {
    fn drop(&mut self) {
        self.0.broken();
    }
}

struct Speaking {
    _alive: Arc<u8>,
}

impl Manager for Speaking {
    type Key = u8;
    type Lending = Exclusive<Speaks>;
    type Error = Infallible;

    async fn connect(&self, _: &u8, notifier: Notifier) -> Result<Speaks, Infallible> {
        Ok(Speaks(notifier))
    }
}

#[test]
fn a_closed_pool_is_kept_by_work_that_was_none() {
    let alive = Arc::new(1_u8);
    let runtime = runtime();
    let pool = Pool::builder(Speaking { _alive: Arc::clone(&alive) }).build();
    let pool = pool.expect("a valid policy");
    drop(runtime.block_on(pool.acquire(&1)).expect("dialed"));
    // Its idle connection is closed, and speaks of it while the pool is at that.
    drop(pool);
    drop(runtime);
    assert_eq!(Arc::strong_count(&alive), 1, "its manager is gone with it");
}
