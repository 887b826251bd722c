//! One turn: one contestant under one load, closed loop.
//!
//! Callers send a request, wait for its reply, and send the next one. A warm-up comes first and
//! leaves no trace but in the oracle: a wrong reply is wrong at any time.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::contestants::{
    CallError, Contestant, Counts, Echo, ErrorKind, PoolStatus, Request, RequestKind,
};
use crate::measure;
use crate::nonce::Nonce;

/// Callers that did not come back this long after the end of a turn are given up and counted as
/// timeouts.
const GRACE: Duration = Duration::from_secs(5);
/// All callers of a contestant are ready within this, or it cannot take its turn.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
/// Closing a contestant takes at most this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A caller whose request failed waits this long before the next: a refusal at once must not
/// become a busy loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(1);
/// Distance of the points of a timeline.
const TIMELINE_STEP: Duration = Duration::from_millis(100);
/// The least time between two looks, for a window that is over and empty.
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// How a turn is driven.
#[derive(Debug, Clone)]
pub struct Load {
    /// Callers that send at the same time.
    pub callers: usize,
    /// Time before anything is measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// Identifies the turn in its nonces.
    pub run: u32,
    /// Ends the turn early; what was measured until then counts.
    pub interrupted: CancellationToken,
}

/// What one turn measured.
#[derive(Debug)]
pub struct Turn {
    /// Length of the measured window.
    pub seconds: f64,
    /// Processor time of this process in the window.
    pub cpu_seconds: f64,
    /// Replies in the window.
    pub requests: u64,
    /// Replies from the start of the turn on, warm-up included.
    pub replies: u64,
    /// Requests that missed a deadline.
    pub timeouts: u64,
    /// Requests that the pool refused at once.
    pub refusals: u64,
    /// Requests that failed otherwise.
    pub failures: u64,
    /// Replies with the wrong nonce, warm-up included; `None` where the server does not echo.
    pub mismatches: Option<u64>,
    /// Latency of each reply, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Time to get a connection, in nanoseconds; empty where that is no step of its own.
    pub acquire: Histogram<u64>,
    /// What the contestant counted.
    pub counts: Counts,
    /// The gauges of the pool over the window; `None` without a pool.
    pub timeline: Option<Vec<TimelinePoint>>,
    /// The first failure, for people.
    pub first_error: Option<String>,
    /// What was left of its pool after it was closed; `None` when nothing was, or without a pool.
    pub unclosed: Option<String>,
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

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const OVER: u8 = 2;

/// What all callers of a turn share.
struct Shared {
    phase: AtomicU8,
    sequence: AtomicU32,
    run: u32,
    record: Mutex<Record>,
}

/// What callers write down.
struct Record {
    requests: u64,
    replies: u64,
    timeouts: u64,
    refusals: u64,
    failures: u64,
    mismatches: u64,
    echoed: u64,
    latency: Histogram<u64>,
    acquire: Histogram<u64>,
    first_error: Option<String>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing panics under the lock")
    }
}

/// Lets the contestant take its turn, and closes it.
///
/// # Errors
/// What went wrong when the contestant could not even start.
pub async fn drive<C: Contestant>(contestant: C, load: &Load) -> Result<Turn, String> {
    let contestant = Arc::new(contestant);
    let result = measure(&contestant, load).await;
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, contestant.close()).await.is_ok();
    let left = contestant.status().filter(|status| *status != PoolStatus::default());
    let mut turn = result?;
    turn.unclosed = match left {
        Some(left) => Some(format!("its pool was not empty after it was closed: {left:?}")),
        None if !closed => Some(format!("its close did not end within {CLOSE_TIMEOUT:?}")),
        None => None,
    };
    Ok(turn)
}

async fn measure<C: Contestant>(contestant: &Arc<C>, load: &Load) -> Result<Turn, String> {
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(WARM_UP),
        sequence: AtomicU32::new(0),
        run: load.run,
        record: Mutex::new(Record::new()),
    });
    let ready = tokio::time::timeout(PREPARE_TIMEOUT, prepare(contestant, load.callers))
        .await
        .map_err(|_| format!("its callers were not ready within {PREPARE_TIMEOUT:?}"))??;
    let mut callers = JoinSet::new();
    for caller in ready {
        callers.spawn(call_until_over::<C>(caller, Arc::clone(&shared)));
    }

    pass(load.warm_up, &load.interrupted).await;
    let (began, cpu_began) = (tokio::time::Instant::now(), measure::cpu_time());
    shared.phase.store(MEASURE, Ordering::Relaxed);
    let timeline = watch(contestant.as_ref(), &shared, began, load).await;
    shared.phase.store(OVER, Ordering::Relaxed);
    let (seconds, cpu) = (began.elapsed(), measure::cpu_time() - cpu_began);

    let lost = join(callers).await?;
    let record = std::mem::replace(&mut *shared.record(), Record::new());
    Ok(Turn {
        seconds: seconds.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        requests: record.requests,
        replies: record.replies,
        timeouts: record.timeouts + lost,
        refusals: record.refusals,
        failures: record.failures,
        mismatches: (record.echoed > 0).then_some(record.mismatches),
        latency: record.latency,
        acquire: record.acquire,
        counts: contestant.counts(),
        timeline,
        first_error: record.first_error,
        unclosed: None,
    })
}

async fn prepare<C: Contestant>(
    contestant: &Arc<C>,
    callers: usize,
) -> Result<Vec<C::Caller>, String> {
    let mut ready = Vec::with_capacity(callers);
    for _ in 0..callers {
        ready.push(contestant.caller().await?);
    }
    Ok(ready)
}

/// Waits, but not longer than until the turn is interrupted.
async fn pass(duration: Duration, interrupted: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = interrupted.cancelled() => {}
    }
}

/// Waits until the window ends, and looks at the pool now and then. A window in which nothing has
/// ended yet, on a machine that had no time for it, stays open a little longer.
async fn watch<C: Contestant>(
    contestant: &C,
    shared: &Shared,
    began: tokio::time::Instant,
    load: &Load,
) -> Option<Vec<TimelinePoint>> {
    let mut points = contestant.status().map(|_| Vec::new());
    loop {
        if let (Some(points), Some(status)) = (&mut points, contestant.status()) {
            points.push(TimelinePoint {
                t_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                status,
            });
        }
        let left = load.duration.saturating_sub(began.elapsed());
        let late = began.elapsed().saturating_sub(load.duration);
        let enough = left.is_zero() && (late >= GRACE || shared.record().has_outcome());
        if enough || load.interrupted.is_cancelled() {
            return points;
        }
        pass(left.clamp(SHORTEST_STEP, TIMELINE_STEP), &load.interrupted).await;
    }
}

/// Waits for the callers to finish their last request; how many did not.
///
/// # Errors
/// When a caller panicked: what the others measured is not what the turn asked for.
async fn join(mut callers: JoinSet<()>) -> Result<u64, String> {
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

async fn call_until_over<C: Contestant>(mut caller: C::Caller, shared: Arc<Shared>) {
    let mut started = Instant::now();
    while shared.phase.load(Ordering::Relaxed) != OVER {
        let sequence = shared.sequence.fetch_add(1, Ordering::Relaxed);
        let nonce = Nonce::new(shared.run, sequence);
        let request = Request { nonce, started, kind: RequestKind::Read };
        let result = C::call(&mut caller, &request).await;
        let now = Instant::now();
        let phase = shared.phase.load(Ordering::Relaxed);
        // What ends after the window was waited for in it: how long it took, or that it failed,
        // counts; for the throughput of the window it comes too late.
        let (measured, in_window) = (phase != WARM_UP, phase == MEASURE);
        match result {
            Ok(reply) => {
                let mut record = shared.record();
                record.replies += 1;
                record.mismatches += u64::from(reply.echo == Echo::Wrong);
                record.echoed += u64::from(reply.echo != Echo::NotAsked);
                record.requests += u64::from(in_window);
                if measured {
                    let began = reply.began.unwrap_or(started);
                    measure::record(&mut record.latency, now - began);
                    if let Some(acquire) = reply.acquire {
                        measure::record(&mut record.acquire, acquire);
                    }
                }
                started = now;
            }
            Err(error) => {
                shared.record().failed(error, measured);
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                started = Instant::now();
            }
        }
    }
}

impl Record {
    fn new() -> Self {
        Self {
            requests: 0,
            replies: 0,
            timeouts: 0,
            refusals: 0,
            failures: 0,
            mismatches: 0,
            echoed: 0,
            latency: measure::histogram(),
            acquire: measure::histogram(),
            first_error: None,
        }
    }

    /// Whether any request of the window has ended.
    fn has_outcome(&self) -> bool {
        self.requests + self.failures + self.timeouts + self.refusals > 0
    }

    fn failed(&mut self, error: CallError, measured: bool) {
        if measured {
            match error.kind {
                ErrorKind::Timeout => self.timeouts += 1,
                ErrorKind::Refused => self.refusals += 1,
                ErrorKind::Dial | ErrorKind::Broken | ErrorKind::Wrong => self.failures += 1,
            }
        }
        // A refusal is an answer; the first real failure is what people want to read.
        if self.first_error.is_none() && error.kind != ErrorKind::Refused {
            self.first_error = Some(error.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::Reply;

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
        Load {
            callers: 2,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(milliseconds),
            run: 1,
            interrupted: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn wrong_replies_and_refusals_are_counted_apart() {
        let turn = drive(Strange, &load(30)).await.unwrap();
        assert!(turn.requests > 0);
        assert!(turn.refusals > 0);
        assert!(turn.mismatches.unwrap() > 0);
        assert_eq!((turn.failures, turn.timeouts), (0, 0));
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

    /// Its requests never end.
    struct Stuck;

    impl Contestant for Stuck {
        type Caller = ();

        async fn caller(&self) -> Result<(), String> {
            Ok(())
        }

        async fn call(_: &mut (), _: &Request) -> Result<Reply, CallError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_never_come_back_are_timeouts() {
        let turn = drive(Stuck, &load(10)).await.unwrap();
        assert_eq!((turn.requests, turn.timeouts), (0, 2));
        assert_eq!(turn.mismatches, None);
    }
}
