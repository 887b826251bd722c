//! A doubly linked list threaded through the entries of a slot map: O(1) at both ends and in the
//! middle, no allocation. An entry can be in several lists, through one link for each.

use std::marker::PhantomData;

use super::steps::SlotMap;
use crate::slot_map::Id;

/// No entry: the end of a list.
const END: u32 = u32::MAX;

/// In place of the one before, in the link of an entry that is in no list.
const NOWHERE: u32 = u32::MAX - 1;

/// An entry's place in one list: the numbers of those before and behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<I> {
    prev: u32,
    next: u32,
    ids: PhantomData<fn() -> I>,
}

impl<I> Default for Link<I> {
    #[inline]
    fn default() -> Self {
        Self::between(NOWHERE, END)
    }
}

impl<I> Link<I> {
    #[inline]
    fn between(prev: u32, next: u32) -> Self {
        Self { prev, next, ids: PhantomData }
    }

    #[inline]
    pub(super) fn is_linked(&self) -> bool {
        self.prev != NOWHERE
    }
}

impl<I: Id> Link<I> {
    /// The last one, behind `prev`.
    #[inline]
    pub(super) fn after(prev: Option<I>) -> Self {
        Self::between(prev.map_or(END, Id::index), END)
    }

    pub(super) fn next<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        map.id_at(self.next)
    }

    pub(super) fn prev<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        map.id_at(self.prev)
    }
}

/// The entry at a place where one is, as a link says so.
#[inline]
fn neighbour<T>(map: &mut SlotMap<impl Id, T>, index: u32) -> &mut T {
    map.at_mut(index).expect("a link leads to an entry")
}

#[derive(Debug)]
pub(super) struct List<I> {
    head: Option<I>,
    tail: Option<I>,
    len: u32,
}

impl<I> Default for List<I> {
    fn default() -> Self {
        Self { head: None, tail: None, len: 0 }
    }
}

/// `link` selects the link of this list in an entry; always pass the same one to one list.
impl<I: Id> List<I> {
    #[inline]
    pub(super) fn front(&self) -> Option<I> {
        self.head
    }

    #[inline]
    pub(super) fn back(&self) -> Option<I> {
        self.tail
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn push_back<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = self.append(map, id, &link);
        *link(&mut map[id]) = own;
    }

    /// Appends `id`, but leaves it to the caller to store the returned link in its entry: one
    /// look-up less for one that has the entry at hand anyway.
    #[inline]
    #[must_use = "the link belongs into the entry"]
    pub(super) fn append<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) -> Link<I> {
        debug_assert!(!link(&mut map[id]).is_linked(), "an entry is in a list once");
        let prev = self.back();
        self.note_appended(map, id, link);
        Link::after(prev)
    }

    /// As [`append`](List::append), when [`Link::after`] the last one is in the entry already.
    #[inline(always)]
    pub(super) fn note_appended<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        match self.tail.replace(id) {
            Some(prev) => link(neighbour(map, prev.index())).next = id.index(),
            None => self.head = Some(id),
        }
        self.len += 1;
    }

    pub(super) fn push_front<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = link(&mut map[id]);
        debug_assert!(!own.is_linked(), "an entry is in a list once");
        *own = Link::between(END, self.head.map_or(END, Id::index));
        match self.head {
            Some(head) => link(neighbour(map, head.index())).prev = id.index(),
            None => self.tail = Some(id),
        }
        self.head = Some(id);
        self.len += 1;
    }

    /// Moves `id`, the last one, before those at the end that are `later`.
    pub(super) fn move_before<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        later: impl Fn(&T) -> bool,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let (mut prev, mut next) = (link(&mut map[id]).prev, END);
        while prev != END {
            let entry = neighbour(map, prev);
            if !later(entry) {
                break;
            }
            (prev, next) = (link(entry).prev, prev);
        }
        if next == END {
            return;
        }
        self.remove(map, id, &link);
        *link(&mut map[id]) = Link::between(prev, next);
        link(neighbour(map, next)).prev = id.index();
        match prev {
            END => self.head = Some(id),
            prev => link(neighbour(map, prev)).next = id.index(),
        }
        self.len += 1;
    }

    /// All of them, from the front.
    pub(super) fn ids<T>(
        &self,
        map: &SlotMap<I, T>,
        link: impl Fn(&T) -> &Link<I>,
    ) -> impl Iterator<Item = I> {
        std::iter::successors(self.head, move |id| link(&map[*id]).next(map))
    }

    /// Takes `id` out; nothing happens when it is not in the list.
    #[inline]
    pub(super) fn remove<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = std::mem::take(link(&mut map[id]));
        if own.is_linked() {
            self.unlink(map, own, link);
        }
    }

    /// Takes out the entry whose link was `own`; the caller has taken that from the entry.
    #[inline(always)]
    pub(super) fn unlink<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        own: Link<I>,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let Link { prev, next, .. } = own;
        match prev {
            END => self.head = map.id_at(next),
            prev => link(neighbour(map, prev)).next = next,
        }
        match next {
            END => self.tail = map.id_at(prev),
            next => link(neighbour(map, next)).prev = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot_map::ids;

    ids! {
        struct Number;
    }

    type Entry = Link<Number>;

    fn contents(list: &List<Number>, map: &SlotMap<Number, Entry>) -> Vec<Number> {
        let mut found = Vec::new();
        let mut at = list.front();
        while let Some(id) = at {
            found.push(id);
            at = map[id].next(map);
        }
        assert_eq!(found.len(), list.len() as usize);
        assert_eq!(found.last().copied(), list.back());
        found
    }

    #[test]
    fn entries_leave_from_anywhere_and_the_rest_keeps_its_order() {
        let mut map = SlotMap::new();
        let mut list = List::default();
        let ids: Vec<_> = (0..5).map(|_| map.insert(Entry::default())).collect();
        for &id in &ids {
            list.push_back(&mut map, id, |link| link);
        }
        list.remove(&mut map, ids[2], |link| link);
        list.remove(&mut map, ids[2], |link| link);
        assert_eq!(contents(&list, &map), [ids[0], ids[1], ids[3], ids[4]]);
        list.remove(&mut map, ids[0], |link| link);
        list.remove(&mut map, ids[4], |link| link);
        assert_eq!(contents(&list, &map), [ids[1], ids[3]]);
        list.push_back(&mut map, ids[0], |link| link);
        list.push_front(&mut map, ids[4], |link| link);
        assert_eq!(contents(&list, &map), [ids[4], ids[1], ids[3], ids[0]]);
    }

    #[test]
    fn the_last_one_moves_before_those_that_are_later() {
        for number in [0, 1, 2, 3, 9] {
            let mut map: SlotMap<Number, (u32, Entry)> = SlotMap::new();
            let mut list = List::default();
            for other in [1, 3, 5, number] {
                let id = map.insert((other, Entry::default()));
                list.push_back(&mut map, id, |(_, link)| link);
            }
            let id = list.back().expect("the last one");
            list.move_before(&mut map, id, |(other, _)| *other > number, |(_, link)| link);
            let mut forth = Vec::new();
            let mut at = list.front();
            while let Some(id) = at {
                forth.push(map[id].0);
                at = map[id].1.next(&map);
            }
            let mut sorted = vec![1, 3, 5, number];
            sorted.sort_unstable();
            assert_eq!(forth, sorted);
            let mut back = Vec::new();
            let mut at = list.back();
            while let Some(id) = at {
                back.push(map[id].0);
                at = map[id].1.prev(&map);
            }
            back.reverse();
            assert_eq!((back, list.len()), (sorted, 4));
        }
    }
}
