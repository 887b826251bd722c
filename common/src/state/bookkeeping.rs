//! The lists, counts and timers that move together when a connection is lent or changes its lists. Nothing
//! is decided here.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, Phase};
use super::dial_pace::DialPace;
use super::unused::Look;
use super::{ConnectionId, KeyId, Lent, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::collections::list::Link;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{Expiry, Policy};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Counts a lease of a live connection with room, and takes it out of the lists it leaves.
    #[inline(never)]
    pub(super) fn lend(&mut self, id: ConnectionId, now: Timestamp) -> Lent<L> {
        let key = self.connections[id].key;
        let lent = self.lend_here(id, key, now);
        if self.at_length {
            self.lent_at_length(id, now);
        }
        lent
    }

    /// As `lend`, for the fast path: in place, without a call or a copy of what it returns. `key` is
    /// the connection's.
    #[inline(always)]
    pub(super) fn lend_here(&mut self, id: ConnectionId, key: KeyId, now: Timestamp) -> Lent<L> {
        if self.remaking > 0 && self.connections[id].in_key.is_linked() {
            self.leave_reserve(id);
        }
        let entry = &mut self.keys[key];
        let connection = &mut self.connections[id];
        debug_assert!(connection.leased < connection.capacity);
        connection.leased += 1;
        let leased = connection.leased;
        let is_full = leased == connection.capacity;
        let reused = std::mem::replace(&mut connection.lent_before, true);
        let idle_since = connection.idle_since;
        let handle = L::lend(&mut connection.handle).expect("a connection with room is here");
        let link = std::mem::take(&mut connection.in_key);
        let was_idle = link.is_linked();
        if was_idle {
            entry.idle.unlink(&mut self.connections, id, link, Connection::in_key);
            self.status.idle -= 1;
            if self.rules.global_idle {
                self.all_idle.remove(&mut self.connections, id, Connection::in_all);
            }
        }
        if L::SHARED && is_full {
            self.leave_room(id);
        }
        self.status.leased += u32::from(leased == 1);
        self.status.leases += 1;
        self.counts.leased += 1;
        if !reused {
            self.first_leases += 1;
        }
        let idle_nanos = if was_idle { now.nanos_since(idle_since) } else { 0 };
        // A connection that was parked for the waiters that its dial woke counts as handed over.
        let was_idle = was_idle && (reused || idle_nanos > 0);
        if self.listening {
            let idle_for = Duration::from_nanos(idle_nanos);
            self.emit(id, EventKind::Leased { reused, idle_for }, now);
        }
        Lent { id, handle, reused, idle_nanos, was_idle }
    }

    /// A connection was lent, and a rarer rule of the policy has a say: which is next in random
    /// order, or that this was its last time.
    #[cold]
    pub(super) fn lent_at_length(&mut self, id: ConnectionId, now: Timestamp) {
        if self.rules.random {
            if !L::SHARED {
                self.leave_random(id);
            }
            let key = self.connections[id].key;
            self.keys[key].random.draw_again(&mut self.rng);
        }
        let Some(max) = self.policy.max_uses else { return };
        let connection = &mut self.connections[id];
        if connection.count_use() == max && connection.retired.is_none() {
            // It is found unfit when a lease of it comes back.
            connection.retired = Some(CloseCause::Uses);
            self.leave_room(id);
            self.emit(id, EventKind::Retired, now);
        }
    }

    /// Takes a connection out of the idle lists, whose link in the list of its key was `link`.
    pub(super) fn leave_idle(&mut self, id: ConnectionId, key: KeyId, link: Link<ConnectionId>) {
        if self.remaking > 0 {
            self.leave_reserve(id);
        }
        self.keys[key].idle.unlink(&mut self.connections, id, link, Connection::in_key);
        if self.rules.global_idle {
            self.all_idle.remove(&mut self.connections, id, Connection::in_all);
        }
        if self.rules.random && !L::SHARED {
            self.leave_random(id);
        }
        self.status.idle -= 1;
        debug_assert_eq!(self.connections[id].phase, Phase::Live);
    }

    /// A shared connection is found by callers from now on, if it has room.
    #[inline]
    pub(super) fn join_room(&mut self, id: ConnectionId) {
        let connection = &self.connections[id];
        if L::SHARED && !connection.in_room && connection.has_room() {
            self.enter_room(id);
        }
    }

    #[cold]
    pub(super) fn enter_room(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        entry.room.join(&mut self.connections, id, self.rules.newest_first);
        if self.rules.random {
            entry.random.join(&mut self.connections, id, &mut self.rng);
        }
    }

    /// A shared connection is not found any more.
    #[cold]
    pub(super) fn leave_room(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        let was_in_room = entry.room.leave(&mut self.connections, id, self.rules.newest_first);
        if was_in_room && self.rules.random {
            entry.random.leave(&mut self.connections, id);
        }
    }

    /// An idle connection can be drawn from now on.
    #[cold]
    pub(super) fn join_random(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        entry.random.join(&mut self.connections, id, &mut self.rng);
    }

    /// A connection is not drawn any more.
    #[cold]
    pub(super) fn leave_random(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        entry.random.leave(&mut self.connections, id);
    }

    /// Keeps count of live connections that serve no caller.
    pub(super) fn count_useless(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let useless = connection.phase == Phase::Live && connection.capacity == 0;
        if useless != connection.useless {
            connection.useless = useless;
            let count = &mut self.keys[connection.key].useless;
            *count = if useless { *count + 1 } else { *count - 1 };
        }
    }

    /// Counts a connection that was lent and cannot be lent again, because of what happened while it was
    /// in use. Its place in the ramp stays earned, as long as there is demand for its successor.
    pub(super) fn note_spent(&mut self, key: KeyId, cause: CloseCause) {
        let entry = &self.keys[key];
        let demand = entry.waiting.saturating_add(entry.open - entry.closing);
        self.count_spent(key, |pace, policy| pace.spend(cause, demand, policy));
    }

    /// Connections that are gone prove no need any more.
    pub(super) fn forget_spent(&mut self, key: KeyId) {
        self.count_spent(key, |pace, _| pace.forget_spent());
    }

    /// Keeps count of the keys whose ramp counts connections that are gone.
    pub(super) fn count_spent(&mut self, key: KeyId, change: impl FnOnce(&mut DialPace, &Policy)) {
        let pace = &mut self.keys[key].pace;
        let before = pace.has_spent();
        change(pace, &self.policy);
        self.spent_keys = self.spent_keys - u32::from(before) + u32::from(pace.has_spent());
    }

    /// A place in the limits was given up: the allowances shrink with `open`.
    pub(super) fn shrink_allowances(&mut self, key: KeyId) {
        if self.above_limits == 0 {
            return;
        }
        let entry = &mut self.keys[key];
        let pool_ended = self.allowance.shrink(self.status.open, self.policy.max_open);
        let key_ended = entry.allowance.shrink(entry.open, self.policy.max_open_per_key);
        self.above_limits -= u32::from(pool_ended) + u32::from(key_ended);
    }

    pub(super) fn end_look(&mut self, id: ConnectionId) -> Option<Look> {
        let at = self.looks.iter().position(|look| look.id == id)?;
        Some(self.looks.swap_remove(at))
    }

    /// A connection leaves the idle list.
    #[cold]
    pub(super) fn leave_reserve(&mut self, id: ConnectionId) {
        if self.is_old(id) {
            let key = self.connections[id].key;
            self.keys[key].old_idle -= 1;
        }
    }

    /// Something of this key is due at `at`. Nothing is in a closed pool.
    ///
    /// One timer is pending for a key at a time, the earliest; when it fires, the next is set.
    pub(super) fn set_timer(&mut self, at: Timestamp, key: KeyId) {
        let entry = &mut self.keys[key];
        if at >= entry.timer_at || self.closed {
            return;
        }
        entry.timer_at = at;
        if is_overgrown(self.timers.len(), self.keys.len()) {
            // A walk over those that are set, not over the keys: there may be memory for many more.
            let mut timers = std::mem::take(&mut self.timers).into_vec();
            timers.retain(|Reverse((at, key))| {
                self.keys.get(*key).is_some_and(|entry| entry.timer_at == *at)
            });
            timers.sort_unstable();
            timers.dedup();
            self.timers = timers.into_iter().collect();
        }
        self.timers.push(Reverse((at, key)));
        self.note_deadline(at);
    }

    /// Forgets a key that nothing depends on any more.
    pub(super) fn forget_if_unused(&mut self, id: KeyId) {
        if let Some(entry) = self.keys.get(id)
            && entry.is_unused()
        {
            self.index.remove(entry.hash, id);
            self.forget_spent(id);
            self.keys.remove(id);
        }
    }

    /// A connection has become idle: its limit is watched, if it has set one.
    #[inline]
    pub(super) fn watch_idle_limit(&mut self, id: ConnectionId) {
        if self.connections[id].idle_limit < self.rules.idle_timeout {
            self.watch_own_limit(id);
        }
    }

    #[cold]
    pub(super) fn watch_own_limit(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let end = connection.limit_ends();
        let timed = matches!(self.policy.expiry, Expiry::Timer | Expiry::Sweep);
        // An entry that is earlier looks at the connection then, and sets the next.
        if !timed || self.closed || end >= connection.limit_watched() {
            return;
        }
        connection.set_limit_watched(end);
        if is_overgrown(self.idle_limits.len(), self.connections.len()) {
            let connections = &self.connections;
            self.idle_limits.retain(|Reverse((at, id))| {
                connections.get(*id).is_some_and(|connection| connection.limit_watched() == *at)
            });
        }
        self.idle_limits.push(Reverse((end, id)));
        self.note_deadline(end);
    }
}
