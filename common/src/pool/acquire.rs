//! The future of an acquire: a hit at once, a plain wait, or the slow path over checks and dials.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::inner::{Granted, Guard, Inner};
use super::lease::Lease;
use super::maintenance::is_here;
use super::peek::Condition;
use super::timeout::{TimeLimit, text_of};
use super::times::{AcquireTimes, Spent, nanos};
use super::waiting::{Step, Waiting};
use crate::clock::Timestamp;
use crate::error::{DialError, Error, Stage};
use crate::manager::Manager;
use crate::metrics::Since;
use crate::state::{Answer, Refusal, Want};

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
    /// In the queue; the pool's maintenance task watches the deadline.
    Waiting(Waiting<'a, M>),
    Slow(SlowAcquire<'a, M>),
    /// Where its time went.
    Done(Spent),
}

type Acquired<M> = Result<Lease<M>, Error<<M as Manager>::Error>>;

type SlowAcquire<'a, M> = Pin<Box<dyn Future<Output = (Acquired<M>, Spent)> + Send + 'a>>;

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
        match inner.peek(&mut lease, was_idle) {
            Condition::Fine => {
                self.progress = Progress::Done(Spent::default());
                inner.meter.hit(&mut lease);
                lease.track(self.place);
                Poll::Ready(Ok(lease))
            }
            condition => {
                self.go_slow(Step::Lent(lease, condition));
                self.go_on(None, context)
            }
        }
    }
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

    /// Everything after a look at the idle list that found nothing; `missed` is the lock under which
    /// it found nothing, if this follows at once.
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
                Progress::Waiting(waiting) => match waiting.poll_watched(context) {
                    Poll::Ready(Some(step)) => Some(step),
                    Poll::Ready(None) => self.watch_alone(),
                    Poll::Pending => None,
                },
                Progress::Slow(slow) => {
                    let (result, spent) = std::task::ready!(slow.as_mut().poll(context));
                    self.progress = Progress::Done(spent);
                    return Poll::Ready(result);
                }
                Progress::Done(_) => panic!("an acquire was polled after it had ended"),
            };
            match step {
                None => return Poll::Pending,
                Some(Step::Lent(lease, Condition::Fine)) => {
                    let total = nanos(self.waited());
                    self.progress = Progress::Done(Spent { total, ..Spent::default() });
                    return Poll::Ready(Ok(lease));
                }
                Some(Step::TimedOut) => {
                    self.progress = Progress::Done(Spent::default());
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
        // Before a first try, the idle list was looked at under this lock.
        let answer = if self.want.again {
            core.state.acquire_until(self.key, self.want, deadline, now)
        } else {
            core.state.acquire_anew(self.key, self.want, deadline, now)
        };
        let Answer::Wait(id) = answer else {
            let granted = Granted::new(answer, &mut core);
            inner.unlock(core);
            return Some(inner.hold(granted));
        };
        let watched_on = core.watched_on(watched_until);
        // Whatever goes wrong from here on, its place in the queue comes back.
        let mut waiting = Waiting::new(inner, id, &mut core);
        let limit = inner.first_limit(&core, id);
        inner.unlock(core);
        if let Some(limit) = limit {
            inner.say_limit(self.key, limit);
        }
        let found = waiting.poll_first(context);
        if let Poll::Ready(Some(step)) = found {
            return Some(step);
        }
        inner.runtime.remember_some();
        // A waiter that was called already may have relied on a task that has ended.
        if found.is_ready() || !is_here(watched_on) {
            return Some(Step::Wait(waiting));
        }
        self.progress = Progress::Waiting(waiting);
        None
    }

    /// No task watches the deadline any more: the slow path sets a timer.
    #[cold]
    fn watch_alone(&mut self) -> Option<Step<'a, M>> {
        match std::mem::replace(&mut self.progress, Progress::Done(Spent::default())) {
            Progress::Waiting(waiting) => Some(Step::Wait(waiting)),
            _ => unreachable!("it was waiting just now"),
        }
    }

    fn go_slow(&mut self, step: Step<'a, M>) {
        let waited = match self.deadline {
            // Each of the two readings of a coarse clock may be a tick behind: a deadline that follows from
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

    /// Where the time went, once this future has given `lease`: await it by reference,
    /// `(&mut acquiring).await`, and ask afterwards. As fine as the pool's clock. Takes the pool's
    /// lock if the acquire waited.
    pub fn times(&self, lease: &Lease<M>) -> AcquireTimes {
        match self.progress {
            Progress::Done(spent) => spent.times(self.has_seen_the_dial_of(lease)),
            _ => AcquireTimes::default(),
        }
    }

    /// Whether the connection was dialed while this acquire waited.
    fn has_seen_the_dial_of(&self, lease: &Lease<M>) -> bool {
        // Without a deadline it found an idle connection at once.
        let Some(began) = self.deadline.map(|_| self.started) else { return false };
        let opened_at = lease.slot.inner().lock().state.opened_at(lease.connection_id());
        opened_at.is_some_and(|at| at > began)
    }
}

impl<M: Manager> fmt::Debug for Acquiring<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = match &self.progress {
            Progress::Start => "not started",
            Progress::Waiting(_) => "waiting",
            Progress::Slow(_) => "dialing, checking or waiting",
            Progress::Done(_) => "done",
        };
        f.debug_struct("Acquiring")
            .field("key", &self.key)
            .field("progress", &progress)
            .finish_non_exhaustive()
    }
}

impl<M: Manager> Inner<M> {
    pub(super) fn try_acquire(self: &Arc<Self>, key: &M::Key) -> Option<Lease<M>> {
        loop {
            let lent = self.with(|state, now| state.try_acquire(key, now))?;
            let was_idle = lent.was_idle;
            let mut lease = self.lease(lent);
            // The state never lends a connection that is due for a check to `try_acquire`.
            if self.peek(&mut lease, was_idle) != Condition::Stale {
                self.meter.hit(&mut lease);
                return Some(lease);
            }
        }
    }

    /// Everything that is neither a hit nor a plain wait, `waited` after the acquire began. Boxed, so
    /// that the common future stays small.
    #[cold]
    fn acquire_slow<'a>(
        self: &'a Arc<Self>,
        key: &'a M::Key,
        want: Want,
        waited: Duration,
        step: Step<'a, M>,
    ) -> SlowAcquire<'a, M> {
        self.runtime.remember();
        self.revive_maintenance();
        let span = tracing::debug_span!(target: "pool_common", "acquire", ?key);
        let acquire = async move {
            let limit = TimeLimit::new(self.policy.acquire_timeout, waited);
            let mut spent = Spent::default();
            let result = self.go_through(key, want, step, &limit, &mut spent).await;
            spent.total = nanos(limit.elapsed());
            (result, spent)
        };
        Box::pin(acquire.instrument(span))
    }

    /// From step to step, until there is a connection or an error.
    async fn go_through<'a>(
        self: &'a Arc<Self>,
        key: &'a M::Key,
        mut want: Want,
        mut step: Step<'a, M>,
        limit: &TimeLimit,
        spent: &mut Spent,
    ) -> Acquired<M> {
        let mut failed_checks = 0;
        loop {
            step = match step {
                Step::Lent(lease, Condition::Fine) => return Ok(lease),
                Step::Lent(mut lease, Condition::Unknown) => {
                    let condition = self.peek(&mut lease, true);
                    Step::Lent(lease, condition)
                }
                Step::Lent(lease, condition) => {
                    let checked = if condition == Condition::ToBeChecked {
                        let began = Instant::now();
                        let checked = self.check(key, lease, limit).await;
                        spent.checked += nanos(began.elapsed());
                        let checked = checked?;
                        want.fresh |= checked.is_none() && self.distrusts();
                        checked
                    } else {
                        drop(lease);
                        None
                    };
                    match checked {
                        Some(lease) => Step::Lent(lease, Condition::Fine),
                        None => {
                            failed_checks += 1;
                            let enough = self.policy.max_failed_checks;
                            want.fresh |= enough.is_some_and(|max| failed_checks >= max);
                            Step::Again
                        }
                    }
                }
                Step::Dial(ticket) => {
                    let began = Instant::now();
                    let dialed = self.dial_for_caller(key, ticket, limit).await;
                    spent.dialed += nanos(began.elapsed());
                    return dialed?.ok_or_else(|| closed(key));
                }
                Step::Wait(waiting) => self.wait_alone(key, waiting, limit).await?,
                Step::Again => {
                    want.again = true;
                    self.acquire_again(key, want, limit)
                }
                Step::Refused(refusal) => return Err(self.refused(key, refusal)),
                Step::DialFailed(source) => return Err(Error::Dial { source }),
                Step::TimedOut => {
                    return Err(self.timed_out(key, Stage::Queue, limit.elapsed()));
                }
            };
        }
    }

    /// Another try. The state learns the deadline, although a caller that waits now watches its own.
    fn acquire_again<'a>(
        self: &'a Arc<Self>,
        key: &M::Key,
        want: Want,
        limit: &TimeLimit,
    ) -> Step<'a, M> {
        let now = self.clock.now();
        let end = limit.on_clock(now, self.clock.resolution());
        let mut core = self.lock();
        let deadline = if core.clocks_differ { Timestamp::NEVER } else { end };
        match core.state.acquire_until(key, want, deadline, now) {
            Answer::Wait(id) => {
                let waiting = Waiting::new(self, id, &mut core);
                self.unlock(core);
                Step::Wait(waiting)
            }
            answer => {
                let granted = Granted::new(answer, &mut core);
                self.unlock(core);
                self.hold(granted)
            }
        }
    }

    fn refused(&self, key: &M::Key, refusal: Refusal<DialError<M::Error>>) -> Error<M::Error> {
        match refusal {
            Refusal::Closed => closed(key),
            Refusal::Exhausted => Error::Exhausted { status: self.status() },
            Refusal::TooManyWaiters { limit } => {
                Error::TooManyWaiters { limit, status: self.status() }
            }
            Refusal::BackingOff { until, last } => {
                Error::BackingOff { retry_in: until.since(self.clock.now()), last }
            }
        }
    }
}

fn closed<E: std::error::Error>(key: &impl fmt::Debug) -> Error<E> {
    Error::Closed { key: text_of(key) }
}
