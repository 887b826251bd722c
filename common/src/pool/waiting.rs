//! A place in the queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Inner;
use super::inner::{GrantOf, StateOf};
use crate::manager::Manager;
use crate::state::WaiterId;

/// A place in the queue. Dropping it gives it up, and passes on whatever had been granted.
///
/// As a future it waits for a grant, for as long as it is polled.
pub(super) struct Waiting<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: WaiterId,
    done: bool,
}

/// What a waiter finds when it looks.
pub(super) enum Found<M: Manager> {
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
        let mut core = self.inner.lock();
        if let Some(grant) = StateOf::<M>::take_grant(&mut core.state, id) {
            let emptied = core.state.is_closed() && core.state.is_empty();
            drop(core);
            self.done = true;
            if emptied {
                self.inner.tell_emptied();
            }
            return Found::Grant(grant);
        }
        let replaced = core.remember_waker(id, context.waker());
        let watched = core.maintenance.is_there();
        drop(core);
        drop(replaced);
        if watched { Found::Nothing } else { Found::NobodyWatches }
    }
}

impl<M: Manager> Future for Waiting<'_, M> {
    type Output = GrantOf<M>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.look(context) {
            Found::Grant(grant) => Poll::Ready(grant),
            Found::Nothing | Found::NobodyWatches => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Waiting<'_, M> {
    fn drop(&mut self) {
        if !self.done {
            let leftover = self.inner.with(|state, now| state.cancel(self.id, now));
            drop(leftover);
            let waker = self.inner.lock().wakers.remove(self.id);
            drop(waker);
        }
    }
}
