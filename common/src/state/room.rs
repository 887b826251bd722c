//! The shared connections of a key that have room for another lease, in the order they were dialed.

use std::collections::BTreeMap;
use std::hash::Hash;

use super::{ConnectionId, State};
use crate::lending::Lend;

/// Looking at the first costs nothing; joining and leaving, which a connection does when its last
/// place is taken or given back, costs the logarithm of how many there are.
#[derive(Debug, Default)]
pub(super) struct Room {
    by_serial: BTreeMap<u64, ConnectionId>,
    /// The one the policy's order puts first.
    first: Option<ConnectionId>,
}

impl Room {
    #[inline]
    pub(super) fn first(&self) -> Option<ConnectionId> {
        self.first
    }

    /// In the order they were dialed.
    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &ConnectionId> {
        self.by_serial.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_serial.len()
    }

    fn choose(&mut self, newest_first: bool) {
        let entry = if newest_first {
            self.by_serial.last_key_value()
        } else {
            self.by_serial.first_key_value()
        };
        self.first = entry.map(|(_, &id)| id);
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A shared connection is found by those who acquire, when it has room.
    #[inline]
    pub(super) fn join_room(&mut self, id: ConnectionId) {
        let connection = &self.connections[id];
        if L::SHARED && !connection.in_room && connection.has_room() {
            self.enter_room(id);
        }
    }

    #[cold]
    fn enter_room(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        connection.in_room = true;
        let room = &mut self.keys[connection.key].room;
        room.by_serial.insert(connection.serial, id);
        room.choose(self.rules.newest_first);
        if self.rules.random {
            self.join_random(id);
        }
    }

    /// A shared connection is not found any more.
    #[cold]
    pub(super) fn leave_room(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        if std::mem::take(&mut connection.in_room) {
            let room = &mut self.keys[connection.key].room;
            room.by_serial.remove(&connection.serial);
            room.choose(self.rules.newest_first);
            if self.rules.random {
                self.leave_random(id);
            }
        }
    }
}
