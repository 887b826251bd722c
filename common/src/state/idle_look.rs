//! Looks at idle connections between two leases, so that those whose peer has gone do not stay until
//! the next acquire.

use std::hash::Hash;

use super::entries::Phase;
use super::{Connection, ConnectionId, KeyId, Lent, State};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// How many places the table of connections has, empty ones included.
    pub fn connection_places(&self) -> u32 {
        self.connections.places()
    }

    /// Takes an exclusive connection out that has been idle since `idle_since` or longer, for the
    /// shell to look at. It counts as leased until [`put_back`](State::put_back), and in no counter.
    ///
    /// Goes on from `place`, a place in the table of connections, over at most `places` of them, and
    /// leaves in both how far it came. `None` when nothing more was found there.
    pub fn take_for_look(
        &mut self,
        place: &mut u32,
        places: &mut u32,
        idle_since: Timestamp,
    ) -> Option<Lent<L>> {
        // A shared connection notifies the pool, and while floors are remade the order of idle
        // connections means more than how long they have been idle.
        if L::SHARED || self.closed || self.remaking > 0 {
            return None;
        }
        while *places > 0 {
            *places -= 1;
            let id = self.connections.id_at(*place);
            *place = if *place + 1 < self.connections.places() { *place + 1 } else { 0 };
            let Some(id) = id else { continue };
            let connection = &mut self.connections[id];
            if connection.phase != Phase::Live
                || !connection.in_key.is_linked()
                || connection.idle_since > idle_since
            {
                continue;
            }
            let Some(handle) = L::lend(&mut connection.handle) else { continue };
            connection.leased = 1;
            let link = std::mem::take(&mut connection.in_key);
            let (key, reused) = (connection.key, connection.lent_before);
            self.leave_idle(id, key, link);
            self.status.leased += 1;
            self.status.leases += 1;
            return Some(Lent { id, handle, reused, idle_nanos: 0, was_idle: true });
        }
        None
    }

    /// A connection was looked at. One whose peer has `gone` is closed; another is idle as before, in
    /// its old place, unless something has happened to it, or a waiter has come, meanwhile.
    ///
    /// Returns a handle to drop, outside any lock. Costs a step for each connection of the key that
    /// became idle after it.
    pub fn put_back(&mut self, lent: Lent<L>, gone: bool, now: Timestamp) -> Option<L> {
        let connection = &mut self.connections[lent.id];
        if gone {
            connection.retired.get_or_insert(CloseCause::PeekFailed);
        }
        let (id, key, since) = (lent.id, connection.key, connection.idle_since);
        let entry = &self.keys[key];
        let stays = connection.retired.is_none()
            && now <= connection.expires_at
            && now.nanos_since(since) <= self.rules.idle_timeout
            && !self.closed
            && self.remaking == 0
            && self.above_limits == 0
            && entry.returns.is_empty()
            && entry.idle.len() < self.rules.max_idle_per_key
            && self.policy.max_idle.is_none_or(|max| self.status.idle < max);
        if !stays {
            // An observer hears of a whole lease then.
            let idle_for = now.since(since);
            self.emit(id, EventKind::Leased { reused: lent.reused, idle_for }, now);
            return self.take_back(lent, now);
        }
        let connection = &mut self.connections[id];
        connection.leased = 0;
        connection.handle = Some(lent.handle);
        self.status.leased -= 1;
        self.status.leases -= 1;
        self.idle_again(id, key, since);
        // It was not there to make way.
        self.relieve_starving(now);
        None
    }

    fn idle_again(&mut self, id: ConnectionId, key: KeyId, since: Timestamp) {
        let later = |other: &Connection<L>| other.idle_since > since;
        let entry = &mut self.keys[key];
        entry.idle.push_back(&mut self.connections, id, Connection::in_key);
        entry.idle.move_before(&mut self.connections, id, later, Connection::in_key);
        if self.rules.global_idle {
            self.all_idle.push_back(&mut self.connections, id, Connection::in_all);
            self.all_idle.move_before(&mut self.connections, id, later, Connection::in_all);
        }
        self.status.idle += 1;
        if self.rules.timed_idle {
            // The key's timer may have looked at what was idle meanwhile.
            self.set_timer(self.rules.idle_end(since), key);
        } else if self.rules.swept_idle {
            self.note_deadline(self.next_sweep);
        }
    }
}
