//! Plays the faults of a turn: tells the server what to do when, and keeps its stamps.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::child::Server;
use super::turn::Began;
use crate::error::BenchError;
use crate::fault::{Event, Fault};
use crate::names::Protocol;

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
    pub async fn prepare(&mut self, server: &mut Server) -> Result<(), BenchError> {
        for n in 0..self.events.len() {
            if self.events[n].is_condition() {
                self.carry_out(server, Step::Inject(n)).await?;
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
        server: &mut Server,
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
            self.carry_out(server, step).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, server: &mut Server, step: Step) -> Result<(), BenchError> {
        match step {
            Step::Inject(n) => {
                let (id, at_ns) = server.inject(self.protocol, self.events[n].fault).await?;
                self.injected[n] = Some((id, at_ns, None));
            }
            Step::Lift(n) => {
                if let Some((id, _, until)) = &mut self.injected[n] {
                    *until = Some(server.lift(self.protocol, *id).await?);
                }
            }
        }
        Ok(())
    }

    /// What was played, on the axis of a window that began at `began_ns`.
    pub fn played(&self, began_ns: u64) -> Vec<Played> {
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
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Cut;

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
    fn stamps_stand_on_the_axis_of_the_window() {
        let mut script = Script::new(Protocol::Resp, vec![Event::during(1, 1, Fault::Refuse)]);
        assert!(script.played(0).is_empty(), "nothing was played");
        script.injected[0] = Some((1, 5_000_000, Some(6_500_000)));
        let played = script.played(4_000_000);
        assert_eq!((played[0].at_ms, played[0].until_ms), (1.0, Some(2.5)));
    }
}
