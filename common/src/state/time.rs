//! Time passes: [`handle_timeout`](State::handle_timeout) does what is due, and
//! [`next_deadline`](State::next_deadline) says when something is due next.
//!
//! # Memory after a spike
//!
//! A pool that once had a million keys is no larger afterwards than one that had a hundred. The maps of
//! entries give back the free slots at their ends whenever an entry goes, see
//! [`SlotMap`](crate::collections::slot_map::SlotMap). A timer does the rest here, a bounded part at a
//! time. An entry keeps its place while it lives, so that one which came in a spike and stays can keep
//! the memory before it.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::expiry::AT_A_TIME;
use super::{KeyId, State};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::Expiry;

/// How many slots of each map are given back at a time.
const SLOTS_AT_A_TIME: usize = 16_384;

/// Smaller collections are left as they are, and only this many entries, times four, are moved at once.
const KEPT: usize = 1024;

const PAUSE: Duration = Duration::from_millis(100);

/// Whether a collection has room for many more entries than it has, which are few enough to be moved.
fn is_roomy(capacity: usize, len: usize) -> bool {
    capacity > 8 * len + 4 * KEPT && len <= 4 * KEPT
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// When [`handle_timeout`](State::handle_timeout) has something to do, if nothing else happens
    /// before; [`Timestamp::NEVER`] when it has not. May be early, never late.
    pub fn next_deadline(&mut self) -> Timestamp {
        self.noted_deadline = Timestamp::NEVER;
        if self.connections.is_empty() {
            self.forget_ends();
        }
        let timer = self.timers.peek().map_or(Timestamp::NEVER, |Reverse((at, _))| *at);
        let end = self.ends.next_due(self.status.idle, &self.policy);
        timer.min(end).min(self.next_expiry()).min(self.tidy_at)
    }

    /// Does what is due at `now`. A bounded number of timers is handled in one call; the others are due
    /// at once again, so that no thread waits long for the lock.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.timed_until = self.catch_up(now);
        self.expire_waiters(now);
        if self.ends.is_sweep_due(&self.policy, now) {
            let done = self.sweep_idle(now) && self.expire_lifetimes(now);
            self.ends.end_sweep(done, &self.policy, now);
        } else if self.policy.expiry == Expiry::Timer {
            self.expire_lifetimes(now);
        }
        self.expire_idle_limits(now);
        for _ in 0..AT_A_TIME {
            let Some(&Reverse((at, key))) = self.timers.peek().filter(|next| next.0.0 <= now)
            else {
                break;
            };
            self.timers.pop();
            // An earlier one has replaced it, or the key was forgotten.
            if self.keys.get(key).is_some_and(|entry| entry.timer_at == at) {
                self.keys[key].timer_at = Timestamp::NEVER;
                self.key_timeout(key, now);
            }
        }
        self.tidy(now);
    }

    fn key_timeout(&mut self, key: KeyId, now: Timestamp) {
        let all_pruned = !self.rules.timed_idle || self.prune_some(key, now);
        let Some(entry) = self.keys.get_mut(key) else { return };
        entry.pace.end_second_if_due(now);
        let pause_is_over = entry.backoff.paused_until() <= now;
        self.mark_overdue(key, now);
        if pause_is_over && self.is_paused(key, now) && !self.keys[key].backoff.is_denied() {
            self.probe(key, now);
        }
        // Also before that time: a pause beside connections that work ends with the last of these.
        self.serve_room(key, now);
        self.refill(key, now);
        let entry = &mut self.keys[key];
        let hedge_at = entry.dials.next_overdue(&self.connections, &self.policy);
        if entry.dials.in_progress() == 0 {
            entry.backoff.forget_if_due(now);
        }
        let longest_idle = entry.idle.front(&self.connections).filter(|_| self.rules.timed_idle);
        let idle_end = longest_idle
            .map_or(Timestamp::NEVER, |id| self.rules.idle_end(self.connections[id].idle_since));
        let second_ends = entry.pace.second_ends();
        let pending = [
            if all_pruned { idle_end } else { now.after(Duration::from_nanos(1)) },
            entry.backoff.paused_until(),
            entry.floor.refill_at(),
            entry.backoff.remember_until(),
            second_ends,
            hedge_at,
        ];
        if let Some(&next) = pending.iter().filter(|at| **at > now).min() {
            self.set_timer(next, key);
        }
        self.forget_if_unused(key);
        // A dial that has just become overdue may be in the way of another key.
        self.relieve_starving(now);
    }

    /// No connection is left: neither are the times when one ends.
    pub(super) fn forget_ends(&mut self) {
        for ends in self.ends.heaps() {
            ends.clear();
            if is_roomy(ends.capacity(), 0) {
                ends.shrink_to(KEPT);
            }
        }
    }

    /// A connection has ended, and with it, perhaps, the last of a spike.
    pub(super) fn plan_tidy(&mut self, now: Timestamp) {
        let spare = self.keys.has_spare() || self.connections.has_spare();
        if spare && self.tidy_at == Timestamp::NEVER && !self.closed {
            self.tidy_at = now.after(PAUSE);
            self.note_deadline(self.tidy_at);
        }
    }

    /// Gives back memory that is not needed any more, and says when to go on.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.tidy_at = Timestamp::NEVER;
        self.keys.give_back(SLOTS_AT_A_TIME);
        self.connections.give_back(SLOTS_AT_A_TIME);
        self.waiters.give_back(SLOTS_AT_A_TIME);
        macro_rules! shrink {
            ($($collection:ident),+) => {$(
                if is_roomy(self.$collection.capacity(), self.$collection.len()) {
                    self.$collection.shrink_to(2 * self.$collection.len() + KEPT / 2);
                }
            )+};
        }
        shrink!(timers, actions, wakes, denied_floors);
        for ends in self.ends.heaps() {
            if is_roomy(ends.capacity(), ends.len()) {
                ends.shrink_to(2 * ends.len() + KEPT / 2);
            }
        }
        let index = self.keys.index();
        if is_roomy(index.capacity(), index.len()) {
            index.shrink_to(2 * index.len() + KEPT / 2);
        }
        let starved = self.starved.queue();
        if is_roomy(starved.capacity(), starved.len()) {
            starved.shrink_to(2 * starved.len() + KEPT / 2);
        }
        self.plan_tidy(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::{Exclusive, Lending};
    use crate::policy::{Dial, Expiry, Policy};
    use crate::state::{Action, Answer, Fitness, Want};

    type Pool = State<u32, Exclusive<u32>, ()>;

    fn settle(pool: &mut Pool, now: Timestamp) {
        while let Some(action) = pool.poll_action() {
            if let Action::Close { id, .. } = action {
                pool.closed(id, now);
            }
        }
    }

    fn use_key(pool: &mut Pool, key: u32, now: Timestamp) {
        let Answer::Dial(id) = pool.acquire(&key, Want::default(), now) else {
            panic!("a key is used once");
        };
        let lent = pool.dialed(id, Exclusive::new(0), 1, now).expect("the caller dialed");
        let _ = pool.release(lent.id, Some(lent.handle), Fitness::Fit, now);
        settle(pool, now);
    }

    #[test]
    fn a_quiet_pool_gives_back_the_memory_of_a_spike() {
        for expiry in [Expiry::Timer, Expiry::Sweep] {
            let policy = Policy { dial: Dial::Caller, expiry, ..Policy::default() };
            let mut pool = Pool::new(policy, 1).expect("a valid policy");
            let mut now = Timestamp::from_nanos(1);
            for key in 0..100_000 {
                use_key(&mut pool, key, now);
            }
            // Nothing but time passes.
            loop {
                let next = pool.next_deadline();
                if next == Timestamp::NEVER {
                    break;
                }
                now = now.max(next);
                pool.handle_timeout(now);
                settle(&mut pool, now);
            }
            let room = [
                pool.keys.capacity(),
                pool.connections.capacity(),
                pool.waiters.capacity(),
                pool.keys.index().capacity(),
                pool.timers.capacity(),
                pool.ends.heaps()[0].capacity(),
                pool.actions.capacity(),
            ];
            assert!(room.iter().all(|room| *room <= 8 * KEPT), "{expiry:?}: {room:?}");
            assert_eq!(pool.known_keys(), 0);
        }
    }

    #[test]
    fn timer_is_served_at_its_time_and_not_before() {
        let second = Duration::from_secs(1);
        let policy = Policy { dial: Dial::Caller, idle_timeout: Some(second), ..Policy::default() };
        let mut pool = Pool::new(policy, 1).expect("a valid policy");
        let now = Timestamp::from_nanos(1);
        use_key(&mut pool, 1, now);
        let due = pool.next_deadline();
        assert_eq!(due, now.after(second).after(Duration::from_nanos(1)));
        pool.handle_timeout(now.after(second));
        assert_eq!((pool.status().idle, pool.next_deadline()), (1, due));
        pool.handle_timeout(due);
        assert_eq!(pool.status().idle, 0);
        assert!(pool.next_deadline() > due);
    }
}
