//! The faults of one protocol's server: which are in force, and for which connections.
//!
//! A connection reads a version number whenever it is polled, and reads the faults in force only when that
//! number has changed. Each change of the number wakes every connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::fault::{Cut, Fault, Who};

/// How long the server may take to close its listening socket, or to open it again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The faults of one server.
#[derive(Debug)]
pub struct Faults {
    /// Grows with every change.
    version: AtomicU64,
    /// Whether the server should listen for new connections.
    listens: watch::Sender<bool>,
    /// Whether it does.
    listening: watch::Sender<Listening>,
    /// It carries bytes and does not know the protocol.
    relays: AtomicBool,
    state: Mutex<State>,
}

/// The state of a listening socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Listening {
    /// There was never a listening socket: the protocol is not served.
    #[default]
    Never,
    /// It accepts connections.
    Open,
    /// Connections are refused.
    Closed,
    /// It cannot be opened again, for this reason.
    Failed(String),
}

#[derive(Debug, Default)]
struct State {
    next_fault: u32,
    /// The faults in force, each with the number of the first connection after its start.
    active: BTreeMap<u32, (Fault, u64)>,
    next_connection: u64,
    /// The number of the first connection of this run.
    first_of_run: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
}

/// The state of one connection that the faults need.
#[derive(Debug, Default)]
pub struct Connection {
    number: u64,
    /// Its number among the connections of its run. The number decides whether the connection stalls, and
    /// to which backend it belongs.
    place: u64,
    /// The tasks that read and write, woken when the faults change.
    wakers: Mutex<[Option<Waker>; 2]>,
    /// How it is cut, 0 when it is not.
    cut: AtomicU8,
    announced: AtomicBool,
    /// Whether there is a replacement.
    replaces: AtomicBool,
    replacement: Mutex<Option<Replacement>>,
}

/// The side of a connection that a task works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// Bytes that the server writes, and bytes of the same length that are sent instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

const CUT_BY_FIN: u8 = 1;
const CUT_BY_RST: u8 = 2;

/// The effects of the faults in force on one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Nothing is written before this time after the accept.
    pub(super) greeting_after: Duration,
    /// Every write is delayed by this time.
    pub(super) delay: Duration,
    /// Nothing is read or written.
    pub(super) silent: bool,
    /// Cut after this long without a byte in either direction.
    pub(super) cut_idle: Option<(Duration, Cut)>,
    /// HTTP/2: streams at once.
    pub(super) max_streams: Option<u32>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(0),
            listens: watch::Sender::new(true),
            listening: watch::Sender::default(),
            relays: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }
}

impl Faults {
    /// No fault.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a fault in force, or lets it happen at once; returns the number with which to lift it.
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

    /// Ends a fault. It is no error if the fault is not in force any more, such as a fault of one moment.
    pub fn lift(&self, id: u32) {
        let mut state = self.lock();
        state.active.remove(&id);
        self.changed(&state);
    }

    /// Ends every fault, and counts connections from the beginning.
    pub fn start(&self) {
        let mut state = self.lock();
        state.first_of_run = state.next_connection;
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
            connection.wake(Side::Read);
            connection.wake(Side::Write);
        }
    }

    /// From now on this is a relay.
    pub(super) fn relay(&self) {
        self.relays.store(true, Ordering::Relaxed);
    }

    /// Whether this server can play a fault.
    ///
    /// # Errors
    /// The reason why it cannot, in words.
    pub(super) fn can_play(&self, fault: Fault) -> Result<(), String> {
        if *self.listening.borrow() == Listening::Never {
            return Err("this protocol is not served here".to_owned());
        }
        if self.relays.load(Ordering::Relaxed) && fault.asks_server().is_some() {
            return Err(format!(
                "a relay does not know the protocol, so it cannot play '{}'; only the embedded servers can",
                fault.label()
            ));
        }
        Ok(())
    }

    /// Notes the state of the listening socket.
    pub(super) fn set_listening(&self, now: Listening) {
        self.listening.send_replace(now);
    }

    /// Returns once the server listens as it should: a fault is in force, or ended, only then.
    ///
    /// # Errors
    /// The reason why it does not, in words.
    pub(super) async fn settled(&self) -> Result<(), String> {
        let wanted = if *self.listens.borrow() { Listening::Open } else { Listening::Closed };
        let mut now = self.listening.subscribe();
        let settled = now.wait_for(|now| *now == wanted || *now == Listening::Never);
        if matches!(tokio::time::timeout(SETTLE_TIMEOUT, settled).await, Ok(Ok(_))) {
            return Ok(());
        }
        Err(match &*self.listening.borrow() {
            Listening::Failed(error) => error.clone(),
            _ => format!("the listening socket is not {wanted:?} after {SETTLE_TIMEOUT:?}"),
        })
    }

    /// A receiver of changes: whether new connections are accepted.
    pub(super) fn listens(&self) -> watch::Receiver<bool> {
        self.listens.subscribe()
    }

    /// A number that changes with every change of the faults.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A connection was accepted.
    pub(super) fn accepted(&self) -> Arc<Connection> {
        let mut state = self.lock();
        let number = state.next_connection;
        let place = number - state.first_of_run;
        let connection = Arc::new(Connection { number, place, ..Default::default() });
        state.next_connection += 1;
        state.connections.insert(connection.number, Arc::clone(&connection));
        connection
    }

    /// A connection is closed.
    pub(super) fn closed(&self, connection: &Connection) {
        self.lock().connections.remove(&connection.number);
    }

    /// The effects of the faults in force on a connection.
    pub(super) fn plan(&self, connection: &Connection) -> Plan {
        let mut plan = Plan::default();
        let number = connection.number;
        for (fault, since) in self.lock().active.values() {
            match *fault {
                Fault::SlowDial { ms } if number >= *since => {
                    plan.greeting_after = plan.greeting_after.max(Duration::from_millis(ms));
                }
                Fault::SlowReplies { ms } => plan.delay += Duration::from_millis(ms),
                Fault::StallOne { of, ms }
                    if connection.place.is_multiple_of(u64::from(of.max(1))) =>
                {
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
        self.state.lock().expect(CALM)
    }
}

impl Plan {
    /// The time at which bytes written at `written` may be sent on a connection accepted at `accepted`.
    pub(super) fn due(&self, accepted: Instant, written: Instant) -> Instant {
        (written + self.delay).max(accepted + self.greeting_after)
    }
}

impl Connection {
    /// The backend it belongs to: the first, third, ... connection to 0, the others to 1.
    pub(super) fn backend(&self) -> usize {
        (self.place % 2) as usize
    }

    /// Wakes this task when the faults change.
    pub(super) fn register(&self, side: Side, waker: &Waker) {
        self.wakers.lock().expect(CALM)[side as usize] = Some(waker.clone());
    }

    /// Wakes the task of this side. It stays registered.
    pub(super) fn wake(&self, side: Side) {
        if let Some(waker) = &self.wakers.lock().expect(CALM)[side as usize] {
            waker.wake_by_ref();
        }
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

    /// Sends other bytes, once, instead of those that the server will write.
    pub(super) fn replace(&self, replacement: Replacement) {
        debug_assert_eq!(replacement.from.len(), replacement.to.len());
        *self.replacement.lock().expect(CALM) = Some(replacement);
        self.replaces.store(true, Ordering::Release);
    }

    /// The bytes to send instead of these, if they contain bytes to replace.
    pub(super) fn replaced(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.replaces.load(Ordering::Acquire) {
            return None;
        }
        let mut replacement = self.replacement.lock().expect(CALM);
        let Replacement { from, to } = replacement.as_ref()?;
        let at = memchr::memmem::find(bytes, from)?;
        let mut bytes = bytes.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        *replacement = None;
        self.replaces.store(false, Ordering::Release);
        Some(bytes)
    }
}

/// Why a lock is never poisoned.
const CALM: &str = "nothing panics under the lock";

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
        faults.start();
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
    fn a_cut_ends_the_open_connections() {
        let faults = Faults::new();
        let (open, closed) = (faults.accepted(), faults.accepted());
        faults.closed(&closed);
        faults.inject(Fault::Cut { how: Cut::Rst });
        assert_eq!(open.cut(), Some(Cut::Rst));
        assert_eq!((closed.cut(), faults.accepted().cut()), (None, None));
    }

    #[test]
    fn refusing_is_told_to_the_listener() {
        let faults = Faults::new();
        let listens = faults.listens();
        let refusal = faults.inject(Fault::Refuse);
        assert!(!*listens.borrow());
        faults.lift(refusal);
        assert!(*listens.borrow());
    }

    #[test]
    fn a_run_counts_its_connections_from_the_first() {
        let faults = Faults::new();
        drop(faults.accepted());
        faults.start();
        let connections = [faults.accepted(), faults.accepted(), faults.accepted()];
        assert_eq!(connections.each_ref().map(|connection| connection.backend()), [0, 1, 0]);
        faults.inject(Fault::StallOne { of: 3, ms: 7 });
        let delays = connections.map(|connection| faults.plan(&connection).delay.as_millis());
        assert_eq!(delays, [7, 0, 0]);
    }

    #[test]
    fn a_replacement_is_used_once() {
        let connection = Connection::default();
        assert_eq!(connection.replaced(b"abc"), None);
        connection.replace(Replacement { from: b"bc".to_vec(), to: b"xy".to_vec() });
        assert_eq!(connection.replaced(b"cba"), None);
        assert_eq!(connection.replaced(b"abcbc"), Some(b"axybc".to_vec()));
        assert_eq!(connection.replaced(b"abc"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_does_not_come_back_is_an_error() {
        let faults = Faults::new();
        assert!(faults.can_play(Fault::Refuse).unwrap_err().contains("not served"));
        faults.set_listening(Listening::Open);
        assert_eq!(faults.settled().await, Ok(()));
        faults.inject(Fault::Refuse);
        assert!(faults.settled().await.unwrap_err().contains("Closed"));
        faults.set_listening(Listening::Closed);
        assert_eq!(faults.settled().await, Ok(()));
        faults.start();
        faults.set_listening(Listening::Failed("the port is taken".to_owned()));
        assert_eq!(faults.settled().await, Err("the port is taken".to_owned()));
    }

    #[test]
    fn a_relay_plays_faults_that_need_no_protocol() {
        let faults = Faults::new();
        faults.set_listening(Listening::Open);
        assert_eq!(faults.can_play(Fault::Announce), Ok(()));
        faults.relay();
        assert!(faults.can_play(Fault::Announce).unwrap_err().contains("relay"));
        assert!(faults.can_play(Fault::MaxStreams { streams: 1 }).is_err());
        assert_eq!(faults.can_play(Fault::Refuse), Ok(()));
        assert_eq!(faults.can_play(Fault::SlowBackend { ms: 1 }), Ok(()));
    }
}
