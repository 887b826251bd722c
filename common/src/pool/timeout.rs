//! The time limit of an acquire: one deadline over queue, check and dial, and the error when it passes. A wait in
//! the queue ends in `State::expire_waiters`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::inner::Inner;
use crate::clock::Timestamp;
use crate::error::{Error, Stage};
use crate::manager::Manager;

/// The time limit of one acquire that has left the fast path.
pub(super) struct TimeLimit {
    started: Instant,
    pub(super) deadline: Option<Instant>,
}

impl TimeLimit {
    /// The limit of an acquire that began `waited` ago.
    pub(super) fn new(acquire_timeout: Option<Duration>, waited: Duration) -> Self {
        let now = Instant::now();
        let started = now.checked_sub(waited).unwrap_or(now);
        // A limit that overflows `Instant` is no deadline.
        let deadline = acquire_timeout.and_then(|limit| started.checked_add(limit));
        Self { started, deadline }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The same deadline on the pool's clock, which reads `now`. The clock may be coarse: a deadline that
    /// follows from one reading could be a tick early, so a tick is added.
    pub(super) fn on_clock(&self, now: Timestamp, tick: Duration) -> Timestamp {
        let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(Timestamp::NEVER, |left| now.after(left).after(tick))
    }

    /// What `future` comes to within the limit; `None` when the time is up first.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            None => Some(future.await),
            Some(deadline) => timeout_at(deadline, future).await.ok(),
        }
    }
}

impl<M: Manager> Inner<M> {
    /// When an acquire that began at `now` stops waiting in the queue, on the pool's clock.
    #[inline]
    pub(super) fn end_of_wait(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_nanos(now.as_nanos().saturating_add(self.longest_wait))
    }

    /// The error of an acquire that timed out in `stage`, `waited` after it began.
    pub(super) fn timed_out(
        &self,
        key: &M::Key,
        stage: Stage,
        waited: Duration,
    ) -> Error<M::Error> {
        // The user's code, and so not under the lock.
        let text = text_of(key);
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
}

/// A key as errors print it.
pub(super) fn text_of(key: &impl fmt::Debug) -> Arc<str> {
    format!("{key:?}").into()
}

/// On a clock that trails its timers by a tick, in virtual time.
#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use crate::clock::Clock;
    use crate::policy::{Dial, DialForWaiters, Policy};
    use crate::{Exclusive, Manager, Notifier, Pool};

    const TICK: Duration = Duration::from_millis(10);

    /// Dials take a millisecond.
    struct Peer;

    impl Manager for Peer {
        type Key = ();
        type Lending = Exclusive<()>;
        type Error = Infallible;

        async fn connect(&self, (): &(), _: Notifier) -> Result<(), Infallible> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    }

    fn pool(policy: Policy) -> Pool<Peer> {
        Pool::builder(Peer)
            .policy(policy)
            .clock(Clock::ticking(TICK))
            .build()
            .expect("a valid policy")
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_between_two_looks_at_the_clock_does_not_use_a_callers_time_up() {
        let acquire_timeout = Some(Duration::from_millis(3));
        let own = Policy { dial: Dial::Caller, acquire_timeout, ..Policy::default() };
        let dial_for_waiters = DialForWaiters::Waiter;
        let start = tokio::time::Instant::now();
        let pool = pool(Policy { dial_for_waiters, max_open_per_key: Some(1), ..own });
        let lease = pool.acquire(&()).await.expect("dialed");
        let wait = || {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&()).await.map(drop) })
        };
        // Its wait starts the maintenance task, which then watches the deadline of the next as well.
        let first = wait();
        tokio::time::advance(TICK - start.elapsed() - Duration::from_micros(100)).await;
        // Just before a tick a caller begins to wait, and just after it that caller is to dial.
        let waiter = wait();
        while pool.status().waiting < 2 {
            tokio::task::yield_now().await;
        }
        first.abort();
        while pool.status().waiting == 2 {
            tokio::task::yield_now().await;
        }
        let began = tokio::time::Instant::now();
        tokio::time::advance(Duration::from_micros(200)).await;
        lease.discard();
        waiter.await.expect("no panic").expect("it has waited for a fraction of its time");
        assert!(began.elapsed() < Duration::from_millis(3), "{:?}", began.elapsed());
    }
}
