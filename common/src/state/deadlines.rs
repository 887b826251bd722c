//! When those who wait stop waiting.

use std::cmp::Reverse;

use super::WaiterId;
use super::stale::is_overgrown;
use super::steps::{BinaryHeap, VecDeque};
use crate::clock::Timestamp;

/// Most deadlines come in order, and need nothing but a queue. Who was told to try again, or is less
/// patient than those before, comes out of order: each costs the logarithm of how many do, also when
/// everybody is woken at once.
#[derive(Debug)]
pub(super) struct Deadlines {
    in_order: VecDeque<(Timestamp, WaiterId)>,
    others: BinaryHeap<Reverse<(Timestamp, WaiterId)>>,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { in_order: VecDeque::new(), others: BinaryHeap::new() }
    }

    /// How many are remembered, those of waiters that have left included.
    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    pub(super) fn clear(&mut self) {
        self.in_order.clear();
        self.others.clear();
    }

    #[inline]
    pub(super) fn push(&mut self, deadline: Timestamp, id: WaiterId) {
        if self.in_order.back().is_none_or(|(last, _)| *last <= deadline) {
            self.in_order.push_back((deadline, id));
        } else {
            self.others.push(Reverse((deadline, id)));
        }
    }

    /// Forgets those of waiters that have left, if there are too many beside those of `waiting`.
    #[inline]
    pub(super) fn tidy(&mut self, waiting: usize, waits: impl Fn(WaiterId) -> bool) {
        // Each who waits leaves one behind: twice as many of them may wait for the walk.
        if is_overgrown(self.len(), 2 * waiting) {
            self.in_order.retain(|(_, id)| waits(*id));
            self.others.retain(|Reverse((_, id))| waits(*id));
        }
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<(Timestamp, WaiterId)> {
        let in_order = self.in_order.front().copied();
        let other = self.others.peek().map(|Reverse(other)| *other);
        [in_order, other].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }

    pub(super) fn forget_first(&mut self) {
        let first = self.first();
        if first == self.in_order.front().copied() {
            self.in_order.pop_front();
        } else {
            self.others.pop();
        }
    }

    pub(super) fn are_in_order(&self) -> bool {
        self.in_order.iter().is_sorted_by_key(|(deadline, _)| *deadline)
    }
}
