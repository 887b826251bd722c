//! Made-up results in the format of a run, so that tests of the page need no run.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Value, json};

/// A name that breaks out of everything that does not escape it.
pub(crate) const HOSTILE: &str = "</script><img src=x onerror=\"window.broken=1\"><b title='";

/// A histogram around `micros`, with a tail.
fn latencies(micros: f64, tail: f64, rng: &mut fastrand::Rng) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    for _ in 0..20_000 {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let mut value = micros * (0.18 * normal).exp();
        if rng.f64() < 0.01 {
            value *= 1.0 + tail * rng.f64();
        }
        histogram.record((value * 1000.0) as u64).unwrap();
    }
    histogram
}

fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).unwrap();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)})
}

fn policy(name: &str) -> Value {
    json!({
        "max_open_per_key": if name == "redigo" { Value::Null } else { json!(50) },
        "max_idle_per_key": if name == "net-http" { 2 } else { 50 },
        "idle_timeout": {"secs": 90, "nanos": 0},
        "peek": name != "redigo",
        "check": "never",
        "dial": "caller",
    })
}

/// A document around rows.
pub(crate) fn document(rows: Vec<Value>) -> Value {
    json!({
        "schema": 1,
        "tool": {"version": "0.1.0", "git": "0123abc"},
        "environment": {"cpu": "A Processor 7", "cores": 2, "kernel": "linux 6.18", "rustc": "1.90",
            "placement": "client pinned to cpu 0, server in its own process pinned to cpu 1, one thread each"},
        "options": {"seed": 1, "set": [], "target": null, "groups": [{"protocol": "http1", "rounds": 5}]},
        "measured_at_unix_s": 1_700_000_000_u64,
        "partial": false,
        "results": rows,
        "warnings": [],
    })
}

/// One contestant in a closed loop: `rate` requests a second, `slower` times the limit's latency.
fn closed(name: &str, rate: f64, slower: f64, rng: &mut fastrand::Rng) -> Value {
    let latency = latencies(280.0 * slower, 6.0, rng);
    let acquire = latencies(0.15 * slower, 3.0, rng);
    let rounds: Vec<Value> = (1..=5)
        .map(|round| {
            // The machine drifts from round to round, for all contestants alike.
            let drift = 1.0 + 0.04 * f64::from(round % 3);
            let noise = 1.0 + 0.006 * (rng.f64() - 0.5);
            let rate = rate * drift * noise;
            json!({"round": round, "requests": rate * 2.0, "errors": 0, "throughput_per_s": rate,
                "cpu_us_per_request": 0.98e6 / rate, "p50_us": 280.0 * slower / drift,
                "p99_us": 420.0 * slower / drift * noise, "opened": if name == "no-pool" { rate * 2.0 } else { 50.0 }})
        })
        .collect();
    json!({
        "protocol": "http1", "scenario": "steady", "contestant": name, "variant": null,
        "kind": match name { "limit" | "no-pool" => "limit", "hyper-util" => "peer", _ => "ours" },
        "category": if name == "hyper-util" { json!("as shipped") } else { Value::Null },
        "does_not": if name == "hyper-util" { json!(["bound connections", "check"]) } else { json!([]) },
        "policy": if matches!(name, "limit" | "no-pool" | "hyper-util") { Value::Null } else { policy(name) },
        "loop": "closed", "budget": "same", "rounds": 5, "callers": 50, "connections": 50,
        "requests": (rate * 10.0) as u64, "errors": 0, "timeouts": 0, "refusals": 0,
        "mismatches": 0, "duplicates": 0, "leaked": 0,
        "opened": if name == "no-pool" { (rate * 10.0) as u64 } else { 250 },
        "throughput_per_s": rate * 1.04, "cpu_us_per_request": 0.98e6 / rate,
        "latency_us": percentiles(&latency), "acquire_us": percentiles(&acquire),
        "rounds_detail": rounds, "slots": null, "events": [], "recovery": null,
        "histograms": {"latency": encoded(&latency), "service": null, "acquire": encoded(&acquire)},
    })
}

/// A closed loop without faults: two pools that cannot be told apart, a rival, no pool.
pub(crate) fn steady() -> Value {
    let mut rng = fastrand::Rng::with_seed(7);
    document(vec![
        closed("limit", 175_000.0, 1.0, &mut rng),
        closed("no-pool", 17_100.0, 6.2, &mut rng),
        closed("net-http", 144_000.0, 1.2, &mut rng),
        closed("redigo", 144_100.0, 1.2, &mut rng),
        closed("hyper-util", 120_000.0, 1.5, &mut rng),
    ])
}

/// Slots of a run of six seconds whose server is away from 2 s to 3 s.
fn slots(slow_to_recover: bool, rng: &mut fastrand::Rng) -> Vec<Value> {
    (0..60)
        .map(|slot| {
            let t_ms = slot * 100;
            let away = (2000..3000).contains(&t_ms);
            let after = if slow_to_recover { 4200 } else { 3300 };
            let recovering = (3000..after).contains(&t_ms);
            let noise = 1.0 + 0.2 * rng.f64();
            let (ok, errors) = match (away, recovering) {
                (true, _) => (0, 480),
                (_, true) => (300, 180),
                _ => (500, 0),
            };
            let p50 = if away { Value::Null } else { json!(300.0 * noise * if recovering { 20.0 } else { 1.0 }) };
            let p99 = if away { Value::Null } else { json!(900.0 * noise * if recovering { 90.0 } else { 1.0 }) };
            let slow_share = if slow_to_recover { 300 } else { 120 };
            json!({
                "t_ms": t_ms, "started": 500, "ok": ok, "errors": errors, "unstarted": if away { 20 } else { 0 },
                "p50_us": p50, "p99_us": p99, "dials": if away || recovering { 12 } else { 0 },
                "accepted": 0, "open": if away { 0 } else { 40 },
                "idle": if away { 0 } else { 22 - i32::from(recovering) * 18 },
                "leased": if away { 0 } else { 18 + i32::from(recovering) * 10 },
                "dialing": if away || recovering { 12 } else { 0 },
                "waiting": if away { 38 } else if recovering { 20 } else { 0 },
                "backends": [500 - slow_share, slow_share],
            })
        })
        .collect()
}

fn restarted(name: &str, index: u32, rng: &mut fastrand::Rng) -> Value {
    let slow = name == "net-http";
    let latency = latencies(320.0, 400.0 + 900.0 * f64::from(index), rng);
    let service = latencies(290.0, 8.0, rng);
    let acquire = latencies(3.0, 30.0, rng);
    let failed = [0.0, 9000.0, 4900.0, 4950.0][index as usize];
    let rounds: Vec<Value> = (1..=3)
        .map(|round| {
            let errors = failed / 3.0 * (1.0 + 0.01 * rng.f64());
            json!({"round": round, "requests": 25_000, "errors": errors, "throughput_per_s": 4100.0,
                "cpu_us_per_request": 9.0, "p50_us": 310.0, "p99_us": 90_000.0 + 9e3 * f64::from(round), "opened": 160})
        })
        .collect();
    // Six seconds in 160 steps. The server cuts all connections after 2 s.
    let lanes: Vec<Value> = (0..8)
        .map(|id| {
            let dialed = f64::from(id) * 40.0;
            json!({"id": id + 1, "dial_ms": dialed, "open_ms": dialed + 20.0, "closed_ms": 2000.0,
                "cause": if id == 3 { "check-failed" } else { "broken" }, "leases": 40 * (8 - id), "first_step": id + 1,
                "steps": format!("{}{}", "0123456789c".repeat(4), "0".repeat(9 - id as usize))})
        })
        .collect();
    let lanes = json!({"step_ms": 37.5, "connections": 45, "closed": {"broken": 44, "check-failed": 1},
        "failed_dials": 12, "failed": format!("{}{}{}", ".".repeat(54), "1".repeat(12), ".".repeat(94)), "lanes": lanes});
    json!({
        "protocol": "resp", "scenario": "restart", "contestant": name,
        "kind": if name == "no-pool" { "limit" } else { "ours" },
        "policy": if name == "no-pool" { Value::Null } else { policy(name) },
        "loop": "open", "rate_per_s": 5000, "arrivals": "poisson", "budget": "own", "rounds": 3, "callers": 50,
        "requests": 75_000, "errors": failed,
        "errors_by_kind": {"dial": failed * 0.7, "timeout": failed * 0.1, "refused": 0, "broken": failed * 0.2, "wrong": 0},
        "mismatches": 0, "duplicates": 3, "leaked": 0, "opened": 480, "unstarted": 200, "dials": 700,
        "peak_dials_per_100ms": 12 + 10 * index, "high_water_open": 50,
        "writes": 7000, "write_duplicates": if slow { 2 } else { 0 },
        "throughput_per_s": 4100.0, "cpu_us_per_request": 9.0,
        "latency_us": percentiles(&latency), "service_us": percentiles(&service), "lateness_us": {"p50": 1.0, "p99": 12.0},
        "rounds_detail": rounds, "slots": slots(slow, rng),
        "events": [
            {"fault": {"fault": "cut", "how": "rst"}, "label": "all cut (RST)", "at_ms": 2000, "until_ms": null},
            {"fault": {"fault": "refuse"}, "label": "refused", "at_ms": 2000, "until_ms": 3000},
            {"fault": "slow-replies", "ms": 2, "label": "replies take 2 ms longer", "at_ms": -200.0, "until_ms": null},
            {"fault": "slow-backend", "ms": 2, "label": "one backend slower", "at_ms": 4000, "until_ms": 5000}],
        "recovery": {"first_success_ms": if slow { 900 } else { 40 }, "normal_p99_ms": if slow { Value::Null } else { json!(310) }},
        "histograms": {"latency": encoded(&latency), "service": encoded(&service), "acquire": encoded(&acquire)},
        "connections": 50, "lanes": if name == "no-pool" { Value::Null } else { lanes },
    })
}

/// An open loop with a restart of the server in it.
pub(crate) fn faults() -> Value {
    let mut rng = fastrand::Rng::with_seed(11);
    let names = ["go-redis", "net-http", "redigo", "no-pool"];
    let rows = names.iter().zip(0..).map(|(name, index)| restarted(name, index, &mut rng));
    document(rows.collect())
}

/// A ladder of rates.
pub(crate) fn sweep() -> Value {
    let mut rng = fastrand::Rng::with_seed(3);
    let rows = [("limit", 170_000.0), ("redigo", 150_000.0), ("no-pool", 30_000.0)].map(|(name, most)| {
        let steps: Vec<Value> = (1..=10)
            .map(|step| {
                let rate = 17_000.0 * f64::from(step);
                let load: f64 = (rate / most).min(0.999);
                let factor = 1.0 / (1.0 - load.powi(6)).max(0.15);
                json!({"rate_per_s": rate, "p50_us": 120.0 * factor, "p99_us": 260.0 * factor * factor,
                    "throughput_per_s": rate.min(most), "unstarted": (rate - most).max(0.0)})
            })
            .collect();
        let mut row = closed(name, most, 1.0, &mut rng);
        row["scenario"] = json!("paced");
        row["loop"] = json!("open");
        row["sweep"] = json!(steps);
        row
    });
    document(rows.to_vec())
}

/// A run in which every text is an attack on the page.
pub(crate) fn hostile() -> Value {
    let mut document = faults();
    for (index, row) in document["results"].as_array_mut().unwrap().iter_mut().enumerate() {
        for field in
            ["protocol", "scenario", "variant", "category", "arrivals", "first_error", "broke"]
        {
            row[field] = json!(HOSTILE);
        }
        row["contestant"] = json!(format!("{HOSTILE}{index}"));
        row["does_not"] = json!([HOSTILE]);
        row["policy"] = json!({ HOSTILE: format!("{HOSTILE}{index}"), "same": HOSTILE });
        row["events"] = json!([{"label": HOSTILE, "fault": "slow-backend", "at_ms": 100, "until_ms": 900}, {"label": HOSTILE, "fault": HOSTILE, "at_ms": -1}]);
        row["mismatches"] = json!(2);
        row["lanes"] = json!({"closed": {HOSTILE: 3}, "failed": HOSTILE,
            "lanes": [{"id": 1, "open_ms": -1e300, "closed_ms": 5.0, "cause": HOSTILE, "steps": HOSTILE, "first_step": 1e300}]});
    }
    document["environment"] = json!({ "cpu": HOSTILE, HOSTILE: HOSTILE });
    document["options"] =
        json!({ "set": [HOSTILE], "target": HOSTILE, "command": "x".repeat(3000) });
    document["tool"] = json!({ "version": HOSTILE, "git": HOSTILE });
    document["warnings"] = json!([HOSTILE, "\u{202e}turned\u{0}", "long".repeat(500)]);
    document
}
