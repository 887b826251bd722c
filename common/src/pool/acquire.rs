//! The way of a caller to its lease: the short one without an await, and the long one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::Inner;
use super::inner::StateOf;
use super::perform::Ticket;
use crate::error::{DialError, Error, Stage};
use crate::event::CloseCause;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::policy::Check;
use crate::state::{Acquire, ConnectionId, Fitness, Grant, Lent, Refusal, WaiterId, Want};

/// Longer than any program runs: about 30 years, as tokio's own timers have it.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// What the state answered, held by something that gives it back when it is dropped.
pub(super) enum Step<M: Manager> {
    /// A connection that may go out as it is.
    Ready(Lease<M>),
    /// A connection out of the idle list, to be looked at first.
    Inspect(Lease<M>),
    /// One that was looked at, and has to be checked.
    Check(Lease<M>),
    Dial(Ticket<M>),
    Wait(Waiting<M>),
    Refused(Refusal<DialError<M::Error>>),
    DialFailed(DialError<M::Error>),
    Again,
}

/// What a look at a connection out of the idle list says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Fine,
    Stale,
    ToBeChecked,
}

/// A connection that the manager looks at; gone for good when that panics.
struct LostInPanic<'a, M: Manager> {
    inner: &'a Arc<Inner<M>>,
    id: ConnectionId,
}

impl<M: Manager> Drop for LostInPanic<'_, M> {
    #[cold]
    fn drop(&mut self) {
        let lost = Fitness::Unfit(CloseCause::Lost);
        let leftover = self.inner.with(|state, now| state.release(self.id, None, lost, now));
        drop(leftover);
    }
}

/// How far an acquire has come.
struct Progress {
    started: Instant,
    deadline: Option<Instant>,
    failed_checks: u32,
    want: Want,
}

impl Progress {
    /// A connection did not pass: take another, and after `enough` of them a fresh one.
    fn another<M: Manager>(&mut self, enough: Option<u32>) -> Step<M> {
        self.failed_checks += 1;
        self.want.fresh |= enough.is_some_and(|max| self.failed_checks >= max);
        Step::Again
    }
}

type SlowAcquire<'a, M> =
    Pin<Box<dyn Future<Output = Result<Lease<M>, Error<<M as Manager>::Error>>> + Send + 'a>>;

impl<M: Manager> Inner<M> {
    /// The fast path: an idle connection that needs no check. No await, no timer, no allocation.
    #[inline(always)]
    pub(super) fn acquire_now(
        self: &Arc<Self>,
        key: &M::Key,
        want: Want,
    ) -> Result<Lease<M>, Step<M>> {
        let now = self.clock.now();
        let mut core = self.lock();
        if !want.fresh
            && let Some(mut lent) = core.state.acquire_idle(key, now)
        {
            self.unlock(core);
            // The lease is made last, so that it is built where it goes and not moved about.
            return match self.look(&mut lent) {
                Look::Fine => Ok(Lease::new(Arc::clone(self), lent)),
                look => Err(self.hold_doubtful(lent, look)),
            };
        }
        let answer = core.state.acquire(key, want, now);
        self.unlock(core);
        Err(self.hold(answer))
    }

    /// The peek at a connection out of the idle list, and whether a check has to follow. When the
    /// manager panics in here, the connection is lost and its slot comes back.
    #[inline(always)]
    fn look(self: &Arc<Self>, lent: &mut Lent<M::Lending>) -> Look {
        if !(lent.was_idle && self.looks) {
            return Look::Fine;
        }
        let idle_for = Duration::from_nanos(lent.idle_nanos);
        if self.policy.peek {
            let guard = LostInPanic { inner: self, id: lent.id };
            let stale = self.manager.is_stale(&mut lent.handle, idle_for);
            std::mem::forget(guard);
            if stale {
                return Look::Stale;
            }
        }
        if self.needs_check(idle_for) { Look::ToBeChecked } else { Look::Fine }
    }

    #[cold]
    #[inline(never)]
    fn hold_doubtful(self: &Arc<Self>, lent: Lent<M::Lending>, look: Look) -> Step<M> {
        let mut lease = Lease::new(Arc::clone(self), lent);
        if look == Look::Stale {
            // Asked again it might say otherwise: what it found may be read away.
            lease.doubt(Some(CloseCause::PeekFailed));
            return Step::Inspect(lease);
        }
        Step::Check(lease)
    }

    pub(super) fn try_acquire(self: &Arc<Self>, key: &M::Key) -> Option<Lease<M>> {
        loop {
            let lent = self.with(|state, now| state.try_acquire(key, now))?;
            if let Ok(lease) = self.peek(Lease::new(Arc::clone(self), lent)) {
                return Some(lease);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn hold(self: &Arc<Self>, answer: Acquire<M::Lending, DialError<M::Error>>) -> Step<M> {
        match answer {
            Acquire::Lend(lent) => self.hold_lent(lent),
            Acquire::Dial(id) => Step::Dial(Ticket::for_caller(Arc::clone(self), id)),
            Acquire::Wait(id) => Step::Wait(Waiting { inner: Arc::clone(self), id, done: false }),
            Acquire::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    fn hold_lent(self: &Arc<Self>, lent: Lent<M::Lending>) -> Step<M> {
        let was_idle = lent.was_idle;
        let lease = Lease::new(Arc::clone(self), lent);
        if was_idle { Step::Inspect(lease) } else { Step::Ready(lease) }
    }

    fn hold_grant(self: &Arc<Self>, grant: Grant<M::Lending, DialError<M::Error>>) -> Step<M> {
        match grant {
            Grant::Lend(lent) => self.hold_lent(lent),
            Grant::Dial(id) => Step::Dial(Ticket::for_caller(Arc::clone(self), id)),
            Grant::Retry => Step::Again,
            Grant::DialFailed(error) => Step::DialFailed(error),
            Grant::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    /// Everything that is not the fast path. Boxed, so that the common future stays small.
    #[cold]
    pub(super) fn acquire_slow<'a>(
        self: &'a Arc<Self>,
        key: &'a M::Key,
        want: Want,
        step: Step<M>,
    ) -> SlowAcquire<'a, M> {
        self.remember_runtime();
        self.revive_maintenance();
        let span = tracing::debug_span!(target: "pool_common", "acquire", ?key);
        let acquire = async move {
            let started = Instant::now();
            let mut progress = Progress {
                started,
                // A time beyond all time is no deadline.
                deadline: self.policy.acquire_timeout.and_then(|limit| started.checked_add(limit)),
                failed_checks: 0,
                want,
            };
            let mut step = step;
            loop {
                step = match step {
                    Step::Ready(lease) => return Ok(lease),
                    Step::Inspect(lease) => match self.peek(lease) {
                        Ok(lease) if self.needs_check(lease.idle_for()) => Step::Check(lease),
                        Ok(lease) => Step::Ready(lease),
                        Err(()) => progress.another(self.policy.max_failed_checks),
                    },
                    Step::Check(lease) => match self.check(key, lease, &progress).await? {
                        Some(lease) => Step::Ready(lease),
                        None => progress.another(self.policy.max_failed_checks),
                    },
                    Step::Dial(ticket) => {
                        return self.dial_for_caller(key, ticket, &progress).await;
                    }
                    Step::Wait(waiting) => {
                        let grant =
                            self.until_deadline(key, Stage::Queue, &progress, waiting).await?;
                        self.hold_grant(grant)
                    }
                    Step::Refused(refusal) => return Err(self.refused(refusal)),
                    Step::DialFailed(source) => return Err(Error::Dial { source }),
                    Step::Again => {
                        progress.want.again = true;
                        let want = progress.want;
                        self.hold(self.with(|state, now| state.acquire(key, want, now)))
                    }
                };
            }
        };
        Box::pin(acquire.instrument(span))
    }

    /// The look before lending. A connection that does not pass is discarded.
    fn peek(&self, mut lease: Lease<M>) -> Result<Lease<M>, ()> {
        if lease.is_doubted() || (self.policy.peek && lease.is_stale()) {
            lease.discard_for(CloseCause::PeekFailed);
            return Err(());
        }
        Ok(lease)
    }

    fn needs_check(&self, idle_for: Duration) -> bool {
        match self.policy.check {
            Check::Never => false,
            Check::Always => true,
            Check::IfIdleLonger => idle_for > self.policy.check_after,
        }
    }

    async fn check(
        self: &Arc<Self>,
        key: &M::Key,
        mut lease: Lease<M>,
        progress: &Progress,
    ) -> Result<Option<Lease<M>>, Error<M::Error>> {
        // Until the check has passed, dropping the lease discards the connection.
        lease.doubt(Some(CloseCause::CheckFailed));
        let now = Instant::now();
        // A time beyond all time is no limit; a far one stands for it.
        let limit = now.checked_add(self.policy.check_timeout).unwrap_or(now + FAR);
        let limit = progress.deadline.map_or(limit, |deadline| deadline.min(limit));
        let idle_for = lease.idle_for();
        let checked = timeout_at(limit, self.manager.check(lease.handle_mut(), idle_for)).await;
        match checked {
            Ok(Ok(())) => {
                lease.doubt(None);
                Ok(Some(lease))
            }
            Ok(Err(error)) => {
                tracing::debug!(target: "pool_common", ?key, %error, "check failed");
                Ok(None)
            }
            Err(_) if progress.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                Err(self.timed_out(key, Stage::Check, progress))
            }
            Err(_) => Ok(None),
        }
    }

    async fn dial_for_caller(
        self: &Arc<Self>,
        key: &M::Key,
        ticket: Ticket<M>,
        progress: &Progress,
    ) -> Result<Lease<M>, Error<M::Error>> {
        let mut shutdown = self.shutdown.subscribe();
        let dial = self.dial(ticket.id(), key);
        let dialed = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return Err(Error::Closed),
            dialed = self.until_deadline(key, Stage::Dial, progress, dial) => dialed,
        };
        let result = match dialed {
            Ok(result) => result,
            Err(timeout) => {
                // A peer that lets callers run into their deadlines has failed, too.
                ticket.finish(Err(DialError::TimedOut(progress.started.elapsed())));
                return Err(timeout);
            }
        };
        let error = result.as_ref().err().cloned();
        match (ticket.finish(result), error) {
            (Some(lent), _) => Ok(Lease::new(Arc::clone(self), lent)),
            (None, Some(source)) => Err(Error::Dial { source }),
            (None, None) => Err(Error::Closed),
        }
    }

    async fn until_deadline<T>(
        self: &Arc<Self>,
        key: &M::Key,
        stage: Stage,
        progress: &Progress,
        future: impl Future<Output = T>,
    ) -> Result<T, Error<M::Error>> {
        match progress.deadline {
            None => Ok(future.await),
            Some(deadline) => {
                timeout_at(deadline, future).await.map_err(|_| self.timed_out(key, stage, progress))
            }
        }
    }

    fn timed_out(&self, key: &M::Key, stage: Stage, progress: &Progress) -> Error<M::Error> {
        let core = self.lock();
        Error::Timeout {
            stage,
            waited: progress.started.elapsed(),
            status: core.state.status(),
            last_dial_error: core.state.last_dial_error(key).cloned(),
        }
    }

    fn refused(&self, refusal: Refusal<DialError<M::Error>>) -> Error<M::Error> {
        match refusal {
            Refusal::Closed => Error::Closed,
            Refusal::Exhausted => Error::Exhausted { status: self.status() },
            Refusal::TooManyWaiters => Error::TooManyWaiters {
                limit: self.policy.max_waiters.unwrap_or(u32::MAX),
                status: self.status(),
            },
            Refusal::BackingOff { until, last } => {
                Error::BackingOff { retry_in: until.since(self.clock.now()), last }
            }
        }
    }
}

/// A place in the queue. Dropping it gives it up, and passes on whatever had been granted.
pub(super) struct Waiting<M: Manager> {
    inner: Arc<Inner<M>>,
    id: WaiterId,
    done: bool,
}

impl<M: Manager> Future for Waiting<M> {
    type Output = Grant<M::Lending, DialError<M::Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let mut core = self.inner.lock();
        if let Some(grant) = StateOf::<M>::take_grant(&mut core.state, id) {
            let emptied = core.state.is_closed() && core.state.is_empty();
            drop(core);
            self.done = true;
            if emptied {
                self.inner.tell_emptied();
            }
            return Poll::Ready(grant);
        }
        let known = core.wakers.get(id).is_some_and(|waker| waker.will_wake(context.waker()));
        let replaced = if known { None } else { core.wakers.insert(id, context.waker().clone()) };
        drop(core);
        drop(replaced);
        Poll::Pending
    }
}

impl<M: Manager> Drop for Waiting<M> {
    fn drop(&mut self) {
        if !self.done {
            let leftover = self.inner.with(|state, now| state.cancel(self.id, now));
            drop(leftover);
            let waker = self.inner.lock().wakers.remove(self.id);
            drop(waker);
        }
    }
}
