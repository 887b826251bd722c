//! What ends a pause is the work of the maintenance task, too: it must go on where the pool is used.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::policy::{AfterFailedDial, Dial};
use pool_common::{Error, Exclusive, Manager, Notifier, Policy, Pool};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::{one_thread, within, workers};

/// Dials that go on at a time; as many as anybody needs.
const DIALS: u32 = 1_000;

/// A peer that is there or not.
#[derive(Clone)]
struct Switched {
    on: Arc<AtomicBool>,
    /// Who has all of it holds up all dials.
    gate: Arc<Semaphore>,
}

impl Switched {
    fn turn(&self, on: bool) {
        self.on.store(on, Relaxed);
    }
}

impl Manager for Switched {
    type Key = u8;
    type Lending = Exclusive<u32>;
    type Error = io::Error;

    async fn connect(&self, _: &u8, _: Notifier) -> io::Result<u32> {
        let _through = self.gate.acquire().await.expect("never closed");
        if self.on.load(Relaxed) { Ok(7) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

fn pool(after_failed_dial: AfterFailedDial, policy: Policy) -> (Pool<Switched>, Switched) {
    let gate = Arc::new(Semaphore::new(DIALS as usize));
    let peer = Switched { on: Arc::default(), gate };
    let policy = Policy {
        after_failed_dial,
        back_off_after: 1,
        back_off_base: Duration::from_millis(10),
        back_off_max: Duration::from_millis(10),
        ..policy
    };
    let pool = Pool::builder(peer.clone()).policy(policy).build().expect("a valid policy");
    (pool, peer)
}

#[test]
fn a_key_that_fails_fast_recovers_on_a_second_runtime_while_the_first_stands_still() {
    within(|| {
        let (pool, peer) = pool(AfterFailedDial::FailFast, Policy::default());
        let (first, second) = (one_thread(), one_thread());
        peer.turn(true);
        first.block_on(pool.acquire(&1)).expect("dialed").discard();
        first.block_on(async { drop(pool.acquire(&2).await.expect("dialed")) });
        // `first` keeps the time, and stands still from here on.
        peer.turn(false);
        second.block_on(async {
            while !matches!(pool.acquire(&1).await, Err(Error::BackingOff { .. })) {}
            peer.turn(true);
            while pool.acquire(&1).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        drop(first);
    });
}

#[test]
fn one_who_waits_for_the_end_of_a_pause_on_a_second_runtime_is_served() {
    for acquire_timeout in [None, Some(Duration::from_secs(600))] {
        within(move || {
            let policy = Policy { wait_for_ready: true, acquire_timeout, ..Policy::default() };
            let (pool, peer) = pool(AfterFailedDial::BackOff, policy);
            let (first, second) = (one_thread(), workers(1));
            // A pause that `first` is to end, and does not.
            let dials = pool.clone();
            let waits = first.spawn(async move { dials.acquire(&1).await.map(drop) });
            first.block_on(async {
                while pool.stats().dials_failed == 0 {
                    tokio::task::yield_now().await;
                }
            });
            peer.turn(true);
            drop(second.block_on(pool.acquire(&1)).expect("the pause ended"));
            drop(waits);
            drop(first);
        });
    }
}

#[test]
fn one_without_a_deadline_is_served_though_the_pool_was_warmed_up_outside_a_runtime() {
    within(|| {
        let policy = Policy {
            wait_for_ready: true,
            acquire_timeout: None,
            min_idle: 1,
            ..Policy::default()
        };
        let (pool, peer) = pool(AfterFailedDial::BackOff, policy);
        pool.warm_up(&1);
        std::thread::sleep(Duration::from_millis(50));
        let runtime = one_thread();
        runtime.block_on(async {
            let waits = pool.clone();
            let waiter = tokio::spawn(async move { waits.acquire(&1).await.map(drop) });
            while pool.status().waiting == 0 {
                tokio::task::yield_now().await;
            }
            peer.turn(true);
            waiter.await.expect("no panic").expect("the peer is there");
        });
    });
}

#[test]
fn one_who_relies_on_a_watch_that_moves_to_another_runtime_times_out_nevertheless() {
    within(|| {
        let policy = Policy {
            max_open_per_key: Some(1),
            acquire_timeout: Some(Duration::from_millis(300)),
            ..Policy::default()
        };
        let (pool, peer) = pool(AfterFailedDial::BackOff, policy);
        let (first, second) = (workers(1), one_thread());
        peer.turn(true);
        let lease = first.block_on(pool.acquire(&1)).expect("dialed");
        // The first who waits has a timer of its own, and starts the maintenance; the second relies
        // on that, once it is asleep.
        let waiters: Vec<_> = (1..=2)
            .map(|waiting| {
                let waits = pool.clone();
                let waiter = first.spawn(async move { waits.acquire(&1).await.map(drop) });
                while pool.status().waiting < waiting {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(20));
                waiter
            })
            .collect();
        peer.turn(false);
        // A pause, whose end is earlier than anybody's time is up. `second` stands still after that.
        second.block_on(pool.acquire(&2)).expect_err("nobody is there");
        for waiter in waiters {
            let error = first.block_on(waiter).expect("no panic").expect_err("nothing came back");
            assert!(error.is_timeout(), "{error}");
        }
        drop((lease, second));
    });
}

#[test]
fn one_who_waited_before_a_pause_began_on_another_runtime_is_served_at_its_end() {
    within(|| {
        let policy = Policy {
            max_open_per_key: Some(1),
            wait_for_ready: true,
            acquire_timeout: None,
            ..Policy::default()
        };
        let (pool, peer) = pool(AfterFailedDial::BackOff, policy);
        let (first, second) = (workers(1), one_thread());
        let waits = pool.clone();
        let mut waiter = None;
        second.block_on(async {
            let held = peer.gate.acquire_many(DIALS).await.expect("never closed");
            let mut caller = pool.acquire(&1);
            let until = async |condition: &dyn Fn() -> bool| {
                while !condition() {
                    tokio::task::yield_now().await;
                }
            };
            let dials = || pool.status().dialing == 1;
            tokio::select! {
                biased;
                _ = &mut caller => panic!("dials are held up"),
                () = until(&dials) => {}
            }
            waiter = Some(first.spawn(async move { waits.acquire(&1).await.map(drop) }));
            until(&|| pool.status().waiting == 2).await;
            drop(held);
            until(&|| pool.stats().dials_failed > 0).await;
        });
        // `second`, where the pause is, stands still from here on.
        peer.turn(true);
        let waiter = waiter.expect("it was spawned");
        first.block_on(waiter).expect("no panic").expect("the peer is there");
        drop(second);
    });
}

#[test]
fn two_runtimes_do_not_take_the_watch_from_each_other() {
    within(|| {
        // Nobody yields here: tasks are spawned, and do not run.
        let idle_timeout = Some(Duration::from_millis(1));
        let policy = Policy { dial: Dial::Caller, idle_timeout, ..Policy::default() };
        let peer = Switched { on: Arc::default(), gate: Arc::new(Semaphore::new(1)) };
        peer.turn(true);
        let (clock, hand) = Clock::manual();
        let builder = Pool::builder(peer).policy(policy).clock(clock);
        let pool = builder.build().expect("a valid policy");
        let (first, second) = (one_thread(), one_thread());
        let pool = &pool;
        let lend = |key| async move { drop(pool.acquire(&key).await.expect("dialed")) };
        let watches = |runtime: &Runtime| runtime.metrics().num_alive_tasks();
        first.block_on(lend(1));
        assert_eq!((watches(&first), watches(&second)), (1, 0));
        // What is idle is overdue, and nobody drives the first runtime.
        hand.advance(Duration::from_secs(1));
        second.block_on(lend(2));
        assert_eq!((watches(&first), watches(&second)), (1, 1), "the watch was taken over");
        first.block_on(lend(3));
        assert_eq!((watches(&first), watches(&second)), (1, 1), "it has its time");
    });
}
