//! The queue of keys that a limit over all keys keeps from dialing: whose turn it is, and how many places
//! they lack.
//!
//! A key with waiters that finds the pool full *starves* until there is room. It is due after as many
//! leases have come back as other callers were waiting when it began to starve: each of those has had a
//! turn by then. How room is made for it is in [`places`](super::places).
//!
//! A starved key that has connections itself is served by those as well. Each time, it goes to the end
//! of the queue, since the waiter that is now its first came later. Its former entry stays in the queue
//! and does not count any more: to search for it would cost more.
//!
//! Everything here costs the same however many keys starve.

use super::KeyId;
use super::keys::{Entries, KeyEntry};
use crate::collections::{VecDeque, is_overgrown};

/// What is known of a key as one that may starve.
#[derive(Debug, Default)]
pub(super) struct Starvation {
    /// Whether it is in the queue of starved keys.
    starved: bool,
    /// How many of its entries in that queue do not count any more; those come before the one that
    /// does.
    stale_entries: u32,
    /// The turn from which on a connection of another key makes way for it.
    due_turn: u64,
    /// How many places it lacks.
    needs: u32,
}

impl Starvation {
    #[inline]
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }
}

/// The keys that starve.
#[derive(Debug, Default)]
pub(super) struct StarvedKeys {
    /// In the order of their turns; some entries do not count any more.
    queue: VecDeque<KeyId>,
    /// How many leases came back while keys starved.
    turns: u64,
    /// How many places the starved keys lack, together.
    needed: u32,
}

impl StarvedKeys {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queue(&mut self) -> &mut VecDeque<KeyId> {
        &mut self.queue
    }

    /// How many places the starved keys lack, together.
    pub(super) fn needed(&self) -> u32 {
        self.needed
    }

    /// A key is denied a dial. `before`: how many callers wait for other keys. Nothing happens when it
    /// starves already.
    pub(super) fn join<K, E>(&mut self, keys: &mut Entries<K, E>, key: KeyId, before: u32) {
        if !std::mem::replace(&mut keys[key].starvation.starved, true) {
            self.push(keys, key, before);
        }
    }

    fn push<K, E>(&mut self, keys: &mut Entries<K, E>, key: KeyId, before: u32) {
        keys[key].starvation.due_turn = self.turns + u64::from(before);
        if is_overgrown(self.queue.len(), keys.len()) {
            self.queue.retain(|key| Self::is_current(keys, *key));
        }
        self.queue.push_back(key);
    }

    /// A waiter of a starved key was served: the key goes to the end of the queue for the others.
    pub(super) fn join_again<K, E>(&mut self, keys: &mut Entries<K, E>, key: KeyId, before: u32) {
        keys[key].starvation.stale_entries += 1;
        self.push(keys, key, before);
    }

    /// Takes the first entry out. The caller asks [`is_current`](Self::is_current) next.
    pub(super) fn pop_front(&mut self) -> Option<KeyId> {
        self.queue.pop_front()
    }

    /// Whether the entry of this key that was taken from the queue still counts.
    pub(super) fn is_current<K, E>(keys: &mut Entries<K, E>, key: KeyId) -> bool {
        let Some(entry) = keys.get_mut(key) else { return false };
        let is_stale = entry.starvation.stale_entries > 0;
        entry.starvation.stale_entries -= u32::from(is_stale);
        !is_stale
    }

    /// The entry of this key that counts was taken from the queue.
    pub(super) fn end<K, E>(&mut self, keys: &mut Entries<K, E>, key: KeyId) {
        keys[key].starvation.starved = false;
        self.set_need(&mut keys[key], 0);
    }

    /// The starved key whose turn comes first, if that entry is the first of the queue; else the key
    /// whose entry has to be taken out.
    pub(super) fn first<K, E>(&self, keys: &Entries<K, E>) -> Option<Result<KeyId, KeyId>> {
        let &key = self.queue.front()?;
        let counts = keys
            .get(key)
            .is_some_and(|entry| entry.starvation.stale_entries == 0 && entry.queue.has_undialed());
        Some(if counts { Ok(key) } else { Err(key) })
    }

    /// A starved key lacks so many places.
    pub(super) fn set_need<K, E>(&mut self, entry: &mut KeyEntry<K, E>, needs: u32) {
        self.needed = self.needed - entry.starvation.needs + needs;
        entry.starvation.needs = needs;
    }

    /// A starved key has lost a waiter. It never needs more for that, so that no place is to be made.
    pub(super) fn shrink_need<K, E>(&mut self, entry: &mut KeyEntry<K, E>) {
        let needs = entry.starvation.needs.min(entry.queue.undialed());
        self.set_need(entry, needs);
    }

    /// A connection is about to be handed over. Returns the number of that turn.
    pub(super) fn take_turn(&mut self) -> u64 {
        let turn = self.turns;
        self.turns += 1;
        turn
    }

    /// Whether the turn of a starved key has come. `before`: how many callers wait for other keys now;
    /// those that have left unserved take no turn.
    pub(super) fn is_due<K, E>(entry: &mut KeyEntry<K, E>, before: u32, turn: u64) -> bool {
        let due_turn = &mut entry.starvation.due_turn;
        *due_turn = (*due_turn).min(turn + u64::from(before));
        *due_turn <= turn
    }

    /// Empties the queue. Returns the keys that starved and still count, in the order of their turns.
    pub(super) fn drain<K, E>(&mut self, keys: &mut Entries<K, E>) -> VecDeque<KeyId> {
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|key| Self::is_current(keys, *key));
        self.needed = 0;
        for entry in keys.values_mut() {
            entry.starvation.needs = 0;
        }
        queue
    }

    /// A key is not in the queue any more. Returns whether it was.
    pub(super) fn forget<K, E>(entry: &mut KeyEntry<K, E>) -> bool {
        std::mem::take(&mut entry.starvation.starved)
    }

    /// That queue, keys and counts say the same.
    ///
    /// # Errors
    /// A sentence about what does not.
    pub(super) fn check<K, E>(&self, keys: &Entries<K, E>) -> Result<(), String> {
        let mut needed = 0;
        for (id, entry) in keys.iter() {
            let Starvation { starved, stale_entries, needs, .. } = entry.starvation;
            let queued = self.queue.iter().filter(|starved| **starved == id).count();
            if queued != stale_entries as usize + usize::from(starved) {
                return Err("the queue of starved keys is wrong".into());
            }
            if needs > entry.queue.undialed() || (needs > 0 && !starved) {
                return Err(format!("{needs} places are needed for no waiter"));
            }
            needed += needs;
        }
        if needed != self.needed {
            return Err(format!("{needed} places are needed, {} are counted", self.needed));
        }
        Ok(())
    }

    /// Whether a starved key lacks no place.
    pub(super) fn lacks_nothing<K, E>(entry: &KeyEntry<K, E>) -> bool {
        entry.starvation.needs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (Entries<u8, ()>, [KeyId; 2]) {
        let mut keys = Entries::new();
        let ids = [1, 2].map(|key| keys.insert(KeyEntry::new(key, 0)));
        (keys, ids)
    }

    #[test]
    fn key_starves_once_and_its_need_ends_with_it() {
        let ((mut keys, [key, _]), mut starved) = (keys(), StarvedKeys::default());
        starved.join(&mut keys, key, 0);
        starved.join(&mut keys, key, 0);
        starved.set_need(&mut keys[key], 2);
        assert_eq!((starved.len(), starved.needed()), (1, 2));
        assert_eq!(starved.pop_front(), Some(key));
        assert!(StarvedKeys::is_current(&mut keys, key));
        starved.end(&mut keys, key);
        assert_eq!((starved.len(), starved.needed()), (0, 0));
        starved.check(&keys).expect("nothing is left");
    }

    #[test]
    fn key_that_was_served_goes_to_the_end_and_its_old_entry_does_not_count() {
        let ((mut keys, [first, second]), mut starved) = (keys(), StarvedKeys::default());
        starved.join(&mut keys, first, 0);
        starved.join(&mut keys, second, 0);
        starved.join_again(&mut keys, first, 0);
        starved.check(&keys).expect("an entry is left that does not count");
        let mut turns = Vec::new();
        while let Some(key) = starved.pop_front() {
            turns.extend(StarvedKeys::is_current(&mut keys, key).then_some(key));
        }
        assert_eq!(turns, [second, first]);
    }

    #[test]
    fn key_is_due_after_a_turn_for_each_caller_that_waited_before() {
        let ((mut keys, [key, _]), mut starved) = (keys(), StarvedKeys::default());
        starved.join(&mut keys, key, 2);
        let mut is_due = |before| {
            let turn = starved.take_turn();
            StarvedKeys::is_due(&mut keys[key], before, turn)
        };
        assert_eq!([2, 2, 2].map(&mut is_due), [false, false, true]);
        let ((mut keys, [key, _]), mut starved) = (super::tests::keys(), StarvedKeys::default());
        starved.join(&mut keys, key, 2);
        let turn = starved.take_turn();
        assert!(StarvedKeys::is_due(&mut keys[key], 0, turn), "the others have left");
    }
}
