//! A place in the queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Inner;
use super::acquire::Step;
use super::inner::{GrantOf, StateOf};
use crate::lease::Lease;
use crate::manager::Manager;
use crate::state::{Grant, WaiterId};

/// A place in the queue. Dropping it gives it up, and passes on whatever had been granted.
///
/// As a future it waits for the next step, for as long as it is polled.
pub(super) struct Waiting<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: WaiterId,
    done: bool,
}

/// What a waiter finds when it looks.
pub(super) enum Found<M: Manager> {
    /// A connection that may go out as it is.
    Lease(Lease<M>),
    Grant(GrantOf<M>),
    Nothing,
    /// Nothing, and nobody will tell it when its time is up.
    NobodyWatches,
}

impl<'a, M: Manager> Waiting<'a, M> {
    pub(super) fn new(inner: &'a Arc<Inner<M>>, id: WaiterId) -> Self {
        Self { inner, id, done: false }
    }

    /// Takes the grant, or leaves word whom to wake.
    pub(super) fn look(&mut self, context: &Context<'_>) -> Found<M> {
        let id = self.id;
        let mut waker = None;
        loop {
            let mut core = self.inner.lock();
            if let Some(grant) = StateOf::<M>::take_grant(&mut core.state, id) {
                self.done = true;
                // Still there when it looks before it is woken. Whoever waits next under this
                // number would have it dropped under the lock.
                let unused = core.wakers.remove(id);
                match grant {
                    Grant::Lend(lent) if !lent.was_idle => {
                        let node = core.take_node();
                        drop(core);
                        let lease = Lease::new(self.inner, node, lent);
                        drop(unused);
                        return Found::Lease(lease);
                    }
                    _ => {}
                }
                drop(core);
                drop(unused);
                return Found::Grant(grant);
            }
            let replaced = if core.knows_waker(id, context.waker()) {
                None
            } else if let Some(waker) = waker.take() {
                core.wakers.insert(id, waker)
            } else {
                // Cloned without the lock, as it may run anything; then it looks again.
                drop(core);
                waker = Some(context.waker().clone());
                continue;
            };
            // It may have been moved here from where the watch is kept.
            let watched = core.watches_here();
            drop(core);
            drop(replaced);
            return if watched { Found::Nothing } else { Found::NobodyWatches };
        }
    }
}

impl<'a, M: Manager> Future for Waiting<'a, M> {
    type Output = Step<'a, M>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.look(context) {
            Found::Lease(lease) => Poll::Ready(Step::Ready(lease)),
            Found::Grant(grant) => Poll::Ready(self.inner.hold_grant(grant)),
            Found::Nothing => Poll::Pending,
            Found::NobodyWatches => {
                // It watches its own deadline, but not the end of a pause.
                self.inner.revive_maintenance();
                Poll::Pending
            }
        }
    }
}

impl<M: Manager> Drop for Waiting<'_, M> {
    fn drop(&mut self) {
        if !self.done {
            let now = self.inner.clock.now();
            let mut core = self.inner.lock();
            // Under the lock that frees its number: the next waiter may have that at once.
            let waker = core.wakers.remove(self.id);
            let leftover = core.state.cancel(self.id, now);
            self.inner.unlock(core);
            drop(leftover);
            drop(waker);
        }
    }
}
