//! The fast path: an idle connection is lent and comes back, or a returned connection goes to the next
//! waiter.
//!
//! A second copy of what [`acquire`](super::acquire) and [`release`](super::release) do when none of the
//! rarer rules has a say: no limit that was lowered or is in the way of another key, no floor to
//! refill, nothing to prune, no uses to count, no random order, no listener. Here each connection and
//! each key is looked up once, before anything is written. Without this copy an acquire and its
//! release execute 12 % more instructions with an exclusive connection and 22 % more with a shared one
//! (`docs/decisions/0020-the-fast-path-is-a-second-copy.md`).

use std::hash::Hash;

use super::connection::Phase;
use super::idle_list;
use super::keys::KeyEntry;
use super::wait_queue::Waiter;
use super::{Connection, ConnectionId, Lent, Released, State, WaiterId};
use crate::clock::Timestamp;
use crate::lending::Lend;

/// What there is to lend on the fast path.
pub(super) enum Idle<L> {
    Lent(Lent<L>),
    /// Nothing, on either path.
    Nothing,
    /// The slow path has to look.
    Unclear,
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Whether none of the rarer rules has a say.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.above_limits | self.remaking | self.spent_keys | u32::from(self.at_length) == 0
    }

    /// Lends the connection that the policy's order puts first, when that is in time.
    #[inline(always)]
    pub(super) fn lend_plain(&mut self, key: &K, now: Timestamp) -> Idle<L> {
        let id = match self.keys.get(self.recent) {
            Some(entry) if self.is_plain() && !self.owes_floor(entry) && entry.key == *key => {
                match idle_list::first_in_time_order(entry, &self.connections, &self.rules) {
                    Some(id) => id,
                    None if self.rules.prune && self.has_to_prune(entry, now) => {
                        return Idle::Unclear;
                    }
                    None => return Idle::Nothing,
                }
            }
            _ => return Idle::Unclear,
        };
        if self.rules.past_its_time(&self.connections[id], now).is_some()
            || (self.rules.prune && self.has_to_prune(&self.keys[self.recent], now))
        {
            return Idle::Unclear;
        }
        Idle::Lent(self.lend_here(id, self.recent, now))
    }

    /// Joins the queue, when every place of the key is taken by a connection and the policy is to wait,
    /// however many callers do.
    #[inline(always)]
    pub(super) fn wait_plain(
        &mut self,
        key: &K,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Option<WaiterId> {
        let recent = self.recent;
        let is_plain = self.is_plain() && self.rules.queues_at_limit && !self.closed;
        let entry = self.keys.get_mut(recent).filter(|entry| is_plain && entry.key == *key)?;
        if entry.open < self.rules.max_open_per_key
            || entry.dials.in_progress() > 0
            || entry.dials.has_orphans()
            || (self.rules.floor && entry.floor.is_asleep())
        {
            return None;
        }
        if self.rules.notes_demand {
            entry.floor.note_demand(now);
        }
        entry.waiting += 1;
        let mut waiter = Waiter::new(recent);
        waiter.in_returns = entry.returns.arrival.behind_last();
        waiter.in_dials = entry.undialed.behind_last();
        let in_order = self.deadlines.place(&self.waiters, deadline);
        if let Some(link) = in_order {
            waiter.in_deadlines = link;
            waiter.deadline = deadline;
        }
        let id = self.waiters.insert(waiter);
        entry.returns.arrival.note_appended(&mut self.waiters, id, Waiter::in_returns);
        entry.undialed.note_appended(&mut self.waiters, id, Waiter::in_dials);
        self.status.waiting += 1;
        self.counts.waited += 1;
        if in_order.is_some() {
            self.deadlines.note_appended(&mut self.waiters, id);
            self.note_deadline(deadline);
        } else {
            self.watch_waiter(id, deadline);
        }
        Some(id)
    }

    /// A lease of a sound connection ends, unless the slow path has to look: then the handle comes back.
    #[inline(always)]
    pub(super) fn release_plain(
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
        if !entry.returns.is_empty() {
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
        connection.idle_since = now;
        debug_assert!(!connection.in_key.is_linked(), "what is leased is in no list of its key");
        connection.in_key = entry.idle.behind_last();
        let due = self.rules.idle_end(now);
        // A timer that is pending looks at what is idle then, and sets the next.
        let earliest = self.rules.timed_idle && due < entry.timer_at;
        entry.idle.note_appended(&mut self.connections, id, Connection::in_key);
        self.status.leased -= 1;
        self.status.idle += 1;
        if self.rules.global_idle {
            self.all_idle.push_back(&mut self.connections, id, Connection::in_all);
        }
        if earliest {
            self.set_timer(due, key);
        } else if self.rules.swept_idle {
            self.note_deadline(self.next_sweep);
        }
        Ok(Released::Done(leftover))
    }

    /// Whether a floor may have to be refilled when an idle connection is lent.
    #[inline(always)]
    fn owes_floor(&self, entry: &KeyEntry<K, E>) -> bool {
        self.rules.floor && entry.floor.is_held()
    }

    /// Whether an idle connection of a key is past its time: the one that was idle for longest, first.
    fn has_to_prune(&self, entry: &KeyEntry<K, E>, now: Timestamp) -> bool {
        let longest = entry.idle.front(&self.connections);
        longest.is_some_and(|id| self.rules.past_its_time(&self.connections[id], now).is_some())
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
        let next = match entry.returns.arrival.front(&self.waiters) {
            Some(next) if self.waiters[next].is_plain() && may_hand_over() => next,
            _ => return Err(handle),
        };
        let handle = if L::SHARED { L::lend(&mut connection.handle) } else { handle };
        let handle = handle.expect("it has just come back");
        let waiter = self.waiters.remove(next).expect("one in the queue waits");
        debug_assert!(waiter.in_returns.is_linked() && waiter.in_dials.is_linked(), "it is plain");
        entry.returns.arrival.unlink(
            &mut self.waiters,
            next,
            waiter.in_returns,
            Waiter::in_returns,
        );
        entry.undialed.unlink(&mut self.waiters, next, waiter.in_dials, Waiter::in_dials);
        self.deadlines.unlink(&mut self.waiters, next, waiter.in_deadlines);
        entry.waiting -= 1;
        self.status.waiting -= 1;
        self.counts.leased += 1;
        let lent = Lent { id, handle, reused: true, idle_nanos: 0, was_idle: false };
        Ok(Released::HandedOver(next, lent, waiter.attached))
    }
}
