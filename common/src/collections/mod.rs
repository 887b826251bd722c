//! The collections that the state is made of: entries named by ids, lists through those entries, and
//! the standard ones.
//!
//! In this crate's unit tests they count how many entries are looked at ([`counted`]); everywhere else
//! they are the plain ones.

#[cfg(test)]
pub(crate) mod counted;
pub(crate) mod list;
pub(crate) mod slot_map;

#[cfg(test)]
pub(crate) use counted::{BinaryHeap, HashTable, SlotMap, VecDeque};

#[cfg(not(test))]
pub(crate) use {
    hashbrown::HashTable,
    slot_map::SlotMap,
    std::collections::{BinaryHeap, VecDeque},
};

/// Whether a queue has many more entries than there are live things for them to name.
///
/// Some queues keep the entries of things that are gone: to skip such an entry when its turn comes
/// is cheaper than to search for it. When a queue is overgrown, the caller removes those entries in one
/// walk. That happens so seldom that it costs each entry only a few steps.
pub(crate) fn is_overgrown(entries: usize, live: usize) -> bool {
    entries > 2 * live + 64
}
