//! Collections that count how many entries are looked at, for this crate's unit tests: so a test can say
//! what a command costs without a clock.
//!
//! Only the methods that the state uses are here. So a method that the state begins to use is counted
//! too, or the tests do not compile. A method that walks counts the whole walk at its start.

use std::cell::Cell;
use std::collections;
use std::ops::{Index, IndexMut};

use hashbrown::hash_table::{AbsentEntry, OccupiedEntry};

use super::slot_map::{self, Id};

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Counts that many steps more.
pub(crate) fn count(steps: usize) {
    STEPS.set(STEPS.get() + steps);
}

/// How many steps this thread takes in `work`.
pub(crate) fn taken(work: impl FnOnce()) -> usize {
    let before = STEPS.get();
    work();
    STEPS.get() - before
}

/// `what` took that many steps.
fn after<T>(steps: usize, what: T) -> T {
    count(steps);
    what
}

#[derive(Debug)]
pub(crate) struct SlotMap<I, T>(slot_map::SlotMap<I, T>);

impl<I: Id, T> SlotMap<I, T> {
    pub(crate) fn new() -> Self {
        after(0, Self(slot_map::SlotMap::new()))
    }

    pub(crate) fn len(&self) -> usize {
        after(1, self.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        after(1, self.0.is_empty())
    }

    pub(crate) fn insert(&mut self, entry: T) -> I {
        after(1, self.0.insert(entry))
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        after(1, self.0.remove(id))
    }

    pub(crate) fn capacity(&self) -> usize {
        after(1, self.0.capacity())
    }

    pub(crate) fn has_spare(&self) -> bool {
        after(1, self.0.has_spare())
    }

    pub(crate) fn give_back(&mut self, most: usize) -> bool {
        let before = self.0.capacity();
        let more = self.0.give_back(most);
        after(before - self.0.capacity(), more)
    }

    pub(crate) fn contains(&self, id: I) -> bool {
        after(1, self.0.contains(id))
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        after(1, self.0.get(id))
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        after(1, self.0.get_mut(id))
    }

    pub(crate) fn places(&self) -> u32 {
        after(1, self.0.places())
    }

    pub(crate) fn id_at(&self, index: u32) -> Option<I> {
        after(1, self.0.id_at(index))
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        after(1, self.0.at_mut(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        after(self.0.len(), self.0.iter())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        after(self.0.len(), self.0.iter_mut())
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = I> {
        after(self.0.len(), self.0.ids())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        after(self.0.len(), self.0.values())
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        after(self.0.len(), self.0.values_mut())
    }
}

impl<I: Id, T> Index<I> for SlotMap<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        after(1, &self.0[id])
    }
}

impl<I: Id, T> IndexMut<I> for SlotMap<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        after(1, &mut self.0[id])
    }
}

#[derive(Debug)]
pub(crate) struct HashTable<T>(hashbrown::HashTable<T>);

impl<T> Default for HashTable<T> {
    fn default() -> Self {
        after(0, Self(hashbrown::HashTable::new()))
    }
}

impl<T> HashTable<T> {
    pub(crate) fn len(&self) -> usize {
        after(1, self.0.len())
    }

    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&T> {
        after(1, self.0.find(hash, is))
    }

    pub(crate) fn find_entry(
        &mut self,
        hash: u64,
        is: impl FnMut(&T) -> bool,
    ) -> Result<OccupiedEntry<'_, T>, AbsentEntry<'_, T>> {
        after(1, self.0.find_entry(hash, is))
    }

    pub(crate) fn insert_unique(&mut self, hash: u64, item: T, hasher: impl Fn(&T) -> u64) {
        count(1);
        self.0.insert_unique(hash, item, hasher);
    }

    pub(crate) fn capacity(&self) -> usize {
        after(1, self.0.capacity())
    }

    pub(crate) fn shrink_to(&mut self, capacity: usize, hasher: impl Fn(&T) -> u64) {
        count(self.0.len());
        self.0.shrink_to(capacity, hasher);
    }
}

#[derive(Debug)]
pub(crate) struct VecDeque<T>(collections::VecDeque<T>);

impl<T> VecDeque<T> {
    pub(crate) fn new() -> Self {
        after(0, Self(collections::VecDeque::new()))
    }

    pub(crate) fn len(&self) -> usize {
        after(1, self.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        after(1, self.0.is_empty())
    }

    pub(crate) fn front(&self) -> Option<&T> {
        after(1, self.0.front())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        after(self.0.len(), self.0.iter())
    }

    pub(crate) fn push_back(&mut self, item: T) {
        count(1);
        self.0.push_back(item);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        after(1, self.0.pop_front())
    }

    pub(crate) fn capacity(&self) -> usize {
        after(1, self.0.capacity())
    }

    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        count(self.0.len());
        self.0.shrink_to(capacity);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        count(self.0.len());
        self.0.retain(keep);
    }
}

impl<T> Default for VecDeque<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
pub(crate) struct BinaryHeap<T>(collections::BinaryHeap<T>);

impl<T: Ord> FromIterator<T> for BinaryHeap<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let heap: collections::BinaryHeap<T> = items.into_iter().collect();
        after(heap.len(), Self(heap))
    }
}

impl<T: Ord> Default for BinaryHeap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord> BinaryHeap<T> {
    pub(crate) fn new() -> Self {
        after(0, Self(collections::BinaryHeap::new()))
    }

    pub(crate) fn len(&self) -> usize {
        after(1, self.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        after(1, self.0.is_empty())
    }

    pub(crate) fn peek(&self) -> Option<&T> {
        after(1, self.0.peek())
    }

    pub(crate) fn push(&mut self, item: T) {
        count(1);
        self.0.push(item);
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        after(1, self.0.pop())
    }

    pub(crate) fn capacity(&self) -> usize {
        after(1, self.0.capacity())
    }

    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        count(self.0.len());
        self.0.shrink_to(capacity);
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        after(self.0.len(), self.0.into_vec())
    }

    pub(crate) fn clear(&mut self) {
        count(self.0.len());
        self.0.clear();
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        count(self.0.len());
        self.0.retain(keep);
    }
}
