//! The lease: a connection that a caller holds, and that goes back to the pool when it is dropped.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::inner::{Held, Inner, Node};
use super::release::Slot;
use crate::event::CloseCause;
use crate::lending::{Exclusive, Lend, Lending};
use crate::manager::{Connection, Manager};
use crate::state::{ConnectionId, Fitness, Lent};

/// A leased connection.
///
/// Dereferences to the connection: mutably when lending is exclusive, shared otherwise. Dropping
/// the lease gives the connection back. If the manager finds it broken, or the thread is unwinding,
/// the connection is discarded. If its session needs a reset, a separate task resets it (without a
/// runtime for that task it is discarded). Otherwise the connection goes to the next waiter or becomes
/// idle. To wait for the reset, call [`release`](Lease::release).
#[must_use = "a lease that is not kept gives its connection back at once"]
pub struct Lease<M: Manager> {
    pub(crate) slot: Slot<M>,
}

impl<M: Manager> Lease<M> {
    /// A lease of what the state has lent; `node` is an unused node, for a shared connection.
    #[inline]
    pub(super) fn new(
        inner: &Arc<Inner<M>>,
        node: Option<Box<Node<M>>>,
        lent: Lent<Held<M>>,
    ) -> Self {
        Self { slot: Slot::new(lent, || node.unwrap_or_else(|| Node::new(inner, None))) }
    }

    /// Whether the connection was lent before. A failure of a reused connection before the first
    /// byte of an answer usually means that the peer had closed it while it was idle.
    pub fn is_reused(&self) -> bool {
        self.slot.node().reused
    }

    /// How long the connection had been idle, to the precision of the pool's clock; zero when it came
    /// directly from a dial or from another lease.
    pub fn idle_for(&self) -> Duration {
        Duration::from_nanos(self.slot.node().idle_nanos)
    }

    /// The id of the connection; events have the same id.
    pub fn connection_id(&self) -> ConnectionId {
        self.slot.node().id
    }

    /// The key it was acquired for.
    pub fn key(&self) -> M::Key {
        let core = self.slot.inner().lock();
        core.state.key_of(self.connection_id()).cloned().expect("a leased connection is known")
    }

    /// From now on the connection is discarded when the lease ends. For shared lending it takes
    /// no new leases either, once this one has ended.
    pub fn mark_broken(&mut self) {
        self.doubt(Some(CloseCause::Discarded));
    }

    /// From now on the connection may be idle for at most `limit`, or for
    /// [`idle_timeout`](crate::Policy::idle_timeout) if that is shorter. For a protocol whose
    /// peer announces when it closes idle connections (HTTP/1's `Keep-Alive: timeout`). The time counts
    /// from the moment the connection becomes idle. After that time the connection is never lent,
    /// whatever [`expiry`](crate::Policy::expiry) is, and with a timer or sweeps it is also closed. Leave
    /// a margin for the time to reach the peer.
    ///
    /// The last call counts. [`Duration::MAX`] removes an earlier limit. With zero the connection is
    /// closed instead of becoming idle; a waiting caller may still get it.
    ///
    /// Takes the pool's lock, as the connection may have set another limit through its
    /// [`Notifier`](crate::Notifier) meanwhile.
    pub fn set_idle_limit(&mut self, limit: Duration) {
        let id = self.connection_id();
        self.slot.inner().with(|state, now| state.set_idle_limit(id, limit, now));
    }

    /// Ends the lease and closes the connection (as soon as its other leases have ended, when it
    /// is shared).
    pub fn discard(self) {
        self.discard_for(CloseCause::Discarded);
    }

    /// Ends the lease as dropping it does, but waits for the reset, if one is needed.
    ///
    /// # Cancel safety
    /// Dropping the future discards the connection.
    ///
    /// # Panics
    /// When a reset is needed, outside a tokio runtime with time enabled.
    pub async fn release(mut self) {
        if self.needs_reset_on_return()
            && let Some(slot) = self.slot.take()
        {
            reset(slot).await;
        }
    }

    /// Continues the lease in a task, for at most `limit`: for work that is left after a caller
    /// has lost interest, such as reading the rest of an answer. `work` gets the lease, and gives the
    /// connection back by dropping it. `work` has to end within `limit`. If a runtime that stands still
    /// prevents that, the pool drops `work` and the lease in it. Outside a tokio runtime
    /// `work` is not run and the lease is dropped.
    pub fn finish_with<F>(self, limit: Duration, work: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Ok(runtime) = Handle::try_current() {
            let inner = Arc::clone(self.slot.inner());
            inner.spawn_bounded(&runtime, limit, work(self));
        }
    }

    /// Gives back a lease that no caller has used, without asking the manager. With `was_idle` the
    /// connection was idle and has not been peeked at yet.
    pub(super) fn pass_on(mut self, was_idle: bool) {
        if was_idle {
            self.slot.take_back();
        } else {
            self.slot.release(Fitness::Fit);
        }
    }

    /// The lent value; for shared lending a handle that can be cloned. Keep the lease for as long as
    /// the clone is used.
    pub fn handle(&self) -> &M::Lending {
        self.slot.handle()
    }

    pub(super) fn handle_mut(&mut self) -> &mut M::Lending {
        self.slot.handle_mut()
    }

    pub(super) fn discard_for(mut self, cause: CloseCause) {
        self.doubt(Some(cause));
    }

    /// With leak detection: remembers the line that took the lease.
    #[inline]
    pub(super) fn track(&mut self, taken_at: &'static Location<'static>) {
        if self.slot.inner().leaks.is_some() {
            self.begin_tracking(taken_at);
        }
    }

    #[cold]
    fn begin_tracking(&mut self, taken_at: &'static Location<'static>) {
        let inner = Arc::clone(self.slot.inner());
        let Some(leaks) = &inner.leaks else { return };
        let node = self.slot.node_mut();
        let (number, due) = leaks.begin(node.id, taken_at, inner.clock.now());
        node.tracked = Some(number);
        if let Some(due) = due {
            // The maintenance task has to be there, and may have to look earlier.
            inner.runtime.remember();
            let mut core = inner.lock();
            core.state.note_deadline(due);
            inner.unlock(core);
        }
    }

    /// Sets or clears the cause for which the connection is closed when the lease ends.
    pub(super) fn doubt(&mut self, verdict: Option<CloseCause>) {
        self.slot.node_mut().verdict = verdict;
    }

    #[inline]
    pub(super) fn is_stale(&mut self) -> bool {
        self.slot.is_stale()
    }

    /// Gives the connection back, unless it needs a reset first; returns whether it does. After a panic
    /// of the manager in here, the drop of the slot discards the connection.
    #[inline]
    fn needs_reset_on_return(&mut self) -> bool {
        if self.slot.is_released() {
            return false;
        }
        let fitness = if let Some(cause) = self.slot.node().verdict {
            Fitness::Unfit(cause)
        } else if std::thread::panicking() {
            Fitness::Unfit(CloseCause::Lost)
        } else if self.slot.is_broken() {
            Fitness::Unfit(CloseCause::Broken)
        } else if self.slot.needs_reset() {
            if !self.slot.inner().is_shut_down() {
                return true;
            }
            Fitness::Unfit(CloseCause::PoolClosed)
        } else {
            Fitness::Fit
        };
        self.slot.release(fitness);
        false
    }
}

/// Resets within `reset_timeout`, then gives back or discards.
async fn reset<M: Manager>(mut slot: Slot<M>) {
    let inner = Arc::clone(slot.inner());
    let limit = inner.policy.reset_timeout;
    let reset = inner.manager.reset(slot.handle_mut());
    let fitness = match tokio::time::timeout(limit, reset).await {
        Ok(Ok(())) if !slot.is_broken() => Fitness::Fit,
        Ok(Ok(())) => Fitness::Unfit(CloseCause::Broken),
        Ok(Err(error)) => {
            tracing::debug!(target: "pool_common", %error, "reset failed");
            Fitness::Unfit(CloseCause::ResetFailed)
        }
        Err(_) => Fitness::Unfit(CloseCause::ResetFailed),
    };
    slot.release(fitness);
}

impl<M: Manager> Drop for Lease<M> {
    #[inline]
    fn drop(&mut self) {
        if !self.needs_reset_on_return() {
            return;
        }
        // The reset of the session needs a task.
        match (self.slot.inner().runtime.any(), self.slot.take()) {
            (Some(runtime), Some(slot)) => {
                let inner = Arc::clone(slot.inner());
                inner.spawn_bounded(&runtime, inner.policy.reset_timeout, reset(slot));
            }
            (None, Some(mut slot)) => slot.release(Fitness::Unfit(CloseCause::ResetFailed)),
            (_, None) => {}
        }
    }
}

impl<M: Manager> Deref for Lease<M> {
    type Target = Connection<M>;

    #[inline]
    fn deref(&self) -> &Connection<M> {
        self.slot.handle().get()
    }
}

impl<C: Send + 'static, M: Manager<Lending = Exclusive<C>>> DerefMut for Lease<M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        self.handle_mut()
    }
}

impl<M: Manager> fmt::Debug for Lease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("connection", &self.connection_id())
            .field("reused", &self.is_reused())
            .finish_non_exhaustive()
    }
}

impl<M: Manager> Inner<M> {
    /// A lease of what the state has lent, from outside the lock.
    pub(super) fn lease(self: &Arc<Self>, lent: Lent<Held<M>>) -> Lease<M> {
        let node = if M::Lending::SHARED { self.lock().take_node() } else { None };
        Lease::new(self, node, lent)
    }
}
