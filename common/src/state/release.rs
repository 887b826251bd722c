//! Release: a connection that was in use goes to a waiter, to the idle list, or out.

use std::hash::Hash;

use super::connection::{Connection, Phase};
use super::{Answer, ConnectionId, Fitness, KeyId, Lent, Released, State};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::IdleOverflow;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A lease ends. `handle` is what the lease held; `None` says that an exclusive connection was
    /// lost (a panic), or that the handle of a shared one was dropped already.
    ///
    /// Returns a handle to drop, outside any lock.
    ///
    /// # Panics
    /// When `id` has no lease: every [`Lent`] is released once.
    #[inline]
    pub fn release(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        fitness: Fitness,
        now: Timestamp,
    ) -> Option<L> {
        match self.release_or_hand_over(id, handle, fitness, now, || false) {
            Released::Done(leftover) => leftover,
            Released::HandedOver(..) => unreachable!("that was ruled out"),
        }
    }

    /// As [`release`](State::release), for a shell that can deliver the connection to the next waiter at
    /// once: where that is all there is to do, no [`Action::Wake`](super::Action::Wake) is queued, and
    /// the wait is over. `may_hand_over` is asked just before.
    ///
    /// # Panics
    /// As [`release`](State::release).
    #[inline]
    pub fn release_or_hand_over(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        fitness: Fitness,
        now: Timestamp,
        may_hand_over: impl FnOnce() -> bool,
    ) -> Released<L, W> {
        if fitness != Fitness::Fit {
            return Released::Done(self.release_at_length(id, handle, fitness, now));
        }
        match self.release_plain(id, handle, now, may_hand_over) {
            Ok(released) => released,
            Err(handle) => Released::Done(self.release_at_length(id, handle, fitness, now)),
        }
    }

    /// A lease of a sound connection ends, unless the slow path has to look: then the handle comes back.
    #[inline(always)]
    fn release_plain(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        now: Timestamp,
        may_hand_over: impl FnOnce() -> bool,
    ) -> Result<Released<L, W>, Option<L>> {
        // Where another key is denied room, it may be that key's turn.
        let is_plain = self.is_plain() && (!self.rules.contested || self.starved.is_empty());
        let connection = &mut self.connections[id];
        let key = connection.key;
        let entry = &mut self.keys[key];
        let is_last = connection.leased == 1;
        if !is_plain
            || connection.phase != Phase::Live
            || connection.retired.is_some()
            || now > connection.expires_at
            || connection.idle_limit < self.rules.idle_timeout
            || (!L::SHARED && handle.is_none())
        {
            return Err(handle);
        }
        if entry.queue.wants_returns() {
            return self.hand_over(id, handle, may_hand_over);
        }
        if (L::SHARED && !connection.in_room)
            || (is_last && entry.idle.len() >= self.rules.max_idle_per_key)
            || (self.rules.crowded
                && self.policy.max_idle.is_some_and(|max| self.status.idle >= max))
        {
            return Err(handle);
        }
        connection.leased -= 1;
        let leftover = if L::SHARED {
            handle
        } else {
            connection.handle = handle;
            None
        };
        self.status.leases -= 1;
        if !is_last {
            return Ok(Released::Done(leftover));
        }
        let timer_at = entry.timer_at;
        entry.join_idle(connection, now);
        entry.idle.note_appended(&mut self.connections, id, Connection::in_key);
        self.status.leased -= 1;
        self.count_idle(id, key, timer_at, now);
        Ok(Released::Done(leftover))
    }

    /// The next waiter gets the connection, and its wait is over. The slow path has more to do in random
    /// order, with a dial in progress for that waiter, and where a shared connection has room for more
    /// leases, or for fewer than it serves. It also serves each waiter that ever had such a dial, or
    /// insisted on a new connection.
    #[inline(always)]
    fn hand_over(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        may_hand_over: impl FnOnce() -> bool,
    ) -> Result<Released<L, W>, Option<L>> {
        let connection = &mut self.connections[id];
        let entry = &mut self.keys[connection.key];
        if L::SHARED && connection.leased != connection.capacity {
            return Err(handle);
        }
        let next = match entry.queue.first_to_arrive(&self.waiters) {
            Some(next) if self.waiters[next].is_plain() && may_hand_over() => next,
            _ => return Err(handle),
        };
        let handle = if L::SHARED { L::lend(&mut connection.handle) } else { handle };
        let handle = handle.expect("it has just come back");
        let waiter = entry.queue.remove_first(&mut self.waiters, next);
        self.deadlines.unlink(&mut self.waiters, next, waiter.in_deadlines);
        self.status.waiting -= 1;
        self.counts.leased += 1;
        let lent = Lent { id, handle, reused: true, idle_nanos: 0, was_idle: false };
        Ok(Released::HandedOver(next, lent, waiter.attached))
    }

    #[inline(never)]
    fn release_at_length(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        fitness: Fitness,
        now: Timestamp,
    ) -> Option<L> {
        let connection = &mut self.connections[id];
        let lost = handle.is_none();
        let leftover = if L::SHARED {
            handle
        } else {
            connection.handle = handle;
            None
        };
        let sound = fitness == Fitness::Fit
            && connection.retired.is_none()
            && (L::SHARED || !lost)
            && now <= connection.expires_at;
        let key = connection.key;
        let wanted = self.keys[key].queue.wants_returns();
        // Lost when the look at it panicked.
        let was_look = self.looks.end(id);
        let connection = &mut self.connections[id];
        connection.leased -= 1;
        self.status.leases -= 1;
        let live = matches!(connection.phase, Phase::Live);
        self.status.leased -= u32::from(live && connection.leased == 0);
        if !was_look {
            self.emit(id, EventKind::Returned, now);
        }
        if !sound {
            self.retire_returned(id, fitness, lost, now);
            if was_look {
                self.dial_after_look(key, now);
            }
            return leftover;
        }
        self.keys[key].pace.note_reusable(&mut self.spent_keys);
        if self.above_limits > 0 && self.is_surplus(self.connections[id].key) {
            self.retire_for(id, CloseCause::OverLimit, now);
        } else if self.rules.contested && !self.starved.is_empty() {
            self.settle_contested(id, key, now);
        } else if wanted {
            self.settle(id, now);
        } else {
            self.settle_unwanted(id, key, now);
        }
        leftover
    }

    #[cold]
    fn retire_returned(&mut self, id: ConnectionId, fitness: Fitness, lost: bool, now: Timestamp) {
        let cause = match (fitness, self.connections[id].retired) {
            (Fitness::Unfit(cause), _) => cause,
            // A closed pool has retired all that were leased.
            (Fitness::Fit, Some(cause)) => cause,
            (Fitness::Fit, None) if lost && !L::SHARED => CloseCause::Lost,
            (Fitness::Fit, None) => CloseCause::Lifetime,
        };
        let connection = &self.connections[id];
        if connection.phase == Phase::Live && connection.leased == 0 {
            let entry = &mut self.keys[connection.key];
            entry.note_spent(cause, &self.policy, &mut self.spent_keys);
        }
        self.retire_for(id, cause, now);
    }

    /// A live connection may have room: serve waiters, then let it wait in its lists.
    #[inline(never)]
    pub(super) fn settle(&mut self, id: ConnectionId, now: Timestamp) {
        let key = self.connections[id].key;
        if self.keys[key].queue.wants_returns() {
            self.serve_waiters(id, now);
        }
        self.settle_unwanted(id, key, now);
    }

    /// A lease of a sound connection has come back while keys starve.
    #[cold]
    fn settle_contested(&mut self, id: ConnectionId, key: KeyId, now: Timestamp) {
        if self.is_turn_of_another(key) {
            return self.retire_for(id, CloseCause::MakeRoom, now);
        }
        let waiting = self.keys[key].queue.waiting();
        self.settle(id, now);
        self.line_up_again(key, waiting);
    }

    /// No caller waits for the connection, or it has no room.
    #[inline(always)]
    pub(super) fn settle_unwanted(&mut self, id: ConnectionId, key: KeyId, now: Timestamp) {
        if self.above_limits > 0 && self.connections[id].leased == 0 && self.is_surplus(key) {
            return self.begin_close(id, CloseCause::OverLimit, now);
        }
        if self.rules.crowded && self.makes_way(id) {
            return self.begin_close(id, CloseCause::MakeRoom, now);
        }
        self.park(id, now);
    }

    /// Lends `id` to waiters as long as there are any and it has room.
    #[cold]
    fn serve_waiters(&mut self, id: ConnectionId, now: Timestamp) {
        let key = self.connections[id].key;
        while self.connections[id].has_room() {
            let Some(waiter) = self.keys[key].queue.next(&self.waiters, &mut self.rng) else {
                break;
            };
            let lent = self.lend(id, now);
            self.grant(waiter, Answer::Lend(lent));
        }
    }

    /// Puts a live connection into the lists it belongs to now: with room, and idle.
    #[inline]
    pub(super) fn park(&mut self, id: ConnectionId, now: Timestamp) {
        let connection = &self.connections[id];
        let key = connection.key;
        if L::SHARED && !connection.in_room && connection.has_room() {
            let entry = &mut self.keys[key];
            entry.enter_room(&mut self.connections, id, &self.rules, &mut self.rng);
        }
        let connection = &self.connections[id];
        if connection.leased > 0 || connection.in_key.is_linked() {
            return;
        }
        // A limit of its own lowers `idle_limit`, too. So for most connections their extras are not read.
        if connection.idle_limit == 0 && connection.own_limit() == 0 {
            return self.begin_close(id, CloseCause::IdleTimeout, now);
        }
        if self.remaking > 0 && !self.join_in_remake(id, now) {
            return;
        }
        if self.keys[key].idle.len() >= self.rules.max_idle_per_key && !self.has_a_place(key, now) {
            return self.begin_close(id, CloseCause::IdleLimit, now);
        }
        let (entry, connection) = (&mut self.keys[key], &mut self.connections[id]);
        let timer_at = entry.timer_at;
        entry.join_idle(connection, now);
        entry.idle.note_appended(&mut self.connections, id, Connection::in_key);
        self.count_idle(id, key, timer_at, now);
        if !L::SHARED && self.rules.random {
            self.keys[key].random.join(&mut self.connections, id, &mut self.rng);
        }
        self.watch_idle_limit(id);
        // A connection that is being looked at has been idle all the time.
        if !self.looks.contains(id) {
            self.emit(id, EventKind::Idle, now);
        }
        if self.rules.crowded
            && self.policy.max_idle.is_some_and(|max| self.status.idle > max)
            && let Some(longest) = self.all_idle.front(&self.connections)
        {
            self.begin_close(longest, CloseCause::Evicted, now);
        }
    }

    /// A connection has joined the idle list of `key`, whose timer is set to `timer_at`: it counts as
    /// idle, and its end is watched.
    #[inline(always)]
    fn count_idle(&mut self, id: ConnectionId, key: KeyId, timer_at: Timestamp, now: Timestamp) {
        self.status.idle += 1;
        if self.rules.global_idle {
            self.all_idle.push_back(&mut self.connections, id, Connection::in_all);
        }
        let due = self.rules.idle_end(now);
        // A timer that is pending looks at what is idle then, and sets the next.
        if self.rules.timed_idle && due < timer_at {
            self.set_timer(due, key);
        } else if self.rules.swept_idle {
            self.note_deadline(self.ends.next_sweep());
        }
    }

    /// The idle list of a key is full: whether the connection that comes back gets the place of
    /// the one that has been there longest.
    #[cold]
    fn has_a_place(&mut self, key: KeyId, now: Timestamp) -> bool {
        match (self.policy.idle_overflow, self.keys[key].idle.front(&self.connections)) {
            (IdleOverflow::CloseOldest, Some(oldest)) => {
                self.begin_close(oldest, CloseCause::IdleLimit, now);
                true
            }
            _ => false,
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
        let key = connection.key;
        self.keys[key].count_useless(connection);
        self.end_set_aside(key);
        let connection = &self.connections[id];
        if !connection.has_room() {
            self.keys[key].leave_room(&mut self.connections, id, &self.rules);
        } else if let Some(cause) = self.expired(id, now) {
            self.retire_for(id, cause, now);
        } else {
            self.settle(id, now);
        }
        // Another connection helps again, when this one allowed none.
        self.room_appeared(key, now);
    }
}
