//! The clock and the sleep of this machine.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::measure::{self, monotonic_ns, round};
use crate::report::calibration::Timer;

const LOOKS: u32 = 20_000;
const SLEEPS: u32 = 500;
/// As long as the waits between arrivals of an open loop are.
const SLEEP: Duration = Duration::from_micros(100);

/// Measures in a new thread, which asks for the same precision of sleeps as the schedule thread.
pub(super) fn measure() -> Timer {
    let thread = std::thread::spawn(|| {
        // Fails only if the system forbids it; then sleeps are late, and that is measured.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        look()
    });
    thread.join().expect("looking at a clock does not panic")
}

fn look() -> Timer {
    let began = Instant::now();
    let mut last = monotonic_ns();
    let mut step = u64::MAX;
    for _ in 0..LOOKS {
        let now = monotonic_ns();
        if now > last {
            step = step.min(now - last);
        }
        last = now;
    }
    let read = began.elapsed();
    let mut late = measure::histogram();
    for _ in 0..SLEEPS {
        let began = Instant::now();
        std::thread::sleep(SLEEP);
        measure::record(&mut late, began.elapsed().saturating_sub(SLEEP));
    }
    let micros = |quantile| round(late.value_at_quantile(quantile) as f64 / 1000.0);
    Timer {
        step_ns: if step == u64::MAX { 0 } else { step },
        read_ns: round(read.as_nanos() as f64 / f64::from(LOOKS)),
        sleep_late_us: [micros(0.5), micros(0.99)],
    }
}
