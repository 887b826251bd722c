//! How fast the dials of one key may start: the ramp (`dial_ramp`) and the rate (`max_dials_per_second`).
//!
//! # The ramp
//!
//! The ramp damps a cold start. A key has no more dials in progress than it has connections, but always
//! one: 1, 2, 4, ... A caller that comes too early for a dial of its own waits, for a returned
//! connection as well. A dial that takes longer than the ramp's step is *late* and counts as if it had
//! ended, so that a dial that hangs holds waiters back for one step at most.
//!
//! Connections that serve only once (the peer closes them, or their callers give up) prove the need
//! as well as those that stay. So each connection that was *spent* counts as if it were still there,
//! until as many have come back that can be lent again, or a dial fails.
//!
//! # The rate
//!
//! The rate bounds how many dials start within a second. The second begins with the first dial after
//! the last second.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::policy::{AfterFailedDial, Policy};

const SECOND: Duration = Duration::from_secs(1);

/// The ramp and the rate of one key.
#[derive(Debug, Default)]
pub(super) struct DialPace {
    /// When the last dial started.
    last_dial_at: Timestamp,
    /// Dials in progress that are late: those that started by `late_before`.
    late: u32,
    late_before: Timestamp,
    /// Connections that served and could not be lent again, while there was demand for their
    /// successors.
    spent: u32,
    /// When the second began in which dials are counted, and how many have started in it. Counted
    /// where `max_dials_per_second` is set; zero when no second runs.
    second_since: Timestamp,
    dials_in_second: u32,
}

impl DialPace {
    /// When the last dial started.
    pub(super) fn last_dial_at(&self) -> Timestamp {
        self.last_dial_at
    }

    /// A dial starts at `now`; `dialing` others are in progress.
    ///
    /// Returns when a timer has to look at the key again: at the end of the second.
    pub(super) fn start(
        &mut self,
        dialing: u32,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if let Some(step) = policy.dial_ramp {
            if now >= self.last_dial_at.after(step) {
                // All of them started a step ago, or earlier.
                self.late = dialing;
                self.late_before = self.last_dial_at;
            }
            self.last_dial_at = now;
        }
        policy.max_dials_per_second?;
        if now >= self.second_ends() {
            self.second_since = now;
            self.dials_in_second = 0;
        }
        self.dials_in_second += 1;
        Some(self.second_ends())
    }

    /// A dial that started at `started` has ended.
    pub(super) fn end(&mut self, started: Timestamp) {
        if self.late > 0 && started <= self.late_before {
            self.late -= 1;
        }
    }

    /// How many dials are late.
    pub(super) fn late(&self) -> u32 {
        self.late
    }

    /// Whether the dials in progress have to end, or become late, before the next dial starts. The key
    /// has `live` connections, and its last `failures` dials have failed.
    pub(super) fn ramp_holds(
        &self,
        live: u32,
        dialing: u32,
        failures: u32,
        policy: &Policy,
        now: Timestamp,
    ) -> bool {
        let Some(step) = policy.dial_ramp else { return false };
        if dialing == 0 {
            return false;
        }
        let all_late = now >= self.last_dial_at.after(step);
        let late = if all_late { dialing } else { self.late };
        // Where a failed dial is no reason to pause, it is no reason to hold other waiters back: each
        // waiter is told by a dial of its own.
        let failed = if policy.after_failed_dial == AfterFailedDial::Tell { failures } else { 0 };
        let earned = live.saturating_add(late).saturating_add(failed).saturating_add(self.spent);
        dialing.saturating_sub(late) >= earned.max(1)
    }

    /// When all dials in progress are late, so that the ramp holds nothing back any more.
    pub(super) fn ramp_ends(&self, policy: &Policy) -> Option<Timestamp> {
        policy.dial_ramp.map(|step| self.last_dial_at.after(step))
    }

    /// Whether as many dials have started in this second as may.
    pub(super) fn rate_holds(&self, policy: &Policy, now: Timestamp) -> bool {
        let Some(max) = policy.max_dials_per_second else { return false };
        self.dials_in_second >= max && now < self.second_ends()
    }

    /// When the second ends in which dials are counted; zero when none runs.
    pub(super) fn second_ends(&self) -> Timestamp {
        if self.counts_dials() { self.second_since.after(SECOND) } else { Timestamp::ZERO }
    }

    /// Whether a second runs in which dials are counted.
    pub(super) fn counts_dials(&self) -> bool {
        self.dials_in_second > 0
    }

    /// A timer of the key has fired.
    pub(super) fn end_second_if_due(&mut self, now: Timestamp) {
        if now >= self.second_ends() {
            self.dials_in_second = 0;
        }
    }

    /// Whether some connections are counted that are gone.
    pub(super) fn has_spent(&self) -> bool {
        self.spent > 0
    }

    /// A connection that was lent cannot be lent again, for `cause`. It goes on counting for the ramp if
    /// the cause lies in how it was used, as long as there is `demand` for its successor.
    pub(super) fn spend(&mut self, cause: CloseCause, demand: u32, policy: &Policy) {
        let in_use = match cause {
            CloseCause::Broken
            | CloseCause::ResetFailed
            | CloseCause::Discarded
            | CloseCause::Lost
            | CloseCause::Uses
            | CloseCause::Retired
            | CloseCause::Gone => true,
            // The others end it because of its age, or of a limit.
            _ => false,
        };
        if in_use && policy.dial_ramp.is_some() {
            self.spent = (self.spent + 1).min(demand);
        }
    }

    /// A connection came back that can be lent again: it counts for itself.
    pub(super) fn note_reusable(&mut self) {
        self.spent = self.spent.saturating_sub(1);
    }

    /// A dial failed, or the key is forgotten: what was earned before says nothing any more.
    pub(super) fn forget_spent(&mut self) {
        self.spent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);
    const START: Timestamp = Timestamp::from_nanos(1);

    fn policy() -> Policy {
        Policy { dial_ramp: Some(STEP), max_dials_per_second: Some(3), ..Policy::default() }
    }

    #[test]
    fn ramp_allows_one_dial_for_each_connection_and_always_one() {
        let (policy, mut pace) = (policy(), DialPace::default());
        assert!(!pace.ramp_holds(0, 0, 0, &policy, START));
        pace.start(0, &policy, START);
        assert!(pace.ramp_holds(0, 1, 0, &policy, START));
        assert!(!pace.ramp_holds(2, 1, 0, &policy, START));
        assert!(pace.ramp_holds(2, 2, 0, &policy, START));
    }

    #[test]
    fn ramp_lets_go_when_the_dials_are_late() {
        let (policy, mut pace) = (policy(), DialPace::default());
        pace.start(0, &policy, START);
        let later = START.after(STEP);
        assert_eq!(pace.ramp_ends(&policy), Some(later));
        assert!(!pace.ramp_holds(0, 1, 0, &policy, later));
        // The second dial leaves the first one late.
        pace.start(1, &policy, later);
        assert_eq!(pace.late(), 1);
        pace.end(START);
        assert_eq!(pace.late(), 0);
        assert!(pace.ramp_holds(0, 1, 0, &policy, later));
    }

    #[test]
    fn spent_connections_count_while_there_is_demand() {
        let (policy, mut pace) = (policy(), DialPace::default());
        pace.start(0, &policy, START);
        for _ in 0..5 {
            pace.spend(CloseCause::Broken, 2, &policy);
        }
        assert!(!pace.ramp_holds(0, 1, 0, &policy, START), "two are earned");
        assert!(pace.ramp_holds(0, 2, 0, &policy, START), "no more than the demand");
        pace.note_reusable();
        assert!(pace.has_spent());
        pace.forget_spent();
        pace.spend(CloseCause::IdleTimeout, 2, &policy);
        assert!(!pace.has_spent(), "its age proves no need");
    }

    #[test]
    fn rate_counts_from_the_first_dial_of_a_second() {
        let (policy, mut pace) = (policy(), DialPace::default());
        let ends = START.after(SECOND);
        for _ in 0..3 {
            assert!(!pace.rate_holds(&policy, START));
            assert_eq!(pace.start(0, &policy, START), Some(ends));
        }
        assert!(pace.rate_holds(&policy, START));
        assert!(!pace.rate_holds(&policy, ends));
        pace.end_second_if_due(START);
        assert!(pace.counts_dials());
        pace.end_second_if_due(ends);
        assert!(!pace.counts_dials());
    }
}
