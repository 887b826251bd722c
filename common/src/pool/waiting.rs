//! From the state's answer to the caller: a connection, a dial, an error, or a place in the queue.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::time::{Instant, timeout_at};

use super::dial::Ticket;
use super::inner::{CellOf, Core, Granted, Inner, StateOf};
use super::lease::Lease;
use super::maintenance::is_here;
use super::peek::Condition;
use super::timeout::TimeLimit;
use crate::clock::Timestamp;
use crate::error::{DialError, Error, Stage};
use crate::manager::Manager;
use crate::state::{Answer, Refusal, WaiterId};
use crate::sync::wait_cell::WaitCell;

/// What the state answered, held by something that gives it back when it is dropped.
pub(super) enum Step<'a, M: Manager> {
    /// A connection, and whether it may go out.
    Lent(Lease<M>, Condition),
    /// Leave to dial.
    Dial(Ticket<M>),
    /// A place in the queue.
    Wait(Waiting<'a, M>),
    /// Something changed: ask the state again.
    Again,
    Refused(Refusal<DialError<M::Error>>),
    /// The dial that the caller depended on failed.
    DialFailed(DialError<M::Error>),
    TimedOut,
}

impl<M: Manager> Inner<M> {
    /// Holds what the state answered, except to wait.
    pub(super) fn hold<'a>(self: &Arc<Self>, granted: Granted<M>) -> Step<'a, M> {
        match granted.answer {
            Answer::Lend(lent) => {
                let was_idle = lent.was_idle;
                let condition = if was_idle { Condition::Unknown } else { Condition::Fine };
                Step::Lent(Lease::new(self, granted.node, lent), condition)
            }
            Answer::Dial(id) => Step::Dial(Ticket::new(Arc::clone(self), id, true)),
            Answer::Wait(_) => unreachable!("a waiter gets a place in the queue"),
            Answer::Retry => Step::Again,
            Answer::DialFailed(error) => Step::DialFailed(error),
            Answer::TimedOut => Step::TimedOut,
            Answer::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    /// The waiter that was granted this has left.
    pub(super) fn pass_on(self: &Arc<Self>, step: Step<'_, M>) {
        match step {
            Step::Lent(lease, condition) => lease.pass_on(condition == Condition::Unknown),
            // The dial gives its slot in the limits back.
            Step::Dial(ticket) => drop(ticket),
            Step::Wait(_) => unreachable!("the state grants no place in the queue"),
            Step::Again | Step::Refused(_) | Step::DialFailed(_) | Step::TimedOut => {}
        }
    }

    /// Waits in the queue with a separate timer, where the pool's maintenance task does not wake the caller, or
    /// not in time. When that task is late, as on a runtime that stands still, takes its work over: the end of a
    /// pause is its work, too.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time of the acquire is up first.
    pub(super) async fn wait_alone<'a>(
        self: &'a Arc<Self>,
        key: &M::Key,
        mut waiting: Waiting<'a, M>,
        acquire: &TimeLimit,
    ) -> Result<Step<'a, M>, Error<M::Error>> {
        loop {
            let look_again = self.until_late().map(|pause| Instant::now() + pause);
            let until = [acquire.deadline, look_again].into_iter().flatten().min();
            let waited = match until {
                Some(until) => timeout_at(until, &mut waiting).await,
                None => Ok((&mut waiting).await),
            };
            match waited {
                Ok(Some(step)) => return Ok(step),
                // The maintenance task ended, or moved to another runtime.
                Ok(None) => {}
                Err(_) if acquire.deadline.is_some_and(|end| until == Some(end)) => {
                    // The error does not count this caller among the waiters.
                    drop(waiting);
                    return Err(self.timed_out(key, Stage::Queue, acquire.elapsed()));
                }
                Err(_) => {}
            }
            self.revive_maintenance();
        }
    }

    /// The limit to be logged, when this caller is the first of the pool to wait at one.
    #[inline]
    pub(super) fn first_limit(&self, core: &Core<M>, id: WaiterId) -> Option<(&'static str, u32)> {
        if self.limit_said.load(Ordering::Relaxed) { None } else { core.state.limit_reached(id) }
    }

    /// Logs once in the life of the pool that a caller waits at a limit.
    #[cold]
    pub(super) fn say_limit(&self, key: &M::Key, (limit, max): (&'static str, u32)) {
        if !self.limit_said.swap(true, Ordering::Relaxed) {
            tracing::info!(
                target: "pool_common",
                limit,
                max,
                ?key,
                "all connections are in use, callers wait for the first time (said once for each pool)"
            );
        }
    }
}

/// A place in the queue. Dropping it gives it up, and passes on whatever had been granted.
///
/// As a future it waits for the next step, for as long as it is polled; `None` when it was called because
/// the maintenance task ended or moved.
pub(super) struct Waiting<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: WaiterId,
    /// Empty when the grant was taken.
    cell: Option<CellOf<M>>,
}

impl<'a, M: Manager> Waiting<'a, M> {
    pub(super) fn new(inner: &'a Arc<Inner<M>>, id: WaiterId, core: &mut Core<M>) -> Self {
        let cell = WaitCell::spare();
        core.state.attach(id, Arc::clone(&cell));
        Self { inner, id, cell: Some(cell) }
    }

    /// The first look, which leaves the waker.
    #[inline]
    pub(super) fn poll_first(&mut self, context: &Context<'_>) -> Poll<Option<Step<'a, M>>> {
        let Some(cell) = &self.cell else { return Poll::Pending };
        let found = cell.poll_first(context);
        self.found(found)
    }

    #[inline]
    fn found(&mut self, found: Poll<Option<Granted<M>>>) -> Poll<Option<Step<'a, M>>> {
        found.map(|called_or_granted| {
            let granted = called_or_granted?;
            let step = self.inner.hold(granted);
            if let Some(cell) = self.cell.take() {
                cell.keep();
            }
            Some(step)
        })
    }

    /// As polling the future, for a waiter that relies on the maintenance task: ready with `None` even when
    /// that task does not watch its deadline.
    pub(super) fn poll_watched(&mut self, context: &Context<'_>) -> Poll<Option<Step<'a, M>>> {
        self.look(context, false)
    }

    fn look(&mut self, context: &Context<'_>, is_alone: bool) -> Poll<Option<Step<'a, M>>> {
        let Some(cell) = &self.cell else { return Poll::Pending };
        let found = cell.poll(context);
        if found.is_ready() {
            return self.found(found);
        }
        let mut core = self.inner.lock();
        if let Some(answer) = StateOf::<M>::take_grant(&mut core.state, self.id) {
            // Granted within a call that is still running on this thread, and would be brought here later.
            let granted = Granted::new(answer, &mut core);
            drop(core);
            self.cell = None;
            return Poll::Ready(Some(self.inner.hold(granted)));
        }
        // The waiter's task may have moved here from the runtime of the maintenance task.
        let watched_on = core.watched_on(Timestamp::NEVER);
        drop(core);
        if is_alone || is_here(watched_on) { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl<'a, M: Manager> Future for Waiting<'a, M> {
    type Output = Option<Step<'a, M>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.look(context, true)
    }
}

impl<M: Manager> Drop for Waiting<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.leave(&cell);
        }
    }
}

impl<M: Manager> Waiting<'_, M> {
    #[inline(never)]
    fn leave(&self, cell: &WaitCell<Granted<M>>) {
        // No task is to be woken any more.
        let waker = cell.clear();
        let now = self.inner.clock.now();
        let mut core = self.inner.lock();
        let attached = core.state.detach(self.id);
        let leftover = core.state.cancel(self.id, now);
        self.inner.unlock(core);
        drop(leftover);
        match attached {
            // No thread will bring anything to this cell: the next waiter may have it.
            Some(attached) => attached.keep(),
            // From here on the thread that brings a grant passes it on.
            None => {
                if let Some(granted) = cell.leave() {
                    self.inner.pass_on(self.inner.hold(granted));
                }
            }
        }
        drop(waker);
    }
}
