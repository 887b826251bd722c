//! While dials pause after failures, and when the pause ends.

use std::time::Duration;

use pool_common::policy::*;
use pool_common::state::Want;
use pool_common::{Exclusive, Policy};

use crate::support::driver::{Driver, Outcome};
use crate::support::fake;

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);

/// The first failure is followed by a pause of a second.
fn pausing() -> Policy {
    Policy { back_off_after: 1, back_off_base: SECOND, ..Policy::default() }
}

#[test]
fn a_closed_pool_probed_its_peer() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::FailFast,
        ..pausing()
    });
    let dial = pool.acquire(1).dial();
    pool.state.close(pool.now);
    pool.settle();
    pool.dial_failed(dial, Some("down"));
    pool.pass(60 * SECOND);
    assert!(pool.background.is_empty(), "dialed after the close: {:?}", pool.state.status());
    assert!(pool.state.is_empty());
}

/// Promise 4, when the timer that ends a pause is late: one who waited through the pause comes
/// before one who comes after it.
#[test]
fn a_newcomer_after_the_pause_overtook_who_waited_through_it() {
    let fresh = Want { fresh: true, again: false };
    for (dial, want) in [
        (Dial::Caller, Want::default()),
        (Dial::Detached, Want::default()),
        (Dial::Caller, fresh),
        (Dial::Racing, fresh),
        (Dial::Shared, fresh),
    ] {
        for wait_for_ready in [true, false] {
            let mut pool = Plain::new(Policy {
                dial,
                wait_for_ready,
                max_open_per_key: Some(2),
                dial_ramp: None,
                ..pausing()
            });
            // What may come back is a reason to wait, also without wait_for_ready.
            let held = pool.lend_one(1);
            pool.acquire_as(1, fresh);
            let dials = [pool.background.clone(), pool.by_callers.clone()].concat();
            pool.dial_failed(dials[0], Some("down"));
            for (told, _) in pool.waiters.clone() {
                pool.cancel(told);
            }
            let first = pool.acquire_as(1, want).waiter();
            pool.now = pool.now.after(2 * SECOND);
            let newcomer = pool.acquire_as(1, want);
            let case = format!("{dial:?}, {want:?}, wait_for_ready={wait_for_ready}");
            assert!(matches!(newcomer, Outcome::Wait(_)), "{case}: {newcomer:?}");
            let opened = match pool.collect(first) {
                Some(outcome) => pool.dialed(outcome.dial()),
                None => {
                    pool.dialed(pool.background[0]);
                    pool.collect(first).map(Outcome::lent)
                }
            };
            assert!(opened.is_some_and(|id| id != held), "{case}: the first is served first");
        }
    }
}

/// Callers wait in line until little of their time is left, and then cut their own dials short. That
/// says nothing about a peer whose dials all take 20 ms.
#[tokio::test(start_paused = true)]
async fn callers_out_of_time_do_not_make_a_healthy_peer_look_bad() {
    let (pool, peer) = fake::pool::<Exclusive<fake::Connection>>(Policy {
        dial: Dial::Caller,
        max_open_per_key: Some(1),
        acquire_timeout: Some(Duration::from_millis(110)),
        ..Policy::default()
    });
    peer.set(&peer.connect, fake::Way::Slow(Duration::from_millis(20)));
    let callers = (0..16).map(|caller| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let (mut served, mut timed_out) = (0, 0);
            for turn in 0..30 {
                match pool.acquire(&1).await {
                    Ok(lease) => {
                        served += 1;
                        tokio::time::sleep(Duration::from_millis((caller + turn) % 7)).await;
                        lease.discard();
                    }
                    Err(error) if error.is_timeout() => timed_out += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (served, timed_out)
        })
    });
    let callers: Vec<_> = callers.collect();
    let (mut served, mut timed_out) = (0, 0);
    for caller in callers {
        let counts = caller.await.expect("no other error");
        served += counts.0;
        timed_out += counts.1;
    }
    assert!(served > 50 && timed_out > 50, "{served} served, {timed_out} out of time");
}
