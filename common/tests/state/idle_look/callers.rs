//! Callers that come while an idle connection is looked at: they wait for it instead of dialing.

use pool_common::Policy;
use pool_common::event::CloseCause::{Lost, MakeRoom};
use pool_common::policy::{AtLimit, Dial, OrphanDial, WaiterOrder};
use pool_common::state::{ConnectionId, Fitness, Refusal, Want};

use super::{Plain, SECOND, begin, one_idle};
use crate::driver::Outcome;

#[test]
fn a_waiter_that_comes_during_a_look_is_given_the_connection_if_it_is_good() {
    for gone in [false, true] {
        let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
        let mut pool = Plain::new(policy);
        let id = pool.lend_one(1);
        pool.release(id);
        pool.pass(SECOND);
        let (mut place, mut places) = (0, 1);
        let lent =
            pool.state.take_for_look(&mut place, &mut places, pool.now, pool.now).expect("idle");
        pool.acquire_as(1, Want::default()).waiter();
        pool.state.put_back(lent, gone, pool.now);
        pool.settle();
        let served = pool.state.status().leased == 1;
        assert_eq!(served, !gone, "{}", pool.state.status());
        assert_eq!(pool.closing.len(), usize::from(gone));
    }
}

#[test]
fn no_caller_is_refused_because_of_a_look() {
    let at_limit = AtLimit::Fail;
    let policies = [
        (1, Policy { at_limit, max_open_per_key: Some(1), ..Policy::default() }),
        (2, Policy { at_limit, max_open: Some(1), ..Policy::default() }),
    ];
    for (key, policy) in policies {
        let (mut pool, id) = one_idle(policy);
        let lent = begin(&mut pool);
        let waiter = pool.acquire(key).waiter();
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        if key == 1 {
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
        } else {
            assert_eq!(pool.closing, [(id, MakeRoom)]);
        }
    }
}

#[test]
fn a_look_leaves_room_for_one_more_to_wait() {
    let (max_waiters, max_open_per_key) = (Some(1), Some(1));
    let (mut pool, id) = one_idle(Policy { max_waiters, max_open_per_key, ..Policy::default() });
    let lent = begin(&mut pool);
    let first = pool.acquire(1).waiter();
    // Without the look, the first would have the connection, and this one would be the first to wait.
    let _second = pool.acquire(1).waiter();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.collect(first), Some(Outcome::Lent(id)));
}

const DIALS: [Dial; 4] = [Dial::Caller, Dial::Detached, Dial::Racing, Dial::Shared];

#[test]
fn a_caller_that_comes_during_a_look_does_not_dial() {
    for dial in DIALS {
        let (mut pool, id) = one_idle(Policy { dial, max_open_per_key: None, ..Policy::default() });
        let dials = pool.state.stats().dials;
        let lent = begin(&mut pool);
        let waiter = pool.acquire(1).waiter();
        pool.state.check_invariants().expect("while it is looked at");
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)), "{dial:?}");
        assert_eq!(pool.state.stats().dials, dials, "{dial:?}");
    }
}

#[test]
fn a_caller_whose_look_ends_badly_gets_a_dial_at_once() {
    for dial in DIALS {
        for panics in [false, true] {
            let policy = Policy { dial, max_open_per_key: None, ..Policy::default() };
            let (mut pool, _) = one_idle(policy);
            let lent = begin(&mut pool);
            let waiter = pool.acquire(1).waiter();
            if panics {
                let unfit = Fitness::Unfit(Lost);
                pool.state.release(lent.id, None, unfit, pool.now);
            } else {
                pool.state.put_back(lent, true, pool.now);
            }
            pool.settle();
            assert_eq!(pool.closing.len(), usize::from(!panics), "its goodbye is not over");
            let dial = match pool.collect(waiter) {
                Some(Outcome::Dial(dial)) => dial,
                nothing => {
                    assert_eq!(nothing, None);
                    pool.only_dial()
                }
            };
            pool.dialed(dial);
        }
    }
}

#[test]
fn a_second_caller_during_one_look_dials() {
    for dial in DIALS {
        let (mut pool, id) = one_idle(Policy { dial, max_open_per_key: None, ..Policy::default() });
        let lent = begin(&mut pool);
        let first = pool.acquire(1).waiter();
        pool.acquire(1);
        assert_eq!(pool.background.len() + pool.by_callers.len(), 1, "{dial:?}");
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        assert_eq!(pool.collect(first), Some(Outcome::Lent(id)), "{dial:?}");
    }
}

#[test]
fn one_look_is_a_reason_to_wait_for_one_caller() {
    let at_limit = AtLimit::Fail;
    let policies = [
        (1, Policy { at_limit, max_open_per_key: Some(1), ..Policy::default() }),
        (2, Policy { at_limit, max_open: Some(1), ..Policy::default() }),
    ];
    for (key, policy) in policies {
        let (mut pool, _) = one_idle(policy);
        let lent = begin(&mut pool);
        pool.acquire(key).waiter();
        assert_eq!(pool.acquire(key), Outcome::Refused(Refusal::Exhausted), "key {key}");
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
    }
}

#[test]
fn a_caller_that_insists_on_a_new_connection_gets_the_slot_after_a_look() {
    let fresh = Want { fresh: true, again: false };
    for at_limit in [AtLimit::Wait, AtLimit::Fail] {
        for limits in [(Some(1), None), (None, Some(1))] {
            let (max_open_per_key, max_open) = limits;
            let policy = Policy { at_limit, max_open_per_key, max_open, ..Policy::default() };
            let (mut pool, id) = one_idle(policy);
            let lent = begin(&mut pool);
            pool.acquire_as(1, fresh).waiter();
            pool.state.put_back(lent, false, pool.now);
            pool.settle();
            assert_eq!(pool.closing, [(id, MakeRoom)], "{at_limit:?} {limits:?}");
            pool.finish_closing();
            pool.only_dial();
        }
    }
}

#[test]
fn a_look_does_not_skip_the_turn_of_another_key() {
    for other_first in [false, true] {
        let (mut pool, id) = one_idle(Policy { max_open: Some(1), ..Policy::default() });
        let lent = begin(&mut pool);
        let keys = if other_first { [2, 1] } else { [1, 2] };
        let [own, other] = {
            let waiters = keys.map(|key| pool.acquire(key).waiter());
            if other_first { [waiters[1], waiters[0]] } else { waiters }
        };
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        if other_first {
            assert_eq!(pool.closing, [(id, MakeRoom)]);
            pool.finish_closing();
            let dial = pool.only_dial();
            pool.dialed(dial);
            assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
        } else {
            assert_eq!(pool.collect(own), Some(Outcome::Lent(id)));
        }
    }
}

#[test]
fn a_look_that_has_its_caller_is_no_reason_for_another_key_to_wait() {
    let policy = Policy { at_limit: AtLimit::Fail, max_open: Some(1), ..Policy::default() };
    let (mut pool, _) = one_idle(policy);
    let lent = begin(&mut pool);
    pool.acquire(1).waiter();
    assert_eq!(pool.acquire(2), Outcome::Refused(Refusal::Exhausted));
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn a_caller_that_waits_for_a_look_needs_no_slot_of_another_key() {
    let max_open = Some(3);
    let policy = Policy { max_open, dial_ramp: None, max_open_per_key: None, ..Policy::default() };
    let mut pool = Plain::new(policy);
    let all = [pool.lend_one(1), pool.lend_one(2), pool.lend_one(2)];
    for id in all {
        pool.release(id);
    }
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    assert_eq!(lent.id, all[0]);
    pool.acquire(1).waiter();
    pool.acquire(1).waiter();
    assert_eq!(pool.closing.len(), 1, "one caller lacks a place");
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn a_caller_that_insists_on_a_new_connection_needs_one_slot() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(2), ..Policy::default() });
    for id in pool.lend(1, 2) {
        pool.release(id);
    }
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    pool.acquire_as(1, Want { fresh: true, again: false }).waiter();
    assert_eq!(pool.closing.len(), 1);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.closing.len(), 1);
    assert_eq!(pool.state.status().idle, 1, "it is not lent to who insists");
    pool.finish_closing();
    pool.only_dial();
}

#[test]
fn a_caller_beyond_a_look_has_one_dial_and_keeps_it() {
    for waiter_order in [WaiterOrder::Arrival, WaiterOrder::Random] {
        for adopt_dials in [false, true] {
            for seed in 0..16 {
                for orphan_dial in [OrphanDial::Kept, OrphanDial::Stopped, OrphanDial::Dropped] {
                    let (max_open_per_key, dial_ramp) = (None, None);
                    let unbound = Policy { max_open_per_key, dial_ramp, ..Policy::default() };
                    let racing = Policy { dial: Dial::Racing, adopt_dials, ..unbound };
                    let policy = Policy { orphan_dial, waiter_order, ..racing };
                    let (mut pool, _) = with_seed(policy, seed);
                    let lent = begin(&mut pool);
                    let waiters = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
                    let dial = pool.only_dial();
                    pool.state.put_back(lent, false, pool.now);
                    pool.settle();
                    let served = waiters.map(|waiter| pool.collect(waiter).is_some());
                    assert_eq!(pool.only_dial(), dial, "{waiter_order:?} {adopt_dials} {seed}");
                    assert!(served[0] || waiter_order == WaiterOrder::Random, "{served:?}");
                    pool.dialed(dial);
                    let other = waiters[usize::from(served[0])];
                    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
                }
            }
        }
    }
}

#[test]
fn a_dial_beyond_a_look_is_for_the_caller_that_the_look_does_not_serve() {
    let policy = Policy { dial: Dial::Racing, adopt_dials: false, ..Policy::default() };
    let (orphan_dial, dial_ramp) = (OrphanDial::Kept, None);
    let mut pool = Plain::new(Policy { orphan_dial, dial_ramp, ..policy });
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    let [first, second] = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
    let dial = pool.only_dial();
    // Another connection comes back before the look ends badly: both callers are still served.
    pool.release(ids[1]);
    assert_eq!(pool.collect(first), Some(Outcome::Lent(ids[1])));
    pool.state.put_back(lent, true, pool.now);
    pool.settle();
    assert_eq!(pool.only_dial(), dial);
    pool.dialed(dial);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(dial)));
}

/// Like `one_idle`, but for a pool with another seed.
fn with_seed(policy: Policy, seed: u64) -> (Plain, ConnectionId) {
    let mut pool = Plain::new(policy.clone());
    pool.state = pool_common::state::State::new(policy, seed).expect("a valid policy");
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(SECOND);
    (pool, id)
}

#[test]
fn one_draw_decides_what_becomes_of_a_connection_after_a_look() {
    let (waiter_order, max_open_per_key) = (WaiterOrder::Random, Some(1));
    let policy = Policy { waiter_order, max_open_per_key, ..Policy::default() };
    let mut made_way = 0;
    for seed in 0..64 {
        let (mut pool, id) = with_seed(policy.clone(), seed);
        let lent = begin(&mut pool);
        let plain = pool.acquire(1).waiter();
        let fresh = pool.acquire_as(1, Want { fresh: true, again: false }).waiter();
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        // The connection makes way for the caller that insists on a new one, or serves the other caller.
        assert_eq!(pool.collect(fresh), None, "seed {seed}: an old connection");
        match pool.collect(plain) {
            Some(served) => assert_eq!((served, pool.closing.len()), (Outcome::Lent(id), 0)),
            None => assert_eq!(pool.closing, [(id, MakeRoom)]),
        }
        made_way += pool.closing.len();
    }
    assert!((8..56).contains(&made_way), "both are drawn: {made_way} of 64");
}

#[test]
fn a_caller_that_waits_for_a_look_does_not_wait_at_a_limit() {
    let per_key = Policy { max_open_per_key: Some(1), ..Policy::default() };
    let in_total = Policy { max_open: Some(1), ..Policy::default() };
    for (key, policy) in [(1, per_key), (1, in_total.clone()), (2, in_total)] {
        let limit = if policy.max_open.is_some() { "max_open" } else { "max_open_per_key" };
        let (mut pool, _) = one_idle(policy);
        let lent = begin(&mut pool);
        let first = pool.acquire(key).waiter();
        assert_eq!(pool.state.limit_reached(first), None, "{limit}, key {key}");
        let second = pool.acquire(key).waiter();
        assert_eq!(pool.state.limit_reached(second), Some((limit, 1)), "key {key}");
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
    }
}

#[test]
fn a_key_that_was_served_after_a_look_goes_behind_the_keys_that_wait() {
    let mut pool = Plain::new(Policy { max_open: Some(2), dial_ramp: None, ..Policy::default() });
    let [first, second] = [pool.lend_one(1), pool.lend_one(2)];
    pool.release(first);
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    // The second waiter of key 1 and that of key 3 lack a place, in this order.
    let [served, behind] = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
    let other = pool.acquire(3).waiter();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.collect(served), Some(Outcome::Lent(first)));
    // Key 1 has had a turn: the next place is for key 3.
    pool.release(second);
    assert_eq!(pool.closing, [(second, MakeRoom)]);
    pool.finish_closing();
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
    pool.release(first);
    assert_eq!(pool.collect(behind), Some(Outcome::Lent(first)));
}

/// The caller that insists on a new connection has its place from a connection that is closing.
#[test]
fn a_look_serves_the_first_caller_that_takes_an_old_connection() {
    let fresh = Want { fresh: true, again: false };
    let policy = Policy { max_open_per_key: Some(3), dial: Dial::Racing, ..Policy::default() };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 3);
    ids.iter().for_each(|id| pool.release(*id));
    pool.pass(SECOND);
    pool.begin_look(1);
    pool.begin_look(2);
    let insists = pool.acquire_as(1, fresh).waiter();
    assert_eq!(pool.closing.len(), 1, "one makes way");
    let takes_any = pool.acquire(1).waiter();
    pool.end_look(0, false);
    assert_eq!(pool.collect(insists), None);
    assert!(matches!(pool.collect(takes_any), Some(Outcome::Lent(_))));
    pool.finish_looks();
    pool.finish_closing();
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(insists), Some(Outcome::Lent(dial)));
}

/// Two connections take long to close, and two callers wait: a connection out of a look serves one of them.
#[test]
fn no_caller_waits_beside_a_connection_that_a_look_has_left_idle() {
    let fresh = Want { fresh: true, again: false };
    let policy = Policy { max_open_per_key: Some(4), dial: Dial::Racing, ..Policy::default() };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 4);
    pool.release(ids[2]);
    pool.pass(SECOND);
    pool.begin_look(2);
    assert_eq!(pool.looks.len(), 1);
    pool.release_as(ids[0], Fitness::Unfit(Lost));
    pool.release_as(ids[1], Fitness::Unfit(Lost));
    let insists = pool.acquire_as(1, fresh).waiter();
    let takes_any = pool.acquire(1).waiter();
    pool.end_look(0, false);
    assert_eq!(pool.collect(takes_any), Some(Outcome::Lent(ids[2])));
    assert_eq!(pool.collect(insists), None, "its place is coming");
    pool.state.check_invariants().expect("no caller waits beside an idle connection");
}

/// The caller that waits for the look came first; the dial of the one behind it is refused.
#[test]
fn a_caller_whose_dial_failed_stays_behind_one_that_waits_for_a_look() {
    for dial in [Dial::Detached, Dial::Racing] {
        let orphan_dial = OrphanDial::Kept;
        let mut pool =
            Plain::new(Policy { dial, dial_ramp: None, orphan_dial, ..Policy::default() });
        let id = pool.lend_one(1);
        pool.release(id);
        pool.pass(SECOND);
        pool.begin_look(0);
        let first = pool.acquire(1).waiter();
        let second = pool.acquire(1).waiter();
        let refused = pool.only_dial();
        pool.dial_failed(refused, Some("refused"));
        pool.end_look(0, false);
        assert_eq!(pool.collect(first), Some(Outcome::Lent(id)), "{dial:?}");
        assert_eq!(pool.collect(second), None, "{dial:?}");
    }
}
