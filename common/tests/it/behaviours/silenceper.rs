//! silenceper/pool's channel pool. Only the corrected one: its defects are not reproduced.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::Check;
use pool_common::state::Refusal;
use pool_common::{Exclusive, Policy, Status, profile};
use tokio::time::{Instant, sleep};

use super::line;
use super::support::{BROKEN, Plain, SECOND, TICK, storm};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way, until};

/// InitialCap = 0, so that every make is one that the test caused.
fn silenceper() -> Policy {
    Policy { min_idle: 0, ..profile::silenceper().policy }
}

fn max_cap(limit: u32) -> Policy {
    Policy { max_open_per_key: Some(limit), ..silenceper() }
}

/// silenceper 1. What differs: made in the background when the key is first used, the first alone,
/// and a failure leaves one less instead of ending the constructor.
#[test]
fn initial_cap_makes_so_many_once() {
    let policy = profile::silenceper().policy;
    let initial = policy.min_idle;
    let mut pool = Plain::new(policy);
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    while let Some(dial) = pool.background.first().copied() {
        pool.dialed(dial);
    }
    assert_eq!((pool.dials(), pool.idle()), (u64::from(initial), initial));
    pool.lend(1, 5);
    pool.pass(60 * SECOND);
    assert_eq!((pool.dials(), pool.background.len()), (u64::from(initial), 0), "not refilled");
}

/// silenceper 2. What differs: a negative capacity and a missing callback cannot be written down,
/// and an idle limit above the open limit is harmless.
#[test]
fn an_initial_cap_above_a_limit_is_refused() {
    let original = profile::silenceper().policy;
    assert_eq!(original.validate(), Ok(()));
    let policy = Policy { min_idle: 21, ..original.clone() };
    let error = policy.validate().expect_err("above MaxIdle = 20");
    assert_eq!(error.names(), ("min_idle", Some("max_idle_per_key")));
    let policy = Policy { min_idle: 31, max_idle_per_key: None, ..original };
    let error = policy.validate().expect_err("above MaxCap = 30");
    assert_eq!(error.names(), ("min_idle", Some("max_open_per_key")));
}

/// silenceper 3.
#[test]
fn a_get_with_idle_items_makes_nothing_and_takes_one() {
    let mut pool = Plain::new(silenceper());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    pool.acquire(1).lent();
    assert_eq!((pool.dials(), pool.idle()), (3, 2));
}

/// silenceper 4.
#[test]
fn items_come_out_in_the_order_they_were_put() {
    let mut pool = Plain::new(silenceper());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    assert_eq!(pool.lend(1, 3), ids);
}

/// silenceper 5.
#[test]
fn a_get_without_idle_items_below_max_cap_makes_exactly_one() {
    let mut pool = Plain::new(silenceper());
    let dial = pool.acquire(1).dial();
    assert_eq!((pool.dialed(dial), pool.dials()), (Some(dial), 1));
    pool.lend_one(1);
    assert_eq!((pool.dials(), pool.background.len()), (2, 0));
}

/// silenceper 6.
#[tokio::test(start_paused = true)]
async fn a_factory_error_is_returned_as_it_is_and_the_capacity_remains() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(max_cap(1));
    peer.set(&peer.connect, Way::Fails);
    for _ in 0..3 {
        let error = pool.acquire(&1).await.expect_err("refused");
        assert_eq!(error.to_string(), "could not connect: the fake peer refused");
        assert_eq!(pool.status(), Status::default());
    }
    peer.set(&peer.connect, Way::Ok);
    drop(pool.acquire(&1).await.expect("there is room"));
    assert_eq!(peer.attempts.load(SeqCst), 4);
}

/// silenceper 7.
#[test]
fn at_max_cap_the_next_get_returns_only_after_a_put() {
    let mut pool = Plain::new(max_cap(3));
    let ids = pool.lend(1, 3);
    let waiter = pool.acquire(1).waiter();
    pool.pass(20 * SECOND);
    assert_eq!(pool.collect(waiter), None);
    pool.release(ids[1]);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(ids[1])));
    assert_eq!(pool.dials(), 3);
}

/// silenceper 8.
#[test]
fn a_put_serves_the_longest_waiting_and_nothing_becomes_idle() {
    let mut pool = Plain::new(max_cap(1));
    let id = pool.lend_one(1);
    for waiter in pool.queue(5) {
        pool.release(id);
        assert_eq!((pool.woken.pop(), pool.idle()), (Some(waiter), 0));
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    }
}

/// silenceper 9.
#[test]
fn a_hundred_put_with_max_idle_10_leave_ten_and_close_ninety() {
    let policy = Policy { max_idle_per_key: Some(10), ..max_cap(100) };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 100);
    pool.return_all(&ids);
    assert_eq!((pool.idle(), pool.finish_closing().len()), (10, 90));
    assert_eq!(pool.closed_for(IdleLimit), 90);
    assert_eq!(pool.lend(1, 10), ids[..10], "the first ten stayed");
}

/// silenceper 10.
#[test]
fn max_idle_0_closes_at_every_put_nobody_waits_for() {
    let mut pool = Plain::new(Policy { max_idle_per_key: Some(0), ..max_cap(1) });
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)), "somebody waits");
    pool.release(id);
    assert_eq!(pool.finish_closing(), [IdleLimit]);
}

/// silenceper 11.
#[test]
fn idle_over_the_limit_is_replaced_at_the_get_and_exactly_at_it_is_kept() {
    for (limit, passes, kept) in [
        (Some(15 * SECOND), 15 * SECOND, true),
        (Some(15 * SECOND), 15 * SECOND + TICK, false),
        (None, 1_000_000 * SECOND, true),
    ] {
        let mut pool = Plain::new(Policy { idle_timeout: limit, ..silenceper() });
        let id = pool.lend_one(1);
        pool.release(id);
        pool.pass(passes);
        assert_eq!(pool.closing.len(), 0, "not before the get");
        assert_eq!(pool.lend_one(1) == id, kept);
        let closed = if kept { vec![] } else { vec![IdleTimeout] };
        assert_eq!(pool.finish_closing(), closed);
    }
}

/// silenceper 12.
#[tokio::test(start_paused = true)]
async fn a_ping_that_fails_on_all_k_idle_closes_k_and_makes_one() {
    let policy = Policy { check: Check::Always, ..max_cap(5) };
    let (pool, peer) = line::pool(policy);
    peer.silent.store(true, SeqCst);
    line::idle(&pool, 4).await;
    assert_eq!(peer.checks(), [], "fresh ones are not pinged");
    let lease = pool.acquire(&1).await.expect("made");
    assert_eq!((lease.number, peer.checks().len(), peer.dials()), (4, 4, 5));
    assert_eq!(pool.stats().closed(CheckFailed), 4);
}

/// silenceper 12. Handed over.
#[tokio::test(start_paused = true)]
async fn an_item_handed_to_a_waiter_is_not_pinged() {
    let (pool, peer) = line::pool(Policy { check: Check::Always, ..max_cap(1) });
    peer.silent.store(true, SeqCst);
    let lease = pool.acquire(&1).await.expect("made");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(|lease| lease.number) }
    });
    until("it waits", || pool.status().waiting == 1).await;
    drop(lease);
    assert_eq!(waiter.await.expect("no panic").expect("handed over"), 0);
    assert_eq!(peer.checks(), []);
}

/// silenceper 14.
#[test]
fn release_closes_every_idle_item_once_and_later_gets_fail() {
    let mut pool = Plain::new(silenceper());
    let ids = pool.lend(1, 3);
    pool.return_all(&ids);
    for _ in 0..2 {
        pool.state.close(pool.now);
        pool.settle();
    }
    assert_eq!((pool.idle(), pool.finish_closing()), (0, vec![PoolClosed; 3]));
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Closed));
}

/// silenceper 15.
#[test]
fn closing_a_lent_item_frees_capacity_for_the_next_get() {
    let mut pool = Plain::new(max_cap(1));
    let id = pool.lend_one(1);
    pool.release_as(id, BROKEN);
    pool.finish_closing();
    let dial = pool.acquire(1).dial();
    assert_eq!((pool.dialed(dial), pool.open()), (Some(dial), 1));
}

/// silenceper 23, for 17.
#[test]
fn corrected_a_waiter_makes_its_own_when_the_last_lent_item_is_closed() {
    let mut pool = Plain::new(max_cap(1));
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release_as(id, BROKEN);
    pool.finish_closing();
    let newcomer = pool.acquire(1).waiter();
    let dial = pool.collect(waiter).expect("room").dial();
    assert_eq!(pool.dialed(dial), Some(dial));
    pool.release(dial);
    assert_eq!(pool.collect(newcomer), Some(Outcome::Lent(dial)), "behind it in line");
}

/// silenceper 23, for 18 and 19.
#[test]
fn corrected_release_wakes_waiters_and_a_late_put_closes_its_item() {
    let mut pool = Plain::new(max_cap(1));
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.state.close(pool.now);
    pool.settle();
    assert_eq!(pool.collect(waiter), Some(Outcome::Refused(Refusal::Closed)));
    pool.release(id);
    assert_eq!(pool.finish_closing(), [PoolClosed]);
    assert_eq!(pool.state.status(), Status::default());
}

/// silenceper 23, for 21.
#[tokio::test(start_paused = true)]
async fn corrected_a_slow_factory_delays_no_put() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(max_cap(2));
    let lease = pool.acquire(&1).await.expect("made");
    peer.set(&peer.connect, Way::Slow(5 * SECOND));
    let slow = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(|lease| lease.number) }
    });
    until("the factory is at work", || pool.status().dialing == 1).await;
    let started = Instant::now();
    drop(lease);
    assert_eq!((pool.status().idle, pool.acquire(&1).await.expect("idle").number), (1, 0));
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(slow.await.expect("no panic").expect("made"), 1);
    assert_eq!(started.elapsed(), 5 * SECOND);
}

/// silenceper 23, for 22.
#[test]
fn corrected_max_cap_0_is_refused() {
    let error = max_cap(0).validate().expect_err("nothing could ever be lent");
    assert_eq!(error.names(), ("max_open_per_key", None));
}

/// silenceper 24.
#[test]
fn corrected_a_storm_ends_with_as_many_closed_and_idle_as_were_made() {
    for seed in 0..20 {
        let pool = storm(max_cap(3), seed);
        let stats = pool.state.stats();
        assert!(stats.peak_open <= 3);
        assert_eq!(stats.opened, stats.closed_in_all() + u64::from(pool.idle()));
        assert_eq!((pool.state.status().waiting, pool.open()), (0, pool.idle()));
        assert!(
            stats.closed(Broken) > 10 && stats.gave_up > 10 && stats.dials_failed > 10,
            "{stats:?}"
        );
    }
}

/// silenceper 25.
#[tokio::test(start_paused = true)]
async fn corrected_what_was_delivered_to_a_waiter_that_leaves_reaches_the_next_or_the_idle_list() {
    for another in [true, false] {
        let (pool, _peer) = fake::pool::<Exclusive<Connection>>(max_cap(1));
        let lease = pool.acquire(&1).await.expect("made");
        let mut leaver = Box::pin(pool.acquire(&1));
        assert!(tokio::time::timeout(SECOND, &mut leaver).await.is_err());
        let next = another.then(|| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await.map(|lease| lease.number) })
        });
        until("they wait", || pool.status().waiting == 1 + u32::from(another)).await;
        drop(lease);
        assert_eq!((pool.status().leases, pool.status().idle), (1, 0), "delivered");
        drop(leaver);
        if let Some(next) = next {
            assert_eq!(next.await.expect("no panic").expect("passed on"), 0);
        }
        sleep(SECOND).await;
        assert_eq!((pool.status().idle, pool.status().leases), (1, 0));
    }
}
