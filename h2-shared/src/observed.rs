//! The known state of a connection, shared by its driver task and the requests on it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;

use crate::config::Config;
use crate::error::Closed;

/// The peer's limit before SETTINGS. No conflict with a real limit: 2^32 - 1 streams do not fit in
/// the ids of a connection, so it stands for "no limit" in both cases.
const UNKNOWN: u32 = u32::MAX;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Takes new streams.
    Open,
    /// Takes no new streams; those that are open may finish. After GOAWAY, when the peer called us
    /// a protocol violator, or when it was silent for too long.
    Draining,
    /// Gone.
    Closed,
}

/// Rare events since the connection began. Each wakes the tasks that wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Milestones {
    /// The peer's stream limit; `None` until its SETTINGS have come.
    pub(crate) limit: Option<u32>,
    /// Answers to our PINGs.
    pub(crate) pongs: u64,
    /// The driver has ended.
    pub(crate) closed: bool,
}

/// Receives the reports of a connection for its pool.
pub(crate) trait Listener: Send + Sync + 'static {
    /// That many streams may be open at a time from now on.
    fn capacity(&self, slots: u32);
    /// No new streams, let the open ones finish.
    fn retire(&self);
    /// The connection is gone. `calm` says that the peer complained about too much traffic.
    fn broken(&self, calm: bool);
    /// Whether a request that its caller gave up may take the connection out of use now.
    fn may_doubt(&self) -> bool;
}

/// Written by the driver, read by all users of the connection.
pub(crate) struct Observed {
    listener: Box<dyn Listener>,
    phase: AtomicU8,
    suspect: AtomicBool,
    crowded: AtomicBool,
    settings: AtomicBool,
    peer_limit: AtomicU32,
    in_flight: AtomicU32,
    opened: AtomicU64,
    closed: OnceLock<Closed>,
    milestones: watch::Sender<Milestones>,
    requests: Requests,
}

/// Requests of users to the driver.
#[derive(Debug, Default)]
struct Requests {
    close: AtomicBool,
    ping: AtomicBool,
    proof: AtomicBool,
    /// The driver's task. Held for a moment only.
    driver: Mutex<Option<Waker>>,
}

impl Observed {
    pub(crate) fn new(listener: impl Listener) -> Self {
        Self {
            listener: Box::new(listener),
            phase: AtomicU8::new(Phase::Open as u8),
            suspect: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            settings: AtomicBool::new(false),
            peer_limit: AtomicU32::new(UNKNOWN),
            in_flight: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            closed: OnceLock::new(),
            milestones: watch::Sender::new(Milestones::default()),
            requests: Requests::default(),
        }
    }

    pub(crate) fn listener(&self) -> &dyn Listener {
        &*self.listener
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Draining,
            _ => Phase::Closed,
        }
    }

    /// Goes to a later phase; never back. Returns whether this changed anything.
    pub(crate) fn advance(&self, phase: Phase) -> bool {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8
    }

    /// The peer's stream limit: `None` before its SETTINGS, `u32::MAX` when it has none.
    pub(crate) fn peer_limit(&self) -> Option<u32> {
        let known = self.settings.load(Ordering::Acquire);
        known.then(|| self.peer_limit.load(Ordering::Relaxed))
    }

    /// Records the limit from SETTINGS. Returns whether it has changed.
    pub(crate) fn set_peer_limit(&self, limit: u32) -> bool {
        let old = self.peer_limit.swap(limit, Ordering::Relaxed);
        let first = !self.settings.swap(true, Ordering::AcqRel);
        let news = first || old != limit;
        if news {
            self.milestones.send_modify(|m| m.limit = Some(limit));
        }
        news
    }

    /// Records whether the peer answers. Returns whether this has changed.
    pub(crate) fn set_suspect(&self, suspect: bool) -> bool {
        self.suspect.swap(suspect, Ordering::AcqRel) != suspect
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Records whether unread responses hold the window of the connection. Returns whether this has
    /// changed.
    pub(crate) fn set_crowded(&self, crowded: bool) -> bool {
        self.crowded.swap(crowded, Ordering::AcqRel) != crowded
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// Takes the connection out of use: no new streams.
    pub(crate) fn retire(&self) {
        if self.advance(Phase::Draining) {
            self.listener.retire();
        }
    }

    /// Tells the pool how many streams may be open.
    pub(crate) fn tell_capacity(&self, config: &Config) {
        loop {
            let capacity = self.capacity(config);
            self.listener.capacity(capacity);
            // Two tasks may report at the same time: the last report must have the current capacity.
            if self.capacity(config) == capacity {
                return;
            }
        }
    }

    /// The slots as the pool has to see them. A capacity of 0 means a peer that allows no stream at
    /// all, for which another dial is no help; a connection with streams that takes no more
    /// because it is crowded counts as full instead, and requests go to another.
    fn capacity(&self, config: &Config) -> u32 {
        match self.is_crowded() && self.phase() == Phase::Open && self.in_flight() > 0 {
            true => 1,
            false => self.slots(config),
        }
    }

    /// How many streams may be open at a time right now.
    pub(crate) fn slots(&self, config: &Config) -> u32 {
        match self.phase() == Phase::Open && !self.is_crowded() {
            true => self.peer_limit().unwrap_or(config.streams_before_settings),
            false => 0,
        }
    }

    /// Counts a stream that is being opened.
    pub(crate) fn stream_opened(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream that has ended in both directions, or was reset.
    pub(crate) fn stream_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Why the connection ended, once it has.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed.get().cloned()
    }

    /// The end. The first cause stays.
    pub(crate) fn set_closed(&self, cause: Closed) {
        self.closed.get_or_init(|| cause);
        self.advance(Phase::Closed);
        self.milestones.send_modify(|m| m.closed = true);
    }

    pub(crate) fn note_pong(&self) {
        self.milestones.send_modify(|m| m.pongs += 1);
    }

    pub(crate) fn milestones(&self) -> watch::Receiver<Milestones> {
        self.milestones.subscribe()
    }

    /// Asks the driver to close the connection as soon as no stream is left.
    pub(crate) fn request_close(&self) {
        self.requests.close.store(true, Ordering::Release);
        self.wake_driver();
    }

    /// Asks the driver to send a PING, unless one is on its way.
    pub(crate) fn request_ping(&self) {
        self.requests.ping.store(true, Ordering::Release);
        self.wake_driver();
    }

    /// Asks the driver to send a PING, and to end the connection if the peer stays silent.
    pub(crate) fn request_proof(&self) {
        self.requests.proof.store(true, Ordering::Release);
        self.wake_driver();
    }

    pub(crate) fn close_requested(&self) -> bool {
        self.requests.close.load(Ordering::Acquire)
    }

    pub(crate) fn take_ping_request(&self) -> bool {
        // The load keeps the driver's usual pass free of a write.
        self.requests.ping.load(Ordering::Acquire)
            && self.requests.ping.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn take_proof_request(&self) -> bool {
        self.requests.proof.load(Ordering::Acquire)
            && self.requests.proof.swap(false, Ordering::AcqRel)
    }

    /// Remembers the driver's task. It must look at the requests afterwards.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        let old = self.driver_waker().replace(waker.clone());
        drop(old);
    }

    fn wake_driver(&self) {
        let waker = self.driver_waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn driver_waker(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing under this lock can panic halfway through a change.
        self.requests.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

/// Waits until `done` holds or the connection has ended; `false` in the latter case.
pub(crate) async fn reached(
    milestones: &mut watch::Receiver<Milestones>,
    done: impl Fn(&Milestones) -> bool,
) -> bool {
    match milestones.wait_for(|m| m.closed || done(m)).await {
        Ok(now) => done(&now),
        // The sender lives in `Observed`, which the waiting side holds; if it is gone, so is the
        // connection.
        Err(_) => false,
    }
}

/// A `poll` of a future that is only looked at, never waited for.
pub(crate) fn now_or_pending<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}
