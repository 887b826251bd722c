//! The measurements of one turn: latencies in histograms, counts, and the processor time of this
//! process.

use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Latencies are recorded in nanoseconds up to this; a longer one counts as this long.
const MAX_NANOS: u64 = 60_000_000_000;
/// Significant decimal digits of a recorded latency.
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NANOS, DIGITS).expect("the bounds are valid")
}

/// Adds one duration.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(MAX_NANOS);
    histogram.saturating_record(nanos.max(1));
}

/// Processor time that this process has used so far, in all its threads.
pub fn cpu_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Processor time that the calling thread has used so far.
pub fn thread_cpu_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// The clock that all processes of a machine share, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    u64::try_from(clock(ClockId::Monotonic).as_nanos()).unwrap_or(u64::MAX)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Percentiles of a histogram of nanoseconds, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the values are at or below this.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The largest value.
    pub max: f64,
}

impl Percentiles {
    /// `None` when nothing was recorded.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Some(Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        })
    }
}

fn micros(nanos: u64) -> f64 {
    round(nanos as f64 / 1000.0)
}

/// Rounds to three decimals, the precision of the measurement.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The middle of some values, and their extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// The number of values: a single value has no extremes.
    pub count: usize,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, low, high, count: values.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = histogram();
        assert_eq!(Percentiles::of(&histogram), None);
        for micros in 1..=1000 {
            record(&mut histogram, Duration::from_micros(micros));
        }
        let percentiles = Percentiles::of(&histogram).unwrap();
        assert!((percentiles.p50 - 500.0).abs() <= 1.0, "{percentiles:?}");
        assert!((percentiles.p99 - 990.0).abs() <= 1.0, "{percentiles:?}");
        assert!((percentiles.max - 1000.0).abs() <= 1.0, "{percentiles:?}");
    }

    #[test]
    fn too_long_and_too_short_are_recorded_at_the_bounds() {
        let mut histogram = histogram();
        record(&mut histogram, Duration::ZERO);
        record(&mut histogram, Duration::MAX);
        assert_eq!(histogram.len(), 2);
    }

    #[test]
    fn the_median_is_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn processor_time_goes_on() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_time() > before);
    }
}
