//! What the state remembers of each connection.
//!
//! With many connections idle, each lease finds its own outside the processor's cache, and what it
//! costs is how many lines of memory it brings in. So a connection takes two lines: what a lease changes
//! is in the first, and what few connections have is elsewhere.

use super::{ConnectionId, KeyId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::Link;
use crate::event::CloseCause;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialing,
    Live,
    /// Shared, retired, waiting for its leases to end; its place in the limits is given up.
    Draining,
    Closing,
}

/// On whose behalf a dial runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialFor {
    /// The caller, in its own task.
    Caller,
    /// One waiter; `None` when it was served otherwise, or left.
    Waiter(Option<WaiterId>),
    /// No caller any more: the dial is being stopped.
    NoCaller,
    /// All waiters of the key.
    Key,
    /// Any waiter, one dial after another.
    Opener,
    /// The floor.
    Floor,
    /// To find out whether the peer is back.
    Probe,
}

pub(super) type Connections<L> = SlotMap<ConnectionId, Connection<L>>;

/// With what the map keeps of it, two lines where a lease's handle has at most 16 bytes.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection<L> {
    pub(super) expires_at: Timestamp,
    pub(super) idle_since: Timestamp,
    pub(super) key: KeyId,
    pub(super) leased: u32,
    pub(super) phase: Phase,
    /// Set when it takes no new leases.
    pub(super) retired: Option<CloseCause>,
    pub(super) lent_before: bool,
    /// Whether it is in its key's `room`.
    pub(super) in_room: bool,
    /// In its key's `idle` while live, in `tied`, `orphans` or `hanging` while dialing.
    pub(super) in_key: Link<ConnectionId>,
    /// Exclusive: empty while leased. Shared: the pool's own handle.
    pub(super) handle: Option<L>,
    /// How long it may be idle, in nanoseconds: `idle_timeout`, or less when the connection said so.
    pub(super) idle_limit: u64,
    pub(super) capacity: u32,
    /// What the peer allows; `capacity` is that, or less where the policy caps it.
    pub(super) peer_capacity: u32,
    /// Whether closing gives up a place in the limits, or only ends a drain.
    pub(super) drained: bool,
    /// Whether it counts in its key's `useless`.
    pub(super) useless: bool,
    pub(super) opened_at: Timestamp,
    pub(super) serial: u64,
    /// How often all connections had been retired when its dial began.
    pub(super) generation: u64,
    /// In `all_idle` while live, in `all_hanging` while dialing.
    pub(super) in_all: Link<ConnectionId>,
    extras: Option<Box<Extras>>,
}

/// Fields of connections that are being dialed, or that a rarer rule of the policy looks at.
#[derive(Debug)]
struct Extras {
    /// While it is dialing.
    dial_for: DialFor,
    /// While dialing: it takes longer than a dial usually does.
    overdue: bool,
    /// In its key's `young`, while dialing.
    in_young: Link<ConnectionId>,
    /// The capacity it announced before its dial was reported.
    told_capacity: Option<u32>,
    /// How long it says that it may be idle, in nanoseconds.
    own_limit: u64,
    /// When its valid entry in `idle_limits` is due; `NEVER` when there is no such entry.
    limit_watched: Timestamp,
    /// How often it was lent; counted where `max_uses` is set.
    uses: u32,
    /// Its place in its key's `random`.
    random_at: u32,
}

/// In place of an index, in a connection that is not among those to be drawn from.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Of a connection that has no extras.
const IN_NO_LIST: &Link<ConnectionId> = &Link::new();

impl Extras {
    fn new(dial_for: DialFor) -> Self {
        Self {
            dial_for,
            overdue: false,
            in_young: Link::default(),
            told_capacity: None,
            own_limit: u64::MAX,
            limit_watched: Timestamp::NEVER,
            uses: 0,
            random_at: NOWHERE,
        }
    }

    fn are_of_the_dial_only(&self) -> bool {
        self.own_limit == u64::MAX
            && self.limit_watched == Timestamp::NEVER
            && self.uses == 0
            && self.random_at == NOWHERE
    }
}

impl<L> Connection<L> {
    /// A dial that starts now.
    pub(super) fn dialing(key: KeyId, dial_for: DialFor, now: Timestamp) -> Self {
        Self {
            key,
            phase: Phase::Dialing,
            handle: None,
            leased: 0,
            capacity: 1,
            peer_capacity: 1,
            lent_before: false,
            retired: None,
            drained: false,
            useless: false,
            idle_since: now,
            opened_at: now,
            expires_at: Timestamp::NEVER,
            serial: 0,
            in_room: false,
            generation: 0,
            in_key: Link::default(),
            in_all: Link::default(),
            idle_limit: u64::MAX,
            extras: Some(Box::new(Extras::new(dial_for))),
        }
    }

    /// The dial has ended well. Returns the capacity that was announced before.
    pub(super) fn leave_dial(&mut self) -> Option<u32> {
        self.phase = Phase::Live;
        let told_capacity = self.extras.as_ref()?.told_capacity;
        self.extras.take_if(|extras| extras.are_of_the_dial_only());
        told_capacity
    }

    pub(super) fn has_room(&self) -> bool {
        self.phase == Phase::Live && self.retired.is_none() && self.leased < self.capacity
    }

    pub(super) fn in_key(&mut self) -> &mut Link<ConnectionId> {
        &mut self.in_key
    }

    pub(super) fn in_all(&mut self) -> &mut Link<ConnectionId> {
        &mut self.in_all
    }

    #[cold]
    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_with(|| Box::new(Extras::new(DialFor::NoCaller)))
    }

    /// Of a dial in progress; of any other connection it means nothing.
    pub(super) fn dial_for(&self) -> DialFor {
        self.extras.as_ref().map_or(DialFor::NoCaller, |extras| extras.dial_for)
    }

    pub(super) fn set_dial_for(&mut self, dial_for: DialFor) {
        self.extras().dial_for = dial_for;
    }

    /// Whether a dial in progress takes longer than a dial usually does.
    pub(super) fn is_overdue(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.overdue)
    }

    pub(super) fn set_overdue(&mut self) {
        self.extras().overdue = true;
    }

    pub(super) fn in_young(&mut self) -> &mut Link<ConnectionId> {
        &mut self.extras().in_young
    }

    /// As `in_young`, to look at.
    pub(super) fn place_in_young(&self) -> &Link<ConnectionId> {
        self.extras.as_ref().map_or(IN_NO_LIST, |extras| &extras.in_young)
    }

    /// It announced its capacity before its dial was reported.
    pub(super) fn tell_capacity(&mut self, capacity: u32) {
        self.extras().told_capacity = Some(capacity);
    }

    /// How long it says that it may be idle, in nanoseconds; `u64::MAX` when it says nothing.
    pub(super) fn own_limit(&self) -> u64 {
        self.extras.as_ref().map_or(u64::MAX, |extras| extras.own_limit)
    }

    pub(super) fn set_own_limit(&mut self, limit: u64) {
        if limit != self.own_limit() {
            self.extras().own_limit = limit;
        }
    }

    /// When its valid entry in `idle_limits` is due; `NEVER` when there is no such entry.
    pub(super) fn limit_watched(&self) -> Timestamp {
        self.extras.as_ref().map_or(Timestamp::NEVER, |extras| extras.limit_watched)
    }

    pub(super) fn set_limit_watched(&mut self, at: Timestamp) {
        self.extras().limit_watched = at;
    }

    /// It was lent once more. Returns how often it was.
    pub(super) fn count_use(&mut self) -> u32 {
        let uses = &mut self.extras().uses;
        *uses = uses.saturating_add(1);
        *uses
    }

    /// Its place in its key's `random`, or `NOWHERE`.
    pub(super) fn random_at(&self) -> u32 {
        self.extras.as_ref().map_or(NOWHERE, |extras| extras.random_at)
    }

    /// Returns the place before.
    pub(super) fn set_random_at(&mut self, place: u32) -> u32 {
        if place == self.random_at() {
            return place;
        }
        std::mem::replace(&mut self.extras().random_at, place)
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::collections::slot_map::{HEAD, LINE, slot_size};
    use crate::lending::Exclusive;

    /// As large as what the pool keeps of a connection, whatever the size of that.
    type Lending = Exclusive<Box<u64>>;

    #[test]
    fn what_leases_change_of_a_connection_is_one_line() {
        // An exclusive connection has a capacity of one, which nothing looks at.
        assert!(HEAD + offset_of!(Connection<Lending>, idle_limit) + size_of::<u64>() <= LINE);
    }

    /// With many connections idle, each lease brings its own into the processor's cache.
    #[test]
    fn a_connection_is_two_lines() {
        assert_eq!(slot_size::<Connection<Lending>>(), 2 * LINE);
        // A handle as wide as a reference to a trait object.
        assert_eq!(slot_size::<Connection<Exclusive<Box<dyn Send>>>>(), 2 * LINE);
    }
}
