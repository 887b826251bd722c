//! The waiters of a key: which of them the next returned connection serves, and for which the next dial is.
//!
//! A waiter is in up to three lists: two of its key's [`WaitQueue`], for a returned connection and for a dial;
//! and the [`Deadlines`](super::deadlines::Deadlines). It is granted something in [`waiting`](super::waiting).

use super::waiter::{Waiter, Waiters};
use super::{Answer, ConnectionId, WaiterId};
use crate::collections::list::{Link, List};
use crate::policy::WaiterOrder;

/// The waiters of one key. Joining and leaving are O(1), whatever the order of waiters.
///
/// A waiter that was granted nothing yet is in up to two queues:
///
/// - for a returned connection, by the policy's order. The `dependents` are not in this queue;
/// - for a dial: `undialed`, in order of arrival, while no dial is in progress on its behalf; `dependents`
///   when only its own dial can serve it. A waiter whose dial races returned connections is in neither.
// In the order of use: all but `rarer` are in the line of memory that leases and waits change.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct WaitQueue {
    undialed: List<WaiterId>,
    /// How many were granted nothing yet.
    waiting: u32,
    /// The queue for returned connections, in order of arrival.
    arrival: List<WaiterId>,
    rarer: Option<Box<Rarer>>,
}

/// Lists that most keys do not need.
#[derive(Debug, Default)]
struct Rarer {
    /// With `waiter_order=random`, the queue for returned connections instead of `arrival`.
    random: Vec<WaiterId>,
    /// Waiters for a detached dial, or for a new connection.
    dependents: List<WaiterId>,
}

impl WaitQueue {
    /// How many waiters were granted nothing yet.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// How many waiters have no dial in progress.
    #[inline]
    pub(super) fn undialed(&self) -> u32 {
        self.undialed.len()
    }

    #[inline]
    pub(super) fn has_undialed(&self) -> bool {
        !self.undialed.is_empty()
    }

    /// Whether a returned connection can serve any waiter.
    #[inline]
    pub(super) fn wants_returns(&self) -> bool {
        !self.arrival.is_empty()
            || self.rarer.as_ref().is_some_and(|rarer| !rarer.random.is_empty())
    }

    /// The waiter that the next connection serves. In random order each call draws again.
    pub(super) fn next<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
        rng: &mut fastrand::Rng,
    ) -> Option<WaiterId> {
        self.arrival.front(waiters).or_else(|| {
            let random = &self.rarer.as_ref()?.random;
            (!random.is_empty()).then(|| random[rng.usize(..random.len())])
        })
    }

    /// As `next`, where the order is that of arrival.
    #[inline]
    pub(super) fn first_to_arrive<L, E, W>(&self, waiters: &Waiters<L, E, W>) -> Option<WaiterId> {
        self.arrival.front(waiters)
    }

    /// All waiters that a returned connection can serve.
    pub(super) fn for_returns<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
    ) -> impl Iterator<Item = WaiterId> {
        let random = self.rarer.iter().flat_map(|rarer| rarer.random.iter().copied());
        self.arrival.chain().ids(waiters, |waiter| &waiter.in_returns).chain(random)
    }

    /// The waiters without a dial, in order of arrival.
    pub(super) fn undialed_ids<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
    ) -> impl Iterator<Item = WaiterId> {
        self.undialed.chain().ids(waiters, |waiter| &waiter.in_dials)
    }

    /// The waiter that the next dial is for.
    pub(super) fn first_undialed<L, E, W>(&self, waiters: &Waiters<L, E, W>) -> Option<WaiterId> {
        self.undialed.front(waiters)
    }

    /// As `first_undialed`, of the waiters that are not served by `looks` connections in looks.
    pub(super) fn first_unserved<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
        looks: u32,
    ) -> Option<WaiterId> {
        match looks {
            0 => self.first_undialed(waiters),
            looks => self.undialed_ids(waiters).nth(looks as usize),
        }
    }

    /// The first waiter that only its own dial can serve.
    pub(super) fn first_dependent<L, E, W>(&self, waiters: &Waiters<L, E, W>) -> Option<WaiterId> {
        self.rarer.as_ref()?.dependents.front(waiters)
    }

    fn rarer(&mut self) -> &mut Rarer {
        self.rarer.get_or_insert_default()
    }

    /// A new waiter that a returned connection can serve, and that no dial is in progress for.
    pub(super) fn join<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        waiter: Waiter<L, E, W>,
        order: WaiterOrder,
    ) -> WaiterId {
        if order != WaiterOrder::Random {
            return self.join_in_order(waiters, waiter);
        }
        let id = waiters.insert(waiter);
        self.waiting += 1;
        self.join_returns(waiters, id, order);
        self.undialed.push_back(waiters, id, Waiter::in_dials);
        id
    }

    /// As `join`, where the order is that of arrival.
    #[inline(always)]
    pub(super) fn join_in_order<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        mut waiter: Waiter<L, E, W>,
    ) -> WaiterId {
        self.waiting += 1;
        // Its links are set before it is in the map, which is then looked at once.
        waiter.in_returns = self.arrival.behind_last();
        waiter.in_dials = self.undialed.behind_last();
        let id = waiters.insert(waiter);
        self.arrival.note_appended(waiters, id, Waiter::in_returns);
        self.undialed.note_appended(waiters, id, Waiter::in_dials);
        id
    }

    /// A new waiter that only its own dial can serve.
    pub(super) fn join_for_dial<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        waiter: Waiter<L, E, W>,
    ) -> WaiterId {
        let id = waiters.insert(waiter);
        self.waiting += 1;
        self.rarer().dependents.push_back(waiters, id, Waiter::in_dials);
        id
    }

    /// A waiter without a dial got one. `is_detached`: from now on only a dial serves it.
    pub(super) fn tie<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        is_detached: bool,
    ) {
        self.undialed.remove(waiters, id, Waiter::in_dials);
        if is_detached {
            self.leave_returns(waiters, id);
            self.rarer().dependents.push_back(waiters, id, Waiter::in_dials);
        }
    }

    /// The dial of a waiter failed. The waiter goes on waiting, for whatever comes first.
    pub(super) fn untie<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        self.end_dial(waiters, id);
        if !waiters[id].waits_for_returns() {
            self.rejoin_returns(waiters, id, order);
        }
        self.rejoin_undialed(waiters, id);
    }

    /// The dial of a waiter has ended.
    pub(super) fn end_dial<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        waiters[id].set_dial(None);
        if waiters[id].in_dials.is_linked() {
            self.rarer().dependents.remove(waiters, id, Waiter::in_dials);
        }
    }

    /// The dial of `from` serves `to`, which had none.
    pub(super) fn pass_dial<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        from: WaiterId,
        to: WaiterId,
    ) {
        self.undialed.remove(waiters, to, Waiter::in_dials);
        self.rejoin_undialed(waiters, from);
    }

    /// Waits for another dial, before the waiters that came later.
    fn rejoin_undialed<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        let own = waiters[id].ticket();
        let later = |other: &Waiter<L, E, W>| other.ticket() > own;
        self.undialed.insert_before(waiters, id, later, Waiter::in_dials);
    }

    /// Takes a waiter out of all queues of its key, and its dial from it. `grant` is what it gets instead.
    ///
    /// Returns the dial, which has lost its waiter.
    pub(super) fn leave<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        grant: Option<Answer<L, E>>,
    ) -> Option<ConnectionId> {
        let waiter = &mut waiters[id];
        debug_assert!(waiter.waits(), "a waiter is granted once");
        let dial = waiter.set_dial(None);
        let in_dials = std::mem::take(&mut waiter.in_dials);
        let place = Place::of(waiter);
        if let Some(grant) = grant {
            waiter.give(grant);
        }
        self.vacate(waiters, id, place);
        if in_dials.is_linked() {
            let queue =
                if dial.is_none() { &mut self.undialed } else { &mut self.rarer().dependents };
            queue.unlink(waiters, id, in_dials, Waiter::in_dials);
        }
        self.waiting -= 1;
        dial
    }

    /// Takes the first waiter, which [is plain](Waiter::is_plain), out of its queues and the map.
    #[inline(always)]
    pub(super) fn remove_first<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
    ) -> Waiter<L, E, W> {
        let waiter = waiters.remove(id).expect("one in the queue waits");
        debug_assert!(waiter.in_returns.is_linked() && waiter.in_dials.is_linked(), "it is plain");
        self.arrival.unlink(waiters, id, waiter.in_returns, Waiter::in_returns);
        self.undialed.unlink(waiters, id, waiter.in_dials, Waiter::in_dials);
        self.waiting -= 1;
        waiter
    }

    fn join_returns<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            let random = &mut self.rarer().random;
            waiters[id].set_random_place(random.len());
            random.push(id);
        } else {
            self.arrival.push_back(waiters, id, Waiter::in_returns);
        }
    }

    /// Joins before the waiters that came later.
    fn rejoin_returns<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            self.join_returns(waiters, id, order);
        } else {
            let own = waiters[id].ticket();
            let later = |other: &Waiter<L, E, W>| other.ticket() > own;
            self.arrival.insert_before(waiters, id, later, Waiter::in_returns);
        }
    }

    fn leave_returns<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        let place = Place::of(&mut waiters[id]);
        self.vacate(waiters, id, place);
    }

    /// A place in the queue for returned connections, taken out of the waiter's entry already, is free.
    #[inline]
    fn vacate<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId, place: Place) {
        if place.link.is_linked() {
            self.arrival.unlink(waiters, id, place.link, Waiter::in_returns);
        } else if let (Some(at), Some(rarer)) = (place.random_at, &mut self.rarer) {
            rarer.random.swap_remove(at);
            if let Some(&moved) = rarer.random.get(at) {
                waiters[moved].set_random_place(at);
            }
        }
    }

    /// For checks: the lists of waiters for returns, of waiters without a dial, and of dependents.
    pub(super) fn lists(&self) -> (&List<WaiterId>, &List<WaiterId>, Option<&List<WaiterId>>) {
        let dependents = self.rarer.as_ref().map(|rarer| &rarer.dependents);
        (&self.arrival, &self.undialed, dependents)
    }
}

/// Where a waiter stands in the queue for returned connections.
struct Place {
    link: Link<WaiterId>,
    random_at: Option<usize>,
}

impl Place {
    /// Takes it out of the waiter's entry.
    #[inline]
    fn of<L, E, W>(waiter: &mut Waiter<L, E, W>) -> Self {
        Self { link: std::mem::take(&mut waiter.in_returns), random_at: waiter.take_random_place() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KeyId;

    type Map = Waiters<(), (), ()>;

    fn join(waiters: &mut Map, queue: &mut WaitQueue, order: WaiterOrder) -> WaiterId {
        queue.join(waiters, Waiter::new(KeyId::default()), order)
    }

    #[test]
    fn waiters_are_served_in_the_order_of_arrival() {
        let (mut waiters, mut queue) = (Map::new(), WaitQueue::default());
        let rng = &mut fastrand::Rng::with_seed(1);
        let ids = [(); 3].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Arrival));
        queue.leave(&mut waiters, ids[0], None);
        assert_eq!(queue.next(&waiters, rng), Some(ids[1]));
        assert!(!waiters[ids[0]].waits_for_returns() && waiters[ids[1]].waits_for_returns());
        queue.leave(&mut waiters, ids[1], None);
        queue.leave(&mut waiters, ids[2], None);
        assert!(!queue.wants_returns() && queue.next(&waiters, rng).is_none());
        assert_eq!((queue.waiting(), queue.undialed()), (0, 0));
    }

    #[test]
    fn waiter_whose_dial_failed_comes_before_those_that_came_later() {
        let (mut waiters, mut queue) = (Map::new(), WaitQueue::default());
        let ids = [(); 3].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Arrival));
        for (ticket, id) in (1..).zip(&ids[..2]) {
            queue.tie(&mut waiters, *id, true);
            waiters[*id].tie_to(ConnectionId::default(), ticket);
        }
        assert_eq!(queue.first_dependent(&waiters), Some(ids[0]));
        assert_eq!((queue.waiting(), queue.undialed()), (3, 1));
        queue.untie(&mut waiters, ids[0], WaiterOrder::Arrival);
        assert_eq!(queue.first_dependent(&waiters), Some(ids[1]));
        assert_eq!(queue.first_undialed(&waiters), Some(ids[0]));
        assert_eq!(queue.next(&waiters, &mut fastrand::Rng::with_seed(1)), Some(ids[0]));
    }

    #[test]
    fn random_order_serves_every_waiter_once() {
        let (mut waiters, mut queue) = (Map::new(), WaitQueue::default());
        let rng = &mut fastrand::Rng::with_seed(1);
        let ids = [(); 20].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Random));
        let mut served = Vec::new();
        while let Some(next) = queue.next(&waiters, rng) {
            queue.leave(&mut waiters, next, None);
            served.push(next);
        }
        assert_ne!(served, ids);
        served.sort_unstable();
        assert_eq!(served, ids);
    }
}
