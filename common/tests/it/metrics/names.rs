//! Names, kinds, units and labels.

use metrics::Unit;
use metrics_util::MetricKind::{self, Counter, Gauge, Histogram};
use metrics_util::debugging::DebuggingRecorder;
use pool_common::event::CloseCause;
use pool_common::metrics::Metrics;
use pool_common::{Exclusive, Policy};

use super::heard::{reporting, under};
use crate::support::fake::Connection;

type Ex = Exclusive<Connection>;

fn with_all_limits() -> Policy {
    Policy {
        max_open: Some(8),
        max_open_per_key: Some(4),
        max_idle: Some(6),
        max_idle_per_key: Some(3),
        min_idle: 1,
        ..Policy::default()
    }
}

/// What is our own in both conventions.
const OWN: [(MetricKind, &str); 11] = [
    (Gauge, "pool.connection.dialing{pool.name=p}"),
    (Gauge, "pool.connection.closing{pool.name=p}"),
    (Gauge, "pool.connection.draining{pool.name=p}"),
    (Gauge, "pool.leases{pool.name=p}"),
    (Counter, "pool.leases.granted{pool.name=p,pool.lease.reused=true}"),
    (Counter, "pool.leases.granted{pool.name=p,pool.lease.reused=false}"),
    (Counter, "pool.dials{pool.name=p}"),
    (Counter, "pool.dials.failed{pool.name=p}"),
    (Counter, "pool.acquires.waited{pool.name=p}"),
    (Counter, "pool.acquires.gave_up{pool.name=p}"),
    (Counter, "pool.acquires.refused{pool.name=p}"),
];

fn check(metrics: Metrics, expected: &[(MetricKind, &str)]) {
    let (_pool, _peer, mut heard) = reporting::<Ex>(with_all_limits(), metrics);
    heard.update();
    let mut expected: Vec<(MetricKind, String)> =
        expected.iter().chain(&OWN).map(|(kind, name)| (*kind, (*name).to_owned())).collect();
    for cause in CloseCause::ALL {
        let name = format!("pool.connection.closed{{pool.name=p,pool.close.cause={cause}}}");
        expected.push((Counter, name));
    }
    let mut found: Vec<(MetricKind, String)> =
        heard.described.iter().map(|(kind, name, ..)| (*kind, name.clone())).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    for (kind, name, unit, about) in &heard.described {
        let expected = if *kind == Histogram { Unit::Seconds } else { Unit::Count };
        assert_eq!(*unit, Some(expected), "{name}");
        assert!(!about.is_empty(), "{name} is described");
    }
}

#[test]
fn database_clients_follow_opentelemetry() {
    check(
        Metrics::db("p"),
        &[
            (
                Gauge,
                "db.client.connection.count{db.client.connection.pool.name=p,db.client.connection.state=idle}",
            ),
            (
                Gauge,
                "db.client.connection.count{db.client.connection.pool.name=p,db.client.connection.state=used}",
            ),
            (
                Gauge,
                "db.client.connection.max{db.client.connection.pool.name=p,pool.limit.scope=pool}",
            ),
            (
                Gauge,
                "db.client.connection.max{db.client.connection.pool.name=p,pool.limit.scope=key}",
            ),
            (
                Gauge,
                "db.client.connection.idle.max{db.client.connection.pool.name=p,pool.limit.scope=pool}",
            ),
            (
                Gauge,
                "db.client.connection.idle.max{db.client.connection.pool.name=p,pool.limit.scope=key}",
            ),
            (
                Gauge,
                "db.client.connection.idle.min{db.client.connection.pool.name=p,pool.limit.scope=key}",
            ),
            (Gauge, "db.client.connection.pending_requests{db.client.connection.pool.name=p}"),
            (Counter, "db.client.connection.timeouts{db.client.connection.pool.name=p}"),
            (Histogram, "db.client.connection.create_time{db.client.connection.pool.name=p}"),
            (Histogram, "db.client.connection.wait_time{db.client.connection.pool.name=p}"),
            (Histogram, "db.client.connection.use_time{db.client.connection.pool.name=p}"),
            (Histogram, "pool.connection.duration{pool.name=p}"),
        ],
    );
}

#[test]
fn http_clients_follow_opentelemetry() {
    check(
        Metrics::http_client("p"),
        &[
            (Gauge, "http.client.open_connections{pool.name=p,http.connection.state=idle}"),
            (Gauge, "http.client.open_connections{pool.name=p,http.connection.state=active}"),
            (Gauge, "pool.connection.max{pool.name=p,pool.limit.scope=pool}"),
            (Gauge, "pool.connection.max{pool.name=p,pool.limit.scope=key}"),
            (Gauge, "pool.connection.idle.max{pool.name=p,pool.limit.scope=pool}"),
            (Gauge, "pool.connection.idle.max{pool.name=p,pool.limit.scope=key}"),
            (Gauge, "pool.connection.idle.min{pool.name=p,pool.limit.scope=key}"),
            (Gauge, "pool.connection.pending_requests{pool.name=p}"),
            (Counter, "pool.connection.timeouts{pool.name=p}"),
            (Histogram, "pool.connection.create_time{pool.name=p}"),
            (Histogram, "pool.connection.wait_time{pool.name=p}"),
            (Histogram, "pool.connection.use_time{pool.name=p}"),
            (Histogram, "http.client.connection.duration{pool.name=p}"),
        ],
    );
}

#[test]
fn a_label_is_on_every_metric() {
    let metrics = Metrics::db("p").label("server.address", "db.example");
    let (_pool, _peer, mut heard) = reporting::<Ex>(with_all_limits(), metrics);
    heard.update();
    assert!(!heard.described.is_empty());
    for (_, name, ..) in &heard.described {
        assert!(name.ends_with("server.address=db.example}"), "{name}");
    }
}

#[test]
fn limits_are_reported_before_the_first_acquire() {
    let (_pool, _peer, mut heard) = reporting::<Ex>(with_all_limits(), Metrics::db("p"));
    assert_eq!(heard.gauge("db.client.connection.max{pool.limit.scope=pool}"), 8.0);
    assert_eq!(heard.gauge("db.client.connection.max{pool.limit.scope=key}"), 4.0);
    assert_eq!(heard.gauge("db.client.connection.idle.max{pool.limit.scope=pool}"), 6.0);
    assert_eq!(heard.gauge("db.client.connection.idle.max{pool.limit.scope=key}"), 3.0);
    assert_eq!(heard.gauge("db.client.connection.idle.min{pool.limit.scope=key}"), 1.0);
}

#[test]
fn a_limit_that_is_not_set_is_not_reported() {
    let policy = Policy { max_open: None, max_open_per_key: Some(0x10), ..Policy::default() };
    let (_pool, _peer, mut heard) = reporting::<Ex>(policy, Metrics::db("p"));
    heard.update();
    let limits: Vec<&str> = heard
        .described
        .iter()
        .map(|(_, name, ..)| name.as_str())
        .filter(|name| name.contains("pool.limit.scope"))
        .collect();
    assert_eq!(
        limits,
        ["db.client.connection.max{db.client.connection.pool.name=p,pool.limit.scope=key}"]
    );
}

#[tokio::test]
async fn who_does_not_ask_reports_nothing() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let (pool, _peer) = under::<Ex>(&recorder, Policy::default(), None);
    drop(pool.acquire(&1).await.expect("dialed"));
    pool.close().await;
    assert!(snapshotter.snapshot().into_vec().is_empty());
}
