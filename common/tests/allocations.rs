//! An acquire and release that finds an idle connection allocates nothing and starts no task.
//!
//! This holds for a connection that needs no check before it is lent, and no reset when it comes back.
//! A check or a reset needs a future, a timer or a task.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use pool_common::policy::{Check, Dial};
use pool_common::profile::Profile;
use pool_common::{Exclusive, Lending, Manager, Notifier, Policy, Pool, Shared};
use tokio::runtime::{Builder, Handle};

/// Turns that are counted: enough that a list which grows now and then is noticed.
const TURNS: u64 = 1_000;

/// Connections that cost nothing.
struct Free<K, L>(PhantomData<fn() -> (K, L)>);

impl<K, L> Manager for Free<K, L>
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    L: Lending<Connection = u64>,
{
    type Key = K;
    type Lending = L;
    type Error = Infallible;

    async fn connect(&self, _: &K, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn capacity(&self, _: &u64) -> u32 {
        100
    }
}

/// The cost of a thousand turns, once connections are idle.
struct Cost {
    allocations: u64,
    tasks: usize,
}

/// Takes turns in a pool of `policy` after `at_once` leases of `key` at a time, of which `kept` are still
/// held.
async fn cost<K, L>(key: K, policy: Policy, at_once: usize, kept: usize) -> Cost
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    L: Lending<Connection = u64>,
{
    let manager = Free::<K, L>(PhantomData);
    let pool = Pool::builder(manager).policy(policy).build().expect("the policy is valid");
    let mut leases = Vec::new();
    for _ in 0..at_once {
        leases.push(pool.acquire(&key).await.expect("nothing can fail"));
    }
    leases.truncate(kept);
    // The pool's own tasks (dials, the floor, maintenance) have started and come to rest.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let (runtime, opened) = (Handle::current().metrics(), pool.stats().opened);
    let tasks = runtime.num_alive_tasks();
    let mut most = tasks;
    let allocated = measure(|| {
        for _ in 0..TURNS {
            // Polled by hand, because a counted acquire must not wait.
            let mut acquire = pin!(pool.acquire(&key));
            let Poll::Ready(lease) = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("a connection is idle");
            };
            drop(lease.expect("nothing can fail"));
            most = most.max(runtime.num_alive_tasks());
        }
    });
    assert_eq!(pool.stats().opened, opened, "a connection was dialed");
    Cost { allocations: allocated.count_total, tasks: most - tasks }
}

async fn assert_free<K, L>(what: &str, key: K, policy: Policy, at_once: usize)
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    L: Lending<Connection = u64>,
{
    let cost = cost::<K, L>(key, policy, at_once, 0).await;
    assert_eq!(cost.allocations, 0, "{what}: allocations in {TURNS} turns");
    assert_eq!(cost.tasks, 0, "{what}: tasks");
}

#[tokio::test]
async fn nothing_is_allocated_with_the_default_policy() {
    assert!(Policy::default().peek, "the peek is part of what is measured");
    for at_once in [1, 50] {
        let what = format!("default, {at_once} before");
        assert_free::<u32, Exclusive<u64>>(&what, 1, Policy::default(), at_once).await;
        assert_free::<u32, Shared<u64>>(&what, 1, Policy::default(), at_once).await;
    }
}

#[tokio::test]
async fn nothing_is_allocated_while_others_hold_leases() {
    let exclusive = cost::<u32, Exclusive<u64>>(1, Policy::default(), 50, 30).await;
    assert_eq!((exclusive.allocations, exclusive.tasks), (0, 0));
    // The same connection, lent once more.
    let shared = cost::<u32, Shared<u64>>(1, Policy::default(), 50, 30).await;
    assert_eq!((shared.allocations, shared.tasks), (0, 0));
}

#[tokio::test]
async fn nothing_is_allocated_with_any_profile() {
    for Profile { name, policy, .. } in Profile::all() {
        assert_ne!(policy.check, Check::Always, "{name} checks every time: see below");
        assert_free::<u32, Exclusive<u64>>(name, 1, policy.clone(), 1).await;
        assert_free::<u32, Shared<u64>>(name, 1, policy.clone(), 1).await;
        let peeking = Policy { peek: true, ..policy };
        assert_free::<u32, Exclusive<u64>>(name, 1, peeking.clone(), 1).await;
        assert_free::<u32, Shared<u64>>(name, 1, peeking, 1).await;
    }
}

#[tokio::test]
async fn nothing_is_allocated_for_a_key_that_owns_memory() {
    let policy = Policy::default();
    let host = "a-host-with-a-name.example.com".to_owned();
    assert_free::<String, Exclusive<u64>>("String", host.clone(), policy.clone(), 1).await;
    assert_free::<String, Shared<u64>>("String", host.clone(), policy.clone(), 1).await;
    let key = (host, 5432);
    assert_free::<(String, u16), Exclusive<u64>>("pair", key.clone(), policy.clone(), 1).await;
    assert_free::<(String, u16), Shared<u64>>("pair", key, policy, 1).await;
}

#[tokio::test]
async fn a_wait_in_line_allocates_nothing() {
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    let manager = Free::<u32, Exclusive<u64>>(PhantomData);
    let pool = Pool::builder(manager).policy(policy).build().expect("the policy is valid");
    let mut context = Context::from_waker(Waker::noop());
    let mut lease = Some(pool.acquire(&1).await.expect("dialed"));
    // The first waiter starts the maintenance task, and has its own timer until that task runs.
    let mut first = Box::pin(pool.acquire(&1));
    assert!(first.as_mut().poll(&mut context).is_pending());
    drop(first);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut turn = || {
        let mut next = pool.acquire(&1);
        assert!(pin!(&mut next).poll(&mut context).is_pending());
        // Handed over to the waiter.
        lease.take();
        match pin!(&mut next).poll(&mut context) {
            Poll::Ready(Ok(handed)) => lease = Some(handed),
            _ => panic!("it was handed over"),
        }
    };
    // The first wait allocates a seat and an entry.
    turn();
    let allocations = measure(|| (0..TURNS).for_each(|_| turn())).count_total;
    assert_eq!(allocations, 0, "by {TURNS} waits");
}

/// Memory follows the limits, not the largest number of leases so far: the nodes of leases are used
/// again, but not all of them are kept forever.
#[test]
fn a_burst_of_leases_leaves_little_behind() {
    const LEASES: u32 = 20_000;
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let policy = Policy {
        dial: Dial::Caller,
        max_open_per_key: None,
        max_idle_per_key: None,
        ..Policy::default()
    };
    let manager = Free::<u32, Shared<u64>>(PhantomData);
    let pool = Pool::builder(manager).policy(policy).build().expect("the policy is valid");
    let burst = async {
        let mut leases = Vec::new();
        for _ in 0..LEASES {
            leases.push(pool.acquire(&1).await.expect("nothing can fail"));
        }
    };
    let left = measure(|| runtime.block_on(burst)).count_current;
    assert_eq!(pool.status().leases, 0);
    assert!(left < i64::from(LEASES) / 4, "{left} allocations are left of {LEASES} leases");
}

/// The price of a check before each lending, which no profile asks for; and the proof that the
/// count counts.
#[tokio::test]
async fn a_check_allocates() {
    let policy = Policy { check: Check::Always, ..Policy::default() };
    let cost = cost::<u32, Exclusive<u64>>(1, policy, 1, 0).await;
    assert!(cost.allocations >= TURNS, "{} allocations", cost.allocations);
    assert_eq!(cost.tasks, 0, "a check runs in the task of its caller");
}
