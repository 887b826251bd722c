//! The one task of a pool: it sleeps until the state's next deadline. It is started when there is
//! a deadline for the first time, and ends with the pool.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Inner;
use crate::clock::Timestamp;
use crate::manager::Manager;

/// A coarse clock may still read a moment before the deadline that a timer has reached.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

impl<M: Manager> Inner<M> {
    pub(super) fn start_maintenance(self: &Arc<Self>) {
        let mut presence = Presence { pool: Weak::clone(&self.me), has_run: false };
        let Some(runtime) = self.runtime() else { return };
        let earlier = Arc::clone(&self.earlier);
        runtime.spawn(async move {
            while let Some(pause) = presence.maintain() {
                wait(&earlier, pause).await;
            }
        });
    }

    /// Starts the task again when there is something to wait for and it ended with its runtime.
    /// Called from a runtime that is alive.
    pub(super) fn revive_maintenance(self: &Arc<Self>) {
        let mut core = self.lock();
        if !core.maintained && !core.state.is_closed() {
            core.armed = Timestamp::NEVER;
            core.state.renote_deadline();
            if core.has_work() {
                self.follow_up(core);
            }
        }
    }
}

async fn wait(earlier: &Notify, pause: Option<Duration>) {
    match pause {
        None => earlier.notified().await,
        Some(pause) => tokio::select! {
            () = tokio::time::sleep(pause.max(SHORTEST_SLEEP)) => {}
            () = earlier.notified() => {}
        },
    }
}

/// The task's hold on the pool; lets go when the task ends, even with its runtime.
struct Presence<M: Manager> {
    pool: Weak<Inner<M>>,
    has_run: bool,
}

impl<M: Manager> Presence<M> {
    /// Does what is due. Returns how long to sleep (`None`: until told), or `None` to end.
    fn maintain(&mut self) -> Option<Option<Duration>> {
        self.has_run = true;
        let inner = self.pool.upgrade()?;
        inner.with(|state, now| state.handle_timeout(now));
        let now = inner.clock.now();
        let mut core = inner.lock();
        if core.state.is_closed() {
            return None;
        }
        core.armed = core.state.next_deadline();
        let pause = (core.armed != Timestamp::NEVER).then(|| core.armed.since(now));
        Some(pause)
    }
}

impl<M: Manager> Drop for Presence<M> {
    fn drop(&mut self) {
        if let Some(inner) = self.pool.upgrade() {
            let mut core = inner.lock();
            core.maintained = false;
            // Its runtime may have ended: the next to use the pool starts another task. One that
            // never ran was spawned on a runtime that had ended already; trying again at once
            // would be trying for ever, so that is left to `revive_maintenance`.
            if self.has_run {
                core.armed = Timestamp::NEVER;
                core.state.renote_deadline();
            }
        }
    }
}

impl<M: Manager> Drop for Inner<M> {
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}
