//! A connection reports an idle limit that is shorter than the policy's.

use std::time::Duration;

use pool_common::event::CloseCause::IdleTimeout;
use pool_common::lending::Lending;
use pool_common::policy::*;
use pool_common::{Exclusive, Policy, Shared};

use crate::driver::{Driver, Outcome};

const SECOND: Duration = Duration::from_secs(1);

fn pool<L: Lending<Connection = u32>>(policy: Policy) -> Driver<L> {
    let mut pool = Driver::new(Policy { dial_ramp: None, ..policy });
    pool.capacity = 1;
    pool
}

fn closed_by_a_timer_when_its_time_has_come<L: Lending<Connection = u32>>() {
    for expiry in [Expiry::Timer, Expiry::Sweep] {
        for idle_timeout in [None, Some(90 * SECOND)] {
            let mut pool = pool::<L>(Policy { expiry, idle_timeout, ..Policy::default() });
            let ids = pool.lend(1, 3);
            // In another order than they become idle in.
            pool.set_idle_limit(ids[0], 30 * SECOND);
            pool.set_idle_limit(ids[2], 5 * SECOND);
            ids.iter().for_each(|id| pool.release(*id));
            pool.pass(5 * SECOND);
            assert_eq!(pool.closing, [], "not before");
            pool.pass(Duration::from_nanos(1));
            assert_eq!(pool.closing, [(ids[2], IdleTimeout)]);
            pool.pass(25 * SECOND);
            assert_eq!(pool.closing[1..], [(ids[0], IdleTimeout)]);
            assert_eq!(pool.state.status().idle, 1, "the policy's limit holds for the other");
        }
    }
}

#[test]
fn a_connection_is_closed_when_its_own_limit_ends() {
    closed_by_a_timer_when_its_time_has_come::<Exclusive<u32>>();
    closed_by_a_timer_when_its_time_has_come::<Shared<u32>>();
}

fn never_lent_beyond_it<L: Lending<Connection = u32>>() {
    for &expiry in Expiry::ALL {
        let mut pool = pool::<L>(Policy { expiry, dial: Dial::Caller, ..Policy::default() });
        let ids = pool.lend(1, 2);
        pool.set_idle_limit(ids[1], SECOND);
        ids.iter().for_each(|id| pool.release(*id));
        // The timer is late.
        pool.now = pool.now.after(2 * SECOND);
        assert_eq!(pool.acquire(1), Outcome::Lent(ids[0]), "{expiry:?}");
        // Until its end it is lent.
        let other = pool.lend_one(1);
        pool.set_idle_limit(other, SECOND);
        pool.release(other);
        pool.now = pool.now.after(SECOND);
        assert_eq!(pool.acquire(1), Outcome::Lent(other), "{expiry:?}");
    }
}

#[test]
fn a_connection_beyond_its_own_limit_is_never_lent() {
    never_lent_beyond_it::<Exclusive<u32>>();
    never_lent_beyond_it::<Shared<u32>>();
}

#[test]
fn the_last_limit_counts_and_the_policy_bounds_it() {
    let mut pool = pool::<Exclusive<u32>>(Policy::default());
    let id = pool.lend_one(1);
    pool.set_idle_limit(id, SECOND);
    pool.release(id);
    // The limit is set while the connection is idle.
    pool.set_idle_limit(id, 100_000 * SECOND);
    pool.pass(90 * SECOND);
    assert_eq!(pool.closing, []);
    pool.pass(SECOND);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);

    let id = pool.lend_one(1);
    pool.set_idle_limit(id, SECOND);
    pool.set_idle_limit(id, Duration::MAX);
    pool.release(id);
    pool.pass(10 * SECOND);
    assert_eq!(pool.state.status().idle, 1);
    pool.set_idle_limit(id, 5 * SECOND);
    assert_eq!(pool.closing[1..], [(id, IdleTimeout)], "that is over already");
}

#[test]
fn a_connection_that_may_not_be_idle_serves_a_waiter_or_is_closed() {
    let mut pool =
        pool::<Exclusive<u32>>(Policy { max_open_per_key: Some(1), ..Policy::default() });
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.set_idle_limit(id, Duration::ZERO);
    pool.release(id);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    pool.release(id);
    assert_eq!(pool.finish_closing(), [IdleTimeout]);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.set_idle_limit(id, Duration::ZERO);
    assert_eq!(pool.finish_closing(), [IdleTimeout], "said while it is idle");
}

#[test]
fn a_limit_reported_before_the_dial_is_over_counts() {
    let mut pool = pool::<Shared<u32>>(Policy::default());
    let waiter = pool.acquire(1).waiter();
    let id = pool.background[0];
    pool.set_idle_limit(id, SECOND);
    pool.dialed(id);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    pool.release(id);
    pool.pass(2 * SECOND);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
}

#[test]
fn an_uncollected_grant_counts_as_idle_all_the_time() {
    let mut pool =
        pool::<Exclusive<u32>>(Policy { max_open_per_key: Some(1), ..Policy::default() });
    let id = pool.lend_one(1);
    pool.set_idle_limit(id, SECOND);
    pool.release(id);
    // Each caller takes the connection out of the idle list and gives it back unused.
    for _ in 0..3 {
        pool.now = pool.now.after(SECOND / 4);
        let lent = pool.state.acquire_idle(&1, pool.now).expect("it is idle");
        let _ = pool.state.take_back(lent, pool.now);
        pool.settle();
    }
    pool.pass(SECOND / 4);
    assert_eq!(pool.closing, []);
    pool.pass(Duration::from_nanos(1));
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
}
