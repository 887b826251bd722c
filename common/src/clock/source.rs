//! The clocks an async pool can read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Timestamp;

/// Where an async pool reads the time.
///
/// The default is [`Clock::coarse`]: reading it costs a quarter of a precise clock, and expiry
/// does not need more. Tests with a paused tokio clock want [`Clock::tokio`].
#[derive(Clone, Debug)]
pub struct Clock(Option<Arc<Source>>);

/// Where the time comes from, when it is not the coarse clock.
#[derive(Debug)]
enum Source {
    Tokio(tokio::time::Instant),
    Manual(Arc<AtomicU64>),
    /// tokio's clock at its last tick, which is this long: a coarse clock in virtual time.
    #[cfg(test)]
    Ticking(tokio::time::Instant, Duration),
}

impl Default for Clock {
    fn default() -> Self {
        Self::coarse()
    }
}

impl Clock {
    /// The system's monotonic clock, exact to its timer tick (1 to 10 ms); a reading costs about 7 ns.
    /// On a system without a coarse clock this is the precise one. It trails timers by up to a tick:
    /// decision record 19 lists each place where that could matter.
    pub fn coarse() -> Self {
        Self(None)
    }

    /// tokio's clock: precise (about 30 ns), and paused or advanced with it in tests.
    pub fn tokio() -> Self {
        Self(Some(Arc::new(Source::Tokio(tokio::time::Instant::now()))))
    }

    /// A clock that only its handle moves, and that handle. Nothing expires, and no waiter times out,
    /// before the clock is moved; a pool notices the move when its next real timer fires.
    pub fn manual() -> (Self, ManualClock) {
        let nanos = Arc::new(AtomicU64::new(0));
        (Self(Some(Arc::new(Source::Manual(Arc::clone(&nanos))))), ManualClock(nanos))
    }

    /// How far the clock may trail the real time.
    pub(crate) fn resolution(&self) -> Duration {
        match self.0.as_deref() {
            None => coarse_resolution(),
            #[cfg(test)]
            Some(Source::Ticking(_, tick)) => *tick,
            Some(Source::Tokio(_) | Source::Manual(_)) => Duration::ZERO,
        }
    }

    /// Whether the deadline of a timer that has fired counts as the time if the clock reads an earlier
    /// time: a coarse clock may be a tick behind, and stands still while a test advances tokio's clock.
    pub(crate) fn trails_timers(&self) -> bool {
        match self.0.as_deref() {
            None => true,
            #[cfg(test)]
            Some(Source::Ticking(..)) => true,
            Some(Source::Tokio(_) | Source::Manual(_)) => false,
        }
    }

    /// tokio's clock, as it was at its last tick.
    #[cfg(test)]
    pub(crate) fn ticking(tick: Duration) -> Self {
        Self(Some(Arc::new(Source::Ticking(tokio::time::Instant::now(), tick))))
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => coarse_now(),
            Some(source) => source.now(),
        }
    }
}

impl Source {
    #[cold]
    fn now(&self) -> Timestamp {
        match self {
            Self::Tokio(start) => Timestamp::ZERO.after(start.elapsed()),
            Self::Manual(nanos) => Timestamp::from_nanos(nanos.load(Ordering::Relaxed)),
            #[cfg(test)]
            Self::Ticking(start, tick) => {
                let ticks = start.elapsed().as_nanos() / tick.as_nanos();
                Timestamp::ZERO.after(tick.saturating_mul(ticks as u32))
            }
        }
    }
}

/// Moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward; at most to 584 years after its start.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let add = |nanos: u64| Some(nanos.saturating_add(by));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn coarse_now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // Never negative, and 584 years until it wraps.
    Timestamp::from_nanos(
        (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64),
    )
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn coarse_resolution() -> Duration {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_resolution() -> Duration {
    Duration::ZERO
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_now() -> Timestamp {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Timestamp::ZERO.after(START.get_or_init(Instant::now).elapsed())
}
