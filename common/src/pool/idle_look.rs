//! Looking at idle connections now and then, from the maintenance task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::inner::Core;
use super::slot::{Held, Slot};
use crate::clock::Timestamp;
use crate::manager::Manager;
use crate::state::Lent;

/// How many connections are looked at in one turn at most, each out of the pool for that alone.
const LOOKS: usize = 64;

/// Over how many places of the table of connections a turn goes at most, those that are not idle
/// included.
const PLACES: u32 = 256;

/// After how long the next turn follows, while a round over all connections is not complete: 1,280
/// looks a second at most, however many connections are idle.
const NEXT_TURN: Duration = Duration::from_millis(50);

/// How far the looks have come.
pub(super) struct IdleLook {
    /// When the next turn is due; [`NEVER`](Timestamp::NEVER) while nothing is open.
    pub(super) due: Timestamp,
    /// Where it goes on in the table of connections.
    place: u32,
}

impl Default for IdleLook {
    fn default() -> Self {
        Self { due: Timestamp::NEVER, place: 0 }
    }
}

impl<M: Manager> Core<M> {
    /// A connection was dialed: looks begin, if the manager wants any.
    pub(super) fn begin_looks(&mut self, every: Duration, now: Timestamp) {
        if self.idle_look.due == Timestamp::NEVER && !self.state.is_closed() {
            self.idle_look.due = now.after(every);
            self.state.note_deadline(self.idle_look.due);
        }
    }
}

impl<M: Manager> Inner<M> {
    /// A turn: looks at connections that have been idle since before the last one, and says when the
    /// next is due. The manager is asked without the lock, about one connection after another.
    pub(super) fn look_at_idle(self: &Arc<Self>, every: Duration) {
        let now = self.clock.now();
        // No underflow near the start of a clock.
        let idle_since = Timestamp::ZERO.after(now.since(Timestamp::ZERO.after(every)));
        let mut core = self.lock();
        let all = core.state.connection_places();
        let mut place = if core.idle_look.place < all { core.idle_look.place } else { 0 };
        // Not beyond the end: there the round is complete, and the next one has its own time.
        let mut places = PLACES.min(all - place);
        let mut looks = 0;
        while looks < LOOKS
            && let Some(lent) = core.state.take_for_look(&mut place, &mut places, idle_since, now)
        {
            self.unlock(core);
            looks += 1;
            look_at(lent);
            core = self.lock();
        }
        // Behind the last place follows the first.
        let is_complete = place == 0;
        core.idle_look.place = place;
        core.idle_look.due = if core.state.status().open == 0 || core.state.is_closed() {
            Timestamp::NEVER
        } else {
            now.after(if is_complete { every } else { NEXT_TURN })
        };
        self.unlock(core);
    }
}

/// Asks the manager about one connection, and gives it back. Without the lock: when the manager
/// panics, the slot takes it to discard the connection.
fn look_at<M: Manager>(lent: Lent<Held<M>>) {
    let mut slot = Slot::new(lent, || unreachable!("an exclusive one is in its node"));
    if let Ok(gone) = catch_unwind(AssertUnwindSafe(|| slot.is_broken())) {
        slot.put_back(gone);
    }
}
