//! Dials, resets and closes that were spawned on a runtime which ends, or stands still, before they
//! have ended: the waiter of another runtime that depends on them is served all the same.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::{AfterFailedDial, Dial, DialForWaiters};
use pool_common::{Error, Exclusive, Manager, Notifier, Policy, Pool};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{one_thread, within, workers};

/// A manager whose resets and closes never end by themselves, if it has any.
#[derive(Clone, Copy, Default)]
struct Slow {
    resets: bool,
    closes: bool,
}

impl Manager for Slow {
    type Key = u8;
    type Lending = Exclusive<u32>;
    type Error = Infallible;

    async fn connect(&self, _: &u8, _: Notifier) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn needs_reset(&self, _: &Exclusive<u32>) -> bool {
        self.resets
    }

    async fn reset(&self, _: &mut Exclusive<u32>) -> Result<(), Infallible> {
        pending().await
    }

    async fn close(&self, _: Exclusive<u32>) {
        if self.closes {
            pending().await
        }
    }
}

const DIALS: [(Dial, DialForWaiters); 5] = [
    (Dial::Shared, DialForWaiters::Waiter),
    (Dial::Racing, DialForWaiters::Waiter),
    (Dial::Detached, DialForWaiters::Waiter),
    (Dial::Caller, DialForWaiters::Background),
    (Dial::Caller, DialForWaiters::Opener),
];

/// A pool of one connection with short limits, for which one failed dial is a failure of the peer.
fn pool(manager: Slow, (dial, dial_for_waiters): (Dial, DialForWaiters)) -> Pool<Slow> {
    let limit = Duration::from_millis(50);
    let policy = Policy {
        dial,
        dial_for_waiters,
        max_open_per_key: Some(1),
        dial_timeout: limit,
        reset_timeout: limit,
        close_timeout: limit,
        after_failed_dial: AfterFailedDial::FailFast,
        back_off_after: 1,
        back_off_base: Duration::from_secs(3600),
        back_off_max: Duration::from_secs(3600),
        ..Policy::default()
    };
    Pool::builder(manager).policy(policy).build().expect("a valid policy")
}

/// A caller that waits on `lives` while the only connection is out.
fn waits(pool: &Pool<Slow>, lives: &Runtime) -> JoinHandle<Result<(), Error<Infallible>>> {
    let waits = pool.clone();
    let waiter = lives.spawn(async move { waits.acquire(&1).await.map(drop) });
    while pool.status().waiting == 0 {
        std::thread::yield_now();
    }
    waiter
}

#[test]
fn a_waiter_is_served_when_the_dial_for_it_is_lost_with_the_runtime_of_another_caller() {
    within(|| {
        for dial in DIALS {
            let pool = pool(Slow::default(), dial);
            let (ends, lives) = (one_thread(), workers(1));
            let lease = ends.block_on(pool.acquire(&1)).expect("dialed");
            let waiter = waits(&pool, &lives);
            // The dial for the waiter is spawned here, and its task never runs.
            ends.block_on(async { lease.discard() });
            drop(ends);
            let served = lives.block_on(waiter).expect("no panic");
            served.unwrap_or_else(|error| panic!("{dial:?}: {error}"));
            // No failure of the peer: dials do not pause.
            lives.block_on(async { pool.acquire(&2).await.map(drop) }).expect("dialed");
            lives.block_on(pool.close());
        }
    });
}

#[test]
fn a_waiter_is_served_when_the_dial_for_it_was_spawned_on_a_runtime_that_stands_still() {
    within(|| {
        for dial in DIALS {
            let pool = pool(Slow::default(), dial);
            let (still, lives) = (one_thread(), workers(1));
            let lease = still.block_on(pool.acquire(&1)).expect("dialed");
            let waiter = waits(&pool, &lives);
            still.block_on(async { lease.discard() });
            let served = lives.block_on(waiter).expect("no panic");
            served.unwrap_or_else(|error| panic!("{dial:?}: {error}"));
            lives.block_on(async { pool.acquire(&2).await.map(drop) }).expect("dialed");
            lives.block_on(pool.close());
            drop(still);
        }
    });
}

#[test]
fn a_reset_and_a_close_on_a_runtime_that_stands_still_keep_their_place_no_longer_than_their_limit()
{
    within(|| {
        let (resets, closes) = (true, true);
        for manager in [Slow { resets, closes: false }, Slow { resets: false, closes }] {
            let pool = pool(manager, DIALS[0]);
            let (still, lives) = (one_thread(), workers(1));
            let lease = still.block_on(pool.acquire(&1)).expect("dialed");
            let waiter = waits(&pool, &lives);
            if manager.resets {
                still.block_on(async { drop(lease) });
            } else {
                still.block_on(async { lease.discard() });
            }
            lives.block_on(waiter).expect("no panic").expect("the place was given up");
            drop(still);
        }
    });
}

#[test]
fn a_dial_that_is_lost_leaves_the_floor_to_be_dialed_where_the_pool_is_used() {
    within(|| {
        let policy = Policy { min_idle: 2, ..Policy::default() };
        let pool = Pool::builder(Slow::default()).policy(policy).build().expect("a valid policy");
        let (ends, lives) = (one_thread(), workers(1));
        ends.block_on(async { pool.warm_up(&1) });
        drop(ends);
        lives.block_on(async {
            drop(pool.acquire(&1).await.expect("dialed"));
            while pool.status().idle < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(pool.stats().closed(CloseCause::Lost), 0);
    });
}

#[test]
fn a_close_ends_although_its_tasks_and_their_keeper_are_on_a_runtime_that_stands_still() {
    within(|| {
        for returned_late in [false, true] {
            let pool = pool(Slow { resets: false, closes: true }, DIALS[0]);
            let (still, lives) = (one_thread(), workers(1));
            // Where the pool keeps its time.
            let lease = still.block_on(pool.acquire(&1)).expect("dialed");
            if returned_late {
                let closing = pool.clone();
                let closed = lives.spawn(async move { closing.close().await });
                while !pool.is_closed() {
                    std::thread::yield_now();
                }
                still.block_on(async { drop(lease) });
                lives.block_on(closed).expect("no panic");
            } else {
                still.block_on(async {
                    drop(lease);
                    pool.start_close();
                });
                lives.block_on(pool.close());
            }
            drop(still);
        }
    });
}
