//! Sending a failed request again: what the clients of this workspace have in common.
//!
//! *Which* failures are worth another attempt is each protocol's own decision, because protocols
//! differ in how a peer says that it did nothing, and in which requests may run twice. Three things
//! do not differ, and are here: what is known of the [`Fate`] of the request, how many attempts
//! there may be ([`Count`]), and how long to wait before the next ([`back_off`]).
//!
//! All of it is decided after a failure. A request that succeeds at once pays for a counter.

use std::time::Duration;

use crate::policy::{Policy, Retry};

/// What is known of a request whose attempt failed.
///
/// In the order of how much the peer may have done. Up to [`Unprocessed`](Fate::Unprocessed) any
/// request can be sent again; after that only one that does no harm when it runs twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// No byte of it was written.
    NotSent,
    /// The peer proved that it did not carry the request out: it refused the stream, or it answered
    /// that it cannot serve now.
    Unprocessed,
    /// Some of it was written, or may have been, and there is no answer.
    Unknown,
    /// Its answer has begun.
    Answered,
}

impl Fate {
    /// Whether the peer may have carried the request out, in whole or in part. When this is false,
    /// sending the request again cannot run it twice.
    pub fn may_have_executed(self) -> bool {
        match self {
            Self::NotSent | Self::Unprocessed => false,
            Self::Unknown | Self::Answered => true,
        }
    }
}

/// Which attempt at a request it is, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    number: u32,
    most: u32,
}

impl Count {
    /// The first attempt at a request.
    pub fn first(policy: &Policy) -> Self {
        Self::nth(policy, 1)
    }

    /// The attempt of this number, from 1 on.
    pub fn nth(policy: &Policy, number: u32) -> Self {
        let most = if policy.retry == Retry::Never { 1 } else { policy.retry_attempts };
        Self { number, most }
    }

    /// Its number: 1 for the first.
    pub fn number(self) -> u32 {
        self.number
    }

    /// The attempt after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }

    /// Whether no attempt may follow.
    pub fn is_last(self) -> bool {
        self.number >= self.most
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The failure is the answer.
    GiveUp,
    /// Send it again.
    Again {
        /// On a connection that is dialed for it.
        fresh: bool,
        /// After this time.
        pause: Duration,
    },
}

impl Verdict {
    /// Sends it again without a pause.
    pub const AT_ONCE: Self = Self::Again { fresh: false, pause: Duration::ZERO };

    /// Sends it again without a pause, on a connection that is dialed for it if `fresh`.
    pub fn at_once(fresh: bool) -> Self {
        Self::Again { fresh, pause: Duration::ZERO }
    }
}

/// The pause before a further attempt, the `nth` of a request that needs one, from 1 on; `random` is
/// from 0 up to, but not including, 1.
///
/// At least `retry_back_off_min`, with a random share of a spread that doubles from one pause to the
/// next, and at most `retry_back_off_max`. No pause if the least is zero. Source: go-redis.
pub fn back_off(policy: &Policy, nth: u32, random: f64) -> Duration {
    let (least, most) = (policy.retry_back_off_min, policy.retry_back_off_max);
    if least.is_zero() {
        return Duration::ZERO;
    }
    let growth = 2_f64.powi(i32::try_from(nth).unwrap_or(i32::MAX));
    // Finite, so that no share of it is not a number.
    let spread = (least.as_secs_f64() * growth).min(f64::MAX);
    let pause = (least.as_secs_f64() + random * spread).min(most.as_secs_f64());
    // Seconds as a float may round up beyond the longest duration.
    Duration::try_from_secs_f64(pause).map_or(most, |pause| pause.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_up_to_the_last() {
        let policy = Policy { retry: Retry::Attempts, retry_attempts: 3, ..Policy::default() };
        let first = Count::first(&policy);
        let counts = [first, first.next(), first.next().next()];
        assert_eq!(counts.map(Count::number), [1, 2, 3]);
        assert_eq!(counts.map(Count::is_last), [false, false, true]);
        let never = Policy { retry: Retry::Never, ..policy };
        assert!(Count::first(&never).is_last());
        assert_eq!(Count::nth(&never, u32::MAX).next().number(), u32::MAX);
    }

    #[test]
    fn only_a_request_that_may_have_been_read_may_have_executed() {
        let fates = [Fate::NotSent, Fate::Unprocessed, Fate::Unknown, Fate::Answered];
        assert!(fates.is_sorted());
        assert_eq!(fates.map(Fate::may_have_executed), [false, false, true, true]);
    }

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        let policy = Policy::default();
        let millis = |nth, random| back_off(&policy, nth, random).as_millis();
        assert_eq!((millis(1, 0.0), millis(1, 0.5), millis(3, 0.5)), (10, 20, 50));
        for nth in [4000, u32::MAX] {
            assert_eq!(back_off(&policy, nth, 0.9), Duration::from_secs(1));
            assert_eq!(back_off(&policy, nth, 0.0), Duration::from_millis(10));
        }
        let (least, most) = (Duration::from_secs(9), Duration::from_secs(1));
        let crossed =
            Policy { retry_back_off_min: least, retry_back_off_max: most, ..policy.clone() };
        assert_eq!(back_off(&crossed, 1, 0.0), most);
        let endless = Policy {
            retry_back_off_min: Duration::MAX,
            retry_back_off_max: Duration::MAX,
            ..policy.clone()
        };
        assert_eq!(back_off(&endless, 1, 0.9), Duration::MAX);
        let none = Policy { retry_back_off_min: Duration::ZERO, ..policy };
        assert_eq!(back_off(&none, 3, 0.9), Duration::ZERO);
    }
}
