//! Background work whose time limit holds even when its runtime stands still.
//!
//! The pool spawns tasks to dial, reset and close, and to end a lease, each with a time limit. A task is spawned on the
//! runtime of the caller that caused it. When that runtime stands still, so does the timer of the
//! limit, and a caller on another runtime would wait for the connection, or for its place in the
//! limits, until its own deadline. So the future of such a task can be taken and dropped from outside:
//! the pool's maintenance does so when the limit has long passed, on whatever runtime it is by then.
//! Dropping the future gives back everything it holds (its dial, its lease, its slot in the limits).

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Inner;
use crate::clock::Timestamp;
use crate::manager::Manager;
use crate::sync::Mutex;

/// How long after its limit a task is given up. It ends by itself at the limit on a runtime that is
/// driven, even if its thread is busy at that moment.
const GRACE: Duration = Duration::from_millis(100);

/// What is left of a task.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future of a task, which is polled in the task and can be dropped by another thread.
pub(super) struct Work(Mutex<Progress>);

enum Progress {
    Waiting(Task),
    /// Its task polls it at this moment.
    Running,
    Over,
}

impl Work {
    fn swap(&self, progress: Progress) -> Progress {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut *inside, progress)
    }

    /// The lock is not held over the future's code: that is the user's in part.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Progress::Waiting(mut task) = self.swap(Progress::Running) else {
            self.swap(Progress::Over);
            return Poll::Ready(());
        };
        let polled = task.as_mut().poll(cx);
        self.swap(if polled.is_ready() { Progress::Over } else { Progress::Waiting(task) });
        polled
    }

    /// Takes what is left of it, unless it runs at this moment, which is told back.
    fn take(&self) -> Progress {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*inside {
            Progress::Running => Progress::Running,
            Progress::Waiting(_) | Progress::Over => mem::replace(&mut *inside, Progress::Over),
        }
    }
}

/// The tasks that have a limit, in the order of their limits' ends. Limits differ in length, and most
/// work ends long before its own, so neither adding to them nor taking from them may walk over them.
///
/// The time is the system's: tokio's may be paused, and then no runtime stands still.
#[derive(Default)]
pub(super) struct Bounded {
    tasks: BTreeMap<(Instant, u64), Weak<Work>>,
    /// How many were ever added, which tells those with the same end apart.
    added: u64,
    /// When there are so many, those that have ended are cleared away.
    crowded_at: usize,
}

/// So few are not worth clearing.
const FEW: usize = 16;

impl Bounded {
    fn add(&mut self, end: Instant, work: &Arc<Work>) {
        if self.tasks.len() >= self.crowded_at {
            self.tasks.retain(|_, work| work.strong_count() > 0);
            // Whenever they have doubled, which costs each a few steps.
            self.crowded_at = (2 * self.tasks.len()).max(FEW);
        }
        self.added += 1;
        self.tasks.insert((end, self.added), Arc::downgrade(work));
    }

    /// When the next one that has not ended is to be given up.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some(first) = self.tasks.first_entry() {
            if first.get().strong_count() > 0 {
                return Some(first.key().0);
            }
            first.remove();
        }
        None
    }

    /// Takes out those whose time is up, to be given up without the lock.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Arc<Work>> {
        let mut overdue = Vec::new();
        while self.next().is_some_and(|end| end <= now)
            && let Some((_, work)) = self.tasks.pop_first()
        {
            overdue.extend(work.upgrade());
        }
        overdue
    }

    /// Looks again at what ran when it was to be given up.
    fn look_again(&mut self, now: Instant, running: &[Arc<Work>]) {
        running.iter().for_each(|work| self.add(now + GRACE, work));
    }

    /// The same on the pool's clock, which reads `now`.
    pub(super) fn next_deadline(&mut self, now: Timestamp) -> Timestamp {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.next().map_or(Timestamp::NEVER, |end| now.after(left(end)))
    }
}

/// Takes what is left of each; what runs at this moment stays.
fn give_up(overdue: Vec<Arc<Work>>) -> (Vec<Task>, Vec<Arc<Work>>) {
    let (mut tasks, mut running) = (Vec::new(), Vec::new());
    for work in overdue {
        match work.take() {
            Progress::Waiting(task) => tasks.push(task),
            Progress::Running => running.push(work),
            Progress::Over => {}
        }
    }
    (tasks, running)
}

/// Drops what is left of a task: the user's code in part.
fn drop_overdue<T>(task: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        tracing::error!(target: "pool_common", "work in the background that was given up panicked");
    }
}

impl<M: Manager> Inner<M> {
    /// Drops the rest of work whose time is up. Work that runs at this moment may be about to end, or
    /// to wait forever: the pool looks at it again.
    pub(super) fn give_up_overdue(self: &Arc<Self>, overdue: Vec<Arc<Work>>) {
        if overdue.is_empty() {
            return;
        }
        let (tasks, running) = give_up(overdue);
        if !tasks.is_empty() {
            tracing::warn!(
                target: "pool_common",
                count = tasks.len(),
                "work in the background was dropped: nobody drives the runtime it was spawned on",
            );
        }
        tasks.into_iter().for_each(drop_overdue);
        if !running.is_empty() {
            let now = self.clock.now();
            let mut core = self.lock();
            core.bounded.look_again(Instant::now(), &running);
            core.state.note_deadline(now.after(GRACE));
            self.unlock(core);
        }
        // It may have come to wait meanwhile, and its task be gone.
        running.into_iter().for_each(drop_overdue);
    }

    /// Spawns work that ends by itself within `limit`, and sees to it that it does.
    pub(crate) fn spawn_bounded(
        self: &Arc<Self>,
        runtime: &Handle,
        limit: Duration,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let work = Arc::new(Work(Mutex::new(Progress::Waiting(Box::pin(work)))));
        let watched = Arc::downgrade(&work);
        runtime.spawn(async move { poll_fn(|cx| work.poll(cx)).await });
        // A limit beyond all time has no end. Nor has it to be watched when it has ended already.
        let end = Instant::now().checked_add(limit.saturating_add(GRACE));
        let (Some(end), Some(work)) = (end, watched.upgrade()) else { return };
        let now = self.clock.now();
        let mut core = self.lock();
        // Of a closed pool too: a caller that waits for its end depends on it.
        core.bounded.add(end, &work);
        core.state.note_deadline(now.after(limit.saturating_add(GRACE)));
        let is_closed = core.state.is_closed();
        self.unlock(core);
        if is_closed {
            // From now on they depend on who watches this.
            self.tell_closing();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_runs_when_its_time_is_up_is_looked_at_again() {
        let bounded = Arc::new(Mutex::new(Bounded::default()));
        let within = Arc::clone(&bounded);
        let later = Instant::now() + Duration::from_secs(60);
        // It is looked at from another thread, say, while it is being polled.
        let task = poll_fn(move |_| {
            let mut bounded = within.lock().expect("no panic under it");
            let (tasks, running) = give_up(bounded.take_overdue(later));
            assert_eq!((tasks.len(), running.len()), (0, 1));
            bounded.look_again(later, &running);
            Poll::Pending
        });
        let work = Arc::new(Work(Mutex::new(Progress::Waiting(Box::pin(task)))));
        bounded.lock().expect("no panic under it").add(Instant::now(), &work);
        assert!(work.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mut bounded = bounded.lock().expect("no panic under it");
        assert!(bounded.take_overdue(later).is_empty(), "it gets some more time");
        let (tasks, running) = give_up(bounded.take_overdue(later + GRACE));
        assert_eq!((tasks.len(), running.len()), (1, 0));
        assert_eq!(bounded.next(), None);
    }

    #[test]
    fn work_that_has_ended_takes_no_room() {
        let mut bounded = Bounded::default();
        let now = Instant::now();
        let still_runs = || Arc::new(Work(Mutex::new(Progress::Running)));
        let runs = [still_runs(), still_runs()];
        bounded.add(now, &runs[0]);
        for seconds in 0..10_000 {
            // Of ever shorter limits, so that each belongs before all others.
            bounded.add(now + Duration::from_secs(20_000 - seconds), &still_runs());
            assert!(bounded.tasks.len() <= 2 * FEW);
        }
        bounded.add(now, &runs[1]);
        let overdue = bounded.take_overdue(now);
        assert!(overdue.iter().zip(&runs).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert_eq!(overdue.len(), 2);
        assert_eq!(bounded.next(), None, "the others have ended");
    }
}
