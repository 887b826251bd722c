use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::catalog::Contestant;
use crate::contestants::{Counts, PoolStatus};
use crate::fault::{Event, Fault};
use crate::measure;
use crate::policies::{self, Terms};
use crate::report::columns::UNKNOWN;
use crate::report::html::input::Source;
use crate::report::json::Row;
use crate::report::model::Played;
use crate::report::noise::MeasuredNoise;
use crate::run::events::Played as PlayedEvent;
use crate::run::plan::Entry;
use crate::run::slots::Slot;
use crate::run::turn::Turn;
use crate::scenario::demand::{Arrivals, Demand, Rate};
use crate::scenario::{SCENARIOS, Scenario};
use crate::serve::oracle::{Counters, Series};
use crate::target::Target;

/// More of everything than a run can have.
fn large_turn(scale: u64) -> Turn {
    let mut latency = measure::histogram();
    for seconds in [1, 10, 60] {
        measure::record(&mut latency, Duration::from_secs(seconds * scale));
    }
    let many = 98_765_432_109 / scale;
    Turn {
        seconds: 0.1,
        cpu_seconds: 98_765.4,
        requests: many,
        replies: many,
        errors: [many; 5],
        cancelled: many,
        unstarted: many,
        delayed: many,
        writes: many,
        mismatches: Some(many),
        service: latency.clone(),
        lateness: latency.clone(),
        acquire: latency.clone(),
        latency,
        counts: Counts { opened: Some(many), waits: Some(many), dials: Some(many) },
        // Longer than any scenario.
        slots: Some((0..100).map(|step| slot(100 * step, many)).collect()),
        answers: Some(vec![u64::MAX]),
        ..Turn::empty()
    }
}

fn slot(t_ms: u64, many: u64) -> Slot {
    Slot {
        t_ms,
        started: many,
        ok: many,
        errors: [many; 5],
        cancelled: many,
        unstarted: many,
        p50_us: Some(many as f64),
        p99_us: Some(many as f64),
        dials: Some(many),
        status: Some(PoolStatus::default()),
    }
}

fn played(scenario: &Scenario, scale: u64) -> Played {
    let many = 98_765_432_109 / scale;
    let events = (scenario.events)(&mut fastrand::Rng::with_seed(1));
    let event = |event: &Event| PlayedEvent {
        at_ms: event.at.as_secs_f64() * 1000.0,
        until_ms: event.lasts.map(|lasts| (event.at + lasts).as_secs_f64() * 1000.0),
        ends: event.lasts.is_some(),
        label: String::new(),
        fault: event.fault,
    };
    Played {
        turn: Ok(large_turn(scale)),
        server: Some(Counters {
            accepted: many,
            high_water: many,
            duplicates: many,
            write_duplicates: many,
            ..Counters::default()
        }),
        leaked: Some(many),
        series: Some(Series {
            origin_ns: 0,
            step_ms: 100,
            accepted: vec![u32::MAX; 40],
            open: vec![u32::MAX; 40],
            backends: vec![[u32::MAX / 100, u32::MAX / 100]; 40],
        }),
        events: events.iter().map(event).collect(),
        faults_late_ms: None,
        nonces: true,
        cut: None,
        relay: None,
    }
}

/// A contestant with the longest name there is, in every way of the scenario.
fn records(scenario: &Scenario, protocol: Protocol, names: &[&'static str]) -> Vec<Record> {
    let mut records = Vec::new();
    for name in names {
        let mut contestant = Contestant::find("redigo").unwrap();
        contestant.name = name;
        if *name == "limit" {
            contestant.kind = Kind::Limit;
        }
        for variant in scenario.ways(&contestant, protocol, 1_000_000, Some(1_000_000)) {
            let entry = Entry { variant, ..Entry::without_policy(contestant) };
            let mut record = Record::new(entry);
            record.rounds = (1..=3).map(|n| (n, played(scenario, u64::from(n) * 7))).collect();
            records.push(record);
        }
    }
    records
}

fn group(scenario: Scenario, protocol: Protocol, names: &[&'static str]) -> GroupResult {
    GroupResult {
        protocol,
        scenario,
        callers: 1_000_000,
        connections: 1_000_000,
        demand: match scenario.demand {
            Demand::Paced { .. } => Demand::Paced { rate: Rate::PerSecond(9_999_999.0) },
            other => other,
        },
        arrivals: Arrivals::Poisson,
        budget: scenario.budget,
        target: Arc::new(Target::embedded(protocol, "127.0.0.1:54321".parse().unwrap())),
        records: records(&scenario, protocol, names),
        ended: None,
        rounds: 3,
        step: None,
        twin: None,
        noise: None,
    }
}

/// The results of a group as the page reads them.
fn sources(group: &GroupResult) -> [Source; 1] {
    let row = |record| Row::new(group, record);
    let rows: Vec<Row> = group.records.iter().map(row).collect();
    let text = serde_json::json!({"schema": 1, "results": rows}).to_string();
    [Source::parse("results.json".to_owned(), text).unwrap()]
}

fn longest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// The longest name of any contestant stands in the tables, beside the limit.
const NAMES: [&str; 2] = ["limit", "redis-rs-manager"];

#[test]
fn every_kind_of_table_fits_the_screen() {
    let set = ["max_idle_per_key=2".to_owned(), "idle_order=oldest-first".to_owned()];
    for name in crate::catalog::PEERS.iter().chain(&crate::catalog::CONTESTANTS) {
        assert!(name.name.len() <= NAMES[1].len(), "{}", name.name);
    }
    for scenario in SCENARIOS {
        for &protocol in scenario.protocols {
            let mut group = group(scenario, protocol, &NAMES);
            for foreign in [false, true] {
                if foreign {
                    group.target = Arc::new(Target { embedded: false, ..(*group.target).clone() });
                }
                let look = Look { set: &set, ..Look::default() };
                let text = render(&group, look);
                assert!(longest(&text) <= 80, "{} {protocol}:\n{text}", scenario.name);
                let words: Vec<&str> = text.split_whitespace().collect();
                assert!(words.join(" ").contains("--set max_idle_per_key=2"), "{text}");
                let wide = render(&group, Look { wide: true, ..look });
                assert!(longest(&wide) > 80, "{} {protocol}:\n{wide}", scenario.name);
                assert!(!wide.contains("left out"), "{wide}");
            }
            let summary = crate::report::html::summary::render(&sources(&group));
            assert!(longest(&summary) <= 80, "{summary}");
        }
    }
}

#[test]
fn the_figure_of_a_scenario_is_never_left_out() {
    for scenario in SCENARIOS.into_iter().filter(|scenario| scenario.demand.is_open()) {
        use crate::scenario::Figure;
        let title = match scenario.figure {
            Figure::P99 => "p99",
            Figure::Opened => "opened",
            Figure::Dials => "dials",
            Figure::PeakDials => "dials in",
            Figure::Failed | Figure::FailedWhileUp => "failed",
            Figure::Recovery => "normal",
            Figure::SlowShare => "% slow",
            Figure::Cpu | Figure::Reuse | Figure::Throughput => continue,
        };
        let group = group(scenario, scenario.protocols[0], &NAMES);
        let (lines, _) = columns(&group).render(false);
        let head = lines.lines().next().unwrap();
        assert!(head.contains(title), "{}: {head}", scenario.name);
    }
}

#[test]
fn wide_tables_tell_failures_apart_and_narrow_ones_add_them_up() {
    let mut group = group(SCENARIOS[0], Protocol::Http1, &["redigo"]);
    let turn = group.records[0].rounds.iter_mut().map(|(_, played)| played);
    for played in turn {
        let turn = played.turn.as_mut().unwrap();
        (turn.errors, turn.mismatches) = ([1, 10, 0, 100, 0], None);
        played.leaked = None;
    }
    let line = |wide| {
        let (text, _) = columns(&group).render(wide);
        text.lines().last().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line(false).last().unwrap(), "111", "replies were not compared");
    let wide = line(true);
    // Of a round, as dials and waits are: three rounds add up to three times as much.
    assert_eq!(wide[wide.len() - 6..wide.len() - 3], ["111", "10", "0"]);
    assert_eq!([&wide[wide.len() - 3], &wide[wide.len() - 1]], [UNKNOWN, UNKNOWN]);
}

/// The head of a table of these contestants with these knobs.
fn head(names: &[&str], connections: usize, set: &[&str], budget: Budget) -> String {
    let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
    let sets = policies::parse_sets(&set).unwrap();
    let scenario = SCENARIOS[0];
    let mut group = GroupResult { connections, budget, ..group(scenario, Protocol::Http1, &[]) };
    for name in names {
        let contestant = Contestant::find(name).unwrap();
        let connections = (budget == Budget::Same).then_some(connections);
        let terms = Terms { connections, sets: &sets, ..Terms::default() };
        let policy = policies::resolve(&contestant, Protocol::Http1, &terms).unwrap();
        let single = policies::is_single(&contestant);
        let entry = Entry { policy, single, ..Entry::without_policy(contestant) };
        group.records.push(Record::new(entry));
    }
    title(&group, Look { set: &set, ..Look::default() })
}

#[test]
fn the_title_has_the_connections_that_there_may_be() {
    let title = head(&["limit", "redigo", "thrift"], 50, &[], Budget::Same);
    assert!(title.contains(", 50 connections;"), "{title}");
    let set = ["max_open_per_key=2"];
    let title = head(&["limit", "redigo", "thrift"], 50, &set, Budget::Same);
    assert!(title.contains(", 2 connections (limit: 50);"), "{title}");
    assert!(title.ends_with("; --set max_open_per_key=2"), "{title}");
    let title = head(&["redigo", "go-redis"], 50, &set, Budget::Own);
    assert!(title.contains(", 2 connections;"), "{title}");
    let title = head(&["redigo"], 50, &["max_open_per_key=none"], Budget::Same);
    assert!(!title.contains("50 connections;"), "{title}");
    let title = head(&["redigo", "net-http"], 50, &[], Budget::Own);
    assert!(title.contains("as each strategy ships"), "{title}");
    let title = head(&["no-pool"], 1, &[], Budget::Same);
    assert!(title.contains(", 1 connection;"), "{title}");
}

#[test]
fn a_fault_in_the_fixture_has_a_recovery() {
    let restart = SCENARIOS.into_iter().find(|one| one.name == "restart").unwrap();
    let group = group(restart, Protocol::Resp, &NAMES);
    assert!(open_table::recovery(&group.records[0]).is_some());
    assert!(group.records[0].rounds[0].1.events.iter().any(|one| one.fault == Fault::Refuse));
}

#[test]
fn one_round_measures_no_noise() {
    let mut group = group(SCENARIOS[0], Protocol::Http1, &["redigo"]);
    group.twin = records(&SCENARIOS[0], Protocol::Http1, &["redigo"]).pop();
    assert!(MeasuredNoise::of(&group, None).is_some());
    group.twin.as_mut().unwrap().rounds.truncate(1);
    assert_eq!(MeasuredNoise::of(&group, None), None);
}

#[test]
fn ratios_over_http2_name_a_limit_only_where_there_are_several() {
    let head = |name: &str| {
        let scenario = Scenario::parse(name).unwrap();
        let look = Look { wide: true, ..Look::default() };
        let text = render(&group(scenario, Protocol::Http2, &NAMES), look);
        text.lines().find(|line| line.starts_with("contestant")).unwrap().to_owned()
            + text.lines().skip_while(|line| !line.starts_with("contestant")).nth(1).unwrap()
    };
    assert!(head("steady").contains("1-c"), "{}", head("steady"));
    // Its one limit has all the connections.
    assert!(!head("limits").contains("1-c"), "{}", head("limits"));
}

#[test]
fn connections_above_the_limit_are_explained() {
    let words = |bound: u32| {
        let contestant = Contestant::find("redigo").unwrap();
        let terms = Terms { connections: Some(bound as usize), ..Terms::default() };
        let policy = policies::resolve(&contestant, Protocol::Http1, &terms).unwrap();
        let mut group =
            group(Scenario::parse("slow-minute").unwrap(), Protocol::Http1, &["redigo"]);
        group.records[0].entry.policy = policy;
        for (_, played) in &mut group.records[0].rounds {
            played.server.as_mut().unwrap().high_water = 19;
        }
        let text = render(&group, Look { wide: true, ..Look::default() });
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(words(10).contains("beside the new ones: 19 of 10"), "{}", words(10));
    assert!(!words(20).contains("most open: counted"), "{}", words(20));
}

#[test]
fn an_open_loop_in_a_scenario_of_a_closed_one_is_not_called_closed() {
    let demand = Demand::Paced { rate: Rate::PerSecond(500.0) };
    let of = |name: &str| {
        let scenario = Scenario::parse(name).unwrap().under(demand);
        render(&group(scenario, Protocol::Resp, &NAMES), Look::default())
    };
    let text = of("steady");
    assert!(text.contains("open loop") && !text.contains("closed loop"), "{text}");
    assert!(!of("paced").contains("60 %"), "{}", of("paced"));
}

#[test]
fn the_share_of_a_slow_backend_is_the_one_of_the_page() {
    let scenario = Scenario::parse("imbalance").unwrap();
    let mut group = group(scenario, Protocol::Framed, &["default"]);
    // All replies of the three rounds together would be 11.1 %.
    for record in &mut group.records {
        for ((_, played), backends) in record.rounds.iter_mut().zip([[1, 9], [6, 4], [900, 100]]) {
            played.series.as_mut().unwrap().backends = vec![backends; 40];
        }
    }
    let text = render(&group, Look::default());
    assert!(text.contains("40     40     40"), "{text}");
}

#[test]
fn letters_stand_only_where_the_scenario_is_about_their_figure() {
    let notes = |name: &str| {
        let group = group(Scenario::parse(name).unwrap(), Protocol::Resp, &["limit", "redigo"]);
        crate::report::noise::notes(&group).join("\n")
    };
    assert!(notes("paced").contains("letters beside p99"), "{}", notes("paced"));
    assert!(notes("steady").contains("letters beside req/s"), "{}", notes("steady"));
    // By the share of the slow backend, and by dials.
    for name in ["imbalance", "herd"] {
        assert!(!notes(name).contains("letters"), "{}", notes(name));
    }
}

#[test]
fn failed_requests_are_all_without_a_reply_in_every_table() {
    let mut group = group(Scenario::parse("session").unwrap(), Protocol::Resp, &["redigo"]);
    let record = &mut group.records[0];
    record.rounds.truncate(1);
    let errors = [1, 20, 800, 3000, 40_000];
    let turn = record.rounds[0].1.turn.as_mut().unwrap();
    *turn = Turn { errors, requests: 9, replies: 9, ..Turn::empty() };
    let text = render(&group, Look { wide: true, ..Look::default() });
    assert!(text.contains("43.8k") && text.contains("800"), "{text}");
}
