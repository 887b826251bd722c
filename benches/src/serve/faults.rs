//! The faults of one protocol's server: which are in force, and which connections they are for.
//!
//! A connection looks at one number whenever it is polled, and only when that number has changed at
//! what is in force. Whoever changes it wakes every connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fault::{Cut, Fault, Who};

/// The faults of one server.
#[derive(Debug)]
pub struct Faults {
    /// Grows with every change.
    version: AtomicU64,
    /// Whether anybody listens for new connections.
    listens: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_fault: u32,
    /// What is in force, with the number of the first connection that came after its begin.
    active: BTreeMap<u32, (Fault, u64)>,
    next_connection: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
}

/// What a server keeps of one connection to make it feel the faults.
#[derive(Debug, Default)]
pub struct Connection {
    number: u64,
    /// Called when the faults change.
    waker: AtomicWaker,
    /// How it is cut, 0 when it is not.
    cut: AtomicU8,
    announced: AtomicBool,
}

const CUT_BY_FIN: u8 = 1;
const CUT_BY_RST: u8 = 2;

/// What the faults in force mean for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Nothing is written before this time after the accept.
    pub(super) greeting_after: Duration,
    /// Every write comes so much later.
    pub(super) delay: Duration,
    /// Nothing is read or written.
    pub(super) silent: bool,
    /// Cut after so long without a byte from the client.
    pub(super) cut_idle: Option<(Duration, Cut)>,
    /// HTTP/2: streams at once.
    pub(super) max_streams: Option<u32>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(0),
            listens: watch::Sender::new(true),
            state: Mutex::default(),
        }
    }
}

impl Faults {
    /// No fault.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a fault in force, or lets it happen at once; the number to lift it with.
    pub fn inject(&self, fault: Fault) -> u32 {
        let mut state = self.lock();
        state.next_fault += 1;
        let id = state.next_fault;
        match fault {
            Fault::Cut { how } => {
                let how = match how {
                    Cut::Fin => CUT_BY_FIN,
                    Cut::Rst => CUT_BY_RST,
                };
                for connection in state.connections.values() {
                    connection.cut.store(how, Ordering::Relaxed);
                }
            }
            Fault::Announce => {
                for connection in state.connections.values() {
                    connection.announced.store(true, Ordering::Relaxed);
                }
            }
            fault => {
                let since = state.next_connection;
                state.active.insert(id, (fault, since));
            }
        }
        self.changed(&state);
        id
    }

    /// Ends a fault. One that is not in force any more is no error: it was a moment.
    pub fn lift(&self, id: u32) {
        let mut state = self.lock();
        state.active.remove(&id);
        self.changed(&state);
    }

    /// Ends every fault.
    pub fn lift_all(&self) {
        let mut state = self.lock();
        if !state.active.is_empty() {
            state.active.clear();
            self.changed(&state);
        }
    }

    fn changed(&self, state: &State) {
        self.version.fetch_add(1, Ordering::Release);
        let refuses = |(fault, _): &(Fault, u64)| matches!(fault, Fault::Refuse);
        let listens = !state.active.values().any(refuses);
        self.listens.send_if_modified(|now| std::mem::replace(now, listens) != listens);
        for connection in state.connections.values() {
            connection.waker.wake();
        }
    }

    /// Whether new connections are let in, now and from now on.
    pub(super) fn listens(&self) -> watch::Receiver<bool> {
        self.listens.subscribe()
    }

    /// A number that has changed when anything here has.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A connection was accepted.
    pub(super) fn accepted(&self) -> Arc<Connection> {
        let mut state = self.lock();
        let connection =
            Arc::new(Connection { number: state.next_connection, ..Default::default() });
        state.next_connection += 1;
        state.connections.insert(connection.number, Arc::clone(&connection));
        connection
    }

    /// A connection is closed.
    pub(super) fn closed(&self, connection: &Connection) {
        self.lock().connections.remove(&connection.number);
    }

    /// What is in force for a connection.
    pub(super) fn plan(&self, connection: &Connection) -> Plan {
        let mut plan = Plan::default();
        let number = connection.number;
        for (fault, since) in self.lock().active.values() {
            match *fault {
                Fault::SlowDial { ms } if number >= *since => {
                    plan.greeting_after = plan.greeting_after.max(Duration::from_millis(ms));
                }
                Fault::SlowReplies { ms } => plan.delay += Duration::from_millis(ms),
                Fault::StallOne { of, ms } if number.is_multiple_of(u64::from(of.max(1))) => {
                    plan.delay += Duration::from_millis(ms);
                }
                Fault::SlowBackend { ms } if connection.backend() == 1 => {
                    plan.delay += Duration::from_millis(ms);
                }
                Fault::Silence { who } => {
                    plan.silent |= match who {
                        Who::Old => number < *since,
                        Who::New => number >= *since,
                        Who::All => true,
                    };
                }
                Fault::CutIdle { after_ms, how } => {
                    plan.cut_idle = Some((Duration::from_millis(after_ms), how));
                }
                Fault::MaxStreams { streams } => plan.max_streams = Some(streams),
                Fault::Refuse
                | Fault::SlowDial { .. }
                | Fault::StallOne { .. }
                | Fault::SlowBackend { .. }
                | Fault::Cut { .. }
                | Fault::Announce => {}
            }
        }
        plan
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }
}

impl Connection {
    /// The backend it belongs to: the first, third, ... connection to 0, the others to 1.
    pub(super) fn backend(&self) -> usize {
        (self.number % 2) as usize
    }

    /// Called when the faults change.
    pub(super) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// How it is cut, if it is.
    pub(super) fn cut(&self) -> Option<Cut> {
        match self.cut.load(Ordering::Relaxed) {
            CUT_BY_FIN => Some(Cut::Fin),
            CUT_BY_RST => Some(Cut::Rst),
            _ => None,
        }
    }

    /// Whether its end is to be announced, once.
    pub(super) fn take_announcement(&self) -> bool {
        self.announced.load(Ordering::Relaxed) && self.announced.swap(false, Ordering::Relaxed)
    }
}

/// When the server may write to a connection that was accepted at `accepted`.
pub(super) fn due(plan: &Plan, accepted: Instant, now: Instant) -> Instant {
    (now + plan.delay).max(accepted + plan.greeting_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_for_the_connections_it_names() {
        let faults = Faults::new();
        let old = faults.accepted();
        let silence = faults.inject(Fault::Silence { who: Who::Old });
        let new = faults.accepted();
        assert!(faults.plan(&old).silent && !faults.plan(&new).silent);
        faults.lift(silence);
        assert_eq!(faults.plan(&old), Plan::default());

        faults.inject(Fault::SlowDial { ms: 50 });
        assert_eq!(faults.plan(&new).greeting_after, Duration::ZERO, "it was there before");
        assert_eq!(faults.plan(&faults.accepted()).greeting_after, Duration::from_millis(50));
        faults.lift_all();
        assert_eq!(faults.plan(&faults.accepted()), Plan::default());
    }

    #[test]
    fn delays_add_up_and_backends_alternate() {
        let faults = Faults::new();
        let connections = [faults.accepted(), faults.accepted()];
        faults.inject(Fault::SlowReplies { ms: 5 });
        faults.inject(Fault::SlowBackend { ms: 1 });
        let delays = connections.map(|connection| faults.plan(&connection).delay.as_millis());
        assert_eq!(delays, [5, 6]);
    }

    #[test]
    fn a_cut_is_for_those_that_are_open() {
        let faults = Faults::new();
        let (open, closed) = (faults.accepted(), faults.accepted());
        faults.closed(&closed);
        faults.inject(Fault::Cut { how: Cut::Rst });
        assert_eq!(open.cut(), Some(Cut::Rst));
        assert_eq!((closed.cut(), faults.accepted().cut()), (None, None));
    }

    #[test]
    fn refusing_is_known_to_who_accepts() {
        let faults = Faults::new();
        let listens = faults.listens();
        let refusal = faults.inject(Fault::Refuse);
        assert!(!*listens.borrow());
        faults.lift(refusal);
        assert!(*listens.borrow());
    }
}
