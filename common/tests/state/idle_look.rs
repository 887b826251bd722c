//! Looks at idle connections between leases: at the level of single decisions.

use std::time::Duration;

use pool_common::event::CloseCause::{IdleTimeout, Lost, MakeRoom, PeekFailed, Retired, Suspect};
use pool_common::policy::{AfterFailedCheck, AtLimit, Dial, Expiry, OrphanDial, WaiterOrder};
use pool_common::state::{ConnectionId, Fitness, Lent, Refusal, WaiterId, Want};
use pool_common::{Exclusive, Policy};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);

impl Plain {
    /// Looks at all that have been idle for a second, each of which may be `gone`. Returns them.
    fn look(&mut self, gone: &[ConnectionId]) -> Vec<ConnectionId> {
        let (mut place, mut places) = (0, self.state.connection_places());
        let since = pool_common::clock::Timestamp::from_nanos(
            self.now.as_nanos() - SECOND.as_nanos() as u64,
        );
        let mut looked_at = Vec::new();
        while let Some(lent) = self.state.take_for_look(&mut place, &mut places, since, self.now) {
            let id = lent.id;
            looked_at.push(id);
            self.state.check_invariants().expect("while it is looked at");
            self.state.put_back(lent, gone.contains(&id), self.now);
            self.settle();
        }
        looked_at
    }
}

fn three_idle(policy: Policy) -> (Plain, Vec<ConnectionId>) {
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 3);
    // In another order than that of their places.
    for id in [ids[1], ids[2], ids[0]] {
        pool.release(id);
        pool.pass(SECOND);
    }
    (pool, ids)
}

#[test]
fn a_look_changes_neither_the_order_nor_the_idle_time_nor_a_counter() {
    for max_open in [None, Some(10)] {
        let (mut pool, ids) = three_idle(Policy { max_open, ..Policy::default() });
        let before = (pool.state.status(), pool.state.stats());
        for _ in 0..3 {
            assert_eq!(pool.look(&[]).len(), 3);
        }
        assert_eq!((pool.state.status(), pool.state.stats()), before);
        // Newest first, as without a look; each is idle since its release.
        for id in [ids[0], ids[2], ids[1]] {
            assert_eq!(pool.acquire(1), Outcome::Lent(id));
        }
    }
}

#[test]
fn a_connection_idle_for_too_short_a_time_is_left_alone() {
    let (mut pool, ids) = three_idle(Policy::default());
    let newest = pool.acquire(1).lent();
    pool.release(newest);
    assert_eq!(pool.look(&[]), [ids[1], ids[2]]);
}

#[test]
fn a_connection_whose_peer_has_gone_is_closed() {
    let (mut pool, ids) = three_idle(Policy::default());
    pool.look(&[ids[1], ids[0]]);
    let mut closing = pool.closing.clone();
    closing.sort_by_key(|(id, _)| id.as_u64());
    assert_eq!(closing, [(ids[0], PeekFailed), (ids[1], PeekFailed)]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[2]));
}

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
fn a_pool_that_is_closed_during_a_look_closes_the_connection() {
    let (mut pool, _) = three_idle(Policy::default());
    let (mut place, mut places) = (0, 3);
    let lent = pool.state.take_for_look(&mut place, &mut places, pool.now, pool.now).expect("idle");
    pool.state.close(pool.now);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.closing.len(), 3);
}

/// Takes the only idle connection out for a look.
fn begin(pool: &mut Plain) -> Lent<Exclusive<u32>> {
    let (mut place, mut places) = (0, pool.state.connection_places());
    let now = pool.now;
    pool.state.take_for_look(&mut place, &mut places, now, now).expect("idle")
}

fn one_idle(policy: Policy) -> (Plain, ConnectionId) {
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(SECOND);
    (pool, id)
}

#[test]
fn a_connection_that_is_looked_at_counts_as_idle() {
    let (mut pool, _) = one_idle(Policy::default());
    let before = pool.state.status();
    let lent = begin(&mut pool);
    assert_eq!(pool.state.status(), before);
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn nobody_is_refused_because_of_a_look() {
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

#[test]
fn what_is_past_its_time_is_left_to_the_policy() {
    let (limit, expiry) = (Some(SECOND), Expiry::AtAcquire);
    let idle = Policy { idle_timeout: limit, expiry, ..Policy::default() };
    let lifetime_jitter = Duration::ZERO;
    let old = Policy { max_lifetime: limit, lifetime_jitter, expiry, ..Policy::default() };
    for policy in [idle, old] {
        let (mut pool, _) = one_idle(policy);
        pool.state.listen(true);
        // Its time passes while it is looked at.
        let lent = begin(&mut pool);
        pool.now = pool.now.after(SECOND);
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        assert!(pool.look(&[]).is_empty(), "it is past its time");
        assert_eq!(pool.state.take_events().len(), 0);
        assert_eq!(pool.state.status().idle, 1);
    }
}

#[test]
fn a_limit_that_is_set_during_a_look_is_watched_after_it() {
    let (mut pool, id) = one_idle(Policy::default());
    let lent = begin(&mut pool);
    pool.set_idle_limit(id, 3 * SECOND);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    pool.pass(3 * SECOND);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
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
fn a_caller_that_waited_for_a_look_in_vain_is_dialed_for_at_once() {
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
fn who_insists_on_a_new_connection_at_a_limit_has_the_place_after_a_look() {
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
fn the_floor_counts_what_is_looked_at() {
    let mut pool = Plain::new(Policy { min_idle: 2, max_open_per_key: None, ..Policy::default() });
    let first = pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.release(first);
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    // When an idle connection is lent, the floor is looked after.
    pool.acquire(1).lent();
    assert!(pool.background.is_empty(), "two of three are left");
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn a_look_makes_no_room_for_the_floor_of_another_key() {
    let mut pool = Plain::new(Policy { min_idle: 1, max_idle: Some(1), ..Policy::default() });
    let id = pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.release(id);
    pool.pass(SECOND);
    pool.finish_closing();
    let lent = begin(&mut pool);
    let waiter = pool.acquire(2).waiter();
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
    assert!(pool.background.is_empty(), "one idle connection is all there may be");
    pool.state.put_back(lent, false, pool.now);
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
fn the_floor_is_refilled_when_a_look_ends_in_a_lease() {
    let mut pool = Plain::new(Policy { min_idle: 1, max_open_per_key: None, ..Policy::default() });
    pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    let waiter = pool.acquire(1).waiter();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    pool.collect(waiter).expect("served").lent();
    assert_eq!(pool.background.len(), 1);
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
fn who_waits_for_a_look_needs_no_place_of_another_key() {
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
fn who_insists_on_a_new_connection_needs_one_place() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(2), ..Policy::default() });
    for id in pool.lend(1, 2) {
        pool.release(id);
    }
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    pool.acquire_as(1, Want { fresh: true, again: false }).waiter();
    assert_eq!(pool.closing.len(), 0, "the one in the look makes way");
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.closing.len(), 1);
    assert_eq!(pool.state.status().idle, 1);
    pool.finish_closing();
    pool.only_dial();
}

#[test]
fn a_connection_in_a_look_is_a_suspect_like_those_beside_it() {
    let after_failed_check = AfterFailedCheck::Distrust;
    for (later, suspect) in [(false, true), (true, false)] {
        let mut pool = Plain::new(Policy { after_failed_check, ..Policy::default() });
        let ids = pool.lend(1, 2);
        // The check of the other connection began before or after this one became idle.
        let before = pool.now;
        pool.pass(SECOND);
        pool.release(ids[0]);
        pool.pass(SECOND);
        let began = if later { before } else { pool.now };
        pool.state.listen(true);
        let lent = begin(&mut pool);
        pool.state.distrust(ids[1], began, pool.now);
        pool.settle();
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        let expected: &[_] = if suspect { &[(ids[0], Suspect)] } else { &[] };
        assert_eq!(pool.closing, expected);
        // Nothing is heard of the look.
        assert_eq!(pool.state.take_events().len(), expected.len());
    }
}

/// Of two connections the first is in a look, which a caller waits for, and the second is leased.
fn look_that_is_waited_for() -> (Plain, Vec<ConnectionId>, Lent<Exclusive<u32>>, WaiterId) {
    let after_failed_check = AfterFailedCheck::Distrust;
    let mut pool = Plain::new(Policy { after_failed_check, ..Policy::default() });
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    let waiter = pool.acquire(1).waiter();
    (pool, ids, lent, waiter)
}

#[test]
fn a_waiter_does_not_get_a_suspect_out_of_a_look() {
    let (mut pool, ids, lent, waiter) = look_that_is_waited_for();
    pool.state.distrust(ids[1], pool.now, pool.now);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!((pool.collect(waiter), pool.closing.clone()), (None, vec![(ids[0], Suspect)]));
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
}

#[test]
fn a_suspect_that_was_granted_and_not_collected_is_not_idle_again() {
    let (mut pool, ids, lent, waiter) = look_that_is_waited_for();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    pool.state.distrust(ids[1], pool.now, pool.now);
    pool.cancel(waiter);
    assert_eq!(pool.closing, [(ids[0], Suspect)]);
}

#[test]
fn a_connection_in_a_look_is_retired_with_all_others() {
    for min_idle in [0, 1] {
        for now in [false, true] {
            // The younger connection is the floor, if there is one.
            let (mut pool, id) = one_idle(Policy { min_idle, ..Policy::default() });
            pool.dials_end();
            pool.pass(SECOND);
            pool.state.listen(true);
            let lent = begin(&mut pool);
            assert_eq!(lent.id, id);
            if now {
                pool.state.retire_all_now(pool.now)
            } else {
                pool.state.retire_all(pool.now)
            }
            pool.settle();
            pool.state.put_back(lent, false, pool.now);
            pool.settle();
            assert!(pool.closing.contains(&(id, Retired)), "min_idle {min_idle}, now {now}");
            let of_it = pool.state.take_events().into_iter().filter(|e| e.connection == id);
            assert_eq!(of_it.count(), 1, "the close, and nothing of the look");
            pool.finish_closing();
            pool.dials_end();
            assert_eq!(pool.state.status().idle, min_idle);
        }
    }
}

#[test]
fn a_floor_that_is_looked_at_is_remade_before_it_goes() {
    let min_idle = 1;
    let mut pool = Plain::new(Policy { min_idle, dial: Dial::Caller, ..Policy::default() });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    pool.dials_end();
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    let old = lent.id;
    pool.state.retire_all(pool.now);
    pool.settle();
    pool.only_dial();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.closing, [], "its successor is being dialed");
    assert_eq!(pool.try_acquire(1), Some(old));
    pool.release(old);
    pool.dials_end();
    assert_eq!(pool.closing, [(old, Retired)]);
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
    // Another connection comes back before the look ends badly: both callers still have something.
    pool.release(ids[1]);
    assert_eq!(pool.collect(first), Some(Outcome::Lent(ids[1])));
    pool.state.put_back(lent, true, pool.now);
    pool.settle();
    assert_eq!(pool.only_dial(), dial);
    pool.dialed(dial);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(dial)));
}

/// As `one_idle`, of a pool with another seed.
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
        // It makes way for the caller that insists on a new connection, or serves the other one.
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
