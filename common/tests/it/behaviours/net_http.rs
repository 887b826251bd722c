//! Go's `net/http` Transport, HTTP/1.

use std::sync::atomic::Ordering::SeqCst;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause::*;
use pool_common::state::Fitness;
use pool_common::{Exclusive, Policy, Status, profile};
use tokio::time::{Instant, sleep, timeout};

use super::line;
use super::support::{BROKEN, Plain, SECOND, TICK, storm};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way, until};

fn net_http() -> Policy {
    profile::net_http().policy
}

/// MaxConnsPerHost = 1.
fn limit_1() -> Policy {
    Policy { max_open_per_key: Some(1), ..net_http() }
}

/// DisableKeepAlives, or a negative MaxIdleConnsPerHost.
fn keeps_none() -> Policy {
    Policy { max_idle_per_key: Some(0), ..net_http() }
}

/// net-http 1.
#[test]
fn sequential_requests_need_one_dial() {
    let mut pool = Plain::new(net_http());
    for _ in 0..2 {
        let id = pool.lend_one(1);
        pool.release(id);
    }
    assert_eq!((pool.dials(), pool.open(), pool.idle()), (1, 1, 1));
}

/// net-http 2.
#[test]
fn overlapping_requests_need_two_dials() {
    let mut pool = Plain::new(net_http());
    let ids = pool.lend(1, 2);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(pool.dials(), 2);
}

/// net-http 3.
#[test]
fn the_last_idled_goes_out_first() {
    let mut pool = Plain::new(net_http());
    let ids = pool.lend(1, 2);
    pool.release(ids[1]);
    pool.release(ids[0]);
    assert_eq!(pool.lend(1, 2), [ids[0], ids[1]]);
    assert_eq!(pool.dials(), 2);
}

/// net-http 4, 33. An early closed body is the same: until it is drained its lease is out, so the
/// next request dials and takes what is first.
#[test]
fn a_connection_that_ends_before_the_own_dial_serves_and_the_dial_is_parked() {
    let mut pool = Plain::new(net_http());
    let first = pool.lend_one(1);
    let second = pool.acquire(1).waiter();
    let dial = pool.only_dial();
    pool.release(first);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(first)), "before its own dial ends");
    pool.dialed(dial);
    assert_eq!((pool.idle(), pool.closing.len()), (1, 0), "parked");
    assert_eq!(pool.acquire(1), Outcome::Lent(dial), "and used later");
    assert_eq!(pool.dials(), 2);
}

/// net-http 5.
#[test]
fn a_third_request_dials_anew_and_takes_the_first_of_two_dials_to_end() {
    for orphan_first in [true, false] {
        let mut pool = Plain::new(net_http());
        let first = pool.lend_one(1);
        let second = pool.acquire(1).waiter();
        pool.release(first);
        pool.collect(second).expect("the first connection").lent();
        let third = pool.acquire(1).waiter();
        assert_eq!(pool.dials(), 3, "the orphan is not adopted");
        let (orphan, own) = (pool.background[0], pool.background[1]);
        let (winner, loser) = if orphan_first { (orphan, own) } else { (own, orphan) };
        pool.dialed(winner);
        assert_eq!(pool.collect(third), Some(Outcome::Lent(winner)));
        pool.dialed(loser);
        assert_eq!(pool.acquire(1), Outcome::Lent(loser), "parked");
    }
}

/// net-http 6.
#[tokio::test(start_paused = true)]
async fn a_request_cancelled_in_its_dial_leaves_at_once_and_the_dial_serves_a_later_one() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(net_http());
    peer.set(&peer.connect, Way::Slow(SECOND));
    let started = Instant::now();
    assert!(timeout(SECOND / 10, pool.acquire(&1)).await.is_err());
    assert_eq!(started.elapsed(), SECOND / 10);
    sleep(SECOND * 2).await;
    let lease = pool.acquire(&1).await.expect("the dial went on");
    assert_eq!(started.elapsed(), SECOND * 2 + SECOND / 10, "it was there");
    assert_eq!(lease.idle_for(), SECOND + SECOND / 10, "it was idle");
    assert_eq!(peer.attempts.load(SeqCst), 1);
}

/// net-http 7.
#[test]
fn without_keep_alive_the_dial_of_a_cancelled_request_is_closed() {
    let mut pool = Plain::new(keeps_none());
    let waiter = pool.acquire(1).waiter();
    pool.cancel(waiter);
    pool.dialed(pool.only_dial());
    assert_eq!(pool.finish_closing(), [IdleLimit]);
    pool.acquire(1).waiter();
    assert_eq!(pool.dials(), 2);
}

/// net-http 8. The client ends each lease by discarding it.
#[test]
fn without_keep_alive_every_request_dials() {
    let mut pool = Plain::new(net_http());
    for request in 1..=5 {
        let id = pool.lend_one(1);
        pool.release_as(id, Fitness::Unfit(Discarded));
        assert_eq!(pool.finish_closing(), [Discarded]);
        assert_eq!((pool.dials(), pool.open()), (request, 0));
    }
}

/// net-http 9.
#[test]
fn beyond_the_idle_limit_of_a_key_the_last_to_finish_is_closed() {
    let mut pool = Plain::new(net_http());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    assert_eq!(pool.closing, [(ids[2], IdleLimit)]);
    pool.finish_closing();
    assert_eq!(pool.lend(1, 2), [ids[1], ids[0]], "the others stay");
}

/// net-http 10.
#[test]
fn with_no_idle_allowed_every_connection_is_closed_after_use() {
    let mut pool = Plain::new(keeps_none());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    assert_eq!(pool.finish_closing(), [IdleLimit; 3]);
    assert_eq!((pool.idle(), pool.open()), (0, 0));
}

/// net-http 11.
#[test]
fn beyond_the_total_idle_limit_the_key_that_idled_first_loses_its_connection() {
    let mut pool = Plain::new(Policy { max_idle: Some(3), ..net_http() });
    let ids: Vec<_> = (0..4).map(|key| pool.lend_one(key)).collect();
    pool.return_all(&ids);
    assert_eq!(pool.closing, [(ids[0], Evicted)]);
    pool.finish_closing();
    for key in (1..4).rev() {
        assert_eq!(pool.lend_one(key), ids[usize::from(key)], "key {key} kept its own");
    }
    assert_eq!(pool.dials(), 4);
}

/// net-http 12.
#[test]
fn the_total_idle_limit_leaves_active_connections_alone() {
    let mut pool = Plain::new(Policy { max_idle: Some(1), ..net_http() });
    let ids: Vec<_> = (0..5).map(|key| pool.lend_one(key)).collect();
    pool.release(ids[0]);
    assert_eq!(pool.closing.len(), 0);
    assert_eq!((pool.open(), pool.state.status().leased), (5, 4));
}

/// net-http 13.
#[test]
fn reuse_restarts_the_idle_clock_and_a_whole_timeout_closes() {
    let mut pool = Plain::new(net_http());
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(45 * SECOND);
    assert_eq!(pool.lend_one(1), id, "half the timeout");
    pool.pass(200 * SECOND);
    assert_eq!(pool.closing.len(), 0, "nothing happens to it in use");
    pool.release(id);
    pool.pass(90 * SECOND);
    assert_eq!(pool.closing.len(), 0, "the clock started anew");
    pool.pass(TICK);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
    pool.finish_closing();
    pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
}

/// net-http 14.
#[test]
fn after_a_jump_of_the_clock_an_expired_connection_is_refused_before_the_timer_fires() {
    let mut pool = Plain::new(net_http());
    let id = pool.lend_one(1);
    pool.release(id);
    // No timer fires in between.
    pool.now = pool.now.after(91 * SECOND);
    let waiter = pool.acquire(1).waiter();
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
}

/// net-http 15, 16. What differs: it is noticed when it would be lent, not while it is idle.
#[tokio::test(start_paused = true)]
async fn a_connection_the_peer_closed_or_spoke_on_while_idle_is_replaced_before_the_request() {
    let (pool, peer) = line::pool(net_http());
    line::idle(&pool, 1).await;
    peer.hang_up(0);
    let lease = pool.acquire(&1).await.expect("replaced");
    assert_eq!(lease.number, 1);
    assert!(!lease.is_reused(), "so nothing has to be sent again");
    assert_eq!((peer.dials(), pool.stats().closed(PeekFailed)), (2, 1));
}

/// net-http 17.
#[test]
fn limit_1_ten_callers_one_dial_in_order() {
    let mut pool = Plain::new(limit_1());
    let waiters = pool.queue(10);
    let id = pool.only_dial();
    pool.dialed(id);
    for waiter in waiters {
        assert_eq!(pool.woken.pop(), Some(waiter), "its turn, and nobody else's");
        assert!(pool.woken.is_empty());
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
        pool.release(id);
    }
    assert_eq!((pool.dials(), pool.idle()), (1, 1));
}

/// net-http 18.
#[test]
fn limit_1_each_failed_dial_is_its_requesters_and_the_next_waiter_dials() {
    let mut pool = Plain::new(limit_1());
    let waiters = pool.queue(6);
    for failing in &waiters[..3] {
        pool.dial_failed(pool.only_dial(), Some("refused"));
        assert_eq!(pool.collect(*failing), Some(Outcome::DialFailed("refused")));
        assert!(waiters.iter().all(|other| pool.collect(*other).is_none()), "nobody else's");
    }
    let id = pool.only_dial();
    pool.dialed(id);
    for served in &waiters[3..] {
        assert_eq!(pool.collect(*served), Some(Outcome::Lent(id)));
        pool.release(id);
    }
    assert_eq!((pool.dials(), pool.state.stats().dials_failed), (4, 3));
}

/// net-http 19.
#[test]
fn limit_1_a_request_cancelled_before_its_queued_dial_takes_no_slot() {
    let mut pool = Plain::new(limit_1());
    let waiters = pool.queue(2);
    pool.cancel(waiters[1]);
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert_eq!((pool.dials(), pool.open()), (1, 0), "no dial for the one that left");
    pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
}

/// net-http 20.
#[test]
fn limit_1_a_connection_that_breaks_or_idles_out_gives_its_slot_back() {
    let mut pool = Plain::new(limit_1());
    let id = pool.lend_one(1);
    pool.release_as(id, BROKEN);
    assert_eq!(pool.finish_closing(), [Broken]);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(90 * SECOND + TICK);
    assert_eq!(pool.finish_closing(), [IdleTimeout]);
    assert_eq!(pool.open(), 0);
    pool.lend_one(1);
    assert_eq!(pool.dials(), 3);
}

/// net-http 21.
#[test]
fn limit_1_a_second_request_waits_until_the_body_of_the_first_is_finished_or_closed() {
    for finished in [true, false] {
        let mut pool = Plain::new(limit_1());
        let id = pool.lend_one(1);
        let waiter = pool.acquire(1).waiter();
        pool.pass(20 * SECOND);
        assert!(pool.background.is_empty() && pool.collect(waiter).is_none(), "it waits");
        if finished {
            pool.release(id);
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
        } else {
            pool.release_as(id, Fitness::Unfit(Discarded));
            pool.finish_closing();
            let dial = pool.only_dial();
            pool.dialed(dial);
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
        }
    }
}

/// net-http 22.
#[test]
fn a_waiter_that_timed_out_leaves_no_slot_taken_once_its_dial_has_ended() {
    for failed in [true, false] {
        let mut pool = Plain::new(limit_1());
        let waiter = pool.acquire(1).waiter();
        let dial = pool.only_dial();
        pool.cancel(waiter);
        assert_eq!(pool.open(), 1, "its dial is still under way");
        if failed {
            pool.dial_failed(dial, Some("refused"));
            assert_eq!(pool.open(), 0);
            pool.lend_one(1);
            assert_eq!(pool.dials(), 2);
        } else {
            pool.dialed(dial);
            assert_eq!(pool.acquire(1), Outcome::Lent(dial));
            assert_eq!(pool.dials(), 1);
        }
    }
}

/// net-http 23. What differs: a waiter does not get a connection that was retired.
#[test]
fn closing_what_is_idle_lets_the_active_finish_and_later_ones_are_parked_again() {
    let mut pool = Plain::new(net_http());
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    pool.state.retire_all(pool.now);
    pool.settle();
    assert_eq!(pool.closing, [(ids[0], Retired)], "idle: now");
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [Retired, Retired], "active: when it has finished");
    let id = pool.lend_one(1);
    pool.release(id);
    assert_eq!((pool.idle(), pool.closing.len()), (1, 0), "parked again");
}

/// net-http 26. What a client's chain of retries needs: each attempt consumes one dead connection
/// and learns that it was reused, the first fresh one ends the chain.
#[test]
fn k_dead_pooled_connections_cost_k_attempts_and_then_one_dial() {
    let mut pool = Plain::new(Policy { max_idle_per_key: Some(3), ..net_http() });
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    for attempt in 1..=3 {
        let dead = pool.acquire(1).lent();
        assert_eq!(pool.state.stats().reused, attempt);
        pool.release_as(dead, BROKEN);
    }
    pool.lend_one(1);
    let stats = pool.state.stats();
    assert_eq!((stats.dials, stats.reused, stats.closed(Broken)), (4, 3, 3), "the last is fresh");
}

/// net-http 34.
#[test]
fn a_connection_with_a_bad_response_is_closed_not_parked() {
    let mut pool = Plain::new(net_http());
    let id = pool.lend_one(1);
    pool.release_as(id, BROKEN);
    assert_eq!((pool.idle(), pool.finish_closing()), (0, vec![Broken]));
    assert_ne!(pool.lend_one(1), id);
}

/// net-http 38. Its connection is out of step; nobody else gets it, not even one that waits.
#[tokio::test(start_paused = true)]
async fn a_request_cancelled_while_reading_closes_its_connection_and_disturbs_nobody() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(limit_1());
    let lease = pool.acquire(&1).await.expect("dialed");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(|lease| lease.number) }
    });
    until("it waits", || pool.status().waiting == 1).await;
    lease.broken.store(true, SeqCst);
    drop(lease);
    assert_eq!(waiter.await.expect("no panic").expect("served"), 1);
    assert_eq!((peer.high_water.load(SeqCst), pool.stats().closed(Broken)), (1, 1));
}

/// net-http 39. The pool's part: what differs in the key never shares.
#[test]
fn different_keys_never_share() {
    let mut pool = Plain::new(net_http());
    let id = pool.lend_one(1);
    pool.release(id);
    let other = pool.lend_one(2);
    assert_ne!(other, id);
    assert_eq!((pool.dials(), pool.idle()), (2, 1));
    assert_eq!(pool.state.key_of(other), Some(&2));
}

/// net-http 40.
#[test]
fn nothing_remains_when_requests_have_ended_and_idle_connections_are_closed() {
    for policy in [net_http(), limit_1(), Policy { max_open_per_key: Some(4), ..net_http() }] {
        let mut pool = storm(policy, 40);
        pool.pass(91 * SECOND);
        pool.finish_closing();
        assert_eq!(pool.state.status(), Status::default());
        assert!(pool.state.is_empty());
        assert_eq!((pool.state.known_keys(), pool.state.next_deadline()), (0, Timestamp::NEVER));
    }
}
