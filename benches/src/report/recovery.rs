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
    /// The fault was to end within the window, and was lifted after it: there was no time to recover in.
    LiftedLate,
}

impl Missing {
    /// A word for a cell.
    pub fn word(self) -> String {
        match self {
            Self::NotWithin(ms) => format!(">{}", short(ms)),
            Self::NoBase => "no base".to_owned(),
            Self::TooShort(_) => "too short".to_owned(),
            Self::LiftedLate => "late lift".to_owned(),
        }
    }
}

/// The same words for a cell, from the reason as results have it.
pub fn missing_word(reason: &str) -> &str {
    match reason {
        _ if reason.starts_with("no base") => "no base",
        _ if reason.starts_with("unknown: the window") => "too short",
        _ if reason.starts_with("unknown: the fault") => "late lift",
        other => other,
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
            Self::LiftedLate => f.write_str("unknown: the fault was lifted after the window"),
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
    /// wrong on purpose, or a fault lasted to the end of the window as planned.
    fn of(slots: &[Slot], answers: &[u64], events: &[Played]) -> Option<Self> {
        // What is in force from the beginning to the end is how things are, no fault of the turn.
        let condition = |event: &Played| {
            event.at_ms <= 0.0
                && event.until_ms.is_none()
                && !event.ends
                && !event.fault.is_moment()
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
        if left <= 0.0 {
            let was_to_end = faults().filter(|event| ended(event) >= end).all(|event| event.ends);
            let late = Err(Missing::LiftedLate);
            return was_to_end.then(|| Self::new(late, late));
        }
        let answer = answers.iter().map(|ns| *ns as f64 / 1e6).find(|ms| *ms >= end);
        let answer = answer.map(|ms| round(ms - end)).ok_or(Missing::NotWithin(left.round()));
        // Latencies cannot be normal before there is any; a step is only exact to its length.
        let no_earlier = |normal: f64| normal.max(answer.unwrap_or(0.0));
        Some(Self::new(answer, normal_after(slots, first, end, left).map(no_earlier)))
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
            Some(Missing::NoBase | Missing::TooShort(_) | Missing::LiftedLate) => None,
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
mod tests;
