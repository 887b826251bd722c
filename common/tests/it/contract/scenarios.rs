//! What every strategy promises.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::policy::*;
use pool_common::{Error, Lease, Lending, Policy, Pool, Stage, Status};
use tokio::time::{Instant, sleep};

pub use super::limits::*;
use crate::support::fake::{Connection, Fake, Peer, Way, pool, until};

/// Lending of the fake's connections.
pub trait Lend: Lending<Connection = Connection> {}
impl<L: Lending<Connection = Connection>> Lend for L {}

pub const SECOND: Duration = Duration::from_secs(1);

/// The profile with room for `limit` connections, and waiting at the limit.
pub fn limited(policy: Policy, limit: u32) -> Policy {
    Policy {
        max_open_per_key: Some(policy.max_open_per_key.map_or(limit, |own| own.min(limit))),
        max_idle_per_key: None,
        min_idle: 0,
        at_limit: AtLimit::Wait,
        ..policy
    }
}

/// Leases one connection can have out.
fn leases_at_limit<L: Lend>(policy: &Policy, peer: &Peer) -> usize {
    let each = if L::SHARED { peer.capacity.load(SeqCst) } else { 1 };
    let open = policy.max_open_per_key.expect("limited");
    usize::try_from(open * each).expect("small")
}

/// Leases all there are.
async fn exhaust<L: Lend>(pool: &Pool<Fake<L>>, peer: &Peer) -> Vec<Lease<Fake<L>>> {
    let mut leases = Vec::new();
    for _ in 0..leases_at_limit::<L>(&pool.policy(), peer) {
        leases.push(pool.acquire(&1).await.expect("below the limit"));
    }
    leases
}

/// Everything is zero, here and at the peer.
pub async fn ends_at_zero<L: Lend>(pool: Pool<Fake<L>>, peer: &Peer) {
    pool.close().await;
    assert_eq!(pool.status(), Status::default());
    assert_eq!(peer.open(), 0, "open at the peer");
    assert_eq!(peer.dialing.load(SeqCst), 0, "dials still under way");
    assert!(matches!(pool.acquire(&1).await, Err(Error::Closed { .. })));
}

pub async fn sequential_acquires_use_one_connection<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(Policy { min_idle: 0, ..policy });
    for round in 0..100 {
        let lease = pool.acquire(&1).await.expect("one at a time");
        assert_eq!(lease.is_reused(), round > 0);
    }
    assert_eq!(peer.accepted.load(SeqCst), 1);
    ends_at_zero(pool, &peer).await;
}

pub async fn no_more_are_open_than_the_limit<L: Lend>(policy: Policy) {
    let policy = limited(policy, 3);
    let limit = policy.max_open_per_key.expect("limited");
    let (pool, peer) = pool::<L>(policy);
    peer.set(&peer.connect, Way::Slow(SECOND / 100));
    let callers: Vec<_> = (0..60)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..5 {
                    let mut lease = pool.acquire(&1).await.expect("served in the end");
                    sleep(Duration::from_millis(1 + n % 3)).await;
                    if (n + round) % 7 == 0 {
                        lease.mark_broken();
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    // A draining shared connection has given its place up.
    let allowed = if L::SHARED { u32::MAX } else { limit };
    assert!(peer.high_water.load(SeqCst) <= allowed, "{}", peer.high_water.load(SeqCst));
    assert!(pool.stats().peak_open <= limit);
    ends_at_zero(pool, &peer).await;
}

pub async fn waiters_are_served_in_the_policys_order<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    let mut leases = exhaust(&pool, &peer).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for n in 0..20_u32 {
        let (pool, served) = (pool.clone(), Arc::clone(&served));
        callers.push(tokio::spawn({
            let pool = pool.clone();
            async move {
                let lease = pool.acquire(&1).await.expect("served in the end");
                served.lock().expect("no panic").push(n);
                drop(lease);
            }
        }));
        until("the caller waits", || pool.status().waiting == n + 1).await;
    }
    drop(leases.pop());
    for caller in callers {
        caller.await.expect("no panic");
    }
    let served = served.lock().expect("no panic").clone();
    let arrival: Vec<u32> = (0..20).collect();
    match pool.policy().waiter_order {
        WaiterOrder::Arrival => assert_eq!(served, arrival),
        WaiterOrder::Random => {
            assert_ne!(served, arrival, "the order is random");
            let mut sorted = served;
            sorted.sort_unstable();
            assert_eq!(sorted, arrival, "but everybody is served once");
        }
        WaiterOrder::AllAtOnce => assert_eq!(served.len(), 20),
    }
    drop(leases);
    ends_at_zero(pool, &peer).await;
}

pub async fn an_acquire_ends_at_its_deadline<L: Lend>(policy: Policy) {
    let limit = Duration::from_secs(5);
    let policy = Policy { acquire_timeout: Some(limit), ..limited(policy, 1) };
    let (pool, peer) = pool::<L>(policy);
    let leases = exhaust(&pool, &peer).await;
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("all are leased");
    assert_eq!(started.elapsed(), limit);
    assert!(error.is_timeout());
    assert_eq!(error.stage(), Some(Stage::Queue));
    let words = error.to_string();
    let many = match leases.len() {
        1 => String::new(),
        many => format!("leases {many}, "),
    };
    let status = format!("(open 1, idle 0, {many}waiting 0)");
    assert!(words.contains(&status), "{words}");
    drop(leases);
    ends_at_zero(pool, &peer).await;
}

pub async fn a_dial_that_hangs_ends_at_its_limit<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(Policy {
        acquire_timeout: Some(Duration::from_secs(60)),
        dial_timeout: Duration::from_secs(3),
        ..limited(policy, 1)
    });
    peer.set(&peer.connect, Way::Never);
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("nobody answers");
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert!(error.is_timeout(), "{error}");
    until("the slot is free", || pool.status().open == 0).await;
    peer.set(&peer.connect, Way::Ok);
    sleep(Duration::from_secs(2)).await;
    drop(pool.acquire(&1).await.expect("the peer is back"));
    ends_at_zero(pool, &peer).await;
}

pub async fn the_deadline_covers_the_dial<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(Policy {
        acquire_timeout: Some(SECOND),
        dial_timeout: Duration::from_secs(30),
        ..limited(policy, 1)
    });
    peer.set(&peer.connect, Way::Never);
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("nobody answers");
    assert_eq!(started.elapsed(), SECOND);
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    ends_at_zero(pool, &peer).await;
}

pub async fn the_deadline_covers_the_check<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(Policy {
        acquire_timeout: Some(SECOND),
        check: Check::Always,
        check_timeout: Duration::from_secs(30),
        ..limited(policy, 1)
    });
    drop(pool.acquire(&1).await.expect("dialed, so not checked"));
    peer.set(&peer.check, Way::Never);
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("nobody answers");
    assert_eq!(started.elapsed(), SECOND);
    assert!(matches!(error, Error::Timeout { stage: Stage::Check, .. }), "{error}");
    ends_at_zero(pool, &peer).await;
}

pub async fn one_deadline_covers_the_queue_and_the_dial_after_it<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(Policy {
        acquire_timeout: Some(SECOND),
        dial_timeout: Duration::from_secs(30),
        ..limited(policy, 1)
    });
    let mut leases = exhaust(&pool, &peer).await;
    peer.set(&peer.connect, Way::Never);
    // From now on somebody keeps the pool's time, and the next wait relies on it.
    pool.acquire(&1).await.map(drop).expect_err("nothing comes back");
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let error = pool.acquire(&1).await.map(drop).expect_err("nobody answers");
            (started.elapsed(), error)
        })
    };
    until("it waits", || pool.status().waiting == 1).await;
    sleep(SECOND * 3 / 5).await;
    leases.iter_mut().for_each(Lease::mark_broken);
    drop(leases);
    let (waited, error) = waiting.await.expect("no panic");
    // The timekeeper of a queue sleeps in whole milliseconds.
    assert!((SECOND..=SECOND + Duration::from_millis(2)).contains(&waited), "{waited:?}: {error}");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    ends_at_zero(pool, &peer).await;
}

pub async fn a_failed_dial_is_told_and_leaves_nothing<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 2));
    peer.set(&peer.connect, Way::Fails);
    let error = pool.acquire(&1).await.expect_err("refused");
    assert!(matches!(error, Error::Dial { .. }), "{error}");
    assert!(error.to_string().contains("the fake peer refused"), "{error}");
    assert_eq!(pool.status(), Status::default());
    peer.set(&peer.connect, Way::Ok);
    // A policy that backs off does so for at most two seconds after one failure.
    sleep(Duration::from_secs(2)).await;
    drop(pool.acquire(&1).await.expect("the peer is back"));
    ends_at_zero(pool, &peer).await;
}

pub async fn waiters_outlive_the_failure_of_others<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    peer.set(&peer.connect, Way::SlowlyFails(SECOND / 10));
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await.map(drop) })
        })
        .collect();
    for caller in callers {
        let error = caller.await.expect("no panic").expect_err("every dial fails");
        assert!(
            matches!(error, Error::Dial { .. } | Error::BackingOff { .. }),
            "told why, not left waiting: {error}"
        );
    }
    assert_eq!(pool.status().waiting, 0);
    until("dials are over", || pool.status().open == 0).await;
    ends_at_zero(pool, &peer).await;
}

pub async fn a_broken_connection_is_not_lent_again<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 2));
    let lease = pool.acquire(&1).await.expect("dialed");
    let first = lease.number;
    lease.broken.store(true, SeqCst);
    drop(lease);
    assert_ne!(pool.acquire(&1).await.expect("another").number, first);
    let lease = pool.acquire(&1).await.expect("idle");
    let second = lease.number;
    lease.discard();
    assert_ne!(pool.acquire(&1).await.expect("another").number, second);
    ends_at_zero(pool, &peer).await;
}

pub async fn one_past_its_time_is_not_lent<L: Lend>(policy: Policy) {
    let policy = Policy {
        idle_timeout: Some(Duration::from_secs(10)),
        max_lifetime: Some(Duration::from_secs(60)),
        lifetime_jitter: Duration::ZERO,
        ..limited(policy, 2)
    };
    let (pool, peer) = pool::<L>(policy);
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(Duration::from_secs(11)).await;
    let lease = pool.acquire(&1).await.expect("dialed");
    assert_eq!(lease.number, 1, "the first was idle too long");
    drop(lease);
    for _ in 0..12 {
        sleep(Duration::from_secs(5)).await;
        drop(pool.acquire(&1).await.expect("kept busy"));
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pool.acquire(&1).await.expect("dialed").number, 2, "the second was too old");
    ends_at_zero(pool, &peer).await;
}

pub async fn a_lease_that_ends_in_a_panic_is_discarded<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    let lease = pool.acquire(&1).await.expect("dialed");
    let first = lease.number;
    let task = tokio::spawn(async move {
        let _lease = lease;
        panic!("the borrower panics");
    });
    assert!(task.await.expect_err("it panicked").is_panic());
    assert_ne!(pool.acquire(&1).await.expect("another").number, first);
    ends_at_zero(pool, &peer).await;
}

pub async fn a_lease_can_end_outside_the_runtime<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    let leases = exhaust(&pool, &peer).await;
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    until("the caller waits", || pool.status().waiting == 1).await;
    std::thread::spawn(move || drop(leases)).join().expect("no panic");
    waiter.await.expect("no panic").expect("handed over from the thread");
    ends_at_zero(pool, &peer).await;
}

pub async fn a_panicking_connect_gives_its_slot_back<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    peer.set(&peer.connect, Way::Panics);
    let task = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    // In the caller's task it is the caller's panic; in the pool's own it becomes an error.
    if let Ok(result) = task.await {
        assert!(matches!(result, Err(Error::Dial { .. })), "{result:?}");
    }
    until("the slot is free", || pool.status().open == 0).await;
    peer.set(&peer.connect, Way::Ok);
    sleep(Duration::from_secs(2)).await;
    drop(pool.acquire(&1).await.expect("others are served"));
    ends_at_zero(pool, &peer).await;
}

pub async fn a_connection_that_fails_its_check_is_replaced<L: Lend>(policy: Policy) {
    for way in [Way::Fails, Way::Never] {
        let policy = Policy { check: Check::Always, ..limited(policy.clone(), 2) };
        let limit = policy.check_timeout;
        let (pool, peer) = pool::<L>(policy);
        drop(pool.acquire(&1).await.expect("dialed, so not checked"));
        assert_eq!(peer.checks.load(SeqCst), 0);
        drop(pool.acquire(&1).await.expect("checked"));
        assert_eq!(peer.checks.load(SeqCst), 1);
        peer.set(&peer.check, way);
        let started = Instant::now();
        assert_eq!(pool.acquire(&1).await.expect("dialed").number, 1);
        assert!(started.elapsed() <= limit);
        ends_at_zero(pool, &peer).await;
    }
}

pub async fn a_session_is_reset_before_the_next_lease<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    // A session that is reset is not shared.
    peer.capacity.store(1, SeqCst);
    peer.set(&peer.reset, Way::Slow(SECOND / 100));
    let lease = pool.acquire(&1).await.expect("dialed");
    lease.dirty.store(true, SeqCst);
    lease.release().await;
    let lease = pool.acquire(&1).await.expect("idle");
    assert_eq!((lease.number, lease.dirty.load(SeqCst)), (0, false));
    // Dropped, it is reset in the background while it still counts as leased.
    lease.dirty.store(true, SeqCst);
    drop(lease);
    let lease = pool.acquire(&1).await.expect("reset meanwhile");
    assert!(!lease.dirty.load(SeqCst));
    assert_eq!(peer.resets.load(SeqCst), 2);
    drop(lease);
    ends_at_zero(pool, &peer).await;
}

pub async fn a_connection_that_cannot_be_reset_is_discarded<L: Lend>(policy: Policy) {
    for way in [Way::Fails, Way::Never, Way::Panics] {
        let (pool, peer) = pool::<L>(limited(policy.clone(), 1));
        peer.capacity.store(1, SeqCst);
        peer.set(&peer.reset, way);
        let lease = pool.acquire(&1).await.expect("dialed");
        lease.dirty.store(true, SeqCst);
        drop(lease);
        let lease = pool.acquire(&1).await.expect("dialed again");
        assert_eq!(lease.number, 1);
        assert!(!lease.dirty.load(SeqCst));
        drop(lease);
        ends_at_zero(pool, &peer).await;
    }
}

pub async fn a_connection_that_is_broken_after_its_reset_is_discarded<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    for waits in [true, false] {
        let lease = pool.acquire(&1).await.expect("dialed");
        let id = lease.connection_id();
        lease.dirty.store(true, SeqCst);
        lease.fragile.store(true, SeqCst);
        if waits {
            lease.release().await;
        } else {
            drop(lease);
        }
        until("it is reset", || pool.status().leases == 0).await;
        let next = pool.acquire(&1).await.expect("dialed anew");
        assert_ne!(next.connection_id(), id);
    }
    ends_at_zero(pool, &peer).await;
}

pub async fn a_goodbye_that_hangs_is_cut<L: Lend>(policy: Policy) {
    for way in [Way::Never, Way::Panics] {
        let (pool, peer) = pool::<L>(limited(policy.clone(), 1));
        peer.set(&peer.close, way);
        pool.acquire(&1).await.expect("dialed").discard();
        drop(pool.acquire(&1).await.expect("dialed after the goodbye"));
        ends_at_zero(pool, &peer).await;
    }
}

pub async fn closing_wakes_waiters_and_lets_leases_end<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    let leases = exhaust(&pool, &peer).await;
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await.map(drop) }
    });
    until("the caller waits", || pool.status().waiting == 1).await;
    pool.start_close();
    assert!(matches!(waiter.await.expect("no panic"), Err(Error::Closed { .. })));
    assert!(!pool.close_within(SECOND).await, "a lease is still out");
    assert_eq!(peer.open(), 1, "a leased connection survives");
    drop(leases);
    ends_at_zero(pool, &peer).await;
}

pub async fn a_dropped_pool_leaves_nothing_behind<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 2));
    let lease = pool.acquire(&1).await.expect("dialed");
    drop(pool.acquire(&2).await.expect("dialed"));
    peer.set(&peer.connect, Way::Never);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move {
            let _ = tokio::time::timeout(SECOND, pool.acquire(&3)).await;
        }
    });
    until("it dials", || peer.dialing.load(SeqCst) == 1).await;
    drop(pool);
    waiting.await.expect("no panic");
    until("dials are stopped", || peer.dialing.load(SeqCst) == 0).await;
    until("idle ones are closed", || peer.open() == 1).await;
    drop(lease);
    until("the leased one is closed", || peer.open() == 0).await;
}

pub async fn callers_that_give_up_at_random_leave_nothing<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 3));
    let mut rng = fastrand::Rng::with_seed(5);
    let mut callers = Vec::new();
    for _ in 0..400 {
        let (pool, peer) = (pool.clone(), Arc::clone(&peer));
        let patience = Duration::from_millis(rng.u64(..60));
        let hold = Duration::from_millis(rng.u64(..20));
        let way = match rng.u8(..5) {
            0 => Way::SlowlyFails(Duration::from_millis(rng.u64(..10))),
            1 => Way::Slow(Duration::from_millis(rng.u64(..40))),
            _ => Way::Ok,
        };
        let breaks = rng.u8(..4) == 0;
        callers.push(tokio::spawn(async move {
            peer.set(&peer.connect, way);
            if let Ok(Ok(mut lease)) = tokio::time::timeout(patience, pool.acquire(&1)).await {
                sleep(hold).await;
                if breaks {
                    lease.mark_broken();
                }
            }
        }));
        if rng.bool() {
            sleep(Duration::from_millis(rng.u64(..6))).await;
        }
    }
    for caller in callers {
        caller.await.expect("no panic");
    }
    let status = pool.status();
    assert_eq!((status.waiting, status.leases), (0, 0), "{status:?}");
    ends_at_zero(pool, &peer).await;
}
