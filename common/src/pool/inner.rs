//! What all clones, leases and tasks of a pool share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::{Notify, watch};

use super::bounded::Bounded;
use super::idle_look::IdleLook;
use super::leaks::Leaks;
use super::lock::{Guard, Lock};
use super::maintenance::Keeper;
use super::seat::Seat;
use super::slot::{Held, Node};
use super::stop::Stops;
use crate::clock::{Clock, Timestamp};
use crate::error::DialError;
use crate::event::{CloseCause, Observer};
use crate::manager::Manager;
use crate::metrics::{Meter, Tally};
use crate::notifier::Listener;
use crate::policy::{Check, OrphanDial, Policy};
use crate::state::{Acquire, ConnectionId, Grant, State, WaiterId};
use crate::stats::Status;

pub(crate) type StateOf<M> =
    State<<M as Manager>::Key, Held<M>, DialError<<M as Manager>::Error>, Arc<Seat<M>>>;

pub(super) type GrantOf<M> = Grant<Held<M>, DialError<<M as Manager>::Error>>;
pub(super) type AnswerOf<M> = Acquire<Held<M>, DialError<<M as Manager>::Error>>;

pub(crate) struct Inner<M: Manager> {
    /// Itself, for tasks and notifiers.
    pub(super) me: Weak<Self>,
    pub(crate) manager: M,
    /// As it was built: its limits may have changed since, and only the state reads those.
    pub(crate) policy: Policy,
    /// Whether idle connections are looked at before they are lent: a peek or a check.
    pub(super) looks: bool,
    /// How often idle connections are looked at between leases.
    pub(super) look_every: Option<Duration>,
    pub(super) clock: Clock,
    pub(super) lock: Lock<M>,
    /// Tells background dials to stop.
    pub(super) shutdown: watch::Sender<bool>,
    /// Told when a closed pool has become empty, or another task watches its work.
    emptied: Notify,
    /// `acquire_timeout` in nanoseconds; never early, so a tick of the clock is added.
    longest_wait: u64,
    pub(super) observer: Option<Arc<dyn Observer<M::Key>>>,
    pub(super) meter: Meter,
    /// Which leases are out; with leak detection only.
    pub(super) leaks: Option<Leaks>,
    /// Whether it was said that a caller has to wait at a limit.
    limit_said: AtomicBool,
    /// The runtime of the last caller that dialed or checked, and whether there was one.
    runtime: RwLock<Option<Handle>>,
    knows_runtime: AtomicBool,
}

/// What the lock guards; first what every lease touches.
#[repr(C, align(64))]
pub(crate) struct Core<M: Manager> {
    /// Leases of shared connections that ended, for the next ones. Each holds the pool, so a closed
    /// pool has none.
    pub(super) nodes: Vec<Box<Node<M>>>,
    /// When the maintenance task will look next.
    pub(super) armed: Timestamp,
    pub(crate) state: StateOf<M>,
    /// How to stop the dials in progress that may turn out not to be needed.
    pub(super) stops: Stops,
    /// The tasks whose limits are watched.
    pub(super) bounded: Bounded,
    pub(super) idle_look: IdleLook,
    pub(super) keeper: Option<Keeper>,
    /// The runtime where the maintenance task could not run the last time.
    pub(super) failed_on: Option<Id>,
    /// tokio's clock was seen to run by itself, as in tests that pause it: deadlines by the pool's
    /// clock are not those of the callers.
    pub(super) clocks_differ: bool,
    /// The pool itself, for a lease that has given back its own hold on it with its connection. While
    /// there is anything to do, what it is to be done with holds the pool.
    pub(super) pool: Weak<Inner<M>>,
    /// Who left work to a call further up on the same thread, which may not hold the pool itself.
    pub(super) left_by: Option<Arc<Inner<M>>>,
    /// What was reported of the state.
    pub(super) tally: Tally,
}

impl<M: Manager> Inner<M> {
    pub(super) fn new(
        manager: M,
        mut state: StateOf<M>,
        clock: Clock,
        observer: Option<Arc<dyn Observer<M::Key>>>,
        meter: Meter,
        leaks: Option<Leaks>,
    ) -> Arc<Self> {
        let tally = meter.tally(&mut state);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            // A policy that never peeks does not look at idle connections either.
            look_every: manager.idle_look_interval().filter(|_| state.policy().peek),
            manager,
            policy: state.policy().clone(),
            looks: state.policy().peek || state.policy().check != Check::Never,
            longest_wait: longest_wait(state.policy().acquire_timeout, clock.resolution()),
            clock,
            lock: Lock::new(Core::new(Weak::clone(me), state, tally)),
            shutdown: watch::Sender::new(false),
            emptied: Notify::new(),
            observer,
            meter,
            leaks,
            limit_said: AtomicBool::new(false),
            runtime: RwLock::new(None),
            knows_runtime: AtomicBool::new(false),
        })
    }

    /// The lock; see [`Lock::lock`].
    #[inline]
    pub(crate) fn lock(&self) -> Guard<M> {
        self.lock.lock()
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().state.status()
    }

    /// Lock, tell the state something, unlock, do what it asks for.
    #[inline]
    pub(crate) fn with<R>(
        self: &Arc<Self>,
        tell: impl FnOnce(&mut StateOf<M>, Timestamp) -> R,
    ) -> R {
        let now = self.clock.now();
        let mut core = self.lock();
        let result = tell(&mut core.state, now);
        self.unlock(core);
        result
    }

    /// Unlocks, and does what the state asks for.
    #[inline(always)]
    pub(super) fn unlock(self: &Arc<Self>, core: Guard<M>) {
        if core.is_settled() {
            drop(core);
        } else {
            self.follow_up(core);
        }
    }

    /// When an acquire that began at `now` stops waiting.
    #[inline]
    pub(super) fn end_of_wait(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_nanos(now.as_nanos().saturating_add(self.longest_wait))
    }

    /// Remembers the runtime of the caller, for what has to be spawned from outside one.
    pub(crate) fn remember_runtime(&self) {
        let Ok(here) = Handle::try_current() else { return };
        let known = self.runtime.read().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.id() == here.id()) {
            return;
        }
        drop(known);
        let mut known = self.runtime.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace(here);
        drop(known);
        drop(before);
        self.knows_runtime.store(true, Ordering::Relaxed);
    }

    /// As `remember_runtime`, when none is known yet: cheaper, for callers that only wait.
    pub(super) fn remember_some_runtime(&self) {
        if !self.knows_runtime.load(Ordering::Relaxed) {
            self.remember_runtime();
        }
    }

    /// The runtime remembered.
    pub(super) fn remembered_runtime(&self) -> Option<Handle> {
        self.runtime.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The runtime to spawn on, if any is known.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        Handle::try_current().ok().or_else(|| self.remembered_runtime())
    }

    pub(crate) fn start_close(self: &Arc<Self>) {
        self.shutdown.send_replace(true);
        let now = self.clock.now();
        let mut core = self.lock();
        core.state.close(now);
        // They hold the pool.
        let nodes = std::mem::take(&mut core.nodes);
        let left_by = core.left_by.take();
        let keeper = core.end_of_watch();
        self.unlock(core);
        if let Some(keeper) = keeper {
            keeper.notify_one();
        }
        drop((nodes, left_by));
    }

    /// The limit to be told of, when this caller is the first of the pool to wait at one.
    #[inline]
    pub(super) fn first_limit(&self, core: &Core<M>, id: WaiterId) -> Option<(&'static str, u32)> {
        if self.limit_said.load(Ordering::Relaxed) { None } else { core.state.limit_reached(id) }
    }

    /// Says once in the life of the pool that a caller waits at a limit.
    #[cold]
    pub(super) fn say_limit(&self, key: &M::Key, (limit, max): (&'static str, u32)) {
        if !self.limit_said.swap(true, Ordering::Relaxed) {
            tracing::info!(
                target: "pool_common",
                limit,
                max,
                ?key,
                "all connections are in use, callers wait for the first time (said once for each pool)"
            );
        }
    }

    /// Whether dials that no caller needs any more are stopped.
    pub(super) fn stops_dials(&self) -> bool {
        self.policy.orphan_dial == OrphanDial::Stopped || self.policy.dial_hedge.is_some()
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Ends when the pool is closed. Holds no lock of the channel when it has ended: what follows
    /// runs the user's code.
    pub(super) async fn shut_down(&self) {
        let _ = self.shutdown.subscribe().wait_for(|stop| *stop).await;
    }

    /// The tasks that end the last connections may be on a runtime that stands still, and so may the
    /// task that watches them.
    pub(super) async fn wait_until_empty(self: &Arc<Self>) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.lock().state.is_empty() {
                return;
            }
            self.revive_maintenance();
            match self.until_late_to_close() {
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, emptied).await;
                }
                None => emptied.await,
            }
        }
    }

    /// Callers that wait for the end of a closed pool look again.
    pub(super) fn tell_closing(&self) {
        self.emptied.notify_waiters();
    }
}

fn longest_wait(acquire_timeout: Option<Duration>, resolution: Duration) -> u64 {
    let limit = acquire_timeout.map(|limit| limit.saturating_add(resolution).as_nanos());
    limit.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(u64::MAX)
}

impl<M: Manager> Core<M> {
    pub(super) fn new(pool: Weak<Inner<M>>, state: StateOf<M>, tally: Tally) -> Self {
        Self {
            pool,
            state,
            stops: Stops::default(),
            bounded: Bounded::default(),
            idle_look: IdleLook::default(),
            armed: Timestamp::NEVER,
            keeper: None,
            failed_on: None,
            clocks_differ: false,
            nodes: Vec::new(),
            left_by: None,
            tally,
        }
    }

    /// Of no pool.
    pub(super) fn vacant() -> Self {
        let state =
            State::with_attachments(Policy::default(), 0).expect("the default policy is valid");
        Self::new(Weak::new(), state, Tally::of_no_pool())
    }

    /// Whether there is nothing to follow up: nothing to do, to tell, or to be woken for earlier.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        !self.has_work() && !self.state.is_closed()
    }

    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.state.has_work()
            || self.state.noted_deadline() < self.armed
            || self.tally.lags(&self.state)
    }
}

impl<M: Manager> Listener for Inner<M> {
    fn retire(&self, id: ConnectionId, cause: CloseCause) {
        if let Some(inner) = self.me.upgrade() {
            inner.with(|state, now| state.retire(id, cause, now));
        }
    }

    fn set_capacity(&self, id: ConnectionId, capacity: u32) {
        if let Some(inner) = self.me.upgrade() {
            inner.with(|state, now| state.set_capacity(id, capacity, now));
        }
    }

    fn set_idle_limit(&self, id: ConnectionId, limit: Duration) {
        if let Some(inner) = self.me.upgrade() {
            inner.with(|state, now| state.set_idle_limit(id, limit, now));
        }
    }
}
