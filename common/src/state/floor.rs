//! The floor: connections kept ready, dialed in the background.

use std::hash::Hash;
use std::time::Duration;

use super::acquire::Obstacle;
use super::connection::DialFor;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::Floor;

/// When nobody has asked for a key for this long and its peer cannot be dialed, the pool stops trying:
/// to refill its floor, and with fail-fast to find out whether the peer is back.
pub const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The floor pauses at least this long after a refill that came to nothing, twice as long after the
/// next, and so on up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const DOUBLINGS: u32 = 20;

/// A connection that ends earlier, unused, was of no use.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A dial for the floor failed: it is tried again after a pause. When the peer has been gone and
    /// nobody has asked for it for a long time, the floor sleeps until somebody does: a key that was
    /// mistyped once is not dialed forever. So it does, without being asked again, when the peer has
    /// turned the client away, until a dial for a caller succeeds.
    pub(super) fn retry_floor(&mut self, key: KeyId, now: Timestamp) {
        if self.policy.floor == Floor::Once {
            self.keys[key].floor_owed += 1;
        }
        self.pause_floor(key, now);
        let entry = &self.keys[key];
        // Other dials for the floor end the same way, or wake it.
        let nothing_else = entry.open == entry.refilling && entry.waiting == 0;
        if nothing_else && (entry.denied || now >= entry.wanted_at.after(PATIENCE)) {
            self.give_up_floor(key);
        }
    }

    /// A refill came to nothing. The next one waits, twice as long each time, whatever the policy says
    /// of callers: no caller has asked for these dials, so nothing else slows them down.
    fn pause_floor(&mut self, key: KeyId, now: Timestamp) {
        // Else a refill that a timer started, and that came to nothing within a tick, would seem to have
        // ended before its start, and the next would follow at once.
        let now = self.catch_up(now);
        let entry = &mut self.keys[key];
        if entry.refill_at > now {
            // One of several that began together: they are one failure.
            return;
        }
        if entry.floor_failures == 0 {
            // Until now all was well.
            entry.wanted_at = now;
        }
        let base = self.policy.back_off_base.max(SHORTEST_PAUSE);
        let doubled = 1 << entry.floor_failures.min(DOUBLINGS);
        let pause = base.saturating_mul(doubled).min(LONGEST_PAUSE.max(base));
        entry.floor_failures = entry.floor_failures.saturating_add(1);
        entry.floor_hope = Timestamp::NEVER;
        let jitter = self.policy.back_off_jitter * self.rng.f64();
        let retry_at = now.after(pause.saturating_add(pause.mul_f64(jitter)));
        let entry = &mut self.keys[key];
        entry.refill_at = retry_at.max(entry.paused_until);
        let retry_at = entry.refill_at;
        self.set_timer(retry_at, key);
    }

    /// A dial of the key has succeeded. One for a caller shows that the floor may be tried again at
    /// once; how long it pauses when that comes to nothing is forgotten when nothing has for a second.
    pub(super) fn note_floor_hope(&mut self, key: KeyId, dial_for: DialFor, now: Timestamp) {
        let entry = &mut self.keys[key];
        entry.floor_hope = entry.floor_hope.min(now);
        if dial_for != DialFor::Floor && entry.refill_at > now {
            entry.refill_at = now;
        }
    }

    /// A connection is about to be closed. If it ends at once, and no caller has used it, the refill was
    /// a failure: a peer that accepts and hangs up would else be dialed without a pause.
    pub(super) fn note_floor_loss(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &self.connections[id];
        let (key, is_young) = (connection.key, now.since(connection.opened_at) < PROVEN_AFTER);
        let by_peer =
            matches!(cause, CloseCause::Gone | CloseCause::PeekFailed | CloseCause::CheckFailed)
                || (cause == CloseCause::Retired && connection.generation == self.generation);
        if !is_young {
            self.keys[key].floor_failures = 0;
        } else if by_peer && !connection.lent_before {
            self.pause_floor(key, now);
        }
    }

    /// Nobody has asked for a key for a long time and its peer is gone: its floor sleeps.
    pub(super) fn give_up_floor(&mut self, key: KeyId) {
        let entry = &mut self.keys[key];
        entry.floor_sleeps = true;
        entry.floor_kept = false;
        self.end_remake(key);
    }

    /// Somebody asks for this key and finds nothing idle: its floor is worth keeping.
    pub(super) fn want_floor(&mut self, key: KeyId, now: Timestamp) {
        let entry = &mut self.keys[key];
        entry.wanted_at = now;
        if !entry.denied && std::mem::take(&mut entry.floor_sleeps) {
            entry.floor_kept = self.policy.min_idle > 0 && self.policy.floor == Floor::Kept;
            self.refill(key, now);
        }
    }

    /// Dials until the floor is reached or the limits are.
    pub(super) fn refill(&mut self, key: KeyId, now: Timestamp) {
        if self.closed || !self.keys.contains(key) {
            return;
        }
        if self.remaking > 0 {
            self.remake(key, now);
        }
        let entry = &mut self.keys[key];
        if entry.floor_hope.after(PROVEN_AFTER) <= now {
            // A dial has succeeded, and since then nothing came to nothing.
            entry.floor_failures = 0;
        }
        if self.keys[key].refill_at > self.catch_up(now) {
            return;
        }
        while self.floor_lacks(key) > 0 && self.may_refill(key, now) {
            let entry = &mut self.keys[key];
            entry.refilling += 1;
            entry.floor_owed = entry.floor_owed.saturating_sub(1);
            self.refilling += 1;
            self.start_dial(key, DialFor::Floor, now);
        }
        // What stands in the way may end with something of another key. What is the key's own ends
        // with a timer or a connection of the key.
        let denied =
            self.floors_are_denied(key) || (self.remaking > 0 && self.policy.max_idle.is_some());
        if denied
            && self.floor_lacks(key) > 0
            && !std::mem::replace(&mut self.keys[key].hungry, true)
        {
            if is_overgrown(self.hungry.len(), self.keys.len()) {
                let keys = &self.keys;
                self.hungry.retain(|key| keys.contains(*key));
            }
            self.hungry.push_back(key);
        }
    }

    /// How many connections the floor of a key lacks, those being dialed for it not counted.
    fn floor_lacks(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        if entry.floor_sleeps || entry.denied {
            return 0;
        }
        match self.policy.floor {
            Floor::Kept => {
                let stays = |id: &ConnectionId| {
                    self.connections[*id].retired.is_none() && !self.is_old(*id)
                };
                let kept = self.new_idle(key) + self.in_look(key).filter(stays).count() as u32;
                self.policy.min_idle.saturating_sub(kept + entry.refilling)
            }
            Floor::Once => entry.floor_owed,
        }
    }

    /// Whether the limits over all keys leave no place for the floor of one.
    pub(super) fn floors_are_denied(&self, key: KeyId) -> bool {
        // Each of the reserve makes way for a successor.
        let stays = self.status.idle + self.all_looks() - self.keys[key].old_idle;
        let crowded = self.policy.max_idle.is_some_and(|max| stays + self.refilling >= max);
        crowded || !self.starved.is_empty() || self.pool_is_full() || self.dials_are_full()
    }

    /// The floor does not wait for a dial that serves waiters, but respects every limit, pushes
    /// out no other key's floor, and comes after those who wait.
    fn may_refill(&self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        // The first connection of a key, and the first after a failure, is dialed alone: where one
        // fails (a wrong password), so would the others.
        let is_proven = entry.open > entry.dialing + entry.closing && entry.floor_failures == 0;
        if !is_proven && entry.dialing > entry.stopping {
            return false;
        }
        if self.floors_are_denied(key) || self.rate_holds(&self.keys[key], now) {
            return false;
        }
        match self.obstacle(key, now) {
            None => true,
            // The ramp damps what callers ask for; the size of the floor is known.
            Some(Obstacle::Dialing | Obstacle::Ramp) => {
                let dialing = self.keys[key].dialing;
                self.policy.max_dials_per_key.is_none_or(|max| dialing < max)
            }
            Some(_) => false,
        }
    }
}
