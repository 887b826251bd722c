//! What is remembered of one waiter.

use super::{Answer, ConnectionId, KeyId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::Link;

pub(super) type Waiters<L, E, W> = SlotMap<WaiterId, Waiter<L, E, W>>;

/// With what the map keeps of it, one line.
#[derive(Debug)]
pub(super) struct Waiter<L, E, W> {
    /// What the shell keeps with it.
    pub(super) attached: Option<W>,
    pub(super) key: KeyId,
    /// In the queue for returned connections, by order of arrival.
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
    /// In the queue for returned connections, in random order: where.
    random_at: Option<usize>,
    /// In order of arrival, among those that ever had a dial; zero when it never had one.
    ticket: u64,
    /// The serial number of the last dial that had started when it came and found dials in
    /// progress. How those end is not its affair.
    came_after: u64,
    grant: Option<Answer<L, E>>,
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

    pub(super) fn give(&mut self, grant: Answer<L, E>) {
        self.special().grant = Some(grant);
    }

    pub(super) fn take_grant(&mut self) -> Option<Answer<L, E>> {
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

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::collections::slot_map::{LINE, slot_size};
    use crate::lending::Exclusive;

    #[test]
    fn a_waiter_is_one_line() {
        type Lending = Exclusive<Box<u64>>;
        assert_eq!(slot_size::<Waiter<Lending, (), std::sync::Arc<()>>>(), LINE);
    }
}
