//! One turn: one contestant under one load.
//!
//! A warm-up comes first and leaves no trace but in the oracle: a wrong reply is wrong at any time.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lanes::Lanes;
use super::lives::Lives;
pub use super::load::{Began, Load};
use super::outcome::Record;
use super::pacer::Pacer;
use super::slots::{STEP, Sample, Slot, Slots};
use super::{closed_loop, open_loop};
use crate::contestants::{Contestant, Counts, ErrorKind, PoolStatus, Redials};

/// Callers that did not come back this long after the end of a turn are given up and counted as
/// timeouts.
const GRACE: Duration = Duration::from_secs(5);
/// All callers of a contestant are ready within this, or it cannot take its turn.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
/// Closing a contestant takes at most this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time between two looks, for a window that is over and empty.
const SHORTEST_STEP: Duration = Duration::from_millis(1);
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

/// Lets the contestant take its turn, and closes it.
///
/// # Errors
/// What went wrong when the contestant could not even start.
pub async fn drive<C: Contestant>(contestant: C, load: &Load) -> Result<Turn, String> {
    drive_paced(contestant, load, Pacer::Thread).await
}

pub(super) async fn drive_paced<C: Contestant>(
    contestant: C,
    load: &Load,
    pacer: Pacer,
) -> Result<Turn, String> {
    let contestant = Arc::new(contestant);
    let measured = if load.demand.is_open() {
        open_loop::measure(&contestant, load, pacer).await
    } else {
        closed_loop::measure(&contestant, load).await
    };
    let counts = contestant.counts();
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, contestant.close()).await.is_ok();
    let left = contestant.status().filter(|status| *status != PoolStatus::default());
    let unclosed = match left {
        Some(left) => Some(format!("its pool was not empty after it was closed: {left:?}")),
        None if !closed => Some(format!("its close did not end within {CLOSE_TIMEOUT:?}")),
        None => None,
    };
    Ok(measured?.into_turn(load, counts, unclosed))
}

impl Measured {
    fn into_turn(self, load: &Load, counts: Counts, unclosed: Option<String>) -> Turn {
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

/// All callers of a contestant.
pub(super) async fn prepare<C: Contestant>(
    contestant: &Arc<C>,
    callers: usize,
) -> Result<Vec<C::Caller>, String> {
    let all = async {
        let mut ready = Vec::with_capacity(callers);
        for _ in 0..callers {
            ready.push(contestant.caller().await?);
        }
        Ok(ready)
    };
    tokio::time::timeout(PREPARE_TIMEOUT, all)
        .await
        .map_err(|_| format!("its callers were not ready within {PREPARE_TIMEOUT:?}"))?
}

/// Waits, but not longer than until the turn is interrupted.
pub(super) async fn pass(duration: Duration, interrupted: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = interrupted.cancelled() => {}
    }
}

/// Waits until the window ends, and looks at the contestant at the start of each step. A window in
/// which nothing has ended yet, on a machine that had no time for it, stays open a little longer.
/// `before` is what the contestant had counted before the first request of the window: the first look
/// comes when the first dials have begun.
pub(super) async fn watch<C: Contestant>(
    contestant: &C,
    before: Counts,
    began: tokio::time::Instant,
    load: &Load,
    has_outcome: impl Fn() -> bool,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let at = began.elapsed();
        let counts = if samples.is_empty() { before } else { contestant.counts() };
        samples.push(Sample { at, status: contestant.status(), counts });
        let enough = at >= load.duration && (at >= load.duration + GRACE || has_outcome());
        if enough || load.interrupted.is_cancelled() {
            return samples;
        }
        // From the start of the window, so that late looks do not add up.
        let steps = u32::try_from(at.as_nanos() / STEP.as_nanos()).unwrap_or(u32::MAX - 1) + 1;
        let next = (STEP * steps).min(load.duration.max(at + SHORTEST_STEP));
        pass(next.saturating_sub(at), &load.interrupted).await;
    }
}

/// Waits for the callers to finish their last request; how many did not.
///
/// # Errors
/// When a caller panicked: what the others measured is not what the turn asked for.
pub(super) async fn join(mut callers: JoinSet<()>) -> Result<u64, String> {
    let mut panicked = 0_usize;
    let all = async {
        while let Some(end) = callers.join_next().await {
            panicked += usize::from(end.is_err_and(|error| error.is_panic()));
        }
    };
    let in_time = tokio::time::timeout(GRACE, all).await.is_ok();
    if panicked > 0 {
        return Err(format!("{panicked} of its callers panicked"));
    }
    if in_time {
        return Ok(0);
    }
    let lost = callers.len() as u64;
    callers.shutdown().await;
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::{CallError, Echo, Reply, Request};

    /// Answers every third request wrongly and refuses every fourth.
    struct Strange;

    impl Contestant for Strange {
        type Caller = u64;

        async fn caller(&self) -> Result<u64, String> {
            Ok(0)
        }

        async fn call(count: &mut u64, _: &Request) -> Result<Reply, CallError> {
            tokio::task::yield_now().await;
            *count += 1;
            match *count {
                count if count % 4 == 0 => Err(CallError::new(ErrorKind::Refused, "no room")),
                count if count % 3 == 0 => Ok(Reply::new(Echo::Wrong)),
                _ => Ok(Reply::new(Echo::Returned).acquired(Duration::from_micros(1))),
            }
        }
    }

    fn load(milliseconds: u64) -> Load {
        Load::closed(2, Duration::ZERO, Duration::from_millis(milliseconds))
    }

    #[tokio::test]
    async fn wrong_replies_and_refusals_are_counted_apart() {
        let turn = drive(Strange, &load(30)).await.unwrap();
        assert!(turn.requests > 0);
        assert!(turn.refusals() > 0);
        assert!(turn.mismatches.unwrap() > 0);
        assert_eq!((turn.failures(), turn.timeouts()), (0, 0));
        assert!(turn.latency.len() >= turn.requests, "what ended after the window counts, too");
        assert!(turn.acquire.len() < turn.latency.len());
        assert_eq!(turn.first_error, None);
        assert!(turn.timeline.is_none());
    }

    #[tokio::test]
    async fn an_interrupted_turn_keeps_what_it_measured() {
        let load = load(3_600_000);
        let interrupted = load.interrupted.clone();
        let turn = tokio::spawn(async move { drive(Strange, &load).await });
        tokio::task::yield_now().await;
        interrupted.cancel();
        let turn = turn.await.unwrap().unwrap();
        assert!(turn.seconds < 3600.0);
    }

    /// Its requests never end. It has dialed before the first look.
    struct Stuck;

    impl Contestant for Stuck {
        type Caller = ();

        async fn caller(&self) -> Result<(), String> {
            Ok(())
        }

        async fn call(_: &mut (), _: &Request) -> Result<Reply, CallError> {
            std::future::pending().await
        }

        fn counts(&self) -> Counts {
            Counts { dials: Some(50), ..Counts::default() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_dialed_before_the_first_look_is_part_of_the_first_step() {
        let before = Counts { dials: Some(3), ..Counts::default() };
        let began = tokio::time::Instant::now();
        let samples = watch(&Stuck, before, began, &load(300), || true).await;
        let slots = Slots::default().finish(Duration::from_millis(300), &samples);
        let dials: Vec<_> = slots.iter().map(|slot| slot.dials).collect();
        assert_eq!(dials, [Some(47), Some(0), Some(0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_never_come_back_are_timeouts() {
        let turn = drive(Stuck, &load(10)).await.unwrap();
        assert_eq!((turn.requests, turn.timeouts()), (0, 2));
        assert_eq!(turn.mismatches, None);
    }
}
