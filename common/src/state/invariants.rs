//! What is true between any two calls. Tests check it after every step.

mod lists;

use std::hash::Hash;

use super::acquire::Obstacle;
use super::connection::{DialFor, Phase};
use super::{ConnectionId, State, Status};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::Dial;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Checks every promise that can be seen in the state. Costs a walk over everything: for tests.
    ///
    /// # Errors
    /// A sentence about the first promise found broken.
    pub fn check_invariants(&self) -> Result<(), String> {
        // First, since what follows walks through them.
        self.check_lists()?;
        self.check_random()?;
        let mut seen = Status::default();
        for connection in self.connections.values() {
            let leased = connection.leased > 0;
            seen.leases += connection.leased;
            match connection.phase {
                Phase::Dialing => seen.dialing += 1,
                Phase::Live if leased => seen.leased += 1,
                Phase::Live => seen.idle += 1,
                Phase::Closing if connection.drained => seen.draining += 1,
                Phase::Closing => seen.closing += 1,
                Phase::Draining => seen.draining += 1,
            }
            if leased && matches!(connection.phase, Phase::Dialing | Phase::Closing) {
                return Err(format!("a {:?} connection is leased", connection.phase));
            }
            if !L::SHARED && connection.leased > 1 {
                return Err("an exclusive connection is leased twice".into());
            }
        }
        seen.open = seen.idle + seen.leased + seen.dialing + seen.closing;
        seen.waiting = u32::try_from(self.waiters.values().filter(|w| w.waits()).count())
            .map_err(|e| e.to_string())?;
        if seen != self.status {
            return Err(format!("status says {:?}, entries say {seen:?}", self.status));
        }
        if self.policy.max_open.is_some_and(|max| seen.open > max.max(self.allowance)) {
            return Err(format!("{} open, above max_open", seen.open));
        }
        let allowances = self.keys.values().map(|entry| entry.allowance);
        let above = allowances.chain([self.allowance]).filter(|allowance| *allowance > 0).count();
        if self.above_limits as usize != above {
            return Err(format!("{above} are above a limit, counted {}", self.above_limits));
        }
        let staying = seen.open - seen.closing;
        if self.policy.max_open.is_some_and(|max| staying > max) && seen.idle > 0 {
            return Err(format!("{} idle while {staying} are open, above max_open", seen.idle));
        }
        if self.policy.max_idle.is_some_and(|max| seen.idle > max) {
            return Err(format!("{} idle, above max_idle", seen.idle));
        }
        let totals = self.keys.values().fold((0, 0, 0, 0), |sum, entry| {
            (
                sum.0 + entry.open,
                sum.1 + entry.idle.len(),
                sum.2 + entry.waiting,
                sum.3 + entry.draining,
            )
        });
        if totals != (seen.open, seen.idle, seen.waiting, seen.draining) {
            return Err(format!("keys add up to {totals:?}, the pool has {seen:?}"));
        }
        if !self.is_sorted(self.all_idle.chain().ids(&self.connections, |c| &c.in_all)) {
            return Err("idle connections are out of order".into());
        }
        if !self.deadlines.are_in_order(&self.waiters) {
            return Err("deadlines of waiters are out of order".into());
        }
        if self.keys.len() != self.index.len() {
            return Err("a key is remembered but not found, or found but not remembered".into());
        }
        let needed: u32 = self.keys.values().map(|entry| entry.needs).sum();
        if needed != self.needed {
            return Err(format!("{needed} places needed, counted {}", self.needed));
        }
        let remade = self.keys.values().filter(|entry| !entry.reserve.is_empty()).count();
        if u32::try_from(remade).map_err(|e| e.to_string())? != self.remaking {
            return Err(format!("{remade} floors are remade, {} counted", self.remaking));
        }
        let spent = self.keys.values().filter(|entry| entry.spent > 0).count();
        if u32::try_from(spent).map_err(|e| e.to_string())? != self.spent_keys {
            return Err(format!(
                "{spent} keys count spent connections, {} counted",
                self.spent_keys
            ));
        }
        self.check_keys()
    }

    /// Whether the longest idle come first.
    fn is_sorted(&self, idle: impl Iterator<Item = ConnectionId>) -> bool {
        idle.is_sorted_by_key(|id| self.connections[id].idle_since)
    }

    fn check_keys(&self) -> Result<(), String> {
        for (id, entry) in self.keys.iter() {
            let max_open = self.policy.max_open_per_key;
            if max_open.is_some_and(|max| entry.open > max.max(entry.allowance)) {
                return Err(format!("{} open for one key", entry.open));
            }
            let staying = entry.open - entry.closing;
            if max_open.is_some_and(|max| staying > max) && !entry.idle.is_empty() {
                return Err(format!("some idle while {staying} are open for one key"));
            }
            // An allowance shrinks with what is open, and goes with the last above the limit.
            let above = if max_open.is_some_and(|max| entry.open > max) { entry.open } else { 0 };
            if entry.allowance != above {
                return Err(format!("{} may be open, {} are", entry.allowance, entry.open));
            }
            if self.policy.max_idle_per_key.is_some_and(|max| entry.idle.len() > max) {
                return Err(format!("{} idle for one key", entry.idle.len()));
            }
            if !self.is_sorted(entry.idle.chain().ids(&self.connections, |c| &c.in_key)) {
                return Err("idle connections of a key are out of order".into());
            }
            let could_serve = self.connections.values().any(|c| c.key == id && c.has_room());
            let waits = self.waiters.values().any(|w| {
                w.key == id
                    && w.waits()
                    && !w.is_fresh()
                    && (w.dial().is_none() || self.policy.dial != Dial::Detached)
            });
            if could_serve && waits {
                return Err("somebody waits while a connection has room".into());
            }
            // Nobody waits for nothing: something of the key must be under way, or a time be set,
            // or the pool's limit stand in the way.
            let hope = entry.open > 0
                || entry.draining > 0
                || entry.starved
                || entry.paused_until > Timestamp::ZERO
                || entry.dials_in_second > 0
                || self.policy.max_open_per_key == Some(0);
            if entry.waiting > 0 && !hope {
                return Err("somebody waits and nothing is under way".into());
            }
            // Pauses, closes, overdue dials that are being stopped to make room for a hedge, and
            // the opener's one dial at a time are left out: when they end,
            // those who wait are looked at. So they are by a timer of the key that is late: time went on
            // at least to the start of its last dial.
            let makes_room = entry.stopping > 0 && entry.dialing >= 2 * entry.waiting.max(1);
            let may_dial = entry.paused_until == Timestamp::ZERO
                && !makes_room
                && entry.timer_at > entry.last_dial_at
                && entry.closing == 0
                && !self.opener_busy
                && !self.ramp_holds(entry, Timestamp::ZERO)
                && !self.rate_holds(entry, Timestamp::ZERO)
                && self.obstacle(id, Timestamp::NEVER).is_none();
            // Waiters for whom a connection is in a look are not dialed for.
            let unserved = entry.undialed.len() > self.looks_of(id);
            if may_dial && !self.closed && unserved {
                return Err("somebody waits while there is room to dial".into());
            }
            // Those the ramp holds back are looked at again when it ends, if nothing happens before.
            let held = !makes_room
                && self.obstacle(id, entry.last_dial_at) == Some(Obstacle::Ramp)
                && unserved
                && entry.closing == 0
                && !entry.starved;
            if held && !self.opener_busy && !self.closed && entry.timer_at == Timestamp::NEVER {
                return Err("the ramp holds somebody back without an end".into());
            }
            let rate_holds = self.rate_holds(entry, Timestamp::ZERO);
            if rate_holds && !self.closed && entry.timer_at > entry.end_of_second() {
                return Err("a second of dials has no end".into());
            }
            let queued = self.starved.iter().filter(|starved| **starved == id).count();
            if queued != entry.starved_before as usize + usize::from(entry.starved) {
                return Err("the queue of starved keys is wrong".into());
            }
            if entry.needs > entry.undialed.len() || (entry.needs > 0 && !entry.starved) {
                return Err(format!("{} places needed for nobody", entry.needs));
            }
            let of_waiters = self.waiters.values().filter(|w| w.key == id && w.dial().is_some());
            if of_waiters.count() != entry.tied.len() as usize {
                return Err("a dial has lost its waiter, or a waiter its dial".into());
            }
            let held_up = self.connections.values().filter(|c| {
                c.key == id
                    && c.is_overdue()
                    && matches!(c.dial_for(), DialFor::Waiter(Some(_)))
                    && c.phase == Phase::Dialing
            });
            if held_up.count() != entry.held_up as usize {
                return Err("overdue dials with a waiter are miscounted".into());
            }
            let by_callers = self.connections.values().filter(|c| {
                c.key == id
                    && c.phase == Phase::Dialing
                    && c.is_overdue()
                    && c.dial_for() == DialFor::Caller
            });
            if by_callers.count() != entry.overdue_callers as usize {
                return Err("overdue dials of callers are miscounted".into());
            }
            if entry.late > entry.dialing || entry.stopping > entry.dialing {
                return Err("more dials are late or being stopped than there are".into());
            }
            // Idle connections of other keys make way, as many as starved keys lack places, unless it is
            // the opener that they wait for.
            let starves = entry.starved
                && !self.opener_busy
                && unserved
                && self.obstacle(id, crate::clock::Timestamp::ZERO) == Some(Obstacle::PoolFull);
            if starves && !self.closed && entry.needs == 0 && self.status.closing == 0 {
                return Err("somebody waits for room that nobody makes".into());
            }
            if starves && !self.closed && self.status.idle > 0 && self.lacks_room() {
                return Err("somebody waits while an idle connection could make way".into());
            }
            let old = |c: &&super::Connection<L>| {
                c.key == id
                    && c.phase == Phase::Live
                    && c.retired.is_none()
                    && c.generation < self.generation
            };
            let old_idle = self.connections.values().filter(old).filter(|c| c.leased == 0).count();
            if u32::try_from(old_idle).map_err(|e| e.to_string())? != entry.old_idle {
                return Err(format!("{} old ones idle, {old_idle} seen", entry.old_idle));
            }
            if self.connections.iter().any(|(id, c)| old(&c) && !entry.reserve.contains(&id)) {
                return Err("an old connection is not in the reserve".into());
            }
            if entry.old_idle > self.policy.min_idle {
                return Err(format!("{} old ones idle, above the floor", entry.old_idle));
            }
            if L::SHARED {
                let room = self.connections.values().filter(|c| c.key == id && c.has_room());
                if room.count() != entry.room.len() {
                    return Err("the list of connections with room is wrong".into());
                }
            }
        }
        Ok(())
    }
}
