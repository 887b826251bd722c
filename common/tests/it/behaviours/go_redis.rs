//! go-redis's ConnPool.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::{AtLimit, IdleOrder};
use pool_common::state::Refusal;
use pool_common::{Exclusive, Policy, Status, profile};
use tokio::time::{Instant, sleep, timeout};

use super::line;
use super::support::{BROKEN, Plain, SECOND, TICK, storm};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way, until};

/// PoolSize = `limit`, which is also how many failed dials in all open the breaker.
fn pool_size(limit: u32) -> Policy {
    let original = profile::go_redis().policy;
    Policy { max_open_per_key: Some(limit), back_off_after: limit, ..original }
}

/// A pool of eight whose floor has been dialed.
fn with_floor(min_idle: u32) -> Plain {
    let mut pool = Plain::new(Policy { min_idle, ..pool_size(8) });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    finish_dials(&mut pool);
    pool
}

fn finish_dials(pool: &mut Plain) {
    // The first of a key is dialed alone, and its end starts the others.
    while let Some(dial) = pool.background.first().copied() {
        pool.dialed(dial);
    }
}

/// go-redis 1. What differs: PoolTimeout covers the dial as well.
#[tokio::test(start_paused = true)]
async fn beyond_pool_size_a_caller_waits_for_pool_timeout_and_is_counted() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(pool_size(2));
    let _both = [pool.acquire(&1).await.expect("room"), pool.acquire(&1).await.expect("room")];
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("all turns are taken");
    assert!(error.is_timeout(), "{error}");
    assert_eq!((started.elapsed(), pool.stats().gave_up), (6 * SECOND, 1));
    assert_eq!(peer.high_water.load(SeqCst), 2);
}

/// go-redis 2.
#[tokio::test(start_paused = true)]
async fn the_callers_own_limit_or_pool_timeout_ends_the_wait_whichever_is_earlier() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(pool_size(1));
    let lease = pool.acquire(&1).await.expect("room");
    // Done before it began.
    drop(pool.acquire(&1));
    for (own, ends_after, is_own) in [(SECOND, SECOND, true), (9 * SECOND, 6 * SECOND, false)] {
        let started = Instant::now();
        let outcome = timeout(own, pool.acquire(&1)).await;
        assert_eq!((started.elapsed(), outcome.is_err()), (ends_after, is_own));
    }
    drop(lease);
    drop(pool.acquire(&1).await.expect("no turn is lost"));
    assert_eq!((peer.attempts.load(SeqCst), pool.status().waiting), (1, 0));
}

/// go-redis 3.
#[tokio::test(start_paused = true)]
async fn a_thousand_commands_from_a_hundred_tasks_stay_within_pool_size() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(pool_size(10));
    peer.set(&peer.connect, Way::Slow(Duration::from_millis(5)));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let _lease = pool.acquire(&1).await.expect("served");
                    sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!((peer.high_water.load(SeqCst), pool.stats().leased), (10, 1000));
    let status = pool.status();
    assert_eq!((status.open, status.idle), (10, 10));
}

/// go-redis 4.
#[test]
fn a_hundred_sequential_commands_are_one_miss_and_ninety_nine_hits() {
    let mut pool = Plain::new(profile::go_redis().policy);
    for _ in 0..100 {
        let id = pool.lend_one(1);
        pool.release(id);
    }
    let stats = pool.state.stats();
    assert_eq!((stats.dials, stats.leased, stats.reused), (1, 100, 99));
}

/// go-redis 5.
#[test]
fn lifo_lends_the_last_returned_and_fifo_the_first() {
    for (order, expected) in
        [(IdleOrder::NewestFirst, [2, 1, 0]), (IdleOrder::OldestFirst, [0, 1, 2])]
    {
        let mut pool = Plain::new(Policy { idle_order: order, ..pool_size(8) });
        let ids = pool.lend(1, 3);
        pool.return_all(&ids);
        assert_eq!(pool.lend(1, 3), expected.map(|n| ids[n]), "{order:?}");
    }
    assert_eq!(profile::go_redis().policy.idle_order, IdleOrder::NewestFirst);
}

/// go-redis 6.
#[test]
fn min_idle_connections_are_kept_beside_what_is_borrowed_within_pool_size() {
    let mut pool = with_floor(3);
    assert_eq!((pool.open(), pool.idle()), (3, 3));
    let id = pool.acquire(1).lent();
    finish_dials(&mut pool);
    assert_eq!((pool.open(), pool.idle()), (4, 3));
    pool.release(id);
    assert_eq!((pool.open(), pool.idle()), (4, 4));
    for _ in 0..8 {
        pool.acquire(1).lent();
        finish_dials(&mut pool);
    }
    assert_eq!((pool.open(), pool.idle(), pool.state.stats().peak_open), (8, 0, 8));
}

/// go-redis 7.
#[test]
fn at_pool_size_nothing_is_refilled_until_a_connection_is_removed() {
    let mut pool = with_floor(1);
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(pool.acquire(1).lent());
        finish_dials(&mut pool);
    }
    pool.pass(10 * SECOND);
    assert_eq!((pool.idle(), pool.background.len()), (0, 0), "no room");
    pool.release_as(ids[0], BROKEN);
    pool.finish_closing();
    pool.dialed(pool.only_dial());
    assert_eq!((pool.open(), pool.idle()), (8, 1));
}

/// go-redis 8. Failed.
#[test]
fn a_failed_refill_gives_its_place_back() {
    let mut pool = Plain::new(Policy { min_idle: 2, ..pool_size(8) });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    for dial in pool.background.clone() {
        pool.dial_failed(dial, Some("refused"));
    }
    assert_eq!(pool.state.status(), Status::default());
}

/// go-redis 8. Panicking.
#[tokio::test(start_paused = true)]
async fn a_panicking_refill_gives_its_place_back() {
    let policy = Policy { min_idle: 1, ..pool_size(2) };
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(policy);
    peer.set(&peer.connect, Way::Panics);
    pool.warm_up(&1);
    until("its place is back", || peer.attempts.load(SeqCst) == 1 && pool.status().open == 0).await;
    peer.set(&peer.connect, Way::Ok);
    let _both = [pool.acquire(&1).await.expect("room"), pool.acquire(&1).await.expect("room")];
}

/// go-redis 9.
#[test]
fn a_return_beyond_max_idle_is_closed_and_those_already_idle_stay() {
    let mut pool = Plain::new(Policy { max_idle_per_key: Some(2), ..pool_size(8) });
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    assert_eq!(pool.closing, [(ids[2], IdleLimit)]);
    assert_eq!(pool.lend(1, 2), [ids[1], ids[0]]);
}

/// go-redis 10. Idle for exactly the limit is kept here, and stale there.
#[test]
fn what_is_stale_is_closed_at_the_next_get_and_not_before() {
    let idle = (pool_size(8), 30 * 60 * SECOND + TICK, IdleTimeout);
    let lifetime = Policy { max_lifetime: Some(60 * SECOND), ..pool_size(8) };
    for (policy, passes, cause) in [idle, (lifetime, 60 * SECOND + TICK, Lifetime)] {
        let mut pool = Plain::new(policy);
        let ids = pool.lend(1, 2);
        pool.return_all(&ids);
        pool.pass(passes);
        assert_eq!((pool.idle(), pool.closing.len()), (2, 0), "{cause}");
        assert!(!ids.contains(&pool.lend_one(1)));
        assert_eq!(pool.finish_closing(), [cause, cause]);
    }
}

/// go-redis 11. What differs: a jitter above the lifetime is refused instead of capped.
#[test]
fn lifetimes_end_within_the_jitter_and_without_one_never() {
    let (lifetime, jitter) = (100 * SECOND, 20 * SECOND);
    let policy = Policy { max_lifetime: Some(lifetime), lifetime_jitter: jitter, ..pool_size(50) };
    let mut pool = Plain::new(policy.clone());
    let ids = pool.lend(1, 50);
    let mut left = Vec::new();
    for wait in [80, 20, 20] {
        pool.return_all(&pool.leases.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        pool.pass(wait * SECOND + TICK);
        while let Outcome::Lent(_) = pool.acquire(1) {}
        pool.finish_closing();
        left.push(pool.leases.iter().filter(|(id, _)| ids.contains(id)).count());
    }
    assert_eq!((left[0], left[2]), (50, 0), "not before 80 s, not after 120 s");
    assert!((10..40).contains(&left[1]), "about half by 100 s: {left:?}");

    assert!(Policy { lifetime_jitter: 101 * SECOND, ..policy }.validate().is_err());
    let mut pool = Plain::new(Policy { idle_timeout: None, ..pool_size(8) });
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(1_000_000 * SECOND);
    assert_eq!(pool.acquire(1), Outcome::Lent(id));
}

/// go-redis 12. TLS as well, here: `is_broken` is asked whatever the transport.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_the_peer_closed_or_spoke_on_is_skipped_without_an_error() {
    let (pool, peer) = line::pool(pool_size(8));
    line::idle(&pool, 2).await;
    peer.hang_up(1);
    assert_eq!(pool.acquire(&1).await.expect("the next").number, 0);
    assert_eq!((peer.dials(), pool.stats().closed(PeekFailed)), (2, 1));
}

/// go-redis 13.
#[tokio::test(start_paused = true)]
async fn after_three_unhealthy_ones_a_new_one_is_dialed_though_more_are_idle() {
    let (pool, peer) = line::pool(pool_size(8));
    line::idle(&pool, 5).await;
    (0..5).for_each(|number| peer.hang_up(number));
    assert_eq!(pool.acquire(&1).await.expect("dialed").number, 5);
    assert_eq!((peer.dials(), pool.stats().closed(PeekFailed)), (6, 3));
    assert_eq!(pool.status().idle, 2 + 1, "two were not looked at");
}

/// go-redis 14.
#[tokio::test(start_paused = true)]
async fn a_caller_cancelled_in_its_dial_leaves_at_once_and_its_turn_ends_with_the_dial() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(pool_size(1));
    peer.set(&peer.connect, Way::Slow(3 * SECOND));
    let started = Instant::now();
    assert!(timeout(SECOND, pool.acquire(&1)).await.is_err());
    assert_eq!(started.elapsed(), SECOND);
    let status = pool.status();
    assert_eq!((status.open, status.dialing), (1, 1), "its turn is taken");
    sleep(3 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().dialing), (1, 0));
    assert_eq!(pool.acquire(&1).await.expect("idle").number, 0);
    assert_eq!(peer.attempts.load(SeqCst), 1);
}

/// go-redis 15.
#[test]
fn a_caller_gets_the_abandoned_connection_of_another_before_its_own_dial_ends() {
    let mut pool = Plain::new(pool_size(3));
    let returned = pool.lend_one(1);
    let a = pool.acquire(1).waiter();
    let b = pool.acquire(1).waiter();
    pool.release(returned);
    assert_eq!((pool.idle(), pool.collect(b)), (1, None), "a return does not serve it");
    assert_eq!(pool.acquire(1), Outcome::Lent(returned));
    pool.release_as(returned, BROKEN);
    pool.finish_closing();
    let (dial_a, dial_b) = (pool.background[0], pool.background[1]);
    pool.cancel(a);
    pool.dialed(dial_a);
    assert_eq!(pool.collect(b), Some(Outcome::Lent(dial_a)), "as soon as it is there");
    let status = pool.state.status();
    assert_eq!((status.open, status.leased, status.dialing), (2, 1, 1), "two turns are taken");
    pool.dialed(dial_b);
    let status = pool.state.status();
    assert_eq!((status.leased, status.idle, status.dialing), (1, 1, 0), "one is");
    assert_eq!(pool.acquire(1), Outcome::Lent(dial_b));
}

/// go-redis 16.
#[test]
fn after_any_mix_of_ends_as_many_turns_are_taken_as_are_borrowed() {
    for seed in 0..20 {
        let mut pool = storm(pool_size(5), seed);
        let status = pool.state.status();
        assert_eq!((status.open - status.idle, status.leases, status.waiting), (0, 0, 0));
        let stats = pool.state.stats();
        assert!(stats.gave_up > 10 && stats.dials_failed > 10 && stats.closed(Broken) > 10);
        assert_eq!(pool.lend(1, 5).len(), 5, "all five turns are free");
        assert!(matches!(pool.acquire(1), Outcome::Wait(_)));
    }
}

/// go-redis 17.
#[test]
fn at_most_so_many_dials_run_and_a_caller_that_waits_for_one_can_leave() {
    let mut pool = Plain::new(Policy { max_dials_per_key: Some(2), ..pool_size(8) });
    let waiters = pool.queue(5);
    assert_eq!(pool.background.len(), 2);
    pool.cancel(waiters[2]);
    let first = pool.background[0];
    pool.dialed(first);
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::Lent(first)));
    assert_eq!((pool.background.len(), pool.open()), (2, 3), "the next dial, not a third");
    pool.dialed(pool.background[0]);
    assert_eq!(pool.background.len(), 2);
    finish_dials(&mut pool);
    for waiter in [waiters[1], waiters[3], waiters[4]] {
        pool.collect(waiter).expect("served").lent();
    }
    assert_eq!((pool.dials(), pool.open()), (4, 4), "none for the one that left");
}

/// go-redis 18.
#[test]
fn a_thousand_cancelled_callers_leave_nothing_in_the_queue() {
    let mut pool = Plain::new(Policy { max_dials_per_key: Some(1), ..pool_size(8) });
    for _ in 0..1000 {
        let waiter = pool.acquire(1).waiter();
        pool.cancel(waiter);
    }
    assert_eq!(pool.state.status().waiting, 0);
    pool.dialed(pool.only_dial());
    assert_eq!((pool.dials(), pool.background.len(), pool.idle()), (1, 0, 1));
}

/// go-redis 20. What differs: failures in a row count, and the probe's connection is used.
#[test]
fn after_pool_size_failed_dials_the_next_fails_without_one_until_a_probe_succeeds() {
    let mut pool = Plain::new(pool_size(3));
    for _ in 0..3 {
        let waiter = pool.acquire(1).waiter();
        pool.dial_failed(pool.only_dial(), Some("refused"));
        assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("refused")));
    }
    for probes in 1..=3 {
        let refused = pool.acquire(1);
        assert!(
            matches!(refused, Outcome::Refused(Refusal::BackingOff { last: "refused", .. })),
            "{refused:?}"
        );
        assert_eq!(pool.dials(), 2 + probes, "without dialing");
        pool.pass(SECOND);
        let probe = pool.only_dial();
        if probes < 3 {
            pool.dial_failed(probe, Some("refused"));
        } else {
            pool.dialed(probe);
            assert_eq!(pool.acquire(1), Outcome::Lent(probe), "a second after it came back");
        }
    }
}

/// go-redis 21. MaxActiveConns is `max_open_per_key` with `at_limit=fail`.
#[test]
fn at_max_active_conns_with_none_idle_a_get_fails_at_once() {
    let mut pool = Plain::new(Policy { at_limit: AtLimit::Fail, ..pool_size(2) });
    let ids = pool.lend(1, 2);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
    pool.release(ids[0]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[0]));
}

/// go-redis 22. What counts as unread is resp-pool's to say.
#[tokio::test(start_paused = true)]
async fn a_return_with_unread_bytes_removes_the_connection() {
    let (pool, peer) = line::pool(pool_size(8));
    let lease = pool.acquire(&1).await.expect("dialed");
    peer.hang_up(lease.number);
    drop(lease);
    assert_eq!((pool.status().open, pool.stats().closed(Broken)), (0, 1));
}

/// go-redis 24. What differs: borrowed connections survive until they come back, waiters are told
/// at once, and a second close is harmless.
#[test]
fn close_ends_refills_in_flight_and_a_later_put_revives_nothing() {
    let mut pool = Plain::new(Policy { min_idle: 1, ..pool_size(2) });
    let waiter = pool.acquire(1).waiter();
    let own = pool.only_dial();
    pool.dialed(own);
    pool.collect(waiter).expect("its own").lent();
    let refill = pool.only_dial();
    pool.state.close(pool.now);
    pool.settle();
    pool.dialed(refill);
    assert_eq!(pool.finish_closing(), [PoolClosed], "the refill");
    pool.release(own);
    assert_eq!(pool.finish_closing(), [PoolClosed], "the put");
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Closed));
    assert_eq!(pool.state.status(), Status::default());
}

/// go-redis 25.
#[test]
fn retired_connections_are_closed_now_when_idle_and_at_their_return_when_borrowed() {
    let mut pool = Plain::new(pool_size(8));
    let ids = pool.lend(1, 3);
    pool.release(ids[0]);
    for id in &ids[..2] {
        pool.state.retire(*id, Retired, pool.now);
    }
    pool.settle();
    assert_eq!(pool.closing, [(ids[0], Retired)]);
    pool.release(ids[1]);
    pool.release(ids[2]);
    assert_eq!(pool.finish_closing(), [Retired, Retired]);
    assert_eq!((pool.idle(), pool.acquire(1)), (1, Outcome::Lent(ids[2])), "not retired");
}

/// go-redis 28. Which errors are which is resp-pool's to say.
#[test]
fn a_server_error_keeps_the_connection_and_an_io_error_removes_it() {
    let mut pool = Plain::new(pool_size(8));
    let id = pool.lend_one(1);
    pool.release(id);
    assert_eq!(pool.acquire(1), Outcome::Lent(id));
    pool.release_as(id, BROKEN);
    assert_eq!((pool.open(), pool.idle(), pool.finish_closing()), (1, 0, vec![Broken]));
    assert_eq!(pool.open(), 0);
}
