//! The long way of a caller to its lease: peek, check, dial, another try.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::Inner;
use super::inner::{AnswerOf, GrantOf};
use super::look::Look;
use super::perform::Ticket;
use super::slot::{Held, Node};
use super::waiting::Waiting;
use crate::clock::Timestamp;
use crate::error::{DialError, Error, Stage};
use crate::event::{CloseCause, EventKind};
use crate::lease::Lease;
use crate::manager::Manager;
use crate::policy::AfterFailedCheck;
use crate::state::{Acquire, Grant, Lent, Refusal, Want};

/// Longer than any program runs: about 30 years, as tokio's own timers have it.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A key as errors say it.
fn said(key: &impl fmt::Debug) -> Arc<str> {
    format!("{key:?}").into()
}

fn closed<E: std::error::Error>(key: &impl fmt::Debug) -> Error<E> {
    Error::Closed { key: said(key) }
}

/// What the state answered, held by something that gives it back when it is dropped.
pub(super) enum Step<'a, M: Manager> {
    /// A connection that may go out as it is.
    Ready(Lease<M>),
    /// A connection out of the idle list, to be looked at first.
    Inspect(Lease<M>),
    /// One that was looked at, and has to be checked.
    Check(Lease<M>),
    /// One that was looked at, and is discarded when the lease ends.
    Stale(Lease<M>),
    Dial(Ticket<M>),
    Wait(Waiting<'a, M>),
    Refused(Refusal<DialError<M::Error>>),
    DialFailed(DialError<M::Error>),
    TimedOut,
    Again,
}

impl<M: Manager> Step<'_, M> {
    /// A connection that the state has lent.
    #[inline]
    pub(super) fn lent(
        inner: &Arc<Inner<M>>,
        node: Option<Box<Node<M>>>,
        lent: Lent<Held<M>>,
    ) -> Self {
        let was_idle = lent.was_idle;
        let lease = Lease::new(inner, node, lent);
        if was_idle { Self::Inspect(lease) } else { Self::Ready(lease) }
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
    fn another<'a, M: Manager>(&mut self, enough: Option<u32>) -> Step<'a, M> {
        self.failed_checks += 1;
        self.want.fresh |= enough.is_some_and(|max| self.failed_checks >= max);
        Step::Again
    }
}

pub(super) type SlowAcquire<'a, M> =
    Pin<Box<dyn Future<Output = Result<Lease<M>, Error<<M as Manager>::Error>>> + Send + 'a>>;

impl<M: Manager> Inner<M> {
    pub(super) fn try_acquire(self: &Arc<Self>, key: &M::Key) -> Option<Lease<M>> {
        loop {
            let lent = self.with(|state, now| state.try_acquire(key, now))?;
            let was_idle = lent.was_idle;
            let mut lease = self.lease(lent);
            // None that has to be checked is lent to who only tries.
            if self.look(&mut lease, was_idle) != Look::Stale {
                self.meter.hit(&mut lease);
                return Some(lease);
            }
            lease.discard_for(CloseCause::PeekFailed);
        }
    }

    /// Another try. The state learns the deadline, although a caller that waits now watches its own.
    fn acquire_again<'a>(
        self: &'a Arc<Self>,
        key: &M::Key,
        want: Want,
        until: Option<Instant>,
    ) -> Step<'a, M> {
        let now = self.clock.now();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // The clock may be coarse: a deadline that follows from one look at it may be a tick early.
        let end = |left| now.after(left).after(self.clock.resolution());
        let mut core = self.lock();
        let deadline = match left {
            Some(left) if !core.clocks_differ => end(left),
            _ => Timestamp::NEVER,
        };
        match core.state.acquire_until(key, want, deadline, now) {
            Acquire::Wait(id) => {
                let waiting = Waiting::new(self, id, &mut core);
                self.unlock(core);
                Step::Wait(waiting)
            }
            answer => {
                self.unlock(core);
                self.hold(answer)
            }
        }
    }

    /// Holds what the state answered, other than to wait.
    pub(super) fn hold<'a>(self: &Arc<Self>, answer: AnswerOf<M>) -> Step<'a, M> {
        match answer {
            Acquire::Lend(lent) => Step::lent(self, self.spare_node(), lent),
            Acquire::Dial(id) => Step::Dial(Ticket::for_caller(Arc::clone(self), id)),
            Acquire::Wait(_) => unreachable!("one who waits has a seat"),
            Acquire::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    pub(super) fn hold_grant<'a>(
        self: &Arc<Self>,
        node: Option<Box<Node<M>>>,
        grant: GrantOf<M>,
    ) -> Step<'a, M> {
        match grant {
            Grant::Lend(lent) => Step::lent(self, node, lent),
            Grant::Dial(id) => Step::Dial(Ticket::for_caller(Arc::clone(self), id)),
            Grant::Retry => Step::Again,
            Grant::DialFailed(error) => Step::DialFailed(error),
            Grant::TimedOut => Step::TimedOut,
            Grant::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    /// A waiter has left that was given this.
    pub(super) fn pass_on(self: &Arc<Self>, step: Step<'_, M>) {
        match step {
            // As it came, without a question to the manager: nobody has had it.
            Step::Ready(lease) => lease.pass_on(false),
            Step::Inspect(lease) => lease.pass_on(true),
            // What it was woken for stays idle, perhaps in the way of another key.
            Step::Again => self.with(|state, now| state.relieve(now)),
            // Gives its place back.
            Step::Dial(ticket) => drop(ticket),
            Step::Check(_) | Step::Stale(_) | Step::Wait(_) => unreachable!("nobody is given this"),
            Step::Refused(_) | Step::DialFailed(_) | Step::TimedOut => {}
        }
    }

    /// Everything that is neither a hit nor a plain wait, `waited` after the acquire began. Boxed, so
    /// that the common future stays small.
    #[cold]
    pub(super) fn acquire_slow<'a>(
        self: &'a Arc<Self>,
        key: &'a M::Key,
        want: Want,
        waited: Duration,
        step: Step<'a, M>,
    ) -> SlowAcquire<'a, M> {
        self.remember_runtime();
        self.revive_maintenance();
        let span = tracing::debug_span!(target: "pool_common", "acquire", ?key);
        let acquire = async move {
            let now = Instant::now();
            let started = now.checked_sub(waited).unwrap_or(now);
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
                    Step::Inspect(mut lease) => {
                        let look = self.look(&mut lease, true);
                        Step::looked_at(lease, look)
                    }
                    Step::Stale(lease) => {
                        drop(lease);
                        progress.another(self.policy.max_failed_checks)
                    }
                    Step::Check(lease) => match self.check(key, lease, &progress).await? {
                        Some(lease) => Step::Ready(lease),
                        None => {
                            progress.want.fresh |= self.distrusts();
                            progress.another(self.policy.max_failed_checks)
                        }
                    },
                    Step::Dial(ticket) => {
                        return self.dial_for_caller(key, ticket, &progress).await;
                    }
                    Step::Wait(waiting) => self.wait_alone(key, waiting, &progress).await?,
                    Step::Refused(refusal) => return Err(self.refused(key, refusal)),
                    Step::DialFailed(source) => return Err(Error::Dial { source }),
                    Step::TimedOut => {
                        return Err(self.timed_out(key, Stage::Queue, started.elapsed()));
                    }
                    Step::Again => {
                        progress.want.again = true;
                        self.acquire_again(key, progress.want, progress.deadline)
                    }
                };
            }
        };
        Box::pin(acquire.instrument(span))
    }

    /// Waits in the queue with a timer of its own, where the pool's maintenance is not, or not in
    /// time. When that is late, as on a runtime that stands still, takes it over: what ends a pause
    /// is its work, too.
    async fn wait_alone<'a>(
        self: &'a Arc<Self>,
        key: &M::Key,
        mut waiting: Waiting<'a, M>,
        progress: &Progress,
    ) -> Result<Step<'a, M>, Error<M::Error>> {
        loop {
            let look_again = self.until_late().map(|pause| Instant::now() + pause);
            let until = [progress.deadline, look_again].into_iter().flatten().min();
            let waited = match until {
                Some(until) => timeout_at(until, &mut waiting).await,
                None => Ok((&mut waiting).await),
            };
            match waited {
                Ok(Some(step)) => return Ok(step),
                // Who watched does not any more, or does so somewhere else.
                Ok(None) => {}
                Err(_) if progress.deadline.is_some_and(|end| until == Some(end)) => {
                    // It does not count itself among those who wait.
                    drop(waiting);
                    return Err(self.timed_out(key, Stage::Queue, progress.started.elapsed()));
                }
                Err(_) => {}
            }
            self.revive_maintenance();
        }
    }

    async fn check(
        self: &Arc<Self>,
        key: &M::Key,
        mut lease: Lease<M>,
        progress: &Progress,
    ) -> Result<Option<Lease<M>>, Error<M::Error>> {
        // Until the check has passed, dropping the lease discards the connection.
        lease.doubt(Some(CloseCause::Lost));
        let began = self.clock.now();
        let now = Instant::now();
        // A time beyond all time is no limit; a far one stands for it.
        let limit = now.checked_add(self.policy.check_timeout).unwrap_or(now + FAR);
        let limit = progress.deadline.map_or(limit, |deadline| deadline.min(limit));
        let (connection, idle_for) = (lease.connection_id(), lease.idle_for());
        self.tell_of_check(key, connection, EventKind::Checking);
        let checked = timeout_at(limit, self.manager.check(lease.handle_mut(), idle_for)).await;
        match checked {
            Ok(Ok(())) => {
                lease.doubt(None);
                self.tell_of_check(key, connection, EventKind::Checked);
                Ok(Some(lease))
            }
            Ok(Err(error)) => {
                tracing::debug!(target: "pool_common", ?key, %error, "check failed");
                self.check_failed(lease, began);
                Ok(None)
            }
            Err(_) if progress.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                // A peer that lets callers run into their deadlines has failed, too; but a caller that
                // had waited for most of its time has not given the peer a chance.
                let (id, had) = (lease.connection_id(), progress.started.elapsed());
                if self.with(|state, _| state.has_had_its_chance(id, now.elapsed(), had)) {
                    self.check_failed(lease, began);
                } else {
                    lease.discard_for(CloseCause::Lost);
                }
                Err(self.timed_out(key, Stage::Check, progress.started.elapsed()))
            }
            Err(_) => {
                self.check_failed(lease, began);
                Ok(None)
            }
        }
    }

    /// The others first, so that nobody is lent one of them in between.
    fn check_failed(self: &Arc<Self>, lease: Lease<M>, began: Timestamp) {
        if self.distrusts() {
            self.with(|state, now| state.distrust(lease.connection_id(), began, now));
        }
        lease.discard_for(CloseCause::CheckFailed);
    }

    fn distrusts(&self) -> bool {
        self.policy.after_failed_check == AfterFailedCheck::Distrust
    }

    async fn dial_for_caller(
        self: &Arc<Self>,
        key: &M::Key,
        ticket: Ticket<M>,
        progress: &Progress,
    ) -> Result<Lease<M>, Error<M::Error>> {
        let began = Instant::now();
        let dial = self.dial(ticket.id(), key, progress.deadline);
        let dialed = tokio::select! {
            biased;
            () = self.shut_down() => return Err(closed(key)),
            dialed = self.until_deadline(key, Stage::Dial, progress, dial) => dialed,
        };
        let result = match dialed {
            Ok(result) => result,
            Err(timeout) => {
                // A peer that lets callers run into their deadlines has failed, too; but a caller that
                // had waited for most of its time has not given the peer a chance.
                ticket.run_out(began.elapsed());
                return Err(timeout);
            }
        };
        match ticket.finish(result) {
            Ok(Some(lent)) => Ok(self.lease(lent)),
            Ok(None) => Err(closed(key)),
            Err(source) => Err(Error::Dial { source }),
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
                let timed_out = |_| self.timed_out(key, stage, progress.started.elapsed());
                timeout_at(deadline, future).await.map_err(timed_out)
            }
        }
    }

    pub(super) fn timed_out(
        &self,
        key: &M::Key,
        stage: Stage,
        waited: Duration,
    ) -> Error<M::Error> {
        // The user's code, and so not under the lock.
        let text = said(key);
        let core = self.lock();
        Error::Timeout {
            key: text,
            stage,
            limit: self.policy.acquire_timeout.unwrap_or(waited),
            waited,
            status: core.state.status(),
            last_dial_error: core.state.last_dial_error(key).cloned(),
        }
    }

    pub(super) fn refused(
        &self,
        key: &M::Key,
        refusal: Refusal<DialError<M::Error>>,
    ) -> Error<M::Error> {
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
