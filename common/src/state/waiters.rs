//! Who waits, in what order, and how a waiter is granted something or leaves.

use std::hash::Hash;

use super::connection::{DialFor, Phase};
use super::expiry::AT_A_TIME;
use super::keys::Waiter;
use super::{Connection, ConnectionId, Grant, KeyId, State, WaiterId};
use crate::clock::Timestamp;
use crate::collections::SlotMap;
use crate::collections::list::{Link, List};
use crate::lending::Lend;
use crate::policy::{Dial, WaiterOrder};

/// Where a waiter stands in a [`ReturnQueue`].
struct Place {
    link: Link<WaiterId>,
    random_at: Option<usize>,
}

impl Place {
    /// Takes it out of the waiter's entry.
    #[inline]
    fn of<L, E, W>(waiter: &mut Waiter<L, E, W>) -> Self {
        Self { link: std::mem::take(&mut waiter.in_returns), random_at: waiter.take_random_place() }
    }
}

/// The waiters that a returned connection can serve. Joining and leaving are O(1) in every order.
#[derive(Debug, Default)]
pub(super) struct ReturnQueue {
    pub(super) arrival: List<WaiterId>,
    /// In random order instead; made when the policy says so.
    random: Option<Box<Lottery>>,
}

#[derive(Debug, Default)]
struct Lottery(Vec<WaiterId>);

impl ReturnQueue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.arrival.is_empty() && self.random.as_ref().is_none_or(|random| random.0.is_empty())
    }

    fn join<L, E, W>(
        &mut self,
        waiters: &mut SlotMap<WaiterId, Waiter<L, E, W>>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            let random = &mut self.random.get_or_insert_default().0;
            waiters[id].set_random_place(random.len());
            random.push(id);
        } else {
            self.arrival.push_back(waiters, id, Waiter::in_returns);
        }
    }

    /// Joins before those that came later.
    fn rejoin<L, E, W>(
        &mut self,
        waiters: &mut SlotMap<WaiterId, Waiter<L, E, W>>,
        id: WaiterId,
        order: WaiterOrder,
    ) {
        if order == WaiterOrder::Random {
            self.join(waiters, id, order);
        } else {
            let own = waiters[id].ticket();
            let later = |other: &Waiter<L, E, W>| other.ticket() > own;
            self.arrival.insert_before(waiters, id, later, Waiter::in_returns);
        }
    }

    fn leave<L, E, W>(&mut self, waiters: &mut SlotMap<WaiterId, Waiter<L, E, W>>, id: WaiterId) {
        let place = Place::of(&mut waiters[id]);
        self.vacate(waiters, id, place);
    }

    /// As `leave`, of a waiter whose place was taken out of its entry already.
    #[inline]
    fn vacate<L, E, W>(
        &mut self,
        waiters: &mut SlotMap<WaiterId, Waiter<L, E, W>>,
        id: WaiterId,
        place: Place,
    ) {
        if place.link.is_linked() {
            self.arrival.unlink(waiters, id, place.link, Waiter::in_returns);
        } else if let (Some(at), Some(random)) = (place.random_at, &mut self.random) {
            random.0.swap_remove(at);
            if let Some(&moved) = random.0.get(at) {
                waiters[moved].set_random_place(at);
            }
        }
    }

    /// All of them.
    pub(super) fn ids<L, E, W>(
        &self,
        waiters: &SlotMap<WaiterId, Waiter<L, E, W>>,
    ) -> impl Iterator<Item = WaiterId> {
        let random = self.random.iter().flat_map(|random| random.0.iter().copied());
        self.arrival.chain().ids(waiters, |waiter| &waiter.in_returns).chain(random)
    }

    /// Whose turn it is.
    pub(super) fn next<L, E, W>(
        &self,
        waiters: &SlotMap<WaiterId, Waiter<L, E, W>>,
        rng: &mut fastrand::Rng,
    ) -> Option<WaiterId> {
        self.arrival.front(waiters).or_else(|| {
            let random = &self.random.as_ref()?.0;
            (!random.is_empty()).then(|| random[rng.usize(..random.len())])
        })
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A new waiter that a returned connection can serve, and that no dial is in progress for.
    pub(super) fn wait_for_anything(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        let id = self.wait(key, fresh);
        let entry = &mut self.keys[key];
        entry.returns.join(&mut self.waiters, id, self.policy.waiter_order);
        entry.undialed.push_back(&mut self.waiters, id, Waiter::in_dials);
        if entry.dialing > 0 {
            self.waiters[id].set_came_after(self.serial);
        }
        id
    }

    /// A new waiter that depends on a dial of its own only.
    pub(super) fn wait_for_dial(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        let id = self.wait(key, fresh);
        self.keys[key].dependents.push_back(&mut self.waiters, id, Waiter::in_dials);
        id
    }

    fn wait(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        self.keys[key].waiting += 1;
        self.status.waiting += 1;
        self.counts.waited += 1;
        let id = self.waiters.insert(Waiter::new(key));
        if fresh {
            self.waiters[id].insist_on_fresh();
        }
        id
    }

    /// A new waiter is told when its time is up.
    pub(super) fn watch_waiter(&mut self, id: WaiterId, deadline: Timestamp) {
        if deadline == Timestamp::NEVER {
            return;
        }
        self.deadlines.watch(&mut self.waiters, id, deadline);
        self.note_deadline(deadline);
    }

    /// Nobody who waits now is told that its time is up: they look after that themselves. Costs a walk
    /// over those who wait.
    pub fn forget_deadlines(&mut self) {
        self.deadlines.clear(&mut self.waiters);
    }

    /// When the first of those who wait stops waiting.
    pub(super) fn next_expiry(&mut self) -> Timestamp {
        self.deadlines.first(&self.waiters).map_or(Timestamp::NEVER, |(deadline, _)| deadline)
    }

    /// Those whose time is up stop waiting; when there are many, the rest of them at the next call.
    pub(super) fn expire_waiters(&mut self, now: Timestamp) {
        for _ in 0..AT_A_TIME {
            let due = self.deadlines.first(&self.waiters).filter(|first| first.0 <= now);
            let Some((_, id)) = due else { return };
            self.stats.gave_up += 1;
            self.grant(id, Grant::TimedOut);
            self.relieve_starving(now);
        }
    }

    /// Takes a waiter out of every queue, and its dial from it. `grant` is what it gets instead.
    ///
    /// Returns the dial, which has lost its waiter.
    pub(super) fn leave_queues(
        &mut self,
        id: WaiterId,
        grant: Option<Grant<L, E>>,
    ) -> Option<ConnectionId> {
        let waiter = &mut self.waiters[id];
        debug_assert!(waiter.waits(), "a waiter is granted once");
        let key = waiter.key;
        let dial = waiter.set_dial(None);
        let in_dials = std::mem::take(&mut waiter.in_dials);
        let place = Place::of(waiter);
        if let Some(grant) = grant {
            waiter.give(grant);
        }
        self.deadlines.forget(&mut self.waiters, id);
        let entry = &mut self.keys[key];
        entry.returns.vacate(&mut self.waiters, id, place);
        // A waiter that depends on its dial is in `dependents`, one without a dial in `undialed`,
        // one whose dial races in neither.
        if in_dials.is_linked() {
            let queue = if dial.is_none() { &mut entry.undialed } else { &mut entry.dependents };
            queue.unlink(&mut self.waiters, id, in_dials, Waiter::in_dials);
        }
        entry.waiting -= 1;
        self.status.waiting -= 1;
        if entry.starved {
            self.shrink_need(key);
        }
        if let Some(dial) = dial {
            self.orphan(dial);
        }
        dial
    }

    /// A dial in progress has lost its waiter.
    pub(super) fn orphan(&mut self, dial: super::ConnectionId) {
        let Some(connection) = self.connections.get_mut(dial) else { return };
        if connection.phase == Phase::Dialing
            && let DialFor::Waiter(Some(_)) = connection.dial_for()
        {
            connection.set_dial_for(DialFor::Waiter(None));
            let is_overdue = connection.is_overdue();
            let entry = &mut self.keys[connection.key];
            entry.tied.remove(&mut self.connections, dial, Connection::in_key);
            entry.held_up -= u32::from(is_overdue);
            if is_overdue {
                self.join_hanging(dial);
            } else {
                entry.orphans.push_back(&mut self.connections, dial, Connection::in_key);
            }
        }
    }

    /// Makes `dial` the dial of a waiter that had none.
    pub(super) fn tie(&mut self, waiter: WaiterId, dial: super::ConnectionId) {
        let key = self.waiters[waiter].key;
        let entry = &mut self.keys[key];
        entry.undialed.remove(&mut self.waiters, waiter, Waiter::in_dials);
        if self.policy.dial == Dial::Detached {
            // From now on only a dial serves it.
            entry.returns.leave(&mut self.waiters, waiter);
            if !self.waiters[waiter].in_dials.is_linked() {
                entry.dependents.push_back(&mut self.waiters, waiter, Waiter::in_dials);
            }
        }
        if entry.starved {
            self.shrink_need(key);
        }
        self.bind(waiter, dial);
    }

    /// Notes with a waiter which dial is its own.
    pub(super) fn bind(&mut self, waiter: WaiterId, dial: ConnectionId) {
        if !self.looks.is_empty() {
            self.number_waiters_of_looks(self.waiters[waiter].key);
        }
        self.tickets += 1;
        self.waiters[waiter].tie_to(dial, self.tickets);
    }

    /// The waiters that looks are about to serve came before the waiter that gets a dial now, and get their
    /// tickets before it: if its dial fails, it is behind them in the queue.
    fn number_waiters_of_looks(&mut self, key: KeyId) {
        let looks = self.looks_of(key) as usize;
        let undialed = &self.keys[key].undialed;
        let ids = undialed.chain().ids(&self.waiters, |waiter| &waiter.in_dials).take(looks);
        for id in ids.collect::<Vec<_>>() {
            self.tickets += 1;
            self.waiters[id].number(self.tickets);
        }
    }

    /// A waiter that had a dial waits for another one, before those that came later.
    pub(super) fn rejoin_undialed(&mut self, waiter: WaiterId) {
        let entry = &mut self.keys[self.waiters[waiter].key];
        let own = self.waiters[waiter].ticket();
        let later = |other: &Waiter<L, E, W>| other.ticket() > own;
        entry.undialed.insert_before(&mut self.waiters, waiter, later, Waiter::in_dials);
    }

    /// The dial of a waiter failed, and the waiter goes on waiting.
    pub(super) fn untie(&mut self, waiter: WaiterId, now: Timestamp) {
        let key = self.waiters[waiter].key;
        self.waiters[waiter].set_dial(None);
        let entry = &mut self.keys[key];
        if self.waiters[waiter].in_dials.is_linked() {
            entry.dependents.remove(&mut self.waiters, waiter, Waiter::in_dials);
        }
        if !self.waiters[waiter].waits_for_returns() {
            entry.returns.rejoin(&mut self.waiters, waiter, self.policy.waiter_order);
        }
        self.rejoin_undialed(waiter);
        if self.keys[key].starved {
            self.count_need(key);
        }
        // What became idle while it depended on its dial serves it now.
        while !self.keys[key].returns.is_empty()
            && let Some(lent) = self.lend_idle(key, now)
        {
            let next =
                self.keys[key].returns.next(&self.waiters, &mut self.rng).expect("somebody waits");
            self.grant(next, Grant::Lend(lent));
        }
    }

    /// Gives a waiter what it waited for, or an error.
    pub(super) fn grant(&mut self, id: WaiterId, grant: Grant<L, E>) {
        let lent = matches!(grant, Grant::Lend(_));
        if let Some(dial) = self.leave_queues(id, Some(grant))
            && lent
        {
            self.outrun(dial);
        }
        self.wakes.push_back(id);
    }

    /// All waiters of a key that could use a connection try again.
    pub(super) fn wake_all(&mut self, key: KeyId) {
        while let Some(id) = self.keys[key].returns.next(&self.waiters, &mut self.rng) {
            self.grant(id, Grant::Retry);
        }
    }

    /// Keeps something with a waiter: how to tell it, say. The state never looks at it.
    #[inline]
    pub fn attach(&mut self, id: WaiterId, attachment: W) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.attached = Some(attachment);
        }
    }

    /// Takes what was [attached](State::attach) to a waiter. Do so before it is collected or
    /// cancelled, which drops it.
    #[inline]
    pub fn detach(&mut self, id: WaiterId) -> Option<W> {
        self.waiters.get_mut(id)?.attached.take()
    }

    /// All that is attached to waiters.
    pub fn attachments(&self) -> impl Iterator<Item = &W> {
        self.waiters.values().filter_map(|waiter| waiter.attached.as_ref())
    }

    /// Collects what a waiter was granted, which ends it; `None` while it still waits.
    pub fn take_grant(&mut self, id: WaiterId) -> Option<Grant<L, E>> {
        let waiter = self.waiters.get_mut(id)?;
        let grant = waiter.take_grant()?;
        let key = waiter.key;
        self.remove_waiter(id);
        self.forget_if_unused(key);
        Some(grant)
    }

    /// A waiter leaves. What it had been granted and not collected goes to the next.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn cancel(&mut self, id: WaiterId, now: Timestamp) -> Option<L> {
        let waiter = self.waiters.get_mut(id)?;
        let key = waiter.key;
        let leftover = match waiter.take_grant() {
            None => {
                self.stats.gave_up += 1;
                self.leave_queues(id, None);
                // The dial that it waited for may be in the way of another key now.
                self.relieve_starving(now);
                None
            }
            Some(Grant::Lend(lent)) => self.take_back(lent, now),
            Some(Grant::Dial(dial)) => {
                self.dial_failed(dial, None, now);
                None
            }
            Some(Grant::Retry) => {
                // What it was woken for stays idle, perhaps in the way of another key.
                self.relieve_starving(now);
                None
            }
            Some(Grant::DialFailed(_) | Grant::TimedOut | Grant::Refuse(_)) => None,
        };
        self.remove_waiter(id);
        self.forget_if_unused(key);
        leftover
    }

    /// One that has left every queue is gone.
    fn remove_waiter(&mut self, id: WaiterId) {
        let waiter = self.waiters.remove(id);
        debug_assert!(
            waiter.is_some_and(|waiter| !waiter.is_linked()),
            "who goes would leave a hole in a list"
        );
    }
}
