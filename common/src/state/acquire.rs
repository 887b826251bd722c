//! Acquire: an idle connection, else a dial, else a place in the queue, else no.

use std::hash::Hash;
use std::time::Duration;

use super::connection::{DialFor, Phase};
use super::keys::KeyEntry;
use super::plain::Idle;
use super::{Acquire, Connection, ConnectionId, KeyId, Lent, Refusal, State, Want};
use crate::clock::Timestamp;
use crate::collections::list::Link;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, AtLimit, Check, Dial, DialForWaiters};

/// What stands in the way of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// `max_open_per_key`.
    KeyFull,
    /// `max_open`.
    PoolFull,
    /// A pause after failures.
    Paused,
    /// `max_dials_per_key`; or a dial for all waiters of the key is in progress; or the peer allows
    /// no lease on the connection there is.
    Dialing,
    /// `dial_ramp`.
    Ramp,
    /// `max_dials_per_second`.
    Rate,
    /// `max_dials`.
    DialsFull,
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Asks for a connection of `key`.
    #[inline]
    pub fn acquire(&mut self, key: &K, want: Want, now: Timestamp) -> Acquire<L, E> {
        self.acquire_until(key, want, Timestamp::NEVER, now)
    }

    /// As [`acquire`](State::acquire), but one that has to wait is granted
    /// [`Grant::TimedOut`](super::Grant::TimedOut) at `deadline`.
    #[inline]
    pub fn acquire_until(
        &mut self,
        key: &K,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Acquire<L, E> {
        if !want.fresh
            && let Some(lent) = self.acquire_idle(key, now)
        {
            if want.again {
                // Others it was woken with may leave something idle, in the way of another key.
                self.relieve_starving(now);
            }
            return Acquire::Lend(lent);
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

    #[inline(never)]
    fn acquire_idle_at_length(&mut self, key: &K, now: Timestamp) -> Option<Lent<L>> {
        let key = self.known_key(key)?;
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
    ) -> Acquire<L, E> {
        if !want.fresh
            && let Some(waiter) = self.wait_plain(key, deadline, now)
        {
            return Acquire::Wait(waiter);
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
    ) -> Acquire<L, E> {
        if self.closed {
            self.stats.refused += 1;
            return Acquire::Refuse(Refusal::Closed);
        }
        let key = self.key_id(key, now);
        if self.rules.prune && want.fresh {
            // The first half, which has done so, was left out.
            self.prune(key, now);
        }
        self.want_floor(key, now);
        let answer = self.acquire_without_idle(key, want, deadline, now);
        match answer {
            Acquire::Wait(waiter) => self.watch_waiter(waiter, deadline),
            Acquire::Refuse(_) => {
                self.stats.refused += 1;
                self.forget_if_unused(key);
            }
            Acquire::Lend(_) | Acquire::Dial(_) => {}
        }
        answer
    }

    /// Lends an idle connection of `key` that needs no check, if the one that comes first is such;
    /// starts nothing and joins no queue.
    pub fn try_acquire(&mut self, key: &K, now: Timestamp) -> Option<Lent<L>> {
        let key = self.known_key(key)?;
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
        self.rules.first_of(&self.keys[key], &self.connections)
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

    /// A connection was lent, and a rarer rule of the policy has a say: which is next in random
    /// order, or that this was its last time.
    #[cold]
    pub(super) fn lent_at_length(&mut self, id: ConnectionId, now: Timestamp) {
        if self.rules.random {
            if !L::SHARED {
                self.leave_random(id);
            }
            self.draw_again(self.connections[id].key);
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
        // Parked for those who were woken by its dial, it is as good as handed over.
        let was_idle = was_idle && (reused || idle_nanos > 0);
        if self.listening {
            let idle_for = Duration::from_nanos(idle_nanos);
            self.emit(id, EventKind::Leased { reused, idle_for }, now);
        }
        Lent { id, handle, reused, idle_nanos, was_idle }
    }

    #[cold]
    fn acquire_without_idle(
        &mut self,
        key: KeyId,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Acquire<L, E> {
        let now = self.catch_up(now);
        // Before their timer has said so.
        self.mark_overdue(key, now);
        let alone = self.keys[key].waiting == 0;
        let racing = self.policy.dial == Dial::Racing;
        // While a waiter is held up, the dials without a waiter are its hedges.
        let held_up = self.keys[key].held_up > 0;
        let adopts = racing && self.policy.adopt_dials && !want.fresh && !held_up;
        if !self.keys[key].undialed.is_empty() && !self.opener_busy {
            // Dials that lost their waiters belong to those who wait, and so does what the end of a
            // pause or the ramp allows by now, before their timer has said so.
            self.serve_room(key, now);
        }
        if adopts && !self.keys[key].orphans.is_empty() {
            let waiter = self.wait_for_anything(key, want.fresh);
            self.adopt(waiter);
            return Acquire::Wait(waiter);
        }
        let looks = self.looks_of(key);
        let undialed = self.keys[key].undialed.len();
        // What room there is belongs to those the opener dials for.
        let behind_opener =
            self.policy.dial_for_waiters == DialForWaiters::Opener && undialed > looks;
        let mut obstacle = self.obstacle(key, now).or(behind_opener.then_some(Obstacle::Dialing));
        let waiting = self.keys[key].waiting.saturating_add(1);
        // A connection in a look is as good as idle, and back sooner than a dial. A caller that insists
        // on a new connection takes it too while nothing may be dialed.
        if looks > undialed && (!want.fresh || obstacle == Some(Obstacle::Paused)) {
            return Acquire::Wait(self.wait_for_anything(key, want.fresh));
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
            return Acquire::Lend(lent);
        }
        let Some(obstacle) = obstacle else {
            debug_assert!(undialed <= looks, "who waits is dialed for first");
            return match self.policy.dial {
                Dial::Caller => Acquire::Dial(self.start_dial(key, DialFor::Caller, now)),
                Dial::Detached => {
                    let waiter = self.wait_for_dial(key, want.fresh);
                    let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                    self.bind(waiter, dial);
                    Acquire::Wait(waiter)
                }
                // One that insists on a new connection is not served by one that comes back.
                Dial::Racing | Dial::Shared if want.fresh => {
                    let waiter = self.wait_for_dial(key, true);
                    let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                    self.bind(waiter, dial);
                    Acquire::Wait(waiter)
                }
                Dial::Racing | Dial::Shared => {
                    let waiter = self.wait_for_anything(key, want.fresh);
                    self.serve_room(key, now);
                    Acquire::Wait(waiter)
                }
            };
        };
        if obstacle == Obstacle::Paused {
            self.probe_if_denied(key, now);
        }
        if let Some(refusal) = self.refusal(key, obstacle, want, deadline, now) {
            return Acquire::Refuse(refusal);
        }
        let waiter = self.wait_for_anything(key, want.fresh);
        self.replace_hanging(key, obstacle, alone);
        match obstacle {
            // One more waiter is a reason for two more dials.
            Obstacle::Dialing if self.keys[key].stopping > 0 => self.serve_room(key, now),
            Obstacle::KeyFull if want.fresh => self.close_longest_idle(key, now),
            Obstacle::PoolFull => self.make_room(key, now),
            Obstacle::DialsFull => self.starve(key),
            Obstacle::Ramp => self.watch_ramp(key),
            _ => {}
        }
        Acquire::Wait(waiter)
    }

    /// Why an acquire may not even wait.
    fn refusal(
        &self,
        key: KeyId,
        obstacle: Obstacle,
        want: Want,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Option<Refusal<E>> {
        let entry = &self.keys[key];
        // Those the ramp holds back are owed the places that are left. Who comes after them is as
        // one who comes at the limit.
        let owed = if obstacle == Obstacle::Ramp { self.room_above_ramp(key) } else { 0 };
        if owed > entry.undialed.len() {
            return None;
        }
        match obstacle {
            Obstacle::KeyFull | Obstacle::PoolFull | Obstacle::Ramp => {
                // A place that is about to be free, or that an idle connection can make, and a
                // dial that serves many, are worth waiting for.
                let soon = entry.closing > 0
                    || entry.stopping > 0
                    || (L::SHARED && entry.dialing > 0)
                    || entry.refilling > 0
                    || (want.fresh && !entry.idle.is_empty())
                    || (obstacle == Obstacle::PoolFull && !self.all_idle.is_empty())
                    || self.is_back_soon(key, obstacle);
                if self.policy.at_limit == AtLimit::Fail && !soon {
                    return Some(Refusal::Exhausted);
                }
            }
            Obstacle::Paused => {
                let nothing_live = entry.open == entry.closing;
                let fails = match self.policy.after_failed_dial {
                    AfterFailedDial::FailFast if self.fails_fast(key) => true,
                    _ => {
                        nothing_live
                            && !self.policy.wait_for_ready
                            && !self.is_short_pause(key, deadline, now)
                    }
                };
                if fails && let Some(refusal) = self.paused(key, now) {
                    return Some(refusal);
                }
            }
            Obstacle::Dialing | Obstacle::Rate | Obstacle::DialsFull => {}
        }
        match self.policy.max_waiters {
            Some(limit)
                if !want.again
                    && entry
                        .undialed
                        .len()
                        .saturating_sub(owed)
                        .saturating_sub(self.soon_served(entry))
                        .saturating_sub(self.looks_of(key))
                        >= limit =>
            {
                Some(Refusal::TooManyWaiters { limit })
            }
            _ => None,
        }
    }

    /// When connections are shared: how many waiters of `undialed` the dials in progress will serve.
    /// The capacity is that of the key's last connection. Before the first connection, unless dials
    /// fail, all waiters are expected to be served.
    fn soon_served(&self, entry: &KeyEntry<K, E>) -> u32 {
        let Some(_) = self.policy.max_waiters.filter(|_| L::SHARED) else { return 0 };
        // A dial that takes longer than usual is not expected to serve any caller.
        let overdue = entry.hanging.len() + entry.held_up + entry.overdue_callers;
        let dials = (entry.dialing - entry.stopping).saturating_sub(overdue);
        // Nor does one follow another that took too long: not until a dial has succeeded.
        let fails = entry.failures > 0 && entry.capacity.is_none();
        if dials == 0 || fails || entry.overdue_in_a_row > 0 {
            return 0;
        }
        let cap = self.policy.max_leases_per_connection.unwrap_or(u32::MAX);
        let served = entry.capacity.and_then(|served| u32::try_from(served).ok());
        let each = served.unwrap_or(u32::MAX).min(cap);
        each.saturating_mul(dials).saturating_sub(entry.tied.len() - entry.held_up)
    }

    /// What stands in the way of a dial for `key`, if anything does.
    pub(super) fn obstacle(&self, key: KeyId, now: Timestamp) -> Option<Obstacle> {
        let entry = &self.keys[key];
        // A dial for all waiters is in progress. Overdue dials do not count.
        let overdue = entry.hanging.len() + entry.held_up + entry.overdue_callers;
        let is_shared_dial = entry.dialing > entry.refilling + entry.stopping + overdue;
        if self.policy.max_open_per_key.is_some_and(|max| entry.open >= max) {
            Some(Obstacle::KeyFull)
        } else if self.is_paused(key, now) {
            Some(Obstacle::Paused)
        } else if entry.useless > 0
            || self.policy.max_dials_per_key.is_some_and(|max| entry.dialing >= max)
            || (self.policy.dial == Dial::Shared && is_shared_dial)
        {
            Some(Obstacle::Dialing)
        } else if self.ramp_holds(entry, now) {
            Some(Obstacle::Ramp)
        } else if self.rate_holds(entry, now) {
            Some(Obstacle::Rate)
        } else if self.dials_are_full() {
            Some(Obstacle::DialsFull)
        } else if self.pool_is_full() {
            // Last, so that no connection of another key makes way for a dial that may not start.
            Some(Obstacle::PoolFull)
        } else {
            None
        }
    }

    /// Whether the pool itself dials for waiters, instead of letting each of them dial.
    pub(super) fn dials_in_background(&self) -> bool {
        self.policy.dial != Dial::Caller || self.policy.dial_for_waiters != DialForWaiters::Waiter
    }

    pub(super) fn pool_is_full(&self) -> bool {
        self.policy.max_open.is_some_and(|max| self.status.open >= max)
    }

    /// A fresh connection is wanted and only idle ones are in the way.
    fn close_longest_idle(&mut self, key: KeyId, now: Timestamp) {
        if let Some(id) = self.keys[key].idle.front(&self.connections) {
            self.begin_close(id, CloseCause::MakeRoom, now);
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
}
