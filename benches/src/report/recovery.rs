//! How long it takes until all is well again after a fault.

use std::fmt;

use serde::{Serialize, Serializer};

use super::columns::short;
use super::model::{Played as PlayedTurn, Record};
use crate::measure::round;
use crate::run::events::Played;
use crate::run::slots::Slot;

/// This many good steps in a row show that latencies are normal again; a single one may be luck.
pub const GOOD_STEPS: u32 = 3;

/// Times from the end of the last fault, and why one is missing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recovery {
    /// Until the first reply came, whenever its request was wanted.
    pub first_success_ms: Option<f64>,
    /// Why there is no such time.
    pub first_success_missing: Option<Missing>,
    /// Until the first of `GOOD_STEPS` steps in a row began in which the 99th percentile is below twice
    /// its largest value before the first fault, nothing fails, and nothing is left unstarted.
    pub normal_p99_ms: Option<f64>,
    /// Why there is no such time.
    pub normal_p99_missing: Option<Missing>,
}

/// Why a time after a fault is not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Missing {
    /// It did not come within this many milliseconds, in which it could have come.
    NotWithin(f64),
    /// Before the fault requests failed, or the contestant was overloaded: nothing says what is normal.
    NoBase,
    /// The window ended this many milliseconds after the fault, too soon to tell.
    TooShort(f64),
}

impl Missing {
    /// A word for a cell.
    pub fn word(self) -> String {
        match self {
            Self::NotWithin(ms) => format!(">{}", short(ms)),
            Self::NoBase => "no base".to_owned(),
            Self::TooShort(_) => "too short".to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWithin(ms) => write!(f, "not within {ms:.0} ms"),
            Self::NoBase => f.write_str("no base: failing or overloaded before the fault"),
            Self::TooShort(ms) => {
                write!(f, "unknown: the window ended {ms:.0} ms after the fault, too soon to tell")
            }
        }
    }
}

impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time in milliseconds, or why it is not known.
type Time = Result<f64, Missing>;

impl Recovery {
    /// The median over all rounds that had a fault with an end.
    pub fn of_record(record: &Record) -> Option<Self> {
        let rounds = record.rounds.iter().filter_map(|(_, played)| Self::of_round(played));
        Self::median(&rounds.collect::<Vec<_>>())
    }

    /// The times of one round.
    pub fn of_round(played: &PlayedTurn) -> Option<Self> {
        let turn = played.turn.as_ref().ok()?;
        Self::of(turn.slots.as_ref()?, turn.answers.as_ref()?, &played.events)
    }

    /// The same, from its steps and the moments of its replies. `None` when nothing went
    /// wrong on purpose, or a fault lasted to the end of the window.
    fn of(slots: &[Slot], answers: &[u64], events: &[Played]) -> Option<Self> {
        // What is in force from the beginning to the end is how things are, no fault of the turn.
        let condition = |event: &Played| {
            event.at_ms <= 0.0 && event.until_ms.is_none() && !event.fault.is_moment()
        };
        let faults = || events.iter().filter(|event| !condition(event));
        let ended = |event: &Played| match event.until_ms {
            Some(until) => until,
            None if event.fault.is_moment() => event.at_ms,
            None => f64::INFINITY,
        };
        let first = faults().map(|event| event.at_ms).reduce(f64::min)?;
        let end = faults().map(ended).reduce(f64::max)?;
        let left = slots.last()?.t_ms as f64 + step_ms(slots) - end;
        (left > 0.0).then(|| {
            let answer = answers.iter().map(|ns| *ns as f64 / 1e6).find(|ms| *ms >= end);
            let answer = answer.map(|ms| round(ms - end)).ok_or(Missing::NotWithin(left.round()));
            // Latencies cannot be normal before there is any; a step is only exact to its length.
            let no_earlier = |normal: f64| normal.max(answer.unwrap_or(0.0));
            Self::new(answer, normal_after(slots, first, end, left).map(no_earlier))
        })
    }

    fn new(first_success: Time, normal_p99: Time) -> Self {
        Self {
            first_success_ms: first_success.ok(),
            first_success_missing: first_success.err(),
            normal_p99_ms: normal_p99.ok(),
            normal_p99_missing: normal_p99.err(),
        }
    }

    fn first_success(&self) -> Option<Time> {
        self.first_success_ms.map(Ok).or(self.first_success_missing.map(Err))
    }

    fn normal_p99(&self) -> Option<Time> {
        self.normal_p99_ms.map(Ok).or(self.normal_p99_missing.map(Err))
    }

    fn median(rounds: &[Self]) -> Option<Self> {
        let of = |time: fn(&Self) -> Option<Time>| median(rounds.iter().filter_map(time).collect());
        Some(Self::new(of(Self::first_success)?, of(Self::normal_p99)?))
    }

    /// The time to normal latencies; `Some(None)` where there was time enough and it did not come,
    /// `None` where nothing can be said.
    pub fn normal_if_known(&self) -> Option<Option<f64>> {
        match self.normal_p99_missing {
            None | Some(Missing::NotWithin(_)) => Some(self.normal_p99_ms),
            Some(Missing::NoBase | Missing::TooShort(_)) => None,
        }
    }
}

/// The median of times, where one that did not come in time is longer than any that did. Rounds that
/// say nothing do not count, unless all say nothing.
fn median(times: Vec<Time>) -> Option<Time> {
    let first = *times.first()?;
    let says = |time: &Time| matches!(time, Ok(_) | Err(Missing::NotWithin(_)));
    let mut times: Vec<Time> = times.into_iter().filter(says).collect();
    if times.is_empty() {
        return Some(first);
    }
    let length = |time: &Time| time.unwrap_or(f64::INFINITY);
    times.sort_by(|left, right| length(left).total_cmp(&length(right)));
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    Some(match (low, high) {
        (Ok(low), Ok(high)) => Ok(round(f64::midpoint(low, high))),
        // Half of the rounds took longer than any of them could have shown.
        _ => {
            let bound = |time: &Time| match time {
                Err(Missing::NotWithin(ms)) => Some(*ms),
                _ => None,
            };
            Err(Missing::NotWithin(times.iter().filter_map(bound).fold(f64::INFINITY, f64::min)))
        }
    })
}

/// When latencies are normal again, after faults from `first` to `end`; the window had so much time
/// left.
fn normal_after(slots: &[Slot], first: f64, end: f64, left: f64) -> Time {
    let step = step_ms(slots);
    let wanted: Vec<&Slot> =
        slots.iter().filter(|slot| slot.started + slot.unstarted > 0).collect();
    let base = base(&wanted, first, step).ok_or(Missing::NoBase)?;
    let normal = |slot: &Slot| slot.p99_us.is_some_and(|p99| p99 < 2.0 * base) && is_whole(slot);
    let after: Vec<&Slot> =
        wanted.into_iter().filter(|slot| slot.t_ms as f64 + step > end).collect();
    // A step that began before the end of the fault counts from there.
    let distance = |slot: &Slot| round((slot.t_ms as f64 - end).max(0.0));
    let in_a_row = GOOD_STEPS as usize;
    let settled = after.windows(in_a_row).find(|slots| slots.iter().all(|slot| normal(slot)));
    match (settled, after.len().checked_sub(in_a_row)) {
        (Some(slots), _) => Ok(distance(slots[0])),
        // Steps after the last one that is looked at could not have been seen to be normal.
        (None, Some(last)) if distance(after[last]) > 0.0 => {
            Err(Missing::NotWithin(distance(after[last]).round()))
        }
        (None, _) => Err(Missing::TooShort(left.round())),
    }
}

/// The largest 99th percentile of the good steps before the fault that began at `first`. `None` without
/// a good step, or when the contestant was overloaded as the fault began.
fn base(slots: &[&Slot], first: f64, step: f64) -> Option<f64> {
    let before: Vec<&&Slot> =
        slots.iter().filter(|slot| slot.t_ms as f64 + step <= first).collect();
    // Half of what it wanted had its reply before the fault.
    let in_time =
        |slot: &Slot| slot.p50_us.is_some_and(|p50| slot.t_ms as f64 + p50 / 1e3 <= first);
    before.last().filter(|slot| in_time(slot))?;
    let good = before.iter().filter(|slot| in_time(slot) && is_whole(slot));
    good.filter_map(|slot| slot.p99_us).reduce(f64::max)
}

/// Whether everything that was wanted in it had a reply.
fn is_whole(slot: &Slot) -> bool {
    slot.errors.iter().sum::<u64>() == 0 && slot.unstarted == 0
}

fn step_ms(slots: &[Slot]) -> f64 {
    match slots {
        [first, second, ..] => (second.t_ms - first.t_ms) as f64,
        _ => 100.0,
    }
}

#[cfg(test)]
mod tests {
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
        Played { fault, label: fault.label(), at_ms, until_ms: until_ms.into() }
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
        assert_eq!(
            median(vec![late, Ok(1.0), Ok(4.0)]),
            Some(Ok(4.0)),
            "late is late, not nothing"
        );
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
}
