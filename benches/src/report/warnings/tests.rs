use std::time::Duration;

use super::*;
use crate::catalog::Contestant;
use crate::measure;
use crate::report::model::Played;
use crate::run::plan::Entry;
use crate::serve::oracle::Counters;

/// A contestant whose rounds were these.
fn record(name: &str, turns: Vec<Turn>) -> Record {
    let mut record = Record::new(Entry::without_policy(Contestant::find(name).unwrap()));
    let played = |turn| Played {
        turn: Ok(turn),
        server: Some(Counters { accepted: 1, ..Counters::default() }),
        relay: None,
        leaked: Some(0),
        series: None,
        events: Vec::new(),
        faults_late_ms: None,
        cut: None,
        nonces: false,
    };
    record.rounds = (1..).zip(turns.into_iter().map(played)).collect();
    record
}

fn turn(replies: u32, errors: [u64; 5], unstarted: u64) -> Turn {
    let mut turn = Turn { errors, unstarted, ..Turn::empty() };
    turn.replies = replies.into();
    turn.requests = replies.into();
    (0..replies).for_each(|_| measure::record(&mut turn.latency, Duration::from_millis(10)));
    turn
}

#[test]
fn a_contestant_that_is_out_of_time_is_overloaded_and_not_broken() {
    // Of these kinds: no dial, timeout, refused, broken, wrong.
    for (errors, unstarted, overloaded) in [
        ([0, 900, 0, 0, 0], 100, true),
        ([0, 0, 0, 0, 0], 100, true),
        ([1, 900, 5, 30, 0], 0, true),
        ([900, 1, 0, 0, 0], 0, false),
        ([0, 1, 0, 0, 900], 0, false),
        ([0, 0, 900, 0, 0], 0, false),
    ] {
        let record = record("redigo", vec![turn(10, [0; 5], 0), turn(0, errors, unstarted)]);
        assert_eq!(record.overloaded().is_some(), overloaded, "{errors:?}");
        assert_eq!(record.broke().is_some(), !overloaded, "{errors:?}");
        // The exit code follows these.
        assert_eq!(record.faults().is_empty(), overloaded, "{errors:?}");
    }
    let overloaded = record("redigo", vec![turn(10, [0; 5], 0), turn(0, [0, 7, 0, 0, 0], 3)]);
    assert_eq!(
        no_reply(&overloaded, true).unwrap(),
        "overloaded (in 1 of 2 rounds no request had a reply in time): 10 requests had no reply in 2 rounds (timeout 7, not started 3)"
    );
}

#[test]
fn a_contestant_that_hangs_or_cannot_dial_broke_however_many_run_out_of_time() {
    let mut hangs = turn(0, [0, 900, 0, 0, 0], 0);
    hangs.lost = 50;
    assert!(record("redigo", vec![hangs]).broke().is_some());
    let mut alone = record("redigo", vec![turn(0, [3, 900, 0, 0, 0], 0)]);
    alone.rounds[0].1.server = Some(Counters::default());
    assert!(alone.broke().is_some());
    assert_eq!(alone.overloaded(), None);
}

#[test]
fn a_limit_of_which_many_are_too_late_is_named() {
    let stalled = record("limit", vec![turn(190, [0, 800, 0, 0, 0], 10)]);
    assert_eq!(stalled.overloaded().unwrap(), "810 of 1000 requests had no reply in time");
    assert!(stalled.faults().is_empty(), "a server may be slow");
    let sound = record("limit", vec![turn(999, [0, 1, 0, 0, 0], 0)]);
    assert_eq!(sound.overloaded(), None);
    let pool = record("redigo", vec![turn(190, [0, 800, 0, 0, 0], 10)]);
    assert_eq!(pool.overloaded(), None);
}

#[test]
fn arrivals_that_were_never_started_are_warned_of() {
    let unstarted = record("no-pool", vec![turn(75, [0; 5], 924)]);
    let words = no_reply(&unstarted, true).unwrap();
    assert_eq!(words, "924 requests had no reply in 1 round (not started 924)");
    assert_eq!(no_reply(&unstarted, false), None, "the table of a ladder says it");
    assert_eq!(no_reply(&record("redigo", vec![turn(75, [0; 5], 0)]), true), None);
}

#[test]
fn a_warning_counts_every_request_without_a_reply() {
    let mut turn = turn(9, [4, 0, 240, 0, 0], 2);
    turn.first_error = Some("refused".to_owned());
    let words = no_reply(&record("redigo", vec![turn]), true).unwrap();
    assert_eq!(
        words,
        "246 requests had no reply in 1 round (dial 4, refused 240, not started 2), first: refused"
    );
}

#[test]
fn faults_that_came_late_are_warned_of() {
    let mut record = record("redigo", vec![turn(10, [0; 5], 0), turn(10, [0; 5], 0)]);
    record.rounds[0].1.faults_late_ms = Some(12.0);
    assert_eq!(late_faults(&record), None);
    record.rounds[1].1.faults_late_ms = Some(2636.2);
    let words = late_faults(&record).unwrap();
    assert!(words.starts_with("its faults came up to 2636 ms late in 1 of 2 rounds"), "{words}");
}

#[test]
fn requests_that_were_sent_late_are_warned_of() {
    let late = |name, by| {
        let mut turn = turn(50, [0; 5], 0);
        (0..50).for_each(|_| measure::record(&mut turn.lateness, by));
        record(name, vec![turn])
    };
    let records =
        [late("redigo", Duration::from_micros(100)), late("go-redis", Duration::from_millis(4))];
    let words = late_arrivals(&records).unwrap();
    assert!(words.contains("these tails: go-redis (4.00 of 10.0 ms)"), "{words}");
    assert_eq!(late_arrivals(&records[..1]), None);
}

#[test]
fn a_group_has_the_warnings_of_all_its_rows() {
    let mut unlucky = turn(50, [0; 5], 5);
    (0..50).for_each(|_| measure::record(&mut unlucky.lateness, Duration::from_millis(4)));
    let mut unlucky = record("redigo", vec![unlucky]);
    unlucky.rounds[0].1.faults_late_ms = Some(LATE_MS + 1.0);
    let scenario = crate::scenario::Scenario::parse("restart").unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    let group = GroupResult {
        protocol: crate::names::Protocol::Resp,
        scenario,
        callers: 1,
        connections: 1,
        demand: scenario.demand,
        step: None,
        arrivals: crate::scenario::demand::Arrivals::Uniform,
        budget: scenario.budget,
        target: crate::target::Target::embedded(crate::names::Protocol::Resp, address).into(),
        records: vec![unlucky, record("limit", vec![turn(50, [0; 5], 0)])],
        rounds: 1,
        ended: None,
        twin: None,
        noise: None,
    };
    let warnings = of_group(&group);
    let starts = [
        "resp restart redigo: its faults came up to 51 ms late",
        "resp restart redigo: 5 requests had no reply",
        "resp restart: requests were sent late",
    ];
    assert_eq!(warnings.len(), starts.len(), "{warnings:?}");
    for (warning, start) in warnings.iter().zip(starts) {
        assert!(warning.starts_with(start), "{warning}");
    }
}

#[test]
fn a_schedule_that_is_materially_late_is_found() {
    const MS: Duration = Duration::from_millis(1);
    let found = |arrivals: u32, late: Duration, latency: Duration| {
        let (mut lateness, mut latencies) = (measure::histogram(), measure::histogram());
        (0..arrivals).for_each(|_| measure::record(&mut lateness, late));
        measure::record(&mut latencies, latency);
        is_late(&lateness, &latencies)
    };
    assert!(!found(1000, MS * 9 / 10, MS * 100));
    assert!(found(1000, MS * 2, MS * 1000));
    assert!(!found(50, MS * 2, MS * 1000), "one of few may be an accident");
    assert!(found(1, MS / 2, MS));
    assert!(!found(1, MS / 20, MS));
    assert!(!found(0, MS, MS), "a closed loop has no schedule");
}
