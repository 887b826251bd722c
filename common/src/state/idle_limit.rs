//! A connection may not be idle for as long as the policy allows: its peer has said when it closes idle
//! connections (HTTP/1's `Keep-Alive: timeout`), and the pool has to be earlier.
//!
//! The connections of a key are in the order in which they became idle. Their limits do not end in that
//! order when each connection can have another one, so such limits have a heap, with one entry for
//! each such connection.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::connection::Phase;
use super::expiry::AT_A_TIME;
use super::{Connection, ConnectionId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::Expiry;

impl<L> Connection<L> {
    /// When it has been idle for longer than it says it may.
    fn limit_ends(&self) -> Timestamp {
        let end = self.idle_since.as_nanos().saturating_add(self.own_limit());
        Timestamp::from_nanos(end.saturating_add(1))
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Live && self.in_key.is_linked()
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// From now on a connection may be idle for `limit` at most, or for
    /// [`idle_timeout`](crate::Policy::idle_timeout) where that is shorter. The last call counts:
    /// [`Duration::MAX`] takes back an earlier limit, and zero closes the connection as soon as
    /// it would become idle. Nothing happens when it has ended.
    ///
    /// A connection beyond its limit is never lent. It is closed when its time has come, or, with the
    /// policies that have no timer for idle connections ([`Expiry::AtAcquire`],
    /// [`Expiry::PruneAtAcquire`]), when it would be lent.
    pub fn set_idle_limit(&mut self, id: ConnectionId, limit: Duration, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        // Where `idle_timeout` spares the floor, a limit longer than `idle_timeout` counts as well: it is
        // stored as a nanosecond less, so that the long way looks at the connection.
        let notable = self.rules.idle_timeout - u64::from(self.rules.spares_floor);
        connection.set_own_limit(limit);
        connection.idle_limit =
            if limit == u64::MAX { self.rules.idle_timeout } else { limit.min(notable) };
        if !connection.is_idle() {
            return;
        }
        if limit == 0 || connection.limit_ends() <= now {
            self.begin_close(id, CloseCause::IdleTimeout, now);
        } else {
            self.watch_idle_limit(id);
        }
    }

    /// A connection has become idle: its limit is watched, if it has set one.
    #[inline]
    pub(super) fn watch_idle_limit(&mut self, id: ConnectionId) {
        if self.connections[id].idle_limit < self.rules.idle_timeout {
            self.watch_own_limit(id);
        }
    }

    #[cold]
    fn watch_own_limit(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let end = connection.limit_ends();
        let timed = matches!(self.policy.expiry, Expiry::Timer | Expiry::Sweep);
        // An entry that is earlier looks at the connection then, and sets the next.
        if !timed || self.closed || end >= connection.limit_watched() {
            return;
        }
        connection.set_limit_watched(end);
        if is_overgrown(self.idle_limits.len(), self.connections.len()) {
            let connections = &self.connections;
            self.idle_limits.retain(|Reverse((at, id))| {
                connections.get(*id).is_some_and(|connection| connection.limit_watched() == *at)
            });
        }
        self.idle_limits.push(Reverse((end, id)));
        self.note_deadline(end);
    }

    /// Closes the idle connections whose limit has ended.
    pub(super) fn expire_idle_limits(&mut self, now: Timestamp) {
        for _ in 0..AT_A_TIME {
            let next = self.idle_limits.peek().filter(|next| next.0.0 <= now);
            let Some(&Reverse((at, id))) = next else { return };
            self.idle_limits.pop();
            let counts = self.connections.get_mut(id).filter(|c| c.limit_watched() == at);
            let Some(connection) = counts else { continue };
            connection.set_limit_watched(Timestamp::NEVER);
            // A leased one is looked at again when it comes back.
            if !connection.is_idle() {
                continue;
            }
            if connection.limit_ends() <= now {
                self.begin_close(id, CloseCause::IdleTimeout, now);
            } else {
                self.watch_idle_limit(id);
            }
        }
    }
}
