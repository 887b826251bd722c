//! The lives of a pool's connections in one turn: when each was dialed, how much of the time it was
//! lent, and when and why it was closed. All of this comes from the events of the pool.
//!
//! Memory is bounded at any rate of requests: the window is divided into 160 steps, and a lease is kept only
//! as the time that it adds to its steps. Dials and closes are kept with their moments.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pool_common::event::{CloseCause, EventKind};
use pool_common::state::ConnectionId;

use super::lanes::{Lane, Lanes, choose};
use crate::measure;

/// The number of steps of a window. The page draws each of them two pixels wide.
pub(super) const STEPS: usize = 160;
/// The most lives that are kept at a time. When there are more, every second one is left out.
const MOST: usize = 512;

/// Listens to the events of one pool in one turn.
#[derive(Debug)]
pub struct Lives(Mutex<Heard>);

#[derive(Debug)]
struct Heard {
    /// The measured window on `CLOCK_MONOTONIC`, in nanoseconds; `None` before it begins.
    window: Option<(u64, u64)>,
    length: u64,
    /// Dials so far, by which connections are numbered.
    dials: u64,
    /// One dial in so many is followed.
    every: u64,
    open: HashMap<ConnectionId, Life>,
    ended: Vec<Life>,
    /// Connections that were opened and are not followed.
    left_out: u64,
    causes: BTreeMap<&'static str, u64>,
    failed_dials: u64,
    /// Dials that failed in each step.
    failed: Box<[u32; STEPS]>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) dialed: u64,
    pub(super) opened: Option<u64>,
    pub(super) closed: Option<(u64, CloseCause)>,
    /// Times it was lent in the window.
    pub(super) leases: u64,
    /// Leases at the moment, and since when there is at least one.
    lent: u32,
    lent_since: u64,
    checked_since: Option<u64>,
    /// Nanoseconds of each step in which it was lent, and those with a check in them.
    pub(super) used: Box<[u64; STEPS]>,
    pub(super) checked: Box<[bool; STEPS]>,
}

impl Life {
    fn dialed(number: u64, at: u64) -> Self {
        Self {
            number,
            dialed: at,
            opened: None,
            closed: None,
            leases: 0,
            lent: 0,
            lent_since: 0,
            checked_since: None,
            used: Box::new([0; STEPS]),
            checked: Box::new([false; STEPS]),
        }
    }

    /// Adds the time with a lease that passed until `now`.
    fn used_until(&mut self, window: Option<(u64, u64)>, now: u64) {
        let used = &mut self.used;
        steps(window, self.lent_since, now, |step, nanos| used[step] += nanos);
    }

    fn checked_until(&mut self, window: Option<(u64, u64)>, now: u64) {
        let Some(since) = self.checked_since.take() else { return };
        let checked = &mut self.checked;
        steps(window, since, now, |step, _| checked[step] = true);
    }

    /// Ends the lease and the check that go on, at `now`.
    fn end(&mut self, window: Option<(u64, u64)>, now: u64) {
        if self.lent > 0 {
            self.used_until(window, now);
            self.lent = 0;
        }
        self.checked_until(window, now);
    }
}

/// The steps of the window between two moments, each with the nanoseconds that lie in it.
fn steps(window: Option<(u64, u64)>, from: u64, to: u64, mut each: impl FnMut(usize, u64)) {
    let Some((began, end)) = window else { return };
    let length = step_length(end - began);
    // A use that is too short for the clock still counts, as one nanosecond.
    let (mut at, to) = (from.max(began), to.max(from + 1).min(end));
    while at < to {
        let step = ((at - began) / length) as usize;
        let next = (began + (step as u64 + 1) * length).min(to);
        each(step.min(STEPS - 1), next - at);
        at = next;
    }
}

/// The nanoseconds of a step.
pub(super) fn step_length(window: u64) -> u64 {
    window.div_ceil(STEPS as u64).max(1)
}

impl Lives {
    /// A recorder for a window of this length, which has not begun.
    pub fn new(length: Duration) -> Self {
        Self(Mutex::new(Heard {
            window: None,
            length: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX / 2),
            dials: 0,
            every: 1,
            open: HashMap::new(),
            ended: Vec::new(),
            left_out: 0,
            causes: BTreeMap::new(),
            failed_dials: 0,
            failed: Box::new([0; STEPS]),
        }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().expect("nothing panics under the lock")
    }

    /// The window begins at `ns` on `CLOCK_MONOTONIC`.
    pub fn begin(&self, ns: u64) {
        let mut heard = self.heard();
        heard.window = Some((ns, ns.saturating_add(heard.length)));
    }

    /// Something happened to a connection just now. The pool's own stamp is as coarse as its clock.
    pub fn hear(&self, id: ConnectionId, kind: EventKind) {
        self.heard().hear(id, kind, measure::monotonic_ns());
    }

    /// The lanes of the window; `None` when the pool had no connection in it and dialed none.
    pub(super) fn lanes(&self) -> Option<Lanes> {
        let mut heard = self.heard();
        let window @ (began, end) = heard.window?;
        let mut lives: Vec<Life> = std::mem::take(&mut heard.ended);
        lives.extend(heard.open.drain().map(|(_, life)| life));
        for life in &mut lives {
            life.end(Some(window), end);
        }
        let connections = lives.len() as u64 + heard.left_out;
        if connections == 0 && heard.failed_dials == 0 {
            return None;
        }
        let chosen = choose(lives, end);
        Some(Lanes {
            step_ms: measure::round(step_length(end - began) as f64 / 1e6),
            connections,
            closed: std::mem::take(&mut heard.causes),
            failed_dials: heard.failed_dials,
            failed: (heard.failed_dials > 0).then(|| super::lanes::counts(&heard.failed[..])),
            lanes: chosen.iter().map(|life| Lane::of(life, window)).collect(),
        })
    }
}

impl Heard {
    fn hear(&mut self, id: ConnectionId, kind: EventKind, now: u64) {
        if self.window.is_some_and(|(_, end)| now >= end) {
            // The close of the whole pool, and requests that outlast the window.
            return self.hear_late(id, kind, now);
        }
        let window = self.window;
        if kind == EventKind::Dialing {
            return self.follow(id, now);
        }
        let Some(life) = self.open.get_mut(&id) else {
            match kind {
                EventKind::Opened(_) => self.left_out += 1,
                EventKind::DialFailed => self.dial_failed(now, now),
                EventKind::Closing(cause) => {
                    self.count(cause, now);
                    self.left_out -= u64::from(!self.in_window(now) && self.left_out > 0);
                }
                _ => {}
            }
            return;
        };
        match kind {
            EventKind::Opened(_) => life.opened = Some(now),
            EventKind::DialFailed => {
                let dialed = life.dialed;
                self.open.remove(&id);
                self.dial_failed(dialed, now);
            }
            EventKind::Leased { .. } => {
                if life.lent == 0 {
                    life.lent_since = now;
                }
                life.lent += 1;
                life.leases += u64::from(window.is_some_and(|(began, _)| now >= began));
            }
            EventKind::Returned if life.lent > 0 => {
                if life.lent == 1 {
                    life.used_until(window, now);
                }
                life.lent -= 1;
                life.checked_until(window, now);
            }
            EventKind::Checking => life.checked_since = Some(now),
            EventKind::Checked => life.checked_until(window, now),
            EventKind::Closing(cause) => {
                life.end(window, now);
                life.closed = Some((now, cause));
                let life = self.open.remove(&id).expect("it was found above");
                self.count(cause, now);
                // A connection that was closed before the window is no part of it.
                if self.in_window(now) {
                    self.ended.push(life);
                }
            }
            _ => {}
        }
    }

    /// After the window only the ends of lives that are counted in it matter.
    fn hear_late(&mut self, id: ConnectionId, kind: EventKind, now: u64) {
        let Some(life) = self.open.get_mut(&id) else { return };
        match kind {
            EventKind::Returned if life.lent > 0 => {
                if life.lent == 1 {
                    life.used_until(self.window, now);
                }
                life.lent -= 1;
                life.checked_until(self.window, now);
            }
            EventKind::Closing(_) => life.end(self.window, now),
            _ => {}
        }
    }

    fn in_window(&self, now: u64) -> bool {
        self.window.is_some_and(|(began, _)| now >= began)
    }

    fn count(&mut self, cause: CloseCause, now: u64) {
        if self.in_window(now) {
            *self.causes.entry(cause.word()).or_default() += 1;
        }
    }

    /// A dial began. If there are very many, only some are followed: every second one, later every fourth,
    /// and so on. So the connections that are followed are spread over the whole window.
    fn follow(&mut self, id: ConnectionId, now: u64) {
        let number = self.dials;
        self.dials += 1;
        if !number.is_multiple_of(self.every) {
            return;
        }
        if self.open.len() + self.ended.len() >= MOST {
            self.every *= 2;
            let (every, before) = (self.every, self.ended.len());
            self.ended.retain(|life| life.number.is_multiple_of(every));
            self.left_out += (before - self.ended.len()) as u64;
        }
        if number.is_multiple_of(self.every) && self.open.len() + self.ended.len() < MOST {
            self.open.insert(id, Life::dialed(number, now));
        }
    }

    fn dial_failed(&mut self, dialed: u64, now: u64) {
        if self.in_window(now) {
            self.failed_dials += 1;
            let failed = &mut self.failed;
            steps(self.window, dialed, now, |step, _| failed[step] += 1);
        }
    }
}

#[cfg(test)]
mod tests;
