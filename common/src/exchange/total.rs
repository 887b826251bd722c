//! One time limit over a whole exchange.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::Deadline;

/// Extension of a request: one time limit over the whole exchange, from the moment the request is
/// given to the client until its response body has ended. Waiting for a connection, dials, all
/// attempts, the pauses between them and both bodies are included.
///
/// Default: none; the limits on single stages hold in any case. When it passes, the call or the
/// response body fails with the client's `Error::TotalTimeout`, and the exchange is given up. A
/// response body notices only while it is polled; an upload that goes on beside it, and the reading of the rest of a
/// dropped body, have only their own limits.
///
/// tower-http's `FollowRedirect` sends no extension beyond the first redirect: a layer that sets this one belongs
/// below it, where it is a limit for each hop.
///
/// A retry layer that sends a copy of a request copies the extension too. With
/// [`after`](Self::after) each copy then has the whole time, with [`until`](Self::until) all have the
/// same end.
///
/// Source: reqwest's `RequestBuilder::timeout`, `net/http`'s `Client.Timeout`, gRPC's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalTimeout(End);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    After(Duration),
    At(Instant),
}

impl TotalTimeout {
    /// Ends the exchange this long after the client got the request.
    pub fn after(limit: Duration) -> Self {
        Self(End::After(limit))
    }

    /// Ends the exchange at this time.
    pub fn until(end: Instant) -> Self {
        Self(End::At(end))
    }

    /// The one of two that ends first, if the exchange begins now.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let now = Instant::now();
        if other.left(now) < self.left(now) { other } else { self }
    }

    fn left(self, now: Instant) -> Duration {
        match self.0 {
            End::After(limit) => limit,
            End::At(end) => end.saturating_duration_since(now),
        }
    }
}

/// A [`TotalTimeout`] that runs. For protocol crates; a client takes it from the request to the body.
#[derive(Debug)]
pub struct TotalDeadline {
    end: Instant,
    limit: Duration,
    timer: Deadline,
}

impl TotalDeadline {
    /// Starts it now. `None` without a limit, or with one that overflows.
    pub fn start(timeout: Option<&TotalTimeout>) -> Option<Box<Self>> {
        let now = Instant::now();
        let limit = timeout?.left(now);
        let end = now.checked_add(limit)?;
        Some(Box::new(Self { end, limit, timer: Deadline::default() }))
    }

    /// Ready with the limit once it has passed, even if the caller never had to wait.
    ///
    /// # Panics
    /// When it has not passed yet and there is no tokio runtime with time enabled.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        if Instant::now() < self.end {
            ready!(self.timer.poll_at(cx, self.end));
        }
        Poll::Ready(self.limit)
    }

    /// Runs `future`, but not beyond the limit, if there is one. Without a limit this costs one
    /// comparison each time the future has to wait.
    ///
    /// # Errors
    /// The limit, when it passed first, and when it has passed although `future` is ready; its output is
    /// dropped then. So nothing that comes after `future` begins too late.
    ///
    /// # Cancel safety
    /// That of `future`.
    ///
    /// # Panics
    /// When `future` has to wait, there is a limit, and there is no tokio runtime with time enabled.
    pub fn bound<F: Future + Unpin>(
        total: &mut Option<Box<Self>>,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Duration>> {
        poll_fn(move |cx| match (Pin::new(&mut future).poll(cx), total.as_deref_mut()) {
            (Poll::Ready(_), Some(total)) if Instant::now() >= total.end => {
                Poll::Ready(Err(total.limit))
            }
            (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(total)) => total.poll(cx).map(Err),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn one_limit_covers_several_waits() {
        let mut total = TotalDeadline::start(Some(&TotalTimeout::after(LIMIT)));
        let start = Instant::now();
        let short = pin!(tokio::time::sleep(LIMIT / 4 * 3));
        assert_eq!(TotalDeadline::bound(&mut total, short).await, Ok(()));
        let silent = std::future::pending::<()>();
        assert_eq!(TotalDeadline::bound(&mut total, silent).await, Err(LIMIT));
        assert_eq!(start.elapsed(), LIMIT);
        let waker = std::task::Waker::noop();
        let total = total.as_mut().expect("there is a limit");
        assert_eq!(total.poll(&mut Context::from_waker(waker)), Poll::Ready(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_when_the_limit_has_passed_is_dropped() {
        let mut total = TotalDeadline::start(Some(&TotalTimeout::after(LIMIT)));
        assert_eq!(TotalDeadline::bound(&mut total, std::future::ready(1)).await, Ok(1));
        tokio::time::advance(LIMIT).await;
        assert_eq!(TotalDeadline::bound(&mut total, std::future::ready(2)).await, Err(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_an_endless_one_never_pass() {
        assert!(TotalDeadline::start(None).is_none());
        assert!(TotalDeadline::start(Some(&TotalTimeout::after(Duration::MAX))).is_none());
        assert_eq!(TotalDeadline::bound(&mut None, pin!(tokio::time::sleep(LIMIT))).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_in_the_past_passes_at_once_and_the_earlier_of_two_counts() {
        let now = Instant::now();
        let until = TotalTimeout::until(now + LIMIT);
        tokio::time::advance(2 * LIMIT).await;
        let mut total = TotalDeadline::start(Some(&until));
        let silent = std::future::pending::<()>();
        assert_eq!(TotalDeadline::bound(&mut total, silent).await, Err(Duration::ZERO));
        let after = TotalTimeout::after(LIMIT);
        assert_eq!(until.min(after), until);
        assert_eq!(after.min(until), until);
        assert_eq!(TotalTimeout::until(now + 4 * LIMIT).min(after), after);
    }
}
