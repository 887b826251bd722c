//! The thread that hands arrivals over at their time, and records how late it was.
//!
//! It sleeps until shortly before an arrival and spins for the rest of the time. If it shares a processor with
//! the client or the server, its spinning takes time from them. So it spins for a tenth of its time at most,
//! and rests between two hand-overs. If arrivals are closer together than its rest, it hands several over at
//! once, each with its own time.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::oneshot;

use super::arrivals::Schedule;
use super::line::Line;
use crate::{measure, place};

/// It wakes at least this long before an arrival, and spins. A sleep usually ends late by about this much.
const SHORTEST_SPIN: Duration = Duration::from_micros(15);
/// The longest spin. On a processor in a deep sleep state, a sleep ends late by about this much.
const LONGEST_SPIN: Duration = Duration::from_micros(100);
/// Between these two limits it spins for one part in this many of the time that is left.
const SPIN_SHARE: u32 = 10;
/// The least time between two hand-overs.
const REST: Duration = Duration::from_micros(50);
/// The longest sleep. After it the thread checks whether the turn was interrupted.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);

/// The clock by which arrivals are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pacer {
    /// A thread, by the clock.
    Thread,
    /// A task, by the runtime's clock, which tests pause.
    #[cfg(test)]
    Task,
}

/// The result of a pacer.
#[derive(Debug)]
pub(super) struct Paced {
    /// How late arrivals were handed over, in nanoseconds.
    pub(super) lateness: Histogram<u64>,
    /// Processor time of the thread, which is not the contestant's.
    pub(super) cpu: Duration,
}

/// A pacer at work. Dropping it ends it soon.
#[derive(Debug)]
pub(super) struct Pacing {
    stop: Arc<AtomicBool>,
    done: oneshot::Receiver<Paced>,
}

impl Pacing {
    /// Hands the arrivals of the schedule over to the line, from `began` on.
    pub(super) fn start(
        pacer: Pacer,
        schedule: Schedule,
        began: tokio::time::Instant,
        measured: bool,
        line: Arc<Line>,
        cpus: &[usize],
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, done) = oneshot::channel();
        match pacer {
            Pacer::Thread => {
                let (stop, cpus) = (Arc::clone(&stop), cpus.to_vec());
                let work = move || {
                    prepare(&cpus);
                    let lateness = pace(schedule, began, measured, &line, &stop);
                    // A turn that failed has dropped the receiver, and needs no answer.
                    drop(send.send(Paced { lateness, cpu: measure::thread_cpu_time() }));
                };
                std::thread::Builder::new()
                    .name("schedule".to_owned())
                    .spawn(work)
                    .map_err(|error| format!("starting the schedule thread: {error}"))?;
            }
            #[cfg(test)]
            Pacer::Task => {
                tokio::spawn(async move {
                    let mut lateness = measure::histogram();
                    for at in schedule {
                        tokio::time::sleep_until(began + at).await;
                        measure::record(&mut lateness, (began + at).elapsed());
                        line.hand_over(&[at], began, measured);
                    }
                    drop(send.send(Paced { lateness, cpu: Duration::ZERO }));
                });
            }
        }
        Ok(Self { stop, done })
    }

    /// Waits until all arrivals were handed over; or ends the pacer, when the turn was interrupted.
    pub(super) async fn end(mut self, interrupted: bool) -> Result<Paced, String> {
        if interrupted {
            self.stop.store(true, Ordering::Relaxed);
        }
        (&mut self.done).await.map_err(|_| "the schedule thread ended early".to_owned())
    }
}

impl Drop for Pacing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn prepare(cpus: &[usize]) {
    // Both fail only if the system forbids them. Then the thread is late, and it records that.
    if !cpus.is_empty() {
        place::allow(cpus);
    }
    // Otherwise the kernel may let a sleep last 50 us longer to spare itself a wake-up.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

fn pace(
    schedule: Schedule,
    began: tokio::time::Instant,
    measured: bool,
    line: &Line,
    stop: &AtomicBool,
) -> Histogram<u64> {
    let origin = began.into_std();
    let mut lateness = measure::histogram();
    let mut due = Vec::new();
    let mut schedule = schedule.peekable();
    while let Some(next) = schedule.peek().copied() {
        if !wait_until(origin + next, stop) {
            break;
        }
        let now = origin.elapsed();
        while let Some(at) = schedule.next_if(|at| *at <= now) {
            measure::record(&mut lateness, now - at);
            due.push(at);
        }
        line.hand_over(&due, began, measured);
        due.clear();
        std::thread::sleep(REST);
    }
    lateness
}

/// Waits until `moment`. Returns false if the turn is over before.
fn wait_until(moment: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let spin = (left / SPIN_SHARE).clamp(SHORTEST_SPIN, LONGEST_SPIN);
        match left.checked_sub(spin) {
            Some(sleep) if !sleep.is_zero() => std::thread::sleep(sleep.min(LONGEST_SLEEP)),
            _ => std::hint::spin_loop(),
        }
    }
}
