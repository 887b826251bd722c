//! Real servers as targets: figures that they cannot tell are null, never made up.

use crate::common::{Ran, run, run_for};
use pool_common::testing::servers::{NghttpdServer, NginxServer, RedisServer};
use serde_json::Value;

/// Checks that the figures are null that a server of the user cannot tell.
fn assert_unknown(row: &Value) {
    for unknown in ["duplicates", "leaked", "high_water_open"] {
        assert!(row[unknown].is_null(), "{unknown} of {row:#}");
    }
    assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
    assert_eq!(row["errors"], 0, "{row:#}");
}

fn assert_ran(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(ran.rows().len() >= 5);
    ran.rows().iter().for_each(assert_unknown);
}

#[test]
fn redis_echoes_so_mismatches_are_known() {
    let server = RedisServer::start(&["--requirepass", "se:cret"]);
    let target = format!("redis://:se%3Acret@{}/2", server.addr());
    let ran = run("target-redis", &["--protocol", "resp", "--callers", "4", "--target", &target]);
    assert_ran(&ran);
    assert!(ran.rows().iter().all(|row| row["mismatches"] == 0));
    let everything = format!("{}{}{}", ran.stdout, ran.stderr, ran.results);
    assert!(!everything.contains("se:cret") && !everything.contains("se%3Acret"));
}

#[test]
fn sessions_are_neutral_on_redis_too() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let ran = run(
        "target-redis-session",
        &["--scenario", "session", "--callers", "4", "--connections", "2", "--target", &target],
    );
    assert_ran(&ran);
    assert!(ran.rows().iter().all(|row| row["mismatches"] == 0), "{}", ran.all());
}

#[test]
fn a_wrong_password_is_bad_usage_and_stays_secret() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let target = format!("redis://:wrong-one@{}", server.addr());
    let ran = run("target-redis-password", &["--callers", "4", "--target", &target]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(!ran.stderr.contains("wrong-one"), "{}", ran.stderr);
}

#[test]
fn the_error_for_a_missing_password_tells_where_to_give_one() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let target = format!("redis://{}", server.addr());
    let ran = run("target-redis-noauth", &["--callers", "4", "--target", &target]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    for words in ["NOAUTH Authentication required.", "redis://:PASSWORD@HOST:PORT"] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn a_refused_handshake_is_told_to_its_end() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}/99", server.addr());
    let ran = run("target-redis-database", &["--callers", "4", "--target", &target]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("ERR DB index is out of range"), "{}", ran.stderr);
}

#[test]
fn a_server_that_speaks_http1_only_is_named() {
    let server = NginxServer::start(r#"location / { return 200 "hello"; }"#);
    let target = format!("h2c://{}/", server.addr());
    let ran = run("target-h2c-http1", &["--callers", "4", "--target", &target]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("it speaks HTTP/1 here"), "{}", ran.stderr);
}

#[test]
fn nginx_does_not_echo_so_mismatches_are_unknown() {
    let server = NginxServer::start(r#"location / { return 200 "hello"; }"#);
    let target = format!("http://{}/", server.addr());
    let ran = run("target-nginx", &["--protocol", "http1", "--callers", "4", "--target", &target]);
    assert_ran(&ran);
    assert!(ran.rows().iter().all(|row| row["mismatches"].is_null()));
    assert!(ran.stdout.contains("does not echo"), "{}", ran.stdout);
}

#[test]
fn nghttpd_does_not_echo_so_mismatches_are_unknown() {
    let server = NghttpdServer::start(&[]);
    let target = format!("h2c://{}/", server.addr());
    let ran =
        run("target-nghttpd", &["--protocol", "http2", "--callers", "4", "--target", &target]);
    assert_ran(&ran);
    assert!(ran.rows().iter().all(|row| row["mismatches"].is_null()));
}

#[test]
fn a_server_of_another_protocol_is_bad_usage() {
    let server = RedisServer::start(&[]);
    for scheme in ["http", "h2c"] {
        let target = format!("{scheme}://{}", server.addr());
        let ran = run("target-wrong", &["--callers", "4", "--target", &target]);
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        let words = format!(
            "it speaks the protocol of Redis here, and not HTTP/{}",
            if scheme == "http" { 1 } else { 2 }
        );
        assert!(ran.stderr.contains(&words), "{}", ran.stderr);
        let meant = format!("try --target redis://{}", server.addr());
        assert!(ran.stderr.contains(&meant), "{}", ran.stderr);
    }
    let server = NginxServer::start(r#"location / { return 200 "hello"; }"#);
    let target = format!("redis://{}", server.addr());
    let ran = run("target-wrong", &["--callers", "4", "--target", &target]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    let words = "it speaks HTTP/1 here, and not the protocol of Redis; try --target http://";
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    let server = NghttpdServer::start(&[]);
    for scheme in ["http", "redis"] {
        let target = format!("{scheme}://{}", server.addr());
        let ran = run("target-wrong", &["--callers", "4", "--target", &target]);
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert!(
            ran.stderr.contains("it speaks HTTP/2 with prior knowledge here"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_server_that_closes_connections_now_and_then_costs_no_request() {
    let server = NginxServer::start(r#"keepalive_requests 20; location / { return 200 "hello"; }"#);
    let target = format!("http://{}/", server.addr());
    let options = ["--contestant", "limit,no-pool,net-http,go-redis", "--callers", "4"];
    let ran = run("target-nginx-closes", &[&options[..], &["--target", &target]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for row in ran.rows() {
        assert_unknown(row);
        let [opened, requests] = ["opened", "requests"].map(|name| row[name].as_u64().unwrap());
        assert!(opened * 20 >= requests, "{row:#}");
    }
}

/// The limit goes on where a server ends its connections, and all are compared with it.
fn redials_outside_the_measured_time(test: &str, target: &str) {
    let options = ["--contestant", "limit,net-http", "--callers", "2", "--target", target];
    // Long enough for several times 50 requests on each connection, on a busy machine too.
    let ran = run_for("600ms", test, &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let [limit, .., other] = ran.rows() else { panic!("{}", ran.all()) };
    assert_unknown(limit);
    let count = |name: &str| limit[name].as_u64().unwrap();
    assert!(count("redials") > 0, "{limit:#}");
    assert!(count("opened") > count("redials"), "{limit:#}");
    assert!(limit["broke"].is_null() && limit["throughput_per_s"].is_f64(), "{limit:#}");
    assert!(other["vs_limit"].is_object() && other["redials"].is_null(), "{other:#}");
    let way = limit["variant"].as_str().map_or(String::new(), |way| format!(" {way}"));
    let words = format!("limit{way} redialed {} times", count("redials"));
    assert!(ran.stdout.contains(&words), "{}", ran.stdout);
}

#[test]
fn the_limit_redials_where_nginx_ends_connections() {
    let server = NginxServer::start(r#"keepalive_requests 50; location / { return 200 "hello"; }"#);
    redials_outside_the_measured_time("target-redials", &format!("http://{}/", server.addr()));
}

#[test]
fn the_limit_redials_where_nginx_ends_connections_of_http2() {
    let location = r#"keepalive_requests 50; location / { return 200 "hello"; }"#;
    let server = NginxServer::start_http2(location);
    redials_outside_the_measured_time("target-redials-h2c", &format!("h2c://{}/", server.addr()));
}
