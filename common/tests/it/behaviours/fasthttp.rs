//! fasthttp's HostClient.

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause::*;
use pool_common::policy::{AtLimit, IdleOrder};
use pool_common::state::{Fitness, Refusal};
use pool_common::{Error, Exclusive, Policy, Stage, profile};
use tokio::time::Instant;

use super::support::{BROKEN, Plain, SECOND, TICK};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection};

fn fasthttp() -> Policy {
    profile::fasthttp().policy
}

/// MaxConns = `limit`, with a MaxConnWaitTimeout.
fn waits(limit: u32) -> Policy {
    Policy { max_open_per_key: Some(limit), at_limit: AtLimit::Wait, ..fasthttp() }
}

/// fasthttp 1.
#[test]
fn without_waiting_the_next_beyond_max_conns_fails_at_once() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(3), ..fasthttp() });
    pool.lend(1, 3);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
    assert_eq!((pool.dials(), pool.state.stats().refused), (3, 1));
}

/// fasthttp 2. What differs: 0 is refused, since "no limit given" is the profile's own 512.
#[test]
fn without_a_limit_given_it_is_512() {
    let mut pool = Plain::new(fasthttp());
    pool.lend(1, 512);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
    assert!(Policy { max_open_per_key: Some(0), ..fasthttp() }.validate().is_err());
}

/// fasthttp 3.
#[test]
fn max_conns_1_with_waiting_serves_five_calls_over_one_connection() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    let waiters = pool.queue(4);
    for waiter in waiters {
        pool.release(id);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    }
    pool.release(id);
    assert_eq!((pool.dials(), pool.state.status().waiting, pool.idle()), (1, 0, 1));
}

/// fasthttp 4. What differs: one deadline covers wait and dial, so there is one error for both.
#[tokio::test(start_paused = true)]
async fn a_wait_limit_shorter_than_the_service_time_ends_the_call() {
    let policy = Policy { acquire_timeout: Some(SECOND), ..waits(1) };
    let (pool, _peer) = fake::pool::<Exclusive<Connection>>(policy);
    let _lease = pool.acquire(&1).await.expect("dialed");
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("all are in use");
    assert_eq!(started.elapsed(), SECOND);
    assert!(matches!(error, Error::Timeout { stage: Stage::Queue, .. }), "{error}");
    assert_eq!((pool.status().waiting, pool.stats().gave_up), (0, 1));
}

/// fasthttp 6.
#[test]
fn a_released_connection_goes_to_the_longest_waiting_that_still_waits() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    let waiters = pool.queue(3);
    pool.cancel(waiters[0]);
    pool.release(id);
    assert_eq!(pool.idle(), 0, "never through the idle list");
    assert_eq!(pool.collect(waiters[2]), None);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(id)));
    pool.release(id);
    assert_eq!((pool.idle(), pool.collect(waiters[2])), (0, Some(Outcome::Lent(id))));
}

/// fasthttp 7.
#[test]
fn a_waiter_that_timed_out_gets_nothing_and_what_was_delivered_meanwhile_is_not_lost() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    let waiters = pool.queue(2);
    pool.release(id);
    // Delivered to the first, which leaves in the same moment.
    pool.cancel(waiters[0]);
    assert_eq!(pool.collect(waiters[0]), None);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(id)), "the next waiter");
    let last = pool.acquire(1).waiter();
    pool.release(id);
    pool.cancel(last);
    assert_eq!((pool.idle(), pool.acquire(1)), (1, Outcome::Lent(id)), "or the idle list");
}

/// fasthttp 8.
#[test]
fn closing_one_in_use_while_somebody_waits_dials_for_the_waiter_and_keeps_the_count() {
    let mut pool = Plain::new(waits(2));
    let ids = pool.lend(1, 2);
    let waiters = pool.queue(2);
    for (closed, id) in ids.into_iter().enumerate() {
        pool.release_as(id, BROKEN);
        assert_eq!((pool.open(), pool.background.len()), (2, closed));
        pool.finish_closing();
        assert_eq!((pool.open(), pool.background.len()), (2, closed + 1), "unchanged");
    }
    let dials = pool.background.clone();
    for (dial, waiter) in dials.into_iter().zip(waiters).rev() {
        pool.dialed(dial);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)), "each its own");
    }
    assert_eq!((pool.open(), pool.state.stats().peak_open), (2, 2));
}

/// fasthttp 9.
#[test]
fn a_failed_background_dial_is_its_waiters_error_and_the_next_gets_its_own() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    let waiters = pool.queue(2);
    pool.release_as(id, BROKEN);
    pool.finish_closing();
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::DialFailed("refused")));
    assert_eq!(pool.collect(waiters[1]), None);
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(dial)));
    assert_eq!(pool.dials(), 3);
}

/// fasthttp 10.
#[test]
fn a_dial_whose_waiter_left_becomes_idle_or_serves_another() {
    for another in [false, true] {
        let mut pool = Plain::new(waits(1));
        let id = pool.lend_one(1);
        let waiter = pool.acquire(1).waiter();
        pool.release_as(id, BROKEN);
        pool.finish_closing();
        pool.cancel(waiter);
        let dial = pool.only_dial();
        let later = another.then(|| pool.acquire(1).waiter());
        pool.dialed(dial);
        assert_eq!(pool.closing.len(), 0, "not closed");
        match later {
            Some(later) => assert_eq!(pool.collect(later), Some(Outcome::Lent(dial))),
            None => assert_eq!((pool.idle(), pool.acquire(1)), (1, Outcome::Lent(dial))),
        }
        assert_eq!(pool.dials(), 2);
    }
}

/// fasthttp 11.
#[test]
fn fifo_reuses_in_order_of_release_and_lifo_the_other_way() {
    for (order, expected) in
        [(IdleOrder::OldestFirst, [0, 1, 2]), (IdleOrder::NewestFirst, [2, 1, 0])]
    {
        let mut pool = Plain::new(Policy { idle_order: order, ..fasthttp() });
        let ids = pool.lend(1, 3);
        pool.return_all(&ids);
        assert_eq!(pool.lend(1, 3), expected.map(|n| ids[n]), "{order:?}");
    }
    assert_eq!(fasthttp().idle_order, IdleOrder::OldestFirst);
}

/// fasthttp 14.
#[test]
fn an_idle_connection_is_closed_when_its_time_is_over_without_any_traffic() {
    let mut pool = Plain::new(fasthttp());
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(10 * SECOND);
    assert_eq!(pool.closing.len(), 0);
    pool.pass(TICK);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
}

/// fasthttp 15.
#[test]
fn the_cleaner_ends_with_the_last_connection_and_starts_again_with_the_next() {
    let mut pool = Plain::new(fasthttp());
    assert_eq!(pool.state.next_deadline(), Timestamp::NEVER);
    for _ in 0..2 {
        let id = pool.lend_one(1);
        pool.release(id);
        assert_eq!(pool.state.next_deadline(), pool.now.after(10 * SECOND + TICK));
        pool.pass(11 * SECOND);
        assert_eq!(pool.finish_closing(), [IdleTimeout]);
        assert_eq!(pool.state.next_deadline(), Timestamp::NEVER);
    }
}

/// fasthttp 16.
#[test]
fn a_request_that_asks_for_close_never_becomes_idle_and_starts_no_cleaner() {
    let mut pool = Plain::new(fasthttp());
    let id = pool.lend_one(1);
    pool.release_as(id, Fitness::Unfit(Discarded));
    assert_eq!((pool.idle(), pool.finish_closing()), (0, vec![Discarded]));
    assert_eq!(pool.state.next_deadline(), Timestamp::NEVER);
}

/// fasthttp 17. The retry rule is http1-pool's; that each attempt meets another dead connection
/// until one has to be dialed is the pool's.
#[test]
fn k_dead_idle_connections_are_survived_when_attempts_are_more_than_k() {
    for dead in 0..7 {
        let mut pool = Plain::new(fasthttp());
        let ids = pool.lend(1, dead);
        pool.return_all(&ids);
        let succeeds = (0..fasthttp().retry_attempts).any(|_| match pool.acquire(1) {
            Outcome::Lent(id) => {
                pool.release_as(id, BROKEN);
                false
            }
            other => pool.dialed(other.dial()).is_some(),
        });
        assert_eq!(succeeds, dead < 5, "{dead} dead");
        assert_eq!(pool.closed_for(Broken), dead.min(5) as u64);
    }
}

/// fasthttp 23.
#[test]
fn counts_before_during_and_after_a_call() {
    let mut pool = Plain::new(fasthttp());
    let counts = |pool: &Plain| (pool.open(), pool.idle());
    assert_eq!(counts(&pool), (0, 0));
    let id = pool.lend_one(1);
    assert_eq!(counts(&pool), (1, 0));
    pool.release(id);
    assert_eq!(counts(&pool), (1, 1));
    pool.state.retire_all(pool.now);
    pool.settle();
    assert_eq!(pool.idle(), 0);
    pool.finish_closing();
    assert_eq!(counts(&pool), (0, 0));
}

/// fasthttp 24.
#[test]
fn calls_in_progress_are_those_that_hold_dial_and_wait() {
    let mut pool = Plain::new(waits(3));
    pool.lend(1, 2);
    pool.acquire(1).dial();
    pool.queue(4);
    let status = pool.state.status();
    assert_eq!((status.leases, status.dialing, status.waiting), (2, 1, 4));
}
