//! Bounds on dials that no connection ends: how many are in progress over all keys, and how many of a
//! key start within a second.

use std::hash::Hash;
use std::time::Duration;

use super::keys::KeyEntry;
use super::{KeyId, State};
use crate::clock::Timestamp;
use crate::lending::Lend;

const SECOND: Duration = Duration::from_secs(1);

impl<K, E> KeyEntry<K, E> {
    /// When the second ends in which dials are counted; zero when none runs.
    pub(super) fn end_of_second(&self) -> Timestamp {
        if self.dials_in_second > 0 { self.second_since.after(SECOND) } else { Timestamp::ZERO }
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Whether `max_dials` are in progress.
    pub(super) fn dials_are_full(&self) -> bool {
        self.policy.max_dials.is_some_and(|max| self.status.dialing >= max)
    }

    /// Whether as many dials of a key have started in this second as may. A timer of the key goes off
    /// when the second ends.
    pub(super) fn rate_holds(&self, entry: &KeyEntry<K, E>, now: Timestamp) -> bool {
        let Some(max) = self.policy.max_dials_per_second else { return false };
        entry.dials_in_second >= max && now < entry.end_of_second()
    }

    /// A dial of this key starts. The second begins with the first dial after the last one.
    pub(super) fn note_rate(&mut self, key: KeyId, now: Timestamp) {
        if self.policy.max_dials_per_second.is_none() {
            return;
        }
        let entry = &mut self.keys[key];
        if now >= entry.end_of_second() {
            entry.second_since = now;
            entry.dials_in_second = 0;
        }
        entry.dials_in_second += 1;
        let end = entry.end_of_second();
        self.set_timer(end, key);
    }

    /// A timer of this key went off.
    pub(super) fn end_second(&mut self, key: KeyId, now: Timestamp) {
        if let Some(entry) = self.keys.get_mut(key)
            && now >= entry.end_of_second()
        {
            entry.dials_in_second = 0;
        }
    }
}
