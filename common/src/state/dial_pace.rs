//! The pace of the dials of one key: how fast they may start, by the ramp (`dial_ramp`) and the rate
//! (`max_dials_per_second`), and how long they may take (`dial_hedge`).
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
//!
//! # Patience
//!
//! With `dial_hedge` a dial is overdue after that time or after twice the usual time, whichever is longer;
//! after as many failures in a row, each time twice as late, up to `dial_timeout`.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::policy::{AfterFailedDial, Policy};

const SECOND: Duration = Duration::from_secs(1);

/// The time after which a dial is overdue doubles this often at most; the next limit is `dial_timeout`.
const DOUBLINGS: u32 = 10;

/// The `dial_hedge` that [`Patience::is_slow`] assumes where the policy has none.
const DEFAULT_HEDGE: Duration = Duration::from_millis(100);

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
    pub(super) fn spend(
        &mut self,
        cause: CloseCause,
        demand: u32,
        policy: &Policy,
        spent_keys: &mut u32,
    ) {
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
            self.set_spent((self.spent + 1).min(demand), spent_keys);
        }
    }

    /// A connection came back that can be lent again: it counts for itself.
    pub(super) fn note_reusable(&mut self, spent_keys: &mut u32) {
        self.set_spent(self.spent.saturating_sub(1), spent_keys);
    }

    /// A dial failed, or the key is forgotten: what was earned before says nothing any more.
    pub(super) fn forget_spent(&mut self, spent_keys: &mut u32) {
        self.set_spent(0, spent_keys);
    }

    /// `spent_keys`: how many keys count connections that are gone.
    fn set_spent(&mut self, spent: u32, spent_keys: &mut u32) {
        *spent_keys = *spent_keys - u32::from(self.has_spent()) + u32::from(spent > 0);
        self.spent = spent;
    }
}

/// How long the dials of one key usually take, and when a dial takes too long.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// How long a dial usually takes, in nanoseconds: a moving average over those that succeeded. Zero when
    /// none has.
    usual: u64,
    /// Times at which dials became overdue, or hedges failed, since a dial succeeded; dials of one round count
    /// once.
    failures: u32,
    /// When the last of those failures was. Dials that were in progress then are of the same round.
    failed_at: Timestamp,
    /// No hedge starts before this, since the last one failed.
    hedge_after: Timestamp,
}

impl Patience {
    /// How long a dial usually takes; zero when none has succeeded.
    pub(super) fn usual(&self) -> Duration {
        Duration::from_nanos(self.usual)
    }

    /// Times at which dials became overdue, or hedges failed, since a dial succeeded.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// No hedge starts before this.
    pub(super) fn hedge_after(&self) -> Timestamp {
        self.hedge_after
    }

    /// How long a dial may take before it is overdue; `None` without `dial_hedge`.
    pub(super) fn limit(&self, policy: &Policy) -> Option<Duration> {
        let doubled = 1 << self.failures.min(DOUBLINGS);
        let longest = policy.dial_hedge?.max(self.twice_the_usual()).saturating_mul(doubled);
        Some(longest.min(policy.dial_timeout))
    }

    /// Whether `took` is long for a dial, or for a check, of this key: at least twice what a dial
    /// usually takes, and at least `dial_hedge` (without that, its default).
    pub(super) fn is_slow(&self, took: Duration, policy: &Policy) -> bool {
        took >= policy.dial_hedge.unwrap_or(DEFAULT_HEDGE).max(self.twice_the_usual())
    }

    fn twice_the_usual(&self) -> Duration {
        Duration::from_nanos(self.usual.saturating_mul(2))
    }

    /// A dial that took `took` has succeeded: the peer is there.
    pub(super) fn note_time(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.usual = match self.usual {
            0 => took,
            usual => usual - usual / 8 + took / 8,
        };
        self.failures = 0;
        self.hedge_after = Timestamp::ZERO;
    }

    /// Dials became overdue, the last of which had started at `started`. Nothing happens when all of them were
    /// in progress at the last failure. Otherwise each dial that the ramp adds would double the time until the next
    /// hedge, and twenty waiters of a silent peer would wait longer for it than one.
    pub(super) fn note_overdue(&mut self, started: Timestamp, now: Timestamp) {
        if started >= self.failed_at {
            self.note_failure(now);
        }
    }

    fn note_failure(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
    }

    /// A hedge failed: the next one starts when this one would have been overdue. Returns when that is;
    /// `None` when hedges are put off already, since several that failed together were one try.
    pub(super) fn put_off_hedge(&mut self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        if self.hedge_after > now {
            return None;
        }
        let limit = self.limit(policy)?;
        self.note_failure(now);
        self.hedge_after = now.after(limit);
        Some(self.hedge_after)
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
        let (policy, mut pace, mut keys) = (policy(), DialPace::default(), 0);
        pace.start(0, &policy, START);
        for _ in 0..5 {
            pace.spend(CloseCause::Broken, 2, &policy, &mut keys);
        }
        assert_eq!(keys, 1);
        assert!(!pace.ramp_holds(0, 1, 0, &policy, START), "two are earned");
        assert!(pace.ramp_holds(0, 2, 0, &policy, START), "no more than the demand");
        pace.note_reusable(&mut keys);
        assert!(pace.has_spent());
        pace.forget_spent(&mut keys);
        pace.spend(CloseCause::IdleTimeout, 2, &policy, &mut keys);
        assert!(!pace.has_spent(), "its age proves no need");
        assert_eq!(keys, 0);
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

    #[test]
    fn patience_is_twice_the_usual_time_and_doubles_with_each_failure() {
        let policy = Policy { dial_hedge: Some(STEP), dial_timeout: 9 * STEP, ..policy() };
        let mut patience = Patience::default();
        assert_eq!(patience.limit(&policy), Some(STEP));
        assert_eq!(patience.put_off_hedge(&policy, START), Some(START.after(STEP)));
        assert_eq!(patience.put_off_hedge(&policy, START), None, "they failed together");
        let later = START.after(STEP);
        patience.note_overdue(START, later);
        assert_eq!(patience.limit(&policy), Some(4 * STEP));
        patience.note_overdue(START, later);
        assert_eq!(patience.limit(&policy), Some(4 * STEP), "it was in progress at that time");
        patience.note_overdue(later, later);
        patience.note_overdue(later, later);
        assert_eq!(patience.limit(&policy), Some(9 * STEP), "the dial timeout");
        patience.note_time(STEP);
        assert_eq!((patience.limit(&policy), patience.failures()), (Some(2 * STEP), 0));
        assert_eq!(patience.hedge_after(), Timestamp::ZERO);
        assert!(!patience.is_slow(STEP, &policy));
        assert!(patience.is_slow(2 * STEP, &policy));
    }
}
