use std::time::Duration;

use super::*;
use crate::measure;

fn document(worker: &str, millis: std::ops::RangeInclusive<u64>) -> Value {
    let mut histogram = measure::histogram();
    let requests = millis.clone().count();
    millis.for_each(|ms| measure::record(&mut histogram, Duration::from_millis(ms)));
    json!({
        "schema": 1, "partial": false, "warnings": ["slow"],
        "options": {"worker": worker, "seed": 1, "request": null,
            "groups": [{"protocol": "resp", "scenario": "paced", "duration_ms": 100}]},
        "results": [{"protocol": "resp", "scenario": "paced", "contestant": "redigo",
            "budget": "same", "requests": requests, "errors": 1, "leaked": null, "throughput_per_s": 10.5,
            "cpu_us_per_request": requests, "errors_by_kind": {"dial": 1},
            "latency_us": Percentiles::of(&histogram), "vs_limit": {"cpu": 1.0}, "lanes": {"connections": 1},
            "histograms": {"latency": encode(&histogram)}}]
    })
}

fn merged(left: Value, right: Value) -> Result<Value, String> {
    merge(vec![("a".to_owned(), left), ("b".to_owned(), right)])
}

#[test]
fn merge_does_not_overwrite_a_file_that_it_reads() {
    let directory = std::env::temp_dir().join(format!("poolbench-merge-{}", std::process::id()));
    let paths = ["1/2", "2/2"].map(|worker| {
        let run = directory.join(&worker[..1]);
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("results.json"), document(worker, 1..=9).to_string()).unwrap();
        run
    });
    let [one, two] = paths.clone().map(|run| run.join("results.json"));
    let before = std::fs::read(&two).unwrap();
    // A directory stands for its results.
    for files in [vec![one.clone(), two.clone()], paths.to_vec()] {
        let out = directory.join("1/../2/results.json");
        let error = run(&MergeArgs { files, out }).unwrap_err().to_string();
        assert!(error.contains("2/results.json is one of the files to read"), "{error}");
    }
    assert_eq!(std::fs::read(&two).unwrap(), before);
    let out = directory.join("both.json");
    run(&MergeArgs { files: paths.to_vec(), out: out.clone() }).unwrap();
    assert!(out.exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn percentiles_come_from_the_merged_histogram() {
    let (left, mut right) = (document("1/2", 1..=900), document("2/2", 901..=1000));
    right["partial"] = true.into();
    let document = merged(left, right).unwrap();
    let row = &document["results"][0];
    assert_eq!(row["requests"], 1000);
    assert_eq!(row["errors"], 2);
    assert_eq!(row["errors_by_kind"]["dial"], 2);
    assert_eq!(row["throughput_per_s"], 21.0);
    assert_eq!(row["leaked"], Value::Null);
    assert_eq!(row["vs_limit"], Value::Null);
    assert_eq!(row["lanes"], Value::Null, "each worker has connections of its own");
    // 900 requests of 900 us and 100 of 100 us.
    assert_eq!(row["cpu_us_per_request"], 820.0);
    // The mean of both workers' p50 would be 700 ms.
    let p50 = row["latency_us"]["p50"].as_f64().unwrap();
    assert!((p50 - 500_000.0).abs() < 1000.0, "{p50}");
    assert_eq!(document["partial"], true);
    assert_eq!(document["warnings"], json!(["a: slow", "b: slow"]));
    assert_eq!(document["results"][0]["rounds_detail"], Value::Null);
}

#[test]
fn missing_workers_are_named() {
    let workers =
        |names: &[&str]| missing(&names.iter().map(|name| json!(name)).collect::<Vec<_>>());
    assert_eq!(workers(&["1/2", "2/2"]), None);
    assert!(workers(&["3/4", "1/4"]).unwrap().ends_with("2/4, 4/4"));
    assert_eq!(missing(&[Value::Null, Value::Null]), None);
}

#[test]
fn servers_of_different_names_are_a_warning() {
    let mut other = document("2/2", 1..=9);
    other["options"]["target"] = "resp server at b".into();
    let warnings = merged(document("1/2", 1..=9), other).unwrap()["warnings"].to_string();
    assert!(warnings.contains("a and b: target: embedded servers and resp"), "{warnings}");
}

#[test]
fn the_same_run_is_not_merged_with_itself() {
    let whole = |began: u64| {
        let mut document = document("1/1", 1..=9);
        document["options"]["worker"] = Value::Null;
        document["measured_at_unix_s"] = began.into();
        document
    };
    let error = merged(whole(1000), whole(1000)).unwrap_err();
    assert!(error.contains("b: this run is there twice"), "{error}");
    merged(whole(1000), whole(1001)).unwrap();
    let mut short = whole(1000);
    short["results"][0]["requests"] = 8.into();
    merged(whole(1000), short).expect("two short runs fit into one second");
    let workers = ["1/2", "2/2"].map(|worker| {
        let mut document = document(worker, 1..=9);
        document["measured_at_unix_s"] = 1000.into();
        document
    });
    let [left, right] = workers;
    merged(left, right).unwrap();
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let base = document("1/2", 1..=9);
    let with = |change: fn(&mut Value)| {
        let mut other = document("2/2", 1..=9);
        change(&mut other);
        merged(base.clone(), other).unwrap_err()
    };
    for (error, words) in [
        (with(|other| other["options"]["worker"] = "1/2".into()), "twice"),
        (
            with(|other| other["options"]["groups"][0]["duration_ms"] = 200.into()),
            "duration in ms: 100 and 200",
        ),
        (with(|other| other["options"]["worker"] = "2/3".into()), "different runs"),
        (with(|other| other["options"]["worker"] = Value::Null), "different runs"),
        (with(|other| other["options"]["seed"] = 2.into()), "seed: 1 and 2"),
        (
            with(|other| other["options"]["request"] = json!({"command": "GET key"})),
            "request: the built-in one and GET key",
        ),
        (with(|other| other["results"][0]["budget"] = "own".into()), "budget"),
        (with(|other| other["results"][0]["contestant"] = "grpc".into()), "has no row"),
        (with(|other| other["results"][0]["histograms"] = Value::Null), "no histogram"),
        (
            with(|other| other["results"][0]["histograms"]["latency"] = "AAAA".into()),
            "cannot be read",
        ),
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}
