//! Timers of the driver: rarely set, mostly looked at.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that costs nothing until it is set.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    set: bool,
}

impl Alarm {
    pub(crate) fn set(&mut self, at: Instant) {
        self.set = true;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.set {
            self.set = false;
            self.sleep = None;
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set
    }

    /// Whether the time has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.sleep {
            Some(sleep) if self.set => matches!(sleep.as_mut().poll(cx), Poll::Ready(())),
            _ => false,
        }
    }

    /// Sets the alarm to `at`, unless it is set so already, and asks whether that time has come.
    pub(crate) fn ring_at(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        let same = self.sleep.as_ref().is_some_and(|s| s.deadline() == at);
        if !(self.set && same) {
            self.set(at);
        }
        self.poll(cx)
    }
}

/// Longer than any program runs: stands for a duration that an instant cannot be moved by.
pub(crate) const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// `limit` from now. A limit beyond the clock's range never ends.
pub(crate) fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit.min(FAR)
}
