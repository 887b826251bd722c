//! The faults of a turn: what is told to the server when, and its stamps.
//!
//! Every contestant must meet the same faults at the same moments. So a separate
//! thread plays them (`player.rs`): a contestant that keeps the runtime of its turn busy would
//! delay its own faults. The stamps are compared with the plan, and a turn whose faults were late is
//! named and not ranked.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::load::Began;
use crate::error::BenchError;
use crate::fault::{Event, Fault};
use crate::names::Protocol;

/// A fault that begins or ends later than this is another fault: half a step of the time line, in
/// which everything after a fault is counted.
pub const LATE_MS: f64 = 50.0;

/// A fault that was played, on the time axis of its turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Played {
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
    /// In words.
    pub label: String,
    /// When it began, in milliseconds since the window did, as the server stamped it. Negative for
    /// what was in force before.
    pub at_ms: f64,
    /// When it ended; `null` for a moment, and for what lasted until the end.
    pub until_ms: Option<f64>,
    /// It was planned to end within the window.
    #[serde(skip)]
    pub ends: bool,
}

/// Something to do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Inject(usize),
    Lift(usize),
}

/// What is to be done when, in order. Of two steps at the same time the one that ends something comes
/// first.
fn steps(events: &[Event]) -> Vec<(Duration, Step)> {
    let begins = events.iter().enumerate().map(|(n, event)| (event.at, Step::Inject(n)));
    let ends = events
        .iter()
        .enumerate()
        .filter_map(|(n, event)| Some((event.at + event.lasts?, Step::Lift(n))));
    let mut steps: Vec<_> = ends.chain(begins).collect();
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// The faults of one turn, as they are played.
#[derive(Debug)]
pub struct Script {
    protocol: Protocol,
    events: Vec<Event>,
    /// Numbers and stamps of what was injected, and the stamps of its end.
    injected: Vec<Option<(u32, u64, Option<u64>)>>,
}

impl Script {
    /// Nothing is played yet.
    pub fn new(protocol: Protocol, events: Vec<Event>) -> Self {
        let injected = vec![None; events.len()];
        Self { protocol, events, injected }
    }

    /// Puts in force what is there before the turn.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn prepare(&mut self, control: &mut Control) -> Result<(), BenchError> {
        for n in 0..self.events.len() {
            if self.events[n].is_condition() {
                self.carry_out(control, Step::Inject(n)).await?;
            }
        }
        Ok(())
    }

    /// Plays the rest once the window has begun, until it is `over`.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn play(
        &mut self,
        control: &mut Control,
        mut began: watch::Receiver<Option<Began>>,
        over: &CancellationToken,
    ) -> Result<(), BenchError> {
        let start = tokio::select! {
            began = began.wait_for(Option::is_some) => match began.ok().and_then(|began| *began) {
                Some(began) => began,
                None => return Ok(()),
            },
            () = over.cancelled() => return Ok(()),
        };
        let timed: Vec<Event> = self.events.clone();
        for (at, step) in steps(&timed) {
            let (Step::Inject(n) | Step::Lift(n)) = step;
            if timed[n].is_condition() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(start.at + at) => {}
                () = over.cancelled() => return Ok(()),
            }
            self.carry_out(control, step).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, control: &mut Control, step: Step) -> Result<(), BenchError> {
        match step {
            Step::Inject(n) => {
                let (id, at_ns) = control.inject(self.protocol, self.events[n].fault).await?;
                self.injected[n] = Some((id, at_ns, None));
            }
            Step::Lift(n) => {
                if let Some((id, _, until)) = &mut self.injected[n] {
                    *until = Some(control.lift(self.protocol, *id).await?);
                }
            }
        }
        Ok(())
    }

    /// By how many milliseconds faults came later or lasted longer than planned, at most, in a window
    /// that began at `began_ns` and lasted this long; `None` without a fault that had a time. What never
    /// came is late by what was left of the window.
    pub fn lateness_ms(&self, began_ns: u64, seconds: f64) -> Option<f64> {
        let mut most = None;
        for (at, step) in steps(&self.events) {
            let (Step::Inject(n) | Step::Lift(n)) = step;
            let planned = at.as_secs_f64() * 1e3;
            if self.events[n].is_condition() || planned > seconds * 1e3 {
                continue;
            }
            let stamp = match (step, self.injected[n]) {
                (Step::Inject(_), injected) => injected.map(|(_, at, _)| at),
                (Step::Lift(_), injected) => injected.and_then(|(_, _, until)| until),
            };
            let came = stamp.map_or(seconds * 1e3, |ns| (ns as f64 - began_ns as f64) / 1e6);
            most = Some(f64::max(most.unwrap_or(0.0), came - planned));
        }
        most.map(crate::measure::round)
    }

    /// What was played, on the axis of a window that began at `began_ns` and was planned to last this long.
    /// Whether a fault was to end is a matter of the plan: measured windows differ by microseconds.
    pub fn played(&self, began_ns: u64, planned: Duration) -> Vec<Played> {
        let last = planned.saturating_sub(Duration::from_secs_f64(LATE_MS / 1000.0));
        let ms = |ns: u64| (ns as f64 - began_ns as f64) / 1e6;
        let happened = self.events.iter().zip(&self.injected);
        happened
            .filter_map(|(event, injected)| {
                let (_, at, until) = (*injected)?;
                Some(Played {
                    fault: event.fault,
                    label: event.fault.label(),
                    at_ms: crate::measure::round(ms(at)),
                    until_ms: until.map(|until| crate::measure::round(ms(until))),
                    // An end that may come as late as this belongs to no window.
                    ends: event.lasts.is_some_and(|lasts| event.at + lasts < last),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Cut;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_come_in_order_and_ends_before_begins() {
        let events = [
            Event::at(0, Fault::SlowReplies { ms: 1 }),
            Event::during(10, 10, Fault::Refuse),
            Event::at(20, Fault::Cut { how: Cut::Fin }),
        ];
        let order: Vec<Step> = steps(&events).into_iter().map(|(_, step)| step).collect();
        assert_eq!(order, [Step::Inject(0), Step::Inject(1), Step::Lift(1), Step::Inject(2)]);
        assert!(events[0].is_condition() && !events[1].is_condition());
    }

    #[test]
    fn faults_that_come_late_or_never_are_found() {
        let events = vec![
            Event::at(0, Fault::SlowReplies { ms: 1 }),
            Event::during(10, 20, Fault::Refuse),
            Event::at(500, Fault::Cut { how: Cut::Fin }),
        ];
        let mut script = Script::new(Protocol::Resp, events);
        script.injected[1] = Some((1, 1_012_000_000, Some(1_030_000_000)));
        let began = 1_000_000_000;
        assert_eq!(script.lateness_ms(began, 0.4), Some(2.0), "the window ended before the cut");
        script.injected[1] = Some((1, 1_012_000_000, Some(1_130_000_000)));
        assert_eq!(script.lateness_ms(began, 0.4), Some(100.0), "it was lifted late");
        assert_eq!(script.lateness_ms(began, 0.8), Some(300.0), "the cut never came");
        let condition = Script::new(Protocol::Resp, vec![Event::at(0, Fault::Refuse)]);
        assert_eq!(condition.lateness_ms(began, 0.4), None);
    }

    #[test]
    fn fault_that_lasts_to_the_end_of_the_window_was_not_to_end_within_it() {
        // An end that is planned for the last millisecond has no time after it, however long the window
        // really was.
        for (lasts, ends) in [(500, true), (899, false), (900, false), (2000, false)] {
            let mut script =
                Script::new(Protocol::Resp, vec![Event::during(100, lasts, Fault::Refuse)]);
            script.injected[0] = Some((1, 100_000_000, None));
            assert_eq!(script.played(0, SECOND)[0].ends, ends, "{lasts} ms");
        }
    }

    #[test]
    fn stamps_stand_on_the_axis_of_the_window() {
        let mut script = Script::new(Protocol::Resp, vec![Event::during(1, 1, Fault::Refuse)]);
        assert!(script.played(0, SECOND).is_empty(), "nothing was played");
        script.injected[0] = Some((1, 5_000_000, Some(6_500_000)));
        let played = script.played(4_000_000, SECOND);
        assert_eq!((played[0].at_ms, played[0].until_ms), (1.0, Some(2.5)));
        assert!(played[0].ends && !script.played(4_000_000, Duration::from_millis(2))[0].ends);
    }
}
