//! Who dials, for whom, and what becomes of the result.

use std::hash::Hash;

use super::acquire::Obstacle;
use super::connection::{DialFor, Phase};
use super::{Action, Connection, ConnectionId, Grant, KeyId, Lent, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{Dial, DialForWaiters, OrphanDial, WaiterOrder};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Takes a place in the limits; asks the shell to dial unless the caller does.
    pub(super) fn start_dial(
        &mut self,
        key: KeyId,
        dial_for: DialFor,
        now: Timestamp,
    ) -> ConnectionId {
        debug_assert!(!self.closed, "a closed pool dials nobody");
        // The user's code, which may panic: before anything is counted.
        let name = (dial_for != DialFor::Caller).then(|| self.keys[key].key.clone());
        // A coarse clock may trail the timer that started the last one.
        let now = self.catch_up(now).max(self.keys[key].last_dial_at);
        self.note_dial(key, now);
        self.note_rate(key, now);
        self.serial += 1;
        let mut dial = Connection::dialing(key, dial_for, now);
        dial.serial = self.serial;
        dial.generation = self.generation;
        dial.idle_limit = self.rules.idle_timeout;
        let id = self.connections.insert(dial);
        let entry = &mut self.keys[key];
        match dial_for {
            DialFor::Waiter(Some(_)) => {
                entry.tied.push_back(&mut self.connections, id, Connection::in_key);
            }
            DialFor::Waiter(None) => {
                entry.orphans.push_back(&mut self.connections, id, Connection::in_key);
            }
            _ => {}
        }
        entry.open += 1;
        entry.dialing += 1;
        self.status.open += 1;
        self.status.dialing += 1;
        self.stats.dials += 1;
        self.stats.peak_open = self.stats.peak_open.max(self.status.open);
        self.emit(id, EventKind::Dialing, now);
        self.watch_dial(id, dial_for);
        if let Some(key) = name {
            self.actions.push_back(Action::Dial { id, key });
        }
        id
    }

    /// A waiter without a dial takes over one that lost its waiter.
    pub(super) fn adopt(&mut self, waiter: WaiterId) {
        let key = self.waiters[waiter].key;
        let Some(dial) = self.keys[key].orphans.front(&self.connections) else { return };
        self.adopt_dial(waiter, dial);
    }

    pub(super) fn adopt_dial(&mut self, waiter: WaiterId, dial: ConnectionId) {
        self.give_dial(waiter, dial);
        self.tie(waiter, dial);
    }

    /// A dial succeeded. `capacity` is how many leases the connection serves at a time, before the
    /// policy's cap; exclusive connections serve one.
    ///
    /// Returns the connection when the caller dialed for itself, unless the pool was closed. When
    /// the connection [`is_gone`](State::is_gone) report a failed dial instead: it is never lent.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dialed(
        &mut self,
        id: ConnectionId,
        handle: L,
        capacity: u32,
        now: Timestamp,
    ) -> Option<Lent<L>> {
        if self.is_gone(id) {
            self.dialed_in_vain(id, handle, now);
            return None;
        }
        let dial_for = self.end_dial(id);
        let expires_at = self.lifetime_end(now);
        let cap = self.policy.max_leases_per_connection.unwrap_or(u32::MAX);
        let connection = &mut self.connections[id];
        let capacity = connection.leave_dial().unwrap_or(capacity);
        let took = now.since(connection.opened_at);
        connection.handle = Some(handle);
        connection.peer_capacity = capacity;
        connection.capacity = if L::SHARED { capacity.min(cap) } else { 1 };
        connection.opened_at = now;
        connection.expires_at = expires_at;
        let key = connection.key;
        let retired = connection.retired;
        self.stats.opened += 1;
        self.emit(id, EventKind::Opened(took), now);
        self.watch_lifetime(id, expires_at, now);
        self.count_useless(id);
        let entry = &mut self.keys[key];
        entry.capacity = Some(capacity.into());
        entry.failures = 0;
        entry.paused_until = Timestamp::ZERO;
        entry.last_error = None;
        entry.denied = false;
        self.note_dial_time(key, took);
        if self.rules.floor {
            self.note_floor_hope(key, dial_for, now);
            self.want_floor(key, now);
        }

        if self.closed {
            self.begin_close(id, CloseCause::PoolClosed, now);
            return None;
        }
        let mut lent = None;
        match dial_for {
            DialFor::Caller => lent = Some(self.lend_first(id, now)),
            _ => self.serve_dependents(id, dial_for, now),
        }
        let unclaimed = self.connections[id].leased == 0;
        if let Some(cause) = retired {
            self.connections[id].retired = None;
            self.retire_for(id, cause, now);
        } else if unclaimed
            && matches!(dial_for, DialFor::Waiter(None) | DialFor::Key | DialFor::Opener)
            && self.policy.orphan_dial == OrphanDial::Dropped
            && self.keys[key].returns.is_empty()
        {
            self.begin_close(id, CloseCause::Orphan, now);
        } else {
            self.settle(id, now);
            if self.policy.waiter_order == WaiterOrder::AllAtOnce {
                self.wake_all(key);
            }
        }
        if self.connections[id].leased > 0 {
            self.keys[key].stops_left = self.keys[key].stops_left.saturating_add(1);
        }
        self.room_appeared(key, now);
        lent
    }

    /// Whether a connection has said that it is gone before its dial was reported: then report a
    /// failed dial instead.
    pub fn is_gone(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            connection.phase == Phase::Dialing && connection.retired == Some(CloseCause::Gone)
        })
    }

    /// As `dialed`, of a connection that is gone already: it is closed, and the waiters of its dial go
    /// on waiting.
    #[cold]
    fn dialed_in_vain(&mut self, id: ConnectionId, handle: L, now: Timestamp) {
        let dial_for = self.end_dial(id);
        let connection = &mut self.connections[id];
        let key = connection.key;
        let took = now.since(connection.opened_at);
        connection.leave_dial();
        connection.handle = Some(handle);
        connection.opened_at = now;
        self.stats.opened += 1;
        self.emit(id, EventKind::Opened(took), now);
        self.begin_close(id, CloseCause::Gone, now);
        if let DialFor::Waiter(Some(owner)) = dial_for {
            self.untie(owner, now);
        }
        self.room_appeared(key, now);
    }

    /// Serves the waiters that a finished dial belongs to before all others.
    fn serve_dependents(&mut self, id: ConnectionId, dial_for: DialFor, now: Timestamp) {
        let key = self.connections[id].key;
        let dial_for = self.for_first_in_line(id, dial_for);
        let retired = self.connections[id].retired.is_some();
        if let DialFor::Waiter(Some(owner)) = dial_for {
            if self.connections[id].capacity > 0 || retired {
                let lent = self.lend_first(id, now);
                self.waiters[owner].set_dial(None);
                self.leave_dependents(owner);
                self.grant(owner, Grant::Lend(lent));
            } else {
                self.untie(owner, now);
            }
        } else if retired
            && let Some(waiter) = self.keys[key].returns.next(&self.waiters, &mut self.rng)
        {
            let lent = self.lend_first(id, now);
            self.grant(waiter, Grant::Lend(lent));
        }
        // A detached dial that lost its caller serves the next caller that waits for a dial, whose
        // own dial is then the one without a caller.
        while self.connections[id].has_room()
            && let Some(next) = self.keys[key].dependents.front(&self.waiters)
        {
            let lent = self.lend(id, now);
            self.grant(next, Grant::Lend(lent));
        }
    }

    /// The first lease of a connection, also of one that serves nobody: it may have retired while it
    /// shook hands, or its peer allow no lease. Its borrower finds out, and its retry rule bounds the
    /// attempts.
    fn lend_first(&mut self, id: ConnectionId, now: Timestamp) -> Lent<L> {
        let capacity = self.connections[id].capacity;
        self.connections[id].capacity = capacity.max(1);
        let lent = self.lend(id, now);
        self.connections[id].capacity = capacity;
        lent
    }

    /// Keeps count of live connections that serve nobody.
    pub(super) fn count_useless(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let useless = connection.phase == Phase::Live && connection.capacity == 0;
        if useless != connection.useless {
            connection.useless = useless;
            let count = &mut self.keys[connection.key].useless;
            *count = if useless { *count + 1 } else { *count - 1 };
        }
    }

    /// `grant` takes a waiter without a dial from `undialed`; one whose dial just ended is not there.
    pub(super) fn leave_dependents(&mut self, owner: WaiterId) {
        let key = self.waiters[owner].key;
        if self.waiters[owner].in_dials.is_linked() {
            self.keys[key].dependents.remove(
                &mut self.waiters,
                owner,
                super::keys::Waiter::in_dials,
            );
        }
    }

    /// A dial failed, with `error`; or was given up by its caller or stopped, with `None`, which
    /// does not count as a failure of the peer.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dial_failed(&mut self, id: ConnectionId, error: Option<E>, now: Timestamp) {
        self.end_failed_dial(id, error, false, now);
    }

    /// As [`dial_failed`](State::dial_failed): the peer answered and turned this client away
    /// ([`DialFailure::Denied`](crate::DialFailure)). Nothing is dialed in the background until a dial
    /// for a caller succeeds.
    ///
    /// # Panics
    /// As [`dial_failed`](State::dial_failed).
    pub fn dial_denied(&mut self, id: ConnectionId, error: E, now: Timestamp) {
        self.end_failed_dial(id, Some(error), true, now);
    }

    fn end_failed_dial(
        &mut self,
        id: ConnectionId,
        error: Option<E>,
        denied: bool,
        now: Timestamp,
    ) {
        let now = self.catch_up(now);
        let dial_for = self.end_dial(id);
        self.stats.dials_failed += 1;
        self.emit(id, EventKind::DialFailed, now);
        let dial = self.connections.remove(id).expect("it was dialing just now");
        let key = dial.key;
        self.keys[key].open -= 1;
        self.status.open -= 1;
        self.shrink_allowances(key);
        self.keys[key].denied |= denied;
        match error {
            Some(error) => self.note_failure(&dial, dial_for, error, now),
            // Its caller is gone; a waiter it may have had goes on without a dial.
            None => {
                if let DialFor::Waiter(Some(owner)) = dial_for {
                    self.untie(owner, now);
                }
                // Earlier failures may only have been remembered for the sake of this dial.
                if self.keys[key].failures > 0 {
                    self.set_timer(now.max(self.keys[key].remember_until), key);
                }
            }
        }
        if dial_for == DialFor::Floor {
            self.retry_floor(key, now);
        }
        self.room_appeared(key, now);
    }

    /// Common to the good and the bad end of a dial.
    pub(super) fn end_dial(&mut self, id: ConnectionId) -> DialFor {
        let connection = &mut self.connections[id];
        assert!(connection.phase == Phase::Dialing, "a dial ends once");
        let dial_for = connection.dial_for();
        let (key, started) = (connection.key, connection.opened_at);
        let is_overdue = connection.is_overdue();
        self.leave_young(id);
        self.status.dialing -= 1;
        self.keys[key].dialing -= 1;
        self.forget_dial(key, started);
        match dial_for {
            DialFor::Waiter(None) => {
                if is_overdue {
                    self.leave_hanging(id);
                } else {
                    let entry = &mut self.keys[key];
                    entry.orphans.remove(&mut self.connections, id, Connection::in_key);
                }
            }
            DialFor::Floor => {
                self.keys[key].refilling -= 1;
                self.refilling -= 1;
            }
            DialFor::Opener => self.opener_busy = false,
            DialFor::Waiter(Some(_)) => {
                let entry = &mut self.keys[key];
                entry.held_up -= u32::from(is_overdue);
                entry.tied.remove(&mut self.connections, id, Connection::in_key);
            }
            DialFor::Nobody => {
                self.keys[key].stopping -= 1;
                self.stopping -= 1;
            }
            DialFor::Caller => self.keys[key].overdue_callers -= u32::from(is_overdue),
            DialFor::Key | DialFor::Probe => {}
        }
        dial_for
    }

    /// A place in the limits is free, or a dial ended: dial for those who wait. Keys that the pool's
    /// limit had held back come first, in turn; the floor comes last.
    pub(super) fn room_appeared(&mut self, key: KeyId, now: Timestamp) {
        self.refuse_hopeless(key, None, now);
        if self.starved.is_empty() {
            self.serve_room(key, now);
        } else if !self.keys[key].undialed.is_empty() {
            match self.obstacle(key, now) {
                None | Some(Obstacle::PoolFull | Obstacle::DialsFull) => self.starve(key),
                Some(Obstacle::Ramp) => self.watch_ramp(key),
                // It ends with a timer or a connection of the key; nobody has to make way meanwhile.
                Some(_) => {}
            }
        }
        let mut rounds = self.starved.len();
        while rounds > 0
            && !self.opener_busy
            && !self.pool_is_full()
            && !self.dials_are_full()
            && let Some(starved) = self.starved.pop_front()
        {
            rounds -= 1;
            if self.is_next_in_turn(starved) {
                self.end_starving(starved);
                self.serve_room(starved, now);
                self.forget_if_unused(starved);
            }
        }
        self.relieve_starving(now);
        if self.policy.min_idle > 0 {
            self.refill(key, now);
            self.feed_hungry(now);
        }
        self.forget_if_unused(key);
    }

    /// Refills the floors that the limits over all keys had held back, as long as those allow it.
    fn feed_hungry(&mut self, now: Timestamp) {
        for _ in 0..self.hungry.len() {
            let Some(&hungry) = self.hungry.front() else { break };
            // What denies one key denies all of them, but for those with a reserve.
            if self.remaking == 0 && self.keys.contains(hungry) && self.floors_are_denied(hungry) {
                break;
            }
            self.hungry.pop_front();
            if let Some(entry) = self.keys.get_mut(hungry) {
                entry.hungry = false;
                // The floor comes after those who wait.
                if self.starved.is_empty() {
                    self.serve_room(hungry, now);
                }
                self.refill(hungry, now);
            }
        }
    }

    /// Starts the dials that the waiters of a key are owed and the limits allow.
    pub(super) fn serve_room(&mut self, key: KeyId, now: Timestamp) {
        while self.serve_room_once(key, now) {}
        if self.keys[key].held_up > 0 {
            self.hedge(key, now);
            // A waiter whose dial was stopped to make room has to be in line for that room.
            while self.serve_room_once(key, now) {}
        }
    }

    /// Starts one of them; says whether it did, so that there may be another.
    pub(super) fn serve_room_once(&mut self, key: KeyId, now: Timestamp) -> bool {
        if self.closed || self.keys[key].undialed.is_empty() {
            return false;
        }
        if self.policy.dial == Dial::Racing
            && self.policy.adopt_dials
            && self.keys[key].held_up == 0
            && !self.keys[key].orphans.is_empty()
            && let Some(waiter) = self.keys[key].undialed.front(&self.waiters)
        {
            self.adopt(waiter);
            return true;
        }
        if self.looks_of(key) >= self.keys[key].undialed.len() {
            // The connections in looks serve them.
            return false;
        }
        match self.obstacle(key, now) {
            None => {}
            Some(Obstacle::PoolFull) => {
                self.make_room(key, now);
                return false;
            }
            Some(Obstacle::DialsFull) => {
                self.starve(key);
                return false;
            }
            Some(Obstacle::Ramp) => {
                self.watch_ramp(key);
                return false;
            }
            Some(_) => return false,
        }
        let waiting = self.keys[key].waiting;
        if self.dials_in_background() && self.has_too_many_hanging(key, waiting) {
            return false;
        }
        match (self.policy.dial, self.policy.dial_for_waiters) {
            (Dial::Shared, _) => {
                self.start_dial(key, DialFor::Key, now);
                return false;
            }
            (Dial::Caller, DialForWaiters::Opener) => {
                if self.opener_busy {
                    self.starve(key);
                    return false;
                }
                self.opener_busy = true;
                self.start_dial(key, DialFor::Opener, now);
                return false;
            }
            (Dial::Caller, DialForWaiters::Waiter) => {
                let Some(waiter) = self.keys[key].returns.next(&self.waiters, &mut self.rng) else {
                    return false;
                };
                let dial = self.start_dial(key, DialFor::Caller, now);
                self.grant(waiter, Grant::Dial(dial));
                if self.policy.waiter_order == WaiterOrder::AllAtOnce {
                    self.wake_all(key);
                }
            }
            (Dial::Detached | Dial::Racing, _) | (_, DialForWaiters::Background) => {
                let Some(waiter) = self.first_unserved(key) else { return false };
                let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                self.tie(waiter, dial);
            }
        }
        true
    }
}
