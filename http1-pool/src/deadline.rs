//! A timer that costs almost nothing while it does not fire.
//!
//! A tokio timer takes the runtime's timer lock when it is set and again when it is dropped, and
//! may wake the driver. A connection sets one for every request, and almost none of them fires.
//! So the timer stays where it was set, and is moved only when it fires too early: the lock is
//! taken about once per timeout and connection instead of twice per request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The end of the current wait on the peer.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    /// When the current wait ends; `None` between waits.
    at: Option<Instant>,
    /// Set to `at`, or earlier from an earlier wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ends the current wait: the next poll starts a new one.
    pub(crate) fn restart(&mut self) {
        self.at = None;
    }

    /// Ready once `limit` has passed since the first poll of this wait.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, limit: Option<Duration>) -> Poll<()> {
        let Some(limit) = limit else {
            return Poll::Pending;
        };
        let at = match self.at {
            Some(at) => at,
            // Too far away to be told is as good as never.
            None => match Instant::now().checked_add(limit) {
                Some(at) => *self.at.insert(at),
                None => return Poll::Pending,
            },
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }

    /// Ends the current wait for good, and lets go of the waiting task: a timer that is still set
    /// would keep a finished task's memory until it fires.
    pub(crate) fn park(&mut self) {
        self.at = None;
        if let Some(sleep) = &mut self.sleep {
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// As [`park`](Deadline::park), for where the runtime may be gone: polling a timer would panic
    /// there.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

    #[tokio::test(start_paused = true)]
    async fn each_wait_gets_the_whole_limit() {
        let mut deadline = Deadline::default();
        for _ in 0..3 {
            let start = Instant::now();
            let quick = tokio::time::timeout(
                Duration::from_secs(7),
                poll_fn(|cx| deadline.poll(cx, LIMIT)),
            );
            assert!(quick.await.is_err());
            assert_eq!(start.elapsed(), Duration::from_secs(7));
            deadline.park();
        }
        let start = Instant::now();
        poll_fn(|cx| deadline.poll(cx, LIMIT)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_limit_moves_the_timer_forward() {
        let mut deadline = Deadline::default();
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, LIMIT))).await.is_pending());
        deadline.restart();
        let start = Instant::now();
        poll_fn(|cx| deadline.poll(cx, Some(Duration::from_secs(1)))).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_an_endless_one_never_fire() {
        let mut deadline = Deadline::default();
        for limit in [None, Some(Duration::MAX)] {
            assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, limit))).await.is_pending());
        }
    }
}
