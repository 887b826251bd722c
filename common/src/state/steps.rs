//! The collections of the state. In this crate's unit tests they count how many entries are looked
//! at, so that a test can say what a command costs without a clock; everywhere else they are the
//! plain ones.

#[cfg(not(test))]
pub(super) use {
    crate::slot_map::SlotMap,
    hashbrown::HashTable,
    std::collections::{BinaryHeap, VecDeque},
};

#[cfg(test)]
pub(super) use counted::{BinaryHeap, HashTable, SlotMap, VecDeque, count, taken};

/// Each method of the collections that the state uses, and no other: one that is added is counted,
/// or the tests do not compile. A method that walks counts the whole walk at its start.
#[cfg(test)]
mod counted {
    use std::cell::Cell;
    use std::collections;
    use std::ops::{Index, IndexMut};

    use hashbrown::hash_table::{AbsentEntry, OccupiedEntry};

    use crate::slot_map::{self, Id};

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts that many steps more.
    pub(in crate::state) fn count(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    /// How many steps this thread takes in `work`.
    pub(in crate::state) fn taken(work: impl FnOnce()) -> usize {
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
    pub(in crate::state) struct SlotMap<I, T>(slot_map::SlotMap<I, T>);

    impl<I: Id, T> SlotMap<I, T> {
        pub(in crate::state) fn new() -> Self {
            after(0, Self(slot_map::SlotMap::new()))
        }

        pub(in crate::state) fn len(&self) -> usize {
            after(1, self.0.len())
        }

        pub(in crate::state) fn is_empty(&self) -> bool {
            after(1, self.0.is_empty())
        }

        pub(in crate::state) fn insert(&mut self, entry: T) -> I {
            after(1, self.0.insert(entry))
        }

        pub(in crate::state) fn remove(&mut self, id: I) -> Option<T> {
            after(1, self.0.remove(id))
        }

        pub(in crate::state) fn capacity(&self) -> usize {
            after(1, self.0.capacity())
        }

        pub(in crate::state) fn has_spare(&self) -> bool {
            after(1, self.0.has_spare())
        }

        pub(in crate::state) fn give_back(&mut self, most: usize) -> bool {
            let before = self.0.capacity();
            let more = self.0.give_back(most);
            after(before - self.0.capacity(), more)
        }

        pub(in crate::state) fn contains(&self, id: I) -> bool {
            after(1, self.0.contains(id))
        }

        pub(in crate::state) fn get(&self, id: I) -> Option<&T> {
            after(1, self.0.get(id))
        }

        pub(in crate::state) fn get_mut(&mut self, id: I) -> Option<&mut T> {
            after(1, self.0.get_mut(id))
        }

        pub(in crate::state) fn places(&self) -> u32 {
            after(1, self.0.places())
        }

        pub(in crate::state) fn id_at(&self, index: u32) -> Option<I> {
            after(1, self.0.id_at(index))
        }

        pub(in crate::state) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
            after(1, self.0.at_mut(index))
        }

        pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
            after(self.0.len(), self.0.iter())
        }

        pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
            after(self.0.len(), self.0.iter_mut())
        }

        pub(in crate::state) fn ids(&self) -> impl Iterator<Item = I> {
            after(self.0.len(), self.0.ids())
        }

        pub(in crate::state) fn values(&self) -> impl Iterator<Item = &T> {
            after(self.0.len(), self.0.values())
        }

        pub(in crate::state) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
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
    pub(in crate::state) struct HashTable<T>(hashbrown::HashTable<T>);

    impl<T> Default for HashTable<T> {
        fn default() -> Self {
            after(0, Self(hashbrown::HashTable::new()))
        }
    }

    impl<T> HashTable<T> {
        pub(in crate::state) fn len(&self) -> usize {
            after(1, self.0.len())
        }

        pub(in crate::state) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&T> {
            after(1, self.0.find(hash, is))
        }

        pub(in crate::state) fn find_entry(
            &mut self,
            hash: u64,
            is: impl FnMut(&T) -> bool,
        ) -> Result<OccupiedEntry<'_, T>, AbsentEntry<'_, T>> {
            after(1, self.0.find_entry(hash, is))
        }

        pub(in crate::state) fn insert_unique(
            &mut self,
            hash: u64,
            item: T,
            hasher: impl Fn(&T) -> u64,
        ) {
            count(1);
            self.0.insert_unique(hash, item, hasher);
        }

        pub(in crate::state) fn capacity(&self) -> usize {
            after(1, self.0.capacity())
        }

        pub(in crate::state) fn shrink_to(&mut self, capacity: usize, hasher: impl Fn(&T) -> u64) {
            count(self.0.len());
            self.0.shrink_to(capacity, hasher);
        }
    }

    #[derive(Debug)]
    pub(in crate::state) struct VecDeque<T>(collections::VecDeque<T>);

    impl<T> VecDeque<T> {
        pub(in crate::state) fn new() -> Self {
            after(0, Self(collections::VecDeque::new()))
        }

        pub(in crate::state) fn len(&self) -> usize {
            after(1, self.0.len())
        }

        pub(in crate::state) fn is_empty(&self) -> bool {
            after(1, self.0.is_empty())
        }

        pub(in crate::state) fn front(&self) -> Option<&T> {
            after(1, self.0.front())
        }

        pub(in crate::state) fn iter(&self) -> impl Iterator<Item = &T> {
            after(self.0.len(), self.0.iter())
        }

        pub(in crate::state) fn push_back(&mut self, item: T) {
            count(1);
            self.0.push_back(item);
        }

        pub(in crate::state) fn pop_front(&mut self) -> Option<T> {
            after(1, self.0.pop_front())
        }

        pub(in crate::state) fn capacity(&self) -> usize {
            after(1, self.0.capacity())
        }

        pub(in crate::state) fn shrink_to(&mut self, capacity: usize) {
            count(self.0.len());
            self.0.shrink_to(capacity);
        }

        pub(in crate::state) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
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
    pub(in crate::state) struct BinaryHeap<T>(collections::BinaryHeap<T>);

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
        pub(in crate::state) fn new() -> Self {
            after(0, Self(collections::BinaryHeap::new()))
        }

        pub(in crate::state) fn len(&self) -> usize {
            after(1, self.0.len())
        }

        pub(in crate::state) fn is_empty(&self) -> bool {
            after(1, self.0.is_empty())
        }

        pub(in crate::state) fn peek(&self) -> Option<&T> {
            after(1, self.0.peek())
        }

        pub(in crate::state) fn push(&mut self, item: T) {
            count(1);
            self.0.push(item);
        }

        pub(in crate::state) fn pop(&mut self) -> Option<T> {
            after(1, self.0.pop())
        }

        pub(in crate::state) fn capacity(&self) -> usize {
            after(1, self.0.capacity())
        }

        pub(in crate::state) fn shrink_to(&mut self, capacity: usize) {
            count(self.0.len());
            self.0.shrink_to(capacity);
        }

        pub(in crate::state) fn into_vec(self) -> Vec<T> {
            after(self.0.len(), self.0.into_vec())
        }

        pub(in crate::state) fn clear(&mut self) {
            count(self.0.len());
            self.0.clear();
        }

        pub(in crate::state) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
            count(self.0.len());
            self.0.retain(keep);
        }
    }
}
