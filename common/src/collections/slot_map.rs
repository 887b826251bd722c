//! A slot map: entries are found by id in O(1), and an id is never used for a second entry.
//!
//! Each slot starts a cache line. So a thread that works with an entry does not hold up a thread
//! that works with the neighbour of the entry, and an entry of 56 bytes moves from core to core as a
//! single line. (The `slotmap` crate keeps the version after the entry: there an entry that starts a
//! cache line takes at least two.)

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// Names an entry: the index of its slot, and a version that tells it from earlier entries in that slot.
pub(crate) trait Id: Copy {
    fn new(index: u32, version: NonZeroU32) -> Self;
    fn index(self) -> u32;
    fn version(self) -> NonZeroU32;
}

/// Defines types of ids. The default names no entry.
macro_rules! ids {
    ($($(#[$doc:meta])* $visibility:vis struct $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name {
            version: ::std::num::NonZeroU32,
            index: u32,
        }

        impl $crate::collections::slot_map::Id for $name {
            #[inline]
            fn new(index: u32, version: ::std::num::NonZeroU32) -> Self {
                Self { version, index }
            }

            #[inline]
            fn index(self) -> u32 {
                self.index
            }

            #[inline]
            fn version(self) -> ::std::num::NonZeroU32 {
                self.version
            }
        }

        impl Default for $name {
            #[inline]
            fn default() -> Self {
                $crate::collections::slot_map::Id::new(u32::MAX, ::std::num::NonZeroU32::MIN)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                // As one number, as in log lines.
                let number = u64::from(self.version.get()) << 32 | u64::from(self.index);
                write!(f, "{}({number})", stringify!($name))
            }
        }
    )+};
}

pub(crate) use ids;

#[derive(Debug)]
#[repr(C, align(64))]
struct Slot<T> {
    /// The version of the current entry or, in a free slot, of the next entry. Once versions have run
    /// out, that of the last entry.
    version: NonZeroU32,
    /// In a free slot: the next free slot.
    next_free: u32,
    entry: Option<T>,
}

impl<T> Slot<T> {
    /// Whether the slot is empty and can be used again. A slot whose versions have run out cannot. Nor
    /// can an empty slot whose last version is still unused, since it looks the same.
    fn is_free(&self) -> bool {
        self.entry.is_none() && self.version < NonZeroU32::MAX
    }
}

/// A map with this many slots or fewer does not give memory back.
const KEPT: usize = 1024;

/// Most slots that an insertion in a sparse map looks at.
const LOOKED_AT: usize = 32;

/// Most slots that a removal from a sparse map gives back.
const GIVEN_BACK: usize = 256;

/// The fields that each insertion and removal changes come first.
///
/// A map that once was much larger is *sparse*: most of its slots are free. It gives back the free slots
/// at its end, a few with each removal, and puts new entries into the first free slots that it
/// finds, searching from its beginning. While it is sparse it has no free list.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SlotMap<I, T> {
    /// The head of the free list: the slot that became free last; beyond the end when none is free.
    free: u32,
    len: u32,
    slots: Vec<Slot<T>>,
    /// Where a sparse map looks for a free slot.
    cursor: usize,
    /// No slot beyond the end ever had this version, or a later one.
    next_version: NonZeroU32,
    ids: PhantomData<fn() -> I>,
}

impl<I, T> Default for SlotMap<I, T> {
    fn default() -> Self {
        Self {
            free: u32::MAX,
            len: 0,
            slots: Vec::new(),
            cursor: 0,
            next_version: NonZeroU32::MIN,
            ids: PhantomData,
        }
    }
}

impl<I: Id, T> SlotMap<I, T> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, entry: T) -> I {
        self.len += 1;
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else { return self.append(entry) };
        self.free = slot.next_free;
        slot.entry = Some(entry);
        I::new(index, slot.version)
    }

    #[inline]
    fn is_sparse(&self) -> bool {
        self.slots.len() > 4 * self.len() + KEPT
    }

    /// Whether a sparse map has free slots at its end.
    pub(crate) fn has_spare(&self) -> bool {
        self.is_sparse() && self.slots.last().is_some_and(Slot::is_free)
    }

    /// Gives back at most `most` free slots at the end; returns whether there may be more.
    pub(crate) fn give_back(&mut self, most: usize) -> bool {
        if !self.is_sparse() {
            return false;
        }
        // Any slot of the free list may be removed now, so the list is dropped.
        self.free = u32::MAX;
        for _ in 0..most {
            match self.slots.last() {
                Some(slot) if slot.is_free() => {
                    self.next_version = self.next_version.max(slot.version);
                    self.slots.pop();
                }
                _ => break,
            }
            if !self.is_sparse() {
                break;
            }
        }
        if self.slots.capacity() > 2 * self.slots.len() + KEPT {
            self.slots.shrink_to(self.slots.len() + KEPT / 2);
        }
        self.has_spare()
    }

    /// A free slot of a sparse map, near its beginning.
    fn find_free(&mut self) -> Option<u32> {
        for _ in 0..LOOKED_AT {
            let index = self.cursor;
            self.cursor = if index + 1 < self.slots.len() { index + 1 } else { 0 };
            if self.slots.get(index).is_some_and(Slot::is_free) {
                return u32::try_from(index).ok();
            }
        }
        None
    }

    #[cold]
    fn append(&mut self, entry: T) -> I {
        if self.slots.len() > 2 * self.len() + KEPT / 2
            && let Some(index) = self.find_free()
        {
            let slot = &mut self.slots[index as usize];
            slot.entry = Some(entry);
            return I::new(index, slot.version);
        }
        // The two largest numbers are never the index of a slot.
        let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < u32::MAX - 1);
        let index = index.expect("fewer entries than a u32 has numbers");
        let version = self.next_version;
        self.slots.push(Slot { version, next_free: u32::MAX, entry: Some(entry) });
        I::new(index, version)
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        if slot.version != id.version() {
            return None;
        }
        let entry = slot.entry.take()?;
        self.len -= 1;
        // When the versions of a slot have run out, the next entry would get an id that was used before,
        // so the slot stays empty.
        if let Some(next) = slot.version.checked_add(1) {
            slot.version = next;
            slot.next_free = self.free;
            self.free = id.index();
        }
        if self.is_sparse() {
            self.shrink(id.index());
        }
        Some(entry)
    }

    /// An entry of a sparse map was removed from slot `index`.
    #[cold]
    fn shrink(&mut self, index: u32) {
        if (index as usize) < self.cursor {
            // So the next insertions find this slot; free slots before it may be missed.
            self.cursor = index as usize;
        }
        self.give_back(GIVEN_BACK);
    }

    /// The number of slots that fit in the allocated memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    #[inline]
    pub(crate) fn get(&self, id: I) -> Option<&T> {
        let slot = self.slots.get(id.index() as usize)?;
        if slot.version == id.version() { slot.entry.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        if slot.version == id.version() { slot.entry.as_mut() } else { None }
    }

    #[inline]
    pub(crate) fn contains(&self, id: I) -> bool {
        self.get(id).is_some()
    }

    /// The number of slots, including empty ones.
    pub(crate) fn places(&self) -> u32 {
        // Fits, since an index has 32 bits.
        self.slots.len() as u32
    }

    /// The id of the entry in a slot.
    #[inline]
    pub(crate) fn id_at(&self, index: u32) -> Option<I> {
        let slot = self.slots.get(index as usize)?;
        slot.entry.is_some().then(|| I::new(index, slot.version))
    }

    /// The entry in a slot.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.entry.as_mut()
    }

    /// All entries, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let entry = slot.entry.as_ref()?;
            Some((I::new(index, slot.version), entry))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        (0..).zip(&mut self.slots).filter_map(|(index, slot)| {
            let entry = slot.entry.as_mut()?;
            Some((I::new(index, slot.version), entry))
        })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = I> {
        self.iter().map(|(id, _)| id)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut())
    }
}

/// Panics if there is no such entry.
impl<I: Id, T> Index<I> for SlotMap<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, id: I) -> &T {
        self.get(id).expect("an id of an entry that is here")
    }
}

/// Panics if there is no such entry.
impl<I: Id, T> IndexMut<I> for SlotMap<I, T> {
    #[inline]
    fn index_mut(&mut self, id: I) -> &mut T {
        self.get_mut(id).expect("an id of an entry that is here")
    }
}

/// A line of memory. What threads that take turns change lies in few of them: each further line would be
/// brought from core to core at every turn.
#[cfg(test)]
pub(crate) const LINE: usize = 64;

/// The bytes before the entry in its slot.
#[cfg(test)]
pub(crate) const HEAD: usize = 2 * size_of::<u32>();

/// The memory that an entry takes.
#[cfg(test)]
pub(crate) const fn slot_size<T>() -> usize {
    size_of::<Slot<T>>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    ids! {
        struct Number;
    }

    #[test]
    fn an_id_is_of_one_entry_only() {
        let mut map = SlotMap::new();
        let [a, b]: [Number; 2] = ["a", "b"].map(|name| map.insert(name));
        assert_eq!(map.remove(a), Some("a"));
        let c = map.insert("c");
        assert_eq!(c.index(), a.index(), "its place is used again");
        assert_ne!(a, c);
        assert_eq!(map.get(a), None);
        assert_eq!(map.get_mut(a), None);
        assert_eq!(map.remove(a), None);
        assert_eq!((map[b], map[c], map.len()), ("b", "c", 2));
        assert_eq!(map.get(Number::default()), None);
    }

    #[test]
    fn the_slot_that_became_free_last_is_used_first() {
        let mut map = SlotMap::new();
        let ids: Vec<Number> = (0..5).map(|n| map.insert(n)).collect();
        for id in [ids[1], ids[3], ids[2]] {
            map.remove(id);
        }
        let places: Vec<u32> = (5..9).map(|n| map.insert(n).index()).collect();
        assert_eq!(places, [2, 3, 1, 5]);
        assert_eq!(map.values().copied().collect::<Vec<_>>(), [0, 7, 5, 6, 4, 8]);
        assert_eq!(map.ids().count(), map.len());
        assert_eq!(map.id_at(0), Some(ids[0]));
        map.remove(ids[0]);
        assert_eq!((map.id_at(0), map.id_at(9)), (None, None));
    }

    #[test]
    fn memory_is_given_back_after_a_spike_and_no_id_is_given_twice() {
        const SPIKE: u32 = 100_000;
        let mut map: SlotMap<Number, u32> = SlotMap::new();
        let kept: Vec<Number> = (0..10).map(|n| map.insert(n)).collect();
        let mut seen = std::collections::HashSet::new();
        for round in 0..3 {
            let mut spike: Vec<Number> = (0..SPIKE).map(|n| map.insert(n)).collect();
            assert!(spike.iter().all(|id| seen.insert(*id)), "round {round}: an id was another's");
            // In order, backwards, and in any order.
            match round {
                0 => {}
                1 => spike.reverse(),
                _ => fastrand::Rng::with_seed(1).shuffle(&mut spike),
            }
            for id in spike {
                assert!(map.remove(id).is_some());
            }
            // The rest is given back with each entry that comes and goes.
            for n in 0..SPIKE / 100 {
                let id = map.insert(n);
                assert!(seen.insert(id), "an id was another's");
                map.remove(id);
            }
            assert!(map.capacity() <= 4 * KEPT, "round {round}: room for {}", map.capacity());
            assert_eq!(map.len(), kept.len());
            assert!(kept.iter().zip(0..).all(|(id, n)| map.get(*id) == Some(&n)));
        }
    }

    #[test]
    fn a_removal_from_a_sparse_map_gives_back_a_bounded_number_of_slots() {
        let mut map: SlotMap<Number, u32> = SlotMap::new();
        let ids: Vec<Number> = (0..20_000).map(|n| map.insert(n)).collect();
        for id in &ids {
            let before = map.slots.len();
            map.remove(*id);
            assert!(before - map.slots.len() <= GIVEN_BACK);
        }
        assert!(map.give_back(1_000), "there is more");
        assert!(!map.give_back(usize::MAX));
        assert!(map.capacity() <= 2 * KEPT, "room for {}", map.capacity());
    }

    #[test]
    fn a_slot_whose_versions_have_run_out_stays_empty() {
        let mut map = SlotMap::new();
        let [first, other]: [Number; 2] = ["first", "other"].map(|name| map.insert(name));
        map.remove(first);
        map.slots[first.index() as usize].version = NonZeroU32::MAX;
        let last = map.insert("last");
        assert_eq!((last.index(), last.version()), (first.index(), NonZeroU32::MAX));
        assert_eq!(map.remove(last), Some("last"));
        assert_eq!((map.get(last), map.id_at(last.index())), (None, None));
        assert_eq!(map.remove(last), None);
        let next = map.insert("next");
        assert_eq!(next.index(), 2, "not where the last one was");
        assert_eq!((map.get(first), map.get(last)), (None, None));
        assert_eq!((map[other], map[next], map.len()), ("other", "next", 2));
        assert_eq!(map.values().copied().collect::<Vec<_>>(), ["other", "next"]);
    }

    /// All entries; asserts that every iterator yields the same ones.
    fn contents(map: &mut SlotMap<Number, u32>) -> HashMap<Number, u32> {
        let found: HashMap<Number, u32> = map.iter().map(|(id, entry)| (id, *entry)).collect();
        assert_eq!(found.len(), map.iter().count(), "each once");
        assert_eq!((map.len(), map.is_empty()), (found.len(), found.is_empty()));
        assert!(map.ids().eq(map.iter().map(|(id, _)| id)));
        assert!(map.values().eq(map.iter().map(|(_, entry)| entry)));
        let values: Vec<u32> = map.values().copied().collect();
        assert!(map.values_mut().map(|entry| *entry).eq(values));
        assert_eq!(
            map.iter_mut().map(|(id, entry)| (id, *entry)).collect::<HashMap<_, _>>(),
            found
        );
        found
    }

    #[test]
    fn it_behaves_like_a_hash_map_with_unique_ids() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut map: SlotMap<Number, u32> = SlotMap::new();
            let mut expected = HashMap::new();
            let mut given: Vec<Number> = vec![Number::default()];
            for _ in 0..rng.usize(1..200) {
                let id = given[rng.usize(..given.len())];
                let new = rng.u32(..);
                match rng.u32(..8) {
                    0..3 => {
                        let id = map.insert(new);
                        assert!(!given.contains(&id), "seed {seed}: {id:?} was another's");
                        given.push(id);
                        expected.insert(id, new);
                        if rng.u32(..10) == 0 {
                            // It is the last at its place.
                            let slot = &mut map.slots[id.index() as usize];
                            slot.version = NonZeroU32::MAX;
                            let last = Number::new(id.index(), slot.version);
                            given.push(last);
                            expected.remove(&id);
                            expected.insert(last, new);
                        }
                    }
                    3..5 => assert_eq!(map.remove(id), expected.remove(&id), "seed {seed}"),
                    5 => {
                        let entries = (map.get_mut(id), expected.get_mut(&id));
                        assert_eq!(entries.0, entries.1, "seed {seed}");
                        if let (Some(one), Some(other)) = entries {
                            (*one, *other) = (new, new);
                        }
                    }
                    6 => {
                        let place = expected.keys().find(|other| other.index() == id.index());
                        let place = place.copied();
                        assert_eq!(map.id_at(id.index()), place, "seed {seed}");
                        let entry = map.at_mut(id.index()).copied();
                        assert_eq!(entry, place.map(|id| expected[&id]), "seed {seed}");
                    }
                    _ => {
                        map.iter_mut().for_each(|(_, entry)| *entry ^= 1);
                        expected.values_mut().for_each(|entry| *entry ^= 1);
                    }
                }
                let there = given.iter().filter(|id| map.contains(**id)).count();
                assert_eq!(there, expected.len(), "seed {seed}");
                assert_eq!(map.get(id), expected.get(&id), "seed {seed}");
                assert_eq!(contents(&mut map), expected, "seed {seed}");
            }
        }
    }
}
