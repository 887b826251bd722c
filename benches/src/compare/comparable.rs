//! Whether two runs are the same comparison, and what differs between them. `compare`, `merge` and the
//! page of several files all use this module.

use crate::names::printable;
use crate::report::saved::{Group, Request, Row, Saved};

/// Something that differs, in words.
pub type Difference = String;

/// Two rates that were measured count as the same up to this relative difference. A rate is measured when
/// it is given as a share of the limit, which each run measures again.
const SAME_RATE: f64 = 0.1;

/// What differs between the machines and settings of two runs. None of it forbids a comparison: the user may
/// compare the runs because of this difference.
pub fn of_runs(base: &Saved, new: &Saved) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.both("build", base.tool.build.as_ref(), new.tool.build.as_ref());
    let (left, right) = (base.machine(), new.machine());
    differences.both("cpu", left.cpu, right.cpu);
    differences.both("usable processors", left.cores, right.cores);
    differences.both("kernel", left.kernel, right.kernel);
    differences.both("placement", left.placement, right.placement);
    differences.both("compiler", left.rustc, right.rustc);
    differences.0.extend(of_targets(base, new));
    let (left, right) = (base.settings(), new.settings());
    let words = |all: &[String]| (!all.is_empty()).then(|| all.join(" "));
    differences.or("server models", words(&left.models), words(&right.models), "the usual ones");
    differences.or("--set", words(&left.set), words(&right.set), "nothing");
    for (name, saved) in [("BASE", base), ("NEW", new)] {
        if saved.partial {
            differences.0.push(format!("{name} was interrupted, its results are partial"));
        }
    }
    differences.0
}

/// Whether requests went to different servers.
pub fn of_targets(base: &Saved, new: &Saved) -> Option<Difference> {
    let mut differences = Differences::default();
    let (left, right) = (base.settings().target, new.settings().target);
    differences.or("target", left, right, "embedded servers");
    differences.0.pop()
}

/// Why two rows of the same name cannot be compared: their runs had different options.
pub fn of_rows(base: (&Saved, &Row), new: (&Saved, &Row)) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.both("callers", base.1.callers, new.1.callers);
    differences.of_load(base, new);
    differences.0
}

/// Why two rows of the same name cannot be merged: they are not shares of one load.
pub fn of_workers(base: (&Saved, &Row), new: (&Saved, &Row)) -> Vec<Difference> {
    let mut differences = Differences::default();
    // When callers cannot be divided evenly, some workers have one more.
    let callers = base.1.callers.zip(new.1.callers);
    if let Some((left, right)) = callers.filter(|(left, right)| (left - right).abs() > 1.0) {
        differences.0.push(format!("callers: {left} and {right}"));
    }
    // The seed decides the order of turns, and when faults happen.
    differences.both("seed", base.0.settings().seed, new.0.settings().seed);
    differences.of_load(base, new);
    differences.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    /// Request, rate, limits and time: what both rows must share.
    fn of_load(&mut self, base: (&Saved, &Row), new: (&Saved, &Row)) {
        let ((base_file, base), (new_file, new)) = (base, new);
        let request = |saved: &Saved| saved.settings().request.unwrap_or_default();
        let (left, right) = (request(base_file), request(new_file));
        self.or("request", left.sent(), right.sent(), "the built-in one");
        let think = |request: &Request| request.think_time().map(|think| format!("{think:?}"));
        self.or("think time", think(&left), think(&right), "none");
        self.both("load", base.load.as_ref(), new.load.as_ref());
        self.both("arrivals", base.arrivals.as_ref(), new.arrivals.as_ref());
        let (left, right) = (asked(base_file, base), asked(new_file, new));
        self.both("rate", left.rate, right.rate);
        if let (Some(left), Some(right)) = (base.rate_per_s, new.rate_per_s)
            && (left / right).ln().abs() > SAME_RATE
        {
            self.0.push(format!("rate: {left:.0} and {right:.0} requests in a second"));
        }
        self.both("budget", base.budget.as_ref(), new.budget.as_ref());
        self.both("connections", left.connections, right.connections);
        self.both("duration in ms", left.duration_ms, right.duration_ms);
    }

    /// Notes a difference if both sides have a value.
    fn both<T: PartialEq + std::fmt::Display>(
        &mut self,
        what: &str,
        left: Option<T>,
        right: Option<T>,
    ) {
        if let (Some(left), Some(right)) = (left, right)
            && left != right
        {
            let words = printable(&format!("{left} and {right}"));
            self.0.push(format!("{what}: {words}"));
        }
    }

    /// Notes a difference, where a missing value means `nothing`.
    fn or(&mut self, what: &str, left: Option<String>, right: Option<String>, nothing: &str) {
        let words = |side: Option<String>| Some(side.unwrap_or_else(|| nothing.to_owned()));
        self.both(what, words(left), words(right));
    }
}

/// What the options of a run asked for the table that the row is in.
fn asked(saved: &Saved, row: &Row) -> Group {
    // The steps of a ladder differ only in their rates, and each row holds its rate.
    let is_step = row.step.is_some();
    let of_row = |group: &Group| group.protocol == row.protocol && group.scenario == row.scenario;
    let group = saved.settings().groups.into_iter().find(of_row).unwrap_or_default();
    Group { rate: group.rate.filter(|_| !is_step), ..group }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A run of one row with these options and these fields of the row.
    fn run(options: &Value, fields: &Value) -> Saved {
        let mut row = json!({"protocol": "http1", "scenario": "paced", "contestant": "redigo"});
        let mut group = json!({"protocol": "http1", "scenario": "paced"});
        let mut document = json!({"schema": 1, "options": {}});
        for (key, value) in fields.as_object().into_iter().flatten() {
            let place = if matches!(key.as_str(), "duration_ms" | "rate" | "connections") {
                &mut group
            } else {
                &mut row
            };
            place[key] = value.clone();
        }
        document["options"] = options.clone();
        document["options"]["groups"] = json!([group]);
        document["results"] = json!([row]);
        Saved::parse(&document.to_string()).unwrap()
    }

    type OfRows = fn((&Saved, &Row), (&Saved, &Row)) -> Vec<Difference>;

    fn differences(of: OfRows, left: &Saved, right: &Saved) -> String {
        of((left, &left.results[0]), (right, &right.results[0])).join("; ")
    }

    #[test]
    fn runs_with_other_requests_or_loads_are_not_compared() {
        let of = |options: Value, fields: Value| {
            let base = run(
                &json!({"request": {"method": "GET", "path": "/a"}}),
                &json!({"callers": 50, "loop": "open", "arrivals": "uniform", "budget": "same",
                    "duration_ms": 2000, "rate": "60%", "rate_per_s": 1000, "connections": 50}),
            );
            differences(of_rows, &base, &run(&options, &fields))
        };
        let same = json!({"request": {"method": "GET", "path": "/a"}});
        assert_eq!(of(same.clone(), json!({})), "", "what is not said is no difference");
        for (options, words) in [
            (json!({}), "request: GET /a and the built-in one"),
            (json!({"request": {"path": "/b"}}), "request: GET /a and GET /b"),
            (
                json!({"request": {"path": "/a", "body_bytes": 3}}),
                "request: GET /a and GET /a with 3 bytes",
            ),
            (json!({"request": {"command": "GET k"}}), "request: GET /a and GET k"),
            (json!({"request": {"path": "/a", "think_time_ms": 5.0}}), "think time: none and 5ms"),
        ] {
            assert_eq!(of(options, json!({})), words);
        }
        for (fields, words) in [
            (json!({"callers": 8}), "callers: 50 and 8"),
            (json!({"loop": "closed"}), "load: open and closed"),
            (json!({"arrivals": "poisson"}), "arrivals: uniform and poisson"),
            (json!({"budget": "own"}), "budget: same and own"),
            (json!({"duration_ms": 500}), "duration in ms: 2000 and 500"),
            (json!({"connections": 8}), "connections: 50 and 8"),
            (json!({"rate": "58%"}), "rate: 60% and 58%"),
            (json!({"rate_per_s": 1050}), ""),
            (json!({"rate_per_s": 2000}), "rate: 1000 and 2000 requests in a second"),
        ] {
            assert_eq!(of(same.clone(), fields), words);
        }
    }

    #[test]
    fn workers_have_shares_of_one_load() {
        let of = |options: Value, fields: Value| {
            let base = run(&json!({"seed": 1}), &json!({"callers": 17, "rate_per_s": 100}));
            differences(of_workers, &base, &run(&options, &fields))
        };
        assert_eq!(of(json!({"seed": 1}), json!({"callers": 16, "rate_per_s": 100})), "");
        assert_eq!(of(json!({"seed": 1}), json!({"callers": 15})), "callers: 17 and 15");
        assert_eq!(of(json!({"seed": 2}), json!({})), "seed: 1 and 2");
        assert!(of(json!({}), json!({"rate_per_s": 200})).starts_with("rate: 100 and 200"));
        let asked = of(json!({"request": {"command": "GET k"}}), json!({}));
        assert_eq!(asked, "request: the built-in one and GET k");
    }

    #[test]
    fn other_servers_and_knobs_are_named_and_do_not_forbid() {
        let base = run(&json!({}), &Value::Null);
        let new = run(
            &json!({"target": "http1 server at a\u{1b}[1m", "models": ["workers"], "set": ["a=b"]}),
            &Value::Null,
        );
        assert_eq!(
            of_runs(&base, &new),
            [
                "target: embedded servers and http1 server at a\\u{1b}[1m",
                "server models: the usual ones and workers",
                "--set: nothing and a=b"
            ]
        );
        assert_eq!(differences(of_rows, &base, &new), "");
    }
}
