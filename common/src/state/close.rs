//! Ways out: one connection, or the whole pool.

use std::hash::Hash;

use super::connection::Phase;
use super::{Action, ConnectionId, Grant, Refusal, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A live connection without leases says goodbye. It keeps its place in the limits until
    /// [`closed`](State::closed).
    pub(super) fn begin_close(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &mut self.connections[id];
        let (key, link) = (connection.key, std::mem::take(&mut connection.in_key));
        if link.is_linked() {
            self.leave_idle(id, key, link);
        }
        self.leave_room(id);
        if self.rules.floor {
            self.note_floor_loss(id, cause, now);
        }
        let connection = &mut self.connections[id];
        debug_assert_eq!(connection.leased, 0);
        connection.phase = Phase::Closing;
        let handle = connection.handle.take();
        self.count_useless(id);
        if !self.connections[id].drained {
            self.keys[key].closing += 1;
            self.status.closing += 1;
        }
        self.stats.closed_by_cause[cause as usize] += 1;
        self.emit(id, EventKind::Closing(cause), now);
        match handle {
            Some(handle) => self.actions.push_back(Action::Close { id, handle, cause }),
            None => self.closed(id, now),
        }
    }

    /// The goodbye of a connection is over; its place in the limits is free.
    ///
    /// # Panics
    /// When `id` is not closing: every [`Action::Close`] is reported once.
    pub fn closed(&mut self, id: ConnectionId, now: Timestamp) {
        self.emit(id, EventKind::Closed, now);
        let connection = self.connections.remove(id).expect("a connection closes once");
        assert_eq!(connection.phase, Phase::Closing, "a connection says goodbye first");
        if self.recording_ages {
            self.ages.push(now.since(connection.opened_at));
        }
        let entry = &mut self.keys[connection.key];
        if connection.drained {
            entry.draining -= 1;
            self.status.draining -= 1;
        } else {
            entry.open -= 1;
            entry.closing -= 1;
            self.status.open -= 1;
            self.status.closing -= 1;
            self.shrink_allowances(connection.key);
        }
        self.room_appeared(connection.key, now);
        self.plan_tidy(now);
    }

    /// A connection asks to get no new leases (GOAWAY), or says that it is gone. Nothing happens
    /// when it has ended already.
    pub fn retire(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.retired.is_some() {
            return;
        }
        match connection.phase {
            // Remembered until the dial ends.
            Phase::Dialing => connection.retired = Some(cause),
            _ => self.retire_for(id, cause, now),
        }
    }

    /// The peer changed how many leases a shared connection serves at a time. Leases beyond a
    /// lowered capacity stay; new ones wait. Nothing happens when the connection has ended or is
    /// exclusive.
    pub fn set_capacity(&mut self, id: ConnectionId, capacity: u32, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Dialing) {
            // It spoke up before its dial was reported; that report may be older.
            connection.tell_capacity(capacity);
        }
        if !L::SHARED || connection.phase != Phase::Live {
            return;
        }
        connection.peer_capacity = capacity;
        let key = connection.key;
        self.keys[key].capacity = Some(capacity.into());
        self.apply_capacity(id, now);
    }

    /// A live shared connection serves as many leases as its peer and the policy's cap allow now.
    pub(super) fn apply_capacity(&mut self, id: ConnectionId, now: Timestamp) {
        let cap = self.policy.max_leases_per_connection.unwrap_or(u32::MAX);
        let connection = &mut self.connections[id];
        connection.capacity = connection.peer_capacity.min(cap);
        self.count_useless(id);
        let connection = &self.connections[id];
        let key = connection.key;
        if !connection.has_room() {
            self.leave_room(id);
        } else if let Some(cause) = self.expired(id, now) {
            self.retire_for(id, cause, now);
        } else {
            self.settle(id, now);
        }
        // Another connection helps again, when this one allowed none.
        self.room_appeared(key, now);
    }

    /// Closes the pool: idle connections now, leased ones when they come back; everybody who waits
    /// is refused, and so is every later acquire. Doing it again changes nothing.
    ///
    /// Dials in progress are the shell's to stop; whatever they still give is closed.
    pub fn close(&mut self, now: Timestamp) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let waiting: Vec<WaiterId> =
            self.waiters.iter().filter(|(_, w)| w.waits()).map(|(id, _)| id).collect();
        for id in waiting {
            self.grant(id, Grant::Refuse(Refusal::Closed));
        }
        let live: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.phase == Phase::Live)
            .map(|(id, _)| id)
            .collect();
        for id in live {
            self.retire(id, CloseCause::PoolClosed, now);
        }
        self.timers.clear();
        self.idle_limits.clear();
        self.tidy_at = Timestamp::NEVER;
    }
}
