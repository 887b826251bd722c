//! Knobs that most policies leave alone: bounds on dials, on uses, the floor that may be idle, a pause.

use std::time::Duration;

use pool_common::event::CloseCause::{self, *};
use pool_common::event::EventKind;
use pool_common::lending::Lending;
use pool_common::policy::*;
use pool_common::state::{Fitness, Refusal};
use pool_common::{Exclusive, Limits, Policy, Shared};

use crate::driver::{Driver, Outcome};

const SECOND: Duration = Duration::from_secs(1);

fn undamped() -> Policy {
    Policy { dial_ramp: None, ..Policy::default() }
}

fn pool<L: Lending<Connection = u32>>(policy: Policy) -> Driver<L> {
    let mut pool = Driver::new(policy);
    pool.capacity = 1;
    pool
}

// max_dials

#[test]
fn dials_over_all_keys_are_bounded_and_keys_take_turns() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = pool::<Exclusive<u32>>(Policy { dial, max_dials: Some(2), ..undamped() });
        for key in [1, 1, 2, 3, 3] {
            pool.acquire(key).waiter();
        }
        let mut order = Vec::new();
        while let Some(&dial) = pool.background.first() {
            assert!(pool.background.len() <= 2);
            order.push(*pool.state.key_of(dial).expect("it is dialed"));
            pool.dialed(dial);
        }
        order.sort_unstable();
        assert_eq!(order, [1, 1, 2, 3, 3], "{dial:?}: all are dialed for");
        assert_eq!(pool.woken.len(), 5);
    }
}

#[test]
fn callers_that_dial_themselves_wait_for_their_turn() {
    let policy = Policy { dial: Dial::Caller, max_dials: Some(1), ..undamped() };
    let mut pool = pool::<Exclusive<u32>>(policy);
    let first = pool.acquire(1).dial();
    let other = pool.acquire(2).waiter();
    let third = pool.acquire(1).waiter();
    pool.dial_failed(first, Some("refused"));
    let dial = pool.collect(other).expect("its turn").dial();
    assert_eq!(pool.collect(third), None);
    pool.dialed(dial);
    pool.collect(third).expect("its turn").dial();
}

#[test]
fn floors_and_callers_share_the_bound_on_dials() {
    let policy = Policy { max_dials: Some(1), min_idle: 2, ..undamped() };
    let mut pool = pool::<Exclusive<u32>>(policy);
    for key in [1, 2] {
        pool.state.warm_up(&key, pool.now);
        pool.settle();
    }
    let waiter = pool.acquire(3).waiter();
    let mut dials = 0;
    while let Some(&dial) = pool.background.first() {
        assert_eq!(pool.background.len(), 1);
        pool.dialed(dial);
        dials += 1;
        assert!(dials > 1 || !pool.background.is_empty());
        if dials == 2 {
            assert!(pool.collect(waiter).is_some(), "the floor comes after those who wait");
        }
    }
    assert!(pool.state.status().idle >= 5, "{:?}", pool.state.status());
}

#[test]
fn more_dials_start_when_their_bound_is_raised() {
    let mut pool = pool::<Exclusive<u32>>(Policy { max_dials: Some(1), ..undamped() });
    for key in 1..=4 {
        pool.acquire(key).waiter();
    }
    assert_eq!(pool.background.len(), 1);
    let limits = Limits { max_dials: Some(3), ..pool.state.policy().limits() };
    pool.state.set_limits(limits, pool.now).expect("valid");
    pool.settle();
    assert_eq!(pool.background.len(), 3);
}

#[test]
fn no_connection_makes_way_for_a_dial_that_may_not_start() {
    let policy = Policy { max_dials: Some(1), max_open: Some(4), ..undamped() };
    let mut pool = pool::<Exclusive<u32>>(policy);
    for key in 1..=4 {
        let id = pool.lend_one(key);
        pool.release(id);
    }
    for key in 5..=8 {
        pool.acquire(key).waiter();
    }
    assert_eq!(pool.closing.len(), 1, "one may be dialed at a time");
    pool.finish_closing();
    assert_eq!((pool.background.len(), pool.closing.len()), (1, 0));
}

// max_dials_per_second

#[test]
fn dials_of_a_key_are_bounded_within_each_second() {
    let mut pool = pool::<Exclusive<u32>>(Policy { max_dials_per_second: Some(3), ..undamped() });
    let mut served = 0;
    for _ in 0..10 {
        pool.acquire(1).waiter();
    }
    for _ in 0..3 {
        assert_eq!(pool.background.len(), 3);
        for dial in pool.background.clone() {
            pool.dialed(dial);
            served += 1;
        }
        pool.pass(SECOND - Duration::from_nanos(1));
        assert!(pool.background.is_empty(), "not within the second");
        pool.pass(Duration::from_nanos(1));
    }
    assert_eq!((served, pool.background.len()), (9, 1), "the last of them");
    // The dials of another key are counted separately.
    pool.acquire(2).waiter();
    assert_eq!(pool.background.len(), 2);
}

#[test]
fn failed_and_given_up_dials_count_within_a_second_even_for_an_unused_key() {
    let policy = Policy {
        max_dials_per_second: Some(2),
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::Tell,
        ..undamped()
    };
    let mut pool = pool::<Exclusive<u32>>(policy);
    for error in [Some("refused"), None] {
        let dial = pool.acquire(1).dial();
        pool.dial_failed(dial, error);
    }
    let waiter = pool.acquire(1).waiter();
    pool.pass(SECOND);
    let dial = pool.collect(waiter).expect("a new second").dial();
    pool.dial_failed(dial, None);
    pool.pass(60 * SECOND);
    assert_eq!(pool.state.known_keys(), 0, "and it is forgotten");
}

#[test]
fn a_floor_is_filled_as_fast_as_dials_may_start() {
    let policy = Policy { max_dials_per_second: Some(1), min_idle: 3, ..undamped() };
    let mut pool = pool::<Exclusive<u32>>(policy);
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    for filled in 0..3 {
        assert_eq!((pool.background.len(), pool.state.status().idle), (1, filled));
        let dial = pool.background[0];
        pool.dialed(dial);
        pool.pass(SECOND);
    }
    assert_eq!((pool.background.len(), pool.state.status().idle), (0, 3));
}

// max_uses

#[test]
fn a_connection_ends_with_its_last_use() {
    for hands_over in [false, true] {
        let mut pool = pool::<Exclusive<u32>>(Policy { max_uses: Some(3), ..undamped() });
        let id = pool.lend_one(1);
        for _ in 0..2 {
            pool.release(id);
            assert_eq!(pool.acquire(1), Outcome::Lent(id));
        }
        if hands_over {
            pool.release_or_hand_over(id);
        } else {
            pool.release(id);
        }
        assert_eq!(pool.closing, [(id, Uses)]);
        assert_ne!(pool.lend_one(1), id);
    }
}

#[test]
fn hand_overs_are_uses() {
    let policy = Policy { max_uses: Some(2), max_open_per_key: Some(1), ..undamped() };
    let mut pool = pool::<Exclusive<u32>>(policy);
    let id = pool.lend_one(1);
    let waiters: Vec<_> = (0..2).map(|_| pool.acquire(1).waiter()).collect();
    pool.release_or_hand_over(id);
    if let Some(outcome) = pool.collect(waiters[0]) {
        assert_eq!(outcome, Outcome::Lent(id));
    }
    pool.release_or_hand_over(id);
    assert_eq!(pool.finish_closing(), [Uses]);
    let dial = pool.background[0];
    pool.dialed(dial);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(dial)));
}

#[test]
fn a_shared_connection_takes_no_new_leases_after_its_last_use() {
    let mut pool = Driver::<Shared<u32>>::new(Policy { max_uses: Some(2), ..undamped() });
    pool.capacity = 10;
    let id = pool.lend_one(1);
    assert_eq!(pool.acquire(1), Outcome::Lent(id));
    let other = pool.lend_one(1);
    assert_ne!(other, id);
    pool.release(id);
    assert_eq!(pool.state.status().draining, 1);
    pool.release(id);
    assert_eq!(pool.closing, [(id, Uses)]);
}

// idle_timeout_spares_floor

fn quiet_pool(policy: Policy, minutes: u32) -> (u64, u32) {
    let mut pool = pool::<Exclusive<u32>>(policy);
    let ids = pool.lend(1, 10);
    ids.iter().for_each(|id| pool.release(*id));
    let mut seconds = 0;
    while seconds < 60 * minutes {
        for dial in pool.background.clone() {
            pool.dialed(dial);
        }
        pool.finish_closing();
        pool.pass(SECOND);
        seconds += 1;
    }
    (pool.state.stats().dials, pool.state.status().idle)
}

#[test]
fn the_spared_floor_is_not_closed_and_dialed_again_in_quiet_hours() {
    for expiry in [Expiry::Timer, Expiry::Sweep] {
        let policy = Policy {
            expiry,
            min_idle: 4,
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            idle_timeout_spares_floor: true,
            ..undamped()
        };
        // Ten for the leased connections, and the floor beside them.
        assert_eq!(quiet_pool(policy.clone(), 10), (14, 4), "{expiry:?}");
        let today = Policy { idle_timeout_spares_floor: false, ..policy };
        assert!(quiet_pool(today, 10).0 > 30, "{expiry:?}");
    }
}

#[test]
fn a_spared_connection_is_lent_however_long_it_was_idle() {
    for &expiry in Expiry::ALL {
        let policy = Policy { expiry, min_idle: 1, idle_timeout_spares_floor: true, ..undamped() };
        let mut pool = pool::<Exclusive<u32>>(policy);
        let id = pool.lend_one(1);
        for dial in pool.background.clone() {
            pool.dialed(dial);
        }
        pool.release(id);
        // Above the floor the timeout holds.
        pool.pass(600 * SECOND);
        let lent = pool.acquire(1).lent();
        assert!(pool.state.status().idle <= 1, "{expiry:?}");
        assert!(pool.closing.len() <= 1, "{expiry:?}");
        pool.release(lent);
    }
}

#[test]
fn a_limit_set_by_a_connection_applies_to_the_floor_too() {
    for limit in [10, 200] {
        let policy = Policy { min_idle: 1, idle_timeout_spares_floor: true, ..undamped() };
        let mut pool = pool::<Exclusive<u32>>(policy);
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        let id = pool.background[0];
        pool.dialed(id);
        pool.set_idle_limit(id, limit * SECOND);
        pool.pass(limit * SECOND);
        assert_eq!(pool.closing, []);
        pool.pass(Duration::from_nanos(1));
        assert_eq!(pool.closing, [(id, IdleTimeout)]);
    }
}

// A pause

#[test]
fn a_pool_with_a_limit_of_zero_is_paused() {
    for over_all_keys in [false, true] {
        let mut pool = pool::<Exclusive<u32>>(Policy { min_idle: 1, ..undamped() });
        let leased = pool.lend_one(1);
        for dial in pool.background.clone() {
            pool.dialed(dial);
        }
        let before = pool.state.policy().limits();
        let paused = if over_all_keys {
            Limits { max_open: Some(0), ..before }
        } else {
            Limits { max_open_per_key: Some(0), ..before }
        };
        pool.state.set_limits(paused, pool.now).expect("a pause");
        pool.settle();
        assert_eq!(pool.finish_closing(), [OverLimit], "what is idle goes");
        let waiters: Vec<_> = [1, 2].map(|key| pool.acquire(key).waiter()).into();
        let given_up = pool.acquire_until(1, Default::default(), pool.now.after(SECOND)).waiter();
        pool.release(leased);
        assert_eq!(pool.finish_closing(), [OverLimit], "what is lent serves nobody else");
        pool.pass(3600 * SECOND);
        assert_eq!(pool.collect(given_up), Some(Outcome::TimedOut));
        assert_eq!((pool.state.status().open, pool.background.len()), (0, 0));
        pool.state.set_limits(before, pool.now).expect("as before");
        pool.settle();
        while let Some(&dial) = pool.background.first() {
            pool.dialed(dial);
        }
        for waiter in waiters {
            pool.collect(waiter).expect("the pause is over").lent();
        }
    }
}

#[test]
fn a_paused_pool_that_fails_at_its_limit_says_so() {
    let mut pool = pool::<Exclusive<u32>>(Policy { at_limit: AtLimit::Fail, ..undamped() });
    let limits = Limits { max_open_per_key: Some(0), ..pool.state.policy().limits() };
    pool.state.set_limits(limits, pool.now).expect("a pause");
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
}

#[test]
fn a_pool_is_not_built_paused() {
    let policy = Policy { max_open: Some(0), ..Policy::default() };
    let error = policy.validate().expect_err("a slip, most likely");
    assert!(error.to_string().contains("set_limits"), "{error}");
}

// max_waiters

#[test]
fn callers_that_a_dial_in_progress_will_serve_do_not_count_as_waiters() {
    for dial in [Dial::Shared, Dial::Racing] {
        let mut pool = Driver::<Shared<u32>>::new(Policy {
            dial,
            max_waiters: Some(100),
            max_open_per_key: Some(1),
            ..Policy::default()
        });
        pool.capacity = 1_000;
        let waiters: Vec<_> = (0..1_000).map(|_| pool.acquire(1).waiter()).collect();
        let dial = pool.background[0];
        pool.dialed(dial);
        let served = waiters.iter().filter(|waiter| pool.collect(**waiter).is_some()).count();
        assert_eq!(served, 1_000);
        // Now the capacity of a connection is known; the connection is full.
        let waiters: Vec<_> = (0..100).map(|_| pool.acquire(1).waiter()).collect();
        let refused = Outcome::Refused(Refusal::TooManyWaiters { limit: 100 });
        assert_eq!(pool.acquire(1), refused);
        drop(waiters);
    }
}

#[test]
fn a_dial_that_takes_longer_than_usual_is_not_expected_to_serve_a_caller() {
    let mut pool = Driver::<Shared<u32>>::new(Policy {
        dial: Dial::Shared,
        max_waiters: Some(3),
        max_open_per_key: Some(1),
        ..Policy::default()
    });
    for _ in 0..4 {
        pool.acquire(1).waiter();
    }
    pool.pass(Duration::from_millis(101));
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::TooManyWaiters { limit: 3 }));
}

/// A silent peer: each dial hangs, and so does the hedge that follows it.
#[test]
fn max_waiters_bounds_the_callers_of_a_peer_that_is_silent() {
    let mut pool = Driver::<Shared<u32>>::new(Policy {
        dial: Dial::Shared,
        max_waiters: Some(10),
        ..Policy::default()
    });
    let mut refused = 0;
    for _ in 0..1_000 {
        pool.pass(Duration::from_millis(3));
        pool.finish_stopping();
        refused += u32::from(matches!(pool.acquire(1), Outcome::Refused(_)));
    }
    // Those of the first 100 ms, when the first dial was not slow yet, and ten.
    assert!(refused >= 1_000 - 34 - 10, "{refused}");
}

#[test]
fn callers_beyond_what_a_dial_will_serve_count_as_waiters() {
    let mut pool = Driver::<Shared<u32>>::new(Policy {
        dial: Dial::Shared,
        max_waiters: Some(3),
        max_open_per_key: Some(1),
        ..Policy::default()
    });
    pool.capacity = 10;
    let id = pool.lend_one(1);
    pool.release_as(id, Fitness::Unfit(CloseCause::Broken));
    // The key is still known: it closes.
    for _ in 0..3 {
        pool.acquire(1).waiter();
    }
    let refused = Outcome::Refused(Refusal::TooManyWaiters { limit: 3 });
    assert_eq!(pool.acquire(1), refused);
    pool.finish_closing();
    assert_eq!(pool.background.len(), 1);
    for _ in 3..13 {
        pool.acquire(1).waiter();
    }
    assert_eq!(pool.acquire(1), refused);
}

// A connection that is gone before its dial is over

#[test]
fn a_connection_that_broke_while_it_was_dialed_is_not_lent() {
    for dial in Dial::ALL {
        let mut pool = pool::<Shared<u32>>(Policy { dial: *dial, ..undamped() });
        let (id, waiter) = match pool.acquire(1) {
            Outcome::Dial(id) => (id, None),
            Outcome::Wait(waiter) => (pool.background[0], Some(waiter)),
            other => panic!("{other:?}"),
        };
        pool.state.retire(id, Gone, pool.now);
        assert!(pool.state.is_gone(id));
        // A shell that does not check for this does not get the connection either.
        pool.background.clear();
        pool.by_callers.clear();
        let lent = pool.state.dialed(id, pool_common::lending::Lending::new(0), 1, pool.now);
        assert!(lent.is_none());
        pool.settle();
        assert_eq!(pool.finish_closing(), [Gone], "{dial:?}");
        let Some(waiter) = waiter else { continue };
        assert_eq!(pool.collect(waiter), None, "{dial:?}: it waits for another dial");
        let second = pool.background[0];
        pool.dialed(second);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(second)));
    }
}

#[test]
fn a_lifetime_that_ends_in_a_lease_is_told_at_once() {
    let mut pool = Driver::<Exclusive<u32>>::new(Policy {
        max_lifetime: Some(SECOND),
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    });
    let lease = pool.lend_one(1);
    pool.state.listen(true);
    pool.pass(2 * SECOND);
    let events = pool.state.take_events();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Retired]);
    pool.release(lease);
    assert_eq!(pool.closing, [(lease, CloseCause::Lifetime)]);
}
