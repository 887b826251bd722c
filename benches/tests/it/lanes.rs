//! The lives of connections that a run records.

use serde_json::Value;

use crate::common::{Ran, directory, plain, run, run_for};

fn row<'a>(ran: &'a Ran, contestant: &str) -> &'a Value {
    let found = ran.rows().iter().find(|row| row["contestant"] == contestant);
    found.unwrap_or_else(|| panic!("{contestant}: {}", ran.all()))
}

/// The time of a fault.
fn event(row: &Value, fault: &str, time: &str) -> f64 {
    let events = row["events"].as_array().unwrap();
    events.iter().find(|event| event["fault"] == fault).unwrap()[time].as_f64().unwrap()
}

fn lanes(row: &Value) -> &[Value] {
    row["lanes"]["lanes"].as_array().unwrap_or_else(|| panic!("{row:#}"))
}

#[test]
fn a_restart_ends_the_lives_of_connections_and_others_follow() {
    for protocol in ["http1", "http2", "resp", "framed"] {
        let options =
            ["--scenario", "restart", "--contestant", "no-pool,default", "--protocol", protocol];
        // Few requests, so that a busy machine keeps up; the pauses after refused dials need some time.
        let checked = ["--set", "check=always", "--rate", "40"];
        let ran =
            run_for("2800ms", &format!("lanes-{protocol}"), &[&options[..], &checked[..]].concat());
        assert!(row(&ran, "no-pool")["lanes"].is_null(), "it has no pool");
        let ours = row(&ran, "default");
        let (cut, back) = (event(ours, "cut", "at_ms"), event(ours, "refuse", "until_ms"));
        let all = lanes(ours);
        let time = |lane: &Value, field: &str| lane[field].as_f64();
        // Dialed, lent, and closed with a cause after the fault.
        let ended = all.iter().find(|lane| {
            time(lane, "dial_ms").unwrap() <= time(lane, "open_ms").unwrap_or(f64::MAX)
                && time(lane, "open_ms").is_some_and(|open| open < cut)
                && lane["leases"].as_u64().unwrap() > 0
                && time(lane, "closed_ms").is_some_and(|closed| closed >= cut)
                && lane["cause"].is_string()
        });
        assert!(ended.is_some(), "{protocol}: {ours:#}");
        let has_step =
            |kind: &[char]| all.iter().any(|lane| lane["steps"].as_str().unwrap().contains(kind));
        assert!(has_step(&['c']), "{protocol}: idle connections were checked: {ours:#}");
        assert!(has_step(&['0']), "{protocol}: some were idle: {ours:#}");
        let closed = ours["lanes"]["closed"].as_object().unwrap();
        assert!(closed.contains_key(ended.unwrap()["cause"].as_str().unwrap()), "{closed:?}");
        assert!(
            ours["lanes"]["failed_dials"].as_u64().unwrap() > 0,
            "dials were refused: {ours:#}"
        );
        let after = all.iter().find(|lane| {
            time(lane, "open_ms").is_some_and(|open| open >= back)
                && lane["leases"].as_u64().unwrap() > 0
        });
        assert!(after.is_some(), "{protocol}: {ours:#}");
        let page = std::fs::read_to_string(ran.out.join("report.html")).unwrap();
        assert!(page.contains("data-chart=\"lanes\""));
        assert!(page.contains("nothing is known of no-pool"));
    }
}

#[test]
fn only_the_last_round_of_a_scenario_with_events_is_recorded() {
    let ran =
        run("lanes-none", &["--scenario", "steady,paced", "--rate", "500", "--protocol", "resp"]);
    assert!(ran.rows().len() > 4, "{}", ran.all());
    for row in ran.rows() {
        assert!(row["lanes"].is_null(), "{row:#}");
    }
    let page = std::fs::read_to_string(ran.out.join("report.html")).unwrap();
    assert!(!page.contains("data-chart=\"lanes\""));
    // Of two rounds the last one, whose dials are numbered from 1 as those of the first were.
    let out = directory("lanes-rounds");
    let herd = ["run", "--scenario", "herd", "--contestant", "default", "--protocol", "resp"];
    let two = ["--rounds", "2", "--duration", "300ms", "--out", out.to_str().unwrap()];
    let ran = plain(&[&herd[..], &two[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let text = std::fs::read_to_string(out.join("results.json")).unwrap();
    let ran = Ran { results: serde_json::from_str(&text).unwrap(), ..ran };
    let ours = row(&ran, "default");
    let ids: Vec<u64> = lanes(ours).iter().map(|lane| lane["id"].as_u64().unwrap()).collect();
    assert_eq!(ids[0], 1, "{ids:?}");
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}
