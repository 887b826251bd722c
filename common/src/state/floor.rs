//! The floor of one key (`min_idle`): how many connections it lacks, and when it is refilled after a
//! refill came to nothing. Its dials start in [`refill`](super::refill).
//!
//! The dials of a floor run in the background and no caller has asked for them. So nothing but the floor
//! itself slows them down: after a refill that came to nothing the next one waits, twice as long each
//! time. When a key has not been asked for in a long time and its peer is gone, the floor *sleeps* until
//! a caller asks for the key: a key that was mistyped once is not dialed forever.

use std::time::Duration;

use super::ConnectionId;
use crate::clock::Timestamp;
use crate::policy::{Floor, Policy};

/// When no caller has asked for a key for this long and its peer cannot be dialed, the pool stops trying:
/// to refill its floor, and with fail-fast to find out whether the peer is back.
pub const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The floor pauses at least this long after a refill that came to nothing, twice as long after the
/// next, and so on up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const DOUBLINGS: u32 = 20;

/// A connection that ends earlier, unused, was of no use.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// The floor of one key.
#[derive(Debug)]
pub(super) struct KeyFloor {
    /// When a caller last asked for the key and found nothing idle. A caller that joins the queue on the
    /// fast path notes it only where [`notes_demand`](crate::policy::Precomputed) asks for that.
    wanted_at: Timestamp,
    /// With a floor that is kept, the key is never forgotten.
    kept: bool,
    /// Whether the floor was given up until a caller asks for the key.
    sleeps: bool,
    /// With a floor that holds once: connections still to be dialed for it.
    owed: u32,
    /// Refills in a row that came to nothing: the dial failed, or its connection ended at once and
    /// unused. Unlike the failures of [`Backoff`](super::backoff::Backoff), they are not forgotten while
    /// the floor waits for room.
    failures: u32,
    /// When a dial first succeeded after the last of those failures; `NEVER` if none has.
    hope: Timestamp,
    /// When a failed refill is tried again; zero when none failed.
    refill_at: Timestamp,
    /// Whether the key is in the queue of keys whose floor was denied room.
    pub(super) queued: bool,
}

impl Default for KeyFloor {
    fn default() -> Self {
        Self {
            wanted_at: Timestamp::ZERO,
            kept: false,
            sleeps: false,
            owed: 0,
            failures: 0,
            hope: Timestamp::NEVER,
            refill_at: Timestamp::ZERO,
            queued: false,
        }
    }
}

impl KeyFloor {
    /// The floor of a key that the pool has just got to know.
    pub(super) fn new(policy: &Policy, now: Timestamp) -> Self {
        if policy.min_idle == 0 {
            return Self::default();
        }
        Self {
            owed: policy.min_idle,
            kept: policy.floor == Floor::Kept,
            wanted_at: now,
            ..Self::default()
        }
    }

    /// `min_idle` has changed; it was `before`.
    pub(super) fn change(&mut self, before: u32, policy: &Policy, now: Timestamp) {
        self.kept = policy.min_idle > 0 && policy.floor == Floor::Kept;
        self.sleeps = false;
        if before == 0 && policy.min_idle > 0 {
            // It was not noted while there was no floor.
            self.wanted_at = now;
        }
        self.owed = match policy.min_idle.checked_sub(before) {
            Some(more) => self.owed.saturating_add(more),
            None => self.owed.min(policy.min_idle),
        };
    }

    /// Whether lending an idle connection may leave the floor short.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.kept || self.owed > 0
    }

    #[inline]
    pub(super) fn is_asleep(&self) -> bool {
        self.sleeps
    }

    /// Whether the pool has to remember the key for its floor. `denied`: the peer turned this client away.
    pub(super) fn needs_its_key(&self, denied: bool) -> bool {
        // A floor that holds once waits for its next try.
        self.kept || (self.owed > 0 && self.failures > 0 && !self.sleeps && !denied)
    }

    /// A caller asks for the key and finds nothing idle.
    #[inline]
    pub(super) fn note_demand(&mut self, now: Timestamp) {
        self.wanted_at = now;
    }

    /// Whether no caller has asked for the key in a long time.
    pub(super) fn is_deserted(&self, now: Timestamp) -> bool {
        now >= self.wanted_at.after(PATIENCE)
    }

    /// A caller asks for the key, so that its floor is worth keeping. Returns whether it slept.
    pub(super) fn wake(&mut self, policy: &Policy) -> bool {
        let slept = std::mem::take(&mut self.sleeps);
        if slept {
            self.kept = policy.min_idle > 0 && policy.floor == Floor::Kept;
        }
        slept
    }

    /// No caller has asked for the key in a long time and its peer is gone.
    pub(super) fn sleep(&mut self) {
        self.sleeps = true;
        self.kept = false;
    }

    /// How many connections the floor lacks, when `ready` are there or on their way. A floor that holds
    /// once does not look at them. `denied`: the peer turned this client away.
    pub(super) fn lacks(&self, ready: impl FnOnce() -> u32, denied: bool, policy: &Policy) -> u32 {
        if self.sleeps || denied {
            return 0;
        }
        match policy.floor {
            Floor::Kept => policy.min_idle.saturating_sub(ready()),
            Floor::Once => self.owed,
        }
    }

    /// Whether the last refill came to something. If it did not, the next refill dials one connection
    /// alone: where one fails (a wrong password), so would the others.
    pub(super) fn is_proven(&self) -> bool {
        self.failures == 0
    }

    /// When a failed refill is tried again.
    pub(super) fn refill_at(&self) -> Timestamp {
        self.refill_at
    }

    /// A dial for the floor starts.
    pub(super) fn start_refill(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// A dial for the floor failed, and is owed again.
    pub(super) fn owe_again(&mut self, policy: &Policy) {
        // `min_idle` may have been lowered since the dial started.
        if policy.floor == Floor::Once && self.owed < policy.min_idle {
            self.owed += 1;
        }
    }

    /// A refill came to nothing: the next one waits, but not for less than dials pause anyway. Returns
    /// when it is due; `None` when it was noted already.
    pub(super) fn fail(
        &mut self,
        paused_until: Timestamp,
        policy: &Policy,
        rng: &mut fastrand::Rng,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.refill_at > now {
            // One of several that began together: they are one failure.
            return None;
        }
        if self.failures == 0 {
            // Until now all was well.
            self.wanted_at = now;
        }
        let base = policy.back_off_base.max(SHORTEST_PAUSE);
        let doubled = 1 << self.failures.min(DOUBLINGS);
        let pause = base.saturating_mul(doubled).min(LONGEST_PAUSE.max(base));
        self.failures = self.failures.saturating_add(1);
        self.hope = Timestamp::NEVER;
        let jitter = policy.back_off_jitter * rng.f64();
        self.refill_at = now.after(pause.saturating_add(pause.mul_f64(jitter))).max(paused_until);
        Some(self.refill_at)
    }

    /// A dial of the key has succeeded. If it was for a caller, the floor may be tried again at once.
    pub(super) fn note_success(&mut self, for_caller: bool, now: Timestamp) {
        self.hope = self.hope.min(now);
        if for_caller && self.refill_at > now {
            self.refill_at = now;
        }
    }

    /// A connection stayed for as long as it has to: refills come to something.
    pub(super) fn note_proof(&mut self) {
        self.failures = 0;
    }

    /// Forgets the failures when a dial has succeeded and, since then, nothing came to nothing.
    pub(super) fn forget_failures_if_due(&mut self, now: Timestamp) {
        if self.hope.after(PROVEN_AFTER) <= now {
            self.failures = 0;
        }
    }
}

/// Connections of older generations that go on serving until the floor of their key has been remade.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Some may have ended. Empty while the floor is not being remade.
    ids: Vec<ConnectionId>,
    /// How many of them are idle.
    idle: u32,
}

impl Reserve {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn ids(&self) -> &[ConnectionId] {
        &self.ids
    }

    /// How many of them are idle.
    pub(super) fn idle(&self) -> u32 {
        self.idle
    }

    /// Holds these back, `idle` of which are idle. `remaking`: how many keys have a reserve.
    pub(super) fn hold(&mut self, ids: Vec<ConnectionId>, idle: u32, remaking: &mut u32) {
        *remaking = *remaking - u32::from(!self.is_empty()) + u32::from(!ids.is_empty());
        self.ids = ids;
        self.idle = idle;
    }

    /// The floor has been remade, or is not remade any more. Returns what was held back.
    pub(super) fn end(&mut self, remaking: &mut u32) -> Vec<ConnectionId> {
        *remaking -= u32::from(!self.is_empty());
        self.idle = 0;
        std::mem::take(&mut self.ids)
    }

    /// One of them became idle.
    pub(super) fn note_idle(&mut self) {
        self.idle += 1;
    }

    /// One of them is not idle any more; nothing happens when they are not held back any more.
    pub(super) fn note_left(&mut self) {
        self.idle -= u32::from(!self.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1);

    fn policy(floor: Floor) -> Policy {
        Policy {
            min_idle: 2,
            floor,
            back_off_base: Duration::from_millis(1),
            back_off_jitter: 0.0,
            ..Policy::default()
        }
    }

    fn fail(floor: &mut KeyFloor, policy: &Policy, now: Timestamp) -> Option<Duration> {
        let rng = &mut fastrand::Rng::with_seed(1);
        floor.fail(Timestamp::ZERO, policy, rng, now).map(|due| due.since(now))
    }

    #[test]
    fn pause_after_a_useless_refill_doubles_up_to_the_longest() {
        let policy = policy(Floor::Kept);
        let (mut floor, mut now) = (KeyFloor::new(&policy, START), START);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.extend(fail(&mut floor, &policy, now));
            assert_eq!(fail(&mut floor, &policy, now), None, "they began together");
            now = floor.refill_at();
        }
        assert_eq!(pauses[..3], [1, 2, 4].map(|n| n * SHORTEST_PAUSE));
        assert_eq!(pauses[11], LONGEST_PAUSE);
    }

    #[test]
    fn failures_are_forgotten_a_second_after_a_success() {
        let policy = policy(Floor::Kept);
        let mut floor = KeyFloor::new(&policy, START);
        fail(&mut floor, &policy, START);
        floor.note_success(true, START);
        assert_eq!(floor.refill_at(), START, "a caller was served");
        floor.forget_failures_if_due(START);
        assert!(!floor.is_proven());
        floor.forget_failures_if_due(START.after(PROVEN_AFTER));
        assert!(floor.is_proven());
    }

    #[test]
    fn floor_that_holds_once_owes_what_was_not_dialed() {
        let policy = policy(Floor::Once);
        let mut floor = KeyFloor::new(&policy, START);
        let ready = || unreachable!("a floor that holds once does not ask");
        assert_eq!(floor.lacks(ready, false, &policy), 2);
        floor.start_refill();
        assert_eq!(floor.lacks(ready, false, &policy), 1);
        floor.owe_again(&policy);
        assert_eq!(floor.lacks(ready, false, &policy), 2);
        assert!(!floor.needs_its_key(false), "nothing failed");
        fail(&mut floor, &policy, START);
        assert!(floor.needs_its_key(false));
        assert!(!floor.needs_its_key(true));
    }

    #[test]
    fn floor_of_a_deserted_key_sleeps_until_a_caller_asks() {
        let policy = policy(Floor::Kept);
        let mut floor = KeyFloor::new(&policy, START);
        assert_eq!(floor.lacks(|| 1, false, &policy), 1);
        assert!(floor.is_deserted(START.after(PATIENCE)));
        floor.sleep();
        assert!(!floor.needs_its_key(false));
        assert_eq!(floor.lacks(|| 0, false, &policy), 0);
        floor.note_demand(START.after(PATIENCE));
        assert!(floor.wake(&policy) && !floor.is_deserted(START.after(PATIENCE)));
        assert_eq!((floor.is_held(), floor.lacks(|| 0, false, &policy)), (true, 2));
    }

    #[test]
    fn raised_floor_owes_the_difference() {
        let mut policy = policy(Floor::Once);
        let mut floor = KeyFloor::new(&policy, START);
        policy.min_idle = 5;
        floor.change(2, &policy, START);
        assert_eq!(floor.lacks(|| 0, false, &policy), 5);
        policy.min_idle = 1;
        floor.change(5, &policy, START);
        assert_eq!(floor.lacks(|| 0, false, &policy), 1);
    }

    #[test]
    fn key_with_a_reserve_is_counted_once_until_the_reserve_ends() {
        let (mut reserve, mut remaking) = (Reserve::default(), 0);
        reserve.hold(vec![ConnectionId::default(); 2], 2, &mut remaking);
        reserve.note_left();
        assert_eq!((reserve.idle(), remaking), (1, 1));
        reserve.hold(vec![ConnectionId::default()], 1, &mut remaking);
        assert_eq!((reserve.idle(), remaking), (1, 1));
        assert_eq!(reserve.end(&mut remaking).len(), 1);
        // Connections that were held back close after that.
        reserve.note_left();
        assert_eq!((reserve.idle(), remaking), (0, 0));
    }
}
