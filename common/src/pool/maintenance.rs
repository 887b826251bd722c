//! The one task of a pool: it sleeps until the state's next deadline, or until a lease has been out
//! for too long. It is started when there is a deadline for the first time, and ends with the pool.
//! A closed pool keeps it until the tasks with a limit have ended, and with leak detection until
//! every lease was returned or reported. Decision 8 has the reasons.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio::sync::Notify;

use super::background::{GRACE, Work, drop_overdue, give_up};
use super::inner::{CellOf, Core, Inner, Keeper};
use super::leaks::{self, LeaseInfo};
use crate::clock::Timestamp;
use crate::manager::Manager;

/// How often the state is asked in a row to do what is due, at most: even if something stayed due, this
/// task would sleep.
const MOST_ROUNDS: u32 = 1_000;

/// A clock moved by hand may still read a moment before the deadline that a timer has reached.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// A coarse clock that is further behind a timer than this is not the clock the timer goes by.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// The task is late when this much time has passed since it should have looked.
const LATE: Duration = Duration::from_millis(50);

/// A waiter on another runtime than the task's checks the task at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whether the caller is on this runtime. This counts references that all threads count, so it is not
/// called under the lock.
#[inline]
pub(super) fn is_here(runtime: Option<Id>) -> bool {
    runtime.is_some_and(|there| Handle::try_current().is_ok_and(|here| here.id() == there))
}

/// How the maintenance task learns of an earlier deadline.
pub(super) enum Rearm<M: Manager> {
    Wake(Arc<Notify>),
    /// This runtime has no task: one is started. A task on another runtime ends, and the waiters are
    /// called: they may have relied on that task, or on having no deadline to watch.
    Start {
        runtime: Handle,
        earlier: Arc<Notify>,
        replaced: Option<Arc<Notify>>,
        waiting: Vec<CellOf<M>>,
    },
}

impl<M: Manager> Core<M> {
    /// The runtime on which the task will wake a waiter at `deadline`; `None` if that is not certain.
    ///
    /// The task is sure to run for as long as the caller's does, where both are on one runtime:
    /// another may stand still, or all of its threads be blocked. A task that sleeps until an earlier
    /// time wakes in time; a task that still has to be told of an earlier time might not be told.
    #[inline]
    pub(super) fn watched_on(&self, deadline: Timestamp) -> Option<Id> {
        let keeper = self.keeper.as_ref().filter(|_| !self.clocks_differ)?;
        let in_time = keeper.asleep && self.armed <= deadline;
        let watches = keeper.runs && (in_time || deadline == Timestamp::NEVER);
        watches.then_some(keeper.runtime)
    }

    /// The task has to look at `deadline`, earlier than it meant to.
    ///
    /// A task on another runtime may not be able to. So a new task is started here, the first one ends
    /// when it notices, and the waiters that relied on it have to be called.
    pub(super) fn arm(
        &mut self,
        deadline: Timestamp,
        remembered: Option<Handle>,
        now: Timestamp,
    ) -> Option<Rearm<M>> {
        self.armed = deadline;
        let here = Handle::try_current().ok();
        if let Some(keeper) = &mut self.keeper
            && here.as_ref().is_none_or(|here| here.id() == keeper.runtime)
        {
            keeper.asleep = false;
            return Some(Rearm::Wake(Arc::clone(&keeper.earlier)));
        }
        let replaced = self.keeper.take().map(|keeper| keeper.earlier);
        let runtime = here.or(remembered)?;
        let earlier = Arc::new(Notify::new());
        let keeper = Keeper {
            runtime: runtime.id(),
            earlier: Arc::clone(&earlier),
            since: now,
            runs: false,
            asleep: false,
        };
        self.keeper = Some(keeper);
        Some(Rearm::Start { runtime, earlier, replaced, waiting: self.all_cells() })
    }

    /// The cells of all waiters, to call them.
    fn all_cells(&self) -> Vec<CellOf<M>> {
        self.state.attachments().cloned().collect()
    }

    /// No task watches: everything that will be due has to be noted again.
    fn renote_deadlines(&mut self, leak: Timestamp, now: Timestamp) {
        self.armed = Timestamp::NEVER;
        // This forgets earlier notes.
        let of_state = self.state.next_deadline();
        // A closed pool has no deadlines but those of its tasks and leases.
        if !self.state.is_closed() {
            self.state.note_deadline(of_state.min(self.idle_look.due));
        }
        self.state.note_deadline(self.bounded.next_deadline(now).min(leak));
    }
}

impl<M: Manager> Inner<M> {
    pub(super) fn rearm(self: &Arc<Self>, rearm: Rearm<M>) {
        match rearm {
            Rearm::Wake(earlier) => earlier.notify_one(),
            Rearm::Start { runtime, earlier, replaced, waiting } => {
                if let Some(replaced) = replaced {
                    replaced.notify_one();
                }
                call(&waiting);
                self.emptied.notify_waiters();
                let mut presence =
                    Presence { pool: Weak::clone(&self.me), earlier, has_run: false };
                runtime.spawn(async move {
                    let mut in_time = false;
                    while let Some(pause) = presence.maintain(in_time) {
                        in_time = wait(&presence.earlier, pause).await;
                    }
                });
            }
        }
        // A worker itself runs the task that it has woken or spawned last, after the task that it is
        // running now, however long that takes. Other workers may run the tasks that it has woken
        // or spawned before.
        if let Ok(here) = Handle::try_current()
            && here.runtime_flavor() == RuntimeFlavor::MultiThread
        {
            here.spawn(async {});
        }
    }

    /// Drops the rest of work whose time is up.
    fn give_up_overdue(self: &Arc<Self>, overdue: Vec<Arc<Work>>) {
        if overdue.is_empty() {
            return;
        }
        let running = give_up(overdue);
        if !running.is_empty() {
            let now = self.clock.now();
            let mut core = self.lock();
            core.bounded.look_again(Instant::now(), &running);
            core.state.note_deadline(now.after(GRACE));
            self.unlock(core);
        }
        // Such work may have come to wait meanwhile, and its task may be gone.
        running.into_iter().for_each(drop_overdue);
    }

    /// When the next lease will have been out for too long; never without leak detection.
    fn next_leak(&self) -> Timestamp {
        self.leaks.as_ref().map_or(Timestamp::NEVER, leaks::Leaks::next_deadline)
    }

    /// Warns of the leases that are due.
    fn report_leaks(&self, now: Timestamp) {
        let Some(leaks) = &self.leaks else { return };
        let due = leaks.take_due(now);
        if !due.is_empty() {
            self.describe(due, now).iter().for_each(leaks::report);
        }
    }

    /// The leases that are out, longest held first.
    pub(super) fn leases(&self) -> Vec<LeaseInfo<M::Key>> {
        let Some(leaks) = &self.leaks else { return Vec::new() };
        self.describe(leaks.all(), self.clock.now())
    }

    fn describe(&self, leases: Vec<leaks::Entry>, now: Timestamp) -> Vec<LeaseInfo<M::Key>> {
        let core = self.lock();
        leaks::describe(leases, now, |connection| core.state.key_of(connection).cloned())
    }

    /// Starts the task again when there is something to wait for and it ended with its runtime, or
    /// is late on another; not where that has failed already.
    pub(super) fn revive_maintenance(self: &Arc<Self>) {
        let Ok(here) = Handle::try_current() else { return };
        let mut core = self.lock();
        let is_needed = match &core.keeper {
            None => core.failed_on != Some(here.id()),
            Some(keeper) => {
                // A new one gets its time, or two runtimes would take it from each other.
                let is_late = core.armed.max(keeper.since).after(LATE) < self.clock.now();
                keeper.runtime != here.id() && is_late
            }
        };
        let has_work = !core.state.is_closed() || core.bounded.next().is_some();
        if is_needed && has_work {
            let late = core.keeper.take();
            core.renote_deadlines(self.next_leak(), self.clock.now());
            self.unlock(core);
            if let Some(late) = late {
                late.earlier.notify_one();
            }
        }
    }

    /// As [`until_late`](Inner::until_late), for a caller that waits for the end of a closed pool: `None`
    /// even when no task has a time limit.
    pub(super) fn until_late_to_close(&self) -> Option<Duration> {
        let is_bounded = self.lock().bounded.next().is_some();
        if is_bounded { self.until_late() } else { None }
    }

    /// How long a waiter on this runtime may rely on the task; `None` means for the whole wait, on the task's
    /// runtime or where there can be no task.
    pub(super) fn until_late(&self) -> Option<Duration> {
        let here = Handle::try_current().ok()?.id();
        let core = self.lock();
        let elsewhere = core.keeper.as_ref().is_some_and(|keeper| keeper.runtime != here);
        let until_late = core.armed.since(self.clock.now()).saturating_add(2 * LATE);
        elsewhere.then(|| until_late.min(LOOK_AGAIN))
    }
}

/// Sleeps. Returns whether the pause has passed, and the sleep was not cut short.
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

/// Calls waiters: they check whether a task still watches their deadlines.
fn call<M: Manager>(cells: &[CellOf<M>]) {
    cells.iter().for_each(|cell| cell.call());
}

/// The task's hold on the pool, which it lets go of when it ends, even with its runtime.
struct Presence<M: Manager> {
    pool: Weak<Inner<M>>,
    earlier: Arc<Notify>,
    has_run: bool,
}

impl<M: Manager> Presence<M> {
    /// What the pool knows of this task; `None` when another task has taken its place.
    fn keeper<'a>(&self, core: &'a mut Core<M>) -> Option<&'a mut Keeper> {
        core.keeper.as_mut().filter(|keeper| Arc::ptr_eq(&keeper.earlier, &self.earlier))
    }

    /// Does what is due. Returns how long to sleep (with `None` inside: until woken), or `None` to end.
    fn maintain(&mut self, in_time: bool) -> Option<Option<Duration>> {
        let inner = self.pool.upgrade()?;
        let mut core = inner.lock();
        self.has_run = true;
        let keeper = self.keeper(&mut core)?;
        keeper.runs = true;
        keeper.asleep = false;
        core.failed_on = None;
        let mut now = inner.clock.now();
        let mut untimed = Vec::new();
        if in_time && inner.clock.trails_timers() && core.armed != Timestamp::NEVER {
            if core.armed.since(now) > LONGEST_TICK && !core.clocks_differ {
                core.clocks_differ = true;
                core.state.forget_deadlines();
                untimed = core.all_cells();
            }
            now = now.max(core.armed);
        }
        // The state does a bounded number of things at a time: what else is due does not wait for another
        // sleep, but other threads get the lock in between.
        for _ in 0..MOST_ROUNDS {
            if core.state.is_closed() {
                break;
            }
            core.state.handle_timeout(now);
            if core.state.next_deadline() > now {
                break;
            }
            inner.unlock(core);
            core = inner.lock();
        }
        let overdue = core.bounded.take_overdue(Instant::now());
        let looks = inner.look_every.filter(|_| core.idle_look.due <= now);
        inner.unlock(core);
        inner.give_up_overdue(overdue);
        call(&untimed);
        if let Some(every) = looks {
            inner.look_at_idle(every);
        }
        inner.report_leaks(now);
        let mut core = inner.lock();
        self.keeper(&mut core)?;
        // Read under the lock: a lease that begins later notes its deadline after this.
        let leak = inner.next_leak();
        let now = inner.clock.now();
        let of_state = core.state.next_deadline().min(core.idle_look.due);
        let is_closed = core.state.is_closed();
        let mut armed = core.bounded.next_deadline(now).min(leak);
        if !is_closed {
            armed = armed.min(of_state);
        }
        core.armed = armed;
        if is_closed && armed == Timestamp::NEVER {
            return None;
        }
        self.keeper(&mut core)?.asleep = true;
        Some((armed != Timestamp::NEVER).then(|| armed.since(inner.clock.now())))
    }
}

impl<M: Manager> Drop for Presence<M> {
    fn drop(&mut self) {
        let Some(inner) = self.pool.upgrade() else { return };
        let mut core = inner.lock();
        let Some(keeper) = self.keeper(&mut core) else { return };
        let runtime = keeper.runtime;
        core.keeper = None;
        // Its runtime may have ended: the next user of the pool starts another task. A task that never
        // ran was spawned on a runtime that had ended already. To try again at once would be to try
        // forever, so that is left to `revive_maintenance`. The same holds after a panic, which a
        // runtime without time causes: the waiters would start the task again and again.
        if !self.has_run || std::thread::panicking() {
            core.failed_on = Some(runtime);
        }
        if self.has_run {
            core.renote_deadlines(inner.next_leak(), inner.clock.now());
        }
        // No task watches the deadlines of the waiters any more: they have to do so themselves.
        let waiting = core.all_cells();
        drop(core);
        call(&waiting);
        inner.emptied.notify_waiters();
    }
}
