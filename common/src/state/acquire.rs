//! Acquire: an idle connection, else a dial, else a place in the queue, else a refusal.

use std::hash::Hash;
use std::time::Duration;

use super::connection::DialFor;
use super::fast_path::Idle;
use super::idle_list;
use super::limits::{self, Obstacle};
use super::{Acquire, ConnectionId, Grant, KeyId, Lent, Refusal, State, WaiterId, Want};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, AtLimit, Check, Dial, DialForWaiters};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Asks for a connection of `key`.
    #[inline]
    pub fn acquire(&mut self, key: &K, want: Want, now: Timestamp) -> Acquire<L, E> {
        self.acquire_until(key, want, Timestamp::NEVER, now)
    }

    /// As [`acquire`](State::acquire), but a caller that has to wait is granted
    /// [`Grant::TimedOut`] at `deadline`.
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
                // Waiters that were woken with this one may leave a connection idle, in the way of another key.
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
        idle_list::first(&self.keys[key], &self.connections, &self.rules)
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
        let racing = self.policy.dial == Dial::Racing;
        // While a waiter is held up, the dials without a waiter are its hedges.
        let held_up = self.keys[key].dials.held_up() > 0;
        let adopts = racing && self.policy.adopt_dials && !want.fresh && !held_up;
        if !self.keys[key].undialed.is_empty() && !self.dials.is_opener_busy() {
            // Dials that lost their waiters belong to the callers that wait, and so does what the end of a
            // pause or the ramp allows by now, before their timer has said so.
            self.serve_room(key, now);
        }
        if adopts && self.keys[key].dials.has_orphans() {
            let waiter = self.wait_for_anything(key, want.fresh);
            self.adopt(waiter);
            return Acquire::Wait(waiter);
        }
        let looks = self.looks_of(key);
        let undialed = self.keys[key].undialed.len();
        // The remaining room belongs to the waiters that the opener dials for.
        let behind_opener =
            self.policy.dial_for_waiters == DialForWaiters::Opener && undialed > looks;
        let mut obstacle = self.obstacle(key, now).or(behind_opener.then_some(Obstacle::Dialing));
        let waiting = self.keys[key].waiting.saturating_add(1);
        // A connection that is being looked at counts as idle, and is back sooner than a dial. A
        // caller that insists on a new connection takes it too while nothing may be dialed.
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
            debug_assert!(undialed <= looks, "waiters are dialed for first");
            return match self.policy.dial {
                Dial::Caller => Acquire::Dial(self.start_dial(key, DialFor::Caller, now)),
                Dial::Detached => {
                    let waiter = self.wait_for_dial(key, want.fresh);
                    let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                    self.bind(waiter, dial);
                    Acquire::Wait(waiter)
                }
                // A returned connection does not serve a caller that insists on a new one.
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
        self.replace_if_hanging(key, now);
        match obstacle {
            // One more waiter is a reason for two more dials.
            Obstacle::Dialing if self.keys[key].dials.stopping() > 0 => self.serve_room(key, now),
            Obstacle::KeyFull if want.fresh => self.close_longest_idle(key, now),
            Obstacle::PoolFull | Obstacle::DialsFull => self.make_room(key, now),
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
        // The remaining capacity is reserved for callers that the ramp holds back. Later callers are
        // treated as if the limit had been reached.
        let owed = match obstacle {
            Obstacle::Ramp => limits::room_above_ramp(entry, &self.policy, &self.status),
            _ => 0,
        };
        if owed > entry.undialed.len() {
            return None;
        }
        match obstacle {
            Obstacle::KeyFull | Obstacle::PoolFull | Obstacle::Ramp => {
                // A place that is about to be free, or that an idle connection can make, and a
                // dial that serves many, are worth waiting for.
                let soon = entry.closing > 0
                    || entry.dials.stopping() > 0
                    || (L::SHARED && entry.dials.in_progress() > 0)
                    || entry.dials.refilling() > 0
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
                            && !entry.backoff.is_short(&self.policy, deadline, now)
                    }
                };
                if fails && let Some(refusal) = self.back_off_refusal(key, now) {
                    return Some(refusal);
                }
            }
            Obstacle::Useless | Obstacle::Dialing | Obstacle::Rate | Obstacle::DialsFull => {}
        }
        let soon_served = match self.policy.max_waiters {
            Some(_) if L::SHARED => limits::soon_served(entry, &self.policy),
            _ => 0,
        };
        match self.policy.max_waiters {
            Some(limit)
                if !want.again
                    && entry
                        .undialed
                        .len()
                        .saturating_sub(owed)
                        .saturating_sub(soon_served)
                        .saturating_sub(self.looks_of(key))
                        >= limit =>
            {
                Some(Refusal::TooManyWaiters { limit })
            }
            _ => None,
        }
    }

    /// A fresh connection is wanted and only idle ones are in the way.
    fn close_longest_idle(&mut self, key: KeyId, now: Timestamp) {
        if let Some(id) = self.keys[key].idle.front(&self.connections) {
            self.begin_close(id, CloseCause::MakeRoom, now);
        }
    }

    /// A waiter leaves. A grant that it has not collected goes to the next waiter.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn cancel(&mut self, id: WaiterId, now: Timestamp) -> Option<L> {
        let waiter = self.waiters.get_mut(id)?;
        let key = waiter.key;
        let leftover = match waiter.take_grant() {
            None => {
                self.stats.gave_up += 1;
                self.leave_queues(id, None);
                // The dial that it waited for may be in the way of other waiters now.
                self.replace_if_hanging(key, now);
                self.relieve_starving(now);
                None
            }
            Some(Grant::Lend(lent)) => self.take_back(lent, now),
            Some(Grant::Dial(dial)) => {
                self.dial_failed(dial, None, now);
                None
            }
            Some(Grant::Retry) => {
                // The connection that it was woken for stays idle, perhaps in the way of another key.
                self.relieve_starving(now);
                None
            }
            Some(Grant::DialFailed(_) | Grant::TimedOut | Grant::Refuse(_)) => None,
        };
        self.remove_waiter(id);
        self.forget_if_unused(key);
        leftover
    }
}
