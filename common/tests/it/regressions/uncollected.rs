//! Grants that a waiter left without collecting.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{Answer, ConnectionId, WaiterId, Want};
use pool_common::{Exclusive, Lending, Policy, Shared};

use crate::support::driver::Driver;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Callers wait for their own dials, and through the pause that follows the first failure.
fn waiting() -> Policy {
    Policy {
        dial: Dial::Detached,
        dial_ramp: None,
        wait_for_ready: true,
        back_off_after: 1,
        back_off_base: DAY,
        back_off_max: DAY,
        idle_timeout: Some(90 * SECOND),
        max_lifetime: Some(DAY),
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    }
}

/// A waiter that depended on its own dial is granted an idle connection when that dial fails. The
/// connection has been idle for ten seconds then.
fn granted_an_idle_one<L: Lending<Connection = u32>>() -> (Driver<L>, WaiterId, ConnectionId) {
    let mut pool = Driver::<L>::new(waiting());
    pool.capacity = 1;
    let held = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(held);
    pool.pass(10 * SECOND);
    pool.dial_failed(pool.background[0], Some("down"));
    assert_eq!(pool.state.status().idle, 0, "granted");
    (pool, waiter, held)
}

fn next_looks_at_what_was_left<L: Lending<Connection = u32>>() {
    let (mut pool, first, idle) = granted_an_idle_one::<L>();
    let second = pool.acquire(1).waiter();
    pool.pass(SECOND / 2);
    pool.cancel(first);
    let Some(Answer::Lend(lent)) = pool.state.take_grant(second) else { panic!("it is next") };
    assert_eq!(lent.id, idle);
    assert!(lent.was_idle, "nobody has looked at it since it became idle");
    assert_eq!(lent.idle_nanos, 10_500_000_000);
}

#[test]
fn an_uncollected_grant_went_to_the_next_waiter_without_a_peek() {
    next_looks_at_what_was_left::<Exclusive<u32>>();
    next_looks_at_what_was_left::<Shared<u32>>();
}

#[test]
fn an_uncollected_grant_went_to_the_next_waiter_though_its_peer_allows_no_lease() {
    let (mut pool, first, idle) = granted_an_idle_one::<Shared<u32>>();
    let second = pool.acquire(1).waiter();
    pool.state.set_capacity(idle, 0, pool.now);
    pool.settle();
    pool.cancel(first);
    assert_eq!(pool.collect(second), None);
    pool.state.set_capacity(idle, 1, pool.now);
    pool.settle();
    let Some(Answer::Lend(lent)) = pool.state.take_grant(second) else { panic!("it is next") };
    assert!(lent.was_idle, "nobody has looked at it since it became idle");
    assert_eq!((lent.id, lent.idle_nanos), (idle, 10_000_000_000));
}

#[test]
fn an_uncollected_grant_went_to_the_next_waiter_after_it_had_expired() {
    let (mut pool, first, _) = granted_an_idle_one::<Exclusive<u32>>();
    let second = pool.acquire(1).waiter();
    pool.pass(81 * SECOND);
    pool.cancel(first);
    assert_eq!(pool.collect(second), None);
    assert_eq!(pool.finish_closing(), [CloseCause::IdleTimeout]);
}

fn goes_on_being_idle<L: Lending<Connection = u32>>() {
    let (mut pool, first, idle) = granted_an_idle_one::<L>();
    pool.pass(50 * SECOND);
    pool.cancel(first);
    assert_eq!(pool.state.status().idle, 1);
    pool.pass(20 * SECOND);
    let Answer::Lend(lent) = pool.state.acquire(&1, Want::default(), pool.now) else {
        panic!("it is idle");
    };
    assert_eq!((lent.id, lent.idle_nanos, lent.was_idle), (idle, 80_000_000_000, true));
}

#[test]
fn an_uncollected_grant_counted_as_idle_only_since_its_waiter_left() {
    goes_on_being_idle::<Exclusive<u32>>();
    goes_on_being_idle::<Shared<u32>>();
}

/// The other two connections came back while the first was granted; the first still expires first.
#[test]
fn an_uncollected_grant_became_idle_behind_other_connections() {
    let policy = Policy { max_open: Some(10), ..waiting() };
    let mut pool = Driver::<Exclusive<u32>>::new(policy);
    let held = pool.lend(1, 3);
    let waiter = pool.acquire(1).waiter();
    pool.release(held[0]);
    pool.dial_failed(pool.background[0], Some("down"));
    for id in &held[1..] {
        pool.pass(20 * SECOND);
        pool.release(*id);
    }
    pool.pass(20 * SECOND);
    pool.cancel(waiter);
    // It has been idle for 60 s now, the other connections for 40 and 20.
    pool.pass(20 * SECOND);
    assert_eq!(pool.closing, []);
    for id in held {
        pool.pass(20 * SECOND);
        assert_eq!(pool.closing, [(id, CloseCause::IdleTimeout)]);
        pool.finish_closing();
    }
}
