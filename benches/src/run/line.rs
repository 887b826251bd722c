//! Where arrivals of an open loop wait for a free caller.
//!
//! The schedule thread puts them in and rings once for each batch; in the runtime, one task turns the
//! ring into one permit for each arrival, and the callers take them. So a batch costs one wake-up of
//! the runtime from outside, whatever its size.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// A request that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Its number in the turn.
    pub(super) sequence: u32,
    /// Since the start of its window.
    pub(super) at: Duration,
    /// The same moment on the clock.
    pub(super) intended: Instant,
    /// It is no part of the warm-up.
    pub(super) measured: bool,
}

/// Arrivals in order, and the callers that they wait for.
#[derive(Debug)]
pub(super) struct Line {
    queue: Mutex<Queue>,
    rings: Notify,
    /// One permit for each arrival that the runtime knows of.
    known: Semaphore,
    sequence: AtomicU32,
    callers: usize,
}

#[derive(Debug, Default)]
struct Queue {
    arrivals: VecDeque<Arrival>,
    /// How many of them have no permit yet.
    fresh: usize,
    /// Callers that carry out a request.
    busy: usize,
    /// Measured arrivals that found every caller busy.
    delayed: u64,
}

impl Line {
    pub(super) fn new(callers: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            rings: Notify::new(),
            known: Semaphore::new(0),
            sequence: AtomicU32::new(0),
            callers,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics under the lock")
    }

    /// Puts arrivals in, from any thread.
    pub(super) fn hand_over(&self, times: &[Duration], began: Instant, measured: bool) {
        if times.is_empty() {
            return;
        }
        let mut queue = self.queue();
        for &at in times {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            queue.arrivals.push_back(Arrival { sequence, at, intended: began + at, measured });
        }
        queue.fresh += times.len();
        let surplus = (queue.arrivals.len() + queue.busy).saturating_sub(self.callers);
        if measured {
            queue.delayed += times.len().min(surplus) as u64;
        }
        drop(queue);
        self.rings.notify_one();
    }

    /// Tells callers of arrivals, forever.
    pub(super) async fn announce(&self) {
        loop {
            self.rings.notified().await;
            self.announce_fresh();
        }
    }

    fn announce_fresh(&self) {
        let fresh = std::mem::take(&mut self.queue().fresh);
        self.known.add_permits(fresh);
    }

    /// The next arrival, for a caller that is free; `None` when the line is closed.
    pub(super) async fn next(&self) -> Option<Arrival> {
        self.known.acquire().await.ok()?.forget();
        let mut queue = self.queue();
        let arrival = queue.arrivals.pop_front();
        queue.busy += usize::from(arrival.is_some());
        arrival
    }

    /// A caller is free again.
    pub(super) fn done(&self) {
        self.queue().busy -= 1;
    }

    /// Whether an arrival and a free caller have still to meet.
    fn can_start(&self) -> bool {
        let queue = self.queue();
        !queue.arrivals.is_empty() && queue.busy < self.callers
    }

    /// Lets callers that are free take what is there, then sends the others away. What nobody took
    /// is returned, without the warm-up.
    pub(super) async fn close(&self) -> Vec<Arrival> {
        self.announce_fresh();
        // A caller that was woken takes its arrival at its next poll.
        for _ in 0..MAX_YIELDS {
            if !self.can_start() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.known.close();
        let left = std::mem::take(&mut self.queue().arrivals);
        left.into_iter().filter(|arrival| arrival.measured).collect()
    }

    /// Measured arrivals that found every caller busy.
    pub(super) fn delayed(&self) -> u64 {
        self.queue().delayed
    }
}

/// Polls that free callers are given to take an arrival when the window is over.
const MAX_YIELDS: usize = 100;
