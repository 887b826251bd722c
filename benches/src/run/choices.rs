//! What is chosen for a request by its number, so that it is the same for every contestant: whether
//! it may run twice, and how long its caller waits for it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::contestants::{CallError, ErrorKind, Reply, RequestKind};
use crate::scenario::demand::GiveUp;

/// Keeps the three choices of one request independent of each other.
const WRITES: u64 = 0x57;
const LEAVES: u64 = 0x4c;
const MOMENT: u64 = 0x4d;

/// The choices of one turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choices {
    pub(super) seed: u64,
    pub(super) writes_percent: u8,
    pub(super) gives_up: Option<GiveUp>,
    /// How long every caller waits, counted from the moment at which its request was wanted.
    pub(super) patience: Option<Duration>,
}

/// When a caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    at: Instant,
    /// The time that the request was given; `None` when its caller gives up earlier, which is no error.
    missed: Option<Duration>,
}

impl Choices {
    /// Whether this request may run twice.
    pub(super) fn kind(&self, sequence: u32) -> RequestKind {
        if self.writes_percent > 0 && self.is_chosen(WRITES, sequence, self.writes_percent) {
            RequestKind::Write
        } else {
            RequestKind::Read
        }
    }

    /// When the caller of this request stops waiting; `None` when it waits for as long as it takes.
    pub(super) fn deadline(
        &self,
        sequence: u32,
        wanted: Instant,
        handed_over: Instant,
    ) -> Option<Deadline> {
        let leaves = self.leaves_after(sequence);
        let leaves = leaves.map(|after| Deadline { at: handed_over + after, missed: None });
        let misses = self.patience.map(|time| Deadline { at: wanted + time, missed: Some(time) });
        match (leaves, misses) {
            (Some(leaves), Some(misses)) if misses.at < leaves.at => Some(misses),
            (leaves, misses) => leaves.or(misses),
        }
    }

    /// After how long the caller of this request leaves, if it is one of those that do.
    fn leaves_after(&self, sequence: u32) -> Option<Duration> {
        let gives_up = self.gives_up?;
        self.is_chosen(LEAVES, sequence, gives_up.percent).then(|| {
            // 53 bits are what a float holds: a share in [0, 1).
            let share = (self.draw(MOMENT, sequence) >> 11) as f64 / (1_u64 << 53) as f64;
            gives_up.within.mul_f64(share)
        })
    }

    fn is_chosen(&self, purpose: u64, sequence: u32, percent: u8) -> bool {
        self.draw(purpose, sequence) % 100 < u64::from(percent)
    }

    fn draw(&self, purpose: u64, sequence: u32) -> u64 {
        let mixed = self.seed.rotate_left(32) ^ (purpose << 32) ^ u64::from(sequence);
        fastrand::Rng::with_seed(mixed).u64(..)
    }
}

impl Deadline {
    /// Waits for a request until its caller stops waiting; `None` when its caller gave up, which is no error.
    pub(super) async fn hold(
        self,
        call: impl Future<Output = Result<Reply, CallError>>,
    ) -> Option<Result<Reply, CallError>> {
        match (until(self.at, call).await, self.missed) {
            (Some(result), _) => Some(result),
            (None, Some(time)) => {
                let text = format!("no reply within {time:?}");
                Some(Err(CallError::new(ErrorKind::Timeout, text)))
            }
            (None, None) => None,
        }
    }
}

/// Waits for a future, but not beyond `deadline`; `None` when it was dropped before its end.
///
/// It compares the clock with the deadline before it polls the future. A timer is no finer than a
/// millisecond, which is longer than most requests. So a request can also be given up when its reply has
/// arrived and was not read yet.
async fn until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = pin!(tokio::time::sleep_until(deadline));
    std::future::poll_fn(|context| {
        if Instant::now() >= deadline || alarm.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(seed: u64, writes_percent: u8, percent: u8) -> Choices {
        let within = Duration::from_millis(10);
        Choices { seed, writes_percent, gives_up: Some(GiveUp { percent, within }), patience: None }
    }

    #[test]
    fn the_same_seed_chooses_the_same_requests() {
        let all = |choices: Choices| -> Vec<_> {
            (0..1000).map(|number| (choices.kind(number), choices.leaves_after(number))).collect()
        };
        assert_eq!(all(choices(7, 20, 20)), all(choices(7, 20, 20)));
        assert_ne!(all(choices(7, 20, 20)), all(choices(8, 20, 20)));
    }

    #[test]
    fn the_shares_are_those_asked_for() {
        let choices = choices(3, 20, 10);
        let writes =
            (0..100_000).filter(|number| choices.kind(*number) == RequestKind::Write).count();
        let moments: Vec<f64> = (0..100_000)
            .filter_map(|number| choices.leaves_after(number))
            .map(|patience| patience.as_secs_f64())
            .collect();
        assert!((19_500..=20_500).contains(&writes), "{writes}");
        assert!((9_600..=10_400).contains(&moments.len()), "{}", moments.len());
        let mean = moments.iter().sum::<f64>() / moments.len() as f64;
        assert!((0.0048..=0.0052).contains(&mean), "{mean}");
        assert!(moments.iter().all(|moment| *moment < 0.010));
    }

    #[test]
    fn a_write_is_given_up_no_more_often_than_a_read() {
        let choices = choices(3, 50, 50);
        let both = (0..100_000)
            .filter(|number| choices.kind(*number) == RequestKind::Write)
            .filter(|number| choices.leaves_after(*number).is_some())
            .count();
        assert!((24_000..=26_000).contains(&both), "{both}");
    }

    #[test]
    fn nothing_is_chosen_where_nothing_is_asked_for() {
        let choices = Choices { seed: 1, writes_percent: 0, gives_up: None, patience: None };
        assert!((0..1000).all(|number| choices.kind(number) == RequestKind::Read));
        let now = Instant::now();
        assert!((0..1000).all(|number| choices.deadline(number, now, now).is_none()));
    }

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_future_ends_at_its_deadline_at_the_latest() {
        let deadline = Instant::now() + MS * 20;
        assert_eq!(until(deadline, tokio::time::sleep(MS * 30)).await, None);
        assert_eq!(Instant::now(), deadline);
        assert_eq!(until(deadline + MS, async { 5 }).await, Some(5));
        assert_eq!(until(deadline, async { 5 }).await, None, "too late to be polled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_is_no_timeout_and_one_out_of_patience_is() {
        let now = Instant::now();
        let both = |patience| Choices { patience: Some(patience), ..choices(3, 0, 100) };
        let never = std::future::pending;
        let leaves = both(MS * 10).deadline(1, now, now).unwrap();
        assert_eq!(leaves.hold(never()).await, None);
        assert!(Instant::now() < now + MS * 11);
        let misses = both(Duration::ZERO).deadline(1, now, now).unwrap();
        let error = misses.hold(never()).await.unwrap().unwrap_err();
        assert_eq!((error.kind, error.text.as_str()), (ErrorKind::Timeout, "no reply within 0ns"));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_when_the_request_was_wanted() {
        let choices =
            Choices { seed: 1, writes_percent: 0, gives_up: None, patience: Some(MS * 500) };
        let wanted = Instant::now();
        let deadline = choices.deadline(1, wanted, wanted + MS * 100).unwrap();
        assert!(deadline.hold(std::future::pending()).await.unwrap().is_err());
        assert_eq!(Instant::now(), wanted + MS * 500);
    }
}
