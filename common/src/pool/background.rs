//! Ending background work from outside its task: a time limit that holds even when the runtime of the
//! task stands still, and the stop of a dial that no caller needs any more.
//!
//! The pool spawns tasks to dial, reset and close, and to end a lease, each with a time limit. A task is
//! spawned on the runtime of the caller that caused it. When that runtime stands still, so does the timer
//! of the limit, and a caller on another runtime would wait for the connection, or for its slot in the
//! limits, until its own deadline. So the future of such a task can be taken and dropped from outside:
//! the pool's maintenance does so when the limit has long passed, on the runtime where it runs by then.
//! Dropping the future gives back everything it holds (its dial, its lease, its slot in the limits).

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::state::ConnectionId;
use crate::sync::Mutex;

/// How long after its limit a task is given up. It ends by itself at the limit on a runtime that is
/// driven, even if its thread is busy at that moment.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// What is left of a task.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The future of a task, which is polled in the task and can be dropped by another thread.
pub(super) struct Work(Mutex<Progress>);

enum Progress {
    Waiting(Task),
    /// Its task polls it at this moment.
    Running,
    Over,
}

impl Work {
    /// Spawns `work` in a task that can be given up; `None` when it is over already.
    pub(super) fn spawn(
        runtime: &Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Arc<Self>> {
        let work = Arc::new(Self(Mutex::new(Progress::Waiting(Box::pin(work)))));
        let watched = Arc::downgrade(&work);
        runtime.spawn(async move { poll_fn(|cx| work.poll(cx)).await });
        watched.upgrade()
    }

    fn swap(&self, progress: Progress) -> Progress {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut *inside, progress)
    }

    /// The lock is not held over the future's code, part of which is the user's.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Progress::Waiting(mut task) = self.swap(Progress::Running) else {
            self.swap(Progress::Over);
            return Poll::Ready(());
        };
        let polled = task.as_mut().poll(cx);
        self.swap(if polled.is_ready() { Progress::Over } else { Progress::Waiting(task) });
        polled
    }

    /// Takes what is left of the work, unless its task polls it at this moment, which is returned.
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
    /// How many were ever added, which tells tasks with the same end apart.
    added: u64,
    /// At this number of tasks, the tasks that have ended are cleared away.
    crowded_at: usize,
}

/// A smaller number of tasks is not worth clearing.
const FEW: usize = 16;

impl Bounded {
    pub(super) fn add(&mut self, end: Instant, work: &Arc<Work>) {
        if self.tasks.len() >= self.crowded_at {
            self.tasks.retain(|_, work| work.strong_count() > 0);
            // Whenever the number has doubled, which costs a few steps for each task.
            self.crowded_at = (2 * self.tasks.len()).max(FEW);
        }
        self.added += 1;
        self.tasks.insert((end, self.added), Arc::downgrade(work));
    }

    /// When the next task that has not ended is to be given up.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some(first) = self.tasks.first_entry() {
            if first.get().strong_count() > 0 {
                return Some(first.key().0);
            }
            first.remove();
        }
        None
    }

    /// Takes out the tasks whose time is up, to be given up without the lock.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Arc<Work>> {
        let mut overdue = Vec::new();
        while self.next().is_some_and(|end| end <= now)
            && let Some((_, work)) = self.tasks.pop_first()
        {
            overdue.extend(work.upgrade());
        }
        overdue
    }

    /// Looks again, after some time, at work that ran when it was to be given up.
    pub(super) fn look_again(&mut self, now: Instant, running: &[Arc<Work>]) {
        running.iter().for_each(|work| self.add(now + GRACE, work));
    }

    /// As [`next`](Bounded::next), on the pool's clock, which reads `now`.
    pub(super) fn next_deadline(&mut self, now: Timestamp) -> Timestamp {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.next().map_or(Timestamp::NEVER, |end| now.after(left(end)))
    }
}

/// Drops the rest of work whose time is up. Returns the work that runs at this moment: it may be about to
/// end, or to wait forever, so the pool has to look at it again.
pub(super) fn give_up(overdue: Vec<Arc<Work>>) -> Vec<Arc<Work>> {
    let (mut tasks, mut running) = (Vec::new(), Vec::new());
    for work in overdue {
        match work.take() {
            Progress::Waiting(task) => tasks.push(task),
            Progress::Running => running.push(work),
            Progress::Over => {}
        }
    }
    if !tasks.is_empty() {
        tracing::warn!(
            target: "pool_common",
            count = tasks.len(),
            "work in the background was dropped: nobody drives the runtime it was spawned on",
        );
    }
    tasks.into_iter().for_each(drop_overdue);
    running
}

/// Drops what is left of a task, part of which is the user's code.
pub(super) fn drop_overdue<T>(task: T) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        tracing::error!(target: "pool_common", "work in the background that was given up panicked");
    }
}

/// How to stop each background dial in progress. Empty where the policy stops no dials.
#[derive(Default)]
pub(super) struct Stops(HashMap<ConnectionId, Arc<Notify>>);

impl Stops {
    /// A dial is about to start. Noted under the same lock as the state's wish for it, so that a
    /// wish to stop it, which can only come later, finds it.
    pub(super) fn add(&mut self, dial: ConnectionId) {
        self.0.insert(dial, Arc::new(Notify::new()));
    }

    /// What the task of `dial` listens to, until the dial has ended. A stop that comes before the task
    /// listens is not lost.
    pub(super) fn get(&self, dial: ConnectionId) -> Option<Arc<Notify>> {
        self.0.get(&dial).cloned()
    }

    /// The dial has ended.
    pub(super) fn remove(&mut self, dial: ConnectionId) {
        self.0.remove(&dial);
    }
}

/// Waits until the dial is to stop; forever where dials are not stopped.
pub(super) async fn stopped(stop: Option<&Notify>) {
    match stop {
        Some(stop) => stop.notified().await,
        None => std::future::pending().await,
    }
}

/// The runtime of the last caller that dialed or checked: for tasks that have to be spawned from outside
/// any runtime.
#[derive(Default)]
pub(super) struct KnownRuntime {
    handle: RwLock<Option<Handle>>,
    is_known: AtomicBool,
}

impl KnownRuntime {
    /// Remembers the runtime of the caller.
    pub(super) fn remember(&self) {
        let Ok(here) = Handle::try_current() else { return };
        let known = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.id() == here.id()) {
            return;
        }
        drop(known);
        let mut known = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace(here);
        drop(known);
        drop(before);
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// As [`remember`](KnownRuntime::remember), when none is known yet: cheaper, for callers that only
    /// wait.
    pub(super) fn remember_some(&self) {
        if !self.is_known.load(Ordering::Relaxed) {
            self.remember();
        }
    }

    /// The runtime that was remembered last.
    pub(super) fn remembered(&self) -> Option<Handle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The runtime to spawn on, if any is known: the caller's own, or else the one remembered.
    pub(super) fn any(&self) -> Option<Handle> {
        Handle::try_current().ok().or_else(|| self.remembered())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn work(task: impl Future<Output = ()> + Send + 'static) -> Arc<Work> {
        Arc::new(Work(Mutex::new(Progress::Waiting(Box::pin(task)))))
    }

    #[test]
    fn work_that_runs_when_its_time_is_up_is_looked_at_again() {
        let bounded = Arc::new(Mutex::new(Bounded::default()));
        let within = Arc::clone(&bounded);
        let later = Instant::now() + Duration::from_secs(60);
        // It is looked at from another thread, say, while it is being polled.
        let work = work(poll_fn(move |_| {
            let mut bounded = within.lock().expect("no panic under it");
            let running = give_up(bounded.take_overdue(later));
            assert_eq!(running.len(), 1);
            bounded.look_again(later, &running);
            Poll::Pending
        }));
        bounded.lock().expect("no panic under it").add(Instant::now(), &work);
        assert!(work.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mut bounded = bounded.lock().expect("no panic under it");
        assert!(bounded.take_overdue(later).is_empty(), "it gets some more time");
        let running = give_up(bounded.take_overdue(later + GRACE));
        assert_eq!(running.len(), 0);
        assert!(matches!(work.take(), Progress::Over), "it was dropped");
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
