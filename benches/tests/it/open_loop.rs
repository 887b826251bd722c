//! The open loop in front of a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poolbench::catalog::Kind;
use poolbench::contestants::{Setup, probe, take_turn};
use poolbench::measure::Percentiles;
use poolbench::names::Protocol;
use poolbench::run::load::{Began, Load};
use poolbench::scenario::STEADY;
use poolbench::scenario::demand::{Budget, Demand, Rate};
use poolbench::target::Target;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::common::{Serving, run};

/// Stops the server for a second while the turn goes on; how long it really was.
async fn stall(mut began: watch::Receiver<Option<Began>>, server: Pid) -> Duration {
    began.wait_for(Option::is_some).await.expect("the turn begins");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let stopped = Instant::now();
    kill_process(server, Signal::STOP).expect("the server is this test's own");
    tokio::time::sleep(Duration::from_secs(1)).await;
    kill_process(server, Signal::CONT).expect("the server is this test's own");
    stopped.elapsed()
}

#[tokio::test]
async fn a_stall_of_a_real_server_shows_in_the_latency_and_not_in_the_service_time() {
    let mut server = Serving::start(&["--resp", "127.0.0.1:0"]);
    let address = server.bound.resp.expect("it serves RESP");
    let pid = Pid::from_child(server.child());
    let target = Target::embedded(Protocol::Resp, address);
    let template = probe(&target).await.expect("the server answers");
    let setup = Setup {
        kind: Kind::Limit,
        policy: None,
        target: Arc::new(target),
        template: Arc::new(template),
        scenario: STEADY,
        variant: None,
        connections: 10,
        budget: Budget::Same,
    };
    let load = Load {
        demand: Demand::Paced { rate: Rate::PerSecond(400.0) },
        // Fewer than one request in a hundred can be in flight when the server stops.
        ..Load::closed(10, Duration::from_millis(100), Duration::from_secs(10))
    };
    let (turn, stalled) =
        tokio::join!(take_turn(&setup, &load), stall(load.began.subscribe(), pid));
    let turn = turn.expect("the turn starts");
    assert_eq!(turn.lateness.len(), 3999);
    assert_eq!(turn.latency.len() + turn.unstarted, 3999, "{:?}", turn.first_error);
    let latency = Percentiles::of(&turn.latency).expect("there are replies");
    let service = Percentiles::of(&turn.service).expect("there are replies");
    // One request in ten was wanted during the stall; those of its first tenth are the last 1 %.
    let stalled = stalled.as_secs_f64() * 1e6;
    assert!(latency.p99 > 0.85 * stalled, "{latency:?} of {stalled}");
    assert!(latency.p99 < stalled + 1e6, "{latency:?} of {stalled}");
    assert!(service.p99 < 0.5 * stalled, "{service:?} of {stalled}");
}

#[test]
fn arrivals_that_never_started_are_told_apart_from_failures() {
    // One request at a time cannot keep up with a new one every five microseconds.
    let load = ["--scenario", "paced", "--rate", "200000", "--max-in-flight", "1"];
    let options = [&load[..], &["--protocol", "resp", "--contestant", "no-pool"]].concat();
    let ran = run("unstarted", &options);
    assert_eq!(ran.code, Some(0), "an overload is no breakage: {}", ran.all());
    let row = &ran.rows()[0];
    assert!(row["unstarted"].as_u64().unwrap() > 0 && row["broke"].is_null(), "{row:#}");
    let warnings = ran.results["warnings"].as_array().unwrap();
    let told = |warning: &serde_json::Value| warning.as_str().unwrap().contains("(not started ");
    assert!(warnings.iter().any(told), "{warnings:?}");
    for words in ["not started", "warning: resp paced no-pool: "] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
}
