//! A caller waits: it joins the queues of its key, is granted something, or leaves.

use std::hash::Hash;

use super::expiry::AT_A_TIME;
use super::limits::Obstacle;
use super::wait_queue::{Place, Waiter};
use super::{ConnectionId, Grant, KeyId, State, WaiterId};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, Dial};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A new waiter that a returned connection can serve, and that no dial is in progress for.
    pub(super) fn wait_for_anything(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        let id = self.wait(key, fresh);
        let entry = &mut self.keys[key];
        entry.returns.join(&mut self.waiters, id, self.policy.waiter_order);
        entry.undialed.push_back(&mut self.waiters, id, Waiter::in_dials);
        if entry.dials.in_progress() > 0 {
            self.waiters[id].set_came_after(self.dials.serial());
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

    /// No waiter of now is told that its time is up: the shell looks after their deadlines. Costs a walk
    /// over the waiters.
    pub fn forget_deadlines(&mut self) {
        self.deadlines.clear(&mut self.waiters);
    }

    /// When the first waiter stops waiting.
    pub(super) fn next_expiry(&mut self) -> Timestamp {
        self.deadlines.first(&self.waiters).map_or(Timestamp::NEVER, |(deadline, _)| deadline)
    }

    /// Waiters whose time is up stop waiting; when there are many, the rest of them at the next call.
    pub(super) fn expire_waiters(&mut self, now: Timestamp) {
        for _ in 0..AT_A_TIME {
            let due = self.deadlines.first(&self.waiters).filter(|first| first.0 <= now);
            let Some((_, id)) = due else { return };
            self.stats.gave_up += 1;
            let key = self.waiters[id].key;
            self.grant(id, Grant::TimedOut);
            self.replace_if_hanging(key, now);
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
        if entry.undialed.is_empty() {
            entry.dials.end_set_aside(&mut self.dials, &mut self.connections);
        }
        entry.waiting -= 1;
        self.status.waiting -= 1;
        if entry.starvation.is_starved() {
            self.starved.shrink_need(&mut self.keys[key]);
        }
        if let Some(dial) = dial {
            self.orphan(dial);
        }
        dial
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
        if entry.starvation.is_starved() {
            self.starved.shrink_need(&mut self.keys[key]);
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
        self.count_need(key);
        // What became idle while it depended on its dial serves it now.
        while !self.keys[key].returns.is_empty()
            && let Some(lent) = self.lend_idle(key, now)
        {
            let next =
                self.keys[key].returns.next(&self.waiters, &mut self.rng).expect("a caller waits");
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

    /// `grant` takes a waiter without a dial from `undialed`; one whose dial just ended is not there.
    pub(super) fn leave_dependents(&mut self, owner: WaiterId) {
        let key = self.waiters[owner].key;
        if self.waiters[owner].in_dials.is_linked() {
            self.keys[key].dependents.remove(&mut self.waiters, owner, Waiter::in_dials);
        }
    }

    /// Callers that wait for room would wait for a pause, with nothing that could come back. Those
    /// that have waited for a dial which `failed` (its serial number) are refused; the others only when
    /// the pause is too long to be waited for.
    pub(super) fn refuse_hopeless(&mut self, key: KeyId, failed: Option<u64>, now: Timestamp) {
        let fails = self.policy.after_failed_dial;
        let patient = self.policy.wait_for_ready && fails == AfterFailedDial::BackOff;
        if fails == AfterFailedDial::Tell || patient || self.keys[key].undialed.is_empty() {
            return;
        }
        let entry = &self.keys[key];
        let hopeless = entry.open == entry.closing
            || (self.fails_fast(key) && self.obstacle(key, now) == Some(Obstacle::Paused));
        if !hopeless {
            return;
        }
        let Some(refusal) = self.back_off_refusal(key, now) else { return };
        let backoff = &self.keys[key].backoff;
        let is_short = backoff.is_short(&self.policy, Timestamp::NEVER, now);
        while let Some(id) = self.keys[key].undialed.front(&self.waiters) {
            let has_waited = failed.is_some_and(|serial| self.waiters[id].waited_for(serial));
            if is_short && !has_waited {
                break;
            }
            self.grant(id, Grant::Refuse(refusal.clone()));
        }
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

    /// A waiter that has left every queue is gone.
    pub(super) fn remove_waiter(&mut self, id: WaiterId) {
        let waiter = self.waiters.remove(id);
        debug_assert!(
            waiter.is_some_and(|waiter| !waiter.is_linked()),
            "a waiter that goes would leave a hole in a list"
        );
    }
}
