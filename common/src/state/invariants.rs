//! What is true between any two calls. Tests check it after every step.

use std::fmt::Debug;
use std::hash::Hash;

use super::connection::{Connection, DialFor, Phase};
use super::limits::Obstacle;
use super::starved::StarvedKeys;
use super::waiter::Waiter;
use super::{ConnectionId, State, Status, WaiterId, idle_list};
use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::{Chain, Link, List};
use crate::collections::slot_map::Id;
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
        idle_list::check_random(&self.keys, &self.connections, self.rules.random)?;
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
        if self.policy.max_open.is_some_and(|max| seen.open > max.max(self.allowance.get())) {
            return Err(format!("{} open, above max_open", seen.open));
        }
        let allowances = self.keys.values().map(|entry| entry.allowance.get());
        let above =
            allowances.chain([self.allowance.get()]).filter(|allowance| *allowance > 0).count();
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
                sum.2 + entry.queue.waiting(),
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
        if !self.keys.are_indexed() {
            return Err("a key is remembered but not found, or found but not remembered".into());
        }
        self.starved.check(&self.keys)?;
        let remade = self.keys.values().filter(|entry| !entry.reserve.is_empty()).count();
        if u32::try_from(remade).map_err(|e| e.to_string())? != self.remaking {
            return Err(format!("{remade} floors are remade, {} counted", self.remaking));
        }
        let spent = self.keys.values().filter(|entry| entry.pace.has_spent()).count();
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
            if max_open.is_some_and(|max| entry.open > max.max(entry.allowance.get())) {
                return Err(format!("{} open for one key", entry.open));
            }
            let staying = entry.open - entry.closing;
            if max_open.is_some_and(|max| staying > max) && !entry.idle.is_empty() {
                return Err(format!("some idle while {staying} are open for one key"));
            }
            // An allowance shrinks with what is open, and goes with the last above the limit.
            let above = if max_open.is_some_and(|max| entry.open > max) { entry.open } else { 0 };
            if entry.allowance.get() != above {
                return Err(format!("{} may be open, {} are", entry.allowance.get(), entry.open));
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
                return Err("a caller waits while a connection has room".into());
            }
            // Each caller waits for something: a connection or a dial of the key, a time that is set, or
            // room under the pool's limit.
            let hope = entry.open > 0
                || entry.draining > 0
                || entry.starvation.is_starved()
                || entry.backoff.paused_until() > Timestamp::ZERO
                || entry.pace.counts_dials()
                || self.policy.max_open_per_key == Some(0);
            if entry.queue.waiting() > 0 && !hope {
                return Err("a caller waits and nothing is under way".into());
            }
            // Pauses, closes, overdue dials that are being stopped to make room for a hedge, and
            // the opener's one dial at a time are left out: when they end,
            // the waiters are looked at. A late timer of the key does so as well: time went on
            // at least to the start of its last dial.
            let makes_room = entry.dials.stopping() > 0
                && entry.dials.in_progress() >= 2 * entry.queue.waiting().max(1);
            let rate_holds = entry.pace.rate_holds(&self.policy, Timestamp::ZERO);
            let ramp_holds = entry.pace.ramp_holds(
                entry.live(),
                entry.dials.in_progress(),
                entry.backoff.failures(),
                &self.policy,
                Timestamp::ZERO,
            );
            let may_dial = entry.backoff.paused_until() == Timestamp::ZERO
                && !makes_room
                && entry.timer_at > entry.pace.last_dial_at()
                && entry.closing == 0
                && !self.dials.is_opener_busy()
                && !ramp_holds
                && !rate_holds
                && self.obstacle(id, Timestamp::NEVER).is_none();
            // Waiters for whom a connection is in a look are not dialed for.
            let unserved = entry.queue.undialed() > self.looks.of(id);
            if may_dial && !self.closed && unserved {
                return Err("a caller waits while there is room to dial".into());
            }
            // Waiters that the ramp holds back are looked at again when it ends, if nothing happens before.
            let held = !makes_room
                && self.obstacle(id, entry.pace.last_dial_at()) == Some(Obstacle::Ramp)
                && unserved
                && entry.closing == 0
                && !entry.starvation.is_starved();
            if held
                && !self.dials.is_opener_busy()
                && !self.closed
                && entry.timer_at == Timestamp::NEVER
            {
                return Err("the ramp holds a caller back without an end".into());
            }
            if rate_holds && !self.closed && entry.timer_at > entry.pace.second_ends() {
                return Err("a second of dials has no end".into());
            }
            let of_waiters = self.waiters.values().filter(|w| w.key == id && w.dial().is_some());
            if of_waiters.count() != entry.dials.tied().len() as usize {
                return Err("a dial has lost its waiter, or a waiter its dial".into());
            }
            let held_up = self.connections.values().filter(|c| {
                c.key == id
                    && c.is_overdue()
                    && matches!(c.dial_for(), DialFor::Waiter(Some(_)))
                    && c.phase == Phase::Dialing
            });
            if held_up.count() != entry.dials.held_up() as usize {
                return Err("overdue dials with a waiter are miscounted".into());
            }
            let by_callers = self.connections.values().filter(|c| {
                c.key == id
                    && c.phase == Phase::Dialing
                    && c.is_overdue()
                    && c.dial_for() == DialFor::Caller
            });
            if by_callers.count() != entry.dials.overdue_callers() as usize {
                return Err("overdue dials of callers are miscounted".into());
            }
            if entry.pace.late().max(entry.dials.stopping()) > entry.dials.in_progress() {
                return Err("more dials are late or being stopped than there are".into());
            }
            // Idle connections of other keys make way, as many as starved keys lack places, unless it is
            // the opener that they wait for.
            let starves = entry.starvation.is_starved()
                && !self.dials.is_opener_busy()
                && unserved
                && self.obstacle(id, crate::clock::Timestamp::ZERO) == Some(Obstacle::PoolFull);
            if starves
                && !self.closed
                && StarvedKeys::lacks_nothing(entry)
                && self.status.closing == 0
            {
                return Err("a caller waits for room that is not being made".into());
            }
            if starves && !self.closed && self.status.idle > 0 && self.lacks_room() {
                return Err("a caller waits while an idle connection could make way".into());
            }
            let old = |c: &&Connection<L>| {
                c.key == id
                    && c.phase == Phase::Live
                    && c.retired.is_none()
                    && c.generation < self.generation
            };
            let old_idle = self.connections.values().filter(old).filter(|c| c.leased == 0).count();
            if u32::try_from(old_idle).map_err(|e| e.to_string())? != entry.reserve.idle() {
                return Err(format!("{} old ones idle, {old_idle} seen", entry.reserve.idle()));
            }
            if self.connections.iter().any(|(id, c)| old(&c) && !entry.reserve.ids().contains(&id))
            {
                return Err("an old connection is not in the reserve".into());
            }
            if entry.reserve.idle() > self.policy.min_idle {
                return Err(format!("{} old ones idle, above the floor", entry.reserve.idle()));
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

/// The lists that one kind of link is for, as they are walked.
struct Walk<'a, I, T> {
    map: &'a SlotMap<I, T>,
    link: fn(&T) -> &Link<I>,
    /// The entries that were in one of them.
    listed: Vec<I>,
}

impl<'a, I: Id + Ord + Debug, T> Walk<'a, I, T> {
    fn new(map: &'a SlotMap<I, T>, link: fn(&T) -> &Link<I>) -> Self {
        Self { map, link, listed: Vec::new() }
    }

    /// Walks a list in which only those that `belong` may be. Returns how many are.
    fn chain(
        &mut self,
        what: &str,
        chain: &Chain<I>,
        belongs: impl Fn(&T) -> bool,
    ) -> Result<usize, String> {
        // A broken list may lead in circles.
        let most = self.map.len() + 1;
        let ids: Vec<I> = chain.ids(self.map, self.link).take(most).collect();
        let mut from_back: Vec<I> = chain.ids_from_back(self.map, self.link).take(most).collect();
        from_back.reverse();
        if ids != from_back {
            return Err(format!("{what}: {ids:?} from the front, {from_back:?} from the back"));
        }
        if ids.is_empty() && !chain.is_empty() {
            return Err(format!("{what}: the only one is gone"));
        }
        if let Some(id) = ids.iter().find(|id| !belongs(&self.map[**id])) {
            return Err(format!("{what}: {id:?} does not belong there"));
        }
        self.listed.extend(&ids);
        Ok(ids.len())
    }

    /// As `chain`, of a list that knows how long it is.
    fn list(
        &mut self,
        what: &str,
        list: &List<I>,
        belongs: impl Fn(&T) -> bool,
    ) -> Result<(), String> {
        let found = self.chain(what, list.chain(), belongs)?;
        if found != list.len() as usize {
            return Err(format!("{what}: {found} are in it, {} counted", list.len()));
        }
        Ok(())
    }

    /// All lists were walked: the entries whose link is set are in one of them, once, and no others are.
    fn end(mut self, what: &str) -> Result<(), String> {
        self.listed.sort_unstable();
        let linked = self.map.iter().filter(|(_, entry)| (self.link)(entry).is_linked());
        let mut linked: Vec<I> = linked.map(|(id, _)| id).collect();
        linked.sort_unstable();
        if linked != self.listed {
            return Err(format!("{what}: {:?} are there, {linked:?} say so", self.listed));
        }
        Ok(())
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    pub(super) fn check_lists(&self) -> Result<(), String> {
        self.check_lists_of_waiters()?;
        self.check_lists_of_connections()
    }

    fn check_lists_of_waiters(&self) -> Result<(), String> {
        type Entry<L, E, W> = Waiter<L, E, W>;
        let mut returns = Walk::new(&self.waiters, |w: &Entry<L, E, W>| &w.in_returns);
        let mut dials = Walk::new(&self.waiters, |w: &Entry<L, E, W>| &w.in_dials);
        let mut deadlines = Walk::new(&self.waiters, |w: &Entry<L, E, W>| &w.in_deadlines);
        for (key, entry) in self.keys.iter() {
            let waits = |w: &Entry<L, E, W>| w.key == key && w.waits();
            let (arrival, without_dial, dependents) = entry.queue.lists();
            returns.list("waiters for returns", arrival, waits)?;
            let undialed = |w: &Entry<L, E, W>| waits(w) && w.dial().is_none();
            dials.list("waiters without a dial", without_dial, undialed)?;
            let dependent = |w: &Entry<L, E, W>| waits(w) && w.dial().is_some();
            if let Some(dependents) = dependents {
                dials.list("waiters for their dial", dependents, dependent)?;
            }
        }
        let has_deadline = |w: &Entry<L, E, W>| w.waits() && w.deadline != Timestamp::NEVER;
        deadlines.chain("deadlines in order", &self.deadlines.in_order, has_deadline)?;
        returns.end("waiters for returns")?;
        dials.end("waiters for dials")?;
        deadlines.end("waiters whose deadlines are in order")?;
        let is_lost = |w: &Entry<L, E, W>| !w.waits_for_returns() && !w.in_dials.is_linked();
        let lost = |(_, w): &(WaiterId, &Entry<L, E, W>)| w.waits() && is_lost(w);
        match self.waiters.iter().find(lost) {
            Some((id, _)) => Err(format!("{id:?} waits in no queue")),
            None => Ok(()),
        }
    }

    fn check_lists_of_connections(&self) -> Result<(), String> {
        let mut in_keys = Walk::new(&self.connections, |c: &Connection<L>| &c.in_key);
        let mut in_young = Walk::new(&self.connections, |c: &Connection<L>| c.place_in_young());
        let mut in_all = Walk::new(&self.connections, |c: &Connection<L>| &c.in_all);
        let is_idle = |c: &Connection<L>| c.phase == Phase::Live && c.leased == 0;
        for (key, entry) in self.keys.iter() {
            let idle = |c: &Connection<L>| c.key == key && is_idle(c);
            in_keys.list("idle connections of a key", &entry.idle, idle)?;
            let dialing = |c: &Connection<L>| c.key == key && c.phase == Phase::Dialing;
            in_keys.list("dials of waiters", entry.dials.tied(), dialing)?;
            let in_time = |c: &Connection<L>| dialing(c) && !c.is_overdue();
            in_keys.list("dials that lost their waiters", entry.dials.orphans(), in_time)?;
            let overdue = |c: &Connection<L>| dialing(c) && c.is_overdue();
            in_keys.list("overdue dials without a waiter", entry.dials.hanging(), overdue)?;
            in_young.list("dials that are not overdue", entry.dials.young(), in_time)?;
        }
        in_all.list("idle connections", &self.all_idle, is_idle)?;
        let hangs = |c: &Connection<L>| c.phase == Phase::Dialing && c.is_overdue();
        in_all.list("overdue dials without a waiter, of all keys", self.dials.hanging(), hangs)?;
        let mut hanging = 0;
        for (key, entry) in self.keys.iter() {
            let dials = entry.dials.hanging();
            let aside = dials.chain().ids(&self.connections, |c| &c.in_key);
            let aside = aside.filter(|id| !self.connections[*id].in_all.is_linked()).count();
            if aside > usize::from(self.is_awaited(key)) {
                return Err("a dial is set aside that no waiter needs".into());
            }
            hanging += dials.len() - aside as u32;
        }
        let stopping: u32 = self.keys.values().map(|entry| entry.dials.stopping()).sum();
        if (self.dials.hanging().len(), self.dials.stopping()) != (hanging, stopping) {
            return Err("dials that hang or are being stopped are miscounted".into());
        }
        let idle = if self.rules.global_idle { self.status.idle } else { 0 };
        if self.all_idle.len() != idle {
            return Err(format!("{} idle connections listed, not {idle}", self.all_idle.len()));
        }
        in_keys.end("connections in lists of their keys")?;
        in_young.end("connections in lists of young dials")?;
        in_all.end("connections in the list of all that are idle")
    }
}
