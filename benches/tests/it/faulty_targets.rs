//! Scenarios of faults in front of real servers: the relay plays the faults, and figures that it cannot
//! know are null.

use pool_common::testing::servers::{NghttpdServer, NginxServer, RedisServer};
use serde_json::Value;

use crate::common::{Ran, run_for};

/// Runs scenarios in front of a server with few requests in flight.
fn run(test: &str, duration: &str, target: &str, scenarios: &str, contestants: &str) -> Ran {
    let options = ["--scenario", scenarios, "--contestant", contestants, "--target", target];
    let small = ["--max-in-flight", "100", "--callers", "4", "--connections", "20"];
    let ran = run_for(duration, test, &[&options[..], &small].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let steady = rows(&ran, "steady");
    let ways: Vec<&Value> = steady.iter().map(|row| &row["variant"]).collect();
    assert_eq!(ways, [&Value::Null, &Value::from("relay")], "what the relay costs: {}", ran.all());
    assert_known_to_a_relay(steady[1]);
    for unknown in ["duplicates", "leaked", "high_water_open"] {
        assert!(steady[0][unknown].is_null(), "{unknown} of {:#}", steady[0]);
    }
    assert!(ran.stdout.contains("through the relay"), "{}", ran.stdout);
    ran
}

fn rows<'a>(ran: &'a Ran, scenario: &str) -> Vec<&'a Value> {
    ran.rows().iter().filter(|row| row["scenario"] == scenario).collect()
}

/// A relay counts connections, and sees neither requests nor backends.
fn assert_known_to_a_relay(row: &Value) {
    for unknown in ["duplicates", "write_duplicates"] {
        assert!(row[unknown].is_null(), "{unknown} of {row:#}");
    }
    assert_eq!(row["leaked"], 0, "{row:#}");
    for count in ["opened", "high_water_open", "requests"] {
        assert!(row[count].as_u64().unwrap() > 0, "{count} of {row:#}");
    }
    for step in row["slots"].as_array().into_iter().flatten() {
        assert!(step["backends"].is_null(), "{step:#}");
        assert!(step["accepted"].is_u64(), "{step:#}");
    }
}

/// The rows of a scenario with faults, each of which lasted about as long as it should.
fn faulty<'a>(ran: &'a Ran, scenario: &str, faults: &[(&str, f64, f64)]) -> Vec<&'a Value> {
    let rows = rows(ran, scenario);
    assert!(!rows.is_empty(), "{}", ran.all());
    for row in &rows {
        assert_known_to_a_relay(row);
        for (name, at, until) in faults {
            let mut events = row["events"].as_array().unwrap().iter();
            let event = events.find(|event| event["fault"] == *name && event["at_ms"] != 0.0);
            let event = event.unwrap_or_else(|| panic!("no {name} in {row:#}"));
            assert!(event["at_ms"].as_f64().unwrap() >= *at, "{event:#}");
            if *until > *at {
                assert!(event["until_ms"].as_f64().unwrap() >= *until, "{event:#}");
            }
        }
    }
    rows
}

/// Requests that failed in the steps that began in this part of the turn.
fn errors_between(row: &Value, from: u64, until: u64) -> u64 {
    let steps = row["slots"].as_array().unwrap().iter();
    let within = steps.filter(|step| (from..until).contains(&step["t_ms"].as_u64().unwrap()));
    within.map(|step| step["errors"].as_u64().unwrap()).sum()
}

/// Two sites at one address: a request with another name reaches the first one.
#[test]
fn a_site_of_nginx_is_asked_by_its_name_through_the_relay() {
    for (http2, scheme) in [(false, "http"), (true, "h2c")] {
        let sites = [
            ("elsewhere.test", "location / { return 421 elsewhere; }"),
            ("localhost", "location / { return 200 here; }"),
        ];
        let server = NginxServer::start_sites(http2, &sites);
        let target = format!("{scheme}://localhost:{}", server.addr().port());
        let options = ["--scenario", "steady,restart", "--contestant", "limit,no-pool,default"];
        // A rate that `no-pool` keeps up with on a busy machine.
        let own = ["--target", &target, "--rate", "100"];
        let ran =
            run_for("1800ms", &format!("relay-{scheme}-sites"), &[&options[..], &own].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.all());
        assert!(!ran.all().contains("answers 421"), "{}", ran.all());
        let relayed = ran.rows().iter().filter(|row| row["relayed"] == true);
        assert!(relayed.count() >= 3, "{}", ran.all());
        for row in ran.rows() {
            assert_eq!(row["errors_by_kind"]["wrong"], 0, "{row:#}");
            assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
        }
    }
}

const RESTART: &[(&str, f64, f64)] = &[("refuse", 500.0, 1500.0), ("cut", 501.0, 0.0)];
const BLACK_HOLE: &[(&str, f64, f64)] = &[("silence", 500.0, 3000.0)];
const SLOW_DIAL: &[(&str, f64, f64)] = &[("slow-dial", 500.0, 2500.0), ("cut", 500.0, 0.0)];

fn assert_restart(ran: &Ran) {
    for row in faulty(ran, "restart", RESTART) {
        assert!(errors_between(row, 600, 1400) > 0, "{row:#}");
        assert!(row["errors_by_kind"]["dial"].as_u64().unwrap() > 0, "{row:#}");
        // A reply takes some time on the way; the end of the fault is not the reply.
        assert!(row["recovery"]["first_success_ms"].as_f64().unwrap() > 0.0, "{row:#}");
    }
}

fn assert_black_hole(ran: &Ran) {
    for row in faulty(ran, "black-hole", BLACK_HOLE) {
        assert!(row["timeouts"].as_u64().unwrap() > 0, "{row:#}");
    }
}

/// The server restarts, and new connections are slow to come.
fn restarts_and_is_dialed_slowly(test: &str, target: &str, contestant: &str) -> Ran {
    let ran = run(test, "2800ms", target, "restart,slow-dial,steady", contestant);
    assert_restart(&ran);
    for row in faulty(&ran, "slow-dial", SLOW_DIAL) {
        let slowest = row["latency_us"]["max"].as_f64().unwrap();
        assert!(slowest >= 200_000.0, "a dial was waited for: {row:#}");
    }
    ran
}

/// The server restarts, and its connections fall silent.
fn restarts_and_falls_silent(test: &str, target: &str, contestant: &str) -> Ran {
    let ran = run(test, "5300ms", target, "restart,black-hole", contestant);
    assert_restart(&ran);
    assert_black_hole(&ran);
    ran
}

/// Requests that must not run twice were among those sent.
fn assert_writes(ran: &Ran) {
    assert!(rows(ran, "restart")[0]["writes"].as_u64().unwrap() > 0, "{}", ran.all());
}

#[test]
fn redis_behind_the_relay_falls_silent() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let ran = run("relay-redis-silent", "5300ms", &target, "black-hole", "redigo");
    assert_black_hole(&ran);
}

#[test]
fn redis_behind_the_relay_restarts_and_is_dialed_slowly() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let ran = restarts_and_is_dialed_slowly("relay-redis", &target, "redigo");
    for row in ran.rows() {
        assert_eq!(row["mismatches"], 0, "{row:#}");
    }
    assert_writes(&ran);
    let keys = redis::size(&server);
    assert_eq!(keys, ":0", "counters were left behind");
}

#[test]
fn nginx_behind_the_relay_restarts_and_falls_silent() {
    let server = NginxServer::start(r#"location / { return 200 "hello"; }"#);
    let target = format!("http://{}/", server.addr());
    assert_writes(&restarts_and_falls_silent("relay-nginx", &target, "go-redis"));
}

#[test]
fn nginx_over_http2_behind_the_relay_restarts_and_is_dialed_slowly() {
    let server = NginxServer::start_http2(r#"location / { return 200 "hello"; }"#);
    let target = format!("h2c://{}/", server.addr());
    restarts_and_is_dialed_slowly("relay-nginx-h2c", &target, "net-http-h2");
}

#[test]
fn nghttpd_behind_the_relay_restarts_and_falls_silent() {
    let server = NghttpdServer::start(&[]);
    let target = format!("h2c://{}/", server.addr());
    restarts_and_falls_silent("relay-nghttpd", &target, "net-http");
}

#[test]
fn a_server_that_takes_no_post_is_asked_with_get_alone() {
    let server = NginxServer::start(
        r#"location / { limit_except GET { deny all; } return 200 "hello"; }
           location /static { limit_except GET { deny all; } alias /dev/null; }"#,
    );
    std::fs::write(server.document_root().join("page"), "hello").unwrap();
    let target = format!("http://{}/page", server.addr());
    let ran = run("relay-no-post", "1800ms", &target, "restart", "go-redis");
    let row = faulty(&ran, "restart", RESTART)[0].clone();
    assert_eq!(row["writes"], 0, "{row:#}");
    assert_eq!(row["errors_by_kind"]["wrong"], 0, "{row:#}");
    assert!(ran.stdout.contains("all requests are reads"), "{}", ran.stdout);
}

#[test]
fn the_host_of_a_server_behind_the_relay_is_its_own() {
    let server = NginxServer::start(r#"location / { return 200 "$http_host"; }"#);
    let target = format!("http://{}/", server.addr());
    // Replies have the length of the Host header; `no-pool` checks it. The rate is one that it keeps up
    // with on a busy machine.
    let options = ["--scenario", "cancel", "--contestant", "no-pool,go-redis", "--rate", "100"];
    let ran = run_for("1700ms", "relay-host", &[&options[..], &["--target", &target]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for row in faulty(&ran, "cancel", &[]) {
        assert_eq!(row["errors"], 0, "{row:#}");
    }
}

pub(crate) mod redis {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;

    use super::RedisServer;

    /// What `DBSIZE` answers.
    pub(crate) fn size(server: &RedisServer) -> String {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.write_all(b"DBSIZE\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
