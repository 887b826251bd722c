//! Counts on the side of the server, which do not depend on what a client reports.
//!
//! It counts executions for each nonce, accepted connections, open connections, and the most that were open
//! at once. There is one oracle for each protocol; a turn starts by naming its run, which sets the counts to
//! zero.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::faults::Connection;
use crate::nonce::Nonce;

/// Sequence numbers that are remembered for each run: 2^29 bits are 64 MiB, whatever a client sends.
const MAX_SEQUENCES: u32 = 1 << 29;

/// The counts of one protocol since its run was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The run the counts belong to; 0 before the first was started.
    pub run: u32,
    /// Requests that carried a nonce of this run and were answered.
    pub executed: u64,
    /// Executions of a nonce that had been executed before.
    pub duplicates: u64,
    /// Requests with a nonce of another run.
    pub strangers: u64,
    /// Requests of this turn with sequence numbers beyond those that are remembered.
    pub unchecked: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Sockets that are open now.
    pub open: u64,
    /// The most sockets that were open at one time.
    pub high_water: u64,
    /// Executions of requests that must not run twice.
    pub writes: u64,
    /// Duplicates of requests that must not run twice.
    pub write_duplicates: u64,
}

/// Counts in steps of [`STEP`] since the run was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// When the run was started, in nanoseconds of the machine's monotonic clock.
    pub origin_ns: u64,
    /// Length of a step.
    pub step_ms: u64,
    /// Connections accepted in each step.
    pub accepted: Vec<u32>,
    /// The most connections that were open in each step.
    pub open: Vec<u32>,
    /// Requests answered in each step, by each of two backends.
    pub backends: Vec<[u32; 2]>,
}

/// Length of a step of [`Series`].
pub const STEP: Duration = Duration::from_millis(100);
/// Steps that are kept: the first ten minutes of a run.
const MOST_STEPS: usize = 6000;

/// Counts what the server sees on one protocol.
#[derive(Debug, Default)]
pub struct Oracle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    /// One bit for each sequence number of the run, grown as they come.
    seen: Vec<u64>,
    close_after: bool,
    series: Series,
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Starts a run: every count is set to zero, except the sockets that are still open. With
    /// `close_after` the server closes each connection after its first reply.
    pub fn start(&self, run: u32, close_after: bool) -> Counters {
        let mut state = self.lock();
        let open = state.counters.open;
        state.counters = Counters { run, open, high_water: open, ..Counters::default() };
        state.seen.clear();
        state.close_after = close_after;
        state.series = Series {
            origin_ns: monotonic_ns(),
            step_ms: STEP.as_millis() as u64,
            ..Series::default()
        };
        state.counters
    }

    /// The counts so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Counts one execution, and returns whether the connection is to be closed after the reply.
    ///
    /// `nonce` comes from the request; a request without a valid nonce is answered and not counted.
    pub fn executed(&self, nonce: &[u8]) -> bool {
        self.ran(nonce, false, 0).0
    }

    /// Like [`executed`](Self::executed), for a request that must not run twice if `writes`, on a
    /// connection of `backend`; also returns how often this nonce has run.
    pub fn ran(&self, nonce: &[u8], writes: bool, backend: usize) -> (bool, u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(step) = state.step() {
            at(&mut state.series.backends, step)[backend & 1] += 1;
        }
        let times = state.execute(nonce, writes);
        (state.close_after, times)
    }

    /// The time series, with every step up to now.
    pub fn series(&self) -> Series {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(step) = state.fill() {
            at(&mut state.series.accepted, step);
            at(&mut state.series.backends, step);
        }
        state.series.clone()
    }

    /// Counts a connection as open until the returned value is dropped.
    pub fn accepted(self: &Arc<Self>) -> OpenSocket {
        let mut state = self.lock();
        let step = state.fill();
        let counters = &mut state.counters;
        counters.accepted += 1;
        counters.open += 1;
        counters.high_water = counters.high_water.max(counters.open);
        let open = state.open();
        if let Some(step) = step {
            *at(&mut state.series.accepted, step) += 1;
            let most = at(&mut state.series.open, step);
            *most = (*most).max(open);
        }
        drop(state);
        OpenSocket { oracle: Arc::clone(self), connection: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no count panics under the lock")
    }
}

impl State {
    /// The current step of the run; `None` before the first run and after the last step that is kept.
    fn step(&self) -> Option<usize> {
        let step = monotonic_ns().checked_sub(self.series.origin_ns)? / STEP.as_nanos() as u64;
        let step = usize::try_from(step).ok()?;
        (self.series.step_ms > 0 && step < MOST_STEPS).then_some(step)
    }

    /// Records the number of open connections in every step that has no record yet, up to the current step,
    /// which is returned. Called before the number changes.
    fn fill(&mut self) -> Option<usize> {
        let step = self.step()?;
        let open = self.open();
        if step >= self.series.open.len() {
            self.series.open.resize(step + 1, open);
        }
        Some(step)
    }

    fn open(&self) -> u32 {
        u32::try_from(self.counters.open).unwrap_or(u32::MAX)
    }

    /// Counts an execution; returns how often this nonce has run, 0 if it is no nonce of this run.
    fn execute(&mut self, nonce: &[u8], writes: bool) -> u64 {
        let Some((run, sequence)) = Nonce::parse(nonce) else {
            return 0;
        };
        let counters = &mut self.counters;
        if run != counters.run {
            counters.strangers += 1;
            return 0;
        }
        if sequence >= MAX_SEQUENCES {
            counters.unchecked += 1;
            return 0;
        }
        let (word, bit) = ((sequence / 64) as usize, 1_u64 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let again = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        counters.executed += 1;
        counters.duplicates += u64::from(again);
        counters.writes += u64::from(writes);
        counters.write_duplicates += u64::from(writes && again);
        1 + u64::from(again)
    }
}

/// The place of a step in a series that grows as far as it is needed.
fn at<T: Clone + Default>(series: &mut Vec<T>, step: usize) -> &mut T {
    if step >= series.len() {
        series.resize(step + 1, T::default());
    }
    &mut series[step]
}

/// The machine's monotonic clock, which all its processes share.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A connection that counts as open. Keep it beside the socket and drop it after the socket.
#[derive(Debug)]
pub struct OpenSocket {
    oracle: Arc<Oracle>,
    connection: Arc<Connection>,
}

impl OpenSocket {
    /// Adds the state that the faults keep of the connection.
    #[must_use]
    pub fn with(mut self, connection: Arc<Connection>) -> Self {
        self.connection = connection;
        self
    }

    /// The state that the faults keep of the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Counts one execution, and returns whether the connection is to be closed after the reply.
    ///
    /// `nonce` comes from the request; `writes` if it must not run twice.
    pub fn executed(&self, nonce: &[u8], writes: bool) -> bool {
        self.counted(nonce, writes).0
    }

    /// Like [`executed`](Self::executed); also returns how often this nonce has run.
    pub fn counted(&self, nonce: &[u8], writes: bool) -> (bool, u64) {
        let (close, times) = self.oracle.ran(nonce, writes, self.connection.backend());
        (close || self.announced(), times)
    }

    /// Whether the connection is to be closed after the next reply, because a fault asks for it. True only
    /// once.
    pub fn announced(&self) -> bool {
        self.connection.take_announcement()
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let mut state = self.oracle.lock();
        state.fill();
        state.counters.open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_that_runs_twice_is_a_duplicate() {
        let oracle = Oracle::new();
        oracle.start(7, false);
        for sequence in [0, 1, 64, 1] {
            oracle.executed(Nonce::new(7, sequence).as_bytes());
        }
        let counters = oracle.counters();
        assert_eq!((counters.executed, counters.duplicates), (4, 1));
    }

    #[test]
    fn a_late_request_of_another_run_is_a_stranger() {
        let oracle = Oracle::new();
        oracle.start(8, false);
        oracle.executed(Nonce::new(7, 0).as_bytes());
        oracle.executed(Nonce::new(8, u32::MAX).as_bytes());
        oracle.executed(b"no nonce at all");
        let counters = oracle.counters();
        assert_eq!((counters.executed, counters.strangers, counters.unchecked), (0, 1, 1));
    }

    #[test]
    fn sockets_count_until_they_are_dropped_and_the_high_water_mark_stays() {
        let oracle = Oracle::new();
        let first = oracle.accepted();
        oracle.start(1, false);
        let second = oracle.accepted();
        drop(first);
        let counters = oracle.counters();
        assert_eq!((counters.accepted, counters.open, counters.high_water), (1, 1, 2));
        drop(second);
        assert_eq!(oracle.counters().open, 0);
    }

    #[test]
    fn a_new_run_forgets_the_nonces_of_the_last_one() {
        let oracle = Oracle::new();
        oracle.start(1, false);
        oracle.executed(Nonce::new(1, 5).as_bytes());
        oracle.start(2, false);
        oracle.executed(Nonce::new(2, 5).as_bytes());
        assert_eq!(oracle.counters().duplicates, 0);
    }

    #[test]
    fn a_series_has_the_open_connections_of_every_step() {
        let oracle = Oracle::new();
        let first = oracle.accepted();
        oracle.start(1, false);
        let second = oracle.accepted();
        std::thread::sleep(STEP * 2);
        drop(second);
        std::thread::sleep(STEP);
        let series = oracle.series();
        let steps = series.open.len();
        assert!(steps >= 3, "{series:?}");
        assert_eq!((series.accepted.len(), series.backends.len()), (steps, steps));
        assert_eq!((series.open[0], series.open[1], series.open[steps - 1]), (2, 2, 1));
        assert_eq!((series.accepted[0], series.accepted[1]), (1, 0));
        drop(first);
    }
}
