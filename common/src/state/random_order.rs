//! `idle_order=random`: the connections of a key that could be lent, in no order, and the one of them that
//! is lent next.
//!
//! The lists of idle connections stay in the order of time beside this, because limits and timeouts
//! close the longest idle. Joining, leaving and drawing are O(1), and out of line: inlined, they
//! made exclusive leases of the other orders a tenth dearer (`performance -- alone`).

use std::hash::Hash;

use super::{Connection, ConnectionId, KeyId, State};
use crate::lending::Lend;

/// In place of an index, in a connection that is not among those to be lent.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Below this capacity the memory is kept.
const SMALL: usize = 64;

#[derive(Debug, Default)]
pub(super) struct RandomOrder {
    ids: Vec<ConnectionId>,
    /// Drawn after each lease, so that asking twice which connection is next has one answer.
    draw: u64,
}

impl RandomOrder {
    /// The one that is lent next.
    #[cold]
    pub(super) fn first(&self) -> Option<ConnectionId> {
        // The upper half of the product: below the length, and as good as uniform.
        let place = (u128::from(self.draw) * self.ids.len() as u128) >> 64;
        self.ids.get(usize::try_from(place).ok()?).copied()
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A connection of the key was lent: another draw decides about the next.
    #[cold]
    pub(super) fn draw_again(&mut self, key: KeyId) {
        self.keys[key].random.draw = self.rng.u64(..);
    }

    /// A connection can be lent from now on.
    #[cold]
    pub(super) fn join_random(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        debug_assert_eq!(connection.random_at(), NOWHERE, "it joins once");
        let key = connection.key;
        let random = &mut self.keys[key].random;
        let was_empty = random.ids.is_empty();
        connection.set_random_at(random.ids.len() as u32);
        random.ids.push(id);
        if was_empty {
            self.draw_again(key);
        }
    }

    /// A connection cannot be lent any more; nothing happens when it could not before.
    #[cold]
    pub(super) fn leave_random(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let place = connection.set_random_at(NOWHERE);
        if place == NOWHERE {
            return;
        }
        let ids = &mut self.keys[connection.key].random.ids;
        ids.swap_remove(place as usize);
        if let Some(&moved) = ids.get(place as usize) {
            self.connections[moved].set_random_at(place);
        }
        if ids.capacity() > SMALL && ids.len() < ids.capacity() / 4 {
            ids.shrink_to(ids.capacity() / 2);
        }
    }

    /// That the connections among which is drawn are those that can be lent.
    pub(super) fn check_random(&self) -> Result<(), String> {
        let can_be_lent = |connection: &Connection<L>| match L::SHARED {
            true => connection.in_room,
            false => {
                super::connection::Phase::Live == connection.phase && connection.in_key.is_linked()
            }
        };
        for (id, connection) in self.connections.iter() {
            let expected = self.rules.random && can_be_lent(connection);
            let ids = &self.keys[connection.key].random.ids;
            let found = ids.get(connection.random_at() as usize) == Some(&id);
            if found != expected || (connection.random_at() != NOWHERE) != expected {
                return Err(format!("{id:?} is drawn from: {found}, can be lent: {expected}"));
            }
        }
        let drawn_from = self.keys.values().map(|entry| entry.random.ids.len()).sum::<usize>();
        let placed = self.connections.values().filter(|c| c.random_at() != NOWHERE).count();
        if drawn_from != placed {
            return Err(format!("{drawn_from} are drawn from, {placed} say so"));
        }
        Ok(())
    }
}
