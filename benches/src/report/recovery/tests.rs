use super::*;
use crate::fault::{Event, Fault};
use crate::scenario::{Figure, SCENARIOS};

fn slot(t_ms: u64, ok: u64, errors: u64, p99_us: f64) -> Slot {
    Slot {
        t_ms,
        started: ok + errors,
        ok,
        errors: [errors, 0, 0, 0, 0],
        p50_us: (ok > 0).then_some(p99_us / 2.0),
        p99_us: (ok > 0).then_some(p99_us),
        ..Slot::default()
    }
}

fn refused(at_ms: f64, until_ms: impl Into<Option<f64>>) -> Played {
    let fault = Fault::Refuse;
    Played { fault, label: fault.label(), at_ms, until_ms: until_ms.into(), ends: false }
}

fn of(slots: &[Slot], answers_ms: &[f64], event: Played) -> Option<Recovery> {
    let answers: Vec<u64> = answers_ms.iter().map(|ms| (ms * 1e6) as u64).collect();
    Recovery::of(slots, &answers, &[event])
}

#[test]
fn a_fault_that_lasts_to_the_end_leaves_nothing_to_recover_in() {
    let slots = [slot(0, 10, 0, 100.0), slot(100, 5, 5, 900.0)];
    assert_eq!(of(&slots, &[], refused(100.0, 201.0)), None);
    assert_eq!(of(&slots, &[150.0], refused(100.0, None)), None, "it was not ended");
    assert!(of(&slots, &[], refused(100.0, 150.0)).is_some());
    assert_eq!(Recovery::of(&slots, &[], &[]), None);
}

#[test]
fn a_fault_that_was_lifted_after_the_window_says_so() {
    let slots = [slot(0, 10, 0, 100.0), slot(100, 5, 5, 900.0)];
    for until in [Some(201.0), None] {
        let late = Played { ends: true, ..refused(0.0, until) };
        let found = of(&slots, &[150.0], late).unwrap();
        assert_eq!(found.first_success_missing, Some(Missing::LiftedLate));
        assert_eq!((found.first_success_ms, found.normal_if_known()), (None, None));
        // Rounds in which it was lifted in time decide.
        let other = of(&slots, &[160.0], refused(100.0, 150.0)).unwrap();
        let median = Recovery::median(&[found, other]).unwrap();
        assert_eq!(median.first_success_ms, other.first_success_ms);
    }
}

#[test]
fn recovery_is_counted_from_the_end_of_the_fault() {
    let slots = [
        slot(0, 10, 0, 100.0),
        slot(100, 10, 0, 110.0),
        slot(200, 0, 10, 0.0),
        // Wanted before the end of the fault, answered after it.
        slot(300, 5, 5, 90e3),
        slot(400, 5, 5, 900.0),
        slot(500, 10, 0, 300.0),
        slot(600, 10, 0, 150.0),
        slot(700, 10, 0, 150.0),
        slot(800, 10, 0, 150.0),
        slot(900, 0, 1, 0.0),
    ];
    let answers = [1.0, 199.0, 349.9, 387.5, 401.0];
    let recovery = of(&slots, &answers, refused(200.0, 350.0)).unwrap();
    assert_eq!(recovery.first_success_ms, Some(37.5), "not the start of the step");
    assert_eq!(recovery.normal_p99_ms, Some(250.0));
    assert_eq!(recovery.first_success_missing.or(recovery.normal_p99_missing), None);
}

#[test]
fn latencies_are_not_normal_before_the_first_reply() {
    let slots = [0, 100, 200, 300].map(|t_ms| slot(t_ms, 10, 0, 100.0));
    let recovery = of(&slots, &[172.8], refused(100.0, 150.0)).unwrap();
    assert_eq!(recovery.first_success_ms, Some(22.8));
    assert_eq!(recovery.normal_p99_ms, Some(22.8));
}

#[test]
fn what_did_not_come_in_time_is_told_from_what_cannot_be_known() {
    let good = |t_ms| slot(t_ms, 10, 0, 100.0);
    let bad = |t_ms| slot(t_ms, 0, 10, 0.0);
    let normal = |slots: &[Slot], from, until| {
        of(slots, &[], refused(from, until)).unwrap().normal_p99_missing.unwrap()
    };
    let slots = [good(0), bad(100), bad(200), bad(300), bad(400), bad(500), bad(600)];
    let recovery = of(&slots, &[50.0], refused(100.0, 200.0)).unwrap();
    assert_eq!(recovery.first_success_missing, Some(Missing::NotWithin(500.0)));
    // What began in the last two steps could not have been seen.
    assert_eq!(recovery.normal_p99_missing, Some(Missing::NotWithin(200.0)));
    let slots = [good(0), bad(100), bad(200), good(300), good(400)];
    assert_eq!(normal(&slots, 100.0, 300.0), Missing::TooShort(200.0));
    let slots = [bad(0), bad(100), good(200), good(300), good(400)];
    assert_eq!(normal(&slots, 100.0, 200.0), Missing::NoBase, "failing before");
    let overloaded = slot(0, 10, 0, 400e3);
    let slots = [overloaded, bad(100), good(200), good(300), good(400)];
    assert_eq!(normal(&slots, 100.0, 200.0), Missing::NoBase, "overloaded before");
    assert_eq!(normal(&slots, 50.0, 200.0), Missing::NoBase, "no step before");
    let slots = [good(0), slot(100, 9, 1, 100.0), bad(200), good(300), good(400)];
    assert_eq!(normal(&slots, 200.0, 300.0), Missing::TooShort(200.0), "one failed before");
}

/// A turn of a scenario in which each event is 20 ms late, and everything fails from the first
/// event until 80 ms after the last one.
fn turn_of(events: &[Event], duration_ms: u64) -> Option<Recovery> {
    let (late, slow_end) = (20.0, 80.0);
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let played = |event: &Event| Played {
        fault: event.fault,
        label: event.fault.label(),
        at_ms: if event.is_condition() { 0.0 } else { ms(event.at) + late },
        until_ms: event.lasts.map(|lasts| ms(event.at + lasts) + late),
        ends: event.lasts.is_some_and(|lasts| ms(event.at + lasts) < duration_ms as f64),
    };
    let timed = || events.iter().filter(|event| !event.is_condition());
    let first = timed().map(|event| ms(event.at)).reduce(f64::min)?;
    let ends = timed().map(|event| ms(event.at + event.lasts.unwrap_or_default()));
    let end = ends.reduce(f64::max)? + late + slow_end;
    let step = |t_ms: u64| {
        let fails = (t_ms + 100) as f64 > first && (t_ms as f64) < end;
        if fails { slot(t_ms, 0, 10, 0.0) } else { slot(t_ms, 10, 0, 100.0) }
    };
    let slots: Vec<Slot> = (0..duration_ms).step_by(100).map(step).collect();
    let played: Vec<Played> = events.iter().map(played).collect();
    Recovery::of(&slots, &[(end * 1e6) as u64], &played)
}

#[test]
fn every_scenario_leaves_the_time_that_recovery_needs() {
    let mut checked = Vec::new();
    for scenario in SCENARIOS {
        let events = (scenario.events)(&mut fastrand::Rng::with_seed(1));
        let short = scenario.short.map(|short| short.duration);
        for duration in [Some(scenario.duration), short].into_iter().flatten() {
            let recovery = turn_of(&events, duration.as_millis() as u64);
            // Its faults last to the end of the turn, or it has none.
            let Some(recovery) = recovery else {
                assert_ne!(scenario.figure, Figure::Recovery, "{}", scenario.name);
                continue;
            };
            assert!(recovery.first_success_ms.is_some(), "{}: {recovery:?}", scenario.name);
            assert!(recovery.normal_p99_ms.is_some(), "{}: {recovery:?}", scenario.name);
            checked.push(scenario.name);
        }
    }
    checked.dedup();
    let timed = SCENARIOS.into_iter().filter(|scenario| !scenario.shortest().is_zero());
    let mut timed: Vec<&str> = timed.map(|scenario| scenario.name).collect();
    // It is about errors alone: its two kinds of cuts fill the turn.
    timed.retain(|name| *name != "idle-cut");
    assert_eq!(checked, timed);
}

#[test]
fn what_hides_the_fault_recovers_at_once() {
    let slots = [0, 100, 200, 300].map(|t_ms| slot(t_ms, 10, 0, 100.0 + t_ms as f64 / 10.0));
    let recovery = of(&slots, &[149.0, 150.0], refused(100.0, 150.0)).unwrap();
    assert_eq!(recovery.first_success_ms, Some(0.0));
    assert_eq!(recovery.normal_p99_ms, Some(0.0));
}

#[test]
fn rounds_come_to_their_median() {
    let late = Err(Missing::NotWithin(500.0));
    let unknown = Err(Missing::NoBase);
    assert_eq!(median(vec![Ok(9.0), Ok(1.0), Ok(3.0)]), Some(Ok(3.0)));
    assert_eq!(median(vec![Ok(1.0), Ok(4.0)]), Some(Ok(2.5)));
    assert_eq!(median(vec![late, Ok(1.0), Ok(4.0)]), Some(Ok(4.0)), "late is late, not nothing");
    assert_eq!(median(vec![late, Ok(1.0)]), Some(late));
    assert_eq!(median(vec![unknown, Ok(1.0)]), Some(Ok(1.0)));
    assert_eq!(median(vec![unknown, unknown]), Some(unknown));
    assert_eq!(median(vec![]), None);
}

#[test]
fn a_missing_time_has_a_reason_in_results() {
    let recovery = Recovery::new(Ok(1.5), Err(Missing::NotWithin(2200.0)));
    let json = serde_json::to_value(recovery).unwrap();
    assert_eq!(json["first_success_ms"], 1.5);
    assert!(json["normal_p99_ms"].is_null() && json["first_success_missing"].is_null());
    assert_eq!(json["normal_p99_missing"], "not within 2200 ms");
    assert_eq!(Missing::NotWithin(2200.0).word(), ">2.20k");
    assert_eq!(recovery.normal_if_known(), Some(None));
    let unknown = Recovery::new(Ok(1.5), Err(Missing::NoBase));
    assert_eq!(unknown.normal_if_known(), None);
}
