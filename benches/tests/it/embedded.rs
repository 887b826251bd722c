//! Short real runs of the built program on its embedded servers.

use crate::common::{run, run_for};
use serde_json::Value;

/// Checks what must hold for every row that the embedded servers took part in.
fn assert_sound(row: &Value) {
    for count in ["mismatches", "duplicates", "leaked"] {
        assert_eq!(row[count], 0, "{count} of {row:#}");
    }
    assert_eq!(row["errors"], 0, "{row:#}");
    assert_eq!(row["timeouts"], 0, "{row:#}");
    assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
    assert!(row["opened"].as_u64().unwrap() > 0, "{row:#}");
    assert!(row["high_water_open"].as_u64().unwrap() > 0, "{row:#}");
    assert!(row["throughput_per_s"].as_f64().unwrap() > 0.0, "{row:#}");
    assert!(row["cpu_us_per_request"].as_f64().unwrap() > 0.0, "{row:#}");
    for percentile in ["p50", "p90", "p99", "p999", "max"] {
        assert!(row["latency_us"][percentile].as_f64().unwrap() > 0.0, "{row:#}");
    }
    assert!(row["lateness_us"].is_null(), "nothing was late on purpose: {row:#}");
    let policy = &row["policy"];
    assert_eq!(row["kind"] == "ours", policy.is_object(), "{row:#}");
}

/// As tables name a row.
fn label(row: &Value) -> String {
    let contestant = row["contestant"].as_str().unwrap();
    match row["variant"].as_str() {
        Some(variant) => format!("{contestant} {variant}"),
        None => contestant.to_owned(),
    }
}

/// Every contestant of a protocol takes its turn.
fn steady(protocol: &str, contestants: &[&str]) {
    let ran = run(
        &format!("steady-{protocol}"),
        &["--protocol", protocol, "--callers", "4", "--connections", "4"],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert_eq!(ran.results["schema"], 1);
    assert_eq!(ran.results["partial"], false);
    let names: Vec<String> = ran.rows().iter().map(label).collect();
    assert_eq!(names, contestants);
    for row in ran.rows() {
        assert_sound(row);
        assert_eq!(row["protocol"], protocol);
        assert!(row["vs_limit"]["cpu"].as_f64().unwrap() > 0.0, "{row:#}");
        assert_eq!(row["vs_limit_of"], contestants[0]);
        let name = label(row);
        assert!(ran.stdout.contains(&name), "{name} is not in the table:\n{}", ran.stdout);
        if row["kind"] == "ours" {
            // A dial that was given up for a second one may reach the server before its end does.
            if row["policy"]["dial_hedge"].is_null() {
                assert!(row["high_water_open"].as_u64().unwrap() <= 4, "{row:#}");
            }
            assert!(row["timeline"].as_array().is_some_and(|points| !points.is_empty()));
        } else {
            assert!(row["timeline"].is_null());
        }
    }
    let limit = &ran.rows()[0];
    assert_eq!(limit["vs_limit"]["throughput"], 1.0);
    assert!(limit["acquire_us"].is_null(), "the limit acquires nothing");
    for line in ran.stdout.lines().filter(|line| !line.starts_with("results:")) {
        assert!(line.chars().count() <= 120, "{} wide: {line}", line.chars().count());
    }
}

const EXCLUSIVE: [&str; 10] = [
    "limit",
    "no-pool",
    "default",
    "net-http",
    "fasthttp",
    "redigo",
    "go-redis",
    "database-sql",
    "silenceper",
    "thrift",
];

#[test]
fn http1_runs_every_contestant() {
    steady("http1", &EXCLUSIVE);
}

#[test]
fn http2_runs_every_contestant() {
    let limits = ["limit 1-connection", "limit 2-connections", "limit 4-connections"];
    let others = ["no-pool", "default", "net-http", "net-http-h2", "grpc"];
    steady("http2", &[&limits[..], &others].concat());
}

#[test]
fn each_row_has_its_number_of_connections_and_the_limit_with_that_number() {
    let options = ["--scenario", "connections", "--callers", "10", "--connections", "10"];
    // Long enough for the pool to open all of them on a busy machine.
    let ran = run_for("400ms", "connections", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let mut labels = Vec::new();
    for row in ran.rows() {
        assert_sound(row);
        let variant = row["variant"].as_str().unwrap();
        let number: u64 = variant.split('-').next().unwrap().parse().unwrap();
        assert_eq!(row["high_water_open"], number, "{row:#}");
        assert_eq!(row["vs_limit_of"], format!("limit {variant}"));
        labels.push(label(row));
    }
    let of = |name: &str| {
        ["1-connection", "2-connections", "5-connections", "10-connections"]
            .map(|variant| format!("{name} {variant}"))
    };
    assert_eq!(labels, [of("limit"), of("default")].concat());
}

#[test]
fn resp_runs_every_contestant() {
    steady("resp", &EXCLUSIVE);
}

#[test]
fn framed_runs_every_contestant() {
    steady("framed", &EXCLUSIVE);
}

#[test]
fn reuse_has_three_ways() {
    let options = ["--scenario", "reuse", "--contestant", "net-http", "--callers", "1"];
    let out = crate::common::directory("reuse");
    let ran = crate::common::program()
        .args(["run", "--duration", "60ms", "--rounds", "1"])
        .args(options)
        .args(["--json", "-", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    // With the JSON on standard output the table goes to standard error.
    let results: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let table = String::from_utf8(ran.stderr).unwrap();
    assert!(table.contains("1 : 2.39 : 4.69"), "{table}");
    let rows = results["results"].as_array().unwrap();
    let one_connection: Vec<(&str, bool)> = rows
        .iter()
        .map(|row| {
            assert_sound(row);
            let opened = row["opened"].as_u64().unwrap();
            assert!(opened == 1 || opened >= row["requests"].as_u64().unwrap(), "{row:#}");
            (row["variant"].as_str().unwrap(), opened == 1)
        })
        .collect();
    assert_eq!(one_connection, [("reused", true), ("server-closes", false), ("no-pool", false)]);
}

#[test]
fn limits_hold_as_the_server_counts() {
    let ran = run(
        "limits",
        &[
            "--scenario",
            "limits",
            "--protocol",
            "http1,resp,framed",
            "--connections",
            "2",
            "--callers",
            "4",
        ],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for row in ran.rows() {
        assert_sound(row);
        assert!(row["high_water_open"].as_u64().unwrap() <= 2, "{row:#}");
        let waits = row["policy"]["at_limit"] == "wait" && row["connections"] == 2;
        if waits {
            assert!(row["waits"].as_u64().unwrap() > 0, "{row:#}");
            assert_eq!(row["refusals"], 0, "{row:#}");
        }
    }
}

#[test]
fn limits_hold_over_http2() {
    let ran = run(
        "limits-http2",
        &["--scenario", "limits", "--protocol", "http2", "--connections", "1", "--callers", "12"],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for row in ran.rows().iter().filter(|row| row["kind"] == "ours") {
        assert_sound(row);
        assert_eq!(row["high_water_open"], 1, "{row:#}");
        assert_eq!(row["policy"]["max_leases_per_connection"], 4, "{row:#}");
    }
}

#[test]
fn sessions_are_neutral_for_the_next_borrower() {
    let ran = run("session", &["--scenario", "session", "--connections", "2", "--callers", "4"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert_eq!(ran.rows().len(), 8);
    for row in ran.rows() {
        assert_sound(row);
        assert_eq!(row["safety"]["reset"], true, "{row:#}");
    }
}

#[test]
fn a_knob_changes_the_policy_of_the_profile() {
    let ran = run(
        "knob",
        &[
            "--protocol",
            "framed",
            "--contestant",
            "redigo",
            "--set",
            "max_open_per_key=1",
            "--set",
            "at_limit=wait",
        ],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let row = &ran.rows()[0];
    assert_eq!(row["policy"]["max_open_per_key"], 1);
    assert_eq!(row["high_water_open"], 1);
    assert!(row["vs_limit"].is_null(), "there is no limit to compare with");
}

#[test]
fn every_server_model_serves() {
    for (protocol, model) in [
        ("http1", "tasks"),
        ("http1", "workers"),
        ("framed", "one-task"),
        ("framed", "reader-handoff"),
        ("framed", "separate-writer"),
    ] {
        let ran = run(
            &format!("model-{model}"),
            &[
                "--protocol",
                protocol,
                "--model",
                model,
                "--contestant",
                "limit,no-pool,redigo",
                "--callers",
                "4",
            ],
        );
        assert_eq!(ran.code, Some(0), "{model}: {}", ran.all());
        ran.rows().iter().for_each(assert_sound);
    }
}

#[test]
fn histograms_are_logs_that_can_be_read_back() {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    let ran = run("histograms", &["--protocol", "framed", "--contestant", "redigo"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("histograms/histograms/framed-steady-redigo.hlog");
    let text = std::fs::read(path).unwrap();
    let tags: Vec<String> = IntervalLogIterator::new(&text)
        .filter_map(|entry| match entry.unwrap() {
            LogEntry::Interval(interval) => interval.tag().map(|tag| tag.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(tags, ["latency", "acquire"]);
}
