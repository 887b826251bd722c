//! Connections that a server ends in the middle of a turn, opened again outside the measured time.

use std::iter::Sum;
use std::ops::Sub;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Request;
use crate::measure;

/// The number of connections that were opened again, and the time for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redials {
    /// Connections opened again.
    pub count: u64,
    /// Of these, the connections that a caller had ended by leaving before its reply.
    pub left: u64,
    /// How long callers waited for them, all waits together.
    pub waited: Duration,
    /// Processor time of the dials.
    pub cpu: Duration,
}

impl Sum for Redials {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            count: sum.count + one.count,
            left: sum.left + one.left,
            waited: sum.waited + one.waited,
            cpu: sum.cpu + one.cpu,
        })
    }
}

impl Sub for Redials {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            left: self.left - before.left,
            waited: self.waited.saturating_sub(before.waited),
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

/// Counts the connections that callers open again.
#[derive(Debug, Default)]
pub(super) struct Meter {
    count: AtomicU64,
    left: AtomicU64,
    waited_ns: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Meter {
    /// Opens again, on the thread that calls.
    pub(super) async fn dial<T, E>(
        &self,
        dial: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut dial = pin!(dial);
        let result = std::future::poll_fn(|context| {
            let before = measure::thread_cpu_time();
            let poll = dial.as_mut().poll(context);
            let cpu = measure::thread_cpu_time().saturating_sub(before);
            self.cpu_ns.fetch_add(nanos(cpu), Ordering::Relaxed);
            poll
        })
        .await;
        self.count.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        result
    }

    /// The connection that was opened again was one that its own caller had ended.
    pub(super) fn was_left(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// A request really began later than it was handed over, because of a redial before it.
    pub(super) fn waited(&self, request: &Request, began: Instant) {
        let waited = began.saturating_duration_since(request.started);
        self.waited_ns.fetch_add(nanos(waited), Ordering::Relaxed);
    }

    /// All of it so far.
    pub(super) fn redials(&self) -> Redials {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        Redials {
            count: self.count.load(Ordering::Relaxed),
            left: self.left.load(Ordering::Relaxed),
            waited: time(&self.waited_ns),
            cpu: time(&self.cpu_ns),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_connections_that_were_opened_count() {
        let meter = Meter::default();
        assert_eq!(meter.dial(async { Err::<(), _>("refused") }).await, Err("refused"));
        let before = meter.redials();
        assert_eq!(before.count, 0);
        assert_eq!(meter.dial(async { Ok::<_, ()>(7) }).await, Ok(7));
        assert_eq!((meter.redials() - before).count, 1);
    }
}
