//! Finds the entry of a key by its hash.
//!
//! The hash is kept with the entry, so the user's `Hash` runs once for each look for a key, and never
//! when one is forgotten or the table is moved: what follows from a release or a timer cannot panic there.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

use super::KeyId;
use crate::collections::HashTable;

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

    /// The one with this hash for which `is` says so.
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
