//! What the failed check of one connection says of the others.
//!
//! When a peer has gone silently, every connection to it is dead and none of them knows. Checked
//! one after another, each costs its finder a whole `check_timeout`; so the first failure is taken
//! as evidence against all that were idle beside it.

use std::hash::Hash;

use super::{ConnectionId, State};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::AfterFailedCheck;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A check that began at `began` failed or timed out. Say it before the
    /// [`release`](State::release) of `id`, the connection that was checked, as unfit.
    ///
    /// With [`AfterFailedCheck::Distrust`] the connections of its key that have been idle since
    /// before the check are closed; those that became idle later have worked meanwhile. One that is being
    /// looked at, or that a waiter was granted and has not collected, is closed when it comes back. The acquire
    /// then insists on a fresh one: [`Want::fresh`](super::Want::fresh). Else, and when `id` has
    /// ended, nothing happens.
    pub fn distrust(&mut self, id: ConnectionId, began: Timestamp, now: Timestamp) {
        if self.policy.after_failed_check != AfterFailedCheck::Distrust {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let key = connection.key;
        let after = Timestamp::from_nanos(began.as_nanos().saturating_add(1));
        let distrusted_before = &mut self.keys[key].distrusted_before;
        *distrusted_before = after.max(*distrusted_before);
        // On a coarse clock the check may have begun in the tick in which others became idle. Those
        // go too: a needless dial is cheaper than another check that times out.
        while let Some(longest) = self.keys[key].idle.front(&self.connections)
            && self.connections[longest].idle_since <= began
        {
            self.begin_close(longest, CloseCause::Suspect, now);
        }
    }

    /// Whether a connection that comes back as it went, unused, was idle when a check began that failed
    /// meanwhile.
    pub(super) fn is_suspect(&self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        connection.idle_since < self.keys[connection.key].distrusted_before
    }
}
