//! A deadline that costs almost nothing when it is met.
//!
//! A timer for each exchange is put into the timer wheel and taken out again. Here one timer stays
//! in the wheel while deadlines pass by; when it fires too early it is moved to the deadline of
//! the exchange that runs by then.

use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one connection.
#[derive(Debug)]
pub struct Deadline {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The limit passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Deadline {
    /// Bounds each exchange by `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// The limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs `exchange`, but not longer than the limit.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit passed first.
    ///
    /// # Cancel safety
    /// As that of `exchange`.
    pub async fn bound<F: Future>(&mut self, exchange: F) -> Result<F::Output, Elapsed> {
        let deadline = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let mut exchange = std::pin::pin!(exchange);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = exchange.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            loop {
                ready!(timer.as_mut().poll(context));
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Elapsed));
                }
                // It was still set for an exchange that is over.
                timer.as_mut().reset(deadline);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_exchange_has_the_whole_limit() {
        let limit = Duration::from_secs(1);
        let mut deadline = Deadline::new(limit);
        for _ in 0..5 {
            let began = Instant::now();
            let work = tokio::time::sleep(Duration::from_millis(700));
            assert_eq!(deadline.bound(work).await, Ok(()));
            assert_eq!(began.elapsed(), Duration::from_millis(700));
        }
        let began = Instant::now();
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(began.elapsed(), limit);
        assert_eq!(deadline.bound(async { 7 }).await, Ok(7));
    }
}
