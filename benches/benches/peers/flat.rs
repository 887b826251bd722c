//! Whether the cost of acquire and release grows with what the pool holds: idle connections, keys,
//! waiters. Each case is the same work in a pool that holds little and in one that holds much.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pool_common::policy::IdleOrder;
use pool_common::{Lease, Manager, Policy, Pool};
use tokio::runtime::Runtime;

use super::ours::{Free, FreeShared, pool};
use super::{Limit, Peer, runtime_of_one};

/// How much "much" is.
pub const MANY: u32 = 100_000;

/// The key that is asked for, and the other one.
const KEY: u32 = 0;
const OTHER_KEY: u32 = u32::MAX;
/// Leases that one shared connection serves.
const CAPACITY: u32 = 100;

/// Work that can be repeated, in the pool it holds.
pub type Work = Box<dyn FnMut(u64)>;

/// What is measured with little and with much.
pub struct Case {
    /// What the pool holds, and what is done.
    pub name: &'static str,
    /// How connections are lent.
    pub lending: &'static str,
    /// The work in a pool that holds so much.
    pub with: fn(u32) -> Work,
}

/// Every case. Those of the limit show what the same costs without a pool.
pub fn cases() -> Vec<Case> {
    let case = |name, lending, with| Case { name, lending, with };
    let (exclusive, shared, limit) = ("exclusive", "shared", "limit");
    let newest = "idle connections, newest first";
    let oldest = "idle connections, oldest first";
    let one_key = "keys, one of them asked for";
    let all_keys = "keys, each asked for in turn";
    let elsewhere = "waiters for another key";
    let hand_over = "waiters, release hands over";
    let give_up = "waiters, one more comes and gives up";
    vec![
        case(newest, exclusive, |held| idle(Free::new(), IdleOrder::NewestFirst, held)),
        case(newest, shared, |held| idle(FreeShared(CAPACITY), IdleOrder::NewestFirst, held)),
        case(oldest, exclusive, |held| idle(Free::new(), IdleOrder::OldestFirst, held)),
        case(oldest, shared, |held| idle(FreeShared(CAPACITY), IdleOrder::OldestFirst, held)),
        case(one_key, exclusive, |held| keys(Free::new(), held, 1)),
        case(one_key, shared, |held| keys(FreeShared(CAPACITY), held, 1)),
        case(all_keys, exclusive, |held| keys(Free::new(), held, held)),
        case(all_keys, shared, |held| keys(FreeShared(CAPACITY), held, held)),
        case(all_keys, limit, keys_of_limit),
        case(elsewhere, exclusive, |held| waiters_elsewhere(Free::new(), 1, held)),
        case(elsewhere, shared, |held| waiters_elsewhere(FreeShared(CAPACITY), CAPACITY, held)),
        case(hand_over, exclusive, |held| hand_over_in(Free::new(), 1, held)),
        case(hand_over, shared, |held| hand_over_in(FreeShared(CAPACITY), CAPACITY, held)),
        case(hand_over, limit, |held| {
            let limit = Limit::new(1);
            Queue::new(runtime_of_one(), acquire_of_limit(&limit), 1, held).hand_over()
        }),
        case(give_up, exclusive, |held| give_up_in(Free::new(), 1, held)),
        case(give_up, shared, |held| give_up_in(FreeShared(CAPACITY), CAPACITY, held)),
        case(give_up, limit, |held| {
            let limit = Limit::new(1);
            Queue::new(runtime_of_one(), acquire_of_limit(&limit), 1, held).give_up()
        }),
    ]
}

/// The default policy with times so long that nothing expires and no acquire times out during the
/// measurement. The pool still keeps and compares these times, as always.
fn patient() -> Policy {
    const LONG: Duration = Duration::from_secs(3600);
    Policy { idle_timeout: Some(LONG), acquire_timeout: Some(LONG), ..Policy::default() }
}

/// At most one connection of each key.
fn one_each() -> Policy {
    Policy { max_open_per_key: Some(1), ..patient() }
}

/// Acquires and releases one key after another, `0..keys`, again and again.
fn turns<M: Manager<Key = u32>>(runtime: Arc<Runtime>, pool: Pool<M>, keys: u32) -> Work {
    let mut key = KEY;
    Box::new(move |times| {
        runtime.block_on(async {
            for _ in 0..times {
                drop(black_box(pool.acquire(&key).await.expect("nothing can fail")));
                key = if key + 1 < keys { key + 1 } else { KEY };
            }
        });
    })
}

/// One key with `held` idle connections.
fn idle<M: Manager<Key = u32>>(manager: M, idle_order: IdleOrder, held: u32) -> Work {
    let runtime = runtime_of_one();
    let pool = pool(manager, Policy { idle_order, max_open_per_key: None, ..patient() });
    let leases = runtime.block_on(async {
        let mut leases = Vec::new();
        for _ in 0..held {
            leases.push(pool.acquire_fresh(&KEY).await.expect("nothing can fail"));
        }
        leases
    });
    drop(leases);
    assert_eq!(pool.status().idle, held);
    turns(runtime, pool, 1)
}

/// `held` keys with an idle connection each. Callers ask for the first `asked` of them.
fn keys<M: Manager<Key = u32>>(manager: M, held: u32, asked: u32) -> Work {
    let runtime = runtime_of_one();
    let pool = pool(manager, one_each());
    turns(Arc::clone(&runtime), pool.clone(), held)(held.into());
    assert_eq!(pool.status().idle, held);
    turns(runtime, pool, asked)
}

/// A limit for each of `held` keys, asked for in turn: the cost of going through as much memory.
fn keys_of_limit(held: u32) -> Work {
    let runtime = runtime_of_one();
    let mut limits: HashMap<u32, Limit> = (0..held).map(|key| (key, Limit::new(1))).collect();
    let mut key = KEY;
    Box::new(move |times| {
        runtime.block_on(async {
            for _ in 0..times {
                let limit = limits.get_mut(&key).expect("each key has one");
                drop(black_box(limit.acquire().await));
                key = if key + 1 < held { key + 1 } else { KEY };
            }
        });
    })
}

/// `held` waiters for a key whose `leases` are all out; callers ask for another key.
fn waiters_elsewhere<M: Manager<Key = u32>>(manager: M, leases: u32, held: u32) -> Work {
    let runtime = runtime_of_one();
    let pool = pool(manager, one_each());
    let acquire = acquire_of(&pool, OTHER_KEY);
    let queue = Queue::new(Arc::clone(&runtime), acquire, leases, held);
    assert_eq!(pool.status().waiting, held);
    let mut turns = turns(runtime, pool, 1);
    Box::new(move |times| {
        let _kept = &queue;
        turns(times);
    })
}

/// `held` waiters for a key whose `leases` are all out: a lease ends, the first waiter in the queue
/// gets the connection, and another waiter joins at the end.
fn hand_over_in<M: Manager<Key = u32>>(manager: M, leases: u32, held: u32) -> Work {
    let pool = pool(manager, one_each());
    Queue::new(runtime_of_one(), acquire_of(&pool, KEY), leases, held).hand_over()
}

/// The same queue, in which one more joins and leaves again.
fn give_up_in<M: Manager<Key = u32>>(manager: M, leases: u32, held: u32) -> Work {
    let pool = pool(manager, one_each());
    Queue::new(runtime_of_one(), acquire_of(&pool, KEY), leases, held).give_up()
}

type Acquire<L> = Pin<Box<dyn Future<Output = L>>>;

fn acquire_of<M: Manager<Key = u32>>(
    pool: &Pool<M>,
    key: u32,
) -> impl Fn() -> Acquire<Lease<M>> + 'static {
    let pool = pool.clone();
    move || {
        let pool = pool.clone();
        Box::pin(async move { pool.acquire(&key).await.expect("nothing can fail") })
    }
}

fn acquire_of_limit(limit: &Limit) -> impl Fn() -> Acquire<super::limit::LimitLease> + 'static {
    let limit = limit.clone();
    move || {
        let mut limit = limit.clone();
        Box::pin(async move { limit.acquire().await })
    }
}

/// Leases, and callers that wait for them, in order of arrival. The callers are polled by hand, so
/// that no scheduler is measured.
struct Queue<A, L> {
    runtime: Arc<Runtime>,
    acquire: A,
    leases: VecDeque<L>,
    waiting: VecDeque<Acquire<L>>,
}

impl<A: Fn() -> Acquire<L> + 'static, L: 'static> Queue<A, L> {
    /// Takes all `leases`, then lets `waiters` callers wait.
    fn new(runtime: Arc<Runtime>, acquire: A, leases: u32, waiters: u32) -> Self {
        let leases = (0..leases).map(|_| runtime.block_on(acquire())).collect();
        let mut queue = Self { runtime, acquire, leases, waiting: VecDeque::new() };
        let runtime = Arc::clone(&queue.runtime);
        let _inside = runtime.enter();
        for _ in 0..waiters {
            let caller = queue.come();
            queue.waiting.push_back(caller);
        }
        queue
    }

    /// One more caller, who has to wait.
    fn come(&self) -> Acquire<L> {
        let mut caller = (self.acquire)();
        assert!(poll(&mut caller).is_pending(), "every lease is out");
        caller
    }

    fn hand_over(mut self) -> Work {
        Box::new(move |times| {
            let runtime = Arc::clone(&self.runtime);
            let _inside = runtime.enter();
            for _ in 0..times {
                drop(self.leases.pop_front());
                let mut first = self.waiting.pop_front().expect("a caller waits");
                let Poll::Ready(lease) = poll(&mut first) else {
                    panic!("the one that came first was not served");
                };
                self.leases.push_back(lease);
                drop(first);
                let caller = self.come();
                self.waiting.push_back(caller);
            }
        })
    }

    fn give_up(self) -> Work {
        Box::new(move |times| {
            let _inside = self.runtime.enter();
            for _ in 0..times {
                drop(self.come());
            }
        })
    }
}

/// Polls outside of any task, where the runtime does not ration what a future may do.
fn poll<L>(future: &mut Acquire<L>) -> Poll<L> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
