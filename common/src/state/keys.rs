//! What the state remembers of each key, and how the entry of a key is found.
//!
//! Threads that take turns at a pool move what they touch from one core to another, a line of 64
//! bytes at a time. An entry starts a line, with eight bytes for the map it is in; its fields are in
//! the order of use: first what a hit, a hand-over or a wait touches.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use super::backoff::Backoff;
use super::dial_pace::DialPace;
use super::dials::KeyDials;
use super::floor::KeyFloor;
use super::idle_list::{RandomOrder, Room};
use super::limits::Allowance;
use super::starved::Starvation;
use super::wait_queue::ReturnQueue;
use super::{ConnectionId, KeyId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::list::List;
use crate::collections::{HashTable, SlotMap};

pub(super) type Keys<K, E> = SlotMap<KeyId, KeyEntry<K, E>>;

/// With what the map keeps of it: one line for what leases and waits change, and the rest.
#[derive(Debug)]
#[repr(C)]
pub(super) struct KeyEntry<K, E> {
    /// Waiters no dial is in progress for, in order of arrival.
    pub(super) undialed: List<WaiterId>,
    /// Waiters without a grant.
    pub(super) waiting: u32,
    /// Waiters that a connection coming back can serve.
    pub(super) returns: ReturnQueue,
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
    /// Waiters that depend on a dial of their own (for a detached dial, or for a new connection),
    /// in order of arrival.
    pub(super) dependents: List<WaiterId>,
    pub(super) pace: DialPace,
    pub(super) backoff: Backoff<E>,
    pub(super) floor: KeyFloor,
    pub(super) starvation: Starvation,
    /// How many may be open beyond `max_open_per_key`, since that was lowered.
    pub(super) allowance: Allowance,
    /// Live shared connections whose peer allows no lease at all: another would not help.
    pub(super) useless: u32,
    /// Connections of older generations that serve until the floor has been remade; some may have
    /// ended. Empty when it is not being remade.
    pub(super) reserve: Vec<ConnectionId>,
    /// How many in `idle` are of an older generation: all of them in `reserve`.
    pub(super) old_idle: u32,
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
            waiting: 0,
            idle: List::default(),
            room: Room::default(),
            returns: ReturnQueue::default(),
            undialed: List::default(),
            dependents: List::default(),
            dials: KeyDials::default(),
            pace: DialPace::default(),
            backoff: Backoff::default(),
            floor: KeyFloor::default(),
            starvation: Starvation::default(),
            allowance: Allowance::default(),
            useless: 0,
            reserve: Vec::new(),
            old_idle: 0,
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

    pub(super) fn is_unused(&self) -> bool {
        self.open == 0
            && self.draining == 0
            && self.waiting == 0
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
