//! Acquire: an idle connection, else a dial, else a place in the queue, else a refusal.

use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, DialFor};
use super::keys::KeyEntry;
use super::limits::Obstacle;
use super::{Answer, ConnectionId, KeyId, Lent, Refusal, State, Want, idle_list};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{Check, Dial, DialForWaiters};

/// What there is to lend on the fast path.
enum Idle<L> {
    Lent(Lent<L>),
    /// Nothing, on either path.
    Nothing,
    /// The slow path has to look.
    Unclear,
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Asks for a connection of `key`.
    #[inline]
    pub fn acquire(&mut self, key: &K, want: Want, now: Timestamp) -> Answer<L, E> {
        self.acquire_until(key, want, Timestamp::NEVER, now)
    }

    /// As [`acquire`](State::acquire), but a caller that has to wait is granted
    /// [`Answer::TimedOut`] at `deadline`.
    #[inline]
    pub fn acquire_until(
        &mut self,
        key: &K,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Answer<L, E> {
        if !want.fresh
            && let Some(lent) = self.acquire_idle(key, now)
        {
            return Answer::Lend(lent);
        }
        self.acquire_anew(key, want, deadline, now)
    }

    /// The first half of [`acquire`](State::acquire): an idle connection, or one with room. Starts
    /// nothing and joins no queue.
    #[inline(always)]
    pub fn acquire_idle(&mut self, key: &K, now: Timestamp) -> Option<Lent<L>> {
        match self.lend_plain(key, now) {
            Idle::Lent(lent) => Some(lent),
            Idle::Nothing => None,
            Idle::Unclear => self.acquire_idle_at_length(key, now),
        }
    }

    /// Lends the connection that the policy's order puts first, when that is in time.
    #[inline(always)]
    fn lend_plain(&mut self, key: &K, now: Timestamp) -> Idle<L> {
        let recent = self.keys.recent();
        let id = match self.keys.get(recent) {
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
        if self.connections[id].past_its_time(now).is_some()
            || (self.rules.prune && self.has_to_prune(&self.keys[recent], now))
        {
            return Idle::Unclear;
        }
        Idle::Lent(self.lend_here(id, recent, now))
    }

    /// Whether a floor may have to be refilled when an idle connection is lent.
    #[inline(always)]
    fn owes_floor(&self, entry: &KeyEntry<K, E>) -> bool {
        self.rules.floor && entry.floor.is_held()
    }

    /// Whether an idle connection of a key is past its time: the one that was idle for longest, first.
    fn has_to_prune(&self, entry: &KeyEntry<K, E>, now: Timestamp) -> bool {
        let longest = entry.idle.front(&self.connections);
        longest.is_some_and(|id| self.connections[id].past_its_time(now).is_some())
    }

    #[inline(never)]
    fn acquire_idle_at_length(&mut self, key: &K, now: Timestamp) -> Option<Lent<L>> {
        let key = self.keys.known(key)?;
        if self.rules.prune {
            self.prune(key, now);
        }
        self.lend_idle(key, now)
    }

    /// The second half: nothing is idle, or a new connection is wanted. `deadline` as in
    /// [`acquire_until`](State::acquire_until).
    #[inline]
    pub fn acquire_anew(
        &mut self,
        key: &K,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Answer<L, E> {
        if !want.fresh
            && let Some(waiter) = self.wait_plain(key, deadline, now)
        {
            return Answer::Wait(waiter);
        }
        self.acquire_anew_at_length(key, want, deadline, now)
    }

    #[inline(never)]
    fn acquire_anew_at_length(
        &mut self,
        key: &K,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Answer<L, E> {
        if self.closed {
            self.stats.refused += 1;
            return Answer::Refuse(Refusal::Closed);
        }
        let key = self.key_id(key, now);
        if self.rules.prune && want.fresh {
            // The first half, which has done so, was left out.
            self.prune(key, now);
        }
        self.want_floor(key, now);
        let answer = self.acquire_without_idle(key, want, deadline, now);
        match answer {
            Answer::Wait(waiter) => self.watch_waiter(waiter, deadline),
            Answer::Refuse(_) => {
                self.stats.refused += 1;
                self.refill_for_leaver(key, now);
                self.forget_if_unused(key);
            }
            _ => {}
        }
        answer
    }

    /// Lends an idle connection of `key` that needs no check, if the one that comes first is such;
    /// starts nothing and joins no queue.
    pub fn try_acquire(&mut self, key: &K, now: Timestamp) -> Option<Lent<L>> {
        let key = self.keys.known(key)?;
        if self.closed || self.policy.check == Check::Always {
            return None;
        }
        let id = self.first_in_time(key, now)?;
        let connection = &self.connections[id];
        let idle_nanos = now.nanos_since(connection.idle_since);
        if self.policy.check == Check::IfIdleLonger
            && connection.leased == 0
            && Duration::from_nanos(idle_nanos) > self.policy.check_after
        {
            return None;
        }
        self.lend_idle(key, now)
    }

    /// Lends the connection that the policy's order puts first, closing those past their time.
    #[inline(always)]
    pub(super) fn lend_idle(&mut self, key: KeyId, now: Timestamp) -> Option<Lent<L>> {
        let id = self.first_in_time(key, now)?;
        let lent = self.lend_here(id, key, now);
        if self.at_length {
            self.lent_at_length(id, now);
        }
        if self.rules.floor {
            self.refill(key, now);
        }
        Some(lent)
    }

    /// The connection that the policy's order puts first, of those not past their time.
    #[inline(always)]
    fn first_in_time(&mut self, key: KeyId, now: Timestamp) -> Option<ConnectionId> {
        loop {
            let id = self.first_with_room(key)?;
            match self.expired(id, now) {
                Some(cause) => self.retire_for(id, cause, now),
                None => return Some(id),
            }
        }
    }

    #[inline]
    fn first_with_room(&self, key: KeyId) -> Option<ConnectionId> {
        if self.remaking > 0
            && let Some(id) = self.first_of_newest(key)
        {
            return Some(id);
        }
        idle_list::first(&self.keys[key], &self.connections, &self.rules)
    }

    #[cold]
    fn acquire_without_idle(
        &mut self,
        key: KeyId,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Answer<L, E> {
        let now = self.catch_up(now);
        // Before their timer has said so.
        self.mark_overdue(key, now);
        let racing = self.policy.dial == Dial::Racing;
        // While a waiter is held up, the dials without a waiter are its hedges.
        let held_up = self.keys[key].dials.held_up() > 0;
        let adopts = racing && self.policy.adopt_dials && !want.fresh && !held_up;
        if self.keys[key].queue.has_undialed() && !self.dials.is_opener_busy() {
            // Dials that lost their waiters belong to the callers that wait, and so does what the end of a
            // pause or the ramp allows by now, before their timer has said so.
            self.serve_room(key, now);
        }
        if adopts && self.keys[key].dials.has_orphans() {
            let waiter = self.wait_for_anything(key, want.fresh);
            self.adopt(waiter);
            return Answer::Wait(waiter);
        }
        let looks = self.looks.of(key);
        let undialed = self.keys[key].queue.undialed();
        // The remaining room belongs to the waiters that the opener dials for.
        let behind_opener =
            self.policy.dial_for_waiters == DialForWaiters::Opener && undialed > looks;
        let mut obstacle = self.obstacle(key, now).or(behind_opener.then_some(Obstacle::Dialing));
        let waiting = self.keys[key].queue.waiting().saturating_add(1);
        // A connection that is being looked at counts as idle, and is back sooner than a dial. A
        // caller that insists on a new connection takes it too while nothing may be dialed.
        if looks > undialed && (!want.fresh || obstacle == Some(Obstacle::Paused)) {
            return Answer::Wait(self.wait_for_anything(key, want.fresh));
        }
        // Waiters before this one may be waiting until an overdue dial has been stopped.
        if obstacle.is_none()
            && self.dials_in_background()
            && (self.has_too_many_hanging(key, waiting) || undialed > looks)
        {
            obstacle = Some(Obstacle::Dialing);
        }
        if want.fresh
            && obstacle == Some(Obstacle::Paused)
            && let Some(lent) = self.lend_idle(key, now)
        {
            // Nothing new can be had; what works is better than nothing.
            return Answer::Lend(lent);
        }
        let Some(obstacle) = obstacle else {
            debug_assert!(undialed <= looks, "waiters are dialed for first");
            return match self.policy.dial {
                Dial::Caller => Answer::Dial(self.start_dial(key, DialFor::Caller, now)),
                Dial::Detached => {
                    let waiter = self.wait_for_dial(key, want.fresh);
                    let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                    self.bind(waiter, dial);
                    Answer::Wait(waiter)
                }
                // A returned connection does not serve a caller that insists on a new one.
                Dial::Racing | Dial::Shared if want.fresh => {
                    let waiter = self.wait_for_dial(key, true);
                    let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                    self.bind(waiter, dial);
                    Answer::Wait(waiter)
                }
                Dial::Racing | Dial::Shared => {
                    let waiter = self.wait_for_anything(key, want.fresh);
                    self.serve_room(key, now);
                    Answer::Wait(waiter)
                }
            };
        };
        if obstacle == Obstacle::Paused {
            self.probe_if_denied(key, now);
        }
        if let Some(refusal) = self.refusal(key, obstacle, want, deadline, now) {
            return Answer::Refuse(refusal);
        }
        let waiter = self.wait_for_anything(key, want.fresh);
        self.replace_if_hanging(key, now);
        match obstacle {
            // One more waiter is a reason for two more dials.
            Obstacle::Dialing if self.keys[key].dials.stopping() > 0 => self.serve_room(key, now),
            Obstacle::KeyFull if want.fresh => self.close_longest_idle(key, now),
            Obstacle::PoolFull | Obstacle::DialsFull => self.make_room(key, now),
            Obstacle::Ramp => self.watch_ramp(key),
            _ => {}
        }
        Answer::Wait(waiter)
    }

    /// A fresh connection is wanted and only idle ones are in the way.
    fn close_longest_idle(&mut self, key: KeyId, now: Timestamp) {
        if let Some(id) = self.keys[key].idle.front(&self.connections) {
            self.begin_close(id, CloseCause::MakeRoom, now);
        }
    }

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
            self.leave_reserve(id, key);
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
            self.keys[key].leave_room(&mut self.connections, id, &self.rules);
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
        let key = self.connections[id].key;
        if self.rules.random {
            let random = &mut self.keys[key].random;
            if !L::SHARED {
                random.leave(&mut self.connections, id);
            }
            random.draw_again(&mut self.rng);
        }
        let Some(max) = self.policy.max_uses else { return };
        let connection = &mut self.connections[id];
        if connection.count_use() == max && connection.retired.is_none() {
            // It is found unfit when a lease of it comes back.
            connection.retired = Some(CloseCause::Uses);
            self.keys[key].leave_room(&mut self.connections, id, &self.rules);
            self.emit(id, EventKind::Retired, now);
        }
    }
}
