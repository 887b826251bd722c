//! The deadlines of waiters in the state machine.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::state::{Answer, Fitness, Released, State, WaiterId, Want};
use pool_common::{Exclusive, Policy, policy::*};

type Pool = State<u8, Exclusive<u32>, &'static str>;

const AGAIN: Want = Want { fresh: false, again: true };

/// A pool whose only connection is leased.
fn busy(policy: Policy) -> Pool {
    let mut pool = Pool::new(policy, 1).expect("a valid policy");
    let Answer::Dial(id) = pool.acquire(&1, Want::default(), at(0)) else { panic!("no dial") };
    let lent = pool.dialed(id, pool_common::Lending::new(7), 1, at(0));
    assert!(lent.is_some());
    pool
}

fn limited(waiter_order: WaiterOrder) -> Policy {
    Policy {
        dial: Dial::Caller,
        max_open_per_key: Some(1),
        waiter_order,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos((seconds + 1) * 1_000_000_000)
}

fn wait(pool: &mut Pool, want: Want, until: Timestamp, now: Timestamp) -> WaiterId {
    match pool.acquire_until(&1, want, until, now) {
        Answer::Wait(waiter) => waiter,
        other => panic!("expected to wait, got {other:?}"),
    }
}

fn timed_out(pool: &mut Pool, waiter: WaiterId) -> bool {
    let grant = pool.take_grant(waiter);
    assert!(matches!(grant, None | Some(Answer::TimedOut)), "{grant:?}");
    grant.is_some()
}

#[test]
fn a_waiter_is_told_at_its_deadline_and_not_before() {
    for order in WaiterOrder::ALL {
        let mut pool = busy(limited(*order));
        let waiter = wait(&mut pool, Want::default(), at(5), at(0));
        assert_eq!(pool.next_deadline(), at(5));
        pool.handle_timeout(at(4));
        assert!(!timed_out(&mut pool, waiter));
        pool.handle_timeout(at(5));
        assert!(timed_out(&mut pool, waiter));
        assert_eq!(pool.status().waiting, 0);
        assert_eq!(pool.stats().gave_up, 1);
        assert_eq!(pool.next_deadline(), Timestamp::NEVER);
        pool.check_invariants().expect("sound");
    }
}

#[test]
fn a_waiter_that_tries_again_keeps_its_deadline_among_later_ones() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let later: Vec<_> =
        (10..13).map(|end| wait(&mut pool, Want::default(), at(end), at(0))).collect();
    let earlier = wait(&mut pool, AGAIN, at(5), at(1));
    assert_eq!(pool.next_deadline(), at(5));
    pool.handle_timeout(at(5));
    assert!(timed_out(&mut pool, earlier));
    for (waiter, end) in later.into_iter().zip(10..) {
        assert_eq!(pool.next_deadline(), at(end));
        pool.handle_timeout(at(end));
        assert!(timed_out(&mut pool, waiter));
    }
}

#[test]
fn deadlines_are_met_in_whatever_order_they_come() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let ends = [50, 10, 40, 10, 60, 20, 70, 30];
    let waiters = ends.map(|end| wait(&mut pool, Want::default(), at(end), at(0)));
    let (left, rest) = waiters.split_last().expect("some");
    assert!(pool.cancel(*left, at(0)).is_none());
    let mut sorted = ends[..7].to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    for end in sorted {
        assert_eq!(pool.next_deadline(), at(end));
        pool.handle_timeout(at(end - 1));
        assert_eq!(pool.status().waiting as usize, ends[..7].iter().filter(|e| **e >= end).count());
        pool.handle_timeout(at(end));
        for (waiter, own) in rest.iter().zip(ends) {
            assert!(!timed_out(&mut pool, *waiter) || own == end, "{own} at {end}");
        }
        pool.check_invariants().expect("sound");
    }
    assert_eq!((pool.status().waiting, pool.watched_deadlines()), (0, 0));
}

#[test]
fn deadlines_of_waiters_that_left_are_not_kept() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let stays = wait(&mut pool, Want::default(), at(100), at(0));
    for _ in 0..10_000 {
        let waiter = wait(&mut pool, Want::default(), at(50), at(0));
        assert!(pool.cancel(waiter, at(0)).is_none());
    }
    assert!(pool.watched_deadlines() < 200, "{}", pool.watched_deadlines());
    pool.handle_timeout(at(50));
    assert!(!timed_out(&mut pool, stays));
    assert_eq!(pool.next_deadline(), at(100));
}

#[test]
fn waiters_that_leave_in_the_order_of_their_deadlines_are_forgotten_at_once() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let mut rising = (1..).map(at);
    let mut wait = |pool: &mut Pool| {
        wait(pool, Want::default(), rising.next().expect("another second"), at(0))
    };
    let first = wait(&mut pool);
    for _ in 0..1_000 {
        let waiter = wait(&mut pool);
        assert_eq!(pool.watched_deadlines(), 2);
        assert!(pool.cancel(waiter, at(0)).is_none());
        assert_eq!(pool.watched_deadlines(), 1);
        pool.check_invariants().expect("sound");
    }
    assert!(pool.cancel(first, at(0)).is_none());
    assert_eq!((pool.watched_deadlines(), pool.next_deadline()), (0, Timestamp::NEVER));
}

#[test]
fn a_connection_that_is_handed_over_takes_the_deadline_of_its_waiter_with_it() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let [first, second] = [5, 10].map(|end| wait(&mut pool, Want::default(), at(end), at(0)));
    assert_eq!((pool.watched_deadlines(), pool.next_deadline()), (2, at(5)));
    let id = pool.live_connections().next().expect("one is open");
    let handle = Some(pool_common::Lending::new(7));
    let released = pool.release_or_hand_over(id, handle, Fitness::Fit, at(1), || true);
    assert!(matches!(released, Released::HandedOver(next, ..) if next == first), "{released:?}");
    assert_eq!((pool.watched_deadlines(), pool.next_deadline()), (1, at(10)));
    pool.handle_timeout(at(9));
    assert!(!timed_out(&mut pool, second));
    pool.handle_timeout(at(10));
    assert!(timed_out(&mut pool, second));
    assert_eq!((pool.watched_deadlines(), pool.next_deadline()), (0, Timestamp::NEVER));
    pool.check_invariants().expect("sound");
}

#[test]
fn a_granted_waiter_does_not_time_out() {
    let mut pool = busy(limited(WaiterOrder::Arrival));
    let waiter = wait(&mut pool, Want::default(), at(5), at(0));
    let id = pool.live_connections().next().expect("one is open");
    let handle = pool_common::Lending::new(7);
    assert!(pool.release(id, Some(handle), Fitness::Fit, at(1)).is_none());
    pool.handle_timeout(at(60));
    assert!(matches!(pool.take_grant(waiter), Some(Answer::Lend(_))));
}
