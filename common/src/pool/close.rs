//! Closing: one connection, and the pool, with the wait until a closed pool is empty.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, TryCurrentError};

use super::inner::{Held, Inner};
use crate::event::CloseCause;
use crate::manager::Manager;
use crate::state::ConnectionId;

impl<M: Manager> Inner<M> {
    /// Closes a connection. Returns whether that is over, else [`closed`](crate::state::State::closed)
    /// follows from a task. A close that has to wait gets `close_timeout`. Outside a runtime, or when the
    /// manager panics, the connection is dropped.
    pub(super) fn close(
        self: &Arc<Self>,
        id: ConnectionId,
        held: Held<M>,
        cause: CloseCause,
    ) -> bool {
        let here = Handle::try_current();
        if here.as_ref().is_err_and(TryCurrentError::is_thread_local_destroyed) {
            // The thread ends, and tokio's part of it is gone: there is no runtime to be entered.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
            return true;
        }
        let runtime = here.ok().or_else(|| self.runtime.remembered());
        let _entered = runtime.as_ref().map(Handle::enter);
        let handle = held.into_handle();
        let inner = Arc::clone(self);
        let mut close = Box::pin(async move { inner.manager.close(handle).await });
        let mut context = Context::from_waker(Waker::noop());
        // A subscriber that panics is treated as a manager that does.
        let first_poll = || {
            tracing::debug!(target: "pool_common", id = id.as_u64(), %cause, "close");
            close.as_mut().poll(&mut context)
        };
        let polled = catch_unwind(AssertUnwindSafe(first_poll));
        if polled.is_err() {
            let tell =
                || tracing::error!(target: "pool_common", id = id.as_u64(), "close panicked");
            let _ = catch_unwind(AssertUnwindSafe(tell));
        }
        let (Ok(Poll::Pending), Some(runtime)) = (polled, &runtime) else {
            // With the connection, if that is still in there.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(close)));
            return true;
        };
        // In this order, even where the task is dropped before it began: the slot in the limits comes back
        // when the connection is gone.
        let both = (close, Closing { inner: Arc::clone(self), id });
        let limit = self.policy.close_timeout;
        self.spawn_bounded(runtime, limit, async move {
            let (close, _closing) = both;
            if tokio::time::timeout(limit, close).await.is_err() {
                tracing::debug!(target: "pool_common", "a close took too long and was cut short");
            }
        });
        false
    }

    /// Closes the pool.
    pub(super) fn start_close(self: &Arc<Self>) {
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

    /// Waits until a closed pool is empty. The tasks that end its last connections may be on a runtime that
    /// stands still, and so may the maintenance task that watches them.
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
}

/// A close in progress: the slot in the limits comes back when it ends, however it ends.
struct Closing<M: Manager> {
    inner: Arc<Inner<M>>,
    id: ConnectionId,
}

impl<M: Manager> Drop for Closing<M> {
    fn drop(&mut self) {
        self.inner.with(|state, now| state.closed(self.id, now));
    }
}
