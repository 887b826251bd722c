//! Pauses after failed dials: which callers wait through them, which are told, and what counts as a
//! failure.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{Fitness, Refusal};
use pool_common::{Exclusive, Policy, Shared, profile};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Three dials in a row are refused.
fn fail_thrice(pool: &mut Plain) {
    for _ in 0..3 {
        let waiter = pool.acquire(1).waiter();
        pool.dial_failed(pool.only_dial(), Some("refused"));
        assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("refused")));
    }
}

#[test]
fn a_caller_with_time_waits_through_a_short_pause() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        fail_thrice(&mut pool);
        let deadline = pool.now.after(SECOND);
        let waiter = pool.acquire_until(1, Default::default(), deadline).waiter();
        pool.pass(100 * MILLI);
        let probe = pool.only_dial();
        pool.dialed(probe);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(probe)), "{dial:?}");
    }
}

#[test]
fn a_pause_longer_than_the_caller_has_time_for_is_told_at_once() {
    let mut pool = Plain::new(Policy::default());
    fail_thrice(&mut pool);
    let soon = pool.now.after(150 * MILLI);
    let outcome = pool.acquire_until(1, Default::default(), soon);
    assert!(matches!(outcome, Outcome::Refused(Refusal::BackingOff { .. })), "{outcome:?}");
    // A long pause is told to every caller at once.
    let back_off_base = 2 * SECOND;
    let mut pool =
        Plain::new(Policy { back_off_base, back_off_max: 60 * SECOND, ..Policy::default() });
    fail_thrice(&mut pool);
    let outcome = pool.acquire(1);
    assert!(matches!(outcome, Outcome::Refused(Refusal::BackingOff { .. })), "{outcome:?}");
}

#[test]
fn callers_that_waited_through_a_pause_are_told_when_the_next_dial_fails_as_well() {
    let mut pool = Plain::new(Policy::default());
    fail_thrice(&mut pool);
    let waiters: Vec<_> = (0..5).map(|_| pool.acquire(1).waiter()).collect();
    pool.pass(100 * MILLI);
    let probe = pool.only_dial();
    let later = pool.acquire(1).waiter();
    pool.dial_failed(probe, Some("still refused"));
    for waiter in waiters {
        let told = pool.collect(waiter);
        let by_probe = matches!(&told, Some(Outcome::DialFailed("still refused")));
        let by_pause = matches!(
            &told,
            Some(Outcome::Refused(Refusal::BackingOff { last: "still refused", .. }))
        );
        assert!(by_probe || by_pause, "{told:?}");
    }
    assert_eq!(pool.collect(later), None, "it came after that dial began, and has time");
    pool.pass(200 * MILLI);
    let probe = pool.only_dial();
    pool.dialed(probe);
    assert_eq!(pool.collect(later), Some(Outcome::Lent(probe)));
}

/// Callers come one after another during an outage of this length, and one of them always waits if it
/// may. Returns how long after the end of the outage a dial starts, and how many dials failed.
fn outage(length: Duration, seed: u64) -> (Duration, usize) {
    let mut pool = Plain::new(Policy::default());
    pool.state = pool_common::state::State::new(Policy::default(), seed).expect("a valid policy");
    let end = pool.now.after(length);
    let (mut waiting, mut failed) = (None, 0);
    loop {
        if waiting.is_none() {
            match pool.acquire(1) {
                Outcome::Wait(waiter) => waiting = Some(waiter),
                Outcome::Refused(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if pool.now >= end && !pool.background.is_empty() {
            return (pool.now.since(end), failed);
        }
        for dial in pool.background.clone() {
            pool.dial_failed(dial, Some("refused"));
            failed += 1;
        }
        if waiting.is_some_and(|waiter| pool.collect(waiter).is_some()) {
            waiting = None;
        }
        pool.pass(10 * MILLI);
    }
}

#[test]
fn with_waiting_callers_a_peer_that_is_back_serves_within_a_second() {
    for seconds in [1, 12, 900] {
        let (took, _) = outage(seconds * SECOND, 7);
        assert!(took <= SECOND, "{took:?} after an outage of {seconds} s");
    }
}

#[test]
fn a_pause_is_about_a_quarter_of_the_outage_and_dials_stay_few() {
    for length in (1..=40).map(|tenths| tenths * 100 * MILLI) {
        for seed in 1..=20 {
            let (took, failed) = outage(length, seed);
            // The first pause and a quarter of the outage; a jitter of a fifth upwards, after pauses that
            // were shorter by a fifth; and two steps of this test.
            let longest = (100 * MILLI + length / 4 * 5 / 4) * 6 / 5 + 20 * MILLI;
            assert!(took <= longest, "{took:?} after an outage of {length:?}, seed {seed}");
            assert!(failed <= 15, "{failed} dials in an outage of {length:?}, seed {seed}");
        }
    }
}

#[test]
fn a_patient_caller_is_not_told_the_first_failure_either() {
    let policy = Policy { wait_for_ready: true, ..Policy::default() };
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..policy.clone() });
        let waiter = pool.acquire(1).waiter();
        for _ in 0..10 {
            for dial in pool.background.clone() {
                pool.dial_failed(dial, Some("refused"));
            }
            assert_eq!(pool.collect(waiter), None, "{dial:?}");
            pool.pass(SECOND);
        }
        let dial_id = pool.only_dial();
        pool.dialed(dial_id);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial_id)), "{dial:?}");
    }
}

#[test]
fn a_further_dial_that_fails_fails_no_caller_beside_a_good_connection() {
    let policies =
        [Policy { dial: Dial::Shared, ..Policy::default() }, Policy::default()].into_iter().chain(
            [profile::net_http_h2().policy, profile::net_http().policy, profile::go_redis().policy],
        );
    for policy in policies {
        let mut pool = Streams::new(policy);
        pool.capacity = 4;
        let first: Vec<_> = (0..20).map(|_| pool.acquire(1).waiter()).collect();
        pool.dialed(pool.background[0]);
        let (mut served, mut dials, mut waiting) = (0, 0, first);
        for _ in 0..200 {
            // Every other connection is reset before it is ready.
            for dial in pool.background.clone() {
                dials += 1;
                pool.dial_failed(dial, Some("reset"));
            }
            let mut again = Vec::new();
            for waiter in std::mem::take(&mut waiting) {
                match pool.collect(waiter) {
                    None => again.push(waiter),
                    Some(Outcome::Lent(id)) => {
                        served += 1;
                        pool.release(id);
                    }
                    Some(Outcome::Retry) => match pool.acquire(1) {
                        Outcome::Lent(id) => {
                            served += 1;
                            pool.release(id);
                        }
                        Outcome::Wait(waiter) => again.push(waiter),
                        other => panic!("{other:?}"),
                    },
                    Some(other) => panic!("{other:?} beside a connection that works"),
                }
            }
            waiting = again;
            pool.pass(10 * MILLI);
        }
        let policy = pool.state.policy();
        assert_eq!(served, 20, "{:?}", policy.dial);
        assert!(dials < 60, "{:?}: {dials} further dials in two seconds", policy.dial);
    }
}

/// The timer of a pause fires by a precise clock; the events after it have the time of a clock that
/// trails it.
#[test]
fn a_probe_that_fails_within_a_tick_of_the_clock_counts() {
    let mut pool = Plain::new(profile::go_redis().policy);
    let size = pool.state.policy().back_off_after;
    for _ in 0..size {
        let waiter = pool.acquire(1).waiter();
        pool.dial_failed(pool.only_dial(), Some("refused"));
        pool.collect(waiter);
    }
    for round in 0..10 {
        let due = pool.state.next_deadline();
        pool.now = due;
        pool.state.handle_timeout(due);
        pool.settle();
        let probe = pool.only_dial();
        pool.now = clock_behind(due);
        pool.dial_failed(probe, Some("refused"));
        let next = pool.state.next_deadline();
        let pause = next.since(due);
        assert!(pause >= SECOND && pause <= SECOND + 10 * MILLI, "round {round}: {pause:?}");
        let outcome = pool.acquire(1);
        let Outcome::Refused(Refusal::BackingOff { until, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(until.since(due) > Duration::ZERO, "a pause of nothing is none");
    }
}

fn clock_behind(at: pool_common::clock::Timestamp) -> pool_common::clock::Timestamp {
    pool_common::clock::Timestamp::from_nanos(at.as_nanos() - 3_000_000)
}

/// Beside a connection that works, waiters outlive their dials.
#[test]
fn waiters_whose_dials_fail_keep_their_order() {
    for dial in [Dial::Detached, Dial::Racing] {
        for orphan_dial in [OrphanDial::Kept, OrphanDial::Stopped] {
            for backwards in [false, true] {
                let policy = Policy { dial, orphan_dial, dial_ramp: None, ..Policy::default() };
                let mut pool = Driver::<Exclusive<u32>>::new(policy);
                let lease = pool.lend_one(1);
                let waiters: Vec<_> = (0..3).map(|_| pool.acquire(1).waiter()).collect();
                let mut dials = pool.background.clone();
                assert_eq!(dials.len(), 3);
                if backwards {
                    dials.reverse();
                }
                for dial in dials {
                    pool.dial_failed(dial, Some("refused"));
                }
                pool.release(lease);
                let mut lease = lease;
                for (place, waiter) in waiters.into_iter().enumerate() {
                    let Some(Outcome::Lent(next)) = pool.collect(waiter) else {
                        panic!("{dial:?}, {orphan_dial:?}, backwards {backwards}: not {place}");
                    };
                    lease = next;
                    pool.release(lease);
                }
                let _ = lease;
            }
        }
    }
}

#[test]
fn connections_that_end_without_having_allowed_a_lease_are_dialed_ever_more_slowly() {
    for after_failed_dial in AfterFailedDial::ALL.iter().copied() {
        for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
            let mut pool = Streams::new(Policy { dial, after_failed_dial, ..Policy::default() });
            pool.capacity = 0;
            let waiter = pool.acquire(1).waiter();
            let start = pool.now;
            let mut dialed_at = Vec::new();
            while pool.now.since(start) < 10 * SECOND {
                while let Some(id) = pool.background.first().copied() {
                    dialed_at.push(pool.now.since(start));
                    assert!(dialed_at.len() < 200, "{dial:?} {after_failed_dial:?}: a storm");
                    pool.dialed(id);
                    pool.state.retire(id, CloseCause::Gone, pool.now);
                    pool.settle();
                    pool.finish_closing();
                }
                pool.pass(10 * MILLI);
            }
            let what = format!("{dial:?} {after_failed_dial:?} {dialed_at:?}");
            assert_eq!(dialed_at[..2], [Duration::ZERO, 100 * MILLI], "{what}");
            assert!((10..110).contains(&dialed_at.len()), "{what}");
            // The peer allows leases again: the waiter is served by the next dial, and the pauses are over.
            pool.capacity = 2;
            while pool.background.is_empty() {
                pool.pass(10 * MILLI);
            }
            let id = pool.only_dial();
            pool.dialed(id);
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)), "{what}");
            pool.state.retire(id, CloseCause::Gone, pool.now);
            pool.settle();
            pool.acquire(1).waiter();
            assert_eq!(pool.background.len(), 1, "{what}: no pause");
        }
    }
}

#[test]
fn waiter_of_the_opener_waits_through_a_failed_dial_where_it_waits_for_ready() {
    for dial_for_waiters in [DialForWaiters::Opener, DialForWaiters::Background] {
        let policy = Policy {
            dial: Dial::Caller,
            dial_for_waiters,
            wait_for_ready: true,
            max_open_per_key: Some(1),
            ..Policy::default()
        };
        let mut pool = Plain::new(policy);
        let one = pool.lend_one(1);
        let waiter = pool.acquire(1).waiter();
        pool.release_as(one, Fitness::Unfit(CloseCause::Broken));
        pool.finish_closing();
        for _ in 0..5 {
            pool.dial_failed(pool.only_dial(), Some("refused"));
            assert_eq!(pool.collect(waiter), None, "{dial_for_waiters:?}");
            pool.pass(SECOND);
        }
        let dial = pool.only_dial();
        pool.dialed(dial);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)), "{dial_for_waiters:?}");
    }
}

#[test]
fn probe_starts_beside_a_dial_that_hangs() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Caller] {
        let policy = Policy {
            dial,
            back_off_after: 1,
            max_dials_per_key: Some(3),
            dial_ramp: None,
            ..profile::go_redis().policy
        };
        let mut pool = Plain::new(policy);
        let start = |pool: &mut Plain| match pool.acquire(1) {
            Outcome::Dial(own) => own,
            Outcome::Wait(_) => *pool.background.last().expect("a dial"),
            other => panic!("{other:?}"),
        };
        let hanging = start(&mut pool);
        let refused = start(&mut pool);
        pool.dial_failed(refused, Some("refused"));
        for _ in 0..3 {
            pool.pass(SECOND);
            let probes: Vec<_> =
                pool.background.iter().copied().filter(|id| *id != hanging).collect();
            assert_eq!(probes.len(), 1, "{dial:?}: one at a time");
            pool.dial_failed(probes[0], Some("refused"));
        }
        pool.pass(SECOND);
        let probe = *pool.background.last().expect("a probe");
        assert_ne!(probe, hanging, "{dial:?}");
        pool.dialed(probe);
        // Where dials race returned connections, the probe serves the caller whose dial hangs.
        let waiting = pool.waiters.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        if waiting.into_iter().any(|id| pool.collect(id) == Some(Outcome::Lent(probe))) {
            pool.release(probe);
        }
        assert_eq!(pool.acquire(1), Outcome::Lent(probe), "{dial:?}: the peer is back");
    }
}
