//! Dials: of a caller in its own task, and of the pool in a task in the background.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::background::stopped;
use super::inner::{Held, Inner};
use super::lease::Lease;
use super::timeout::TimeLimit;
use crate::connect::granted_until;
use crate::error::{DialError, Error, Stage};
use crate::event::CloseCause;
use crate::lending::Lending;
use crate::manager::{Connection, DialFailure, Manager};
use crate::notifier::{Listener, Notifier};
use crate::policy::OrphanDial;
use crate::state::{ConnectionId, Lent};

/// A dial in progress: its slot in the limits comes back whatever happens to the dial.
pub(super) struct Ticket<M: Manager> {
    inner: Arc<Inner<M>>,
    id: ConnectionId,
    /// Whether a caller dials. It may leave, which is not the peer's fault.
    by_caller: bool,
    done: bool,
}

impl<M: Manager> Inner<M> {
    /// Dials in the task of the caller, within the time of its acquire. `None` when the pool is closed.
    ///
    /// # Errors
    /// [`Error::Dial`] when the dial failed, [`Error::Timeout`] when the time of the acquire is up first.
    pub(super) async fn dial_for_caller(
        self: &Arc<Self>,
        key: &M::Key,
        ticket: Ticket<M>,
        acquire: &TimeLimit,
    ) -> Result<Option<Lease<M>>, Error<M::Error>> {
        let began = Instant::now();
        let dial = self.dial(ticket.id, key, acquire.deadline);
        let dialed = tokio::select! {
            biased;
            () = self.shut_down() => return Ok(None),
            dialed = acquire.within(dial) => dialed,
        };
        let Some(result) = dialed else {
            let timeout = self.timed_out(key, Stage::Dial, acquire.elapsed());
            ticket.run_out(began.elapsed());
            return Err(timeout);
        };
        let lent = ticket.finish(result).map_err(|source| Error::Dial { source })?;
        Ok(lent.map(|lent| self.lease(lent)))
    }

    /// Dials in a task in the background.
    pub(super) fn start_dial(self: &Arc<Self>, id: ConnectionId, key: M::Key) {
        let ticket = Ticket::new(Arc::clone(self), id, false);
        let Some(runtime) = self.runtime.any() else {
            tracing::error!(target: "pool_common", "no tokio runtime to dial in");
            return;
        };
        let inner = Arc::clone(self);
        let stop = if self.stops_dials() { self.lock().stops.get(id) } else { None };
        self.spawn_bounded(&runtime, self.policy.dial_timeout, async move {
            tokio::select! {
                biased;
                () = inner.shut_down() => drop(ticket),
                () = stopped(stop.as_deref()) => ticket.give_up(),
                result = inner.dial(id, &key, None) => drop(ticket.finish(result)),
            }
        });
    }

    /// One dial, bounded by `dial_timeout`. The connector is told of its caller's `deadline`, too.
    async fn dial(
        self: &Arc<Self>,
        id: ConnectionId,
        key: &M::Key,
        deadline: Option<Instant>,
    ) -> Result<Connection<M>, DialError<M::Error>> {
        let listener: Weak<dyn Listener> = self.me.clone();
        let span = tracing::debug_span!(target: "pool_common", "dial", id = id.as_u64(), ?key);
        let connect = self.manager.connect(key, Notifier::new(listener, id)).instrument(span);
        // A limit that overflows `Instant` is no deadline.
        let limit = Instant::now().checked_add(self.policy.dial_timeout);
        let granted = [limit, deadline].into_iter().flatten().min();
        let connect = self.meter.time_dial(granted_until(granted, connect));
        let result = match tokio::time::timeout(self.policy.dial_timeout, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(DialError::Failed(Arc::new(error))),
            Err(_) => Err(DialError::TimedOut(self.policy.dial_timeout)),
        };
        match &result {
            Ok(_) => tracing::debug!(target: "pool_common", id = id.as_u64(), ?key, "dialed"),
            Err(error) => {
                tracing::debug!(target: "pool_common", id = id.as_u64(), ?key, %error, "no dial");
            }
        }
        result
    }

    /// Whether dials that no caller needs any more are stopped.
    pub(super) fn stops_dials(&self) -> bool {
        self.policy.orphan_dial == OrphanDial::Stopped || self.policy.dial_hedge.is_some()
    }
}

impl<M: Manager> Ticket<M> {
    pub(super) fn new(inner: Arc<Inner<M>>, id: ConnectionId, by_caller: bool) -> Self {
        Self { inner, id, by_caller, done: false }
    }

    /// Whether the peer answered and turned this client away. May panic; the ticket is still open then.
    fn is_denied(&self, error: &DialError<M::Error>) -> bool {
        match error {
            DialError::Failed(error) => {
                self.inner.manager.dial_failure(error) == DialFailure::Denied
            }
            DialError::TimedOut(_)
            | DialError::GivenUp(_)
            | DialError::Abandoned
            | DialError::Broken => false,
        }
    }

    /// The time of the caller that dialed is up, `dialing` after the dial began. A peer that lets callers
    /// run into their deadlines has failed, too. But a caller that had waited for most of its time has not
    /// given the peer a chance, so this counts only where dials are usually faster.
    fn run_out(self, dialing: Duration) {
        let is_overdue = self.inner.with(|state, now| state.is_overdue(self.id, now));
        if is_overdue {
            drop(self.finish(Err(DialError::GivenUp(dialing))));
        } else {
            self.give_up();
        }
    }

    /// The dial is not needed any more, which does not count as a failure.
    fn give_up(mut self) {
        self.done = true;
        self.forget_stop();
        self.inner.with(|state, now| state.dial_failed(self.id, None, now));
    }

    fn forget_stop(&self) {
        if !self.by_caller && self.inner.stops_dials() {
            self.inner.lock().stops.remove(self.id);
        }
    }

    /// Reports the result. Returns the connection when the caller dialed and the pool is open.
    fn finish(
        mut self,
        result: Result<Connection<M>, DialError<M::Error>>,
    ) -> Result<Option<Lent<Held<M>>>, DialError<M::Error>> {
        let dialed = result.map(|connection| {
            // May panic; the ticket is still open then.
            let capacity = self.inner.manager.capacity(&connection);
            (Held::new(&self.inner, M::Lending::new(connection)), capacity)
        });
        // May panic as well.
        let denied = dialed.as_ref().is_err_and(|error| self.is_denied(error));
        self.done = true;
        self.forget_stop();
        let (held, capacity) = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Err(self.fail(error, denied)),
        };
        let now = self.inner.clock.now();
        let mut core = self.inner.lock();
        // The connection reported that it is gone before its dial was over: the dial failed.
        if core.state.is_gone(self.id) {
            core.state.dial_failed(self.id, Some(DialError::Broken), now);
            self.inner.unlock(core);
            // Dropped without the lock.
            drop(held);
            return Err(DialError::Broken);
        }
        let lent = core.state.dialed(self.id, held, capacity, now);
        if let Some(every) = self.inner.look_every {
            core.begin_looks(every, now);
        }
        self.inner.unlock(core);
        Ok(lent)
    }

    fn fail(&self, error: DialError<M::Error>, denied: bool) -> DialError<M::Error> {
        let told = error.clone();
        self.inner.with(|state, now| match denied {
            true => state.dial_denied(self.id, told, now),
            false => state.dial_failed(self.id, Some(told), now),
        });
        error
    }
}

impl<M: Manager> Drop for Ticket<M> {
    fn drop(&mut self) {
        if !self.done {
            self.forget_stop();
            let panicked = std::thread::panicking();
            self.inner.with(|state, now| match (panicked, self.by_caller) {
                (true, _) => state.dial_failed(self.id, Some(DialError::Abandoned), now),
                (false, true) => state.dial_failed(self.id, None, now),
                // Its task was dropped, with its runtime or past its limit, or could not be spawned.
                (false, false) => state.dial_lost(self.id, now),
            });
        }
    }
}

/// What a connection reports through the [`Notifier`] it was dialed with.
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
