//! What the state remembers of each key, and how the entry of a key is found.
//!
//! Threads that take turns at a pool move what they touch from one core to another, a line of 64
//! bytes at a time. An entry starts a line, with eight bytes for the map it is in; its fields are in
//! the order of use: first what a hit, a hand-over or a wait touches.

use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};

use hashbrown::DefaultHashBuilder;

use super::backoff::Backoff;
use super::connection::{Connection, Phase};
use super::dial_pace::DialPace;
use super::dials::KeyDials;
use super::floor::{KeyFloor, Reserve};
use super::idle_list::{RandomOrder, Room};
use super::limits::Allowance;
use super::starved::Starvation;
use super::wait_queue::WaitQueue;
use super::{ConnectionId, KeyId};
use crate::clock::Timestamp;
use crate::collections::list::List;
use crate::collections::{HashTable, SlotMap};
use crate::event::CloseCause;
use crate::policy::Policy;

pub(super) type Entries<K, E> = SlotMap<KeyId, KeyEntry<K, E>>;

/// The entries of all keys that the pool knows.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Keys<K, E> {
    /// The key that was asked for last: most programs ask for it again.
    recent: KeyId,
    entries: Entries<K, E>,
    index: KeyIndex,
}

impl<K, E> Default for Keys<K, E> {
    fn default() -> Self {
        Self { recent: KeyId::default(), entries: SlotMap::new(), index: KeyIndex::default() }
    }
}

impl<K, E> Deref for Keys<K, E> {
    type Target = Entries<K, E>;

    #[inline]
    fn deref(&self) -> &Entries<K, E> {
        &self.entries
    }
}

impl<K, E> DerefMut for Keys<K, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Entries<K, E> {
        &mut self.entries
    }
}

impl<K: Clone + Eq + Hash, E> Keys<K, E> {
    /// The key that was asked for last.
    #[inline]
    pub(super) fn recent(&self) -> KeyId {
        self.recent
    }

    /// The entry of `key`, if it is known: from now on the one that was asked for last.
    #[inline]
    pub(super) fn known(&mut self, key: &K) -> Option<KeyId> {
        if self.entries.get(self.recent).is_some_and(|entry| entry.key == *key) {
            return Some(self.recent);
        }
        let id = self.find(key)?;
        self.recent = id;
        Some(id)
    }

    /// As `known`, to look at only.
    pub(super) fn find(&self, key: &K) -> Option<KeyId> {
        self.index.find(self.index.hash(key), |id| self.entries[id].key == *key)
    }

    /// Adds a key that is not known, with its floor.
    #[cold]
    pub(super) fn add(&mut self, key: &K, floor: KeyFloor) -> KeyId {
        let hash = self.index.hash(key);
        let id = self.entries.insert(KeyEntry::new(key.clone(), hash));
        self.index.insert(hash, id);
        self.entries[id].floor = floor;
        id
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, id: KeyId) {
        if let Some(entry) = self.entries.remove(id) {
            self.index.remove(entry.hash, id);
        }
    }

    /// Whether each key that is remembered is found.
    pub(super) fn are_indexed(&self) -> bool {
        self.entries.len() == self.index.len()
    }

    pub(super) fn index(&mut self) -> &mut KeyIndex {
        &mut self.index
    }
}

/// With what the map keeps of it: one line for what leases and waits change, and the rest.
#[derive(Debug)]
#[repr(C)]
pub(super) struct KeyEntry<K, E> {
    pub(super) queue: WaitQueue,
    /// Connections without a lease, longest idle first.
    pub(super) idle: List<ConnectionId>,
    /// Places taken in the limits: idle + leased + dialing + closing.
    pub(super) open: u32,
    /// How many leases its last shared connection served at a time. The niche of this field is the
    /// largest, so the map sees there whether a place has an entry. It stands in the line of
    /// the key, which each look by hash reads anyway, and it is that wide to have the largest niche.
    pub(super) capacity: Option<u64>,
    /// The earliest of its timers that is pending.
    pub(super) timer_at: Timestamp,
    pub(super) key: K,
    /// Of the key, for the index.
    pub(super) hash: u64,
    pub(super) dials: KeyDials,
    /// Shared connections with room.
    pub(super) room: Room,
    pub(super) closing: u32,
    pub(super) draining: u32,
    pub(super) pace: DialPace,
    pub(super) backoff: Backoff<E>,
    pub(super) floor: KeyFloor,
    pub(super) starvation: Starvation,
    /// How many may be open beyond `max_open_per_key`, since that was lowered.
    pub(super) allowance: Allowance,
    /// Live shared connections whose peer allows no lease at all: another would not help.
    pub(super) useless: u32,
    pub(super) reserve: Reserve,
    /// Connections that became idle before this are distrusted. Those in the idle list were closed at
    /// once; the field is for a connection that is being looked at, or is in a grant that has not been collected.
    pub(super) distrusted_before: Timestamp,
    /// The connections that can be lent, with `idle_order=random`; empty otherwise.
    pub(super) random: RandomOrder,
}

impl<K, E> KeyEntry<K, E> {
    pub(super) fn new(key: K, hash: u64) -> Self {
        Self {
            key,
            hash,
            open: 0,
            closing: 0,
            draining: 0,
            idle: List::default(),
            room: Room::default(),
            queue: WaitQueue::default(),
            dials: KeyDials::default(),
            pace: DialPace::default(),
            backoff: Backoff::default(),
            floor: KeyFloor::default(),
            starvation: Starvation::default(),
            allowance: Allowance::default(),
            useless: 0,
            reserve: Reserve::default(),
            timer_at: Timestamp::NEVER,
            capacity: None,
            distrusted_before: Timestamp::ZERO,
            random: RandomOrder::default(),
        }
    }

    /// How many connections are idle or leased.
    pub(super) fn live(&self) -> u32 {
        self.open - self.dials.in_progress() - self.closing
    }

    /// Whether a connection is live that serves callers.
    pub(super) fn has_useful(&self) -> bool {
        self.live() > self.useless
    }

    /// How many idle connections are of the current generation.
    pub(super) fn new_idle(&self) -> u32 {
        self.idle.len() - self.reserve.idle()
    }

    /// Keeps count of live connections of this key that serve no caller.
    pub(super) fn count_useless<L>(&mut self, connection: &mut Connection<L>) {
        let useless = connection.phase == Phase::Live && connection.capacity == 0;
        if useless != connection.useless {
            connection.useless = useless;
            self.useless = if useless { self.useless + 1 } else { self.useless - 1 };
        }
    }

    /// A connection was lent and cannot be lent again, because of what happened while it was in use. Its
    /// place in the ramp stays earned, as long as there is demand for its successor.
    pub(super) fn note_spent(&mut self, cause: CloseCause, policy: &Policy, spent_keys: &mut u32) {
        let demand = self.queue.waiting().saturating_add(self.open - self.closing);
        self.pace.spend(cause, demand, policy, spent_keys);
    }

    pub(super) fn is_unused(&self) -> bool {
        self.open == 0
            && self.draining == 0
            && self.queue.waiting() == 0
            && !self.backoff.needs_its_key()
            && !self.pace.counts_dials()
            && !self.floor.needs_its_key(self.backoff.is_denied())
    }
}

/// Finds the entry of a key by its hash.
///
/// The hash is kept with the entry, so the user's `Hash` runs once for each look for a key, and never
/// when one is forgotten or the table is moved: what follows from a release or a timer cannot panic there.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// Each with its hash.
    table: HashTable<(u64, KeyId)>,
    hasher: DefaultHashBuilder,
}

impl KeyIndex {
    #[inline]
    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The entry with this hash for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(KeyId) -> bool) -> Option<KeyId> {
        self.table.find(hash, |known| known.0 == hash && is(known.1)).map(|known| known.1)
    }

    /// Adds one that it does not have.
    pub(super) fn insert(&mut self, hash: u64, id: KeyId) {
        self.table.insert_unique(hash, (hash, id), |known| known.0);
    }

    pub(super) fn remove(&mut self, hash: u64, id: KeyId) {
        if let Ok(found) = self.table.find_entry(hash, |known| known.1 == id) {
            found.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.table.shrink_to(capacity, |known| known.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_was_forgotten_is_not_found() {
        let mut keys = Keys::<&str, ()>::default();
        let [one, other] = ["one", "other"].map(|key| keys.add(&key, KeyFloor::default()));
        assert_eq!((keys.known(&"one"), keys.recent()), (Some(one), one));
        assert_eq!((keys.find(&"other"), keys.recent()), (Some(other), one), "only looked at");
        keys.remove(one);
        assert_eq!((keys.known(&"one"), keys.known(&"other")), (None, Some(other)));
        assert!(keys.are_indexed());
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod layout {
    use std::mem::offset_of;

    use super::*;
    use crate::collections::slot_map::{HEAD, LINE};

    #[test]
    fn what_leases_and_waits_change_of_a_key_is_one_line() {
        type Key = KeyEntry<String, ()>;
        assert_eq!(HEAD + offset_of!(Key, open) + size_of::<u32>(), LINE);
    }

    /// The map sees whether a place has an entry beside the key, which each look for that key compares.
    #[test]
    fn a_look_at_a_key_touches_two_lines() {
        type Key = KeyEntry<u32, ()>;
        let niche = HEAD + offset_of!(Key, capacity) + size_of::<u64>();
        assert!(niche <= 2 * LINE, "{niche}");
        assert!(HEAD + offset_of!(Key, key) + size_of::<u32>() <= 2 * LINE);
        // The niche that the compiler takes is the largest, and of equals the first.
        assert_eq!(size_of::<Option<Key>>(), size_of::<Key>());
    }
}
