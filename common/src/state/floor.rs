//! The floor: connections kept ready, dialed in the background.

use std::hash::Hash;
use std::time::Duration;

use super::acquire::Obstacle;
use super::entries::DialFor;
use super::stale::queue_up;
use super::{KeyId, State};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::Floor;

/// When nobody has asked for a key for this long and its peer cannot be dialed, the pool stops trying:
/// to refill its floor, and with fail-fast to find out whether the peer is back.
pub const PATIENCE: Duration = Duration::from_secs(60 * 60);

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A dial for the floor failed: it is tried again after a pause. When the peer has been gone and
    /// nobody has asked for it for a long time, the floor sleeps until somebody does: a key that was
    /// mistyped once is not dialed for ever.
    pub(super) fn retry_floor(&mut self, key: KeyId, now: Timestamp) {
        if self.policy.floor == Floor::Once {
            self.keys[key].floor_owed += 1;
        }
        let entry = &mut self.keys[key];
        if !std::mem::replace(&mut entry.floor_fails, true) {
            // Until now all was well.
            entry.wanted_at = now;
        }
        // Other dials for the floor end the same way, or wake it.
        let nothing_else = entry.open == entry.refilling && entry.waiting == 0;
        if nothing_else && now >= entry.wanted_at.after(PATIENCE) {
            return self.give_up_floor(key);
        }
        let retry_at = now.after(self.policy.back_off_base.max(Duration::from_millis(1)));
        let retry_at = retry_at.max(entry.paused_until);
        entry.refill_at = retry_at;
        self.set_timer(retry_at, key);
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
        if std::mem::take(&mut entry.floor_sleeps) {
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
        if self.keys[key].refill_at > now {
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
            queue_up(&mut self.hungry, &self.keys, key);
        }
    }

    /// How many connections the floor of a key lacks, those being dialed for it not counted.
    fn floor_lacks(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        if entry.floor_sleeps {
            return 0;
        }
        match self.policy.floor {
            Floor::Kept => {
                self.policy.min_idle.saturating_sub(self.new_idle(key) + entry.refilling)
            }
            Floor::Once => entry.floor_owed,
        }
    }

    /// Whether the limits over all keys leave no place for the floor of one.
    pub(super) fn floors_are_denied(&self, key: KeyId) -> bool {
        // Each of the reserve makes way for a successor.
        let stays = self.status.idle - self.keys[key].old_idle;
        let crowded = self.policy.max_idle.is_some_and(|max| stays + self.refilling >= max);
        crowded || !self.starved.is_empty() || self.pool_is_full() || self.dials_are_full()
    }

    /// The floor does not wait for a dial that serves waiters, but respects every limit, pushes
    /// out no other key's floor, and comes after those who wait.
    fn may_refill(&self, key: KeyId, now: Timestamp) -> bool {
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
