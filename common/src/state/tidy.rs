//! Memory is given back after a spike: a pool that once had a million keys is no larger afterwards than one
//! that had a hundred.
//!
//! The maps of entries give back the free slots at their ends whenever an entry goes, see
//! [`SlotMap`](crate::slot_map::SlotMap). A timer does the rest here, a bounded part at a time. An entry keeps its place while it lives, so that one which came in a spike and stays can keep
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
    /// Gives back memory that is not needed any more, and says when to go on.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.tidy_at = Timestamp::NEVER;
        let parts = [
            self.keys.give_back(AT_A_TIME),
            self.connections.give_back(AT_A_TIME),
            self.waiters.give_back(AT_A_TIME),
        ];
        macro_rules! shrink {
            ($($collection:ident),+) => {$(
                if is_roomy(self.$collection.capacity(), self.$collection.len()) {
                    self.$collection.shrink_to(2 * self.$collection.len() + KEPT / 2);
                }
            )+};
        }
        shrink!(timers, lifetimes, idle_limits, actions, wakes, starved, hungry);
        // This hashes keys, which may panic: last.
        shrink!(index);
        if parts.contains(&true) && !self.closed {
            self.tidy_at = now.after(PAUSE);
            self.note_deadline(self.tidy_at);
        }
    }
}
