//! The lists through the entries: the same from both ends, and of those whose links say so.

use std::fmt::Debug;
use std::hash::Hash;

use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::{Chain, Link, List};
use crate::collections::slot_map::Id;
use crate::lending::Lend;
use crate::state::connection::Phase;
use crate::state::keys::Waiter;
use crate::state::{Connection, State, WaiterId};

/// The lists that one kind of link is for, as they are walked.
struct Walk<'a, I, T> {
    map: &'a SlotMap<I, T>,
    link: fn(&T) -> &Link<I>,
    /// Who was in one of them.
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

    /// All lists were walked: in one of them, once, is whoever's link says so, and nobody else.
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
            returns.list("waiters for returns", &entry.returns.arrival, waits)?;
            let undialed = |w: &Entry<L, E, W>| waits(w) && w.dial().is_none();
            dials.list("waiters without a dial", &entry.undialed, undialed)?;
            let dependent = |w: &Entry<L, E, W>| waits(w) && w.dial().is_some();
            dials.list("waiters for their dial", &entry.dependents, dependent)?;
        }
        let has_deadline = |w: &Entry<L, E, W>| w.waits() && w.deadline != Timestamp::NEVER;
        deadlines.chain("deadlines in order", &self.deadlines.in_order, has_deadline)?;
        returns.end("those who wait for returns")?;
        dials.end("those who wait for dials")?;
        deadlines.end("those whose deadlines are in order")?;
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
            in_keys.list("dials of waiters", &entry.tied, dialing)?;
            let in_time = |c: &Connection<L>| dialing(c) && !c.is_overdue();
            in_keys.list("dials that lost their waiters", &entry.orphans, in_time)?;
            let overdue = |c: &Connection<L>| dialing(c) && c.is_overdue();
            in_keys.list("overdue dials without a waiter", &entry.hanging, overdue)?;
            in_young.list("dials that are not overdue", &entry.young, in_time)?;
        }
        in_all.list("idle connections", &self.all_idle, is_idle)?;
        let hangs = |c: &Connection<L>| c.phase == Phase::Dialing && c.is_overdue();
        in_all.list("overdue dials without a waiter, of all keys", &self.all_hanging, hangs)?;
        let hanging: u32 = self.keys.values().map(|entry| entry.hanging.len()).sum();
        let stopping: u32 = self.keys.values().map(|entry| entry.stopping).sum();
        if (self.all_hanging.len(), self.stopping) != (hanging, stopping) {
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
