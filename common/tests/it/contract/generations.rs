//! Retiring everything while callers come and go, as the peer counts it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::policy::*;
use pool_common::{Exclusive, Policy, Shared};
use tokio::time::{Instant, sleep};

use super::scenarios::{Lend, SECOND, ends_at_zero, limited};
use crate::support::fake::{Connection, Way, pool, until};

/// How long a dial takes.
const DIAL: Duration = Duration::from_millis(500);

/// The profile with a floor it keeps, of as many as its limits allow, and room for `more`.
fn with_floor(policy: Policy, min_idle: u32, more: u32) -> Policy {
    let policy = Policy {
        floor: Floor::Kept,
        // Nothing but what is tested here ends a connection or fails a caller.
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..limited(policy, min_idle + more)
    };
    let most = policy.max_open_per_key.unwrap_or(u32::MAX);
    Policy { min_idle: min_idle.min(most), ..policy }
}

/// The floor is remade while one caller after another takes a connection for a moment: none of
/// them waits for a dial, the peer never sees more than the limit, and in the end every old
/// connection is gone and as many new ones are idle.
pub async fn nobody_waits_while_the_floor_is_remade<L: Lend>(policy: Policy) {
    for more in [2, 0] {
        let policy = with_floor(policy.clone(), 3, more);
        let (floor, limit) = (policy.min_idle, policy.max_open_per_key.expect("limited"));
        let (pool, peer) = pool::<L>(policy);
        pool.warm_up(&1);
        // Without a caller the pool knows no runtime yet.
        drop(pool.acquire(&1).await.expect("dialed"));
        sleep(10 * SECOND).await;
        assert!(pool.status().idle >= floor);
        let old = peer.accepted.load(SeqCst);
        peer.set(&peer.connect, Way::Slow(DIAL));
        pool.retire_all();
        for _ in 0..100 {
            let started = Instant::now();
            let lease = pool.acquire(&1).await.expect("one is idle");
            // A single connection at a limit of one has to go before the next can come.
            if limit > 1 {
                assert_eq!(started.elapsed(), Duration::ZERO, "{:?}", pool.status());
            }
            sleep(DIAL / 10).await;
            drop(lease);
            let status = pool.status();
            assert!(peer.open() + peer.dialing.load(SeqCst) <= limit, "{status:?}");
        }
        let status = pool.status();
        assert!(status.idle >= floor && status.idle == peer.open(), "{status:?}");
        let mut leases = Vec::new();
        for _ in 0..floor {
            leases.push(pool.acquire(&1).await.expect("idle"));
            assert!(leases.iter().all(|lease| lease.number >= old), "an old one was lent");
        }
        drop(leases);
        ends_at_zero(pool, &peer).await;
    }
}

/// The peer refuses new connections for a while: the old ones serve until it does not.
pub async fn old_ones_serve_while_their_successors_are_refused<L: Lend>(policy: Policy) {
    let policy = with_floor(policy, 2, 2);
    let (floor, limit) = (policy.min_idle, policy.max_open_per_key.expect("limited"));
    if limit == 1 {
        // Its only connection has to go first.
        return;
    }
    let (pool, peer) = pool::<L>(policy);
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(10 * SECOND).await;
    let old = peer.accepted.load(SeqCst);
    peer.set(&peer.connect, Way::SlowlyFails(DIAL));
    let attempts = peer.attempts.load(SeqCst);
    pool.retire_all();
    for _ in 0..1000 {
        let started = Instant::now();
        let lease = pool.acquire(&1).await.expect("an old one");
        assert!(lease.number < old && started.elapsed() == Duration::ZERO);
        sleep(SECOND / 10).await;
    }
    assert!(peer.attempts.load(SeqCst) > attempts + floor, "it is tried again");
    peer.set(&peer.connect, Way::Ok);
    // The longest pause of any profile is two minutes and a fifth.
    sleep(150 * SECOND).await;
    assert_eq!(pool.status().idle, floor);
    let lease = pool.acquire(&1).await.expect("idle");
    assert!(lease.number >= old);
    drop(lease);
    ends_at_zero(pool, &peer).await;
}

/// Revoked credentials: from this moment on nobody gets an old one.
pub async fn retired_now_means_that_no_old_one_is_lent_again<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(with_floor(policy, 2, 2));
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(10 * SECOND).await;
    let leased = pool.acquire(&1).await.expect("idle");
    // Also when some are still in service after the gentler kind.
    peer.set(&peer.connect, Way::Slow(DIAL));
    pool.retire_all();
    let old = peer.accepted.load(SeqCst);
    pool.retire_all_now();
    assert_eq!(pool.status().idle, 0);
    until("idle ones are gone", || peer.open() <= 1).await;
    drop(leased);
    for _ in 0..20 {
        let lease = pool.acquire(&1).await.expect("dialed");
        assert!(lease.number >= old);
        sleep(DIAL / 5).await;
    }
    ends_at_zero(pool, &peer).await;
}

type Plain = Exclusive<Connection>;
type Streams = Shared<Connection>;

/// Goodbyes that hang keep their places: at the limit successors come one goodbye later, and the
/// rest of the floor serves meanwhile.
#[tokio::test(start_paused = true)]
async fn at_the_limit_goodbyes_that_hang_delay_successors_and_nobody_else() {
    let (pool, peer) = pool::<Plain>(with_floor(Policy::default(), 3, 0));
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(10 * SECOND).await;
    assert_eq!(peer.open(), 3);
    peer.set(&peer.close, Way::Never);
    pool.retire_all();
    let started = Instant::now();
    while pool.stats().opened < 6 {
        let asked = Instant::now();
        let lease = pool.acquire(&1).await.expect("two serve");
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(peer.open() <= 3);
        sleep(SECOND / 100).await;
        drop(lease);
        assert!(started.elapsed() < 60 * SECOND, "{:?}", pool.status());
    }
    assert!(started.elapsed() >= 3 * pool.policy().close_timeout);
    ends_at_zero(pool, &peer).await;
}

/// Streams of an old connection end by themselves.
#[tokio::test(start_paused = true)]
async fn leases_of_a_shared_connection_outlive_its_generation() {
    let (pool, peer) = pool::<Streams>(with_floor(Policy::default(), 1, 1));
    let long = pool.acquire(&1).await.expect("dialed");
    sleep(SECOND).await;
    pool.retire_all();
    sleep(SECOND).await;
    let next = pool.acquire(&1).await.expect("another");
    assert_ne!(next.number, long.number);
    assert_eq!(pool.status().draining, 1);
    drop(long);
    until("it is closed", || pool.status().draining == 0).await;
    drop(next);
    ends_at_zero(pool, &peer).await;
}
