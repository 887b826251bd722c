//! A dial that hangs holds up no caller that could have a second one.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{Fitness, Want};
use pool_common::{Exclusive, Policy, Shared, profile};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const MILLI: Duration = Duration::from_millis(1);
/// The default of `dial_hedge`.
const HEDGE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const FRESH: Want = Want { fresh: true, again: false };

/// Dial 1 hangs and its caller leaves after 200 ms. Returns how many milliseconds the next caller
/// waits, while every later dial takes 2 ms.
fn wait_after_a_hanging_dial<L: pool_common::Lending<Connection = u32>>(policy: Policy) -> u32 {
    let mut pool = Driver::<L>::new(policy);
    let hanging = match pool.acquire(1) {
        Outcome::Wait(first) => {
            let hanging = pool.background[0];
            pool.pass(200 * MILLI);
            pool.cancel(first);
            Some(hanging)
        }
        Outcome::Dial(own) => {
            pool.pass(200 * MILLI);
            pool.dial_failed(own, None);
            None
        }
        other => panic!("{other:?}"),
    };
    pool.finish_stopping();
    let mut next = match pool.acquire(1) {
        Outcome::Wait(waiter) => waiter,
        Outcome::Dial(_) => return 2,
        other => panic!("{other:?}"),
    };
    for waited in 1..1_000 {
        let dials: Vec<_> =
            pool.background.iter().copied().filter(|dial| Some(*dial) != hanging).collect();
        pool.pass(2 * MILLI);
        pool.finish_stopping();
        for dial in
            dials.into_iter().filter(|dial| pool.background.contains(dial)).collect::<Vec<_>>()
        {
            pool.dialed(dial);
        }
        match pool.collect(next) {
            Some(Outcome::Lent(_)) => return 2 * waited,
            Some(Outcome::Retry) => next = pool.acquire(1).waiter(),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("not served within two seconds");
}

#[test]
fn a_hedge_serves_the_waiter_that_is_held_up_before_waiters_that_came_later() {
    let policy = Policy {
        max_open_per_key: Some(2),
        orphan_dial: OrphanDial::Kept,
        dial_ramp: None,
        ..Policy::default()
    };
    let mut pool = Plain::new(policy);
    let held_up = pool.acquire(1).waiter();
    pool.pass(HEDGE);
    assert_eq!(pool.background.len(), 2, "its dial hangs, and has a hedge");
    let later = [(); 2].map(|()| pool.acquire(1).waiter());
    pool.dialed(pool.background[1]);
    assert!(matches!(pool.collect(held_up), Some(Outcome::Lent(_))));
    for waiter in later {
        assert!(pool.collect(waiter).is_none(), "a hedge is not adopted");
    }
}

#[test]
fn a_dial_that_hangs_does_not_hold_up_the_next_caller() {
    for dial in Dial::ALL {
        for dial_ramp in [None, Policy::default().dial_ramp] {
            let policy = Policy { dial: *dial, dial_ramp, ..Policy::default() };
            let waited = wait_after_a_hanging_dial::<Exclusive<u32>>(policy.clone());
            assert!(waited <= 4, "{dial:?}: {waited} ms");
            let waited = wait_after_a_hanging_dial::<Shared<u32>>(policy);
            assert!(waited <= 4, "{dial:?}, shared: {waited} ms");
        }
    }
    for profile in profile::Profile::all() {
        let name = profile.name;
        let waited = wait_after_a_hanging_dial::<Exclusive<u32>>(profile.policy.clone());
        assert!(waited <= 4, "{name}: {waited} ms");
        let waited = wait_after_a_hanging_dial::<Shared<u32>>(profile.policy);
        assert!(waited <= 4, "{name}, shared: {waited} ms");
    }
}

#[test]
fn a_waiter_whose_dial_is_overdue_gets_a_second_one() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        let waiter = pool.acquire(1).waiter();
        let hanging = pool.only_dial();
        pool.pass(HEDGE - MILLI);
        assert_eq!(pool.background, [hanging], "{dial:?}");
        pool.pass(MILLI);
        assert_eq!(pool.background.len(), 2, "{dial:?}: by a timer");
        let hedge = pool.background[1];
        pool.dialed(hedge);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(hedge)), "{dial:?}");
        // The overdue dial is not needed: it is stopped, or its connection becomes idle.
        pool.finish_stopping();
        if pool.background.contains(&hanging) {
            pool.dialed(hanging);
        }
        assert_eq!(pool.state.status().dialing, 0, "{dial:?}");
    }
}

#[test]
fn a_silent_peer_costs_two_dials_for_each_waiter_at_a_time() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        for callers in [1, 2, 50] {
            let mut pool = Plain::new(Policy { dial, max_open_per_key: None, ..Policy::default() });
            for _ in 0..callers {
                pool.acquire(1).waiter();
            }
            let mut most = 0;
            for _ in 0..950 {
                pool.pass(10 * MILLI);
                pool.finish_stopping();
                most = most.max(pool.state.status().dialing);
            }
            assert!(most <= 2 * callers, "{dial:?}: {most} dials for {callers} callers");
            let dials = pool.state.stats().dials;
            let hedges = u64::from(callers) + 10;
            assert!(dials <= u64::from(callers) + hedges, "{dial:?}: {dials} dials in 9.5 s");
        }
    }
}

#[test]
fn the_first_dial_keeps_all_of_its_time_and_its_failure_is_told() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        let waiter = pool.acquire(1).waiter();
        let first = pool.only_dial();
        for _ in 0..100 {
            pool.pass(HEDGE);
            pool.finish_stopping();
        }
        assert!(pool.background.contains(&first), "{dial:?}: it has all of dial_timeout");
        pool.dial_failed(first, Some("timed out"));
        assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("timed out")), "{dial:?}");
    }
}

#[test]
fn an_overdue_dial_that_is_refused_leaves_its_waiter_to_the_second_one() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        let waiter = pool.acquire(1).waiter();
        let first = pool.only_dial();
        pool.pass(HEDGE);
        pool.dial_failed(first, Some("reset"));
        assert_eq!(pool.collect(waiter), None, "{dial:?}: a second one is in progress");
        let second = *pool.background.last().expect("the hedge");
        pool.dialed(second);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(second)), "{dial:?}");
    }
}

#[test]
fn slow_dials_are_overdue_only_when_they_are_slower_than_usual() {
    let mut pool = Plain::new(Policy::default());
    // The first dial takes a second and is hedged, since the usual time is not known yet.
    let first = pool.acquire(1).waiter();
    let dial = pool.only_dial();
    pool.pass(SECOND);
    pool.finish_stopping();
    pool.dialed(dial);
    let one = pool.collect(first).expect("dialed").lent();
    pool.finish_stopping();
    for hedge in pool.background.clone() {
        pool.dialed(hedge);
    }
    while let Some(idle) = pool.try_acquire(1) {
        pool.release_as(
            idle,
            pool_common::state::Fitness::Unfit(pool_common::event::CloseCause::Broken),
        );
    }
    pool.finish_closing();
    let before = pool.state.stats().dials;
    let second = pool.acquire(1).waiter();
    let dial = pool.only_dial();
    pool.pass(SECOND);
    assert_eq!(pool.state.stats().dials, before + 1, "a second is usual now");
    pool.dialed(dial);
    pool.collect(second).expect("dialed").lent();
    pool.release(one);
}

#[test]
fn at_a_limit_of_one_a_dial_without_waiters_makes_room() {
    let mut pool = Streams::new(Policy { max_open_per_key: Some(1), ..profile::grpc().policy });
    let first = pool.acquire(1).waiter();
    let hanging = pool.only_dial();
    let joined = pool.acquire(1).waiter();
    pool.pass(SECOND);
    assert!(pool.stopping.is_empty(), "its callers are there");
    pool.cancel(first);
    pool.cancel(joined);
    let next = pool.acquire(1).waiter();
    assert_eq!(pool.stopping, [hanging]);
    pool.finish_stopping();
    let dial = pool.only_dial();
    pool.dialed(dial);
    let outcome = pool.collect(next);
    assert!(matches!(outcome, Some(Outcome::Lent(_) | Outcome::Retry)), "{outcome:?}");
}

#[test]
fn a_late_caller_is_not_told_the_failure_of_an_old_dial() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, dial_hedge: None, ..Policy::default() });
        let first = pool.acquire(1).waiter();
        let old = pool.only_dial();
        pool.pass(10 * SECOND - 10 * MILLI);
        let late = pool.acquire(1).waiter();
        pool.pass(10 * MILLI);
        pool.dial_failed(old, Some("timed out"));
        assert_eq!(pool.collect(first), Some(Outcome::DialFailed("timed out")), "{dial:?}");
        assert_eq!(pool.collect(late), None, "{dial:?}: it gets another dial");
        let dial = *pool.background.last().expect("the other dial");
        pool.dialed(dial);
        assert_eq!(pool.collect(late), Some(Outcome::Lent(dial)));
    }
}

/// Passes time in steps until a waiter was served, at most ten seconds. Dials that started after `back`
/// succeed in a millisecond, and earlier dials hang.
fn served_after<L: pool_common::Lending<Connection = u32>>(
    pool: &mut Driver<L>,
    waiter: pool_common::state::WaiterId,
    back: Duration,
) -> Duration {
    let hanging: Vec<_> = {
        pool.pass(back);
        pool.finish_stopping();
        pool.background.clone()
    };
    let start = pool.now;
    for _ in 0..10_000 {
        for dial in pool.background.clone() {
            if !hanging.contains(&dial) {
                pool.dialed(dial);
            }
        }
        if let Some(outcome) = pool.collect(waiter) {
            assert!(matches!(outcome, Outcome::Lent(_)), "{outcome:?}");
            return pool.now.since(start);
        }
        pool.pass(MILLI);
        pool.finish_stopping();
    }
    panic!("not served within ten seconds");
}

#[test]
fn dials_of_waiters_that_fill_the_limit_are_replaced_one_by_one() {
    for dial in [Dial::Racing, Dial::Detached] {
        for (limit, callers) in [(2, 1), (8, 8), (8, 30)] {
            let mut pool =
                Plain::new(Policy { dial, max_open_per_key: Some(limit), ..Policy::default() });
            let waiters: Vec<_> = (0..callers).map(|_| pool.acquire(1).waiter()).collect();
            let took = served_after(&mut pool, waiters[0], SECOND);
            assert!(took <= SECOND, "{dial:?}, limit {limit}: {took:?} after the peer was back");
        }
    }
}

#[test]
fn a_hedge_that_the_ramp_or_another_key_held_back_starts_later() {
    let mut pool = Plain::new(Policy { dial_ramp: Some(SECOND / 2), ..Policy::default() });
    let waiter = pool.acquire(1).waiter();
    let took = served_after(&mut pool, waiter, 110 * MILLI);
    assert!(took <= SECOND, "{took:?}: the ramp ends after half a second");

    let mut pool = Plain::new(Policy { max_dials: Some(2), ..Policy::default() });
    let waiter = pool.acquire(1).waiter();
    pool.acquire(2).waiter();
    let other = pool.background[1];
    pool.pass(150 * MILLI);
    pool.dial_failed(other, Some("refused"));
    let took = served_after(&mut pool, waiter, MILLI);
    assert!(took <= SECOND, "{took:?} after another key left room");
}

#[test]
fn a_caller_that_wants_a_fresh_connection_is_hedged_as_well() {
    let fresh = pool_common::state::Want { fresh: true, again: false };
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        let waiter = pool.acquire_as(1, fresh).waiter();
        let took = served_after(&mut pool, waiter, 10 * MILLI);
        assert!(took <= 2 * HEDGE, "{dial:?}: {took:?}");
    }
}

#[test]
fn young_dials_of_other_callers_are_no_hedge() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Detached,
        max_open_per_key: None,
        dial_ramp: None,
        ..Policy::default()
    });
    let held_up = pool.acquire(1).waiter();
    let hanging = pool.only_dial();
    let mut dials: std::collections::VecDeque<_> = Default::default();
    let mut leases = Vec::new();
    // A caller comes every 10 ms, its dial takes 30 ms, and its connection serves once.
    for _ in 0..100 {
        pool.acquire(1).waiter();
        let known: Vec<_> = dials.iter().map(|(_, dial)| *dial).collect();
        for dial in pool.background.clone() {
            if dial != hanging && !known.contains(&dial) {
                dials.push_back((pool.now.after(30 * MILLI), dial));
            }
        }
        pool.pass(10 * MILLI);
        pool.finish_stopping();
        while let Some((at, dial)) = dials.front().copied()
            && at <= pool.now
        {
            dials.pop_front();
            if pool.background.contains(&dial) {
                pool.dialed(dial);
            }
        }
        for waiter in std::mem::take(&mut pool.woken) {
            match pool.collect(waiter) {
                Some(Outcome::Lent(_)) if waiter == held_up => {
                    return;
                }
                Some(Outcome::Lent(id)) => leases.push(id),
                _ => {}
            }
        }
        for id in leases.drain(..) {
            let unfit = pool_common::event::CloseCause::Discarded;
            pool.release_as(id, pool_common::state::Fitness::Unfit(unfit));
        }
        pool.finish_closing();
    }
    panic!("the first caller was not served within a second");
}

#[test]
fn hanging_dials_without_waiters_make_room_for_another_key() {
    let mut pool = Plain::new(Policy { max_open: Some(2), ..Policy::default() });
    let waiters: Vec<_> = (0..2).map(|_| pool.acquire(1).waiter()).collect();
    pool.pass(400 * MILLI);
    waiters.into_iter().for_each(|waiter| pool.cancel(waiter));
    assert_eq!(pool.state.status().open, 2, "both hang on");
    let other = pool.acquire(2).waiter();
    pool.finish_stopping();
    let dial = *pool.background.last().expect("a dial for the other key");
    pool.dialed(dial);
    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
}

#[test]
fn the_only_dial_in_progress_is_given_up_beside_an_idle_connection() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Detached,
        max_open_per_key: Some(2),
        dial_ramp: None,
        ..Policy::default()
    });
    let first = pool.acquire(1).waiter();
    let hanging = pool.only_dial();
    let second = pool.acquire(1).waiter();
    let dial = pool.background.iter().copied().find(|dial| *dial != hanging).expect("its own");
    pool.dialed(dial);
    let lent = pool.collect(second).expect("dialed").lent();
    pool.release(lent);
    let took = served_after(&mut pool, first, HEDGE);
    assert!(took <= SECOND, "{took:?} beside an idle connection");
}

#[test]
fn a_limit_over_all_keys_does_not_stop_a_dial_that_its_callers_wait_for() {
    for with_another_key in [false, true] {
        let policy = Policy { dial: Dial::Shared, max_open: Some(1), ..Policy::default() };
        let mut pool = Streams::new(policy);
        let first = pool.acquire(1).waiter();
        let dial = pool.only_dial();
        let other = with_another_key.then(|| pool.acquire(2).waiter());
        for _ in 0..30 {
            pool.pass(10 * MILLI);
            assert!(pool.stopping.is_empty(), "another key: {with_another_key}");
        }
        match other {
            // No caller waits for the dial any more: it makes way.
            Some(other) => {
                pool.cancel(first);
                assert_eq!(pool.finish_stopping(), 1);
                let dial = pool.only_dial();
                pool.dialed(dial);
                assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
            }
            None => {
                pool.dialed(dial);
                assert_eq!(pool.collect(first), Some(Outcome::Lent(dial)));
            }
        }
    }
}

#[test]
fn a_dial_whose_last_caller_runs_out_of_time_makes_way_at_once() {
    let policy = Policy { dial: Dial::Shared, max_open: Some(1), ..Policy::default() };
    let mut pool = Streams::new(policy);
    let deadline = pool.now.after(3 * HEDGE);
    let first = pool.acquire_until(1, Want::default(), deadline).waiter();
    let other = pool.acquire(2).waiter();
    pool.pass(3 * HEDGE);
    assert_eq!(pool.collect(first), Some(Outcome::TimedOut));
    assert_eq!(pool.finish_stopping(), 1);
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
}

/// Two dials hang without a caller, and as many may be in progress for one waiter.
#[test]
fn a_later_caller_does_not_overtake_one_that_waits_for_a_hanging_dial_to_stop() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Caller,
        dial_for_waiters: DialForWaiters::Background,
        max_open_per_key: Some(3),
        dial_ramp: None,
        orphan_dial: OrphanDial::Kept,
        ..Policy::default()
    });
    let broken = || Fitness::Unfit(CloseCause::Broken);
    let ids = pool.lend(1, 3);
    let waiters = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
    ids[..2].iter().for_each(|id| pool.release_as(*id, broken()));
    pool.finish_closing();
    pool.pass(SECOND);
    for waiter in waiters {
        pool.cancel(waiter);
    }
    let first = pool.acquire(1).waiter();
    pool.release_as(ids[2], broken());
    pool.finish_closing();
    let second = pool.acquire(1).waiter();
    let dial = *pool.background.last().expect("one for the first who waits");
    pool.dialed(dial);
    assert_eq!(pool.collect(first), Some(Outcome::Lent(dial)));
    assert_eq!(pool.collect(second), None);
}

#[test]
fn the_openers_dial_stays_while_its_callers_wait_for_it() {
    let mut pool = Plain::new(Policy {
        max_open: Some(1),
        dial_hedge: Some(HEDGE),
        ..profile::database_sql().policy
    });
    let lent = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release_as(lent, Fitness::Unfit(CloseCause::Broken));
    pool.finish_closing();
    let dial = pool.only_dial();
    for _ in 0..30 {
        pool.pass(10 * MILLI);
        assert!(pool.stopping.is_empty());
    }
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
}

/// The peer refuses every dial but the first, which hangs.
#[test]
fn a_second_dial_that_is_refused_is_not_repeated_without_a_pause() {
    use AfterFailedDial::{BackOff, FailFast, Tell};
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        for after_failed_dial in [Tell, BackOff, FailFast] {
            for fresh in [false, true] {
                let policy = Policy { dial, after_failed_dial, ..Policy::default() };
                let mut pool = Streams::new(policy);
                let _waiter = pool.acquire_as(1, Want { fresh, again: false });
                let hanging = pool.only_dial();
                for _ in 0..2_000 {
                    pool.pass(MILLI);
                    for dial in pool.background.clone() {
                        if dial != hanging {
                            pool.dial_failed(dial, Some("refused"));
                        }
                    }
                }
                let dials = pool.state.stats().dials;
                let case = format!("{dial:?}, {after_failed_dial:?}, fresh {fresh}");
                // With fail-fast no hedge follows the third failure, but a probe every 100 ms.
                let most = if after_failed_dial == FailFast { 24 } else { 16 };
                assert!(dials <= most, "{case}: {dials} dials in 2 s");
            }
        }
    }
}

/// The runtime that hedges run on has ended.
#[test]
fn a_second_dial_that_is_lost_is_not_repeated_without_a_pause() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Plain::new(Policy { dial, ..Policy::default() });
        pool.acquire_as(1, FRESH).waiter();
        let hanging = pool.only_dial();
        pool.pass(HEDGE + MILLI);
        let hedge = |pool: &Plain| pool.background.iter().copied().find(|id| *id != hanging);
        pool.dial_lost(hedge(&pool).expect("it is held up"));
        assert_eq!(hedge(&pool), None, "{dial:?}: without a pause");
        pool.pass(10 * HEDGE);
        let hedge = hedge(&pool).expect("after a pause");
        pool.dialed(hedge);
        pool.state.check_invariants().expect("nothing is counted twice");
    }
}

/// Ten callers wait for dials that hang; their hedges are refused together, and then the peer is well.
#[test]
fn hedges_that_are_refused_together_are_one_try() {
    let policy = Policy {
        after_failed_dial: AfterFailedDial::Tell,
        dial_ramp: None,
        dial: Dial::Detached,
        ..Policy::default()
    };
    let mut pool = Plain::new(policy);
    let _leases = pool.lend(1, 10);
    let waiters: Vec<_> = (0..10).map(|_| pool.acquire(1).waiter()).collect();
    let hanging = pool.background.clone();
    pool.pass(HEDGE);
    let others = |pool: &Plain| {
        pool.background.iter().copied().filter(|id| !hanging.contains(id)).collect::<Vec<_>>()
    };
    let hedges = others(&pool);
    assert_eq!(hedges.len(), 10);
    for hedge in hedges {
        pool.dial_failed(hedge, Some("refused"));
    }
    pool.pass(2 * HEDGE);
    for hedge in others(&pool) {
        pool.dialed(hedge);
    }
    assert!(waiters.iter().all(|waiter| pool.woken.contains(waiter)));
}

/// The dial for all waiters was lost with its runtime, and the caller that dials in its place hangs.
#[test]
fn a_caller_that_dials_in_place_of_a_lost_dial_does_not_hold_up_the_next_caller() {
    let mut pool = Streams::new(Policy { dial: Dial::Shared, ..Policy::default() });
    let first = pool.acquire(1).waiter();
    let lost = pool.only_dial();
    pool.dial_lost(lost);
    let Some(Outcome::Dial(own)) = pool.collect(first) else {
        panic!("it is granted leave to dial");
    };
    let next = pool.acquire(1).waiter();
    assert!(pool.background.is_empty(), "it waits for the one dial");
    pool.pass(HEDGE + MILLI);
    let second = pool.only_dial();
    pool.dialed(second);
    assert!(matches!(pool.collect(next), Some(Outcome::Lent(_))));
    pool.dial_failed(own, None);
    pool.state.check_invariants().expect("nothing is counted twice");
}

/// Dials of all keys are limited. A hanging dial is stopped for another try of its waiter, and a dial of
/// another key ends first: the waiter may take the slot of that dial.
#[test]
fn a_waiter_whose_dial_makes_room_is_in_line_for_any_place() {
    let policy =
        Policy { dial: Dial::Detached, max_dials: Some(3), dial_ramp: None, ..Policy::default() };
    let mut pool = Plain::new(policy);
    for _ in 0..2 {
        pool.acquire(1).waiter();
    }
    pool.pass(MILLI);
    pool.acquire(2).waiter();
    let other = *pool.background.last().expect("three dials");
    pool.pass(HEDGE - MILLI);
    assert_eq!(pool.stopping.len(), 1);
    let before = pool.state.stats().dials;
    pool.dialed(other);
    assert_eq!(pool.state.stats().dials, before + 1);
}

/// Dials hang that start within the first four seconds, in which so many callers wait; later dials succeed at
/// once. Returns when the first caller is served.
fn first_served_after_silence(policy: Policy, callers: usize) -> Duration {
    let mut pool = Plain::new(policy);
    let start = pool.now;
    let waiters: Vec<_> = (0..callers).map(|_| pool.acquire(1).waiter()).collect();
    while pool.now.since(start) < 4 * SECOND {
        pool.pass(10 * MILLI);
        pool.finish_stopping();
    }
    let hanging = pool.background.clone();
    while pool.now.since(start) < 20 * SECOND {
        pool.finish_stopping();
        for id in pool.background.clone() {
            if !hanging.contains(&id) && !pool.stopping.contains(&id) {
                pool.dialed(id);
            }
        }
        if waiters.iter().any(|waiter| matches!(pool.collect(*waiter), Some(Outcome::Lent(_)))) {
            return pool.now.since(start);
        }
        pool.pass(10 * MILLI);
    }
    panic!("no caller is served");
}

#[test]
fn ramp_does_not_put_off_hedges() {
    for dial in [Dial::Racing, Dial::Detached] {
        for dial_ramp in [None, Some(HEDGE)] {
            let policy = Policy { dial, dial_ramp, ..Policy::default() };
            for callers in [1, 20] {
                let served = first_served_after_silence(policy.clone(), callers);
                // Hedges start after 100, 200, 400, ... ms, and the ramp may move the first of them.
                assert!(served < 8 * SECOND, "{dial:?}, {dial_ramp:?}, {callers}: {served:?}");
            }
        }
    }
}
