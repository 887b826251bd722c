//! Apache Thrift's serial client (A) and the plain TCP templates (B).

use std::sync::atomic::Ordering::SeqCst;

use pool_common::event::CloseCause::*;
use pool_common::{DialError, Error, Exclusive, Policy, profile};
use tokio::time::{Instant, timeout};

use super::support::{BROKEN, Plain, SECOND};
use crate::support::driver::Outcome;
use crate::support::fake::{self, Connection, Way};

fn thrift() -> Policy {
    profile::thrift().policy
}

/// thrift-and-tcp A5, in pool mode.
#[test]
fn a_connection_out_of_step_is_discarded_and_the_next_call_uses_another() {
    let mut pool = Plain::new(thrift());
    let id = pool.lend_one(1);
    pool.release_as(id, BROKEN);
    assert_eq!((pool.idle(), pool.finish_closing()), (0, vec![Broken]));
    assert_ne!(pool.lend_one(1), id);
    assert_eq!(pool.dials(), 2);
}

/// thrift-and-tcp A7. The type lends the connection to one call; a second one waits.
#[test]
fn two_overlapping_calls_never_share_the_connection() {
    let mut pool = Plain::new(thrift());
    let id = pool.lend_one(1);
    let second = pool.acquire(1).waiter();
    assert_eq!((pool.state.status().leases, pool.collect(second)), (1, None));
    pool.release(id);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(id)), "one after the other");
    assert_eq!(pool.dials(), 1);
}

/// thrift-and-tcp A8, in pool mode. A call that times out leaves its reply in the connection.
#[tokio::test(start_paused = true)]
async fn after_a_call_that_timed_out_the_next_uses_another_connection() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(thrift());
    let call = async {
        let lease = pool.acquire(&1).await.expect("dialed");
        // The request is written, its reply is outstanding.
        lease.broken.store(true, SeqCst);
        std::future::pending::<()>().await;
    };
    assert!(timeout(SECOND, call).await.is_err());
    assert_eq!(pool.acquire(&1).await.expect("dialed").number, 1);
    assert_eq!((peer.high_water.load(SeqCst), pool.stats().closed(Broken)), (1, 1));
}

/// thrift-and-tcp A11, B11. The pool's part: the time limit of a dial.
#[tokio::test(start_paused = true)]
async fn a_dial_to_a_silent_address_ends_at_the_connect_limit() {
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(thrift());
    peer.set(&peer.connect, Way::Never);
    let started = Instant::now();
    let error = pool.acquire(&1).await.expect_err("nobody answers");
    assert_eq!(started.elapsed(), 10 * SECOND);
    assert!(matches!(error, Error::Dial { source: DialError::TimedOut(_) }), "{error}");
    assert_eq!((pool.status().open, peer.dialing.load(SeqCst)), (0, 0));
}

/// thrift-and-tcp B10. A one-shot client is a pool that keeps nothing.
#[tokio::test(start_paused = true)]
async fn a_one_shot_client_dials_for_each_exchange_and_leaves_no_socket_open() {
    let policy = Policy { max_idle_per_key: Some(0), ..thrift() };
    let (pool, peer) = fake::pool::<Exclusive<Connection>>(policy);
    for exchange in 1..=3 {
        drop(pool.acquire(&1).await.expect("dialed"));
        assert_eq!((peer.accepted.load(SeqCst), peer.open()), (exchange, 0));
    }
}
