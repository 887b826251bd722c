//! A doubly linked list threaded through the entries of a slot map: O(1) at both ends and in the
//! middle, no allocation. An entry can be in several lists, through one link for each.

use slotmap::Key;

use super::steps::SlotMap;

/// An entry's place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<I> {
    prev: Option<I>,
    next: Option<I>,
    linked: bool,
}

impl<I> Default for Link<I> {
    fn default() -> Self {
        Self { prev: None, next: None, linked: false }
    }
}

impl<I> Link<I> {
    /// The last one, behind `prev`.
    pub(super) fn after(prev: Option<I>) -> Self {
        Self { prev, next: None, linked: true }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.linked
    }

    pub(super) fn next(&self) -> Option<I>
    where
        I: Copy,
    {
        self.next
    }

    pub(super) fn prev(&self) -> Option<I>
    where
        I: Copy,
    {
        self.prev
    }
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
impl<I: Key> List<I> {
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
        debug_assert!(!link(&mut map[id]).linked, "an entry is in a list once");
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
            Some(prev) => link(&mut map[prev]).next = Some(id),
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
        debug_assert!(!own.linked, "an entry is in a list once");
        *own = Link { prev: None, next: self.head, linked: true };
        match self.head {
            Some(head) => link(&mut map[head]).prev = Some(id),
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
        let (mut prev, mut next) = (link(&mut map[id]).prev, None);
        while let Some(other) = prev
            && later(&map[other])
        {
            (prev, next) = (link(&mut map[other]).prev, prev);
        }
        let Some(after) = next else { return };
        self.remove(map, id, &link);
        *link(&mut map[id]) = Link { prev, next, linked: true };
        link(&mut map[after]).prev = Some(id);
        match prev {
            Some(prev) => link(&mut map[prev]).next = Some(id),
            None => self.head = Some(id),
        }
        self.len += 1;
    }

    /// All of them, from the front.
    pub(super) fn ids<T>(
        &self,
        map: &SlotMap<I, T>,
        link: impl Fn(&T) -> &Link<I>,
    ) -> impl Iterator<Item = I> {
        std::iter::successors(self.head, move |id| link(&map[*id]).next)
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
        if own.linked {
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
            Some(prev) => link(&mut map[prev]).next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => link(&mut map[next]).prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::DefaultKey;

    type Entry = Link<DefaultKey>;

    fn contents(list: &List<DefaultKey>, map: &SlotMap<DefaultKey, Entry>) -> Vec<DefaultKey> {
        let mut found = Vec::new();
        let mut at = list.front();
        while let Some(id) = at {
            found.push(id);
            at = map[id].next;
        }
        assert_eq!(found.len(), list.len() as usize);
        assert_eq!(found.last().copied(), list.back());
        found
    }

    #[test]
    fn entries_leave_from_anywhere_and_the_rest_keeps_its_order() {
        let mut map = SlotMap::with_key();
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
            let mut map: SlotMap<DefaultKey, (u32, Entry)> = SlotMap::with_key();
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
                at = map[id].1.next;
            }
            let mut sorted = vec![1, 3, 5, number];
            sorted.sort_unstable();
            assert_eq!(forth, sorted);
            let mut back = Vec::new();
            let mut at = list.back();
            while let Some(id) = at {
                back.push(map[id].0);
                at = map[id].1.prev;
            }
            back.reverse();
            assert_eq!((back, list.len()), (sorted, 4));
        }
    }
}
