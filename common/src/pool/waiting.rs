//! A place in the queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Inner;
use super::acquire::Step;
use super::inner::{Core, StateOf};
use super::maintenance::is_here;
use super::seat::{Looked, Seat};
use crate::clock::Timestamp;
use crate::manager::Manager;
use crate::state::WaiterId;

/// A place in the queue. Dropping it gives it up, and passes on whatever had been granted.
///
/// As a future it waits for the next step, for as long as it is polled; `None` when it was called
/// to look how things are.
pub(super) struct Waiting<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: WaiterId,
    /// Empty when what it waited for was taken.
    seat: Option<Arc<Seat<M>>>,
}

/// What a waiter finds when it looks.
pub(super) enum Found<M: Manager> {
    /// The end of the wait.
    Step(Step<'static, M>),
    Nothing,
    /// Nothing, but it was called.
    Called,
    /// Nothing, and no task watches its deadline.
    NobodyWatches,
}

impl<'a, M: Manager> Waiting<'a, M> {
    pub(super) fn new(inner: &'a Arc<Inner<M>>, id: WaiterId, core: &mut Core<M>) -> Self {
        let seat = Seat::spare();
        core.state.attach(id, Arc::clone(&seat));
        Self { inner, id, seat: Some(seat) }
    }

    /// The first look, which says whom to wake.
    #[inline]
    pub(super) fn sit(&mut self, context: &Context<'_>) -> Found<M> {
        let waker = context.waker().clone();
        let Some(seat) = &self.seat else { return Found::Nothing };
        let looked = seat.take_or_wait(waker);
        self.found(looked)
    }

    /// Takes what was given, or leaves word whom to wake.
    pub(super) fn look(&mut self, context: &Context<'_>) -> Found<M> {
        let Some(seat) = &self.seat else { return Found::Nothing };
        let looked = seat.look(context);
        let found = self.found(looked);
        if !matches!(found, Found::Nothing) {
            return found;
        }
        let mut core = self.inner.lock();
        if let Some(grant) = StateOf::<M>::take_grant(&mut core.state, self.id) {
            // Granted within a call that is still running on this thread, and brought here later.
            let node = core.take_node();
            drop(core);
            let step = self.inner.hold_grant(node, grant);
            self.seat = None;
            return Found::Step(step);
        }
        // It may have been moved here from where the watch is kept.
        let watched_on = core.watched_on(Timestamp::NEVER);
        drop(core);
        if is_here(watched_on) { Found::Nothing } else { Found::NobodyWatches }
    }

    #[inline]
    fn found(&mut self, looked: Looked<M>) -> Found<M> {
        match looked {
            Looked::Given(given) => {
                if let Some(seat) = self.seat.take() {
                    seat.keep();
                }
                Found::Step(given)
            }
            Looked::Called => Found::Called,
            Looked::Nothing => Found::Nothing,
        }
    }
}

impl<'a, M: Manager> Future for Waiting<'a, M> {
    type Output = Option<Step<'a, M>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.look(context) {
            Found::Step(step) => Poll::Ready(Some(step)),
            Found::Called => Poll::Ready(None),
            // It watches its own deadline.
            Found::Nothing | Found::NobodyWatches => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Waiting<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.leave(&seat);
        }
    }
}

impl<M: Manager> Waiting<'_, M> {
    #[inline(never)]
    fn leave(&self, seat: &Seat<M>) {
        // Nobody is to be woken any more.
        let waker = seat.clear();
        let now = self.inner.clock.now();
        let mut core = self.inner.lock();
        let place = core.state.detach(self.id);
        let leftover = core.state.cancel(self.id, now);
        self.inner.unlock(core);
        drop(leftover);
        match place {
            // No thread will bring anything to this seat: the next waiter may have it.
            Some(place) => place.keep(),
            // From here on the thread that brings a grant passes it on.
            None => {
                if let Some(given) = seat.leave() {
                    self.inner.pass_on(given);
                }
            }
        }
        drop(waker);
    }
}
