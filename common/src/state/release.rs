//! Release: back to a waiter, to the idle list, or out.

use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, Phase};
use super::{ConnectionId, Fitness, Grant, KeyId, Lent, Released, State, WaiterId};
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
        let wanted = !self.keys[key].returns.is_empty();
        // Lost when the look at it panicked.
        let was_look = self.end_look(id).is_some();
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
        self.count_spent(key, |pace, _| pace.note_reusable());
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

    /// A connection that no caller has looked at goes to `waiter`, as one that has been idle since
    /// `since`.
    pub(super) fn hand_on(
        &mut self,
        id: ConnectionId,
        waiter: WaiterId,
        since: Timestamp,
        now: Timestamp,
    ) {
        let connection = &mut self.connections[id];
        let handle = L::lend(&mut connection.handle).expect("it has just come back");
        let reused = std::mem::replace(&mut connection.lent_before, true);
        let idle_nanos = now.nanos_since(since);
        self.counts.leased += 1;
        self.first_leases += u64::from(!reused);
        let idle_for = Duration::from_nanos(idle_nanos);
        self.emit(id, EventKind::Leased { reused, idle_for }, now);
        let lent = Lent { id, handle, reused, idle_nanos, was_idle: true };
        self.grant(waiter, Grant::Lend(lent));
    }

    /// A granted connection comes back uncollected. No caller has used one that had been idle: the next
    /// waiter gets it as one that was idle, or it goes on being idle as if nothing had happened.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn take_back(&mut self, lent: Lent<L>, now: Timestamp) -> Option<L> {
        let Lent { id, handle, was_idle, .. } = lent;
        // The handle of a shared connection goes first, so that a close which follows holds the
        // last one; the pool's own keeps the connection until then.
        let handle = (!L::SHARED).then_some(handle);
        let connection = &mut self.connections[id];
        if !was_idle || connection.leased > 1 {
            return self.release(id, handle, Fitness::Fit, now);
        }
        let (key, since) = (connection.key, connection.idle_since);
        // The peer may allow fewer leases than when it was granted.
        let sound = connection.retired.is_none()
            && connection.leased <= connection.capacity
            && now <= connection.expires_at;
        let surplus = self.above_limits > 0 && self.is_surplus(key);
        if now.nanos_since(since) > self.connections[id].idle_limit.max(self.spared_limit(id)) {
            let expired = Fitness::Unfit(CloseCause::IdleTimeout);
            return self.release(id, handle, expired, now);
        }
        if self.is_suspect(id) {
            return self.release(id, handle, Fitness::Unfit(CloseCause::Suspect), now);
        }
        if sound
            && !surplus
            && let Some(next) = self.keys[key].returns.next(&self.waiters, &mut self.rng)
        {
            if !L::SHARED {
                self.connections[id].handle = handle;
            }
            self.emit(id, EventKind::Returned, now);
            self.hand_on(id, next, since, now);
            return None;
        }
        let leftover = self.release(id, handle, Fitness::Fit, now);
        self.backdate(id, since);
        leftover
    }

    /// A connection that has just become the last of the idle ones has been idle since `since`, and
    /// belongs before those that became idle after that. Costs a step for each of them.
    pub(super) fn backdate(&mut self, id: ConnectionId, since: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Live || !connection.in_key.is_linked() {
            return;
        }
        connection.idle_since = since;
        let key = connection.key;
        let later = |other: &Connection<L>| other.idle_since > since;
        let entry = &mut self.keys[key];
        entry.idle.move_before(&mut self.connections, id, later, Connection::in_key);
        if self.rules.global_idle {
            self.all_idle.move_before(&mut self.connections, id, later, Connection::in_all);
        }
        if self.rules.timed_idle {
            self.set_timer(self.rules.idle_end(since), key);
        }
        self.watch_idle_limit(id);
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
            self.note_spent(connection.key, cause);
        }
        self.retire_for(id, cause, now);
    }

    /// A live connection may have room: serve waiters, then let it wait in its lists.
    #[inline(never)]
    pub(super) fn settle(&mut self, id: ConnectionId, now: Timestamp) {
        let key = self.connections[id].key;
        if !self.keys[key].returns.is_empty() {
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
        let waiting = self.keys[key].waiting;
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
            let Some(waiter) = self.keys[key].returns.next(&self.waiters, &mut self.rng) else {
                break;
            };
            let lent = self.lend(id, now);
            self.grant(waiter, Grant::Lend(lent));
        }
    }

    /// Puts a live connection into the lists it belongs to now: with room, and idle.
    #[inline]
    pub(super) fn park(&mut self, id: ConnectionId, now: Timestamp) {
        self.join_room(id);
        let connection = &self.connections[id];
        let key = connection.key;
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
        let entry = &mut self.keys[key];
        entry.idle.push_back(&mut self.connections, id, Connection::in_key);
        if !L::SHARED && self.rules.random {
            self.join_random(id);
        }
        let entry = &self.keys[key];
        let due = self.rules.idle_end(now);
        let earliest = due < entry.timer_at;
        self.connections[id].idle_since = now;
        self.status.idle += 1;
        if self.rules.global_idle {
            self.all_idle.push_back(&mut self.connections, id, Connection::in_all);
        }
        if self.rules.timed_idle {
            // A timer that is pending looks at what is idle then, and sets the next.
            if earliest {
                self.set_timer(due, key);
            }
        } else if self.rules.swept_idle {
            self.note_deadline(self.next_sweep);
        }
        self.watch_idle_limit(id);
        // A connection that is being looked at has been idle all the time.
        if !self.is_looked_at(id) {
            self.emit(id, EventKind::Idle, now);
        }
        if self.rules.crowded
            && self.policy.max_idle.is_some_and(|max| self.status.idle > max)
            && let Some(longest) = self.all_idle.front(&self.connections)
        {
            self.begin_close(longest, CloseCause::Evicted, now);
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
        self.count_useless(id);
        let key = self.connections[id].key;
        self.end_set_aside(key);
        let connection = &self.connections[id];
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
}
