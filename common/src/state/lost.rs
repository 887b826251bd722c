//! A dial that was lost with the runtime it ran on.

use std::hash::Hash;

use super::connection::DialFor;
use super::{ConnectionId, Grant, State};
use crate::clock::Timestamp;
use crate::event::EventKind;
use crate::lending::Lend;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A dial that the shell was asked for did not end: the runtime it ran on did, or stands still, or
    /// there was none. That says nothing of the peer, so it is no failure of the peer's.
    ///
    /// A waiter that a dial is still owed to is granted leave to dial in its own task. Another task
    /// might be spawned where the first one was; the waiter's own runs where it waits.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dial_lost(&mut self, id: ConnectionId, now: Timestamp) {
        let now = self.catch_up(now);
        let dial_for = self.end_dial(id);
        self.stats.dials_failed += 1;
        self.emit(id, EventKind::DialFailed, now);
        let key = self.connections[id].key;
        self.connections.remove(id);
        self.keys[key].open -= 1;
        self.status.open -= 1;
        self.shrink_allowances(key);
        match dial_for {
            DialFor::Waiter(Some(owner)) => self.untie(owner, now),
            DialFor::Floor => self.retry_floor(key, now),
            _ => self.put_off_hedge(key, dial_for, now),
        }
        let entry = &self.keys[key];
        if entry.failures > 0 {
            // With fail-fast the pause goes on until a probe has succeeded: the next one is due later.
            let look_again = now.after(self.policy.back_off_base);
            self.set_timer(look_again.max(entry.paused_until), key);
        }
        if !self.closed
            && self.obstacle(key, now).is_none()
            && let Some(waiter) = self.keys[key].undialed.front(&self.waiters)
        {
            let dial = self.start_dial(key, DialFor::Caller, now);
            self.grant(waiter, Grant::Dial(dial));
        }
        self.room_appeared(key, now);
    }
}
