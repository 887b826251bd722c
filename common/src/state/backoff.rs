//! Back-off: how long the dials of a key pause after a failure, and which callers wait through a pause.
//!
//! [`Backoff`] holds what is known of the failures of one key. It decides when dials pause and for how
//! long. Which callers are told of a failure is in [`dialed`](super::dialed), when a probe starts in
//! [`refill`](super::refill).

use std::time::Duration;

use super::Refusal;
use crate::clock::Timestamp;
use crate::policy::{AfterFailedDial, Policy};

/// The shortest pause after a connection that allowed no lease, where the policy's pauses are shorter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The failures of one key's dials since the last dial that succeeded.
#[derive(Debug)]
pub(super) struct Backoff<E> {
    /// Failed dials in a row; dials that fail during one pause count once.
    failures: u32,
    /// The peer answered the last dial and turned this client away: nothing is dialed in the
    /// background until a dial for a caller succeeds.
    denied: bool,
    /// No dial starts before this.
    paused_until: Timestamp,
    /// The failures are forgotten at this time, if no dial has ended before.
    remember_until: Timestamp,
    last_error: Option<E>,
    /// Connections in a row that ended before they had allowed a single lease; those that ended during one
    /// pause count once.
    useless: u32,
}

impl<E> Default for Backoff<E> {
    fn default() -> Self {
        Self {
            failures: 0,
            denied: false,
            paused_until: Timestamp::ZERO,
            remember_until: Timestamp::ZERO,
            last_error: None,
            useless: 0,
        }
    }
}

impl<E: Clone> Backoff<E> {
    /// A dial has failed with `error`. `beside` says that a connection of the key works meanwhile, so
    /// that the next dial waits even where the policy has no pause.
    ///
    /// Returns when the pause that begins now ends. A failure during a pause begins no other one:
    /// dials that were under way when the pause began are of the same round.
    pub(super) fn fail(
        &mut self,
        error: E,
        beside: bool,
        policy: &Policy,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.last_error = Some(error);
        let new_round = self.paused_until <= now;
        if new_round {
            self.failures = self.failures.saturating_add(1);
        }
        let mut pause_ends = None;
        if new_round && (self.pauses(policy) || beside) {
            let first = if self.pauses(policy) { policy.back_off_after } else { 1 };
            self.paused_until = now.after(pause_length(policy, self.failures - first, rng));
            pause_ends = Some(self.paused_until);
        }
        // The failures are remembered for one longest pause beyond the end of this one, so that the
        // next pause goes on growing.
        self.remember_until = self.paused_until.max(now).after(policy.back_off_max);
        pause_ends
    }

    /// The refusal of a waiting caller while dials pause.
    pub(super) fn refusal(&self, now: Timestamp) -> Option<Refusal<E>> {
        let last = self.last_error.clone()?;
        Some(Refusal::BackingOff { until: self.paused_until.max(now), last })
    }
}

impl<E> Backoff<E> {
    /// A dial has succeeded. `serves`: its connection allows leases.
    pub(super) fn succeed(&mut self, serves: bool) {
        self.failures = 0;
        self.last_error = None;
        self.denied = false;
        if serves {
            self.useless = 0;
        }
        if self.useless == 0 {
            self.paused_until = Timestamp::ZERO;
        }
    }

    /// A connection has ended that had allowed no lease at all. The next dial waits, whatever the policy says
    /// of failed dials: its waiters are still there, and no caller's retry bounds how often this happens.
    ///
    /// Returns when the pause that begins now ends.
    pub(super) fn end_useless(
        &mut self,
        policy: &Policy,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.paused_until > now {
            return None;
        }
        let pause = pause_length(policy, self.useless, rng).max(SHORTEST_PAUSE);
        self.useless = self.useless.saturating_add(1);
        self.paused_until = now.after(pause);
        self.remember_until = self.paused_until.after(policy.back_off_max);
        Some(self.paused_until)
    }

    /// The peer has turned this client away.
    pub(super) fn deny(&mut self) {
        self.denied = true;
    }

    /// Whether the peer turned this client away at the last dial.
    pub(super) fn is_denied(&self) -> bool {
        self.denied
    }

    /// Failed dials in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the pool has to remember the key for the pauses to go on growing.
    pub(super) fn needs_its_key(&self) -> bool {
        self.failures > 0 || self.useless > 0
    }

    pub(super) fn last_error(&self) -> Option<&E> {
        self.last_error.as_ref()
    }

    /// When the last pause ends or ended.
    pub(super) fn paused_until(&self) -> Timestamp {
        self.paused_until
    }

    /// When the failures are forgotten.
    pub(super) fn remember_until(&self) -> Timestamp {
        self.remember_until
    }

    /// Whether there have been as many failures as the policy pauses after.
    pub(super) fn pauses(&self, policy: &Policy) -> bool {
        policy.after_failed_dial != AfterFailedDial::Tell && self.failures >= policy.back_off_after
    }

    /// Whether the policy is to fail fast and there have been enough failures for that.
    pub(super) fn fails_fast(&self, policy: &Policy) -> bool {
        policy.after_failed_dial == AfterFailedDial::FailFast && self.pauses(policy)
    }

    /// Whether dials pause now.
    ///
    /// With fail-fast they pause until the probe has succeeded. Before `back_off_after` failures, and
    /// where the policy is to tell, they pause only while a connection that works can serve
    /// callers meanwhile (`has_useful`).
    pub(super) fn is_paused(&self, policy: &Policy, has_useful: bool, now: Timestamp) -> bool {
        let pauses = self.pauses(policy) || has_useful || self.useless > 0;
        (self.paused_until > now && pauses) || self.fails_fast(policy)
    }

    /// Whether a caller that waits until `deadline` waits through the pause: the pause is short, and
    /// leaves at least half of the caller's time for what follows.
    pub(super) fn is_short(&self, policy: &Policy, deadline: Timestamp, now: Timestamp) -> bool {
        let rest = self.paused_until.since(now);
        policy.after_failed_dial == AfterFailedDial::BackOff
            && policy.wait_out_pauses.is_some_and(|longest| rest <= longest)
            && rest <= deadline.since(now) / 2
    }

    /// A timer of the key has fired and no dial is in progress: the failures are forgotten when their
    /// time is over.
    pub(super) fn forget_if_due(&mut self, now: Timestamp) {
        if self.remember_until <= now && self.paused_until <= now {
            self.failures = 0;
            self.useless = 0;
            self.last_error = None;
        }
    }

    /// No caller has asked for the key in a long time: the next caller finds out about the peer.
    pub(super) fn give_up(&mut self) {
        self.failures = 0;
        self.useless = 0;
    }
}

/// The length of pause number `n`, counted from 0: `back_off_base`, growing by `back_off_factor` up to
/// `back_off_max`, with jitter. The first pause has no jitter, and with fail-fast all are alike.
fn pause_length(policy: &Policy, n: u32, rng: &mut fastrand::Rng) -> Duration {
    if policy.after_failed_dial == AfterFailedDial::FailFast || n == 0 {
        return policy.back_off_base;
    }
    let base = policy.back_off_base.as_secs_f64();
    let max = policy.back_off_max.as_secs_f64();
    let exponent = i32::try_from(n).unwrap_or(i32::MAX);
    let length = (base * policy.back_off_factor.powi(exponent)).min(max);
    let jitter = 1.0 + policy.back_off_jitter * (rng.f64() * 2.0 - 1.0);
    Duration::try_from_secs_f64((length * jitter).min(max)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(after_failed_dial: AfterFailedDial) -> Policy {
        Policy {
            after_failed_dial,
            back_off_after: 1,
            back_off_base: SECOND,
            back_off_factor: 2.0,
            back_off_max: 5 * SECOND,
            back_off_jitter: 0.0,
            wait_out_pauses: Some(2 * SECOND),
            ..Policy::default()
        }
    }

    fn fail(backoff: &mut Backoff<u8>, policy: &Policy, beside: bool, now: Timestamp) -> Duration {
        let ends = backoff.fail(7, beside, policy, &mut fastrand::Rng::with_seed(1), now);
        ends.map_or(Duration::ZERO, |ends| ends.since(now))
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_a_success_ends_them() {
        let policy = policy(AfterFailedDial::BackOff);
        let (mut backoff, mut now) = (Backoff::default(), Timestamp::from_nanos(1));
        for seconds in [1, 2, 4, 5, 5] {
            assert_eq!(fail(&mut backoff, &policy, false, now), seconds * SECOND);
            assert!(backoff.is_paused(&policy, false, now));
            now = backoff.paused_until();
            assert!(!backoff.is_paused(&policy, false, now));
        }
        backoff.succeed(true);
        assert_eq!(fail(&mut backoff, &policy, false, now), SECOND);
    }

    #[test]
    fn failures_during_a_pause_count_once() {
        let policy = policy(AfterFailedDial::BackOff);
        let (mut backoff, now) = (Backoff::default(), Timestamp::from_nanos(1));
        fail(&mut backoff, &policy, false, now);
        assert_eq!(fail(&mut backoff, &policy, false, now), Duration::ZERO);
        assert_eq!(backoff.failures(), 1);
        let ends = backoff.paused_until();
        assert_eq!(fail(&mut backoff, &policy, false, ends), 2 * SECOND);
    }

    #[test]
    fn a_policy_that_only_tells_pauses_beside_connections_that_work() {
        let policy = policy(AfterFailedDial::Tell);
        let (mut backoff, now) = (Backoff::default(), Timestamp::from_nanos(1));
        assert_eq!(fail(&mut backoff, &policy, false, now), Duration::ZERO);
        let mut backoff_beside = Backoff::default();
        assert_eq!(fail(&mut backoff_beside, &policy, true, now), SECOND);
        assert!(backoff_beside.is_paused(&policy, true, now));
        assert!(!backoff_beside.is_paused(&policy, false, now), "nothing works any more");
    }

    #[test]
    fn fail_fast_pauses_until_a_dial_succeeds() {
        let policy = policy(AfterFailedDial::FailFast);
        let (mut backoff, now) = (Backoff::default(), Timestamp::from_nanos(1));
        fail(&mut backoff, &policy, false, now);
        assert!(backoff.is_paused(&policy, false, now.after(100 * SECOND)));
        backoff.succeed(true);
        assert!(!backoff.is_paused(&policy, false, now.after(100 * SECOND)));
    }

    #[test]
    fn failures_are_remembered_for_one_longest_pause_after_the_pause() {
        let policy = policy(AfterFailedDial::BackOff);
        let (mut backoff, now) = (Backoff::default(), Timestamp::from_nanos(1));
        fail(&mut backoff, &policy, false, now);
        backoff.forget_if_due(now.after(5 * SECOND));
        assert_eq!(backoff.failures(), 1);
        backoff.forget_if_due(now.after(6 * SECOND));
        assert_eq!((backoff.failures(), backoff.last_error()), (0, None));
    }

    #[test]
    fn a_caller_waits_through_a_pause_that_leaves_half_of_its_time() {
        let policy = policy(AfterFailedDial::BackOff);
        let (mut backoff, now) = (Backoff::default(), Timestamp::from_nanos(1));
        fail(&mut backoff, &policy, false, now);
        assert!(backoff.is_short(&policy, now.after(2 * SECOND), now));
        assert!(!backoff.is_short(&policy, now.after(SECOND), now));
        let ends = backoff.paused_until();
        fail(&mut backoff, &policy, false, ends);
        assert!(!backoff.is_short(&policy, Timestamp::NEVER, now), "3 s are longer than 2 s");
    }
}
