use std::time::Duration;

use super::*;
use crate::catalog::Contestant;
use crate::fault::Fault;
use crate::measure;
use crate::report::model::Played;
use crate::run::events::Played as Event;
use crate::run::plan::Entry;
use crate::run::slots::Slot;
use crate::scenario::ladder::Step;
use crate::serve::oracle::{Counters, Series};

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

/// A round without a reply, in which the server answered this many requests in each step.
fn silent_round(answers: &[u32]) -> Record {
    let mut dead = turn(0, [0, 900, 0, 0, 0], 0);
    let slot = |t_ms| Slot { t_ms, started: 90, ..Slot::default() };
    dead.slots = Some((0..10).map(|number| slot(number * 100)).collect());
    dead.began_ns = 0;
    let mut record = record("redigo", vec![dead]);
    let played = &mut record.rounds[0].1;
    played.nonces = true;
    played.series = Some(Series {
        step_ms: 100,
        backends: answers.iter().map(|answers| [*answers, 0]).collect(),
        ..Series::default()
    });
    let server = played.server.as_mut().unwrap();
    server.executed = answers.iter().map(|answers| u64::from(*answers)).sum();
    record
}

#[test]
fn a_contestant_that_leaves_the_server_idle_hangs_and_is_not_overloaded() {
    // It sends nothing; it sends once for each connection, dialed again after each timeout.
    for answers in [&[][..], &[50, 0, 0, 0, 0, 50]] {
        let hangs = silent_round(answers);
        let why = hangs.broke().unwrap();
        assert!(why.starts_with("it hangs") && why.contains("of 10 steps of 100 ms"), "{why}");
        assert_eq!(hangs.overloaded(), None);
    }
    let busy = silent_round(&[90, 80, 60, 60, 60, 60, 60, 60, 60, 60]);
    assert!(busy.overloaded().is_some() && busy.broke().is_none());
    let slow = silent_round(&[1, 0, 0, 1, 0, 0, 1, 0, 0, 1]);
    assert!(slow.overloaded().is_some(), "it takes 300 ms for a reply: {:?}", slow.broke());
    // A server of the user's counts no requests.
    let mut unknown = silent_round(&[]);
    unknown.rounds[0].1.nonces = false;
    assert!(unknown.overloaded().is_some() && unknown.broke().is_none());
}

#[test]
fn a_server_that_is_idle_while_a_fault_lasts_shows_no_hang() {
    let mut silent = silent_round(&[90, 80, 60, 60]);
    silent.rounds[0].1.events = vec![Event {
        fault: Fault::Refuse,
        label: String::new(),
        at_ms: 400.0,
        until_ms: None,
        ends: false,
    }];
    assert!(silent.overloaded().is_some(), "{:?}", silent.broke());
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

/// A group with these rows.
fn group(scenario: &str, records: Vec<Record>) -> GroupResult {
    let scenario = crate::scenario::Scenario::parse(scenario).unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    GroupResult {
        protocol: crate::names::Protocol::Resp,
        scenario,
        callers: 1,
        connections: 1,
        demand: scenario.demand,
        step: None,
        arrivals: crate::scenario::demand::Arrivals::Uniform,
        budget: scenario.budget,
        target: crate::target::Target::embedded(crate::names::Protocol::Resp, address).into(),
        records,
        rounds: 1,
        ended: None,
        twin: None,
        noise: None,
    }
}

/// A row whose faults were so late in its rounds.
fn faulty(name: &str, late_ms: &[f64]) -> Record {
    let mut record = record(name, late_ms.iter().map(|_| turn(10, [0; 5], 0)).collect());
    for ((_, played), late) in record.rounds.iter_mut().zip(late_ms) {
        played.faults_late_ms = Some(*late);
    }
    record
}

/// A row of this latency whose requests were sent so late.
fn tardy(name: &str, late: Duration) -> Record {
    let mut turn = turn(50, [0; 5], 0);
    (0..50).for_each(|_| measure::record(&mut turn.lateness, late));
    record(name, vec![turn])
}

#[test]
fn faults_that_came_late_are_one_warning_with_the_worst_row() {
    let redigo = || faulty("redigo", &[12.0, 2636.2]);
    let groups = [group("restart", vec![faulty("limit", &[12.0, 30.0]), redigo()])];
    let words = late_faults(&groups).unwrap();
    assert!(words.starts_with("faults came more than 50 ms late"), "{words}");
    let worst = "resp restart redigo (up to 2636 ms in 1 of 2 rounds)";
    assert!(words.ends_with(&format!("in 1 of 2 rows: {worst}")), "{words}");
    let others = vec![faulty("grpc", &[51.0]), tardy("limit", Duration::ZERO)];
    let groups = [group("restart", vec![redigo()]), group("goaway", others)];
    let words = late_faults(&groups).unwrap();
    assert!(
        words.contains(&format!("in 2 of 2 rows, most of all in {worst}; faults_late")),
        "{words}"
    );
    assert_eq!(late_faults(&[group("restart", vec![faulty("redigo", &[LATE_MS])])]), None);
}

#[test]
fn requests_that_were_sent_late_are_one_warning_with_the_worst_row() {
    let ms = Duration::from_millis;
    let rows = vec![
        tardy("redigo", ms(0)),
        tardy("go-redis", ms(4)),
        record("limit", vec![turn(9, [0; 5], 0)]),
    ];
    let groups = [group("paced", rows)];
    let words = late_arrivals(&groups).unwrap();
    assert!(words.ends_with("in 1 of 2 rows: resp paced go-redis (4.00 of 10.0 ms)"), "{words}");
    let rows = ["redigo", "grpc"].map(|name| tardy(name, ms(3)));
    let [first] = groups;
    let groups = [first, group("burst", rows.into())];
    let words = late_arrivals(&groups).unwrap();
    assert!(words.contains("in 3 of 4 rows, most of all in resp paced go-redis (4.00 "), "{words}");
    assert_eq!(late_arrivals(&[group("paced", vec![tardy("redigo", ms(0))])]), None);
    // The worst row is the latest one, whether or not others had replies.
    let mut silent = tardy("thrift", ms(2));
    let turn = silent.rounds[0].1.turn.as_mut().unwrap();
    turn.latency.reset();
    (0..1000).for_each(|_| measure::record(&mut turn.lateness, ms(2)));
    let groups = [group("paced", vec![silent, tardy("redigo", ms(940))])];
    let words = late_arrivals(&groups).unwrap();
    assert!(words.contains("most of all in resp paced redigo (94"), "{words}");
}

#[test]
fn a_run_has_the_warnings_of_all_its_rows() {
    let mut unlucky = faulty("redigo", &[LATE_MS + 1.0]);
    let late = unlucky.rounds[0].1.turn.as_mut().unwrap();
    late.unstarted = 5;
    (0..50).for_each(|_| measure::record(&mut late.lateness, Duration::from_millis(4)));
    let mut refused = faulty("redigo", &[0.0]);
    refused.rounds[0].1.turn.as_mut().unwrap().errors = [7, 0, 0, 0, 0];
    let mut ladder = group("paced", vec![record("no-pool", vec![turn(75, [0; 5], 924)])]);
    ladder.step = Some(Step { index: 10, of: 10, share: None });
    let warnings = of_all(&[
        group("paced", vec![unlucky, faulty("limit", &[0.0])]),
        // Failures that are expected have their columns.
        group("restart", vec![refused]),
        ladder,
    ]);
    let starts = [
        "resp paced redigo: 5 requests had no reply",
        "faults came more than 50 ms late",
        "requests were sent late",
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
    assert!(found(1000, MS * 2, MS * 10));
    assert!(!found(1000, MS * 2, MS * 1000), "a small part of the tail");
    assert!(!found(50, MS * 2, MS * 50), "one of few may be an accident");
    assert!(found(1, MS / 2, MS));
    assert!(!found(1, MS / 20, MS));
    assert!(!found(0, MS, MS), "a closed loop has no schedule");
}
