//! Rounds and time steps of several workers: rounds and steps that were played at the same time are added.

use serde_json::Value;

use super::{sum, weighted_cpu};

/// Windows that began this close to each other have the same steps.
const TOGETHER_MS: f64 = 50.0;
/// Counts of a round.
const OF_ROUND: [&str; 7] =
    ["requests", "replies_all", "errors", "throughput_per_s", "opened", "dials", "unstarted"];
/// Percentiles cannot be added, and rounds keep no histograms. Nor can the figures of single steps.
const LOST_OF_ROUND: [&str; 8] = [
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "peak_dials_per_100ms",
    "recovery",
    "slow_percent",
    "failed_while_up_per_1000",
];
/// Counts and gauges of a step.
const OF_SLOT: [&str; 13] = [
    "started",
    "ok",
    "errors",
    "cancelled",
    "unstarted",
    "dials",
    "accepted",
    "open",
    "idle",
    "leased",
    "dialing",
    "draining",
    "waiting",
];
const LOST_OF_SLOT: [&str; 3] = ["p50_us", "p99_us", "backends"];

/// Adds the rounds of a row to those of another, round by round. If they are not the same rounds, the row
/// keeps none, and the reason is returned.
pub(super) fn add_rounds(row: &mut Value, other: &Value) -> Option<String> {
    let numbers = |row: &Value| -> Vec<Value> {
        let rounds = row["rounds_detail"].as_array().into_iter().flatten();
        rounds.map(|round| round["round"].clone()).collect()
    };
    if numbers(row) != numbers(other) {
        row["rounds_detail"] = Value::Null;
        return Some("they did not play the same rounds, which are left out".to_owned());
    }
    each(row, other, "rounds_detail", |round, beside| {
        round["cpu_us_per_request"] = weighted_cpu(round, beside);
        add_fields(round, beside, &OF_ROUND, &LOST_OF_ROUND);
    });
    None
}

/// Adds the steps of a row to those of another, if both windows began at the same time. If they did not,
/// the row keeps none, and the reason is returned.
pub(super) fn add_slots(row: &mut Value, other: &Value) -> Option<String> {
    if row["slots"].is_null() && other["slots"].is_null() {
        return None;
    }
    let began = |row: &Value| row["window_began_unix_ms"].as_f64();
    let apart = began(row).zip(began(other)).map(|(left, right)| (left - right).abs());
    let times = |row: &Value| -> Vec<Value> {
        let slots = row["slots"].as_array().into_iter().flatten();
        slots.map(|slot| slot["t_ms"].clone()).collect()
    };
    let why = match apart {
        None => Some("when their windows began is not known".to_owned()),
        Some(apart) if apart > TOGETHER_MS => {
            Some(format!("their windows began {apart:.0} ms apart"))
        }
        Some(_) if times(row) != times(other) => Some("their steps differ".to_owned()),
        Some(_) => None,
    };
    if let Some(why) = why {
        row["slots"] = Value::Null;
        return Some(format!("{why}: their steps of time are left out"));
    }
    each(row, other, "slots", |slot, beside| {
        add_fields(slot, beside, &OF_SLOT, &LOST_OF_SLOT);
    });
    None
}

fn each(row: &mut Value, other: &Value, field: &str, add: impl Fn(&mut Value, &Value)) {
    let rows = row[field].as_array_mut().into_iter().flatten();
    for (one, beside) in rows.zip(other[field].as_array().into_iter().flatten()) {
        add(one, beside);
    }
}

fn add_fields(one: &mut Value, beside: &Value, added: &[&str], lost: &[&str]) {
    for field in added.iter().filter(|field| beside.get(field).is_some()) {
        one[*field] = sum(&one[*field], &beside[*field]);
    }
    for field in lost.iter().filter(|field| beside.get(field).is_some()) {
        one[*field] = Value::Null;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(began: f64) -> Value {
        json!({
            "window_began_unix_ms": began,
            "rounds_detail": [{"round": 1, "requests": 30, "cpu_us_per_request": 10.0, "p99_us": 5.0}],
            "slots": [{"t_ms": 0, "ok": 3, "p99_us": 7.0, "open": null}, {"t_ms": 100, "ok": 4}],
        })
    }

    #[test]
    fn rounds_and_steps_of_the_same_time_are_added() {
        let (mut left, mut right) = (row(1000.0), row(1020.0));
        right["rounds_detail"][0]["requests"] = json!(10);
        right["rounds_detail"][0]["cpu_us_per_request"] = json!(30.0);
        assert_eq!(add_rounds(&mut left, &right), None);
        assert_eq!(add_slots(&mut left, &right), None);
        assert_eq!(
            left["rounds_detail"][0],
            json!({"round": 1, "requests": 40, "cpu_us_per_request": 15.0, "p99_us": null})
        );
        assert_eq!(left["slots"][0], json!({"t_ms": 0, "ok": 6, "p99_us": null, "open": null}));
        assert_eq!(left["slots"][1]["ok"], 8);
    }

    #[test]
    fn rounds_and_steps_of_different_times_are_left_out_with_a_warning() {
        let (mut left, mut right) = (row(1000.0), row(1300.0));
        right["rounds_detail"][0]["round"] = json!(2);
        assert!(add_rounds(&mut left, &right).unwrap().contains("same rounds"));
        assert!(add_slots(&mut left, &right).unwrap().contains("300 ms apart"));
        assert!(left["rounds_detail"].is_null() && left["slots"].is_null());
        let (mut left, mut right) = (row(1000.0), row(1000.0));
        right["slots"].as_array_mut().unwrap().pop();
        assert!(add_slots(&mut left, &right).unwrap().contains("steps differ"));
        let (mut left, right) = (row(1000.0), json!({"slots": []}));
        assert!(add_slots(&mut left, &right).unwrap().contains("not known"));
    }
}
