//! The short way: an idle connection is lent, and comes back while nobody waits for it.
//!
//! What the long way does comes to this when none of the rarer rules has a say: no limit over all
//! keys, none that was lowered, no floor, no pruning, no sweeps, nobody who listens. So that is one
//! question instead of a dozen, and each connection and key is looked up once, before anything is
//! written.

use std::hash::Hash;

use super::entries::Phase;
use super::list::Link;
use super::{Connection, ConnectionId, Lent, State};
use crate::clock::Timestamp;
use crate::lending::Lending;

/// What there is to lend on the short way.
pub(super) enum Idle<L> {
    Lent(Lent<L>),
    /// Nothing, on any way.
    Nothing,
    /// The long way has to look.
    Unclear,
}

impl<K: Clone + Eq + Hash, L: Lending, E: Clone> State<K, L, E> {
    /// Whether none of the rarer rules has a say.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        let special = self.above_limits | self.remaking | u32::from(self.listening);
        special == 0 && self.rules.plain
    }

    /// Lends the connection that the policy's order puts first, when that is in time.
    #[inline(always)]
    pub(super) fn lend_plain(&mut self, key: &K, now: Timestamp) -> Idle<L> {
        let id = match self.keys.get(self.recent) {
            Some(entry) if self.is_plain() && entry.key == *key => {
                match self.rules.first_of::<L, _, _>(entry) {
                    Some(id) => id,
                    None => return Idle::Nothing,
                }
            }
            _ => return Idle::Unclear,
        };
        let connection = &mut self.connections[id];
        if self.rules.past_its_time(connection, now).is_some() {
            return Idle::Unclear;
        }
        Idle::Lent(self.lend_here(id, self.recent, now))
    }

    /// A lease ends of a sound connection that nobody waits for, unless the long way has to look: then
    /// the handle comes back.
    #[inline(always)]
    pub(super) fn release_plain(
        &mut self,
        id: ConnectionId,
        handle: Option<L>,
        now: Timestamp,
    ) -> Result<Option<L>, Option<L>> {
        let connection = &mut self.connections[id];
        let key = connection.key;
        let entry = &mut self.keys[key];
        let special = self.above_limits | self.remaking | u32::from(self.listening);
        let is_last = connection.leased == 1;
        if special != 0
            || !self.rules.plain
            || !entry.returns.is_empty()
            || connection.phase != Phase::Live
            || connection.retired.is_some()
            || now > connection.expires_at
            || (if L::SHARED { !connection.in_room } else { handle.is_none() })
            || (is_last && entry.idle.len() >= self.rules.max_idle_per_key)
        {
            return Err(handle);
        }
        connection.leased -= 1;
        let leftover = if L::SHARED {
            handle
        } else {
            connection.handle = handle;
            None
        };
        self.status.leases -= 1;
        if !is_last {
            return Ok(leftover);
        }
        connection.idle_since = now;
        connection.in_key = Link::after(entry.idle.back());
        let due = self.rules.idle_end(now);
        // A timer that is pending looks at what is idle then, and sets the next.
        let earliest = self.rules.timed_idle && due < entry.timer_at;
        entry.idle.note_appended(&mut self.connections, id, Connection::in_key);
        self.status.leased -= 1;
        self.status.idle += 1;
        if earliest {
            self.set_timer(due, key);
        }
        Ok(leftover)
    }
}
