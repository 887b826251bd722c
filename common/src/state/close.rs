//! How connections leave: one of them, those that a failed check makes suspect, or the whole pool.

use std::hash::Hash;

use super::connection::Phase;
use super::{Action, ConnectionId, Grant, KeyId, Refusal, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{AfterFailedCheck, Floor};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A live connection without leases begins to close. It keeps its place in the limits until
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
        if connection.useless && !connection.lent_before {
            let caught_up = now.max(self.timed_until);
            let backoff = &mut self.keys[key].backoff;
            let pause_ends = backoff.end_useless(&self.policy, &mut self.rng, caught_up);
            if let Some(at) = pause_ends {
                self.set_timer(at, key);
            }
        }
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

    /// A connection is closed; its place in the limits is free.
    ///
    /// # Panics
    /// When `id` is not closing: every [`Action::Close`] is reported once.
    pub fn closed(&mut self, id: ConnectionId, now: Timestamp) {
        self.emit(id, EventKind::Closed, now);
        let connection = self.connections.remove(id).expect("a connection closes once");
        assert_eq!(connection.phase, Phase::Closing, "a connection begins to close first");
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

    /// Closes the pool: idle connections now, leased ones when they come back; every waiter
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

    /// A check that began at `began` failed or timed out. When a peer has gone silently, every connection
    /// to it is dead and none of them knows. Checked one after another, each would cost its caller a
    /// whole `check_timeout`; so the first failure is taken as evidence against all that were idle
    /// beside it.
    /// Say it before the
    /// [`release`](State::release) of `id`, the connection that was checked, as unfit.
    ///
    /// With [`AfterFailedCheck::Distrust`] the connections of its key that have been idle since
    /// before the check are closed; those that became idle later have worked meanwhile. A connection that is being
    /// looked at, or that a waiter was granted and has not collected, is closed when it comes back. The acquire
    /// then insists on a fresh one: [`Want::fresh`](super::Want::fresh). Else, and when `id` has
    /// ended, nothing happens.
    pub fn distrust(&mut self, id: ConnectionId, began: Timestamp, now: Timestamp) {
        if self.policy.after_failed_check != AfterFailedCheck::Distrust {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let key = connection.key;
        let after = Timestamp::from_nanos(began.as_nanos().saturating_add(1));
        let distrusted_before = &mut self.keys[key].distrusted_before;
        *distrusted_before = after.max(*distrusted_before);
        // On a coarse clock the check may have begun in the tick in which others became idle. Those
        // go too: a needless dial is cheaper than another check that times out.
        while let Some(longest) = self.keys[key].idle.front(&self.connections)
            && self.connections[longest].idle_since <= began
        {
            self.begin_close(longest, CloseCause::Suspect, now);
        }
    }

    /// Begins a new generation: leased connections are closed when they come back, one being dialed
    /// serves the caller it was dialed for, once, and idle ones are closed; where a floor is kept,
    /// up to `min_idle` of each key only when their successors are connected.
    pub fn retire_all(&mut self, now: Timestamp) {
        if self.closed || self.policy.min_idle == 0 || self.policy.floor == Floor::Once {
            return self.retire_all_now(now);
        }
        self.generation += 1;
        let keys: Vec<KeyId> = self.keys.ids().collect();
        // The surplus first: what it gives up need not be taken from the reserve.
        let mut retired: Vec<ConnectionId> =
            keys.iter().flat_map(|key| self.hold_back_reserve(*key)).collect();
        let is_idle = |id: &ConnectionId| {
            let connection = &self.connections[*id];
            connection.phase == Phase::Live && (connection.leased == 0 || self.is_looked_at(*id))
        };
        retired.extend(self.connections.ids().filter(|id| !is_idle(id)));
        for id in retired {
            self.retire(id, CloseCause::Retired, now);
        }
        for key in keys {
            // The floor comes after the waiters.
            if self.starved.is_empty() && self.keys.contains(key) {
                self.serve_room(key, now);
            }
            self.refill(key, now);
        }
    }

    /// Begins a new generation, and lends no connection of an older one again: idle ones are closed
    /// now, leased ones when they come back; one being dialed serves the caller it was dialed for,
    /// once.
    pub fn retire_all_now(&mut self, now: Timestamp) {
        self.generation += 1;
        if std::mem::take(&mut self.remaking) > 0 {
            for entry in self.keys.values_mut() {
                entry.reserve.clear();
                entry.old_idle = 0;
            }
        }
        let all: Vec<ConnectionId> = self.connections.ids().collect();
        for id in all {
            self.retire(id, CloseCause::Retired, now);
        }
    }

    /// Chooses which idle connections of a key stay in service, those in a look included. Returns the
    /// others.
    pub(super) fn hold_back_reserve(&mut self, key: KeyId) -> Vec<ConnectionId> {
        let mut idle = self.idle_of(key);
        idle.extend(self.in_look(key).filter(|id| self.connections[*id].retired.is_none()));
        // Of a reserve that had not been replaced yet, the oldest generation goes first.
        idle.sort_by_key(|id| {
            let connection = &self.connections[*id];
            (connection.generation, connection.idle_since)
        });
        let floor = usize::try_from(self.policy.min_idle).unwrap_or(usize::MAX);
        let reserve = idle.split_off(idle.len().saturating_sub(floor));
        let surplus = idle;
        let entry = &mut self.keys[key];
        let was_remade = !entry.reserve.is_empty();
        entry.old_idle = entry.idle.len();
        entry.reserve = reserve;
        self.remaking =
            self.remaking - u32::from(was_remade) + u32::from(!self.keys[key].reserve.is_empty());
        surplus
    }

    /// Longest idle first.
    pub(super) fn idle_of(&self, key: KeyId) -> Vec<ConnectionId> {
        self.keys[key].idle.chain().ids(&self.connections, |c| &c.in_key).collect()
    }

    /// A connection takes no new leases, and is closed as soon as none is out. A shared one with
    /// leases gives up its place in the limits, so that a successor can be dialed meanwhile.
    #[cold]
    pub(super) fn retire_for(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &mut self.connections[id];
        connection.retired.get_or_insert(cause);
        let cause = connection.retired.unwrap_or(cause);
        match connection.phase {
            Phase::Dialing | Phase::Closing => {}
            Phase::Draining | Phase::Live if connection.leased == 0 => {
                self.begin_close(id, cause, now);
            }
            Phase::Draining => {}
            Phase::Live => {
                let key = connection.key;
                if L::SHARED {
                    connection.phase = Phase::Draining;
                    connection.drained = true;
                    self.count_useless(id);
                    self.leave_room(id);
                    let entry = &mut self.keys[key];
                    entry.open -= 1;
                    entry.draining += 1;
                    self.status.open -= 1;
                    self.status.leased -= 1;
                    self.status.draining += 1;
                    self.shrink_allowances(key);
                    self.note_spent(key, cause);
                    self.emit(id, EventKind::Retired, now);
                    self.room_appeared(key, now);
                } else if !self.is_looked_at(id) {
                    self.emit(id, EventKind::Retired, now);
                }
            }
        }
    }
}
