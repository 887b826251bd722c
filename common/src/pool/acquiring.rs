//! The future of an acquire: a hit at once, a plain wait, or the long way.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Inner;
use super::acquire::{SlowAcquire, Step};
use super::lock::Guard;
use super::look::Look;
use super::maintenance::is_here;
use super::waiting::{Found, Waiting};
use crate::clock::Timestamp;
use crate::error::{Error, Stage};
use crate::lease::Lease;
use crate::manager::Manager;
use crate::metrics::Since;
use crate::state::{Acquire, Want};

/// What [`Pool::acquire`](crate::Pool::acquire) returns: resolves to a [`Lease`].
///
/// Nothing happens before it is first polled; dropping it gives everything back. It can be moved
/// while it is polled (`Unpin`); polling it after its end panics.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Acquiring<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    key: &'a M::Key,
    want: Want,
    /// The line of code that asked.
    place: &'static Location<'static>,
    started: Timestamp,
    /// When it stops waiting; set by its first wait.
    deadline: Option<Timestamp>,
    /// When it was no hit, for the metrics.
    waiting_since: Since,
    progress: Progress<'a, M>,
}

enum Progress<'a, M: Manager> {
    Start,
    /// In the queue; the pool's maintenance watches the deadline.
    Waiting(Waiting<'a, M>),
    Slow(SlowAcquire<'a, M>),
    Done,
}

impl<'a, M: Manager> Acquiring<'a, M> {
    #[inline]
    pub(super) fn new(
        inner: &'a Arc<Inner<M>>,
        key: &'a M::Key,
        fresh: bool,
        place: &'static Location<'static>,
    ) -> Self {
        let want = Want { fresh, again: false };
        let started = Timestamp::ZERO;
        Self {
            inner,
            key,
            want,
            place,
            started,
            deadline: None,
            waiting_since: Since::default(),
            progress: Progress::Start,
        }
    }

    /// Asks the state for more than an idle connection; `None` when it is in the queue now.
    fn begin(
        &mut self,
        mut core: Guard<M>,
        now: Timestamp,
        context: &Context<'_>,
    ) -> Option<Step<'a, M>> {
        let inner = self.inner;
        let deadline = *self.deadline.get_or_insert_with(|| {
            self.started = now;
            self.waiting_since = inner.meter.now();
            inner.end_of_wait(now)
        });
        let watched_until = deadline;
        let deadline = if core.clocks_differ { Timestamp::NEVER } else { deadline };
        // With a first try, the idle list was looked at under this lock already.
        let answer = if self.want.again {
            core.state.acquire_until(self.key, self.want, deadline, now)
        } else {
            core.state.acquire_anew(self.key, self.want, deadline, now)
        };
        let Acquire::Wait(id) = answer else {
            inner.unlock(core);
            return Some(inner.hold(answer));
        };
        let watched_on = core.watched_on(watched_until);
        // Whatever goes wrong from here on, its place in the queue comes back.
        let mut waiting = Waiting::new(inner, id, &mut core);
        let limit = inner.first_limit(&core, id);
        inner.unlock(core);
        if let Some(limit) = limit {
            inner.say_limit(self.key, limit);
        }
        let found = waiting.sit(context);
        if let Found::Step(given) = found {
            return Some(given);
        }
        inner.remember_some_runtime();
        // Called already, it may have relied on who does not watch any more.
        if matches!(found, Found::Called) || !is_here(watched_on) {
            return Some(Step::Wait(waiting));
        }
        self.progress = Progress::Waiting(waiting);
        None
    }

    fn go_slow(&mut self, step: Step<'a, M>) {
        let waited = match self.deadline {
            // Each of the two looks at a coarse clock may be a tick behind: a deadline that follows from
            // this is never early.
            Some(_) => self.waited().saturating_sub(self.inner.clock.resolution()),
            None => {
                self.waiting_since = self.inner.meter.now();
                Duration::ZERO
            }
        };
        self.progress = Progress::Slow(self.inner.acquire_slow(self.key, self.want, waited, step));
    }

    fn waited(&self) -> Duration {
        self.inner.clock.now().since(self.started)
    }

    /// Everything after a look at the idle list that found nothing; `missed` is the lock under which
    /// it did, if this follows at once.
    #[inline(never)]
    fn go_on(
        &mut self,
        missed: Option<(Guard<M>, Timestamp)>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Lease<M>, Error<M::Error>>> {
        let mut result = self.advance(missed, context);
        self.inner.meter.waited(&mut result, &self.waiting_since);
        if let Poll::Ready(Ok(lease)) = &mut result {
            lease.track(self.place);
        }
        result
    }

    fn advance(
        &mut self,
        mut missed: Option<(Guard<M>, Timestamp)>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Lease<M>, Error<M::Error>>> {
        loop {
            let step = match &mut self.progress {
                Progress::Start => {
                    let (core, now) = missed.take().unwrap_or_else(|| {
                        let now = self.inner.clock.now();
                        (self.inner.lock(), now)
                    });
                    self.begin(core, now, context)
                }
                Progress::Waiting(waiting) => match waiting.look(context) {
                    Found::Step(step) => Some(step),
                    Found::Nothing => None,
                    Found::Called | Found::NobodyWatches => self.watch_alone(),
                },
                Progress::Slow(slow) => {
                    let result = std::task::ready!(slow.as_mut().poll(context));
                    self.progress = Progress::Done;
                    return Poll::Ready(result);
                }
                Progress::Done => panic!("an acquire was polled after it had ended"),
            };
            match step {
                None => return Poll::Pending,
                Some(Step::Ready(lease)) => {
                    self.progress = Progress::Done;
                    return Poll::Ready(Ok(lease));
                }
                Some(Step::TimedOut) => {
                    self.progress = Progress::Done;
                    // The timer said so, even where the clock does not follow it.
                    let limit = self.inner.policy.acquire_timeout.unwrap_or_default();
                    let waited = self.waited().max(limit);
                    let error = self.inner.timed_out(self.key, Stage::Queue, waited);
                    return Poll::Ready(Err(error));
                }
                Some(Step::Again) => {
                    self.want.again = true;
                    self.progress = Progress::Start;
                }
                Some(step) => self.go_slow(step),
            }
        }
    }

    /// Nobody watches its deadline any more: it does so itself.
    #[cold]
    fn watch_alone(&mut self) -> Option<Step<'a, M>> {
        match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Waiting(waiting) => Some(Step::Wait(waiting)),
            _ => unreachable!("it was waiting just now"),
        }
    }
}

impl<M: Manager> Future for Acquiring<'_, M> {
    type Output = Result<Lease<M>, Error<M::Error>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !matches!(self.progress, Progress::Start) {
            return self.go_on(None, context);
        }
        let inner = self.inner;
        let now = inner.clock.now();
        let mut core = inner.lock();
        let lent = if self.want.fresh { None } else { core.state.acquire_idle(self.key, now) };
        let Some(lent) = lent else { return self.go_on(Some((core, now)), context) };
        let node = core.take_node();
        inner.unlock(core);
        let was_idle = lent.was_idle;
        let mut lease = Lease::new(inner, node, lent);
        match inner.look(&mut lease, was_idle) {
            Look::Fine => {
                // There is nothing to drop in `Start`.
                std::mem::forget(std::mem::replace(&mut self.progress, Progress::Done));
                inner.meter.hit(&mut lease);
                lease.track(self.place);
                Poll::Ready(Ok(lease))
            }
            look => {
                self.go_slow(Step::looked_at(lease, look));
                self.go_on(None, context)
            }
        }
    }
}

impl<M: Manager> fmt::Debug for Acquiring<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = match &self.progress {
            Progress::Start => "not started",
            Progress::Waiting(_) => "waiting",
            Progress::Slow(_) => "dialing, checking or waiting",
            Progress::Done => "done",
        };
        f.debug_struct("Acquiring")
            .field("key", &self.key)
            .field("progress", &progress)
            .finish_non_exhaustive()
    }
}
