//! Which connection of a key is lent next, and how the connections that can be lent are found.
//!
//! Three collections of one key, each kept where the policy asks for it:
//!
//! - the list of idle connections in the order of time, longest idle first. It is always kept, because
//!   limits and timeouts close the longest idle;
//! - [`Room`]: the shared connections with room for another lease, in the order they were dialed;
//! - [`RandomOrder`]: with `idle_order=random`, the connections that can be lent, in no order.

use std::collections::BTreeMap;

use super::ConnectionId;
use super::connection::{Connection, Connections, NOWHERE, Phase};
use super::keys::{Entries, KeyEntry};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::Precomputed;

/// Below this capacity the memory of a random order is kept.
const SMALL: usize = 64;

/// The connection that is lent next: the idle one that comes first, or the shared one with room.
#[inline]
pub(super) fn first<L: Lend, K, E>(
    entry: &KeyEntry<K, E>,
    connections: &Connections<L>,
    rules: &Precomputed,
) -> Option<ConnectionId> {
    if rules.random { entry.random.first() } else { first_in_time_order(entry, connections, rules) }
}

/// As [`first`], where the order is not random.
#[inline]
pub(super) fn first_in_time_order<L: Lend, K, E>(
    entry: &KeyEntry<K, E>,
    connections: &Connections<L>,
    rules: &Precomputed,
) -> Option<ConnectionId> {
    if L::SHARED {
        entry.room.first()
    } else if rules.newest_first {
        entry.idle.back(connections)
    } else {
        entry.idle.front(connections)
    }
}

impl<K, E> KeyEntry<K, E> {
    /// A connection without leases becomes the last idle one; `note_appended` of the list follows. Entry and
    /// connection are borrowed apart, so that the fast path looks up each of them once.
    #[inline(always)]
    pub(super) fn join_idle<L>(&mut self, connection: &mut Connection<L>, now: Timestamp) {
        debug_assert!(!connection.in_key.is_linked(), "it is in no list of its key");
        connection.idle_since = now;
        connection.in_key = self.idle.behind_last();
    }

    /// A shared connection with room is found by callers from now on.
    #[cold]
    pub(super) fn enter_room<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        rules: &Precomputed,
        rng: &mut fastrand::Rng,
    ) {
        self.room.join(connections, id, rules.newest_first);
        if rules.random {
            self.random.join(connections, id, rng);
        }
    }

    /// A shared connection is not found any more.
    #[cold]
    pub(super) fn leave_room<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        rules: &Precomputed,
    ) {
        let was_in_room = self.room.leave(connections, id, rules.newest_first);
        if was_in_room && rules.random {
            self.random.leave(connections, id);
        }
    }
}

/// The shared connections of a key that have room for another lease, in the order they were dialed.
///
/// To look at the first costs nothing. To join and to leave, which a connection does when its last
/// place is taken or given back, costs the logarithm of how many there are.
#[derive(Debug, Default)]
pub(super) struct Room {
    by_serial: BTreeMap<u64, ConnectionId>,
    /// The connection that the policy's order puts first.
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

    pub(super) fn join<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        newest_first: bool,
    ) {
        let connection = &mut connections[id];
        connection.in_room = true;
        self.by_serial.insert(connection.serial, id);
        self.choose(newest_first);
    }

    /// Returns whether the connection was among them.
    pub(super) fn leave<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        newest_first: bool,
    ) -> bool {
        let connection = &mut connections[id];
        let was_in_room = std::mem::take(&mut connection.in_room);
        if was_in_room {
            self.by_serial.remove(&connection.serial);
            self.choose(newest_first);
        }
        was_in_room
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

/// `idle_order=random`: the connections of a key that can be lent, in no order, and the one of them that
/// is lent next.
///
/// To join, to leave and to draw are O(1), and out of line: inlined, they made exclusive leases of the
/// other orders a tenth dearer (`performance -- alone`).
#[derive(Debug, Default)]
pub(super) struct RandomOrder {
    ids: Vec<ConnectionId>,
    /// Drawn after each lease, so that asking twice which connection is next has one answer.
    draw: u64,
}

impl RandomOrder {
    /// The connection that is lent next.
    #[cold]
    pub(super) fn first(&self) -> Option<ConnectionId> {
        // The upper half of the product: below the length, and as good as uniform.
        let place = (u128::from(self.draw) * self.ids.len() as u128) >> 64;
        self.ids.get(usize::try_from(place).ok()?).copied()
    }

    /// A connection of the key was lent: another draw decides about the next.
    #[cold]
    pub(super) fn draw_again(&mut self, rng: &mut fastrand::Rng) {
        self.draw = rng.u64(..);
    }

    /// A connection can be lent from now on.
    #[cold]
    pub(super) fn join<L>(
        &mut self,
        connections: &mut Connections<L>,
        id: ConnectionId,
        rng: &mut fastrand::Rng,
    ) {
        debug_assert_eq!(connections[id].random_at(), NOWHERE, "it joins once");
        connections[id].set_random_at(self.ids.len() as u32);
        self.ids.push(id);
        if self.ids.len() == 1 {
            self.draw_again(rng);
        }
    }

    /// A connection cannot be lent any more; nothing happens when it could not before.
    #[cold]
    pub(super) fn leave<L>(&mut self, connections: &mut Connections<L>, id: ConnectionId) {
        let place = connections[id].set_random_at(NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.ids.swap_remove(place as usize);
        if let Some(&moved) = self.ids.get(place as usize) {
            connections[moved].set_random_at(place);
        }
        if self.ids.capacity() > SMALL && self.ids.len() < self.ids.capacity() / 4 {
            self.ids.shrink_to(self.ids.capacity() / 2);
        }
    }
}

/// That the connections among which is drawn are those that can be lent.
///
/// # Errors
/// A sentence about one that is not.
pub(super) fn check_random<L: Lend, K, E>(
    keys: &Entries<K, E>,
    connections: &Connections<L>,
    is_random: bool,
) -> Result<(), String> {
    let can_be_lent = |connection: &Connection<L>| match L::SHARED {
        true => connection.in_room,
        false => connection.phase == Phase::Live && connection.in_key.is_linked(),
    };
    for (id, connection) in connections.iter() {
        let expected = is_random && can_be_lent(connection);
        let ids = &keys[connection.key].random.ids;
        let found = ids.get(connection.random_at() as usize) == Some(&id);
        if found != expected || (connection.random_at() != NOWHERE) != expected {
            return Err(format!("{id:?} is drawn from: {found}, can be lent: {expected}"));
        }
    }
    let drawn_from = keys.values().map(|entry| entry.random.ids.len()).sum::<usize>();
    let placed = connections.values().filter(|c| c.random_at() != NOWHERE).count();
    if drawn_from != placed {
        return Err(format!("{drawn_from} are drawn from, {placed} say so"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::connection::DialFor;
    use crate::state::ids::KeyId;

    fn connections(count: u64) -> (Connections<()>, Vec<ConnectionId>) {
        let mut connections = Connections::new();
        let ids = (0..count).map(|serial| {
            let mut connection =
                Connection::dialing(KeyId::default(), DialFor::Caller, Timestamp::ZERO);
            connection.serial = serial;
            connections.insert(connection)
        });
        let ids = ids.collect();
        (connections, ids)
    }

    #[test]
    fn room_puts_the_newest_or_the_oldest_first() {
        for newest_first in [false, true] {
            let ((mut connections, ids), mut room) = (connections(3), Room::default());
            for id in [ids[1], ids[0], ids[2]] {
                room.join(&mut connections, id, newest_first);
            }
            let first = if newest_first { ids[2] } else { ids[0] };
            assert_eq!(room.first(), Some(first));
            assert!(room.leave(&mut connections, first, newest_first));
            assert!(!room.leave(&mut connections, first, newest_first), "it left once");
            assert_eq!((room.first(), room.len()), (Some(ids[1]), 2));
        }
    }

    #[test]
    fn random_order_lends_each_connection_and_forgets_those_that_leave() {
        let ((mut connections, ids), mut order) = (connections(5), RandomOrder::default());
        let rng = &mut fastrand::Rng::with_seed(7);
        for &id in &ids {
            order.join(&mut connections, id, rng);
        }
        assert_eq!(order.first(), order.first(), "asked twice, it has one answer");
        let mut drawn: Vec<_> = (0..100)
            .map(|_| {
                order.draw_again(rng);
                order.first().expect("five are there")
            })
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, ids);
        for &id in &ids[1..] {
            order.leave(&mut connections, id);
            order.leave(&mut connections, id);
        }
        assert_eq!(order.first(), Some(ids[0]));
    }
}
