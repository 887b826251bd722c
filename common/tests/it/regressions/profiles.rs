//! What went wrong once: each test is named after it, and says which sentence of the docs it broke.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause::{Broken, Orphan};
use pool_common::policy::{AfterFailedDial, AtLimit, Dial, Expiry, OrphanDial, WaiterOrder};
use pool_common::state::Fitness;
use pool_common::{Exclusive, Policy, Shared, Status, profile};
use tokio::time::{Instant, sleep, timeout};

use crate::behaviours::line;
use crate::behaviours::support::{FRESH, Plain, SECOND, Streams, TICK};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way};

/// `Pool::try_acquire`: "never waits, never dials". With racing, detached or shared dials the state
/// starts a background dial for the waiter, which then leaves; the dial goes on.
#[tokio::test(start_paused = true)]
async fn try_acquire_never_dials() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(Policy::default());
    peer.set(&peer.connect, Way::Slow(SECOND));
    assert!(pool.try_acquire(&1).is_none());
    sleep(SECOND / 2).await;
    assert_eq!((peer.attempts.load(SeqCst), pool.stats().dials), (0, 0));
}

/// `Pool::try_acquire`: "a connection that needs a check stays". It does, but its idle time starts
/// anew, so that the next acquire lends it unchecked: promise of `Check::IfIdleLonger`. The idle
/// timeout starts anew as well.
#[tokio::test(start_paused = true)]
async fn a_connection_that_try_acquire_left_is_still_checked_by_the_next_acquire() {
    let (pool, peer) = line::pool(profile::redigo().policy);
    line::idle(&pool, 1).await;
    sleep(61 * SECOND).await;
    assert!(pool.try_acquire(&1).is_none(), "it needs a check");
    drop(pool.acquire(&1).await.expect("idle"));
    assert_eq!(peer.checks().len(), 1);
}

/// `Pool::close`: "waits until nothing is left". When the last thing left is a waiter that has been
/// told and has not looked yet, its looking empties the pool, and nobody tells the one who closes:
/// it waits until the maintenance task happens to wake, here for ever. (`Waiting::poll` takes the
/// grant without `follow_up`.)
#[tokio::test(start_paused = true)]
async fn close_ends_when_the_last_thing_left_is_a_waiter() {
    let policy =
        Policy { max_open_per_key: Some(1), at_limit: AtLimit::Wait, ..profile::redigo().policy };
    let (pool, _peer) = fake::pool::<Exclusive<Connection>>(policy);
    let lease = pool.acquire(&1).await.expect("dialed");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    fake::until("it waits", || pool.status().waiting == 1).await;
    pool.start_close();
    drop(lease);
    let closed = pool.close_within(3600 * SECOND).await;
    assert!(waiter.await.expect("no panic").expect_err("closed").is_closed());
    assert_eq!(pool.status(), Status::default());
    assert!(closed, "an hour later it still waits, for nothing");
}

/// The same while dials are paused: `close` takes as long as the pause, up to 144 s with gRPC's.
#[tokio::test(start_paused = true)]
async fn close_during_a_pause_ends_at_once() {
    let policy = Policy { wait_for_ready: true, acquire_timeout: None, ..profile::grpc().policy };
    let (pool, peer) = fake::pool::<Shared<Connection>>(policy);
    peer.set(&peer.connect, Way::Fails);
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    sleep(100 * SECOND).await;
    let started = Instant::now();
    pool.close().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(waiter.await.expect("no panic").is_err());
}

/// `Pool::acquire_fresh`: "insists on a connection that was just dialed"; one that comes back is
/// accepted only "while all are leased" at the limit. Below the limit a racing (or shared) fresh
/// waiter is in the queue for returns like any other.
#[test]
fn below_the_limit_a_fresh_acquire_is_not_served_by_a_return() {
    let mut pool = Plain::new(Policy::default());
    let old = pool.lend_one(1);
    let waiter = pool.acquire_as(1, FRESH).waiter();
    let dial = pool.only_dial();
    pool.release(old);
    assert_eq!(pool.collect(waiter), None, "its dial is under way");
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
}

/// `Pool::acquire_fresh` again: `acquire_slow` starts with `Want::default()`, so a fresh acquire that
/// is told to try again (all at once) tries again as an ordinary one.
#[tokio::test(start_paused = true)]
async fn a_fresh_acquire_that_tries_again_still_insists() {
    let (pool, peer) = fake::pool::<Shared<Connection>>(profile::net_http_h2().policy);
    peer.capacity.store(1, SeqCst);
    let old = pool.acquire(&1).await.expect("dialed");
    peer.set(&peer.connect, Way::Slow(SECOND));
    let ordinary = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await }
    });
    fake::until("it waits", || pool.status().waiting == 1).await;
    let mut fresh = Box::pin(pool.acquire_fresh(&1));
    assert!(timeout(SECOND / 2, &mut fresh).await.is_err());
    // The dial ends, serves the first, and tells the other to try again, which has not yet looked.
    let _ordinary = ordinary.await.expect("no panic").expect("dialed");
    drop(old);
    assert!(!fresh.await.expect("dialed").is_reused());
}

/// `Pool::acquire_fresh`: "At the limit the longest idle one makes way". With `at_limit=fail` it is
/// refused, for as long as that connection stays idle.
#[test]
fn at_the_limit_the_longest_idle_makes_way_for_a_fresh_one_also_when_the_policy_is_to_fail() {
    let policy = Policy { max_open_per_key: Some(1), ..profile::redigo().policy };
    let mut pool = Plain::new(policy);
    let old = pool.lend_one(1);
    pool.release(old);
    let outcome = pool.acquire_as(1, FRESH);
    assert!(matches!(outcome, Outcome::Wait(_)), "{outcome:?}");
}

/// The same for `max_open`: an idle connection of one key makes way for another key only for those
/// who may wait; with `at_limit=fail` one idle connection locks every other key out.
#[test]
fn an_idle_connection_of_another_key_makes_way_also_when_the_policy_is_to_fail() {
    let policy = Policy { max_open: Some(1), at_limit: AtLimit::Fail, ..profile::redigo().policy };
    let mut pool = Plain::new(policy);
    let old = pool.lend_one(1);
    pool.release(old);
    let outcome = pool.acquire(2);
    assert!(matches!(outcome, Outcome::Wait(_)), "{outcome:?}");
}

/// `AfterFailedDial::FailFast`: "every acquire that needs a dial fails at once, while the pool
/// probes in the background". While the probe itself is under way, acquires dial.
#[test]
fn while_the_probe_is_under_way_acquires_fail_fast() {
    let policy = Policy { back_off_after: 1, ..profile::go_redis().policy };
    assert_eq!(policy.after_failed_dial, AfterFailedDial::FailFast);
    let mut pool = Plain::new(policy);
    pool.acquire(1).waiter();
    pool.dial_failed(pool.only_dial(), Some("refused"));
    pool.pass(SECOND);
    assert_eq!(pool.background.len(), 1, "the probe");
    // It hangs, as dials do in an outage; every caller of the next seconds starts one more.
    for _ in 0..5 {
        let outcome = pool.acquire(1);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    assert_eq!(pool.background.len(), 1);
}

/// A peer that allowed no stream allows one. One waiter is served; nobody dials for the others,
/// although nothing stands in the way any more, until that one lease ends.
#[test]
fn when_a_useless_connection_becomes_useful_the_rest_of_the_waiters_get_a_dial() {
    let policy = Policy {
        dial: Dial::Shared,
        waiter_order: WaiterOrder::Arrival,
        max_open_per_key: None,
        ..Policy::default()
    };
    let mut pool = Streams::new(policy);
    pool.capacity = 0;
    let waiters = pool.queue(3);
    let id = pool.only_dial();
    pool.dialed(id);
    pool.state.set_capacity(id, 1, pool.now);
    pool.settle();
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::Lent(id)));
    assert_eq!(pool.background.len(), 1, "a dial for the two others");
}

/// `State::next_deadline`: "`Timestamp::NEVER` when it has [nothing to do]". A sweep is due every
/// second although the policy (database/sql's own) has neither an idle timeout nor a lifetime.
#[test]
fn a_policy_without_limits_of_time_is_never_swept() {
    let mut pool = Plain::new(profile::database_sql().policy);
    let id = pool.lend_one(1);
    pool.release(id);
    assert_eq!(pool.state.next_deadline(), Timestamp::NEVER);
}

/// The same: with a lifetime of an hour, an empty pool is swept every second for that hour
/// (database/sql's cleaner stops when nothing is open).
#[test]
fn an_empty_pool_is_not_swept() {
    let policy = Policy { max_lifetime: Some(3600 * SECOND), ..profile::database_sql().policy };
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    pool.release_as(id, Fitness::Unfit(Broken));
    pool.finish_closing();
    assert!(pool.state.is_empty());
    assert_eq!(pool.state.next_deadline(), Timestamp::NEVER);
}

/// `Expiry::PruneAtAcquire`: "at every acquire, all that are past their time". Those past their
/// lifetime are not pruned when there is no idle timeout, and behind a younger one in the idle list
/// not even then.
#[test]
fn pruning_closes_all_that_are_past_their_lifetime() {
    let policy = Policy {
        expiry: Expiry::PruneAtAcquire,
        idle_timeout: None,
        max_lifetime: Some(60 * SECOND),
        ..profile::redigo().policy
    };
    let mut pool = Plain::new(policy);
    let old = pool.lend_one(1);
    pool.pass(40 * SECOND);
    let young = pool.lend_one(1);
    pool.return_all(&[old, young]);
    pool.pass(20 * SECOND + TICK);
    assert_eq!(pool.acquire(1), Outcome::Lent(young));
    assert_eq!(pool.finish_closing().len(), 1, "the old one");
}

/// `OrphanDial::Dropped`: a background dial whose waiter left "serves a waiter if there is one, else it
/// is closed". With shared dials (and the opener's) the knob does nothing: it becomes idle.
#[test]
fn a_shared_dial_that_everybody_left_is_dropped_when_the_policy_says_so() {
    let policy = Policy { orphan_dial: OrphanDial::Dropped, ..profile::net_http_h2().policy };
    let mut pool = Streams::new(policy);
    let waiter = pool.acquire(1).waiter();
    pool.cancel(waiter);
    pool.dialed(pool.only_dial());
    assert_eq!(pool.finish_closing(), [Orphan]);
}
