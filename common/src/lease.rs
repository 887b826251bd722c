//! What a caller holds: a connection that goes back by itself.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::event::CloseCause;
use crate::lending::{Exclusive, Lending};
use crate::manager::{Connection, Manager};
use crate::pool::{Held, Inner, Node, Slot};
use crate::state::{ConnectionId, Fitness, Lent};

/// A leased connection.
///
/// Dereferences to the connection: mutably when lending is exclusive, shared otherwise. Dropping
/// the lease gives the connection back: it is discarded when the manager finds it broken or the
/// thread is unwinding; reset in a separate task when its session needs that (discarded
/// without a runtime for that task); else it goes to the next waiter or becomes idle. To wait for
/// the reset, call [`release`](Lease::release).
#[must_use = "a lease that is not kept gives its connection back at once"]
pub struct Lease<M: Manager> {
    pub(crate) slot: Slot<M>,
}

impl<M: Manager> Lease<M> {
    /// `node` is one for a shared connection, if one was left.
    #[inline(always)]
    pub(crate) fn new(
        inner: &Arc<Inner<M>>,
        node: Option<Box<Node<M>>>,
        lent: Lent<Held<M>>,
    ) -> Self {
        Self { slot: Slot::new(lent, || node.unwrap_or_else(|| Node::new(inner, None))) }
    }

    /// Takes over from a lease that ends, with its node if that is of a shared connection.
    #[inline]
    pub(crate) fn again(lent: Lent<Held<M>>, node: Option<Box<Node<M>>>) -> Self {
        Self { slot: Slot::new(lent, || node.expect("a shared connection leaves the node")) }
    }

    /// Whether the connection was lent before. A failure of a reused connection before the first
    /// byte of an answer usually means that the peer had closed it while it was idle.
    pub fn is_reused(&self) -> bool {
        self.slot.node().reused
    }

    /// How long the connection had been idle; zero when it came straight from a dial or from
    /// another borrower. As fine as the pool's clock.
    pub fn idle_for(&self) -> Duration {
        Duration::from_nanos(self.slot.node().idle_nanos)
    }

    /// Which connection this is; the same number in events.
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

    /// From now on the connection may be idle for `limit` at most, or for
    /// [`idle_timeout`](crate::Policy::idle_timeout) where that is shorter; for a protocol whose
    /// peer says when it closes idle connections (HTTP/1's `Keep-Alive: timeout`). The time counts
    /// from the moment the connection becomes idle. It is never lent beyond it, whatever the policy says
    /// of [`expiry`](crate::Policy::expiry), and closed by then where the policy has a timer or
    /// sweeps; so leave a margin for the way to the peer.
    ///
    /// The last call counts. [`Duration::MAX`] takes back an earlier limit; zero closes the
    /// connection as soon as it would become idle, while a waiting caller may still get it.
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

    /// Goes on with the lease in a task, for at most `limit`: for what is left to do after a caller
    /// has lost interest, such as reading the rest of an answer. `work` gets the lease, and gives the
    /// connection back by dropping it. It ends by itself within `limit`; the pool drops it, and the
    /// lease in it, when a runtime that stands still keeps it from doing so. Outside a tokio runtime
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

    /// It was never anybody's: goes to the next, unasked. `was_idle`, it has yet to be looked at.
    pub(crate) fn pass_on(mut self, was_idle: bool) {
        if was_idle {
            self.slot.take_back();
        } else {
            self.slot.release(Fitness::Fit);
        }
    }

    /// What the pool lends: for shared lending a handle that can be cloned out of it. The lease
    /// has to be kept for as long as that is used.
    pub fn handle(&self) -> &M::Lending {
        self.slot.handle()
    }

    pub(crate) fn handle_mut(&mut self) -> &mut M::Lending {
        self.slot.handle_mut()
    }

    pub(crate) fn discard_for(mut self, cause: CloseCause) {
        self.doubt(Some(cause));
    }

    /// Remembers where it was taken, when leak detection is on.
    #[inline]
    pub(crate) fn track(&mut self, taken_at: &'static Location<'static>) {
        self.slot.track(taken_at);
    }

    /// Sets or clears what happens to the connection when the lease ends.
    pub(crate) fn doubt(&mut self, verdict: Option<CloseCause>) {
        self.slot.node_mut().verdict = verdict;
    }

    #[inline]
    pub(crate) fn is_stale(&mut self) -> bool {
        self.slot.is_stale()
    }

    /// Gives the connection back, unless it needs a reset first; says whether it does. A panic of
    /// the manager in here leaves the slot to its own drop, which discards the connection.
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
        // Its session has to be reset, which takes a task.
        match (self.slot.inner().runtime(), self.slot.take()) {
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
