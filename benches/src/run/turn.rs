//! What one turn measured: one contestant under one load.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::lanes::Lanes;
use super::lives::Lives;
use super::load::{Began, Load};
use super::outcome::Record;
use super::slots::{Sample, Slot, Slots};
use crate::contestants::{Counts, ErrorKind, PoolStatus, Redials};

/// What one turn measured.
#[derive(Debug)]
pub struct Turn {
    /// When its window began on `CLOCK_MONOTONIC`, in nanoseconds.
    pub began_ns: u64,
    /// Length of the measured window. Of a closed loop without the time that callers waited for
    /// connections that were opened again outside the measured time, as `limit` does.
    pub seconds: f64,
    /// Processor time of this process in the window, without the schedule thread and without those
    /// connections.
    pub cpu_seconds: f64,
    /// Connections that were opened again outside the measured time.
    pub redials: u64,
    /// Those of them that a caller had ended that left before its reply.
    pub redials_left: u64,
    /// Replies in the window.
    pub requests: u64,
    /// Replies from the start of the turn on, warm-up included.
    pub replies: u64,
    /// Requests that failed, by [`ErrorKind::index`].
    pub errors: [u64; 5],
    /// Of the timeouts, requests that did not end at all: their callers never came back.
    pub lost: u64,
    /// Requests that their callers gave up.
    pub cancelled: u64,
    /// Arrivals of an open loop that were never handed to the contestant: no caller was free until
    /// the window ended.
    pub unstarted: u64,
    /// Arrivals of an open loop that found every caller busy and had to wait for one, or were never
    /// started.
    pub delayed: u64,
    /// Requests that must not run twice, warm-up included.
    pub writes: u64,
    /// Requests are numbered from 0 to below this, warm-up included.
    pub sequences: u32,
    /// Replies with the wrong nonce, warm-up included; `None` where the server does not echo.
    pub mismatches: Option<u64>,
    /// Latency of each reply, in nanoseconds; in an open loop from the moment it was wanted.
    pub latency: Histogram<u64>,
    /// Of an open loop: the same from the moment the request was handed to the contestant. Empty in
    /// a closed loop, where there is no difference.
    pub service: Histogram<u64>,
    /// Of an open loop: how late the schedule handed over each arrival, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// Time to get a connection, in nanoseconds; empty for a contestant without a separate acquire.
    pub acquire: Histogram<u64>,
    /// What the contestant counted.
    pub counts: Counts,
    /// The gauges of the pool over the window; `None` without a pool.
    pub timeline: Option<Vec<TimelinePoint>>,
    /// The window in steps; `None` when the load did not ask for them.
    pub slots: Option<Vec<Slot>>,
    /// When each reply came, in order, in nanoseconds since the window began; `None` when the load did
    /// not ask for it.
    pub answers: Option<Vec<u64>>,
    /// The lives of its connections; `None` when the load did not ask for them, or without a pool.
    pub lanes: Option<Lanes>,
    /// The first failure, for people.
    pub first_error: Option<String>,
    /// In words, which connections its pool still had after it was closed; `None` for none, or without a pool.
    pub unclosed: Option<String>,
}

impl Turn {
    /// Requests that failed in this way.
    pub fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors[kind.index()]
    }

    /// Requests that missed a deadline.
    pub fn timeouts(&self) -> u64 {
        self.errors_of(ErrorKind::Timeout)
    }

    /// Requests that the pool refused at once.
    pub fn refusals(&self) -> u64 {
        self.errors_of(ErrorKind::Refused)
    }

    /// Whether requests failed, or none had a reply: its server may be gone.
    pub fn has_failed(&self) -> bool {
        self.failures() + self.timeouts() > 0 || self.replies == 0
    }

    /// Requests that failed otherwise.
    pub fn failures(&self) -> u64 {
        self.errors.iter().sum::<u64>() - self.timeouts() - self.refusals()
    }
}

#[cfg(test)]
impl Turn {
    /// A turn in which nothing happened.
    pub fn empty() -> Self {
        let record = Record::new(false);
        let measured = Measured {
            record,
            lost: 0,
            samples: Vec::new(),
            began: Began { at: tokio::time::Instant::now(), ns: 0 },
            seconds: Duration::ZERO,
            cpu: Duration::ZERO,
            redials: Redials::default(),
            lateness: crate::measure::histogram(),
            unstarted: 0,
            delayed: 0,
            writes: 0,
            sequences: 0,
        };
        let load = Load::closed(1, Duration::ZERO, Duration::ZERO);
        Self { timeline: None, ..measured.into_turn(&load, Counts::default(), None) }
    }
}

/// The gauges of a pool at one moment of the measured window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TimelinePoint {
    /// Milliseconds since the window began.
    pub t_ms: u64,
    /// The gauges.
    #[serde(flatten)]
    pub status: PoolStatus,
}

/// What either loop measured.
pub(super) struct Measured {
    pub(super) record: Record,
    /// Callers that never came back.
    pub(super) lost: u64,
    pub(super) samples: Vec<Sample>,
    pub(super) began: Began,
    pub(super) seconds: Duration,
    pub(super) cpu: Duration,
    pub(super) redials: Redials,
    pub(super) lateness: Histogram<u64>,
    pub(super) unstarted: u64,
    pub(super) delayed: u64,
    pub(super) writes: u64,
    pub(super) sequences: u32,
}

impl Measured {
    pub(super) fn into_turn(self, load: &Load, counts: Counts, unclosed: Option<String>) -> Turn {
        let Self { mut record, samples, .. } = self;
        let answers = record.slots.as_mut().filter(|_| load.answers).map(Slots::answers);
        let mut errors = record.errors;
        errors[ErrorKind::Timeout.index()] += self.lost;
        let length = self.seconds.min(load.duration);
        // Callers that wait at the same time lose the same stretch of the window.
        let waited = match load.demand.is_open() {
            true => Duration::ZERO,
            false => self.redials.waited / u32::try_from(load.callers.max(1)).unwrap_or(u32::MAX),
        };
        Turn {
            began_ns: self.began.ns,
            seconds: self.seconds.saturating_sub(waited).as_secs_f64(),
            cpu_seconds: self.cpu.saturating_sub(self.redials.cpu).as_secs_f64(),
            redials: self.redials.count,
            redials_left: self.redials.left,
            lost: self.lost,
            requests: record.requests,
            replies: record.replies,
            errors,
            cancelled: record.cancelled,
            unstarted: self.unstarted,
            delayed: self.delayed,
            writes: self.writes,
            sequences: self.sequences,
            mismatches: (record.echoed > 0).then_some(record.mismatches),
            latency: record.latency,
            service: record.service,
            lateness: self.lateness,
            acquire: record.acquire,
            counts,
            slots: record.slots.map(|slots| slots.finish(length, &samples)),
            answers,
            timeline: timeline(&samples),
            lanes: load.lives.as_deref().and_then(Lives::lanes),
            first_error: record.first_error,
            unclosed,
        }
    }
}

fn timeline(samples: &[Sample]) -> Option<Vec<TimelinePoint>> {
    let point = |sample: &Sample| {
        let t_ms = u64::try_from(sample.at.as_millis()).unwrap_or(u64::MAX);
        Some(TimelinePoint { t_ms, status: sample.status? })
    };
    samples.iter().map(point).collect()
}
