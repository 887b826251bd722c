//! The floor of a key whose peer does not answer.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{Fitness, PATIENCE, Refusal};
use pool_common::{Exclusive, Limits, Policy};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;

const MINUTE: Duration = Duration::from_secs(60);

fn floor(floor: Floor) -> Policy {
    Policy { min_idle: 2, floor, dial: Dial::Caller, dial_ramp: None, ..Policy::default() }
}

/// Every dial fails, for `time`. Returns how many there were.
fn fail_for(pool: &mut Plain, time: Duration) -> usize {
    let mut failed = 0;
    let end = pool.now.after(time);
    while pool.now < end {
        for id in pool.background.clone() {
            failed += 1;
            pool.dial_failed(id, Some("refused"));
        }
        pool.pass(Duration::from_secs(1));
    }
    failed
}

/// The floor is dialed for an hour, each pause longer, and then not any more.
fn assert_is_given_up(pool: &mut Plain, kind: Floor) {
    let dials = fail_for(pool, PATIENCE);
    assert!(dials >= 50, "{kind:?}: {dials} dials");
    let fails_fast = pool.state.policy().after_failed_dial == AfterFailedDial::FailFast;
    assert!(fails_fast || dials < 80, "{kind:?}: {dials} dials, about one a minute");
    fail_for(pool, 2 * MINUTE);
    assert_eq!(fail_for(pool, PATIENCE), 0, "{kind:?}");
    assert_eq!(pool.state.known_keys(), 0, "{kind:?}: forgotten");
}

#[test]
fn a_floor_that_no_caller_asks_for_is_dialed_for_an_hour_and_then_given_up() {
    for kind in [Floor::Kept, Floor::Once] {
        let mut pool = Plain::new(floor(kind));
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        assert_is_given_up(&mut pool, kind);
    }
}

#[test]
fn a_caller_of_the_key_revives_its_floor() {
    let policy = Policy { after_failed_dial: AfterFailedDial::Tell, ..floor(Floor::Kept) };
    let mut pool = Plain::new(policy);
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    fail_for(&mut pool, PATIENCE + MINUTE);
    assert!(pool.background.is_empty());
    let Outcome::Dial(own) = pool.acquire(1) else { panic!("the caller dials for itself") };
    pool.dialed(own);
    assert_eq!(pool.background.len(), 2, "and the floor is dialed");
}

#[test]
fn an_outage_of_a_few_minutes_after_a_quiet_day_does_not_cost_the_floor() {
    let mut pool = Plain::new(Policy {
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..floor(Floor::Kept)
    });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    while let Some(id) = pool.background.first().copied() {
        pool.dialed(id);
    }
    // All requests find a connection, so nothing is dialed for hours.
    for _ in 0..100 {
        let id = pool.acquire(1).lent();
        pool.release(id);
        pool.pass(10 * MINUTE);
        for id in pool.background.clone() {
            pool.dialed(id);
        }
        pool.finish_closing();
    }
    pool.state.retire_all_now(pool.now);
    pool.settle();
    pool.finish_closing();
    assert!(fail_for(&mut pool, 15 * MINUTE) > 10);
    pool.pass(2 * MINUTE);
    assert!(!pool.background.is_empty(), "it is still being dialed");
}

#[test]
fn a_key_that_failed_fast_is_probed_for_an_hour_and_then_forgotten() {
    let policy = Policy {
        after_failed_dial: AfterFailedDial::FailFast,
        back_off_after: 1,
        dial: Dial::Caller,
        ..Policy::default()
    };
    let mut pool = Plain::new(policy);
    let own = pool.acquire(1).dial();
    pool.dial_failed(own, Some("refused"));
    assert!(fail_for(&mut pool, PATIENCE) > 600, "probed again and again");
    fail_for(&mut pool, 2 * MINUTE);
    assert_eq!(fail_for(&mut pool, PATIENCE), 0);
    assert_eq!(pool.state.known_keys(), 0);
    let own = pool.acquire(1).dial();
    pool.dialed(own);
}

/// Probes took the place of refills, which alone could give the floor up; with a floor that holds
/// once, each hour of probes ended in another refill.
#[test]
fn a_floor_whose_key_failed_fast_was_never_given_up() {
    for kind in [Floor::Kept, Floor::Once] {
        let mut pool =
            Plain::new(Policy { after_failed_dial: AfterFailedDial::FailFast, ..floor(kind) });
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        assert_is_given_up(&mut pool, kind);
        let own = pool.acquire(1).dial();
        pool.dialed(own);
        assert_eq!(pool.background.len(), 2, "{kind:?}: whoever asks wakes the floor");
    }
}

/// Without a floor, the fast path does not note that a caller asked for the key.
#[test]
fn a_floor_that_came_back_was_given_up_although_callers_had_used_its_key() {
    let mut pool = Plain::new(Policy {
        min_idle: 1,
        max_open_per_key: Some(2),
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..floor(Floor::Kept)
    });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    pool.dialed(pool.background[0]);
    let mut held = pool.acquire(1).lent();
    pool.dial_failed(pool.background[0], Some("refused"));
    let change = |pool: &mut Plain, min_idle, max_open| {
        let max_open_per_key = Some(max_open);
        let limits = Limits { min_idle, max_open_per_key, ..pool.state.policy().limits() };
        pool.state.set_limits(limits, pool.now).expect("limits that make sense");
        pool.settle();
    };
    change(&mut pool, 0, 1);
    let end = pool.now.after(PATIENCE + 2 * MINUTE);
    while pool.now < end {
        let waiter = pool.acquire(1).waiter();
        pool.pass(MINUTE);
        pool.release_or_hand_over(held);
        held = pool.leases[0].0;
        assert_eq!(pool.left, Some(waiter), "it was handed over");
    }
    assert!(pool.background.is_empty(), "there is no floor");
    change(&mut pool, 1, 2);
    assert_eq!(pool.background.len(), 1, "there is one again");
    // The peer is gone.
    pool.release_as(held, Fitness::Unfit(CloseCause::Broken));
    pool.finish_closing();
    pool.dial_failed(pool.background[0], Some("refused"));
    pool.pass(MINUTE);
    assert_eq!(pool.background.len(), 1, "somebody asked a moment ago: it is dialed again");
}

/// A reserve whose floor was given up counted forever as one that is being replaced.
#[test]
fn a_floor_that_was_given_up_while_it_was_remade_left_its_reserve_behind() {
    let mut pool = Plain::new(Policy { min_idle: 1, ..floor(Floor::Kept) });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    pool.dialed(pool.background[0]);
    pool.state.retire_all(pool.now);
    pool.settle();
    assert_eq!(pool.state.status().idle, 1, "the old one serves until its successor is there");
    // The peer is gone. The old one expires, the floor is given up, the key is forgotten.
    fail_for(&mut pool, 2 * MINUTE);
    pool.finish_closing();
    assert_eq!(pool.state.status().idle, 0);
    fail_for(&mut pool, PATIENCE + 2 * MINUTE);
    assert!(pool.background.is_empty());
    assert_eq!(pool.state.known_keys(), 0);
}

/// Between two of its dials the failures of a key were forgotten, and the hour began again.
#[test]
fn floors_that_take_turns_at_the_limit_were_never_given_up() {
    let mut pool = Plain::new(Policy { max_open: Some(2), ..floor(Floor::Kept) });
    for key in [1, 2] {
        pool.state.warm_up(&key, pool.now);
        pool.settle();
    }
    // A peer that does not answer: each dial takes its whole time.
    let end = pool.now.after(2 * PATIENCE);
    while pool.now < end {
        for id in pool.background.clone() {
            pool.dial_failed(id, Some("timed out"));
        }
        pool.pass(Duration::from_secs(10));
    }
    assert!(pool.background.is_empty(), "still dialed: {:?}", pool.state.status());
    assert_eq!(pool.state.known_keys(), 0);
}

#[test]
fn floors_that_were_denied_and_forgotten_piled_up() {
    let mut pool =
        Plain::new(Policy { max_open: Some(3), at_limit: AtLimit::Fail, ..floor(Floor::Once) });
    // The second of them goes on waiting for the rest of its floor.
    for key in [1, 2] {
        pool.state.warm_up(&key, pool.now);
        pool.settle();
        while let Some(&dial) = pool.background.first() {
            pool.dialed(dial);
        }
    }
    let held = [1, 1, 2].map(|key| pool.acquire(key).lent());
    for turn in 0..1_000 {
        let key = 3 + u8::try_from(turn % 200).expect("a few");
        assert_eq!(pool.acquire(key), Outcome::Refused(Refusal::Exhausted));
    }
    assert_eq!(pool.state.known_keys(), 2);
    let text = format!("{:?}", pool.state);
    let at = text.find("denied_floors: [").expect("a queue");
    let end = text[at..].find(']').expect("its end");
    assert!(end < 3_000, "the queue has grown to {end} bytes of text");
    pool.release_as(held[0], Fitness::Unfit(CloseCause::Broken));
    pool.finish_closing();
    assert_eq!(pool.background.len(), 1, "the second floor is completed");
}

/// How a caller leaves that the limit over all keys denied a connection of its key.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Refused,
    Cancels,
    TimesOut,
}

#[test]
fn floor_of_a_key_is_dialed_after_its_first_caller_left_a_full_pool() {
    for leaves in [Leaves::Refused, Leaves::Cancels, Leaves::TimesOut] {
        let at_limit = match leaves {
            Leaves::Refused => AtLimit::Fail,
            Leaves::Cancels | Leaves::TimesOut => AtLimit::Wait,
        };
        let policy = Policy { max_open: Some(2), min_idle: 1, at_limit, ..floor(Floor::Kept) };
        let mut pool = Plain::new(policy);
        let held = pool.lend(1, 2);
        let deadline = pool.now.after(Duration::from_secs(1));
        match (leaves, pool.acquire_until(2, Default::default(), deadline)) {
            (Leaves::Refused, refused) => {
                assert_eq!(refused, Outcome::Refused(Refusal::Exhausted));
            }
            (Leaves::Cancels, outcome) => pool.cancel(outcome.waiter()),
            (Leaves::TimesOut, outcome) => {
                pool.pass(Duration::from_secs(2));
                assert_eq!(pool.collect(outcome.waiter()), Some(Outcome::TimedOut));
            }
        }
        for id in held {
            pool.release_as(id, Fitness::Unfit(CloseCause::Broken));
        }
        pool.finish_closing();
        for dial in pool.background.clone() {
            pool.dialed(dial);
        }
        let mut keys: Vec<_> =
            pool.state.live_connections().filter_map(|id| pool.state.key_of(id)).collect();
        keys.sort_unstable();
        assert_eq!(keys, [&1, &2], "{leaves:?}");
    }
}

/// Three floors of one connection each, while only two connections may be idle. A leased connection
/// comes back to the room that it left in the idle limit. If the pool gave this room to another floor
/// meanwhile, each lease would cost a dial and a close.
#[test]
fn leases_of_one_key_do_not_move_the_floors_of_others() {
    let mut pool = Plain::new(Policy { min_idle: 1, max_idle: Some(2), ..floor(Floor::Kept) });
    for key in [1, 2, 3] {
        pool.state.warm_up(&key, pool.now);
        pool.settle();
        while let Some(&dial) = pool.background.first() {
            pool.dialed(dial);
        }
    }
    for turn in 0..100 {
        let before = pool.state.stats().dials;
        let id = pool.acquire(1).lent();
        while let Some(&dial) = pool.background.first() {
            pool.dialed(dial);
        }
        pool.release(id);
        pool.finish_closing();
        // The first lease takes the only idle connection of its key, and the key's own floor is refilled.
        let dials = pool.state.stats().dials - before;
        assert_eq!(dials, u64::from(turn == 0), "turn {turn}");
    }
}

/// A refill is started by a timer, which is precise; its end has the time of a clock that trails the timer.
#[test]
fn refills_that_fail_within_a_tick_of_the_clock_pause_longer_each_time() {
    for how in ["ends at once", "is lost", "fails"] {
        let mut pool = Plain::new(Policy { min_idle: 1, ..floor(Floor::Kept) });
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        let mut pause = Duration::ZERO;
        for round in 0..6 {
            let began = pool.now;
            // The clock is behind the timer by three milliseconds.
            pool.now = Timestamp::from_nanos(began.as_nanos() - 3_000_000);
            let dial = pool.only_dial();
            match how {
                "is lost" => pool.dial_lost(dial),
                "fails" => pool.dial_failed(dial, Some("refused")),
                _ => {
                    pool.dialed(dial);
                    pool.state.retire(dial, CloseCause::Gone, pool.now);
                    pool.settle();
                    pool.finish_closing();
                }
            }
            while pool.background.is_empty() {
                pool.now = pool.now.max(pool.state.next_deadline());
                pool.state.handle_timeout(pool.now);
                pool.settle();
            }
            let longer = pool.now.since(began);
            assert!(longer > pause.mul_f64(1.5), "{how}, round {round}: {pause:?}, {longer:?}");
            pause = longer;
        }
    }
}

#[test]
fn one_refused_refill_does_not_slow_down_the_refills_after_it() {
    let mut pool = Plain::new(Policy { min_idle: 5, ..floor(Floor::Kept) });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    let refused = pool.only_dial();
    pool.dial_failed(refused, Some("refused"));
    pool.pass(Duration::from_secs(1));
    while let Some(&dial) = pool.background.first() {
        pool.dialed(dial);
    }
    assert_eq!(pool.state.status().idle, 5);
    pool.pass(MINUTE);
    let leases = pool.lend(1, 4);
    assert_eq!(pool.background.len(), leases.len(), "all of them at once");
}

#[test]
fn floor_whose_connections_may_not_be_idle_is_dialed_ever_more_slowly() {
    for limit in [Duration::ZERO, Duration::from_millis(5)] {
        let mut pool = Plain::new(Policy { min_idle: 1, ..Policy::default() });
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        let start = pool.now;
        while pool.now.since(start) < MINUTE {
            while let Some(dial) = pool.background.first().copied() {
                pool.set_idle_limit(dial, limit);
                pool.dialed(dial);
                pool.finish_closing();
                assert!(pool.state.stats().dials < 20, "limit {limit:?}: a storm");
            }
            pool.pass(Duration::from_millis(10));
            pool.finish_closing();
        }
        assert!(pool.state.stats().dials > 5, "limit {limit:?}: it is tried again");
    }
}

#[test]
fn floor_that_holds_once_is_not_dialed_when_it_is_gone() {
    for lost in [false, true] {
        let policy = Policy { min_idle: 1, floor: Floor::Once, ..Policy::default() };
        let mut pool = Plain::new(policy);
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        let limits = Limits { min_idle: 0, ..pool.state.policy().limits() };
        pool.state.set_limits(limits, pool.now).expect("valid");
        pool.settle();
        let dial = pool.only_dial();
        if lost {
            pool.dial_lost(dial);
        } else {
            pool.dial_failed(dial, Some("refused"));
        }
        pool.pass(10 * MINUTE);
        assert_eq!(pool.background, [], "lost {lost}");
        assert_eq!(pool.state.known_keys(), 0, "lost {lost}");
    }
}
