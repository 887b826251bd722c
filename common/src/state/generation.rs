//! A generation of connections makes way for the next, all at once or make-before-break.
//!
//! A connection belongs to the generation in which its dial began. Retiring all of them begins a
//! new generation; what is older serves out its lease and is closed. A key whose floor is kept may
//! hold back as many idle ones as the floor asks for: its *reserve*. It stays lendable, behind
//! whatever is newer, until the floor has been remade, so that no caller has to wait for a dial in
//! between. How the reserve shrinks:
//!
//! - a new connection that becomes idle closes one of it, once the two together exceed the floor;
//! - where a limit leaves no room for a dial, one of it is closed first, and another only after the
//!   successor has arrived;
//! - when the floor consists of new connections, the rest goes.
//!
//! Every hook in the fast path tests `remaking > 0` and nothing else.

use std::hash::Hash;

use super::connection::Phase;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::IdleOrder;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// How often all connections were retired.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The [`generation`](State::generation) in which the dial of a connection began, while it
    /// lives.
    pub fn generation_of(&self, id: ConnectionId) -> Option<u64> {
        self.connections.get(id).map(|connection| connection.generation)
    }

    /// The newest generation first, whatever the order of idle connections. `None` when the key has
    /// no reserve, or nothing with room.
    ///
    /// Looks at no more connections than the floor asks for, and one.
    #[cold]
    pub(super) fn first_of_newest(&self, key: KeyId) -> Option<ConnectionId> {
        let entry = &self.keys[key];
        if entry.reserve.is_empty() {
            return None;
        }
        let newest_first = self.policy.idle_order == IdleOrder::NewestFirst;
        let mut found: Option<ConnectionId> = None;
        // Whether to go on looking.
        let mut consider = |id: ConnectionId| {
            let generation = self.connections[id].generation;
            if found.is_none_or(|best| generation > self.connections[best].generation) {
                found = Some(id);
            }
            generation < self.generation
        };
        if L::SHARED && newest_first {
            entry.room.values().rev().all(|id| consider(*id));
        } else if L::SHARED {
            entry.room.values().all(|id| consider(*id));
        } else {
            let idle = entry.idle.chain();
            if newest_first {
                idle.ids_from_back(&self.connections, |c| &c.in_key).all(consider);
            } else {
                idle.ids(&self.connections, |c| &c.in_key).all(consider);
            }
        }
        found
    }

    /// A connection without leases is about to join the idle list while floors are remade. Says
    /// whether it may; else it was closed.
    #[cold]
    pub(super) fn join_in_remake(&mut self, id: ConnectionId, now: Timestamp) -> bool {
        let key = self.connections[id].key;
        if self.keys[key].reserve.is_empty() {
            return true;
        }
        let floor_is_full = |state: &Self| state.keys[key].idle.len() >= state.policy.min_idle;
        if self.is_old(id) {
            if floor_is_full(self) || self.has_to_break(key, now) {
                self.begin_close(id, CloseCause::Retired, now);
                return false;
            }
            self.keys[key].old_idle += 1;
            return true;
        }
        while self.keys[key].old_idle > 0
            && (floor_is_full(self)
                || self.policy.max_idle.is_some_and(|max| self.status.idle >= max))
        {
            self.close_oldest_of_reserve(key, now);
        }
        true
    }

    /// Goes on with the floor of a key: its reserve is not needed any more, or is in the way.
    #[cold]
    pub(super) fn remake(&mut self, key: KeyId, now: Timestamp) {
        if self.keys[key].reserve.is_empty() {
            return;
        }
        if self.new_idle(key) >= self.policy.min_idle {
            let reserve = std::mem::take(&mut self.keys[key].reserve);
            for id in reserve {
                self.retire(id, CloseCause::Retired, now);
            }
            self.remaking -= 1;
        } else if self.has_to_break(key, now) {
            if self.keys[key].old_idle > 0 {
                self.close_oldest_of_reserve(key, now);
            } else if L::SHARED {
                // In use, it gives up its place and ends with its leases.
                let in_use = |id: &&ConnectionId| {
                    self.connections.get(**id).is_some_and(|c| c.phase == Phase::Live)
                };
                if let Some(&id) = self.keys[key].reserve.iter().find(in_use) {
                    self.retire(id, CloseCause::Retired, now);
                }
            }
        }
    }

    /// The floor of a key that has nothing open is not remade any more.
    pub(super) fn end_remake(&mut self, key: KeyId) {
        let entry = &mut self.keys[key];
        debug_assert_eq!(entry.old_idle, 0);
        self.remaking -= u32::from(!entry.reserve.is_empty());
        entry.reserve.clear();
    }

    /// The floor was changed: no more is held back than it asks for.
    pub(super) fn shrink_reserves(&mut self, now: Timestamp) {
        if self.remaking == 0 {
            return;
        }
        let keys: Vec<KeyId> = self.keys.ids().collect();
        for key in keys {
            while self.keys.get(key).is_some_and(|entry| entry.old_idle > self.policy.min_idle) {
                self.close_oldest_of_reserve(key, now);
            }
            if self.keys.contains(key) {
                self.remake(key, now);
            }
        }
    }

    /// Whether only a limit on open connections keeps the floor from being dialed, so that an old
    /// connection has to go before its successor can come. One at a time: not while a place is
    /// about to be free, or a dial is under way or would fail, or another caller would take the place.
    fn has_to_break(&self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        let key_is_full = self.policy.max_open_per_key.is_some_and(|max| entry.open >= max);
        let full = (key_is_full && entry.closing == 0)
            || (self.pool_is_full() && self.status.closing == 0);
        full && entry.dials.refilling() == 0
            && entry.floor.refill_at() <= self.catch_up(now)
            && entry.undialed.is_empty()
            && self.starved.is_empty()
            && !self.is_paused(key, now)
            && self.new_idle(key) < self.policy.min_idle
    }

    /// The oldest generation first, and of it the one that has been idle longest.
    fn close_oldest_of_reserve(&mut self, key: KeyId, now: Timestamp) {
        let reserve = self.keys[key].reserve.iter();
        let idle = reserve.filter_map(|id| {
            let connection = self.connections.get(*id).filter(|c| c.in_key.is_linked())?;
            Some((connection.generation, connection.idle_since, *id))
        });
        let (_, _, oldest) = idle.min().expect("old ones that are idle are in the reserve");
        self.begin_close(oldest, CloseCause::Retired, now);
    }
}
