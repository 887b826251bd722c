//! Connections that are distrusted or retired during a look.

use pool_common::event::CloseCause::{Retired, Suspect};
use pool_common::policy::{AfterFailedCheck, Dial};
use pool_common::state::{ConnectionId, Lent, WaiterId};
use pool_common::{Exclusive, Policy};

use super::{Plain, SECOND, begin, one_idle};
use crate::driver::Outcome;

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
        // The look causes no event.
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
