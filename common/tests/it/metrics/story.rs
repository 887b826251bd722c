//! What is heard of one thing after another, in virtual time.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use metrics_util::debugging::DebuggingRecorder;
use pool_common::metrics::Metrics;
use pool_common::policy::Check;
use pool_common::{Error, Exclusive, Policy, Shared};
use tokio::time::sleep;

use super::heard::{Heard, reporting, under};
use crate::support::fake::{Connection, Way, until};

type Ex = Exclusive<Connection>;

const IDLE: &str = "db.client.connection.count{db.client.connection.state=idle}";
const USED: &str = "db.client.connection.count{db.client.connection.state=used}";
const PENDING: &str = "db.client.connection.pending_requests";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn closed(heard: &mut Heard, cause: &str) -> u64 {
    heard.counter(&format!("pool.connection.closed{{pool.close.cause={cause}}}"))
}

#[tokio::test(start_paused = true)]
async fn every_step_of_a_busy_pool_is_heard() {
    let policy = Policy {
        max_open_per_key: Some(1),
        acquire_timeout: Some(secs(5)),
        idle_timeout: None,
        ..Policy::default()
    };
    let (pool, peer, mut heard) = reporting::<Ex>(policy, Metrics::db("p"));
    peer.set(&peer.connect, Way::Slow(secs(2)));

    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await }
    });
    until("dialing", || pool.status().dialing == 1).await;
    assert_eq!(heard.gauge("pool.connection.dialing"), 1.0);
    let first = first.await.expect("no panic").expect("dialed");
    assert_eq!(heard.gauge("pool.connection.dialing"), 0.0);
    assert_eq!((heard.gauge(IDLE), heard.gauge(USED)), (0.0, 1.0));
    assert_eq!(heard.histogram("db.client.connection.create_time"), [2.0]);
    assert_eq!(heard.histogram("db.client.connection.wait_time"), [2.0]);
    assert_eq!(heard.histogram("db.client.connection.use_time"), [0.0; 0]);

    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&1).await }
    });
    until("waiting", || pool.status().waiting == 1).await;
    assert_eq!(heard.gauge(PENDING), 1.0);
    sleep(secs(3)).await;
    drop(first);
    let second = second.await.expect("no panic").expect("handed over");
    assert_eq!(heard.gauge(PENDING), 0.0);
    assert_eq!(heard.histogram("db.client.connection.wait_time"), [2.0, 3.0]);
    assert_eq!(heard.histogram("db.client.connection.use_time"), [3.0]);

    let error = pool.acquire(&1).await.expect_err("its time is up");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(heard.counter("db.client.connection.timeouts"), 1);
    assert_eq!(heard.counter("pool.acquires.gave_up"), 1);
    assert_eq!(heard.counter("pool.acquires.waited"), 3, "the first waited for a dial");
    assert_eq!(heard.gauge(PENDING), 0.0);

    drop(second);
    assert_eq!((heard.gauge(IDLE), heard.gauge(USED)), (1.0, 0.0));
    assert_eq!(heard.histogram("db.client.connection.use_time"), [3.0, 5.0]);
    let third = pool.acquire(&1).await.expect("idle");
    assert_eq!((heard.gauge(IDLE), heard.gauge(USED)), (0.0, 1.0));
    assert_eq!(heard.histogram("db.client.connection.wait_time"), [0.0, 2.0, 3.0]);
    assert_eq!(heard.counter("pool.leases.granted{pool.lease.reused=true}"), 2);
    assert_eq!(heard.counter("pool.leases.granted{pool.lease.reused=false}"), 1);

    third.broken.store(true, SeqCst);
    drop(third);
    assert_eq!(closed(&mut heard, "broken"), 1);
    // Opened at 2 s, gone at 10 s.
    assert_eq!(heard.histogram("pool.connection.duration"), [8.0]);

    peer.set(&peer.connect, Way::Fails);
    pool.acquire(&1).await.expect_err("the peer refuses");
    assert_eq!((heard.counter("pool.dials"), heard.counter("pool.dials.failed")), (2, 1));
    assert_eq!(heard.histogram("db.client.connection.create_time"), [2.0]);

    pool.close().await;
    pool.acquire(&1).await.expect_err("the pool is closed");
    assert_eq!(heard.counter("pool.acquires.refused"), 1);
    assert_eq!(heard.left(), []);
}

#[tokio::test(start_paused = true)]
async fn closes_are_counted_by_cause() {
    let policy = Policy { idle_timeout: Some(secs(60)), check: Check::Always, ..Policy::default() };
    let (pool, peer, mut heard) = reporting::<Ex>(policy, Metrics::db("p"));
    pool.acquire(&1).await.expect("dialed").discard();
    assert_eq!(closed(&mut heard, "discarded"), 1);

    drop(pool.acquire(&1).await.expect("dialed"));
    peer.set(&peer.check, Way::Fails);
    let lease = pool.acquire(&1).await.expect("a fresh one");
    assert_eq!(closed(&mut heard, "check-failed"), 1);
    // The one that failed its check was in nobody's hands.
    assert_eq!(heard.histogram("db.client.connection.use_time").len(), 2);
    assert_eq!(heard.histogram("db.client.connection.wait_time").len(), 3);

    drop(lease);
    sleep(secs(120)).await;
    assert_eq!(closed(&mut heard, "idle-timeout"), 1);
    assert_eq!(heard.gauge(IDLE), 0.0);

    peer.set(&peer.check, Way::Ok);
    let lease = pool.acquire(&1).await.expect("dialed");
    lease.dirty.store(true, SeqCst);
    peer.set(&peer.reset, Way::SlowlyFails(secs(1)));
    drop(lease);
    until("reset", || peer.resets.load(SeqCst) == 1).await;
    sleep(secs(2)).await;
    assert_eq!(closed(&mut heard, "reset-failed"), 1);
    // The lease lasts until its reset is over.
    assert_eq!(heard.histogram("db.client.connection.use_time").last(), Some(&1.0));

    peer.set(&peer.close, Way::Slow(secs(1)));
    drop(pool.acquire(&1).await.expect("dialed"));
    pool.start_close();
    assert_eq!(heard.gauge("pool.connection.closing"), 1.0);
    pool.close().await;
    assert_eq!(closed(&mut heard, "pool-closed"), 1);
    assert_eq!(heard.left(), []);
}

#[tokio::test(start_paused = true)]
async fn shared_leases_are_counted_apart_from_connections() {
    let (pool, _peer, mut heard) =
        reporting::<Shared<Connection>>(Policy::default(), Metrics::http_client("p"));
    let active = "http.client.open_connections{http.connection.state=active}";
    let idle = "http.client.open_connections{http.connection.state=idle}";
    let first = pool.acquire(&1).await.expect("dialed");
    let second = pool.acquire(&1).await.expect("there is room for two");
    let third = pool.acquire(&1).await.expect("dialed");
    assert_eq!((heard.gauge(active), heard.gauge(idle)), (2.0, 0.0));
    assert_eq!(heard.gauge("pool.leases"), 3.0);

    drop(third);
    assert_eq!((heard.gauge(active), heard.gauge(idle)), (1.0, 1.0));
    pool.retire(first.connection_id());
    assert_eq!((heard.gauge(active), heard.gauge("pool.connection.draining")), (0.0, 1.0));
    sleep(secs(7)).await;
    drop((first, second));
    assert_eq!(heard.gauge("pool.connection.draining"), 0.0);
    assert_eq!(closed(&mut heard, "retired"), 1);
    assert_eq!(heard.histogram("http.client.connection.duration"), [7.0]);
    assert_eq!(heard.histogram("pool.connection.use_time"), [0.0, 7.0, 7.0]);
    pool.close().await;
    assert_eq!(heard.left(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_with_a_lease_out_reports_until_that_is_back() {
    let (pool, _peer, mut heard) = reporting::<Ex>(Policy::default(), Metrics::db("p"));
    let lease = pool.acquire(&1).await.expect("dialed");
    assert_eq!(heard.gauge("db.client.connection.max{pool.limit.scope=key}"), 100.0);
    drop(pool);
    assert_eq!(
        heard.left(),
        [(USED.to_owned(), 1.0), ("pool.leases".to_owned(), 1.0)],
        "the lease, and no limit any more"
    );
    drop(lease);
    assert_eq!(heard.left(), []);
}

#[tokio::test(start_paused = true)]
async fn pools_of_one_name_add_up() {
    let recorder = DebuggingRecorder::new();
    let mut heard = Heard::by(&recorder);
    let (one, _peer) = under::<Ex>(&recorder, Policy::default(), Some(Metrics::db("p")));
    let (two, _peer) = under::<Ex>(&recorder, Policy::default(), Some(Metrics::db("p")));
    let leases = (one.acquire(&1).await.expect("dialed"), two.acquire(&1).await.expect("dialed"));
    assert_eq!(heard.gauge(USED), 2.0);
    assert_eq!(heard.gauge("db.client.connection.max{pool.limit.scope=key}"), 200.0);
    drop(two);
    drop(leases);
    assert_eq!((heard.gauge(USED), heard.gauge(IDLE)), (0.0, 1.0));
    assert_eq!(heard.gauge("db.client.connection.max{pool.limit.scope=key}"), 100.0);
    one.close().await;
    assert_eq!(heard.left(), []);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_waited_for_and_a_try_is_not() {
    let policy = Policy { check: Check::IfIdleLonger, check_after: secs(10), ..Policy::default() };
    let (pool, peer, mut heard) = reporting::<Ex>(policy, Metrics::db("p"));
    peer.set(&peer.check, Way::Slow(secs(3)));
    drop(pool.acquire(&1).await.expect("dialed"));
    sleep(secs(20)).await;
    drop(pool.acquire(&1).await.expect("it passes"));
    assert_eq!(heard.histogram("db.client.connection.wait_time"), [0.0, 3.0]);
    let lease = pool.try_acquire(&1).expect("idle");
    sleep(secs(1)).await;
    drop(lease);
    assert_eq!(heard.histogram("db.client.connection.wait_time"), [0.0, 0.0, 3.0]);
    // The time of the check is the pool's, not the borrower's.
    assert_eq!(heard.histogram("db.client.connection.use_time"), [0.0, 0.0, 1.0]);
    pool.close().await;
}
