//! Doubly linked lists threaded through the entries of a slot map: O(1) at both ends and in the
//! middle, no allocation. An entry can be in several lists, through one link for each.
//!
//! Removing the first or last entry does not update its neighbour, which is likely to be in another
//! core's cache. So the links before the first entry and behind the last one mean nothing.

use std::marker::PhantomData;

use super::SlotMap;
use super::slot_map::Id;

/// The place of no entry.
const NONE: u32 = u32::MAX;

/// In place of the one before, in the link of an entry that is in no list.
const NOWHERE: u32 = u32::MAX - 1;

/// An entry's place in one list: the places of those before and behind it in the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<I> {
    prev: u32,
    next: u32,
    ids: PhantomData<fn() -> I>,
}

impl<I> Default for Link<I> {
    #[inline]
    fn default() -> Self {
        Self::new()
    }
}

impl<I> Link<I> {
    /// Of an entry that is in no list.
    pub(crate) const fn new() -> Self {
        Self::between(NOWHERE, NONE)
    }

    #[inline]
    const fn between(prev: u32, next: u32) -> Self {
        Self { prev, next, ids: PhantomData }
    }

    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.prev != NOWHERE
    }
}

/// The entry at a place that a link names.
#[inline]
fn neighbour<T>(map: &mut SlotMap<impl Id, T>, place: u32) -> &mut T {
    map.at_mut(place).expect("a link leads to an entry")
}

/// A list that does not know how long it is.
///
/// `link` selects the link of this list in an entry; always pass the same one to one list.
#[derive(Debug)]
pub(crate) struct Chain<I> {
    first: u32,
    last: u32,
    ids: PhantomData<fn() -> I>,
}

impl<I> Default for Chain<I> {
    fn default() -> Self {
        Self { first: NONE, last: NONE, ids: PhantomData }
    }
}

impl<I: Id> Chain<I> {
    #[inline]
    pub(crate) fn front<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        map.id_at(self.first)
    }

    #[inline]
    pub(crate) fn back<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        map.id_at(self.last)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// The link of an entry that joins at the end; [`note_appended`](Chain::note_appended) follows.
    #[inline]
    pub(crate) fn behind_last(&self) -> Link<I> {
        Link::between(self.last, NONE)
    }

    /// An entry has joined at the end, with the link for that.
    #[inline(always)]
    pub(crate) fn note_appended<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        match std::mem::replace(&mut self.last, id.index()) {
            NONE => self.first = id.index(),
            prev => link(neighbour(map, prev)).next = id.index(),
        }
    }

    /// The place of the one before.
    fn before(&self, place: u32, link: &Link<I>) -> u32 {
        if place == self.first { NONE } else { link.prev }
    }

    /// All of them, from the front.
    pub(crate) fn ids<T>(
        &self,
        map: &SlotMap<I, T>,
        link: impl Fn(&T) -> &Link<I>,
    ) -> impl Iterator<Item = I> {
        self.ids_from(self.front(map), map, link)
    }

    /// From one of them on.
    pub(crate) fn ids_from<T>(
        &self,
        first: Option<I>,
        map: &SlotMap<I, T>,
        link: impl Fn(&T) -> &Link<I>,
    ) -> impl Iterator<Item = I> {
        let last = self.last;
        let next = move |id: &I| if id.index() == last { NONE } else { link(&map[*id]).next };
        std::iter::successors(first, move |id| map.id_at(next(id)))
    }

    /// All of them, from the back.
    pub(crate) fn ids_from_back<T>(
        &self,
        map: &SlotMap<I, T>,
        link: impl Fn(&T) -> &Link<I>,
    ) -> impl Iterator<Item = I> {
        let first = self.first;
        let prev = move |id: &I| if id.index() == first { NONE } else { link(&map[*id]).prev };
        std::iter::successors(self.back(map), move |id| map.id_at(prev(id)))
    }

    /// Takes out the entry whose link was `own`; the caller has taken that from the entry.
    #[inline(always)]
    pub(crate) fn unlink<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        own: Link<I>,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let place = id.index();
        match (place == self.first, place == self.last) {
            (true, true) => *self = Self::default(),
            (true, false) => self.first = own.next,
            (false, true) => self.last = own.prev,
            (false, false) => {
                link(neighbour(map, own.prev)).next = own.next;
                link(neighbour(map, own.next)).prev = own.prev;
            }
        }
    }
}

/// A list that knows how long it is.
///
/// `link` selects the link of this list in an entry; always pass the same one to one list.
#[derive(Debug)]
pub(crate) struct List<I> {
    chain: Chain<I>,
    len: u32,
}

impl<I> Default for List<I> {
    fn default() -> Self {
        Self { chain: Chain::default(), len: 0 }
    }
}

impl<I: Id> List<I> {
    #[inline]
    pub(crate) fn front<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        self.chain.front(map)
    }

    #[inline]
    pub(crate) fn back<T>(&self, map: &SlotMap<I, T>) -> Option<I> {
        self.chain.back(map)
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// All of them, in order.
    pub(crate) fn chain(&self) -> &Chain<I> {
        &self.chain
    }

    /// As [`Chain::behind_last`].
    #[inline]
    pub(crate) fn behind_last(&self) -> Link<I> {
        self.chain.behind_last()
    }

    /// As [`Chain::note_appended`].
    #[inline(always)]
    pub(crate) fn note_appended<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        self.chain.note_appended(map, id, link);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn push_back<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = link(&mut map[id]);
        debug_assert!(!own.is_linked(), "an entry is in a list once");
        *own = self.behind_last();
        self.note_appended(map, id, link);
    }

    pub(crate) fn push_front<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = link(&mut map[id]);
        debug_assert!(!own.is_linked(), "an entry is in a list once");
        *own = Link::between(NONE, self.chain.first);
        match std::mem::replace(&mut self.chain.first, id.index()) {
            NONE => self.chain.last = id.index(),
            next => link(neighbour(map, next)).prev = id.index(),
        }
        self.len += 1;
    }

    /// Puts `id` before the first that is `later`, behind all others; the list is in that order. Looks
    /// for its place from both ends at a time: costs a step for each of those before that place, or for each
    /// of those behind it, whichever are fewer.
    pub(crate) fn insert_before<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        later: impl Fn(&T) -> bool,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        // All before `next` are earlier, all behind `prev` are later.
        let (mut prev, mut next) = (self.chain.last, self.chain.first);
        loop {
            if prev == NONE {
                next = self.chain.first;
                break;
            }
            let entry = neighbour(map, prev);
            if !later(entry) {
                next = if prev == self.chain.last { NONE } else { link(entry).next };
                break;
            }
            prev = self.chain.before(prev, link(entry));
            let entry = neighbour(map, next);
            if later(entry) {
                prev = self.chain.before(next, link(entry));
                break;
            }
            next = link(entry).next;
        }
        self.insert(map, id, (prev, next), link);
    }

    /// Moves `id`, the last one, before those at the end that are `later`.
    pub(crate) fn move_before<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        later: impl Fn(&T) -> bool,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let (mut prev, mut next) = (self.chain.before(id.index(), link(&mut map[id])), NONE);
        while prev != NONE {
            let entry = neighbour(map, prev);
            if !later(entry) {
                break;
            }
            (prev, next) = (self.chain.before(prev, link(entry)), prev);
        }
        if next == NONE {
            return;
        }
        self.remove(map, id, &link);
        self.insert(map, id, (prev, next), &link);
    }

    fn insert<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        (prev, next): (u32, u32),
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = link(&mut map[id]);
        debug_assert!(!own.is_linked(), "an entry is in a list once");
        *own = Link::between(prev, next);
        match next {
            NONE => self.chain.last = id.index(),
            next => link(neighbour(map, next)).prev = id.index(),
        }
        match prev {
            NONE => self.chain.first = id.index(),
            prev => link(neighbour(map, prev)).next = id.index(),
        }
        self.len += 1;
    }

    /// The one before `id`, which is in the list.
    pub(crate) fn before<T>(
        &self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) -> Option<I> {
        let place = self.chain.before(id.index(), link(&mut map[id]));
        map.id_at(place)
    }

    /// Puts `id` back into a list that is in order of `rank`: behind `before`, which it was behind
    /// when it was taken out, or first. Only when that is not its place any more, this costs a step
    /// for each of those that belong behind it.
    pub(crate) fn put_back<T, R: Ord>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        before: Option<I>,
        rank: impl Fn(&T) -> R,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = rank(&map[id]);
        let before = before.filter(|before| {
            map.get_mut(*before).is_some_and(|entry| link(entry).is_linked() && rank(entry) <= own)
        });
        let (prev, next) = match before {
            None => (NONE, self.chain.first),
            Some(before) if before.index() == self.chain.last => (before.index(), NONE),
            Some(before) => (before.index(), link(&mut map[before]).next),
        };
        if next == NONE || rank(neighbour(map, next)) >= own {
            return self.insert(map, id, (prev, next), link);
        }
        self.push_back(map, id, &link);
        self.move_before(map, id, |other| rank(other) > own, link);
    }

    /// Takes `id` out; nothing happens when it is not in the list.
    #[inline]
    pub(crate) fn remove<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        let own = std::mem::take(link(&mut map[id]));
        if own.is_linked() {
            self.unlink(map, id, own, link);
        }
    }

    /// As [`Chain::unlink`].
    #[inline(always)]
    pub(crate) fn unlink<T>(
        &mut self,
        map: &mut SlotMap<I, T>,
        id: I,
        own: Link<I>,
        link: impl Fn(&mut T) -> &mut Link<I>,
    ) {
        self.chain.unlink(map, id, own, link);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests;
