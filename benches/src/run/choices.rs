//! What is chosen for a request by its number, so that it is the same for every contestant: whether
//! it may run twice, and whether its caller gives it up.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::contestants::RequestKind;
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
    /// How long every caller waits.
    pub(super) patience: Option<Duration>,
}

/// Why a caller leaves before the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// For reasons of its own.
    GaveUp,
    /// It has waited for as long as it can.
    TooLate,
}

impl Choices {
    /// When the caller of this request leaves, and why: it was handed over at `started` and wanted at
    /// `intended`.
    pub(super) fn leaves(
        &self,
        sequence: u32,
        started: Instant,
        intended: Instant,
    ) -> Option<(Instant, Leave)> {
        let gives_up = self.gives_up_after(sequence).map(|time| (started + time, Leave::GaveUp));
        let too_late = self.patience.map(|time| (intended + time, Leave::TooLate));
        gives_up.into_iter().chain(too_late).min_by_key(|(at, _)| *at)
    }

    /// Whether this request may run twice.
    pub(super) fn kind(&self, sequence: u32) -> RequestKind {
        if self.writes_percent > 0 && self.is_chosen(WRITES, sequence, self.writes_percent) {
            RequestKind::Write
        } else {
            RequestKind::Read
        }
    }

    /// After what time the caller of this request gives it up; `None` when it does not.
    fn gives_up_after(&self, sequence: u32) -> Option<Duration> {
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

/// Waits for a request, but not beyond `deadline`; `None` when the request was given up.
///
/// The deadline is looked at before the request is polled. A timer is no finer than a millisecond,
/// which is longer than most requests; this way a request can also be given up when its reply has
/// arrived and was not read yet.
pub(super) async fn unless_given_up<F: Future>(call: F, deadline: Instant) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut alarm = pin!(tokio::time::sleep_until(deadline));
    std::future::poll_fn(|context| {
        if Instant::now() >= deadline || alarm.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        call.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(seed: u64, writes_percent: u8, percent: u8) -> Choices {
        let within = Duration::from_millis(10);
        let gives_up = Some(GiveUp { percent, within });
        Choices { seed, writes_percent, gives_up, patience: None }
    }

    #[test]
    fn the_same_seed_chooses_the_same_requests() {
        let all = |choices: Choices| -> Vec<_> {
            (0..1000).map(|number| (choices.kind(number), choices.gives_up_after(number))).collect()
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
            .filter_map(|number| choices.gives_up_after(number))
            .map(|patience| patience.as_secs_f64())
            .collect();
        assert!((19_500..=20_500).contains(&writes), "{writes}");
        assert!((9_600..=10_400).contains(&moments.len()), "{}", moments.len());
        let mean = moments.iter().sum::<f64>() / moments.len() as f64;
        assert!((0.0048..=0.0052).contains(&mean), "{mean}");
        assert!(moments.iter().all(|moment| *moment < 0.010));
    }

    #[test]
    fn who_has_no_time_left_leaves_first() {
        let now = Instant::now();
        let patience = Some(Duration::from_millis(5));
        let leaves = |percent| Choices { patience, ..choices(1, 0, percent) }.leaves(3, now, now);
        assert_eq!(leaves(0), Some((now + Duration::from_millis(5), Leave::TooLate)));
        let early = (0..1000).filter(|number| {
            let leave = Choices { patience, ..choices(1, 0, 100) }.leaves(*number, now, now);
            leave.is_some_and(|(_, why)| why == Leave::GaveUp)
        });
        assert!((400..600).contains(&early.count()), "half of 10 ms are before 5");
    }

    #[test]
    fn who_writes_does_not_decide_who_leaves() {
        let choices = choices(3, 50, 50);
        let both = (0..100_000)
            .filter(|number| choices.kind(*number) == RequestKind::Write)
            .filter(|number| choices.gives_up_after(*number).is_some())
            .count();
        assert!((24_000..=26_000).contains(&both), "{both}");
    }

    #[test]
    fn nothing_is_chosen_where_nothing_is_asked_for() {
        let choices = Choices { seed: 1, writes_percent: 0, gives_up: None, patience: None };
        assert!((0..1000).all(|number| choices.kind(number) == RequestKind::Read));
        assert!((0..1000).all(|number| choices.gives_up_after(number).is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_at_its_deadline_at_the_latest() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let slow = tokio::time::sleep(Duration::from_millis(30));
        assert_eq!(unless_given_up(slow, deadline).await, None);
        assert_eq!(Instant::now(), deadline);
        let fast = async { 5 };
        assert_eq!(unless_given_up(fast, deadline + Duration::from_millis(1)).await, Some(5));
        assert_eq!(unless_given_up(async { 5 }, deadline).await, None, "too late to be polled");
    }
}
