//! gRPC's channel with one address, and proposal A105: several connections to it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::WaiterOrder;
use pool_common::state::{ConnectionId, Refusal};
use pool_common::{Error, Limits, Policy, Shared, Status, profile};
use tokio::time::{Instant, sleep};

use super::support::{SECOND, Streams, TICK};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way};

fn grpc() -> Policy {
    profile::grpc().policy
}

fn waits_for_ready() -> Policy {
    Policy { wait_for_ready: true, ..grpc() }
}

/// A105: at most `m` connections, calls in order of arrival.
fn a105(m: u32) -> Policy {
    let waiter_order = WaiterOrder::Arrival;
    Policy { max_open_per_key: Some(m), waiter_order, ..waits_for_ready() }
}

fn channel(policy: Policy, streams: u32) -> Streams {
    let mut pool = Streams::new(policy);
    pool.capacity = streams;
    pool
}

/// GOAWAY.
fn goaway(pool: &mut Streams, id: ConnectionId) {
    pool.state.retire(id, Retired, pool.now);
    pool.settle();
}

/// grpc 1.
#[test]
fn nothing_is_dialed_before_the_first_call() {
    let mut pool = channel(grpc(), 100);
    pool.pass(60 * SECOND);
    assert_eq!((pool.dials(), pool.state.status()), (0, Status::default()));
    pool.acquire(1).waiter();
    assert_eq!(pool.background.len(), 1);
}

/// grpc 2, 11. The end of the dial releases all who wait.
#[test]
fn a_thousand_calls_at_once_share_one_connection() {
    let mut pool = channel(grpc(), 1000);
    let calls = pool.queue(1000);
    let id = pool.only_dial();
    pool.dialed(id);
    for call in calls {
        assert_eq!(pool.collect(call), Some(Outcome::Lent(id)));
    }
    assert_eq!(pool.dials(), 1);
}

/// grpc 3, 22. The pool's part: a lost connection is dialed again by a call, without a pause.
#[test]
fn a_lost_connection_is_dialed_again_only_when_a_call_comes() {
    let mut pool = channel(grpc(), 100);
    let id = pool.lend_one(1);
    pool.state.retire(id, Gone, pool.now);
    pool.settle();
    pool.release(id);
    assert_eq!(pool.finish_closing(), [Gone]);
    pool.pass(600 * SECOND);
    assert_eq!((pool.dials(), pool.open()), (1, 0));
    pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
}

/// grpc 4. The handshake, up to the first SETTINGS, is part of the dial.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_fails_in_time_and_the_pauses_grow() {
    let policy = Policy { acquire_timeout: None, ..waits_for_ready() };
    let (pool, peer) = fake::pool::<Shared<Connection>>(policy);
    peer.set(&peer.connect, Way::Never);
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    // Each attempt takes 20 s; the pauses are 1 s, then 1.6 s and 2.56 s, give or take a fifth.
    let started = Instant::now();
    let at = |seconds| tokio::time::sleep_until(started + Duration::from_secs_f64(seconds));
    at(0.1).await;
    for (attempts, earliest, latest) in [(1, 20.9, 21.1), (2, 42.2, 43.0), (3, 64.2, 66.2)] {
        at(earliest).await;
        assert_eq!(peer.attempts.load(SeqCst), attempts, "not earlier");
        at(latest).await;
        assert_eq!(peer.attempts.load(SeqCst), attempts + 1, "not later");
    }
    assert!(!call.is_finished(), "it is never ready");
    call.abort();
}

/// grpc 6.
#[test]
fn pauses_start_at_the_base_grow_by_the_factor_and_make_about_13_attempts_in_540_s() {
    let mut pool = channel(waits_for_ready(), 100);
    pool.acquire(1).waiter();
    let started = pool.now;
    let mut pauses = Vec::new();
    while pool.now.since(started) < 540 * SECOND {
        pool.dial_failed(pool.only_dial(), Some("refused"));
        pauses.push(pool.pass_until_dial());
    }
    assert_eq!(pauses[0], SECOND);
    let mut expected = 1.0_f64;
    for pause in &pauses[1..] {
        expected = (expected * 1.6).min(120.0);
        let share = pause.as_secs_f64() / expected;
        assert!((0.8..=1.2).contains(&share), "{pause:?} for {expected} s");
    }
    assert!((12..=15).contains(&pauses.len()), "{} attempts", pauses.len());
}

/// grpc 7. What differs: there is no request to end a pause.
#[test]
fn after_a_success_the_pauses_start_from_the_base_again() {
    let mut pool = channel(waits_for_ready(), 100);
    let call = pool.acquire(1).waiter();
    for _ in 0..5 {
        pool.dial_failed(pool.only_dial(), Some("refused"));
        pool.pass_until_dial();
    }
    let id = pool.only_dial();
    pool.dialed(id);
    assert_eq!(pool.collect(call), Some(Outcome::Lent(id)));
    goaway(&mut pool, id);
    pool.acquire(1).waiter();
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert_eq!(pool.pass_until_dial(), SECOND);
}

/// grpc 8.
#[tokio::test(start_paused = true)]
async fn close_during_a_pause_ends_at_once_without_another_dial() {
    let policy = Policy { acquire_timeout: None, ..waits_for_ready() };
    let (pool, peer) = fake::pool::<Shared<Connection>>(policy);
    peer.set(&peer.connect, Way::Fails);
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    fake::until("it pauses", || pool.stats().dials_failed == 1).await;
    let started = Instant::now();
    pool.start_close();
    assert!(matches!(call.await.expect("no panic"), Err(Error::Closed { .. })));
    assert_eq!(started.elapsed(), Duration::ZERO);
    sleep(600 * SECOND).await;
    assert_eq!(peer.attempts.load(SeqCst), 1);
}

/// grpc 9. Failing fast.
#[tokio::test(start_paused = true)]
async fn a_fail_fast_call_in_a_pause_fails_at_once_with_the_dials_error() {
    let (pool, peer) = fake::pool::<Shared<Connection>>(grpc());
    peer.set(&peer.connect, Way::Fails);
    let first = pool.acquire(&1).await.expect_err("refused");
    assert!(matches!(first, Error::Dial { .. }), "{first}");
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("a pause");
    assert_eq!((started.elapsed(), peer.attempts.load(SeqCst)), (Duration::ZERO, 1));
    assert!(matches!(error, Error::BackingOff { .. }));
    assert!(error.to_string().contains("the fake peer refused"), "{error}");
}

/// grpc 9. Waiting for ready.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_ready_completes_when_the_server_has_started() {
    let (pool, peer) = fake::pool::<Shared<Connection>>(waits_for_ready());
    peer.set(&peer.connect, Way::Fails);
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    sleep(8 * SECOND).await;
    assert!(peer.attempts.load(SeqCst) > 2 && !call.is_finished());
    peer.set(&peer.connect, Way::Ok);
    call.await.expect("no panic").expect("ready");
    assert_eq!(peer.accepted.load(SeqCst), 1);
}

/// grpc 10.
#[tokio::test(start_paused = true)]
async fn a_call_during_the_dial_waits_in_both_modes_and_its_deadline_is_a_deadline() {
    for policy in [grpc(), waits_for_ready()] {
        let (pool, peer) = fake::pool::<Shared<Connection>>(policy.clone());
        peer.set(&peer.connect, Way::Slow(5 * SECOND));
        let started = Instant::now();
        drop(pool.acquire(&1).await.expect("ready"));
        assert_eq!(started.elapsed(), 5 * SECOND);

        for way in [Way::Never, Way::SlowlyFails(3 * SECOND)] {
            let policy = Policy { acquire_timeout: Some(2 * SECOND), ..policy.clone() };
            let (pool, peer) = fake::pool::<Shared<Connection>>(policy);
            peer.set(&peer.connect, way);
            let started = Instant::now();
            let error = pool.acquire(&1).await.expect_err("not ready");
            assert!(matches!(error, Error::Timeout { .. }), "{error}");
            assert_eq!(started.elapsed(), 2 * SECOND);
        }
    }
}

/// grpc 12.
#[test]
fn beyond_the_servers_limit_a_call_waits_for_another_to_end() {
    let mut pool = channel(grpc(), 3);
    let id = pool.lend(1, 3)[0];
    let calls = pool.queue(2);
    pool.cancel(calls[0]);
    assert_eq!(pool.collect(calls[1]), None, "a cancelled wait frees no stream");
    pool.release(id);
    assert_eq!(pool.collect(calls[1]), Some(Outcome::Lent(id)));
    let last = pool.acquire(1).waiter();
    assert_eq!(
        (pool.state.status().leases, pool.collect(last)),
        (3, None),
        "the quota is as before"
    );
    assert_eq!(pool.dials(), 1);
}

/// grpc 13.
#[test]
fn a_raised_limit_starts_so_many_waiters_and_a_lowered_one_ends_nobody() {
    let mut pool = channel(grpc(), 2);
    let id = pool.lend(1, 2)[0];
    let calls = pool.queue(5);
    pool.state.set_capacity(id, 5, pool.now);
    pool.settle();
    let started: Vec<_> = calls.iter().filter(|call| pool.collect(**call).is_some()).collect();
    assert_eq!((started.len(), pool.state.status().leases), (3, 5));
    pool.state.set_capacity(id, 1, pool.now);
    pool.settle();
    assert_eq!((pool.state.status().leases, pool.closing.len()), (5, 0));
    (0..4).for_each(|_| pool.release(id));
    assert!(calls.iter().all(|call| pool.collect(*call).is_none()), "one is still out");
    pool.release(id);
    assert_eq!(calls.iter().filter(|call| pool.collect(**call).is_some()).count(), 1);
}

/// grpc 15, 29. The pool's part: running calls end on the old one, new ones use its successor.
#[test]
fn after_goaway_running_calls_finish_while_new_ones_use_a_new_connection() {
    let mut pool = channel(grpc(), 100);
    let old = pool.lend(1, 2)[0];
    goaway(&mut pool, old);
    let new = pool.lend_one(1);
    assert_ne!(new, old);
    let status = pool.state.status();
    assert_eq!((status.open, status.draining, status.leases), (1, 1, 3));
    pool.return_all(&[old, old]);
    assert_eq!(pool.closing, [(old, Retired)]);
    assert_eq!(pool.lend_one(1), new);
}

/// grpc 16. The pool's part.
#[test]
fn goaway_with_nothing_open_is_no_failure() {
    let mut pool = channel(grpc(), 100);
    let id = pool.lend_one(1);
    pool.release(id);
    goaway(&mut pool, id);
    pool.state.retire(id, Gone, pool.now);
    pool.settle();
    assert_eq!(pool.finish_closing(), [Retired], "once, and for its first reason");
    pool.lend_one(1);
    assert_eq!((pool.state.stats().dials_failed, pool.dials()), (0, 2), "at once");
}

/// grpc 17.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_under_load_fails_no_call() {
    let (pool, peer) = fake::pool::<Shared<Connection>>(grpc());
    peer.capacity.store(100, SeqCst);
    peer.set(&peer.connect, Way::Slow(Duration::from_millis(7)));
    let mut calls = Vec::new();
    for n in 0..600 {
        let pool_of_call = pool.clone();
        calls.push(tokio::spawn(async move {
            let lease = pool_of_call.acquire(&1).await.expect("served");
            sleep(Duration::from_millis(30)).await;
            drop(lease);
        }));
        sleep(Duration::from_millis(2)).await;
        if n % 50 == 49 {
            let newest = pool.acquire(&1).await.expect("served");
            pool.retire(newest.connection_id());
        }
    }
    for call in calls {
        call.await.expect("no call fails");
    }
    assert_eq!((peer.attempts.load(SeqCst), pool.stats().closed(Retired)), (12, 12));
    assert_eq!(pool.status(), Status::default());
}

/// grpc 25.
#[test]
fn the_idle_timeout_closes_what_no_call_uses_and_none_without_one() {
    let mut pool = channel(grpc(), 100);
    let id = pool.lend_one(1);
    pool.pass(3 * 3600 * SECOND);
    assert_eq!(pool.closing.len(), 0, "a running stream prevents it");
    pool.release(id);
    pool.pass(1800 * SECOND + TICK);
    assert_eq!(pool.finish_closing(), [IdleTimeout]);
    assert_eq!(pool.open(), 0);
    let id = pool.lend_one(1);
    assert_eq!(pool.dials(), 2);
    let mut never = channel(Policy { idle_timeout: None, ..grpc() }, 100);
    let kept = never.lend_one(1);
    never.release(kept);
    never.pass(1_000_000 * SECOND);
    assert_eq!((never.idle(), never.lend_one(1)), (1, kept));
    pool.release(id);
}

/// grpc 28. What differs: running calls end by themselves.
#[test]
fn closing_the_channel_refuses_those_who_wait_and_a_second_time_changes_nothing() {
    let mut pool = channel(grpc(), 1);
    let id = pool.lend_one(1);
    let call = pool.acquire(1).waiter();
    for _ in 0..2 {
        pool.state.close(pool.now);
        pool.settle();
    }
    assert_eq!(pool.collect(call), Some(Outcome::Refused(Refusal::Closed)));
    assert_eq!(pool.state.status().leases, 1);
    pool.release(id);
    assert_eq!(pool.finish_closing(), [PoolClosed]);
    assert!(pool.state.is_empty());
}

/// grpc 32, its second half. What differs: it closes those above the limit as their calls end.
#[test]
fn a105_m_lowered_dials_no_more_and_cuts_no_call_off() {
    let mut pool = channel(a105(3), 1);
    let ids = pool.lend(1, 3);
    let limits = Limits { max_open_per_key: Some(1), ..pool.state.policy().limits() };
    pool.state.set_limits(limits, pool.now).expect("valid");
    pool.settle();
    assert_eq!((pool.closing.len(), pool.state.status().leases), (0, 3));
    let call = pool.acquire(1).waiter();
    pool.release(ids[0]);
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [OverLimit; 2]);
    assert_eq!((pool.background.len(), pool.collect(call)), (0, None));
    pool.release(ids[2]);
    assert_eq!(pool.collect(call), Some(Outcome::Lent(ids[2])));
}

/// grpc 30.
#[test]
fn a105_two_calls_use_two_connections_and_the_third_runs_when_either_ends() {
    for ends in [0, 1] {
        let mut pool = channel(a105(2), 1);
        let ids = pool.lend(1, 2);
        assert_ne!(ids[0], ids[1]);
        let third = pool.acquire(1).waiter();
        assert_eq!((pool.background.len(), pool.collect(third)), (0, None));
        pool.release(ids[ends]);
        assert_eq!(pool.collect(third), Some(Outcome::Lent(ids[ends])));
    }
}

/// grpc 30. What differs: a call that fails fast hears of the refused dial.
#[test]
fn a105_a_refused_extra_dial_leaves_the_first_usable_and_is_repeated_after_the_pause() {
    let mut pool = channel(a105(2), 1);
    let first = pool.lend_one(1);
    let calls = pool.queue(2);
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert!(pool.collect(calls[0]).is_none() && pool.background.is_empty(), "it waits on");
    pool.pass(SECOND / 2);
    pool.release(first);
    assert_eq!(pool.collect(calls[0]), Some(Outcome::Lent(first)), "still usable");
    assert_eq!(pool.background.len(), 0, "not before the pause is over");
    pool.pass(SECOND / 2);
    let extra = pool.only_dial();
    pool.dialed(extra);
    assert_eq!(pool.collect(calls[1]), Some(Outcome::Lent(extra)));
}

/// grpc 31.
#[test]
fn a105_a_hundred_calls_start_in_order_over_ten_connections_dialed_one_after_the_other() {
    let mut pool = channel(a105(10), 10);
    let calls = pool.queue(100);
    for ten in calls.chunks(10) {
        let id = pool.only_dial();
        pool.dialed(id);
        for call in ten {
            assert_eq!(pool.collect(*call), Some(Outcome::Lent(id)));
        }
    }
    let ids: Vec<_> = pool.leases.iter().map(|(id, _)| *id).collect();
    pool.return_all(&ids);
    assert_eq!((pool.dials(), pool.open(), pool.idle()), (10, 10, 10), "all stay open");
}

/// grpc 32. The pool's part; m is fixed when the pool is built.
#[test]
fn a105_when_all_connections_are_lost_those_in_the_queue_reappear_on_new_ones() {
    let mut pool = channel(a105(2), 1);
    let ids = pool.lend(1, 2);
    let calls = pool.queue(3);
    for id in &ids {
        pool.state.retire(*id, Gone, pool.now);
        pool.settle();
    }
    let new = pool.only_dial();
    pool.dialed(new);
    assert_eq!(pool.collect(calls[0]), Some(Outcome::Lent(new)));
    let next = pool.only_dial();
    pool.dialed(next);
    assert_eq!(pool.collect(calls[1]), Some(Outcome::Lent(next)));
    pool.release(new);
    assert_eq!(pool.collect(calls[2]), Some(Outcome::Lent(new)), "without an error");
    pool.return_all(&ids);
    assert_eq!(pool.finish_closing(), [Gone, Gone]);
}
