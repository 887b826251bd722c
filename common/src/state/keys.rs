//! What the state remembers of each key and waiter.
//!
//! Threads that take turns at a pool move what they touch from one core to another, a line of 64
//! bytes at a time. An entry starts a line, with eight bytes for the map it is in; its fields are in
//! the order of use: first what a hit, a hand-over or a wait touches.

use super::random_order::RandomOrder;
use super::room::Room;
use super::waiters::ReturnQueue;
use super::{ConnectionId, Grant, KeyId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::list::{Link, List};

/// With what the map keeps of it: one line for what leases and waits change, and the rest.
#[derive(Debug)]
#[repr(C)]
pub(super) struct KeyEntry<K, E> {
    /// Waiters no dial is in progress for, in order of arrival.
    pub(super) undialed: List<WaiterId>,
    /// Waiters without a grant.
    pub(super) waiting: u32,
    /// Waiters that a connection coming back can serve.
    pub(super) returns: ReturnQueue,
    /// Connections without a lease, longest idle first.
    pub(super) idle: List<ConnectionId>,
    /// Places taken in the limits: idle + leased + dialing + closing.
    pub(super) open: u32,
    pub(super) dialing: u32,
    /// How many leases its last shared connection served at a time. The niche of this field is the
    /// largest, so the map sees there whether a place has an entry. It stands in the line of
    /// the key, which each look by hash reads anyway, and it is that wide to have the largest niche.
    pub(super) capacity: Option<u64>,
    /// The earliest of its timers that is pending.
    pub(super) timer_at: Timestamp,
    /// Dials in progress for waiters, that have lost theirs.
    pub(super) orphans: List<ConnectionId>,
    /// When somebody last asked for the key and found nothing idle. Who waits on the short way notes
    /// it only where [`Rules::notes_demand`](super::Rules) says so.
    pub(super) wanted_at: Timestamp,
    /// Whether the floor was given up until somebody asks for the key.
    pub(super) floor_sleeps: bool,
    pub(super) key: K,
    /// Of the key, for the index.
    pub(super) hash: u64,
    /// Shared connections with room.
    pub(super) room: Room,
    pub(super) closing: u32,
    pub(super) draining: u32,
    /// Waiters that depend on a dial of their own (detached dials, or a fresh connection is wanted),
    /// in order of arrival.
    pub(super) dependents: List<WaiterId>,
    /// Dials in progress that each belong to a waiter, about in the order of their start.
    pub(super) tied: List<ConnectionId>,
    /// Dials in progress for waiters that are not overdue, in the order of their start. Empty
    /// without `dial_hedge`, as are the two that follow.
    pub(super) young: List<ConnectionId>,
    /// Overdue dials without a waiter, in the order in which they became that: no waiter takes
    /// one over.
    pub(super) hanging: List<ConnectionId>,
    /// How many overdue dials have a waiter.
    pub(super) held_up: u32,
    /// With `dial=shared`: how many overdue dials run in the tasks of callers.
    pub(super) overdue_callers: u32,
    /// No second dial for a waiter of an overdue one starts before this, since the last one failed.
    pub(super) hedge_after: Timestamp,
    /// Dials that became overdue since one succeeded.
    pub(super) overdue_in_a_row: u32,
    /// How long a dial of this key usually takes, in nanoseconds: a moving average over those
    /// that succeeded. Zero when none has.
    pub(super) usual_dial: u64,
    /// Dials in progress for the floor.
    pub(super) refilling: u32,
    /// Dials in progress that are being stopped.
    pub(super) stopping: u32,
    /// How many dials may be stopped: one for each that opened a connection for a waiter.
    pub(super) stops_left: u32,
    /// When the last dial started.
    pub(super) last_dial_at: Timestamp,
    /// Dials in progress that count as ended for the ramp: those that started by `late_before`.
    pub(super) late: u32,
    pub(super) late_before: Timestamp,
    /// Connections that served and could not be lent again, while there was demand for their
    /// successors: for the ramp they count as if they were still there.
    pub(super) spent: u32,
    /// Open beyond `max_open_per_key` since that was lowered, at most; zero when not above.
    pub(super) allowance: u32,
    /// Live shared connections whose peer allows no lease at all: another would not help.
    pub(super) useless: u32,
    /// Connections of older generations that serve until the floor has been remade; some may have
    /// ended. Empty when it is not being remade.
    pub(super) reserve: Vec<ConnectionId>,
    /// How many in `idle` are of an older generation: all of them in `reserve`.
    pub(super) old_idle: u32,
    /// With a floor that holds once: connections still to be dialed for it.
    pub(super) floor_owed: u32,
    /// With a floor that is kept, the key is never forgotten.
    pub(super) floor_kept: bool,
    /// Refills in a row that came to nothing: the dial failed, or its connection ended at once and
    /// unused. Unlike `failures`, it is not forgotten while the floor waits for room.
    pub(super) floor_failures: u32,
    /// When a dial first succeeded after the last of those failures; `NEVER` if none has.
    pub(super) floor_hope: Timestamp,
    /// When a failed refill is tried again; zero when none failed.
    pub(super) refill_at: Timestamp,
    /// The peer answered the last dial and turned this client away: nothing is dialed in the
    /// background until a dial for a caller succeeds.
    pub(super) denied: bool,
    /// Dials that failed in a row.
    pub(super) failures: u32,
    /// No dial starts before this.
    pub(super) paused_until: Timestamp,
    pub(super) last_error: Option<E>,
    pub(super) remember_until: Timestamp,
    /// Whether it is in the queue of keys whose floor was denied room.
    pub(super) hungry: bool,
    /// Whether it is in the queue of starved keys.
    pub(super) starved: bool,
    /// How many of its entries in that queue do not count any more; those come before the one that
    /// does.
    pub(super) starved_before: u32,
    /// The turn from which on a connection of another key makes way for it.
    pub(super) due_turn: u64,
    /// How many places it lacks; part of [`State::needed`](super::State).
    pub(super) needs: u32,
    /// When the second began in which dials are counted, and how many have started in it. Counted
    /// where `max_dials_per_second` is set; zero when no second runs.
    pub(super) second_since: Timestamp,
    pub(super) dials_in_second: u32,
    /// Connections that became idle before this are distrusted. Those in the idle list were closed at
    /// once; the field is for one in a look, or in a grant that nobody has collected.
    pub(super) distrusted_before: Timestamp,
    /// The connections that can be lent, with `idle_order=random`; empty otherwise.
    pub(super) random: RandomOrder,
}

impl<K, E> KeyEntry<K, E> {
    pub(super) fn new(key: K, hash: u64) -> Self {
        Self {
            key,
            hash,
            open: 0,
            dialing: 0,
            closing: 0,
            draining: 0,
            waiting: 0,
            idle: List::default(),
            room: Room::default(),
            returns: ReturnQueue::default(),
            undialed: List::default(),
            dependents: List::default(),
            tied: List::default(),
            orphans: List::default(),
            young: List::default(),
            hanging: List::default(),
            held_up: 0,
            overdue_callers: 0,
            hedge_after: Timestamp::ZERO,
            overdue_in_a_row: 0,
            usual_dial: 0,
            refilling: 0,
            stopping: 0,
            stops_left: 0,
            last_dial_at: Timestamp::ZERO,
            late: 0,
            late_before: Timestamp::ZERO,
            spent: 0,
            allowance: 0,
            useless: 0,
            reserve: Vec::new(),
            old_idle: 0,
            floor_owed: 0,
            floor_kept: false,
            floor_sleeps: false,
            floor_failures: 0,
            denied: false,
            wanted_at: Timestamp::ZERO,
            timer_at: Timestamp::NEVER,
            floor_hope: Timestamp::NEVER,
            refill_at: Timestamp::ZERO,
            failures: 0,
            paused_until: Timestamp::ZERO,
            last_error: None,
            remember_until: Timestamp::ZERO,
            hungry: false,
            starved: false,
            starved_before: 0,
            due_turn: 0,
            capacity: None,
            needs: 0,
            second_since: Timestamp::ZERO,
            dials_in_second: 0,
            distrusted_before: Timestamp::ZERO,
            random: RandomOrder::default(),
        }
    }

    /// Whether a floor that holds once waits for its next try.
    fn owes_refill(&self) -> bool {
        self.floor_owed > 0 && self.floor_failures > 0 && !self.floor_sleeps && !self.denied
    }

    pub(super) fn is_unused(&self) -> bool {
        self.open == 0
            && self.draining == 0
            && self.waiting == 0
            && self.failures == 0
            && self.dials_in_second == 0
            && !self.floor_kept
            && !self.owes_refill()
    }
}

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
    /// deadline the heap watches, or nobody.
    pub(super) deadline: Timestamp,
    special: Option<Box<Special<L, E>>>,
}

/// What most waiters never have.
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
    /// and no dial ever was in progress on its behalf. One that insisted on a fresh connection, or
    /// whose dial failed or went to another, waits for the same by now, and takes the long way.
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
