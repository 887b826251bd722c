//! redigo's Pool.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::AtLimit;
use pool_common::state::{Fitness, Refusal};
use pool_common::{Exclusive, Policy, Status, profile};
use tokio::time::{Instant, sleep};

use super::line;
use super::support::{BROKEN, Plain, SECOND, TICK};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way};

fn redigo() -> Policy {
    profile::redigo().policy
}

fn max_idle(limit: u32) -> Policy {
    Policy { max_idle_per_key: Some(limit), ..redigo() }
}

/// MaxActive = `limit` with Wait.
fn waits(limit: u32) -> Policy {
    Policy { max_open_per_key: Some(limit), at_limit: AtLimit::Wait, ..redigo() }
}

/// Borrows `at_once` connections and returns them, ten times.
fn ten_rounds(pool: &mut Plain, at_once: usize) {
    for _ in 0..10 {
        let ids = pool.lend(1, at_once);
        pool.return_all(&ids);
        pool.finish_closing();
    }
}

/// redigo 1.
#[test]
fn two_at_a_time_with_max_idle_2_need_two_dials() {
    let mut pool = Plain::new(max_idle(2));
    ten_rounds(&mut pool, 2);
    assert_eq!(pool.dials(), 2);
}

/// redigo 2.
#[test]
fn three_at_a_time_with_max_idle_2_need_twelve_dials_in_ten_rounds() {
    let mut pool = Plain::new(max_idle(2));
    ten_rounds(&mut pool, 3);
    assert_eq!((pool.dials(), pool.open()), (3 + 9, 2));
}

/// redigo 3.
#[test]
fn max_idle_0_dials_every_time() {
    let mut pool = Plain::new(max_idle(0));
    ten_rounds(&mut pool, 1);
    assert_eq!((pool.dials(), pool.open(), pool.closed_for(IdleLimit)), (10, 0, 10));
}

/// redigo 4.
#[test]
fn max_idle_1_closes_the_longest_idle_and_lends_the_one_returned_last() {
    let mut pool = Plain::new(max_idle(1));
    let ids = pool.lend(1, 2);
    pool.return_all(&ids);
    assert_eq!(pool.closing, [(ids[0], IdleLimit)]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[1]));
}

/// redigo 5.
#[test]
fn what_was_returned_last_is_lent_first() {
    let mut pool = Plain::new(redigo());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    assert_eq!(pool.lend(1, 3), [ids[2], ids[1], ids[0]]);
}

/// redigo 6.
#[tokio::test(start_paused = true)]
async fn idle_for_exactly_the_limit_is_kept_and_longer_is_closed_before_it_is_tested() {
    let (pool, peer) = line::pool(redigo());
    line::idle(&pool, 1).await;
    sleep(240 * SECOND).await;
    let lease = pool.acquire(&1).await.expect("kept");
    assert_eq!((lease.number, peer.checks().len()), (0, 1));
    drop(lease);
    // tokio's clock ticks in milliseconds.
    sleep(240 * SECOND + SECOND / 1000).await;
    let lease = pool.acquire(&1).await.expect("dialed");
    assert_eq!((lease.number, peer.checks().len()), (1, 1), "closed without a test");
    assert_eq!(pool.stats().closed(IdleTimeout), 1);
}

/// redigo 7.
#[test]
fn pruning_goes_from_the_long_idle_end_and_stops_at_the_first_fresh_one() {
    let mut pool = Plain::new(max_idle(4));
    let ids = pool.lend(1, 4);
    pool.return_all(&ids[..2]);
    pool.pass(100 * SECOND);
    pool.return_all(&ids[2..]);
    pool.pass(140 * SECOND + TICK);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[3]));
    assert_eq!(pool.closing, [(ids[0], IdleTimeout), (ids[1], IdleTimeout)]);
    assert_eq!(pool.idle(), 1, "the third is fresh");
}

/// redigo 8.
#[test]
fn without_a_get_nothing_is_closed_however_long_it_idles() {
    let mut pool = Plain::new(redigo());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    pool.pass(1_000_000 * SECOND);
    assert_eq!((pool.idle(), pool.closing.len()), (3, 0));
}

/// redigo 9. Failing.
#[tokio::test(start_paused = true)]
async fn a_test_that_fails_on_each_of_k_idle_costs_k_closes_and_one_dial_in_one_get() {
    let (pool, peer) = line::pool(max_idle(5));
    line::idle(&pool, 5).await;
    sleep(61 * SECOND).await;
    peer.silent.store(true, SeqCst);
    assert_eq!(pool.acquire(&1).await.expect("dialed").number, 5);
    assert_eq!((pool.stats().closed(CheckFailed), peer.dials()), (5, 5 + 1));
    let tested: Vec<_> = peer.checks().into_iter().map(|(number, _)| number).collect();
    assert_eq!(tested, [4, 3, 2, 1, 0], "each once");
}

/// redigo 9. Passing: the test is told since when the connection is idle.
#[tokio::test(start_paused = true)]
async fn the_test_hears_how_long_its_own_connection_was_idle() {
    let (pool, peer) = line::pool(redigo());
    let leases = [pool.acquire(&1).await, pool.acquire(&1).await];
    for lease in leases {
        drop(lease.expect("dialed"));
        sleep(70 * SECOND).await;
    }
    let _both = [pool.acquire(&1).await.expect("passed"), pool.acquire(&1).await.expect("passed")];
    assert_eq!(peer.checks(), [(1, 70 * SECOND), (0, 140 * SECOND)]);
}

/// redigo 10.
#[tokio::test(start_paused = true)]
async fn a_fresh_connection_is_not_tested() {
    let (pool, peer) = line::pool(redigo());
    peer.silent.store(true, SeqCst);
    drop(pool.acquire(&1).await.expect("dialed"));
    assert_eq!(peer.checks(), []);
}

/// redigo 12.
#[test]
fn without_wait_the_next_beyond_max_active_fails_at_once_and_works_after_a_return() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(2), ..redigo() });
    let ids = pool.lend(1, 2);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
    pool.release(ids[0]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[0]));
}

/// redigo 13. What differs: how long callers waited is not counted.
#[test]
fn with_wait_the_next_beyond_max_active_waits_for_a_return() {
    let mut pool = Plain::new(waits(2));
    let ids = pool.lend(1, 2);
    assert_eq!(pool.state.stats().waited, 0);
    let waiter = pool.acquire(1).waiter();
    pool.pass(SECOND);
    assert_eq!(pool.collect(waiter), None);
    pool.release(ids[1]);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(ids[1])));
    assert_eq!(pool.state.stats().waited, 1);
}

/// redigo 14.
#[test]
fn ten_waiters_over_one_connection_need_one_dial() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    for waiter in pool.queue(10) {
        pool.release(id);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    }
    assert_eq!(pool.dials(), 1);
}

/// redigo 15.
#[test]
fn a_waiter_after_a_fatal_error_dials_afresh_ten_times_and_none_is_left() {
    let mut pool = Plain::new(waits(1));
    let mut id = pool.lend_one(1);
    for waiter in pool.queue(9) {
        pool.release_as(id, BROKEN);
        pool.finish_closing();
        let dial = pool.collect(waiter).expect("room").dial();
        id = pool.dialed(dial).expect("its own");
    }
    pool.release_as(id, BROKEN);
    pool.finish_closing();
    assert_eq!((pool.dials(), pool.open()), (10, 0));
}

/// redigo 16.
#[test]
fn a_failed_dial_gives_its_permit_to_the_next_who_dials_in_turn() {
    let mut pool = Plain::new(waits(1));
    let mut dial = pool.acquire(1).dial();
    for waiter in pool.queue(9) {
        assert_eq!(pool.collect(waiter), None);
        pool.dial_failed(dial, Some("refused"));
        dial = pool.collect(waiter).expect("its turn").dial();
    }
    pool.dial_failed(dial, Some("refused"));
    assert_eq!((pool.dials(), pool.open(), pool.state.status().waiting), (10, 0, 0));
    pool.lend_one(1);
}

/// redigo 17. In Rust a context that has ended is a future that is dropped before its first poll.
#[tokio::test(start_paused = true)]
async fn a_get_that_ended_before_it_began_loses_no_capacity() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(waits(2));
    drop(pool.acquire(&1));
    let first = pool.acquire(&1).await.expect("free capacity");
    let second = pool.acquire(&1).await.expect("free capacity");
    drop(pool.acquire(&1));
    assert_eq!((pool.status().waiting, pool.stats().waited), (0, 0));
    drop((first, second));
    let _both = [pool.acquire(&1).await.expect("idle"), pool.acquire(&1).await.expect("idle")];
    assert_eq!(peer.attempts.load(SeqCst), 2);
}

/// redigo 18.
#[tokio::test(start_paused = true)]
async fn a_get_that_ends_while_waiting_returns_at_once_and_the_capacity_stays() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(waits(1));
    let lease = pool.acquire(&1).await.expect("dialed");
    let started = Instant::now();
    assert!(tokio::time::timeout(SECOND, pool.acquire(&1)).await.is_err());
    assert_eq!((started.elapsed(), pool.status().waiting), (SECOND, 0));
    drop(lease);
    drop(pool.acquire(&1).await.expect("idle"));
    assert_eq!((peer.attempts.load(SeqCst), pool.status().idle), (1, 1));
}

/// redigo 19.
#[test]
fn a_get_that_ends_as_its_turn_arrives_leaves_it_available() {
    let mut pool = Plain::new(waits(1));
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    pool.cancel(waiter);
    assert_eq!(pool.acquire(1), Outcome::Lent(id));
    // The same with leave to dial.
    let waiter = pool.acquire(1).waiter();
    pool.release_as(id, BROKEN);
    pool.finish_closing();
    pool.cancel(waiter);
    assert_eq!(pool.open(), 0);
    pool.acquire(1).dial();
}

/// redigo 20.
#[test]
fn close_wakes_every_waiter_refuses_later_gets_and_is_harmless_twice() {
    let mut pool = Plain::new(waits(1));
    pool.lend_one(1);
    let waiters = pool.queue(3);
    for _ in 0..2 {
        pool.state.close(pool.now);
        pool.settle();
    }
    assert_eq!(pool.woken, waiters);
    for waiter in waiters {
        assert_eq!(pool.collect(waiter), Some(Outcome::Refused(Refusal::Closed)));
    }
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Closed), "not exhausted");
}

/// redigo 21, 33.
#[test]
fn a_borrowed_connection_survives_close_and_is_really_closed_when_it_comes_back() {
    let mut pool = Plain::new(waits(2));
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.state.close(pool.now);
    pool.settle();
    assert_eq!(pool.closing, [(ids[0], PoolClosed)]);
    assert_eq!(pool.state.status().leased, 1);
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [PoolClosed, PoolClosed]);
    assert_eq!(pool.state.status(), Status::default());
}

/// redigo 24.
#[test]
fn a_fatal_connection_is_never_put_back_and_one_that_got_error_replies_is() {
    let mut pool = Plain::new(redigo());
    let id = pool.lend_one(1);
    pool.release_as(id, Fitness::Fit);
    assert_eq!(pool.acquire(1), Outcome::Lent(id), "an error reply is an answer");
    pool.release_as(id, BROKEN);
    assert_eq!((pool.idle(), pool.finish_closing()), (0, vec![Broken]));
}

/// redigo 26. The pool's part: a session that was changed is reset, and its connection reused.
#[tokio::test(start_paused = true)]
async fn a_changed_session_is_reset_and_its_connection_used_again() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(redigo());
    let lease = pool.acquire(&1).await.expect("dialed");
    lease.dirty.store(true, SeqCst);
    lease.release().await;
    let lease = pool.acquire(&1).await.expect("idle");
    assert_eq!((lease.number, lease.dirty.load(SeqCst)), (0, false));
    assert_eq!((peer.resets.load(SeqCst), peer.attempts.load(SeqCst)), (1, 1));
}

/// redigo 27. What differs: a sentinel that never comes is waited for a second.
#[tokio::test(start_paused = true)]
async fn a_reset_that_fails_or_never_ends_closes_the_connection() {
    for (way, takes) in [(Way::Fails, Duration::ZERO), (Way::Never, SECOND)] {
        let (pool, peer) = fake::pool::<Exclusive<Connection>>(redigo());
        peer.set(&peer.reset, way);
        let lease = pool.acquire(&1).await.expect("dialed");
        lease.dirty.store(true, SeqCst);
        let started = Instant::now();
        lease.release().await;
        assert_eq!((started.elapsed(), pool.stats().closed(ResetFailed)), (takes, 1));
        assert_eq!(pool.acquire(&1).await.expect("dialed").number, 1);
    }
}

/// redigo 32.
#[tokio::test(start_paused = true)]
async fn a_hundred_gets_over_a_hundred_dead_idle_ones_need_two_hundred_dials() {
    let (pool, peer) = line::pool(max_idle(100));
    line::idle(&pool, 100).await;
    sleep(61 * SECOND).await;
    peer.silent.store(true, SeqCst);
    let gets: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await })
        })
        .collect();
    let mut leases = Vec::new();
    for get in gets {
        leases.push(get.await.expect("no panic").expect("dialed"));
    }
    assert_eq!((peer.dials(), peer.checks().len()), (200, 100));
    assert_eq!((pool.status().open, pool.stats().closed(CheckFailed)), (100, 100));
}
