//! `--worker I/N --start-at TIME`: one of several processes, maybe on several machines, that offer a
//! load together. Each has its share of callers and of the rate. All begin at the same time, and turns
//! begin by the clock, so that the workers do not drift apart.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drive::pass;
use crate::error::BenchError;
use crate::scenario::demand::{Demand, Rate};

/// Time between two turns, for opening and closing a contestant. A worker that needs longer is late.
const GAP: Duration = Duration::from_secs(1);
/// A turn that begins this much later than the others' does not belong to them any more.
const LATE: Duration = Duration::from_millis(50);
/// A start further away is a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// One of several workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// From 0 on.
    index: u32,
    of: u32,
}

impl Worker {
    /// Reads `1/3`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let parts = text.split_once('/').and_then(|(one, all)| number(one).zip(number(all)));
        match parts {
            Some((index, of @ 2..=1000)) if (1..=of).contains(&index) => {
                Ok(Self { index: index - 1, of })
            }
            _ => {
                Err("expected the number of this worker and of all, as 1/3, at least two"
                    .to_owned())
            }
        }
    }

    /// The words of options and results.
    pub fn words(self) -> String {
        format!("{}/{}", self.index + 1, self.of)
    }

    /// This worker's share of some callers; `None` when there are fewer callers than workers.
    pub fn share(self, callers: usize) -> Option<usize> {
        let (index, of) = (self.index as usize, self.of as usize);
        let rest = usize::from(index < callers % of);
        Some(callers / of + rest).filter(|_| callers >= of)
    }

    /// This worker's share of a demand.
    ///
    /// # Errors
    /// Why it cannot be shared.
    pub fn demand(self, demand: Demand) -> Result<Demand, String> {
        let shared = |rate: f64| rate / f64::from(self.of);
        let several = |size: usize| {
            self.share(size)
                .ok_or_else(|| format!("a burst of {size} is too small for {} workers", self.of))
        };
        Ok(match demand {
            Demand::Closed => Demand::Closed,
            Demand::Paced { rate: Rate::PerSecond(rate) } => {
                Demand::Paced { rate: Rate::PerSecond(shared(rate)) }
            }
            Demand::Paced { rate: Rate::OfLimit(_) } => {
                return Err("each worker would measure a limit of its own: give the rate of all workers in requests per second (--rate 5000, --sweep 1000..20000)".to_owned());
            }
            Demand::Bursts { size, every, base } => {
                Demand::Bursts { size: several(size)?, every, base: shared(base) }
            }
            Demand::AtOnce { size, then } => {
                Demand::AtOnce { size: several(size)?, then: shared(then) }
            }
        })
    }

    /// How far uniform arrivals are moved, as a share of their distance: those of all workers together
    /// are uniform, too.
    pub fn phase(self) -> f64 {
        f64::from(self.index) / f64::from(self.of)
    }

    /// A seed for what each worker draws on its own.
    pub fn seed(self, seed: u64) -> u64 {
        seed ^ (u64::from(self.index) << 40)
    }
}

/// Reads a time in RFC 3339, as `2026-01-31T12:00:00Z`, or `+10` seconds from now.
///
/// # Errors
/// What is expected.
pub fn parse_start(text: &str) -> Result<SystemTime, String> {
    let expected =
        || "expected a time as 2026-01-31T12:00:00Z, or seconds from now as +10".to_owned();
    let now = SystemTime::now();
    let start = match text.strip_prefix('+') {
        Some(seconds) => {
            let seconds: f64 = seconds.trim_end_matches('s').parse().map_err(|_| expected())?;
            now + Duration::try_from_secs_f64(seconds).map_err(|_| expected())?
        }
        None => humantime::parse_rfc3339(text).map_err(|_| expected())?,
    };
    match start.duration_since(now) {
        Ok(wait) if wait <= LONGEST_WAIT => Ok(start),
        Ok(_) => Err("that is more than a day from now".to_owned()),
        Err(_) => Err("that time has passed: choose one some seconds from now".to_owned()),
    }
}

/// When the turns of a worker begin.
#[derive(Debug)]
pub struct Clock {
    next: Instant,
    latest: Duration,
}

impl Clock {
    /// A clock whose first turn begins at this time.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when it has passed meanwhile.
    pub fn new(start: SystemTime) -> Result<Self, BenchError> {
        let wait = start.duration_since(SystemTime::now()).map_err(|_| {
            BenchError::usage(
                "--start-at: the time passed before everything was ready: choose a later one",
            )
        })?;
        Ok(Self { next: Instant::now() + wait, latest: Duration::ZERO })
    }

    /// Waits until the next turn begins, which will take so long.
    pub async fn wait(&mut self, turn: Duration, interrupted: &CancellationToken) {
        let left = self.next.saturating_duration_since(Instant::now());
        self.latest = self.latest.max(self.next.elapsed());
        pass(left, interrupted).await;
        self.next += turn + GAP;
    }

    /// What should be known when turns began late.
    pub fn remark(&self) -> Option<String> {
        (self.latest > LATE).then(|| {
            format!(
                "a turn of this worker began {:.1} s late: it did not offer its share together with the others",
                self.latest.as_secs_f64()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(text: &str) -> Worker {
        Worker::parse(text).unwrap()
    }

    #[test]
    fn workers_share_all_callers_and_the_whole_rate() {
        for callers in [3, 50, 51, 52] {
            let all: usize =
                ["1/3", "2/3", "3/3"].iter().filter_map(|one| worker(one).share(callers)).sum();
            assert_eq!(all, callers);
        }
        assert_eq!(worker("1/3").share(2), None);
        let paced = Demand::Paced { rate: Rate::PerSecond(900.0) };
        let share = Demand::Paced { rate: Rate::PerSecond(300.0) };
        assert_eq!(worker("2/3").demand(paced).unwrap(), share);
        let burst = Demand::Bursts { size: 50, every: GAP, base: 10.0 };
        let share = Demand::Bursts { size: 25, every: GAP, base: 5.0 };
        assert_eq!(worker("2/2").demand(burst).unwrap(), share);
        worker("1/2").demand(Demand::Paced { rate: Rate::OfLimit(0.5) }).unwrap_err();
        worker("1/9").demand(Demand::AtOnce { size: 5, then: 1.0 }).unwrap_err();
        assert_ne!(worker("1/2").seed(1), worker("2/2").seed(1));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        for text in ["", "1", "0/2", "3/2", "1/1", "a/b"] {
            assert!(Worker::parse(text).unwrap_err().contains("as 1/3"), "{text}");
        }
        for text in ["", "soon", "+", "+-3", "12:00"] {
            assert!(parse_start(text).unwrap_err().contains("+10"), "{text}");
        }
        assert!(parse_start("2020-01-31T12:00:00Z").unwrap_err().contains("passed"));
        assert!(parse_start("2999-01-31T12:00:00Z").unwrap_err().contains("a day"));
        parse_start("+5").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn turns_begin_by_the_clock_and_late_ones_are_said() {
        let mut clock = Clock::new(SystemTime::now() + Duration::from_secs(5)).unwrap();
        let began = Instant::now();
        let turn = Duration::from_secs(2);
        let token = CancellationToken::new();
        clock.wait(turn, &token).await;
        let first = began.elapsed();
        assert!(first > Duration::from_secs(4), "{first:?}");
        tokio::time::sleep(turn).await;
        clock.wait(turn, &token).await;
        assert!((began.elapsed() - first).abs_diff(turn + GAP) < Duration::from_millis(5));
        assert_eq!(clock.remark(), None);
        tokio::time::sleep(turn * 3).await;
        clock.wait(turn, &token).await;
        assert!(clock.remark().unwrap().contains("3.0 s late"), "{:?}", clock.remark());
    }
}
