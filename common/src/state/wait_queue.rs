//! The waiters of a key: what is remembered of each, and in what order returned connections serve them.
//!
//! A waiter is in up to three lists: [`ReturnQueue`], for a connection that comes back; `undialed` or
//! `dependents` of its key, for a dial; and the [`Deadlines`](super::deadlines::Deadlines). It is granted
//! something, or leaves, in [`waiting`](super::waiting).

use super::{ConnectionId, Grant, KeyId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::{Link, List};
use crate::policy::WaiterOrder;

pub(super) type Waiters<L, E, W> = SlotMap<WaiterId, Waiter<L, E, W>>;

/// With what the map keeps of it, one line.
#[derive(Debug)]
pub(super) struct Waiter<L, E, W> {
    /// What the shell keeps with it.
    pub(super) attached: Option<W>,
    pub(super) key: KeyId,
    /// In its key's `returns`, by order of arrival.
    pub(super) in_returns: Link<WaiterId>,
    /// In its key's `undialed` or `dependents`.
    pub(super) in_dials: Link<WaiterId>,
    /// Among the deadlines that came in order.
    pub(super) in_deadlines: Link<WaiterId>,
    /// Its place among them; [`NEVER`](Timestamp::NEVER) for one that never had a place there, whose
    /// deadline is in the heap, or is not watched.
    pub(super) deadline: Timestamp,
    special: Option<Box<Special<L, E>>>,
}

/// Fields that most waiters never use.
#[derive(Debug)]
struct Special<L, E> {
    /// The dial in progress on its behalf.
    dial: Option<ConnectionId>,
    /// It insists on a fresh connection, so idle ones do not concern it.
    fresh: bool,
    /// In its key's `returns`, in random order: where.
    random_at: Option<usize>,
    /// In order of arrival, among those that ever had a dial; zero when it never had one.
    ticket: u64,
    /// The serial number of the last dial that had started when it came and found dials in
    /// progress. How those end is not its affair.
    came_after: u64,
    grant: Option<Grant<L, E>>,
}

impl<L, E, W> Waiter<L, E, W> {
    pub(super) fn new(key: KeyId) -> Self {
        Self {
            attached: None,
            key,
            in_returns: Link::default(),
            in_dials: Link::default(),
            in_deadlines: Link::default(),
            deadline: Timestamp::NEVER,
            special: None,
        }
    }

    #[cold]
    fn special(&mut self) -> &mut Special<L, E> {
        self.special.get_or_insert_with(|| {
            Box::new(Special {
                dial: None,
                fresh: false,
                random_at: None,
                ticket: 0,
                came_after: 0,
                grant: None,
            })
        })
    }

    /// Whether it never had anything special: it waits for whatever comes first, in order of arrival,
    /// and no dial ever was in progress on its behalf. A waiter that insisted on a fresh connection, or
    /// whose dial failed or went to another waiter, may wait for the same by now, and takes the slow path.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.special.is_none()
    }

    /// Whether it was granted nothing.
    pub(super) fn waits(&self) -> bool {
        self.special.as_ref().is_none_or(|special| special.grant.is_none())
    }

    pub(super) fn give(&mut self, grant: Grant<L, E>) {
        self.special().grant = Some(grant);
    }

    pub(super) fn take_grant(&mut self) -> Option<Grant<L, E>> {
        self.special.as_mut()?.grant.take()
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.fresh)
    }

    pub(super) fn insist_on_fresh(&mut self) {
        self.special().fresh = true;
    }

    pub(super) fn dial(&self) -> Option<ConnectionId> {
        self.special.as_ref()?.dial
    }

    /// Gets a dial, and with its first one its `ticket`.
    pub(super) fn tie_to(&mut self, dial: ConnectionId, ticket: u64) {
        self.special().dial = Some(dial);
        self.number(ticket);
    }

    /// Gets its `ticket`, unless it has one.
    pub(super) fn number(&mut self, ticket: u64) {
        let special = self.special();
        if special.ticket == 0 {
            special.ticket = ticket;
        }
    }

    /// Its place in the order of arrival. Dials start for waiters in that order, except that waiters which
    /// looks are about to serve get a ticket without a dial. So waiters without a ticket came last.
    pub(super) fn ticket(&self) -> u64 {
        let ticket = self.special.as_ref().map_or(0, |special| special.ticket);
        if ticket == 0 { u64::MAX } else { ticket }
    }

    /// Returns the one before.
    pub(super) fn set_dial(&mut self, dial: Option<ConnectionId>) -> Option<ConnectionId> {
        if dial.is_none() && self.is_plain() {
            return None;
        }
        std::mem::replace(&mut self.special().dial, dial)
    }

    /// The waiter came while dials were in progress, the youngest of them with this serial number.
    pub(super) fn set_came_after(&mut self, serial: u64) {
        self.special().came_after = serial;
    }

    /// Whether it waited already when the dial with this serial number started.
    pub(super) fn waited_for(&self, serial: u64) -> bool {
        self.special.as_ref().is_none_or(|special| special.came_after < serial)
    }

    pub(super) fn set_random_place(&mut self, at: usize) {
        self.special().random_at = Some(at);
    }

    pub(super) fn take_random_place(&mut self) -> Option<usize> {
        self.special.as_mut()?.random_at.take()
    }

    /// Whether a connection that comes back can serve it.
    pub(super) fn waits_for_returns(&self) -> bool {
        let special = self.special.as_ref();
        self.in_returns.is_linked() || special.is_some_and(|special| special.random_at.is_some())
    }

    /// Whether it is in any list.
    pub(super) fn is_linked(&self) -> bool {
        self.in_returns.is_linked() || self.in_dials.is_linked() || self.in_deadlines.is_linked()
    }

    pub(super) fn in_returns(&mut self) -> &mut Link<WaiterId> {
        &mut self.in_returns
    }

    pub(super) fn in_dials(&mut self) -> &mut Link<WaiterId> {
        &mut self.in_dials
    }

    pub(super) fn in_deadlines(&mut self) -> &mut Link<WaiterId> {
        &mut self.in_deadlines
    }
}

/// Where a waiter stands in a [`ReturnQueue`].
pub(super) struct Place {
    link: Link<WaiterId>,
    random_at: Option<usize>,
}

impl Place {
    /// Takes it out of the waiter's entry.
    #[inline]
    pub(super) fn of<L, E, W>(waiter: &mut Waiter<L, E, W>) -> Self {
        Self { link: std::mem::take(&mut waiter.in_returns), random_at: waiter.take_random_place() }
    }
}

/// The waiters that a returned connection can serve. Joining and leaving are O(1) in every order.
#[derive(Debug, Default)]
pub(super) struct ReturnQueue {
    pub(super) arrival: List<WaiterId>,
    /// The waiters in random order instead; made when the policy asks for that.
    random: Option<Box<InNoOrder>>,
}

#[derive(Debug, Default)]
struct InNoOrder(Vec<WaiterId>);

impl ReturnQueue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.arrival.is_empty() && self.random.as_ref().is_none_or(|random| random.0.is_empty())
    }

    pub(super) fn join<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            let random = &mut self.random.get_or_insert_default().0;
            waiters[id].set_random_place(random.len());
            random.push(id);
        } else {
            self.arrival.push_back(waiters, id, Waiter::in_returns);
        }
    }

    /// Joins before the waiters that came later.
    pub(super) fn rejoin<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            self.join(waiters, id, order);
        } else {
            let own = waiters[id].ticket();
            let later = |other: &Waiter<L, E, W>| other.ticket() > own;
            self.arrival.insert_before(waiters, id, later, Waiter::in_returns);
        }
    }

    pub(super) fn leave<L, E, W>(&mut self, waiters: &mut Waiters<L, E, W>, id: WaiterId) {
        let place = Place::of(&mut waiters[id]);
        self.vacate(waiters, id, place);
    }

    /// As `leave`, of a waiter whose place was taken out of its entry already.
    #[inline]
    pub(super) fn vacate<L, E, W>(
        &mut self,
        waiters: &mut Waiters<L, E, W>,
        id: WaiterId,
        place: Place,
    ) {
        if place.link.is_linked() {
            self.arrival.unlink(waiters, id, place.link, Waiter::in_returns);
        } else if let (Some(at), Some(random)) = (place.random_at, &mut self.random) {
            random.0.swap_remove(at);
            if let Some(&moved) = random.0.get(at) {
                waiters[moved].set_random_place(at);
            }
        }
    }

    /// All of them.
    pub(super) fn ids<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
    ) -> impl Iterator<Item = WaiterId> {
        let random = self.random.iter().flat_map(|random| random.0.iter().copied());
        self.arrival.chain().ids(waiters, |waiter| &waiter.in_returns).chain(random)
    }

    /// The waiter that the next connection serves. In random order each call draws again.
    pub(super) fn next<L, E, W>(
        &self,
        waiters: &Waiters<L, E, W>,
        rng: &mut fastrand::Rng,
    ) -> Option<WaiterId> {
        self.arrival.front(waiters).or_else(|| {
            let random = &self.random.as_ref()?.0;
            (!random.is_empty()).then(|| random[rng.usize(..random.len())])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Map = Waiters<(), (), ()>;

    fn join(waiters: &mut Map, queue: &mut ReturnQueue, order: WaiterOrder) -> WaiterId {
        let id = waiters.insert(Waiter::new(KeyId::default()));
        queue.join(waiters, id, order);
        id
    }

    #[test]
    fn waiters_are_served_in_the_order_of_arrival() {
        let (mut waiters, mut queue) = (Map::new(), ReturnQueue::default());
        let rng = &mut fastrand::Rng::with_seed(1);
        let ids = [(); 3].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Arrival));
        queue.leave(&mut waiters, ids[0]);
        queue.leave(&mut waiters, ids[0]);
        assert_eq!(queue.next(&waiters, rng), Some(ids[1]));
        assert!(!waiters[ids[0]].waits_for_returns() && waiters[ids[1]].waits_for_returns());
        queue.leave(&mut waiters, ids[1]);
        queue.leave(&mut waiters, ids[2]);
        assert!(queue.is_empty() && queue.next(&waiters, rng).is_none());
    }

    #[test]
    fn waiter_whose_dial_failed_comes_before_those_that_came_later() {
        let (mut waiters, mut queue) = (Map::new(), ReturnQueue::default());
        let ids = [(); 3].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Arrival));
        for (ticket, id) in (1..).zip(&ids[..2]) {
            waiters[*id].tie_to(ConnectionId::default(), ticket);
        }
        queue.leave(&mut waiters, ids[0]);
        queue.rejoin(&mut waiters, ids[0], WaiterOrder::Arrival);
        assert_eq!(queue.next(&waiters, &mut fastrand::Rng::with_seed(1)), Some(ids[0]));
    }

    #[test]
    fn random_order_serves_every_waiter_once() {
        let (mut waiters, mut queue) = (Map::new(), ReturnQueue::default());
        let rng = &mut fastrand::Rng::with_seed(1);
        let ids = [(); 20].map(|()| join(&mut waiters, &mut queue, WaiterOrder::Random));
        let mut served = Vec::new();
        while let Some(next) = queue.next(&waiters, rng) {
            queue.leave(&mut waiters, next);
            served.push(next);
        }
        assert_ne!(served, ids);
        served.sort_unstable();
        assert_eq!(served, ids);
    }
}
