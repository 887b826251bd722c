//! How the requests of a turn ended: counts and histograms. Callers add to them as requests end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::slots::Slots;
use crate::contestants::{CallError, Echo, ErrorKind, Reply};
use crate::measure;

/// The counts and histograms that callers add to.
#[derive(Debug)]
pub(super) struct Record {
    /// Replies in the window.
    pub(super) requests: u64,
    /// Replies at any time.
    pub(super) replies: u64,
    pub(super) errors: [u64; 5],
    pub(super) cancelled: u64,
    pub(super) mismatches: u64,
    /// Replies in which a nonce was looked for.
    pub(super) echoed: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    pub(super) acquire: Histogram<u64>,
    pub(super) first_error: Option<String>,
    /// `None` when the load asks for no steps.
    pub(super) slots: Option<Slots>,
}

/// The part of the turn in which a request is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// It counts: it is no part of the warm-up.
    pub(super) measured: bool,
    /// It counts, and it ended before the window did.
    pub(super) in_window: bool,
    /// Where it stands on the axis of steps: when it was wanted.
    pub(super) slot: Option<Duration>,
    /// When it ended, on the same axis.
    pub(super) ended: Duration,
}

/// How long a request took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// From the moment it was wanted.
    pub(super) latency: Duration,
    /// From the moment it was handed to the contestant, if that is later than the moment it was wanted.
    pub(super) service: Option<Duration>,
}

impl Record {
    pub(super) fn new(with_slots: bool) -> Self {
        Self {
            requests: 0,
            replies: 0,
            errors: [0; 5],
            cancelled: 0,
            mismatches: 0,
            echoed: 0,
            latency: measure::histogram(),
            service: measure::histogram(),
            acquire: measure::histogram(),
            first_error: None,
            slots: with_slots.then(Slots::default),
        }
    }

    /// Whether any request of the window has ended.
    pub(super) fn has_outcome(&self) -> bool {
        self.requests + self.cancelled + self.errors.iter().sum::<u64>() > 0
    }

    /// A request was handed to the contestant.
    pub(super) fn started(&mut self, slot: Option<Duration>) {
        if let (Some(slots), Some(at)) = (&mut self.slots, slot) {
            slots.started(at);
        }
    }

    /// It had a reply.
    pub(super) fn replied(&mut self, reply: &Reply, took: Took, place: Place) {
        self.replies += 1;
        self.mismatches += u64::from(reply.echo == Echo::Wrong);
        self.echoed += u64::from(reply.echo != Echo::NotAsked);
        self.requests += u64::from(place.in_window);
        if !place.measured {
            return;
        }
        measure::record(&mut self.latency, took.latency);
        if let Some(service) = took.service {
            measure::record(&mut self.service, service);
        }
        if let Some(acquire) = reply.acquire {
            measure::record(&mut self.acquire, acquire);
        }
        if let (Some(slots), Some(at)) = (&mut self.slots, place.slot) {
            slots.replied(at, took.latency, place.ended);
        }
    }

    /// It failed.
    pub(super) fn failed(&mut self, error: CallError, place: Place) {
        if place.measured {
            self.errors[error.kind.index()] += 1;
            if let (Some(slots), Some(at)) = (&mut self.slots, place.slot) {
                slots.failed(at, error.kind);
            }
        }
        // A refusal is an answer, so it is not named as the first error.
        if self.first_error.is_none() && error.kind != ErrorKind::Refused {
            self.first_error = Some(error.text);
        }
    }

    /// Its caller gave it up.
    pub(super) fn cancelled(&mut self, place: Place) {
        if place.measured {
            self.cancelled += 1;
            if let (Some(slots), Some(at)) = (&mut self.slots, place.slot) {
                slots.cancelled(at);
            }
        }
    }
}
