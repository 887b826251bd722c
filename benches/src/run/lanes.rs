//! The lives of connections as results have them: swim lanes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lives::{Life, STEPS, step_length};
use crate::measure::round;

/// Lanes that results keep of a turn.
pub(super) const SHOWN: usize = 24;
/// Of these, the ones that were open for longest, whenever they were dialed.
const LONGEST: usize = 8;

/// The connections of a pool in the measured window of a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lanes {
    /// The length of a step, in milliseconds.
    pub step_ms: f64,
    /// Connections that were open at some time in the window. `lanes` has not more than 24 of them.
    pub connections: u64,
    /// Connections that were closed in the window, by cause.
    pub closed: BTreeMap<&'static str, u64>,
    /// Dials that failed in the window, or were stopped since they were no longer needed.
    pub failed_dials: u64,
    /// Failed dials of each step of the window, one character for a step: `.` for none, and `9` for nine or
    /// more. `None` if no dial failed.
    pub failed: Option<String>,
    /// Single connections, in the order of their dials.
    pub lanes: Vec<Lane>,
}

/// One connection. Times are milliseconds since the window began; times before the window are negative.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lane {
    /// Its number among the dials of the turn, from 1 on.
    pub id: u64,
    /// When its dial began.
    pub dial_ms: f64,
    /// When its dial succeeded; `None` when the window ended before that.
    pub open_ms: Option<f64>,
    /// When it was closed; `None` when it was open at the end of the window.
    pub closed_ms: Option<f64>,
    /// Why it was closed.
    pub cause: Option<&'static str>,
    /// Times it was lent in the window.
    pub leases: u64,
    /// The step of the first character of `steps`.
    pub first_step: usize,
    /// One character for each step in which it was open: `0` when it was idle, `1` to `9` for the
    /// share of the time that it was lent, and `c` when it was checked.
    pub steps: String,
}

impl Lane {
    pub(super) fn of(life: &Life, (began, end): (u64, u64)) -> Self {
        let ms = |at: u64| round((at as f64 - began as f64) / 1e6);
        let length = step_length(end - began);
        let step = |at: u64| (at.saturating_sub(began) / length).min(STEPS as u64 - 1) as usize;
        let first = life.opened.map_or(STEPS, step);
        // A moment at the border of two steps belongs to the earlier one.
        let last = step(life.closed.map_or(end, |(at, _)| at).saturating_sub(1)).max(first);
        let steps = match life.opened {
            None => String::new(),
            Some(opened) => (first..=last)
                .map(|step| {
                    let from = (began + step as u64 * length).max(opened);
                    let to = life.closed.map_or(end, |(at, _)| at.min(end));
                    let open = (began + (step as u64 + 1) * length).min(to).saturating_sub(from);
                    character(life.checked[step], life.used[step], open)
                })
                .collect(),
        };
        Self {
            id: life.number + 1,
            dial_ms: ms(life.dialed),
            open_ms: life.opened.map(ms),
            closed_ms: life.closed.map(|(at, _)| ms(at)),
            cause: life.closed.map(|(_, cause)| cause.word()),
            leases: life.leases,
            first_step: first.min(STEPS - 1),
            steps,
        }
    }
}

/// The character of a step in which a connection was lent for `used` of the `open` nanoseconds.
fn character(checked: bool, used: u64, open: u64) -> char {
    if checked {
        return 'c';
    }
    match used {
        0 => '0',
        // The shortest use gives 1, and use of the whole step gives 9.
        used => char::from(b'0' + (used * 9).div_ceil(open.max(used)).clamp(1, 9) as u8),
    }
}

/// A count for each step.
pub(super) fn counts(steps: &[u32]) -> String {
    let digit = |count: &u32| char::from(b'0' + (*count).min(9) as u8);
    steps.iter().map(|count| if *count == 0 { '.' } else { digit(count) }).collect()
}

/// The lives that results keep, in the order of their dials: the longest ones, and every n-th of the
/// others, so that every part of the window has some.
pub(super) fn choose(mut lives: Vec<Life>, end: u64) -> Vec<Life> {
    if lives.len() > SHOWN {
        let length = |life: &Life| {
            life.closed.map_or(end, |(at, _)| at).saturating_sub(life.opened.unwrap_or(end))
        };
        lives.sort_by_key(|life| (std::cmp::Reverse(length(life)), life.number));
        let mut others = lives.split_off(LONGEST);
        others.sort_by_key(|life| life.number);
        let (all, wanted) = (others.len(), SHOWN - LONGEST);
        let spread = others.into_iter().enumerate().filter(|(index, _)| {
            // Divides the lives into as many equal parts as lanes are wanted, and takes the first of each part.
            *index == 0 || index * wanted / all != (index - 1) * wanted / all
        });
        lives.extend(spread.map(|(_, life)| life));
    }
    lives.sort_by_key(|life| life.number);
    lives
}
