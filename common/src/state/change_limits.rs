//! Limits change while the pool runs: what was held back starts, what is too much ends.
//!
//! No lease is cut off. Above a lowered limit idle connections are closed at once, leased ones when
//! a lease of them comes back, dials end as they would have; until then `open` is above the limit,
//! and it only falls. How far above it may still be is the *allowance*, of each key and of the pool:
//! the number that were open when the limit was lowered, or last fell.

use std::hash::Hash;

use super::connection::{Connection, Phase};
use super::limits::{self};
use super::precomputed::Precomputed;
use super::starved::StarvedKeys;
use super::{ConnectionId, KeyId, State, WaiterId};
use crate::clock::Timestamp;
use crate::error::InvalidPolicy;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{IdleOverflow, Limits};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
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
        if !self.looks.is_empty() && self.looks_of(waiter.key) >= entry.undialed.len() {
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
            if !StarvedKeys::forget(entry) && !entry.undialed.is_empty() {
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
