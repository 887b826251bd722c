//! How long it takes until all is well again after a fault.

use serde::Serialize;

use crate::run::events::Played;
use crate::run::slots::Slot;

/// So many good steps in a row are normal again; one alone may be luck.
const IN_A_ROW: usize = 3;

/// Times from the end of the last fault; `None` where it did not come to pass in the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recovery {
    /// Until a step in which something succeeded began.
    pub first_success_ms: Option<f64>,
    /// Until the first of `IN_A_ROW` steps in a row in which the 99th percentile is below twice its
    /// largest value before the first fault, nothing fails, and nothing is left unstarted.
    pub normal_p99_ms: Option<f64>,
}

impl Recovery {
    /// `None` when nothing went wrong on purpose, or the faults lasted to the end of the window.
    pub fn of(slots: &[Slot], events: &[Played]) -> Option<Self> {
        // What is in force from before the window is how things are, no fault of the turn.
        let faults = || events.iter().filter(|event| event.at_ms >= 0.0);
        let first = faults().map(|event| event.at_ms).reduce(f64::min)?;
        let end = faults().map(|event| event.until_ms.unwrap_or(event.at_ms)).reduce(f64::max)?;
        let before = slots.iter().filter(|slot| (slot.t_ms as f64) + step_ms(slots) <= first);
        let base = before.filter_map(|slot| slot.p99_us).reduce(f64::max);
        let after: Vec<&Slot> = slots
            .iter()
            .filter(|slot| {
                slot.t_ms as f64 + step_ms(slots) > end && slot.started + slot.unstarted > 0
            })
            .collect();
        if after.is_empty() {
            return None;
        }
        // A step that began before the end of the fault counts from there.
        let distance = |slot: &Slot| crate::measure::round((slot.t_ms as f64 - end).max(0.0));
        let normal = |slot: &Slot| {
            let usual = base.zip(slot.p99_us).is_some_and(|(base, p99)| p99 < 2.0 * base);
            usual && slot.errors.iter().sum::<u64>() == 0 && slot.unstarted == 0
        };
        let good = |slots: &&[&Slot]| slots.iter().all(|slot| normal(slot));
        let settled = after.windows(IN_A_ROW).find(good).map(|slots| slots[0]);
        Some(Self {
            first_success_ms: after.iter().find(|slot| slot.ok > 0).map(|slot| distance(slot)),
            normal_p99_ms: settled.map(distance),
        })
    }
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
    use crate::fault::Fault;

    fn slot(t_ms: u64, ok: u64, errors: u64, p99_us: f64) -> Slot {
        Slot {
            t_ms,
            started: ok + errors,
            ok,
            errors: [errors, 0, 0, 0, 0],
            p99_us: (ok > 0).then_some(p99_us),
            ..Slot::default()
        }
    }

    fn refused(at_ms: f64, until_ms: f64) -> Played {
        let fault = Fault::Refuse;
        Played { fault, label: fault.label(), at_ms, until_ms: Some(until_ms) }
    }

    #[test]
    fn a_fault_that_lasts_to_the_end_leaves_nothing_to_recover_in() {
        let slots = [slot(0, 10, 0, 100.0), slot(100, 5, 5, 900.0)];
        assert_eq!(Recovery::of(&slots, &[refused(100.0, 201.0)]), None);
        assert!(Recovery::of(&slots, &[refused(100.0, 150.0)]).is_some());
    }

    #[test]
    fn recovery_is_counted_from_the_end_of_the_fault() {
        let slots = [
            slot(0, 10, 0, 100.0),
            slot(100, 10, 0, 110.0),
            slot(200, 0, 10, 0.0),
            slot(300, 0, 10, 0.0),
            slot(400, 5, 5, 900.0),
            slot(500, 10, 0, 300.0),
            slot(600, 10, 0, 150.0),
            slot(700, 10, 0, 150.0),
            slot(800, 10, 0, 150.0),
            slot(900, 0, 1, 0.0),
        ];
        let recovery = Recovery::of(&slots, &[refused(200.0, 350.0)]).unwrap();
        assert_eq!(recovery.first_success_ms, Some(50.0));
        assert_eq!(recovery.normal_p99_ms, Some(250.0));
    }

    #[test]
    fn what_never_comes_back_has_no_time() {
        let slots = [slot(0, 10, 0, 100.0), slot(100, 0, 10, 0.0), slot(200, 0, 10, 0.0)];
        let recovery = Recovery::of(&slots, &[refused(100.0, 150.0)]).unwrap();
        assert_eq!(recovery, Recovery { first_success_ms: None, normal_p99_ms: None });
        assert_eq!(Recovery::of(&slots, &[]), None);
    }

    #[test]
    fn what_hides_the_fault_recovers_at_once() {
        let slots = [0, 100, 200, 300].map(|t_ms| slot(t_ms, 10, 0, 100.0 + t_ms as f64 / 10.0));
        let recovery = Recovery::of(&slots, &[refused(100.0, 150.0)]).unwrap();
        assert_eq!(recovery.first_success_ms, Some(0.0));
        assert_eq!(recovery.normal_p99_ms, Some(0.0));
    }
}
