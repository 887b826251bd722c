//! Limits that change while callers wait and connections are out.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::{Limits, Policy};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::scenarios::{Lend, SECOND, ends_at_zero, limited};
use crate::support::fake::{pool, until};

pub async fn those_who_wait_are_served_when_the_limit_is_raised<L: Lend>(policy: Policy) {
    let (pool, peer) = pool::<L>(limited(policy, 1));
    peer.capacity.store(1, SeqCst);
    let lease = pool.acquire(&1).await.expect("dialed");
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let pool = pool.clone();
        callers.spawn(async move { pool.acquire(&1).await.expect("served in the end") });
    }
    until("the callers wait", || pool.status().waiting == 3).await;
    sleep(SECOND).await;
    assert_eq!(peer.attempts.load(SeqCst), 1, "there is no room");
    let before = pool.stats().leased;
    pool.set_limits(Limits { max_open_per_key: Some(4), ..pool.limits() }).expect("valid");
    assert_eq!(pool.policy().max_open_per_key, Some(4));
    // Nothing comes back: it is the new room that serves them.
    let leases = callers.join_all().await;
    assert_eq!((pool.stats().leased - before, peer.open()), (3, 4));
    drop((lease, leases));
    ends_at_zero(pool, &peer).await;
}

pub async fn a_lowered_limit_closes_what_is_too_much_and_then_holds<L: Lend>(policy: Policy) {
    // Thrift is one connection by nature: it gets more for once.
    let policy = Policy { max_open_per_key: Some(6), ..limited(policy, 6) };
    let (pool, peer) = pool::<L>(policy);
    peer.capacity.store(1, SeqCst);
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(pool.acquire(&1).await.expect("below the limit"));
    }
    leases.drain(..2).for_each(drop);
    assert_eq!((pool.status().idle, peer.open()), (2, 6));
    pool.set_limits(Limits { max_open_per_key: Some(2), ..pool.limits() }).expect("valid");
    until("surplus idle ones are closed", || peer.open() == 4).await;
    // Two too many are still leased; each ends when it comes back.
    drop(leases.pop());
    drop(leases.pop());
    until("so are those that come back", || peer.open() == 2).await;
    drop(leases);
    assert_eq!((peer.open(), pool.status().idle), (2, 2), "within the limit they stay");
    let accepted = peer.accepted.load(SeqCst);
    peer.high_water.store(peer.open(), SeqCst);
    let mut callers = JoinSet::new();
    for n in 0..40 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut lease = pool.acquire(&1).await.expect("served in the end");
            sleep(Duration::from_millis(1 + n % 3)).await;
            if n % 7 == 0 {
                lease.mark_broken();
            }
        });
    }
    callers.join_all().await;
    assert!(peer.accepted.load(SeqCst) > accepted, "some were replaced");
    // The goodbye of a shared connection that drains is over before its successor is dialed, as
    // its only lease has ended.
    assert_eq!(peer.high_water.load(SeqCst), 2, "the new limit holds, as the peer counts");
    ends_at_zero(pool, &peer).await;
}
