//! A damped cold start over the async pool, as the peer counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use pool_common::policy::*;
use pool_common::{Exclusive, Policy, Pool, Shared};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::scenarios::{Lend, ends_at_zero};
use crate::support::fake::{Connection, Fake, Peer, Way, pool, until};

const MILLI: Duration = Duration::from_millis(1);

/// `callers` at once, each of which keeps its lease for `hold`. Returns how long the last waited.
async fn rush<L: Lend>(pool: &Pool<Fake<L>>, callers: usize, hold: Duration) -> Duration {
    let started = Instant::now();
    let mut waits = JoinSet::new();
    for _ in 0..callers {
        let pool = pool.clone();
        waits.spawn(async move {
            let lease = pool.acquire(&1).await.expect("served");
            let waited = started.elapsed();
            sleep(hold).await;
            drop(lease);
            waited
        });
    }
    waits.join_all().await.into_iter().max().expect("somebody came")
}

fn slow<L: Lend>(policy: Policy) -> (Pool<Fake<L>>, Arc<Peer>) {
    let (pool, peer) = pool::<L>(policy);
    peer.set(&peer.connect, Way::Slow(20 * MILLI));
    (pool, peer)
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_all_and_the_dial_that_is_not_needed_is_stopped() {
    let (pool, peer) = slow::<Exclusive<Connection>>(Policy::default());
    // Fifteen are served before a second dial could end.
    rush(&pool, 15, MILLI).await;
    until("the second dial is stopped", || peer.dialing.load(SeqCst) == 0).await;
    assert_eq!((peer.accepted.load(SeqCst), peer.attempts.load(SeqCst)), (1, 2));
    let (stats, status) = (pool.stats(), pool.status());
    assert_eq!((stats.opened, stats.dials, stats.dials_failed), (1, 2, 1));
    assert_eq!((status.open, status.idle, status.dialing), (1, 1, 0));
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_dial_is_no_failure_of_the_peer() {
    let policy = Policy { back_off_after: 1, ..Policy::default() };
    let (pool, peer) = slow::<Exclusive<Connection>>(policy);
    rush(&pool, 5, MILLI).await;
    until("the second dial is stopped", || peer.dialing.load(SeqCst) == 0).await;
    assert_eq!(pool.stats().dials_failed, 1);
    // A failure would pause dials for a tenth of a second.
    let started = Instant::now();
    let first = pool.acquire(&1).await.expect("idle");
    let second = pool.acquire(&1).await.expect("dialed at once");
    assert!(started.elapsed() <= 22 * MILLI, "{:?}", started.elapsed());
    drop((first, second));
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_open_what_they_need() {
    let (pool, peer) = slow::<Exclusive<Connection>>(Policy::default());
    let last = rush(&pool, 100, 2 * MILLI).await;
    // 1, 2, 4, 8: the same time as with a hundred dials, and three more.
    assert_eq!((peer.accepted.load(SeqCst), peer.high_water.load(SeqCst)), (8, 8));
    assert!(last <= 100 * MILLI, "{last:?}");
    until("the others are stopped", || peer.dialing.load(SeqCst) == 0).await;
    assert_eq!(pool.status().idle, 8);
    ends_at_zero(pool, &peer).await;

    let undamped = Policy { dial_ramp: None, orphan_dial: OrphanDial::Kept, ..Policy::default() };
    let (pool, peer) = slow::<Exclusive<Connection>>(undamped);
    rush(&pool, 100, 2 * MILLI).await;
    assert_eq!(peer.accepted.load(SeqCst), 100, "what it was without");
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn callers_who_all_need_their_own_have_it_after_seven_more_dial_times() {
    let (pool, peer) = slow::<Exclusive<Connection>>(Policy::default());
    let last = rush(&pool, 100, Duration::from_secs(1)).await;
    // A timer is exact to a millisecond.
    assert!(last >= 160 * MILLI && last <= 168 * MILLI, "1, 2, 4, ... 64, 100: {last:?}");
    assert_eq!((peer.accepted.load(SeqCst), peer.attempts.load(SeqCst)), (100, 100));
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn streams_are_opened_as_their_capacity_is_needed() {
    let (pool, peer) = slow::<Shared<Connection>>(Policy::default());
    peer.capacity.store(50, SeqCst);
    rush(&pool, 100, Duration::from_secs(1)).await;
    assert_eq!(peer.accepted.load(SeqCst), 2);
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_dial_that_hangs_holds_nobody_for_longer_than_a_step() {
    let (pool, peer) = pool::<Exclusive<Connection>>(Policy::default());
    peer.set(&peer.connect, Way::Never);
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    until("it dials", || peer.dialing.load(SeqCst) == 1).await;
    peer.set(&peer.connect, Way::Ok);
    let last = rush(&pool, 3, MILLI).await;
    assert!(last <= 110 * MILLI, "{last:?}");
    first.await.expect("no panic").expect("served by the other");
    until("the one that hung is stopped", || peer.dialing.load(SeqCst) == 0).await;
    ends_at_zero(pool, &peer).await;
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_in_the_ramp_leave_nothing_that_hangs() {
    for hold in [MILLI, 30 * MILLI] {
        for patience in 1..70 {
            let (pool, peer) = slow::<Exclusive<Connection>>(Policy::default());
            let mut callers = JoinSet::new();
            for n in 0..20 {
                let pool = pool.clone();
                callers.spawn(async move {
                    let acquire = pool.acquire(&1);
                    let patience = if n % 2 == 0 { patience * MILLI } else { MILLI * 1000 };
                    if let Ok(lease) = tokio::time::timeout(patience, acquire).await {
                        let _lease = lease.expect("served");
                        sleep(hold).await;
                    }
                });
            }
            callers.join_all().await;
            let status = pool.status();
            assert_eq!((status.waiting, status.leases), (0, 0), "{status:?}");
            sleep(100 * MILLI).await;
            let status = pool.status();
            assert_eq!((status.open, status.dialing), (status.idle, 0), "{status:?}");
            assert_eq!(status.open, peer.open());
            ends_at_zero(pool, &peer).await;
        }
    }
}

/// Forty callers share ten places for two seconds; seven of eight requests are given up in the middle,
/// which costs the connection, and half of the callers do not wait for long. Returns how many requests
/// were carried out, and the mean number of connections in use.
async fn storm_of_cancels(dial_ramp: Option<Duration>) -> (u32, u32) {
    let limit = Some(10);
    let policy = Policy { dial_ramp, max_open_per_key: limit, ..Policy::default() };
    let (pool, peer) = slow::<Exclusive<Connection>>(policy);
    let (served, started) = (Arc::new(AtomicU32::new(0)), Instant::now());
    let storm = Duration::from_secs(2);
    let mut callers = JoinSet::new();
    for n in 0..40_u32 {
        let (pool, served) = (pool.clone(), Arc::clone(&served));
        let patience = if n % 2 == 0 { 15 * MILLI } else { storm };
        callers.spawn(async move {
            let mut requests = n;
            while started.elapsed() < storm {
                let Ok(lease) = tokio::time::timeout(patience, pool.acquire(&1)).await else {
                    continue;
                };
                let lease = lease.expect("the peer is well");
                sleep(5 * MILLI).await;
                requests += 1;
                lease.broken.store(requests % 8 > 0, SeqCst);
                served.fetch_add(1, SeqCst);
            }
        });
    }
    let (mut in_use, mut looks) = (0, 0);
    while started.elapsed() < storm {
        sleep(7 * MILLI).await;
        (in_use, looks) = (in_use + pool.status().leased + pool.status().dialing, looks + 1);
    }
    callers.join_all().await;
    ends_at_zero(pool, &peer).await;
    (served.load(SeqCst), in_use / looks)
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_cancelled_callers_does_not_keep_the_pool_small() {
    let (served, used) = storm_of_cancels(Some(50 * MILLI)).await;
    let (without, all) = storm_of_cancels(None).await;
    assert!(served * 10 >= without * 8, "{served} served, {without} without the ramp");
    assert!(used >= 8 && all >= 8, "{used} of 10 in use, {all} without the ramp");
}
