//! The one task of a pool: it sleeps until the state's next deadline, or until a lease has been out
//! for too long. It is started when there is a deadline for the first time, and ends with the pool;
//! with leak detection a closed pool keeps it until every lease was returned or reported.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio::sync::Notify;

use super::Inner;
use super::inner::Core;
use super::perform::wake;
use super::seat::Seat;
use crate::clock::Timestamp;
use crate::manager::Manager;

/// A clock moved by hand may still read a moment before the deadline that a timer has reached.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// A coarse clock that is further behind a timer than this is not the clock the timer goes by.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// Whether there is a maintenance task, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maintenance {
    None,
    /// It was spawned on this runtime, which had ended, or it panicked there.
    Failed(Id),
    /// Spawned, but it has not run yet: its runtime may have ended.
    Starting,
    /// On this runtime.
    On(Id),
}

impl Maintenance {
    pub(super) fn is_there(self) -> bool {
        !matches!(self, Self::None | Self::Failed(_))
    }

    /// Whether it is sure to run for as long as the caller's task does, so that the caller needs
    /// no timer of its own. Another runtime may stand still, or all of its threads be blocked.
    pub(super) fn watches_here(self) -> bool {
        match self {
            Self::On(runtime) => Handle::try_current().is_ok_and(|here| here.id() == runtime),
            Self::None | Self::Failed(_) | Self::Starting => false,
        }
    }
}

impl<M: Manager> Core<M> {
    /// Whether somebody who waits here is told when its time is up.
    #[inline]
    pub(super) fn watches_here(&self) -> bool {
        !self.clocks_differ && self.maintenance.watches_here()
    }
}

impl<M: Manager> Inner<M> {
    pub(super) fn start_maintenance(self: &Arc<Self>) {
        let runtime = self.runtime();
        let mut presence = Presence {
            pool: Weak::clone(&self.me),
            runtime: runtime.as_ref().map(Handle::id),
            has_run: false,
        };
        let Some(runtime) = runtime else { return };
        let earlier = Arc::clone(&self.earlier);
        runtime.spawn(async move {
            let mut in_time = false;
            while let Some(pause) = presence.maintain(in_time) {
                in_time = wait(&earlier, pause).await;
            }
        });
    }

    /// The maintenance task has to look earlier than it meant to.
    ///
    /// Told by a worker of a runtime, it would run next on that worker and nowhere else, however
    /// long the task that is running there goes on; so a thread that is no worker tells it.
    pub(super) fn nudge_maintenance(&self) {
        let nudge = Nudge(Arc::clone(&self.earlier));
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                runtime.spawn_blocking(move || drop(nudge));
            }
            _ => drop(nudge),
        }
    }

    /// Starts the task again when there is something to wait for and it ended with its runtime; not
    /// where that has failed already.
    pub(super) fn revive_maintenance(self: &Arc<Self>) {
        let mut core = self.lock();
        let in_vain = match core.maintenance {
            Maintenance::Failed(there) => self.runtime().is_none_or(|here| here.id() == there),
            _ => false,
        };
        if !core.maintenance.is_there() && !in_vain && !core.state.is_closed() {
            self.renote_deadlines(&mut core);
            if core.has_work() {
                self.follow_up(core);
            }
        }
    }

    /// Nobody watches: everything that will be due has to be noted again.
    fn renote_deadlines(&self, core: &mut Core<M>) {
        core.armed = Timestamp::NEVER;
        core.state.renote_deadline();
        core.state.note_deadline(self.next_leak());
    }
}

/// Wakes the maintenance task when it is dropped, also by a runtime that ends.
struct Nudge(Arc<Notify>);

impl Drop for Nudge {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Whether it slept for as long as it was told.
async fn wait(earlier: &Notify, pause: Option<Duration>) -> bool {
    match pause {
        None => {
            earlier.notified().await;
            false
        }
        Some(pause) => tokio::select! {
            () = tokio::time::sleep(pause.max(SHORTEST_SLEEP)) => true,
            () = earlier.notified() => false,
        },
    }
}

/// Those who wait are to look whether somebody still watches.
fn call<M: Manager>(seats: &[Arc<Seat<M>>]) {
    seats.iter().filter_map(|seat| seat.waker()).for_each(wake);
}

/// The task's hold on the pool; lets go when the task ends, even with its runtime.
struct Presence<M: Manager> {
    pool: Weak<Inner<M>>,
    runtime: Option<Id>,
    has_run: bool,
}

impl<M: Manager> Presence<M> {
    /// Does what is due. Returns how long to sleep (`None`: until told), or `None` to end.
    fn maintain(&mut self, in_time: bool) -> Option<Option<Duration>> {
        let inner = self.pool.upgrade()?;
        let mut core = inner.lock();
        if !std::mem::replace(&mut self.has_run, true) {
            core.maintenance = Maintenance::On(Handle::current().id());
        }
        let mut now = inner.clock.now();
        let mut untimed = Vec::new();
        if in_time && inner.clock.trails_timers() && core.armed != Timestamp::NEVER {
            if core.armed.since(now) > LONGEST_TICK && !core.clocks_differ {
                core.clocks_differ = true;
                core.state.forget_deadlines();
                untimed = core.all_seats();
            }
            now = now.max(core.armed);
        }
        if !core.state.is_closed() {
            core.state.handle_timeout(now);
        }
        inner.unlock(core);
        call(&untimed);
        inner.report_leaks(now);
        let mut core = inner.lock();
        // Read under the lock: a lease that begins later notes its deadline after this.
        let leak = inner.next_leak();
        let next = core.state.next_deadline();
        core.armed = if core.state.is_closed() { leak } else { next.min(leak) };
        if core.state.is_closed() && leak == Timestamp::NEVER {
            return None;
        }
        core.asleep_until = core.armed;
        let pause = (core.armed != Timestamp::NEVER).then(|| core.armed.since(inner.clock.now()));
        Some(pause)
    }
}

impl<M: Manager> Drop for Presence<M> {
    fn drop(&mut self) {
        let Some(inner) = self.pool.upgrade() else { return };
        let mut core = inner.lock();
        let failed = self.runtime.map_or(Maintenance::None, Maintenance::Failed);
        // Its runtime may have ended: the next to use the pool starts another task. One that never
        // ran was spawned on a runtime that had ended already; trying again at once would be
        // trying for ever, so that is left to `revive_maintenance`. So would it be for those who
        // wait when it panicked: a runtime without time does that to it.
        let panicked = std::thread::panicking();
        core.maintenance = if self.has_run && !panicked { Maintenance::None } else { failed };
        core.asleep_until = Timestamp::NEVER;
        if self.has_run {
            inner.renote_deadlines(&mut core);
        } else if self.runtime.is_none() {
            // Nobody who waits could do better.
            return;
        }
        // Nobody watches the deadlines of those who wait: they have to do so themselves.
        let waiting = core.all_seats();
        drop(core);
        call(&waiting);
    }
}

impl<M: Manager> Drop for Inner<M> {
    fn drop(&mut self) {
        self.earlier.notify_one();
        drop(self.lock.retire());
    }
}
