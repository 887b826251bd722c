//! A pool on a clock that trails its timers by a tick, in virtual time.

use std::convert::Infallible;
use std::time::Duration;

use crate::clock::Clock;
use crate::policy::{Dial, DialForWaiters, Policy};
use crate::{Exclusive, Manager, Notifier, Pool};

const TICK: Duration = Duration::from_millis(10);

/// Dials take a millisecond.
struct Peer;

impl Manager for Peer {
    type Key = ();
    type Lending = Exclusive<()>;
    type Error = Infallible;

    async fn connect(&self, (): &(), _: Notifier) -> Result<(), Infallible> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}

fn pool(policy: Policy) -> Pool<Peer> {
    Pool::builder(Peer).policy(policy).clock(Clock::ticking(TICK)).build().expect("a valid policy")
}

#[tokio::test(start_paused = true)]
async fn a_tick_between_two_looks_at_the_clock_does_not_use_a_callers_time_up() {
    let acquire_timeout = Some(Duration::from_millis(3));
    let own = Policy { dial: Dial::Caller, acquire_timeout, ..Policy::default() };
    let dial_for_waiters = DialForWaiters::Waiter;
    let start = tokio::time::Instant::now();
    let pool = pool(Policy { dial_for_waiters, max_open_per_key: Some(1), ..own });
    let lease = pool.acquire(&()).await.expect("dialed");
    let wait = || {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire(&()).await.map(drop) })
    };
    // Its wait starts the maintenance task, which then watches the deadline of the next as well.
    let first = wait();
    tokio::time::advance(TICK - start.elapsed() - Duration::from_micros(100)).await;
    // Just before a tick a caller begins to wait, and just after it that caller is to dial.
    let waiter = wait();
    while pool.status().waiting < 2 {
        tokio::task::yield_now().await;
    }
    first.abort();
    while pool.status().waiting == 2 {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    tokio::time::advance(Duration::from_micros(200)).await;
    lease.discard();
    waiter.await.expect("no panic").expect("it has waited for a fraction of its time");
    assert!(began.elapsed() < Duration::from_millis(3), "{:?}", began.elapsed());
}
