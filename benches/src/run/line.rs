//! The line in which arrivals of an open loop wait for a free caller.
//!
//! The schedule thread puts them in and rings once for each batch; in the runtime, one task wakes a
//! caller for each arrival. So a batch costs one wake-up of the runtime from outside, whatever its
//! size. The caller that became free last is woken first: its memory is still in the cache, and of a
//! thousand callers only those that are needed are ever touched.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The number of polls that free callers have to take an arrival when the window is over.
const MAX_YIELDS: usize = 100;

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
    /// Wakes the task that announces arrivals.
    rings: Notify,
    /// Wakes callers that are free.
    free: Notify,
    sequence: AtomicU32,
    callers: usize,
}

#[derive(Debug, Default)]
struct Queue {
    arrivals: VecDeque<Arrival>,
    /// How many of them were not announced yet.
    fresh: usize,
    /// Callers that carry out a request.
    busy: usize,
    /// The count of measured arrivals that found every caller busy.
    delayed: u64,
    closed: bool,
}

impl Line {
    pub(super) fn new(callers: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            rings: Notify::new(),
            free: Notify::new(),
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
        let mut queue = self.queue();
        let fresh = std::mem::take(&mut queue.fresh);
        let wanted = fresh.min(self.callers - queue.busy);
        drop(queue);
        for _ in 0..wanted {
            self.free.notify_last();
        }
    }

    /// The next arrival, for a caller that is free; `None` when the line is closed.
    pub(super) async fn next(&self) -> Option<Arrival> {
        loop {
            // Created before `take`: a close after this line wakes this future, even before its first poll.
            let notified = self.free.notified();
            if let ControlFlow::Break(arrival) = self.take() {
                return arrival;
            }
            notified.await;
        }
    }

    /// The next arrival, `None` when the line is closed; goes on while the line is empty.
    fn take(&self) -> ControlFlow<Option<Arrival>> {
        let mut queue = self.queue();
        if queue.closed {
            return ControlFlow::Break(None);
        }
        match queue.arrivals.pop_front() {
            Some(arrival) => {
                queue.busy += 1;
                ControlFlow::Break(Some(arrival))
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// A caller is free again.
    pub(super) fn done(&self) {
        self.queue().busy -= 1;
    }

    /// Whether an arrival waits although a caller is free.
    fn can_start(&self) -> bool {
        let queue = self.queue();
        !queue.arrivals.is_empty() && queue.busy < self.callers
    }

    /// Lets free callers take the arrivals that wait, then closes the line. Returns the measured
    /// arrivals that were never started.
    pub(super) async fn close(&self) -> Vec<Arrival> {
        self.announce_fresh();
        // A caller that was woken takes its arrival at its next poll.
        for _ in 0..MAX_YIELDS {
            if !self.can_start() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut queue = self.queue();
        queue.closed = true;
        let left = std::mem::take(&mut queue.arrivals);
        drop(queue);
        self.free.notify_waiters();
        left.into_iter().filter(|arrival| arrival.measured).collect()
    }

    /// Requests are numbered from 0 to below this.
    pub(super) fn sequences(&self) -> u32 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// The count of measured arrivals that found every caller busy.
    pub(super) fn delayed(&self) -> u64 {
        self.queue().delayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MS: Duration = Duration::from_millis(1);

    /// A caller that notes what it takes, and is busy for 10 ms with each.
    async fn serve(line: Arc<Line>, name: usize, taken: Arc<Mutex<Vec<(usize, u32)>>>) {
        while let Some(arrival) = line.next().await {
            taken.lock().unwrap().push((name, arrival.sequence));
            tokio::time::sleep(MS * 10).await;
            line.done();
        }
    }

    async fn with_callers(callers: usize) -> (Arc<Line>, Arc<Mutex<Vec<(usize, u32)>>>) {
        let line = Arc::new(Line::new(callers));
        let taken = Arc::default();
        for name in 0..callers {
            tokio::spawn(serve(Arc::clone(&line), name, Arc::clone(&taken)));
        }
        tokio::spawn({
            let line = Arc::clone(&line);
            async move { line.announce().await }
        });
        tokio::time::sleep(MS).await;
        (line, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn every_arrival_of_a_batch_gets_a_caller_in_order() {
        let (line, taken) = with_callers(3).await;
        line.hand_over(&[Duration::ZERO; 7], Instant::now(), true);
        tokio::time::sleep(MS).await;
        assert_eq!(taken.lock().unwrap().len(), 3);
        assert_eq!(line.delayed(), 4);
        tokio::time::sleep(MS * 40).await;
        let sequences: Vec<u32> = taken.lock().unwrap().iter().map(|taken| taken.1).collect();
        assert_eq!(sequences, [0, 1, 2, 3, 4, 5, 6]);
        assert!(line.close().await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_that_became_free_last_is_woken_first() {
        let (line, taken) = with_callers(10).await;
        for _ in 0..5 {
            line.hand_over(&[Duration::ZERO], Instant::now(), true);
            tokio::time::sleep(MS * 20).await;
        }
        let mut names: Vec<usize> = taken.lock().unwrap().iter().map(|taken| taken.0).collect();
        names.dedup();
        assert_eq!(names.len(), 1, "one caller is enough for all five");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_line_returns_what_was_not_started_without_the_warm_up() {
        let (line, taken) = with_callers(1).await;
        line.hand_over(&[Duration::ZERO; 2], Instant::now(), false);
        line.hand_over(&[MS, MS * 2], Instant::now(), true);
        let left: Vec<Duration> = line.close().await.iter().map(|arrival| arrival.at).collect();
        assert_eq!(left, [MS, MS * 2]);
        assert_eq!(taken.lock().unwrap().len(), 1, "the caller that was free took the first");
        tokio::time::sleep(MS * 20).await;
        assert!(line.next().await.is_none());
        assert_eq!(taken.lock().unwrap().len(), 1);
    }
}
