//! Places in the limits: how a key without room gets some, and what happens when the limits change.
//!
//! # Room under the limits over all keys
//!
//! A key with waiters that finds the pool full starves until there is room
//! ([`starved`](super::starved)). Room is made in two ways:
//!
//! - Idle connections of any key are closed, the longest idle first, as many at a time as starved keys
//!   lack places.
//! - Where none is idle, the starved keys wait for their turn. When a key is due, the next connection of
//!   another key that comes back makes way, although waiters of the same key would take it.
//!
//! Pools without [`max_open`](crate::Policy::max_open) never come here from a release.
//!
//! # Limits that change
//!
//! When limits change while the pool runs, what was held back starts, and what is too much ends.
//! No lease is cut off. Above a lowered limit idle connections are closed at once, leased ones when
//! a lease of them comes back, dials end as they would have; until then `open` is above the limit,
//! and it only falls. How far above it may still be is the [`Allowance`](super::limits::Allowance), of each
//! key and of the pool.

use std::hash::Hash;

use super::connection::{Connection, Phase};
use super::starved::StarvedKeys;
use super::{ConnectionId, KeyId, State, WaiterId, limits};
use crate::clock::Timestamp;
use crate::error::InvalidPolicy;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{IdleOverflow, Limits, Precomputed};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// The pool is full: the connections that have been idle longest, of whatever key, make way.
    /// The key is remembered until it was served.
    pub(super) fn make_room(&mut self, key: KeyId, now: Timestamp) {
        self.starve(key);
        self.relieve_starving(now);
    }

    /// A limit over all keys denies this key a dial: it is served when there is room.
    pub(super) fn starve(&mut self, key: KeyId) {
        let before = self.waiting_elsewhere(key);
        self.starved.join(&mut self.keys, key, before);
        self.count_need(key);
    }

    /// How many callers wait for other keys.
    fn waiting_elsewhere(&self, key: KeyId) -> u32 {
        self.status.waiting - self.keys[key].queue.waiting()
    }

    /// Keeps count of the places that starved keys lack, after a change of this key.
    pub(super) fn count_need(&mut self, key: KeyId) {
        if self.keys[key].starvation.is_starved() {
            let looked_at = self.looks.of(key);
            let needs = limits::places_lacked(&self.keys[key], looked_at, &self.policy);
            self.starved.set_need(&mut self.keys[key], needs);
        }
    }

    /// Whether a place has to be made: starved keys lack more than are about to be free.
    pub(super) fn lacks_room(&self) -> bool {
        let Some(max) = self.policy.max_open else { return false };
        if self.starved.needed() == 0 || self.status.open < max {
            return false;
        }
        let dials =
            self.policy.max_dials.map_or(u32::MAX, |max| max.saturating_sub(self.status.dialing));
        let going = self.status.closing + self.dials.stopping();
        let coming = max.saturating_sub(self.status.open - going);
        coming < self.starved.needed().min(dials)
    }

    /// Whether an idle connection is in the way of another key.
    pub(super) fn makes_way(&mut self, id: ConnectionId) -> bool {
        self.connections[id].leased == 0 && self.lacks_room() && self.next_starved().is_some()
    }

    /// A connection of `key` is about to be handed over, which is a turn: whether a starved key comes
    /// before the waiters of `key`.
    pub(super) fn is_turn_of_another(&mut self, key: KeyId) -> bool {
        if !self.rules.contested || self.starved.is_empty() {
            return false;
        }
        let turn = self.starved.take_turn();
        if !self.lacks_room() {
            return false;
        }
        let Some(next) = self.next_starved().filter(|next| *next != key) else { return false };
        let before = self.waiting_elsewhere(next);
        StarvedKeys::is_due(&mut self.keys[next], before, turn)
    }

    /// Waiters of `key`, which had `waiting`, may have been served. If the key starves, the waiter that it
    /// was in the queue for is gone, and it goes to the end of the queue for the others.
    pub(super) fn line_up_again(&mut self, key: KeyId, waiting: u32) {
        if self.rules.contested
            && let Some(entry) = self.keys.get(key)
            && entry.starvation.is_starved()
            && entry.queue.waiting() < waiting
        {
            let before = self.waiting_elsewhere(key);
            self.starved.join_again(&mut self.keys, key, before);
        }
    }

    /// Keys are denied room by `max_open`: idle connections, of whatever key, make way, and then dials
    /// that hang and that no caller waits for. Those make way for `max_dials`, too.
    pub(super) fn relieve_starving(&mut self, now: Timestamp) {
        while self.lacks_room() && self.next_starved().is_some() {
            if let Some(id) = self.all_idle.front(&self.connections) {
                self.begin_close(id, CloseCause::MakeRoom, now);
            } else if let Some(dial) = self.hanging_in_the_way() {
                self.stop_dial(dial);
            } else {
                break;
            }
        }
        // One at a time. Its end serves the first of the starved keys.
        if self.dials_are_full()
            && self.dials.stopping() == 0
            && self.next_starved().is_some()
            && let Some(dial) = self.hanging_in_the_way()
        {
            self.stop_dial(dial);
        }
    }

    /// The longest of the hanging dials that may make way.
    fn hanging_in_the_way(&mut self) -> Option<ConnectionId> {
        loop {
            let dial = self.dials.hanging().front(&self.connections)?;
            if !self.is_awaited(self.connections[dial].key) {
                return Some(dial);
            }
            // Many keys may have such a dial: each is looked at once.
            self.dials.set_aside(&mut self.connections, dial);
        }
    }

    /// A waiter has left, a dial starts, or a connection works: if a dial of the key was set aside, it may
    /// make way for other keys from now on.
    pub(super) fn end_set_aside(&mut self, key: KeyId) {
        self.keys[key].dials.end_set_aside(&mut self.dials, &mut self.connections);
    }

    /// Whether the waiters of the key can only wait for the one dial that serves all of them. If that
    /// dial hangs, it counts as a dial without a waiter, and it still is their only chance.
    pub(super) fn is_awaited(&self, key: KeyId) -> bool {
        let entry = &self.keys[key];
        let in_progress = entry.dials.in_progress().saturating_sub(entry.dials.stopping());
        self.dials_for_all() && in_progress < 2 && entry.queue.has_undialed() && !entry.has_useful()
    }

    /// The starved key whose turn comes first. Entries before it that do not count are taken out.
    fn next_starved(&mut self) -> Option<KeyId> {
        loop {
            let key = match self.starved.first(&self.keys)? {
                Ok(key) => return Some(key),
                Err(key) => key,
            };
            self.starved.pop_front();
            if StarvedKeys::is_current(&mut self.keys, key) {
                self.starved.end(&mut self.keys, key);
                self.forget_if_unused(key);
            }
        }
    }

    /// Whether more connections are open than a lowered limit allows, those that are closing not
    /// counted, so that one of this key has to go.
    #[cold]
    pub(super) fn is_surplus(&self, key: KeyId) -> bool {
        limits::key_is_above(&self.keys[key], &self.policy)
            || limits::pool_is_above(&self.policy, &self.status)
    }

    /// Whether this key, or all starved keys together, lack more places than connections that are leaving,
    /// or in a look, will free.
    pub(super) fn looks_do_not_suffice(&self, key: KeyId) -> bool {
        let going = self.status.closing + self.dials.stopping();
        let needed = self.starved.needed().max(self.keys[key].queue.undialed());
        needed.saturating_sub(going) > self.looks.unclaimed(&self.keys)
    }

    /// Changes the limits. They are checked as a whole, together with the rest of the policy.
    ///
    /// - More room: dials for waiters start at once, keys in turn; floors are refilled.
    /// - Less room: what is idle beyond it is closed at once, the longest idle first (beyond
    ///   `max_idle_per_key` the one `idle_overflow` names). A leased connection is closed when it
    ///   comes back, as long as more are open than allowed; a shared one takes no new leases from
    ///   the first that comes back, and ends with the last. Dials in progress are not stopped.
    /// - `max_leases_per_connection` holds for live connections, too: leases beyond it stay.
    /// - `max_open` or `max_open_per_key` of 0 pauses the pool: nothing is dialed, what is open ends as
    ///   above, and acquires wait, each until its deadline ([`AtLimit::Fail`](crate::policy::AtLimit):
    ///   fail). Raising it again serves those that wait.
    /// - A lowered `max_waiters` sends no waiter away that waits already; a lowered `min_idle` closes
    ///   nothing.
    ///
    /// Costs a walk over all keys and connections.
    ///
    /// # Errors
    /// [`InvalidPolicy`] when the policy with these limits makes no sense; nothing has changed then.
    pub fn set_limits(&mut self, limits: Limits, now: Timestamp) -> Result<(), InvalidPolicy> {
        let policy = self.policy.clone().with_limits(limits);
        policy.validate_running()?;
        let before = std::mem::replace(&mut self.policy, policy).limits();
        let had_global_idle = self.rules.global_idle;
        self.rules = Precomputed::new(&self.policy);
        if self.rules.global_idle != had_global_idle {
            self.rebuild_all_idle();
        }
        self.set_allowances();
        if self.closed {
            return Ok(());
        }
        self.close_surplus(now);
        if limits.max_leases_per_connection != before.max_leases_per_connection {
            self.cap_leases(now);
        }
        self.set_floors(before.min_idle, now);
        self.shrink_reserves(now);
        self.serve_in_turn(now);
        let keys: Vec<KeyId> = self.keys.ids().collect();
        for key in keys {
            // Something done for another may have made the pool forget it.
            if self.keys.contains(key) {
                self.room_appeared(key, now);
            }
        }
        Ok(())
    }

    /// The limit on open connections that this caller waits for: the name of the field in the policy, and
    /// its value. `None` while a dial of its key is in progress, which it may wait for as well; and when a
    /// connection that is being looked at is about to serve it, or to make way for it.
    pub fn limit_reached(&self, waiter: WaiterId) -> Option<(&'static str, u32)> {
        let waiter = self.waiters.get(waiter).filter(|waiter| waiter.waits())?;
        let entry = self.keys.get(waiter.key).filter(|entry| entry.dials.in_progress() == 0)?;
        if !self.looks.is_empty() && self.looks.of(waiter.key) >= entry.queue.undialed() {
            return None;
        }
        let reached = |name, max: Option<u32>, open: u32| {
            max.filter(|max| open >= *max).map(|max| (name, max))
        };
        reached("max_open_per_key", self.policy.max_open_per_key, entry.open).or_else(|| {
            reached("max_open", self.policy.max_open, self.status.open)
                .filter(|_| self.looks.is_empty() || self.looks_do_not_suffice(waiter.key))
        })
    }

    /// The list over all keys, which is kept only where a limit needs it.
    fn rebuild_all_idle(&mut self) {
        while let Some(id) = self.all_idle.front(&self.connections) {
            self.all_idle.remove(&mut self.connections, id, Connection::in_all);
        }
        if self.rules.global_idle {
            let mut idle: Vec<(Timestamp, u64, ConnectionId)> = self
                .connections
                .iter()
                .filter(|(_, c)| c.phase == Phase::Live && c.in_key.is_linked())
                .map(|(id, c)| (c.idle_since, c.serial, id))
                .collect();
            idle.sort_unstable_by_key(|(since, serial, _)| (*since, *serial));
            for (_, _, id) in idle {
                self.all_idle.push_back(&mut self.connections, id, Connection::in_all);
            }
        }
    }

    /// Notes for each key and the pool how many may be open beyond the limit.
    fn set_allowances(&mut self) {
        self.allowance.set(self.status.open, self.policy.max_open);
        self.above_limits = u32::from(self.allowance.is_used());
        for entry in self.keys.values_mut() {
            entry.allowance.set(entry.open, self.policy.max_open_per_key);
            self.above_limits += u32::from(entry.allowance.is_used());
        }
    }

    /// Closes what is idle beyond the limits.
    fn close_surplus(&mut self, now: Timestamp) {
        let keys: Vec<KeyId> = self.keys.ids().collect();
        for key in keys {
            while limits::key_is_above(&self.keys[key], &self.policy)
                && let Some(id) = self.keys[key].idle.front(&self.connections)
            {
                self.begin_close(id, CloseCause::OverLimit, now);
            }
        }
        while limits::pool_is_above(&self.policy, &self.status)
            && let Some(id) = self.all_idle.front(&self.connections)
        {
            self.begin_close(id, CloseCause::OverLimit, now);
        }
        let keys: Vec<KeyId> = self.keys.ids().collect();
        for key in keys {
            while self.policy.max_idle_per_key.is_some_and(|max| self.keys[key].idle.len() > max) {
                let idle = &self.keys[key].idle;
                let id = match self.policy.idle_overflow {
                    // The limit leaves those that it would have left had it held before.
                    IdleOverflow::CloseReturned => idle.back(&self.connections),
                    IdleOverflow::CloseOldest => idle.front(&self.connections),
                };
                self.begin_close(id.expect("more than none"), CloseCause::IdleLimit, now);
            }
        }
        while self.policy.max_idle.is_some_and(|max| self.status.idle > max)
            && let Some(id) = self.all_idle.front(&self.connections)
        {
            self.begin_close(id, CloseCause::Evicted, now);
        }
    }

    /// The cap on leases changed: what each peer allows, below the new cap.
    fn cap_leases(&mut self, now: Timestamp) {
        if L::SHARED {
            let live: Vec<ConnectionId> = self.live_connections().collect();
            for id in live {
                // Room for one may have closed another, in favour of a key that starved.
                if self.connections.get(id).is_some_and(|c| c.phase == Phase::Live) {
                    self.apply_capacity(id, now);
                }
            }
        }
    }

    /// The floor of every key the pool knows.
    fn set_floors(&mut self, before: u32, now: Timestamp) {
        for entry in self.keys.values_mut() {
            entry.floor.change(before, &self.policy, now);
        }
    }

    /// Starts what waiters are owed, one dial for each key in turn: those first that the limit over
    /// all keys had held back, in their order.
    fn serve_in_turn(&mut self, now: Timestamp) {
        let mut turn = self.starved.drain(&mut self.keys);
        for (key, entry) in self.keys.iter_mut() {
            // Keys that are held back again starve again, in the order of their turns.
            if !StarvedKeys::forget(entry) && entry.queue.has_undialed() {
                turn.push_back(key);
            }
        }
        while let Some(key) = turn.pop_front() {
            if self.keys.contains(key) && self.serve_room_once(key, now) {
                turn.push_back(key);
            }
        }
    }
}
