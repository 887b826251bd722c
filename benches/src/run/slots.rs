//! A turn in steps of time: how the requests that were wanted in each step ended.

use std::time::Duration;

use serde::Serialize;

use crate::contestants::{Counts, ErrorKind, PoolStatus};
use crate::measure;

/// The length of a step.
pub const STEP: Duration = Duration::from_millis(100);

/// One step of the measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Slot {
    /// When it began, in milliseconds since the window did.
    pub t_ms: u64,
    /// Requests wanted in it that were handed to the contestant, at whatever time.
    pub started: u64,
    /// Requests of them that had a reply.
    pub ok: u64,
    /// Requests of them that failed, by [`ErrorKind::index`].
    pub errors: [u64; 5],
    /// Requests of them that were given up.
    pub cancelled: u64,
    /// Requests wanted in it that were never handed over.
    pub unstarted: u64,
    /// Half of the replies took so long or less, in microseconds.
    pub p50_us: Option<f64>,
    /// 99 % of them.
    pub p99_us: Option<f64>,
    /// The gauges of the pool at the start of the step; `None` without a pool, or
    /// when the runtime was too busy to look.
    pub status: Option<PoolStatus>,
    /// Dials begun in it; `None` where the contestant does not count them.
    pub dials: Option<u64>,
}

/// What is known of each step so far. Times are distances from the start of the window.
#[derive(Debug, Default)]
pub(super) struct Slots {
    steps: Vec<Step>,
    /// When each reply came, in nanoseconds.
    answers: Vec<u64>,
}

#[derive(Debug, Default)]
struct Step {
    slot: Slot,
    /// Nanoseconds. Not a histogram, which is always 200 KiB large.
    latencies: Vec<u64>,
}

impl Slots {
    /// A request that was wanted `at` was handed to the contestant.
    pub(super) fn started(&mut self, at: Duration) {
        self.step(at).slot.started += 1;
    }

    /// It had a reply, which came when it `ended`.
    pub(super) fn replied(&mut self, at: Duration, latency: Duration, ended: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let step = self.step(at);
        step.slot.ok += 1;
        step.latencies.push(nanos(latency));
        self.answers.push(nanos(ended));
    }

    /// When replies came, in order, in nanoseconds.
    pub(super) fn answers(&mut self) -> Vec<u64> {
        self.answers.sort_unstable();
        std::mem::take(&mut self.answers)
    }

    /// It failed.
    pub(super) fn failed(&mut self, at: Duration, kind: ErrorKind) {
        self.step(at).slot.errors[kind.index()] += 1;
    }

    /// Its caller gave it up.
    pub(super) fn cancelled(&mut self, at: Duration) {
        self.step(at).slot.cancelled += 1;
    }

    /// It was wanted `at` and never handed over.
    pub(super) fn unstarted(&mut self, at: Duration) {
        self.step(at).slot.unstarted += 1;
    }

    fn step(&mut self, at: Duration) -> &mut Step {
        let index = index(at);
        if index >= self.steps.len() {
            self.steps.resize_with(index + 1, Step::default);
        }
        &mut self.steps[index]
    }

    /// All steps of a window of this length. A request that was started and has not ended is a timeout.
    pub(super) fn finish(mut self, length: Duration, samples: &[Sample]) -> Vec<Slot> {
        let steps = length.as_nanos().div_ceil(STEP.as_nanos());
        if let Some(last) = usize::try_from(steps).ok().and_then(|steps| steps.checked_sub(1))
            && last >= self.steps.len()
        {
            self.steps.resize_with(last + 1, Step::default);
        }
        let mut slots: Vec<Slot> =
            (0..).zip(self.steps).map(|(number, step)| step.finish(number)).collect();
        write_gauges(&mut slots, samples);
        slots
    }
}

impl Step {
    fn finish(mut self, number: u64) -> Slot {
        self.latencies.sort_unstable();
        let mut slot = self.slot;
        slot.t_ms = number * STEP.as_millis() as u64;
        let ended = slot.ok + slot.cancelled + slot.errors.iter().sum::<u64>();
        slot.errors[ErrorKind::Timeout.index()] += slot.started.saturating_sub(ended);
        slot.p50_us = quantile(&self.latencies, 0.5);
        slot.p99_us = quantile(&self.latencies, 0.99);
        slot
    }
}

/// The smallest value that this share of all values does not exceed, in microseconds.
fn quantile(sorted: &[u64], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let nanos = sorted.get(rank.saturating_sub(1))?;
    Some(measure::round(*nanos as f64 / 1000.0))
}

fn index(at: Duration) -> usize {
    usize::try_from(at.as_nanos() / STEP.as_nanos()).unwrap_or(usize::MAX)
}

/// The gauges of the contestant at one moment of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Since the start of the window.
    pub(super) at: Duration,
    pub(super) status: Option<PoolStatus>,
    pub(super) counts: Counts,
}

/// The first sample of a step has the gauges of the step. Dials between this sample and the next count in it.
fn write_gauges(slots: &mut [Slot], samples: &[Sample]) {
    for (number, sample) in samples.iter().enumerate() {
        let Some(slot) = slots.get_mut(index(sample.at)) else { continue };
        slot.status = slot.status.or(sample.status);
        let Some(next) = samples.get(number + 1) else { continue };
        if let (Some(before), Some(after)) = (sample.counts.dials, next.counts.dials) {
            *slot.dials.get_or_insert(0) += after.saturating_sub(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_request_counts_where_it_was_wanted() {
        let mut slots = Slots::default();
        slots.started(ms(99));
        slots.replied(ms(99), ms(950), ms(1049));
        slots.started(ms(100));
        slots.failed(ms(100), ErrorKind::Broken);
        slots.started(ms(210));
        slots.cancelled(ms(210));
        slots.unstarted(ms(299));
        assert_eq!(slots.answers(), [1_049_000_000], "a reply has a moment of its own");
        let slots = slots.finish(ms(450), &[]);
        assert_eq!(slots.len(), 5);
        assert_eq!(slots.iter().map(|slot| slot.t_ms).collect::<Vec<_>>(), [0, 100, 200, 300, 400]);
        assert_eq!((slots[0].ok, slots[0].p50_us, slots[0].p99_us), (1, Some(950e3), Some(950e3)));
        assert_eq!(slots[1].errors, [0, 0, 0, 1, 0]);
        assert_eq!((slots[1].started, slots[1].p50_us), (1, None));
        assert_eq!((slots[2].cancelled, slots[2].unstarted), (1, 1));
        assert_eq!(slots[4], Slot { t_ms: 400, ..Slot::default() });
    }

    #[test]
    fn a_request_that_has_not_ended_is_a_timeout() {
        let mut slots = Slots::default();
        for _ in 0..5 {
            slots.started(ms(0));
        }
        slots.replied(ms(0), ms(1), ms(1));
        slots.failed(ms(0), ErrorKind::Dial);
        slots.cancelled(ms(0));
        assert_eq!(slots.finish(ms(100), &[])[0].errors, [1, 2, 0, 0, 0]);
    }

    #[test]
    fn the_percentiles_of_a_step_are_those_of_its_replies() {
        let mut slots = Slots::default();
        for number in (1..=200).rev() {
            slots.replied(ms(0), ms(number), ms(number));
        }
        let slots = slots.finish(ms(100), &[]);
        assert_eq!((slots[0].p50_us, slots[0].p99_us), (Some(100e3), Some(198e3)));
    }

    #[test]
    fn dials_count_in_the_step_in_which_they_began() {
        let sample = |at, dials, idle| Sample {
            at: ms(at),
            status: Some(PoolStatus { idle, ..PoolStatus::default() }),
            counts: Counts { dials: Some(dials), ..Counts::default() },
        };
        // No sample was taken between 101 and 305 ms.
        let samples = [sample(0, 3, 1), sample(101, 7, 2), sample(305, 9, 3), sample(399, 9, 4)];
        let slots = Slots::default().finish(ms(400), &samples);
        let dials: Vec<_> = slots.iter().map(|slot| slot.dials).collect();
        assert_eq!(dials, [Some(4), Some(2), None, Some(0)]);
        let idle: Vec<_> = slots.iter().map(|slot| slot.status.map(|status| status.idle)).collect();
        assert_eq!(idle, [Some(1), Some(2), None, Some(3)]);
    }
}
