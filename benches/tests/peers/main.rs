//! Each rival on each of its protocols, for a short and calm time: what it is measured with works.
//! Under faults some of them break promises; that is what the comparison is for, and no test.

#[path = "../it/common.rs"]
#[expect(dead_code, reason = "shared with the other tests, which need all of it")]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use common::{Ran, Serving, plain, run, run_for};
use pool_common::testing::servers::{NginxServer, RedisServer};
use poolbench::catalog::PEERS;
use poolbench::contestants::{Setup, probe, take_turn};
use poolbench::names::Protocol;
use poolbench::run::load::Load;
use poolbench::scenario::STEADY;
use poolbench::scenario::demand::Budget;
use poolbench::serve::control::Answer;
use poolbench::serve::oracle::Counters;
use poolbench::target::Target;
use serde_json::Value;

const RESP: [&str; 6] =
    ["redis-rs", "redis-rs-manager", "bb8-redis", "deadpool-redis", "fred", "rustis"];

/// What must hold for a rival that had no trouble.
fn assert_calm(row: &Value) {
    assert_eq!(row["kind"], "peer", "{row:#}");
    assert_eq!(row["errors"], 0, "{row:#}");
    assert_eq!(row["timeouts"], 0, "{row:#}");
    assert_eq!(row["mismatches"], 0, "{row:#}");
    assert!(row["broke"].is_null(), "{row:#}");
    assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
    assert!(!row["does_not"].as_array().unwrap().is_empty(), "{row:#}");
    assert_eq!(row["category"], "as shipped");
    for unknown in ["policy", "timeline", "vs_limit"] {
        assert!(row[unknown].is_null(), "{unknown} was not measured: {row:#}");
    }
}

fn assert_sound(ran: &Ran, rivals: &[&str]) {
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let names: Vec<&str> =
        ran.rows().iter().map(|row| row["contestant"].as_str().unwrap()).collect();
    assert_eq!(names, rivals, "{}", ran.all());
    ran.rows().iter().for_each(assert_calm);
}

/// Runs the rivals against the embedded server, which counts. `scenario` has reads, or writes as well.
fn embedded(protocol: &str, rivals: &[&str], options: &[&str]) -> Ran {
    let test = format!("peers-{protocol}-{}", options.join(""));
    let contestants = rivals.join(",");
    let fixed = ["--protocol", protocol, "--contestant", &contestants, "--callers", "4"];
    let ran = run(&test, &[&fixed[..], options].concat());
    assert_sound(&ran, rivals);
    for row in ran.rows() {
        assert_eq!(row["duplicates"], 0, "{row:#}");
        assert_eq!(row["leaked"], 0, "{row:#}");
        assert!(row["opened"].as_u64().unwrap() > 0, "{row:#}");
    }
    ran
}

#[test]
fn rivals_over_http1_return_each_nonce_once() {
    embedded("http1", &["hyper-util", "reqwest"], &["--connections", "4"]);
}

#[test]
fn rivals_over_http2_return_each_nonce_once() {
    let ran = embedded("http2", &["hyper-util", "reqwest", "tonic"], &["--connections", "4"]);
    assert!(ran.rows().iter().all(|row| row["high_water_open"] == 1), "{}", ran.all());
}

/// Two sites at one address: a request with another name than the server's reaches the first one.
#[test]
fn rivals_name_the_server_and_not_the_relay() {
    let sites = [
        ("elsewhere.test", "location / { return 421 elsewhere; }"),
        ("localhost", "location / { return 200 here; }"),
    ];
    for (http2, scheme, rivals) in
        [(false, "http", "hyper-util,reqwest"), (true, "h2c", "hyper-util,reqwest,tonic")]
    {
        let server = NginxServer::start_sites(http2, &sites);
        let target = format!("{scheme}://localhost:{}", server.addr().port());
        let options = ["--scenario", "restart", "--contestant", rivals, "--target", &target];
        // Requests fail while the server seems to be gone; none gets the reply of the other site.
        let ran = run_for("1800ms", &format!("peers-{scheme}-sites"), &options);
        assert_eq!(ran.code, Some(0), "{}", ran.all());
        for row in ran.rows().iter().filter(|row| row["scenario"] == "restart") {
            assert_eq!(row["relayed"], true, "{row:#}");
            assert_eq!(row["errors_by_kind"]["wrong"], 0, "{row:#}");
            assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
        }
        assert!(!ran.all().contains("answers 421"), "{}", ran.all());
    }
}

#[test]
fn rivals_over_resp_return_each_nonce_once() {
    let ran = embedded("resp", &RESP, &["--connections", "3"]);
    for row in ran.rows() {
        let one = ["redis-rs", "redis-rs-manager", "rustis"]
            .contains(&row["contestant"].as_str().unwrap());
        let most = row["high_water_open"].as_u64().unwrap();
        assert_eq!(most, if one { 1 } else { 3 }, "{row:#}");
    }
}

#[test]
fn pools_keep_their_own_limits_when_told_to() {
    let ran = embedded("resp", &["bb8-redis", "fred"], &["--budget", "own"]);
    let most = |at: usize| ran.rows()[at]["high_water_open"].as_u64().unwrap();
    assert!((1..=10).contains(&most(0)), "{}", ran.all());
    assert_eq!(most(1), 5, "{}", ran.all());
}

/// Asks the server's oracle.
fn ask(serving: &Serving, command: &str) -> Counters {
    let mut stream = TcpStream::connect(serving.bound.control).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    match serde_json::from_str(&answer).unwrap() {
        Answer::Counters(counters) => counters,
        other => panic!("{other:?}"),
    }
}

/// No scenario has writes and nothing that goes wrong, so the turns are driven from here.
#[tokio::test]
async fn writes_of_every_rival_run_once() {
    let serving = Serving::start(&[]);
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Resp] {
        let address = serving.bound.address(protocol).unwrap();
        let target = Arc::new(Target::embedded(protocol, address));
        let template = Arc::new(probe(&target).await.unwrap());
        for (run, peer) in (1..).zip(PEERS.iter().filter(|peer| peer.protocols.contains(&protocol)))
        {
            ask(&serving, &format!(r#"{{"op":"start","protocol":"{protocol}","run":{run}}}"#));
            let setup = Setup {
                kind: peer.kind,
                policy: None,
                target: Arc::clone(&target),
                template: Arc::clone(&template),
                scenario: STEADY,
                variant: None,
                connections: 2,
                budget: Budget::Same,
            };
            let turn = Load::closed(4, Duration::ZERO, Duration::from_millis(60));
            let turn = take_turn(&setup, &Load { writes_percent: 50, run, ..turn }).await.unwrap();
            assert_eq!(turn.first_error, None, "{} on {protocol}", peer.name);
            assert_eq!(turn.mismatches, Some(0), "{} on {protocol}", peer.name);
            assert!(turn.writes > 0 && turn.replies > turn.writes, "{}: {turn:?}", peer.name);
            let counted = ask(&serving, &format!(r#"{{"op":"counters","protocol":"{protocol}"}}"#));
            assert_eq!(counted.writes, turn.writes, "{} on {protocol}", peer.name);
            assert_eq!(counted.duplicates, 0, "{} on {protocol}", peer.name);
        }
    }
}

#[test]
fn rivals_speak_with_a_real_redis_server() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let target = format!("redis://:secret@{}/1", server.addr());
    let options = ["--contestant", &RESP.join(","), "--callers", "4", "--connections", "2"];
    let ran = run("peers-redis", &[&options[..], &["--target", &target]].concat());
    assert_sound(&ran, &RESP);
    for row in ran.rows() {
        for unknown in ["duplicates", "leaked", "high_water_open"] {
            assert!(row[unknown].is_null(), "{unknown} of {row:#}");
        }
        // Only some of them count their connections; a pool that does not is null, not 0.
        let counts = ["redis-rs", "bb8-redis", "rustis"];
        let known = counts.contains(&row["contestant"].as_str().unwrap());
        assert_eq!(row["opened"].as_u64().is_some_and(|opened| opened > 0), known, "{row:#}");
    }
}

#[test]
fn rivals_are_listed_and_take_part_only_when_asked_for() {
    let listed = plain(&["list", "--json"]);
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    let peers = json["contestants"].as_array().unwrap().iter().filter(|one| one["kind"] == "peer");
    assert_eq!(peers.count(), PEERS.len());
    for peer in PEERS {
        assert_eq!(peer.facts().map(|facts| facts.name), Some(peer.name));
        assert!(plain(&["explain", peer.name]).stdout.contains("It does not"), "{}", peer.name);
    }
    let all = run("peers-flag", &["--protocol", "http2", "--callers", "2", "--peers"]);
    assert_eq!(all.code, Some(0), "{}", all.all());
    let peers = |ran: &Ran| ran.rows().iter().filter(|row| row["kind"] == "peer").count();
    // Two callers, so there are limits of one and of two connections.
    assert_eq!((peers(&all), all.rows().len()), (3, 10));
    let plain = run("peers-without-flag", &["--protocol", "http2", "--callers", "2"]);
    assert_eq!((peers(&plain), plain.rows().len()), (0, 7));
}

#[test]
fn rivals_over_http_send_the_request_that_was_asked_for() {
    for (protocol, rivals) in
        [("http1", &["hyper-util", "reqwest"][..]), ("http2", &["hyper-util", "reqwest", "tonic"])]
    {
        let own = ["--method", "PUT", "--path", "/items", "--body-size", "300"];
        embedded(protocol, rivals, &own);
    }
}

#[test]
fn rivals_over_resp_refuse_a_command_by_name() {
    let options = ["run", "--protocol", "resp", "--contestant", "fred", "--command", "GET key"];
    let ran = plain(&options);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("fred takes part"), "{}", ran.stderr);
}
