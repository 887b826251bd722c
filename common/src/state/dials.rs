//! The dials in progress: for whom each of them runs, which have lost their waiter, and which take too long.
//!
//! [`KeyDials`] holds the dials of one key, [`PoolDials`] what is counted over all keys. They know nothing
//! of limits, pauses and waiters; [`dialing`](super::dialing) decides with them when a dial starts.
//!
//! # The lists
//!
//! A dial for a waiter is in one of three lists of its key:
//!
//! - `tied`: it belongs to a waiter;
//! - `orphans`: its waiter was served otherwise or left, and another waiter may adopt it;
//! - `hanging`: as `orphans`, but overdue, so that no waiter adopts it.
//!
//! # Overdue dials
//!
//! After a lost SYN, in a handshake without an answer, or with a peer that was down for a moment, a dial may
//! hang for all of `dial_timeout` while another one would take a millisecond. So with `dial_hedge` a dial
//! becomes *overdue* when it has taken longer than the key's [`Patience`]. The list `young` has the dials
//! that are not overdue, oldest first.

use super::connection::{Connection, Connections, DialFor};
use super::dial_pace::Patience;
use super::{ConnectionId, WaiterId};
use crate::clock::Timestamp;
use crate::collections::list::List;
use crate::policy::{Dial, Policy};

/// The dials in progress for one key.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct KeyDials {
    in_progress: u32,
    orphans: List<ConnectionId>,
    /// About in the order of their start.
    tied: List<ConnectionId>,
    /// In the order in which they became overdue without a waiter, or lost theirs.
    hanging: List<ConnectionId>,
    /// Empty without `dial_hedge`.
    young: List<ConnectionId>,
    /// How many overdue dials have a waiter.
    held_up: u32,
    /// With `dial=shared`: how many overdue dials run in the tasks of callers.
    overdue_callers: u32,
    /// How many run for the floor.
    refilling: u32,
    /// Whether a probe is in progress: there is one at a time.
    probing: bool,
    /// How many are being stopped.
    stopping: u32,
    /// How many dials may be stopped: one for each that opened a connection for a waiter.
    stops_left: u32,
    pub(super) patience: Patience,
}

/// The dials in progress for all keys.
#[derive(Debug, Default)]
pub(super) struct PoolDials {
    /// The `hanging` dials of all keys that may make way for other keys, in the order in which they joined.
    /// A dial that its waiters need is set aside, until they may not need it any more.
    hanging: List<ConnectionId>,
    /// How many run for floors.
    refilling: u32,
    /// How many are being stopped.
    stopping: u32,
    /// Whether the opener's dial is in progress and not overdue: it dials one at a time.
    opener_busy: bool,
    /// The serial number of the last dial.
    serial: u64,
}

/// What a dial that became overdue changes for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BecameOverdue {
    /// The opener can dial for waiters of any key again.
    pub(super) opener_is_free: bool,
}

/// Whether the dials that hang leave room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hanging {
    /// Another dial may start.
    Few,
    /// The next dial has to wait until one has been stopped, and one is being stopped already.
    BeingStopped,
    /// This dial has to be stopped before the next one starts.
    Stop(ConnectionId),
}

impl PoolDials {
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The serial number of the last dial that has started.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn hanging(&self) -> &List<ConnectionId> {
        &self.hanging
    }

    /// A dial that hangs may not make way for another key: its own waiters have no other hope.
    pub(super) fn set_aside<L>(&mut self, connections: &mut Connections<L>, dial: ConnectionId) {
        self.hanging.remove(connections, dial, Connection::in_all);
    }

    pub(super) fn refilling(&self) -> u32 {
        self.refilling
    }

    pub(super) fn stopping(&self) -> u32 {
        self.stopping
    }

    pub(super) fn is_opener_busy(&self) -> bool {
        self.opener_busy
    }
}

impl KeyDials {
    #[inline]
    pub(super) fn in_progress(&self) -> u32 {
        self.in_progress
    }

    /// Whether there is a dial that a waiter may adopt.
    #[inline]
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    pub(super) fn orphans(&self) -> &List<ConnectionId> {
        &self.orphans
    }

    pub(super) fn tied(&self) -> &List<ConnectionId> {
        &self.tied
    }

    pub(super) fn hanging(&self) -> &List<ConnectionId> {
        &self.hanging
    }

    pub(super) fn young(&self) -> &List<ConnectionId> {
        &self.young
    }

    /// How many overdue dials have a waiter.
    pub(super) fn held_up(&self) -> u32 {
        self.held_up
    }

    /// How many overdue dials run in the tasks of callers.
    pub(super) fn overdue_callers(&self) -> u32 {
        self.overdue_callers
    }

    /// How many dials are overdue, with a waiter or without.
    pub(super) fn overdue(&self) -> u32 {
        self.hanging.len() + self.held_up + self.overdue_callers
    }

    pub(super) fn refilling(&self) -> u32 {
        self.refilling
    }

    /// Whether a probe is in progress.
    pub(super) fn is_probing(&self) -> bool {
        self.probing
    }

    pub(super) fn stopping(&self) -> u32 {
        self.stopping
    }

    /// A dial has started. Returns whether it can become overdue.
    pub(super) fn start<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
        policy: &Policy,
    ) -> bool {
        self.in_progress += 1;
        let dial_for = connections[id].dial_for();
        match dial_for {
            DialFor::Waiter(Some(_)) => self.tied.push_back(connections, id, Connection::in_key),
            DialFor::Waiter(None) => self.orphans.push_back(connections, id, Connection::in_key),
            DialFor::Floor => {
                self.refilling += 1;
                pool.refilling += 1;
            }
            DialFor::Opener => pool.opener_busy = true,
            DialFor::Probe => self.probing = true,
            DialFor::Caller | DialFor::Key | DialFor::NoCaller => {}
        }
        let is_watched = match dial_for {
            DialFor::Waiter(_) | DialFor::Key | DialFor::Opener => true,
            // In place of one for all waiters, when that was lost with its runtime.
            DialFor::Caller => policy.dial == Dial::Shared,
            DialFor::NoCaller | DialFor::Floor | DialFor::Probe => false,
        };
        if !is_watched || policy.dial_hedge.is_none() {
            return false;
        }
        self.young.push_back(connections, id, Connection::in_young);
        true
    }

    /// A dial has ended, well or not. Returns for whom it ran.
    pub(super) fn end<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
    ) -> DialFor {
        self.in_progress -= 1;
        self.leave_young(connections, id);
        let (dial_for, is_overdue) = (connections[id].dial_for(), connections[id].is_overdue());
        match dial_for {
            DialFor::Waiter(None) => self.leave_ownerless(pool, connections, id),
            DialFor::Waiter(Some(_)) => {
                self.held_up -= u32::from(is_overdue);
                self.tied.remove(connections, id, Connection::in_key);
            }
            DialFor::Floor => {
                self.refilling -= 1;
                pool.refilling -= 1;
            }
            DialFor::Opener => pool.opener_busy = false,
            DialFor::NoCaller => {
                self.stopping -= 1;
                pool.stopping -= 1;
            }
            DialFor::Caller => self.overdue_callers -= u32::from(is_overdue),
            DialFor::Probe => self.probing = false,
            DialFor::Key => {}
        }
        dial_for
    }

    /// The waiter of a dial was served otherwise, or left.
    pub(super) fn orphan<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
    ) {
        connections[id].set_dial_for(DialFor::Waiter(None));
        self.tied.remove(connections, id, Connection::in_key);
        self.held_up -= u32::from(connections[id].is_overdue());
        self.join_ownerless(pool, connections, id);
    }

    /// A waiter adopts a dial that lost its own.
    pub(super) fn adopt<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        waiter: WaiterId,
    ) {
        self.orphans.remove(connections, id, Connection::in_key);
        self.tied.push_front(connections, id, Connection::in_key);
        connections[id].set_dial_for(DialFor::Waiter(Some(waiter)));
    }

    /// A dial without a waiter is being stopped. It may end well before that.
    pub(super) fn stop<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
    ) {
        self.leave_ownerless(pool, connections, id);
        self.leave_young(connections, id);
        connections[id].set_dial_for(DialFor::NoCaller);
        self.stopping += 1;
        pool.stopping += 1;
    }

    fn join_ownerless<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
    ) {
        if connections[id].is_overdue() {
            self.hanging.push_back(connections, id, Connection::in_key);
            pool.hanging.push_back(connections, id, Connection::in_all);
        } else {
            self.orphans.push_back(connections, id, Connection::in_key);
        }
    }

    fn leave_ownerless<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        id: ConnectionId,
    ) {
        if connections[id].is_overdue() {
            self.hanging.remove(connections, id, Connection::in_key);
            if connections[id].in_all.is_linked() {
                pool.hanging.remove(connections, id, Connection::in_all);
            }
        } else {
            self.orphans.remove(connections, id, Connection::in_key);
        }
    }

    /// The waiters of the key may not need its dials any more. A dial that was set aside was the only one, so
    /// it is the first of those that hang.
    pub(super) fn end_set_aside<L>(&self, pool: &mut PoolDials, connections: &mut Connections<L>) {
        if let Some(dial) = self.hanging.front(connections)
            && !connections[dial].in_all.is_linked()
        {
            pool.hanging.push_back(connections, dial, Connection::in_all);
        }
    }

    fn leave_young<L>(&mut self, connections: &mut Connections<L>, id: ConnectionId) {
        if connections[id].place_in_young().is_linked() {
            self.young.remove(connections, id, Connection::in_young);
        }
    }

    /// A dial opened a connection that serves a waiter, so that another dial may be stopped.
    ///
    /// No more dials are stopped than connections were opened for waiters. A pool at the edge of its
    /// demand, where every other caller just misses a connection, would otherwise dial and stop
    /// forever and never grow.
    pub(super) fn earn_stop(&mut self) {
        self.stops_left = self.stops_left.saturating_add(1);
    }

    /// Whether a dial that serves no waiter may be stopped. It is counted.
    pub(super) fn spend_stop(&mut self) -> bool {
        let may_stop = self.stops_left > 0;
        self.stops_left -= u32::from(may_stop);
        may_stop
    }

    /// When the next dial will be overdue.
    pub(super) fn next_overdue<L>(
        &self,
        connections: &Connections<L>,
        policy: &Policy,
    ) -> Timestamp {
        match (self.young.front(connections), self.patience.limit(policy)) {
            (Some(id), Some(patience)) => connections[id].opened_at.after(patience),
            _ => Timestamp::NEVER,
        }
    }

    /// Dials that have taken too long become overdue.
    pub(super) fn mark_overdue<L>(
        &mut self,
        pool: &mut PoolDials,
        connections: &mut Connections<L>,
        policy: &Policy,
        now: Timestamp,
    ) -> BecameOverdue {
        let mut changes = BecameOverdue::default();
        let Some(patience) = self.patience.limit(policy) else { return changes };
        let mut last_started = None;
        while let Some(id) = self.young.front(connections)
            && connections[id].opened_at.after(patience) <= now
        {
            last_started = last_started.max(Some(connections[id].opened_at));
            self.leave_young(connections, id);
            let dial_for = connections[id].dial_for();
            if dial_for == DialFor::Waiter(None) {
                self.orphans.remove(connections, id, Connection::in_key);
            }
            connections[id].set_overdue();
            match dial_for {
                DialFor::Waiter(Some(_)) => self.held_up += 1,
                DialFor::Waiter(None) => self.join_ownerless(pool, connections, id),
                // From here on another one may start; this one serves any waiter when it ends.
                DialFor::Key | DialFor::Opener => {
                    if dial_for == DialFor::Opener {
                        pool.opener_busy = false;
                        changes.opener_is_free = true;
                    }
                    connections[id].set_dial_for(DialFor::Waiter(None));
                    self.join_ownerless(pool, connections, id);
                }
                // From here on another one may start for the waiters.
                DialFor::Caller => self.overdue_callers += 1,
                DialFor::NoCaller | DialFor::Floor | DialFor::Probe => {}
            }
        }
        if let Some(last_started) = last_started {
            // Several that became overdue together were one try.
            self.patience.note_overdue(last_started, now);
        }
        changes
    }

    /// A dial of this key has failed or was lost. If it may have been a hedge, and no pause of the policy
    /// follows, the next hedge starts when this one would have been overdue, and each after that twice as
    /// late. Without this, hedges that a peer refuses at once would follow each other without a pause.
    ///
    /// Returns when the next hedge may start, if it is put off.
    pub(super) fn put_off_hedge(
        &mut self,
        dial_for: DialFor,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let may_be_hedge = matches!(dial_for, DialFor::Waiter(None) | DialFor::Key);
        if !may_be_hedge || self.held_up == 0 {
            return None;
        }
        self.patience.put_off_hedge(policy, now)
    }

    /// How many more hedges may start for a key with `live` connections: as many at a time as
    /// connections prove that the peer takes them, but always one. Young dials of other waiters are
    /// no hedges.
    pub(super) fn hedges_lacking(&self, live: u32, policy: &Policy) -> u32 {
        let hedges =
            if policy.dial == Dial::Shared { self.young.len() } else { self.orphans.len() };
        self.held_up.min(live.max(1)).saturating_sub(hedges)
    }

    /// Whether another dial would be a third for each of `waiting` waiters. Then a dial that hangs has to
    /// be stopped, and its end makes room.
    pub(super) fn hangs<L>(&self, connections: &Connections<L>, waiting: u32) -> Hanging {
        if self.hanging.is_empty() || self.in_progress < waiting.max(1).saturating_mul(2) {
            Hanging::Few
        } else if self.stopping > 0 {
            Hanging::BeingStopped
        } else {
            // Not the oldest: it has waited longest already, and its failure says most.
            Hanging::Stop(self.hanging.back(connections).expect("it is not empty"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::state::ids::KeyId;

    const HEDGE: Duration = Duration::from_millis(100);
    const START: Timestamp = Timestamp::from_nanos(1);

    /// The dials of one key, with the rest that they need.
    struct Setup {
        key: KeyDials,
        pool: PoolDials,
        connections: Connections<()>,
        policy: Policy,
    }

    /// A dial that belongs to some waiter.
    fn owned() -> DialFor {
        DialFor::Waiter(Some(WaiterId::default()))
    }

    impl Setup {
        fn new() -> Self {
            let policy =
                Policy { dial_hedge: Some(HEDGE), dial_timeout: 3 * HEDGE, ..Policy::default() };
            let connections = Connections::new();
            Self { key: KeyDials::default(), pool: PoolDials::default(), connections, policy }
        }

        fn start(&mut self, dial_for: DialFor) -> ConnectionId {
            let dial = Connection::dialing(KeyId::default(), dial_for, START);
            let id = self.connections.insert(dial);
            self.key.start(&mut self.pool, &mut self.connections, id, &self.policy);
            id
        }

        fn mark_overdue(&mut self, after: Duration) -> BecameOverdue {
            let Self { key, pool, connections, policy } = self;
            key.mark_overdue(pool, connections, policy, START.after(after))
        }

        fn end(&mut self, id: ConnectionId) -> DialFor {
            self.key.end(&mut self.pool, &mut self.connections, id)
        }
    }

    #[test]
    fn dial_that_lost_its_waiter_can_be_adopted_until_it_is_overdue() {
        let mut dials = Setup::new();
        let id = dials.start(owned());
        dials.key.orphan(&mut dials.pool, &mut dials.connections, id);
        assert!(dials.key.has_orphans());
        dials.mark_overdue(HEDGE);
        assert!(!dials.key.has_orphans());
        assert_eq!((dials.key.hanging().len(), dials.pool.hanging().len()), (1, 1));
        assert_eq!(dials.end(id), DialFor::Waiter(None));
        assert_eq!((dials.key.hanging().len(), dials.pool.hanging().len()), (0, 0));
    }

    #[test]
    fn overdue_dial_of_a_waiter_holds_it_up_until_the_waiter_leaves() {
        let mut dials = Setup::new();
        let id = dials.start(owned());
        dials.mark_overdue(HEDGE);
        assert_eq!((dials.key.held_up(), dials.key.hedges_lacking(0, &dials.policy)), (1, 1));
        dials.key.orphan(&mut dials.pool, &mut dials.connections, id);
        assert_eq!((dials.key.held_up(), dials.key.overdue()), (0, 1));
    }

    #[test]
    fn overdue_dial_of_the_opener_frees_it() {
        let mut dials = Setup::new();
        let id = dials.start(DialFor::Opener);
        assert!(dials.pool.is_opener_busy());
        assert!(dials.mark_overdue(HEDGE).opener_is_free);
        assert!(!dials.pool.is_opener_busy());
        assert_eq!(dials.end(id), DialFor::Waiter(None));
    }

    #[test]
    fn dials_that_became_overdue_together_were_one_failure() {
        let mut dials = Setup::new();
        let (first, second) = (dials.start(owned()), dials.start(owned()));
        dials.mark_overdue(HEDGE);
        assert_eq!(dials.key.patience.limit(&dials.policy), Some(2 * HEDGE));
        dials.key.put_off_hedge(DialFor::Waiter(None), &dials.policy, START);
        assert_eq!(dials.key.patience.limit(&dials.policy), Some(3 * HEDGE), "the dial timeout");
        dials.end(first);
        dials.end(second);
        assert_eq!(dials.key.held_up(), 0);
    }

    #[test]
    fn third_dial_for_a_waiter_stops_the_youngest_that_hangs() {
        let mut dials = Setup::new();
        let ids = [(); 2].map(|()| dials.start(DialFor::Waiter(None)));
        assert_eq!(dials.key.hangs(&dials.connections, 1), Hanging::Few);
        dials.mark_overdue(HEDGE);
        assert_eq!(dials.key.hangs(&dials.connections, 2), Hanging::Few);
        assert_eq!(dials.key.hangs(&dials.connections, 1), Hanging::Stop(ids[1]));
        dials.key.stop(&mut dials.pool, &mut dials.connections, ids[1]);
        assert_eq!(dials.key.hangs(&dials.connections, 1), Hanging::BeingStopped);
        assert_eq!(dials.pool.stopping(), 1);
        assert_eq!(dials.end(ids[1]), DialFor::NoCaller);
        assert_eq!((dials.key.stopping(), dials.pool.stopping()), (0, 0));
    }

    #[test]
    fn one_dial_may_be_stopped_for_each_that_opened_a_connection() {
        let mut dials = KeyDials::default();
        assert!(!dials.spend_stop());
        dials.earn_stop();
        assert!(dials.spend_stop());
        assert!(!dials.spend_stop());
    }
}
