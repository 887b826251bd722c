//! The deadlines of the waiters, earliest first. The waiters whose deadline has passed are told so in
//! [`waiting`](super::waiting) (`expire_waiters`).

use std::cmp::Reverse;

use super::WaiterId;
use super::waiter::{Waiter, Waiters};
use crate::clock::Timestamp;
use crate::collections::BinaryHeap;
use crate::collections::is_overgrown;
use crate::collections::list::{Chain, Link};

/// Most deadlines come in order, and need only a list through the waiters. The deadline of a waiter that
/// was told to try again, or that is less patient than those before, comes out of order. Each such
/// deadline costs the logarithm of how many there are, even when all waiters are woken at once.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Deadlines {
    /// Those of waiters that have left, or were granted something, are skipped.
    others: BinaryHeap<Reverse<(Timestamp, WaiterId)>>,
    pub(super) in_order: Chain<WaiterId>,
}

impl Deadlines {
    /// How many deadlines are remembered, some of waiters that have left included. Counts them.
    pub(super) fn count<L, E, W>(&self, waiters: &Waiters<L, E, W>) -> usize {
        let in_order = self.in_order.ids(waiters, |waiter| &waiter.in_deadlines);
        in_order.count() + self.others.len()
    }

    /// No deadline is watched any more.
    pub(super) fn clear<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>) {
        while let Some(id) = self.in_order.front(waiters) {
            self.forget(waiters, id);
        }
        self.others.clear();
    }

    /// The last place, for a waiter whose deadline comes in order.
    #[inline]
    pub(super) fn place<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
        deadline: Timestamp,
    ) -> Option<Link<WaiterId>> {
        let last = self.in_order.back(waiters);
        let is_later = last.is_none_or(|last| waiters[last].deadline <= deadline);
        (is_later && deadline != Timestamp::NEVER).then(|| self.in_order.behind_last())
    }

    /// A waiter has taken the last place.
    #[inline]
    pub(super) fn note_appended<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        self.in_order.note_appended(waiters, id, Waiter::in_deadlines);
    }

    /// Watches that of a waiter from now on.
    pub(super) fn watch<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        deadline: Timestamp,
    ) {
        debug_assert!(waits(waiters, id), "only a waiter can be late");
        if let Some(link) = self.place(waiters, deadline) {
            waiters[id].deadline = deadline;
            waiters[id].in_deadlines = link;
            return self.note_appended(waiters, id);
        }
        if is_overgrown(self.others.len(), waiters.len()) {
            self.others.retain(|Reverse((_, id))| waits(waiters, *id));
        }
        self.others.push(Reverse((deadline, id)));
    }

    /// A waiter is gone, or does not wait any more; `link` was its.
    #[inline]
    pub(super) fn unlink<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        link: Link<WaiterId>,
    ) {
        if link.is_linked() {
            self.in_order.unlink(waiters, id, link, Waiter::in_deadlines);
        }
    }

    /// A waiter does not wait any more.
    pub(super) fn forget<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        let link = std::mem::take(&mut waiters[id].in_deadlines);
        self.unlink(waiters, id, link);
    }

    /// The earliest deadline, and its waiter.
    pub(super) fn first<L, E, W>(
        &mut self,
        waiters: &Waiters<L, E, W>,
    ) -> Option<(Timestamp, WaiterId)> {
        while self.others.peek().is_some_and(|Reverse((_, id))| !waits(waiters, *id)) {
            self.others.pop();
        }
        let in_order = self.in_order.front(waiters).map(|id| (waiters[id].deadline, id));
        let other = self.others.peek().map(|Reverse(other)| *other);
        [in_order, other].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }

    pub(super) fn are_in_order<L, E, W>(&self, waiters: &Waiters<L, E, W>) -> bool {
        let ids = self.in_order.ids(waiters, |waiter| &waiter.in_deadlines);
        ids.map(|id| waiters[id].deadline).is_sorted()
    }
}

/// Whether a waiter is still there and was granted nothing.
fn waits<L, E, W>(waiters: &Waiters<L, E, W>, id: WaiterId) -> bool {
    waiters.get(id).is_some_and(Waiter::waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::Exclusive;
    use crate::state::KeyId;

    type Waiting = Waiters<Exclusive<u32>, (), ()>;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn watched(
        waiters: &mut Waiting,
        deadlines: &mut Deadlines,
        times: &[u64],
    ) -> Vec<(Timestamp, WaiterId)> {
        let watch = |&time: &u64| {
            let id = waiters.insert(Waiter::new(KeyId::default()));
            deadlines.watch(waiters, id, at(time));
            (at(time), id)
        };
        times.iter().map(watch).collect()
    }

    #[test]
    fn the_earliest_deadline_is_first_in_whatever_order_they_came() {
        for times in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 1, 3]] {
            let (mut waiters, mut deadlines) = (Waiting::new(), Deadlines::default());
            let mut expected = watched(&mut waiters, &mut deadlines, &times);
            expected.sort_unstable();
            for (deadline, id) in expected {
                assert_eq!(deadlines.first(&waiters), Some((deadline, id)), "{times:?}");
                deadlines.forget(&mut waiters, id);
                waiters.remove(id);
            }
            assert_eq!(deadlines.first(&waiters), None);
        }
    }

    #[test]
    fn a_deadline_beyond_all_time_takes_no_place_in_the_list() {
        let (mut waiters, mut deadlines) = (Waiting::new(), Deadlines::default());
        let id = waiters.insert(Waiter::new(KeyId::default()));
        assert!(deadlines.place(&waiters, at(1)).is_some());
        assert!(deadlines.place(&waiters, Timestamp::NEVER).is_none());
        deadlines.watch(&mut waiters, id, at(1));
        deadlines.clear(&mut waiters);
        assert_eq!((deadlines.count(&waiters), deadlines.first(&waiters)), (0, None));
    }

    #[test]
    fn cleared_deadlines_are_forgotten_in_and_out_of_order() {
        let (mut waiters, mut deadlines) = (Waiting::new(), Deadlines::default());
        watched(&mut waiters, &mut deadlines, &[2, 3, 1]);
        assert_eq!(deadlines.count(&waiters), 3);
        deadlines.clear(&mut waiters);
        assert_eq!((deadlines.count(&waiters), deadlines.first(&waiters)), (0, None));
    }

    #[test]
    fn deadlines_of_waiters_that_left_do_not_pile_up() {
        let (mut waiters, mut deadlines) = (Waiting::new(), Deadlines::default());
        watched(&mut waiters, &mut deadlines, &[1_000_000]);
        for time in (0..10_000).rev() {
            for (_, id) in watched(&mut waiters, &mut deadlines, &[time]) {
                deadlines.forget(&mut waiters, id);
                waiters.remove(id);
            }
        }
        assert!(deadlines.count(&waiters) < 1_000, "{}", deadlines.count(&waiters));
    }
}
