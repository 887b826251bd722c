//! A caller waits, or is refused; a waiter is granted something, or leaves its queues.

use std::hash::Hash;

use super::expiry::AT_A_TIME;
use super::limits::Obstacle;
use super::waiter::Waiter;
use super::{Answer, ConnectionId, KeyId, Refusal, State, WaiterId, Want, limits};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, AtLimit, Dial};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A new waiter that a returned connection can serve, and that no dial is in progress for.
    pub(super) fn wait_for_anything(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        let mut waiter = self.new_waiter(key, fresh);
        let entry = &mut self.keys[key];
        if entry.dials.in_progress() > 0 {
            waiter.set_came_after(self.dials.serial());
        }
        entry.queue.join(&mut self.waiters, waiter, self.policy.waiter_order)
    }

    /// A new waiter that depends on a dial of its own only.
    pub(super) fn wait_for_dial(&mut self, key: KeyId, fresh: bool) -> WaiterId {
        let waiter = self.new_waiter(key, fresh);
        self.keys[key].queue.join_for_dial(&mut self.waiters, waiter)
    }

    fn new_waiter(&mut self, key: KeyId, fresh: bool) -> Waiter<L, E, W> {
        self.status.waiting += 1;
        self.counts.waited += 1;
        let mut waiter = Waiter::new(key);
        if fresh {
            waiter.insist_on_fresh();
        }
        waiter
    }

    /// Joins the queue, when every place of the key is taken by a connection and the policy is to wait,
    /// however many callers do.
    #[inline(always)]
    pub(super) fn wait_plain(
        &mut self,
        key: &K,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Option<WaiterId> {
        let recent = self.keys.recent();
        let is_plain = self.is_plain() && self.rules.queues_at_limit && !self.closed;
        let entry = self.keys.get_mut(recent).filter(|entry| is_plain && entry.key == *key)?;
        if entry.open < self.rules.max_open_per_key
            || entry.dials.in_progress() > 0
            || entry.dials.has_orphans()
            || (self.rules.floor && entry.floor.is_asleep())
        {
            return None;
        }
        if self.rules.notes_demand {
            entry.floor.note_demand(now);
        }
        let mut waiter = Waiter::new(recent);
        let in_order = self.deadlines.place(&self.waiters, deadline);
        if let Some(link) = in_order {
            waiter.in_deadlines = link;
            waiter.deadline = deadline;
        }
        let id = entry.queue.join_in_order(&mut self.waiters, waiter);
        self.status.waiting += 1;
        self.counts.waited += 1;
        if in_order.is_some() {
            self.deadlines.note_appended(&mut self.waiters, id);
            self.note_deadline(deadline);
        } else {
            self.watch_waiter(id, deadline);
        }
        Some(id)
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
            self.grant(id, Answer::TimedOut);
            self.replace_if_hanging(key, now);
            self.relieve_starving(now);
            self.refill_for_leaver(key, now);
        }
    }

    /// Takes a waiter out of every queue, and its dial from it. `grant` is what it gets instead.
    ///
    /// Returns the dial, which has lost its waiter.
    pub(super) fn leave_queues(
        &mut self,
        id: WaiterId,
        grant: Option<Answer<L, E>>,
    ) -> Option<ConnectionId> {
        let key = self.waiters[id].key;
        let entry = &mut self.keys[key];
        let dial = entry.queue.leave(&mut self.waiters, id, grant);
        if !entry.queue.has_undialed() {
            entry.dials.end_set_aside(&mut self.dials, &mut self.connections);
        }
        self.deadlines.forget(&mut self.waiters, id);
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
        let is_detached = self.policy.dial == Dial::Detached;
        entry.queue.tie(&mut self.waiters, waiter, is_detached);
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
        let looks = self.looks.of(key) as usize;
        let ids = self.keys[key].queue.undialed_ids(&self.waiters).take(looks);
        for id in ids.collect::<Vec<_>>() {
            self.tickets += 1;
            self.waiters[id].number(self.tickets);
        }
    }

    /// The dial of a waiter failed, and the waiter goes on waiting.
    pub(super) fn untie(&mut self, waiter: WaiterId, now: Timestamp) {
        let key = self.waiters[waiter].key;
        self.keys[key].queue.untie(&mut self.waiters, waiter, self.policy.waiter_order);
        self.count_need(key);
        // What became idle while it depended on its dial serves it now.
        while self.keys[key].queue.wants_returns()
            && let Some(lent) = self.lend_idle(key, now)
        {
            let next =
                self.keys[key].queue.next(&self.waiters, &mut self.rng).expect("a caller waits");
            self.grant(next, Answer::Lend(lent));
        }
    }

    /// Gives a waiter what it waited for, or an error.
    pub(super) fn grant(&mut self, id: WaiterId, grant: Answer<L, E>) {
        let lent = matches!(grant, Answer::Lend(_));
        if let Some(dial) = self.leave_queues(id, Some(grant))
            && lent
        {
            self.outrun(dial);
        }
        self.wakes.push_back(id);
    }

    /// Callers that wait for room would wait for a pause, with nothing that could come back. Those
    /// that have waited for a dial which `failed` (its serial number) are refused; the others only when
    /// the pause is too long to be waited for.
    pub(super) fn refuse_hopeless(&mut self, key: KeyId, failed: Option<u64>, now: Timestamp) {
        let fails = self.policy.after_failed_dial;
        let patient = self.policy.wait_for_ready && fails == AfterFailedDial::BackOff;
        if fails == AfterFailedDial::Tell || patient || !self.keys[key].queue.has_undialed() {
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
        while let Some(id) = self.keys[key].queue.first_undialed(&self.waiters) {
            let has_waited = failed.is_some_and(|serial| self.waiters[id].waited_for(serial));
            if is_short && !has_waited {
                break;
            }
            self.grant(id, Answer::Refuse(refusal.clone()));
        }
    }

    /// All waiters of a key that could use a connection try again.
    pub(super) fn wake_all(&mut self, key: KeyId) {
        while let Some(id) = self.keys[key].queue.next(&self.waiters, &mut self.rng) {
            self.grant(id, Answer::Retry);
        }
    }

    /// Why an acquire may not even wait.
    pub(super) fn refusal(
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
        if owed > entry.queue.undialed() {
            return None;
        }
        match obstacle {
            Obstacle::KeyFull | Obstacle::PoolFull | Obstacle::Ramp => {
                // A place that is about to be free, or that an idle connection can make, and a
                // dial that serves many, are worth waiting for. One place is worth that for one caller only:
                // any other caller would be refused late.
                let coming = entry.closing + entry.dials.stopping() + entry.dials.refilling();
                let before = entry.queue.undialed().saturating_sub(self.looks.of(key));
                let soon = coming.saturating_add(owed) > before
                    || (L::SHARED && entry.dials.in_progress() > 0)
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
                        .queue
                        .undialed()
                        .saturating_sub(owed)
                        .saturating_sub(soon_served)
                        .saturating_sub(self.looks.of(key))
                        >= limit =>
            {
                Some(Refusal::TooManyWaiters { limit })
            }
            _ => None,
        }
    }

    /// Whether a look that is about to end gives one more caller what it asks for at a limit: a
    /// connection of its key, or one that makes way for a new one.
    fn is_back_soon(&self, key: KeyId, obstacle: Obstacle) -> bool {
        match obstacle {
            Obstacle::PoolFull => {
                let going = self.status.closing + self.dials.stopping();
                self.looks.unclaimed(&self.keys) > self.starved.needed().saturating_sub(going)
            }
            _ => self.looks.of(key) > self.keys[key].queue.undialed(),
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
    pub fn take_grant(&mut self, id: WaiterId) -> Option<Answer<L, E>> {
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
