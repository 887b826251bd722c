//! What the server knows for certain, and a client could only claim.
//!
//! Executions for each nonce, connections accepted, open now, and the most that were open at once.
//! One oracle for each protocol; a turn starts by naming its run, which sets the counts to zero.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

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
    /// Requests of this turn beyond those it remembers.
    pub unchecked: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Sockets that are open now.
    pub open: u64,
    /// The most sockets that were open at one time.
    pub high_water: u64,
}

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
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Starts a run: every count is zero but the sockets that are still open. With `close_after`
    /// the server closes each connection after its first reply.
    pub fn start(&self, run: u32, close_after: bool) -> Counters {
        let mut state = self.lock();
        let open = state.counters.open;
        state.counters = Counters { run, open, high_water: open, ..Counters::default() };
        state.seen.clear();
        state.close_after = close_after;
        state.counters
    }

    /// The counts so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Counts one execution, and says whether the connection is to be closed after the reply.
    ///
    /// `nonce` is what the request carried; anything that is no nonce is answered and not counted.
    pub fn executed(&self, nonce: &[u8]) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some((run, sequence)) = Nonce::parse(nonce) else {
            return state.close_after;
        };
        if run != state.counters.run {
            state.counters.strangers += 1;
            return state.close_after;
        }
        if sequence >= MAX_SEQUENCES {
            state.counters.unchecked += 1;
            return state.close_after;
        }
        let (word, bit) = ((sequence / 64) as usize, 1_u64 << (sequence % 64));
        if word >= state.seen.len() {
            state.seen.resize(word + 1, 0);
        }
        state.counters.executed += 1;
        if state.seen[word] & bit != 0 {
            state.counters.duplicates += 1;
        }
        state.seen[word] |= bit;
        state.close_after
    }

    /// Counts a connection as open until the returned value is dropped.
    pub fn accepted(self: &Arc<Self>) -> OpenSocket {
        let mut state = self.lock();
        let counters = &mut state.counters;
        counters.accepted += 1;
        counters.open += 1;
        counters.high_water = counters.high_water.max(counters.open);
        drop(state);
        OpenSocket { oracle: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no count panics under the lock")
    }
}

/// A connection that counts as open. Keep it beside the socket and drop it after the socket.
#[derive(Debug)]
pub struct OpenSocket {
    oracle: Arc<Oracle>,
}

impl OpenSocket {
    /// The oracle that counts this connection.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.oracle.lock().counters.open -= 1;
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
}
