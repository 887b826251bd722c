//! When requests arrive in an open loop: times from the start of the window, in order.
//!
//! The same demand, length and seed give the same times, so every contestant gets the same requests
//! at the same moments.

use std::time::Duration;

use crate::scenario::demand::{Arrivals, Demand, Rate};

/// The arrivals of one window: an iterator over their distances from its start.
#[derive(Debug)]
pub(super) struct Schedule {
    crowds: Crowds,
    stream: Stream,
    length: Duration,
}

impl Schedule {
    /// The arrivals of a window of this length.
    ///
    /// # Errors
    /// When the demand is a closed loop, or its rate is still relative to a limit.
    pub(super) fn new(
        demand: Demand,
        arrivals: Arrivals,
        length: Duration,
        seed: u64,
    ) -> Result<Self, String> {
        let stream = |rate| Stream::new(rate, arrivals, seed);
        let (crowds, stream) = match demand {
            Demand::Closed => return Err("a closed loop has no schedule".to_owned()),
            Demand::Paced { rate: Rate::OfLimit(_) } => {
                return Err("the rate is a share of a limit that was not measured".to_owned());
            }
            Demand::Paced { rate: Rate::PerSecond(rate) } => (Crowds::NONE, stream(rate)),
            Demand::Bursts { size, every, base } => (Crowds::new(size, Some(every)), stream(base)),
            Demand::AtOnce { size, then } => (Crowds::new(size, None), stream(then)),
        };
        Ok(Self { crowds, stream, length })
    }

    /// Makes uniform arrivals earlier by this share of their distance. The arrivals of other workers fall
    /// between them.
    #[must_use]
    pub(super) fn moved(mut self, phase: f64) -> Self {
        self.stream.shift(phase);
        self
    }

    /// The arrivals of the warm-up for a demand: its quiet part alone, or the bursts themselves if nothing
    /// arrives between bursts. `None` if nothing may be warm at the start of the window.
    pub(super) fn warm_up(
        demand: Demand,
        arrivals: Arrivals,
        length: Duration,
        seed: u64,
    ) -> Result<Option<Self>, String> {
        let quiet = match demand {
            Demand::AtOnce { .. } => return Ok(None),
            Demand::Bursts { base, .. } if base > 0.0 => {
                Demand::Paced { rate: Rate::PerSecond(base) }
            }
            // Bursts over nothing have bursts in the warm-up, too. Otherwise the first burst would open
            // connections within the window, and results would count the dials for them as if the subject
            // of the scenario, such as the end of lifetimes, had caused them.
            Demand::Bursts { .. } | Demand::Closed | Demand::Paced { .. } => demand,
        };
        // Another seed: the window must not repeat its warm-up.
        Self::new(quiet, arrivals, length, !seed).map(Some)
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = match (self.crowds.next, self.stream.next) {
            (Some(crowd), Some(single)) if crowd <= single => self.crowds.take(),
            (Some(_), None) => self.crowds.take(),
            (_, Some(_)) => self.stream.take(),
            (None, None) => None,
        };
        at.filter(|at| *at < self.length)
    }
}

/// Several arrivals at the same moment, at intervals or once.
#[derive(Debug)]
struct Crowds {
    size: usize,
    every: Option<Duration>,
    next: Option<Duration>,
    left: usize,
}

impl Crowds {
    const NONE: Self = Self { size: 0, every: None, next: None, left: 0 };

    fn new(size: usize, every: Option<Duration>) -> Self {
        let every = every.filter(|every| !every.is_zero());
        Self { size, every, next: (size > 0).then_some(Duration::ZERO), left: size }
    }

    fn take(&mut self) -> Option<Duration> {
        let at = self.next?;
        self.left -= 1;
        if self.left == 0 {
            self.left = self.size;
            self.next = self.every.map(|every| at + every);
        }
        Some(at)
    }
}

/// Single arrivals at a rate.
#[derive(Debug)]
struct Stream {
    rate: f64,
    /// `None` for equal distances.
    random: Option<fastrand::Rng>,
    number: u64,
    /// A share of the distance that uniform arrivals come earlier.
    phase: f64,
    seconds: f64,
    next: Option<Duration>,
}

impl Stream {
    /// A rate that is not above zero has no arrivals.
    fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        let random = match arrivals {
            Arrivals::Uniform => None,
            Arrivals::Poisson => Some(fastrand::Rng::with_seed(seed)),
        };
        let mut stream = Self { rate, random, number: 0, phase: 0.0, seconds: 0.0, next: None };
        if rate.is_finite() && rate > 0.0 {
            stream.step();
        }
        stream
    }

    fn shift(&mut self, phase: f64) {
        if self.random.is_none() && self.next.is_some() {
            self.phase = phase;
            self.number = 0;
            self.step();
        }
    }

    fn take(&mut self) -> Option<Duration> {
        let at = self.next;
        self.step();
        at
    }

    fn step(&mut self) {
        self.number += 1;
        self.seconds = match &mut self.random {
            // Computed from its number and not from the arrival before it: rounding errors must not add up.
            None => (self.number as f64 - self.phase) / self.rate,
            // Distances of independent arrivals are exponential; 1 - [0, 1) is never 0.
            Some(random) => self.seconds - (1.0 - random.f64()).ln() / self.rate,
        };
        self.next = Duration::try_from_secs_f64(self.seconds).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn paced(rate: f64) -> Demand {
        Demand::Paced { rate: Rate::PerSecond(rate) }
    }

    fn all(demand: Demand, arrivals: Arrivals, length: Duration, seed: u64) -> Vec<Duration> {
        Schedule::new(demand, arrivals, length, seed).unwrap().collect()
    }

    #[test]
    fn uniform_arrivals_are_equally_far_apart() {
        let times = all(paced(1000.0), Arrivals::Uniform, SECOND, 1);
        assert_eq!(times.len(), 999, "the first comes one distance after the start");
        for (number, at) in (1..).zip(&times) {
            assert_eq!(*at, Duration::from_millis(number));
        }
    }

    #[test]
    fn arrivals_of_two_workers_together_are_uniform() {
        let half = |phase| {
            let schedule = Schedule::new(paced(500.0), Arrivals::Uniform, SECOND, 1).unwrap();
            schedule.moved(phase).collect::<Vec<_>>()
        };
        let mut both = [half(0.0), half(0.5)].concat();
        both.sort();
        assert_eq!(both, all(paced(1000.0), Arrivals::Uniform, SECOND, 1));
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let demands = [
            paced(500.0),
            Demand::Bursts { size: 5, every: SECOND / 4, base: 100.0 },
            Demand::AtOnce { size: 50, then: 100.0 },
        ];
        for demand in demands {
            let of = |seed| all(demand, Arrivals::Poisson, SECOND, seed);
            assert_eq!(of(1), of(1));
            assert_ne!(of(1), of(2));
            assert!(of(1).is_sorted());
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_independent_ones() {
        let times = all(paced(1000.0), Arrivals::Poisson, SECOND * 100, 5);
        // The standard deviation of a count of 100,000 is 316.
        assert!((98_700..=101_300).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let spread = variance.sqrt() / mean;
        assert!((0.97..=1.03).contains(&spread), "exponential gaps spread by their mean: {spread}");
    }

    #[test]
    fn bursts_come_at_once_over_their_base() {
        let demand = Demand::Bursts { size: 50, every: SECOND, base: 10.0 };
        let times = all(demand, Arrivals::Uniform, SECOND * 3, 1);
        for burst in 0..3 {
            let same = times.iter().filter(|at| **at == SECOND * burst).count();
            // At every burst but the first, one arrival of the base comes at the same moment.
            assert_eq!(same, 50 + usize::from(burst > 0));
        }
        assert_eq!(times.len(), 3 * 50 + 29);
        assert!(times.is_sorted());
    }

    #[test]
    fn a_herd_comes_once() {
        let demand = Demand::AtOnce { size: 50, then: 10.0 };
        let times = all(demand, Arrivals::Uniform, SECOND, 1);
        assert!(times[..50].iter().all(Duration::is_zero));
        assert_eq!(times.len(), 50 + 9);
    }

    #[test]
    fn nothing_arrives_at_no_rate() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(all(paced(rate), Arrivals::Uniform, SECOND, 1).is_empty());
        }
        let demand = Demand::Bursts { size: 0, every: SECOND, base: 0.0 };
        assert!(all(demand, Arrivals::Poisson, SECOND, 1).is_empty());
    }

    #[test]
    fn a_rate_that_was_not_resolved_is_refused() {
        let demand = Demand::Paced { rate: Rate::OfLimit(0.6) };
        assert!(Schedule::new(demand, Arrivals::Uniform, SECOND, 1).is_err());
        assert!(Schedule::new(Demand::Closed, Arrivals::Uniform, SECOND, 1).is_err());
    }

    #[test]
    fn the_warm_up_is_quiet_where_there_is_quiet_and_a_herd_has_none() {
        let bursts = Demand::Bursts { size: 50, every: SECOND, base: 10.0 };
        let quiet = Schedule::warm_up(bursts, Arrivals::Uniform, SECOND, 1).unwrap().unwrap();
        assert_eq!(quiet.count(), 9);
        let bursts = Demand::Bursts { size: 50, every: SECOND / 4, base: 0.0 };
        let warm = Schedule::warm_up(bursts, Arrivals::Uniform, SECOND, 1).unwrap().unwrap();
        assert_eq!(warm.count(), 4 * 50, "over nothing there is no quiet part");
        let herd = Demand::AtOnce { size: 50, then: 10.0 };
        assert!(Schedule::warm_up(herd, Arrivals::Uniform, SECOND, 1).unwrap().is_none());
        let warm = Schedule::warm_up(paced(100.0), Arrivals::Poisson, SECOND, 1).unwrap().unwrap();
        assert_ne!(warm.collect::<Vec<_>>(), all(paced(100.0), Arrivals::Poisson, SECOND, 1));
    }
}
