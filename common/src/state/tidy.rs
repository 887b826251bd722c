//! Memory is given back after a spike: a pool that once had a million keys is no larger afterwards than one
//! that had a hundred.
//!
//! The maps of entries give back the free slots at their ends whenever an entry goes, see
//! [`SlotMap`](crate::collections::slot_map::SlotMap). A timer does the rest here, a bounded part at a time. An entry keeps its place while it lives, so that one which came in a spike and stays can keep
//! the memory before it.

use std::hash::Hash;
use std::time::Duration;

use super::State;
use crate::clock::Timestamp;
use crate::lending::Lend;

/// How many slots of each map are given back at a time.
const AT_A_TIME: usize = 16_384;

/// Smaller collections are left as they are, and only this many entries, times four, are moved at once.
const KEPT: usize = 1024;

const PAUSE: Duration = Duration::from_millis(100);

/// Whether a collection has room for many more entries than it has, which are few enough to be moved.
fn is_roomy(capacity: usize, len: usize) -> bool {
    capacity > 8 * len + 4 * KEPT && len <= 4 * KEPT
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// No connection is left: neither are the times when one ends.
    pub(super) fn forget_ends(&mut self) {
        for ends in [&mut self.lifetimes, &mut self.idle_limits] {
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
        self.keys.give_back(AT_A_TIME);
        self.connections.give_back(AT_A_TIME);
        self.waiters.give_back(AT_A_TIME);
        macro_rules! shrink {
            ($($collection:ident),+) => {$(
                if is_roomy(self.$collection.capacity(), self.$collection.len()) {
                    self.$collection.shrink_to(2 * self.$collection.len() + KEPT / 2);
                }
            )+};
        }
        shrink!(timers, lifetimes, idle_limits, actions, wakes, starved, hungry, index);
        self.plan_tidy(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::{Exclusive, Lending};
    use crate::policy::{Dial, Expiry, Policy};
    use crate::state::{Acquire, Action, Fitness, Want};

    type Pool = State<u32, Exclusive<u32>, ()>;

    fn settle(pool: &mut Pool, now: Timestamp) {
        while let Some(action) = pool.poll_action() {
            if let Action::Close { id, .. } = action {
                pool.closed(id, now);
            }
        }
    }

    fn use_key(pool: &mut Pool, key: u32, now: Timestamp) {
        let Acquire::Dial(id) = pool.acquire(&key, Want::default(), now) else {
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
                pool.index.capacity(),
                pool.timers.capacity(),
                pool.lifetimes.capacity(),
                pool.actions.capacity(),
            ];
            assert!(room.iter().all(|room| *room <= 8 * KEPT), "{expiry:?}: {room:?}");
            assert_eq!(pool.known_keys(), 0);
        }
    }
}
