//! Background work for the floors: they are refilled, and remade for a new generation. A probe finds out
//! whether a peer is back.
//!
//! # Generations
//!
//! A connection belongs to the generation in which its dial began. Retiring all of them begins a
//! new generation; what is older serves out its lease and is closed. A key whose floor is kept may
//! hold back as many idle ones as the floor asks for: its [`Reserve`](super::floor::Reserve). It stays
//! lendable, behind whatever is newer, until the floor has been remade, so that no caller has to wait for a
//! dial in between. How the reserve shrinks:
//!
//! - a new connection that becomes idle closes one of it, once the two together exceed the floor;
//! - where a limit leaves no room for a dial, one of it is closed first, and another only after the
//!   successor has arrived;
//! - when the floor consists of new connections, the rest goes.
//!
//! Every hook in the fast path tests `remaking > 0` and nothing else.

use std::hash::Hash;

use super::connection::{DialFor, Phase};
use super::limits::Obstacle;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{Floor, IdleOrder};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Makes sure the pool knows `key`, so that its floor is dialed before the first acquire.
    pub fn warm_up(&mut self, key: &K, now: Timestamp) {
        if !self.closed {
            let id = self.key_id(key, now);
            self.want_floor(id, now);
            self.serve_waiters_and_refill(id, now);
            self.forget_if_unused(id);
        }
    }

    /// A dial for the floor failed: it is tried again after a pause. The floor sleeps when the peer has
    /// been gone and no caller has asked for it for a long time; when the peer has turned the client
    /// away it sleeps at once, until a dial for a caller succeeds.
    pub(super) fn retry_floor(&mut self, key: KeyId, now: Timestamp) {
        self.keys[key].floor.owe_again(&self.policy);
        self.pause_floor(key, now);
        let entry = &self.keys[key];
        // Other dials for the floor end the same way, or wake it.
        let nothing_else = entry.open == entry.dials.refilling() && entry.queue.waiting() == 0;
        if nothing_else && (entry.backoff.is_denied() || entry.floor.is_deserted(now)) {
            self.give_up_floor(key);
        }
    }

    /// No caller has asked for a key for a long time and its peer is gone: its floor sleeps.
    pub(super) fn give_up_floor(&mut self, key: KeyId) {
        self.keys[key].floor.sleep();
        self.end_remake(key);
    }

    /// A caller asks for this key and finds nothing idle: its floor is worth keeping.
    pub(super) fn want_floor(&mut self, key: KeyId, now: Timestamp) {
        let entry = &mut self.keys[key];
        entry.floor.note_demand(now);
        if !entry.backoff.is_denied() && entry.floor.wake(&self.policy) {
            self.refill(key, now);
        }
    }

    /// A caller of this key was refused, or a waiter has left. The key may never have had a dial whose end
    /// refills the floor, so the floor is refilled now, or queued for the room that it lacks. Otherwise the pool
    /// would remember the key forever for a floor that is never dialed.
    pub(super) fn refill_for_leaver(&mut self, key: KeyId, now: Timestamp) {
        if self.rules.floor
            && let Some(entry) = self.keys.get(key)
            && entry.floor.needs_its_key(entry.backoff.is_denied())
        {
            self.serve_waiters_and_refill(key, now);
        }
    }

    /// The floor comes after the waiters, which a rate held back until now, perhaps.
    fn serve_waiters_and_refill(&mut self, key: KeyId, now: Timestamp) {
        if self.starved.is_empty() {
            self.serve_room(key, now);
        }
        self.refill(key, now);
    }

    /// Dials until the floor is reached or the limits are.
    pub(super) fn refill(&mut self, key: KeyId, now: Timestamp) {
        if self.closed || !self.keys.contains(key) {
            return;
        }
        if self.remaking > 0 {
            self.remake(key, now);
        }
        let entry = &mut self.keys[key];
        entry.floor.forget_failures_if_due(now);
        if self.keys[key].floor.refill_at() > self.catch_up(now) {
            return;
        }
        while self.floor_lacks(key) > 0 && self.may_refill(key, now) {
            self.keys[key].floor.start_refill();
            self.start_dial(key, DialFor::Floor, now);
        }
        // A limit over all keys may leave room when something of another key ends. An obstacle of the key
        // itself ends with a timer or a connection of the key.
        let denied =
            self.floors_are_denied(key) || (self.remaking > 0 && self.policy.max_idle.is_some());
        if denied
            && self.floor_lacks(key) > 0
            && !std::mem::replace(&mut self.keys[key].floor.queued, true)
        {
            if is_overgrown(self.denied_floors.len(), self.keys.len()) {
                let keys = &self.keys;
                self.denied_floors.retain(|key| keys.contains(*key));
            }
            self.denied_floors.push_back(key);
        }
    }

    /// Refills the floors that the limits over all keys had held back, as long as those allow it.
    pub(super) fn refill_others(&mut self, now: Timestamp) {
        for _ in 0..self.denied_floors.len() {
            let Some(&key) = self.denied_floors.front() else { break };
            // What denies one key denies all of them, but for those with a reserve.
            if self.remaking == 0 && self.keys.contains(key) && self.floors_are_denied(key) {
                break;
            }
            self.denied_floors.pop_front();
            if let Some(entry) = self.keys.get_mut(key) {
                entry.floor.queued = false;
                self.serve_waiters_and_refill(key, now);
            }
        }
    }

    /// How many connections the floor of a key lacks, those being dialed for it not counted.
    fn floor_lacks(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        let stays =
            |id: &ConnectionId| self.connections[*id].retired.is_none() && !self.is_old(*id);
        let ready = || {
            let looked_at = self.looks.of_key(key).filter(stays).count() as u32;
            self.keys[key].new_idle() + looked_at + entry.dials.refilling()
        };
        entry.floor.lacks(ready, entry.backoff.is_denied(), &self.policy)
    }

    /// Whether the limits over all keys leave no place for the floor of one.
    fn floors_are_denied(&self, key: KeyId) -> bool {
        // Each of the reserve makes way for a successor.
        let stays = self.status.idle + self.looks.len() - self.keys[key].reserve.idle();
        let coming = self.dials.refilling();
        let crowded = self.policy.max_idle.is_some_and(|max| stays + coming >= max);
        crowded || !self.starved.is_empty() || self.pool_is_full() || self.dials_are_full()
    }

    /// The floor does not wait for a dial that serves waiters, but respects every limit, pushes
    /// out no other key's floor, and comes after the waiters.
    fn may_refill(&self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        let dialing = entry.dials.in_progress();
        // The first connection of a key, and the first after a failure, is dialed alone: where one
        // fails (a wrong password), so would the others.
        let is_proven = entry.live() > 0 && entry.floor.is_proven();
        if !is_proven && dialing > entry.dials.stopping() {
            return false;
        }
        if self.floors_are_denied(key) || entry.pace.rate_holds(&self.policy, now) {
            return false;
        }
        match self.obstacle(key, now) {
            None => true,
            // The ramp damps what callers ask for; the size of the floor is known.
            Some(Obstacle::Useless | Obstacle::Dialing | Obstacle::Ramp) => {
                self.policy.max_dials_per_key.is_none_or(|max| dialing < max)
            }
            Some(_) => false,
        }
    }

    /// Failing fast: finds out whether the peer is back, or looks again later. For a key that no caller
    /// has asked for in a long time, the next caller does that.
    ///
    /// A dial for a caller does not stand in for the probe: it may hang since before the first failure, while
    /// the peer is back already.
    pub(super) fn probe(&mut self, key: KeyId, now: Timestamp) {
        let entry = &mut self.keys[key];
        let unused = entry.open == 0 && entry.queue.waiting() == 0;
        if unused && entry.floor.is_deserted(now) {
            entry.backoff.give_up();
            return self.give_up_floor(key);
        }
        let limit = |max: Option<u32>, open: u32| max.is_some_and(|max| open >= max);
        let full = limit(self.policy.max_open_per_key, entry.open)
            || limit(self.policy.max_open, self.status.open)
            || limit(self.policy.max_dials_per_key, entry.dials.in_progress())
            || self.dials_are_full()
            || self.keys[key].pace.rate_holds(&self.policy, now);
        if self.keys[key].dials.is_probing() {
            // Its end says more.
        } else if full {
            self.set_timer(now.after(self.policy.back_off_base), key);
        } else {
            self.start_dial(key, DialFor::Probe, now);
        }
    }

    /// Failing fast after the peer has turned the client away: no timer probes, so a caller that asks
    /// has it done, once for each pause.
    pub(super) fn probe_if_denied(&mut self, key: KeyId, now: Timestamp) {
        let backoff = &self.keys[key].backoff;
        if backoff.is_denied() && backoff.paused_until() <= now {
            self.probe(key, now);
        }
    }

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
            self.keys[key].reserve.note_idle();
            return true;
        }
        while self.keys[key].reserve.idle() > 0
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
        if self.keys[key].new_idle() >= self.policy.min_idle {
            let reserve = self.keys[key].reserve.end(&mut self.remaking);
            for id in reserve {
                self.retire(id, CloseCause::Retired, now);
            }
        } else if self.has_to_break(key, now) {
            if self.keys[key].reserve.idle() > 0 {
                self.close_oldest_of_reserve(key, now);
            } else if L::SHARED {
                // In use, it gives up its place and ends with its leases.
                let in_use = |id: &&ConnectionId| {
                    self.connections.get(**id).is_some_and(|c| c.phase == Phase::Live)
                };
                if let Some(&id) = self.keys[key].reserve.ids().iter().find(in_use) {
                    self.retire(id, CloseCause::Retired, now);
                }
            }
        }
    }

    /// The floor of a key that has nothing open is not remade any more.
    pub(super) fn end_remake(&mut self, key: KeyId) {
        let reserve = &mut self.keys[key].reserve;
        debug_assert_eq!(reserve.idle(), 0);
        reserve.end(&mut self.remaking);
    }

    /// The floor was changed: no more is held back than it asks for.
    pub(super) fn shrink_reserves(&mut self, now: Timestamp) {
        if self.remaking == 0 {
            return;
        }
        let keys: Vec<KeyId> = self.keys.ids().collect();
        for key in keys {
            while self
                .keys
                .get(key)
                .is_some_and(|entry| entry.reserve.idle() > self.policy.min_idle)
            {
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
            && !entry.queue.has_undialed()
            && self.starved.is_empty()
            && !self.is_paused(key, now)
            && self.keys[key].new_idle() < self.policy.min_idle
    }

    /// The oldest generation first, and of it the one that has been idle longest.
    fn close_oldest_of_reserve(&mut self, key: KeyId, now: Timestamp) {
        let reserve = self.keys[key].reserve.ids().iter();
        let idle = reserve.filter_map(|id| {
            let connection = self.connections.get(*id).filter(|c| c.in_key.is_linked())?;
            Some((connection.generation, connection.idle_since, *id))
        });
        let (_, _, oldest) = idle.min().expect("old ones that are idle are in the reserve");
        self.begin_close(oldest, CloseCause::Retired, now);
    }

    /// Begins a new generation: leased connections are closed when they come back, one being dialed
    /// serves the caller it was dialed for, once, and idle ones are closed; where a floor is kept,
    /// up to `min_idle` of each key only when their successors are connected.
    pub fn retire_all(&mut self, now: Timestamp) {
        if self.closed || self.policy.min_idle == 0 || self.policy.floor == Floor::Once {
            return self.retire_all_now(now);
        }
        self.generation += 1;
        let keys: Vec<KeyId> = self.keys.ids().collect();
        // The surplus first: what it gives up need not be taken from the reserve.
        let mut retired: Vec<ConnectionId> =
            keys.iter().flat_map(|key| self.hold_back_reserve(*key)).collect();
        let is_idle = |id: &ConnectionId| {
            let connection = &self.connections[*id];
            connection.phase == Phase::Live && (connection.leased == 0 || self.looks.contains(*id))
        };
        retired.extend(self.connections.ids().filter(|id| !is_idle(id)));
        for id in retired {
            self.retire(id, CloseCause::Retired, now);
        }
        for key in keys {
            // The floor comes after the waiters.
            if self.starved.is_empty() && self.keys.contains(key) {
                self.serve_room(key, now);
            }
            self.refill(key, now);
        }
    }

    /// Begins a new generation, and lends no connection of an older one again: idle ones are closed
    /// now, leased ones when they come back; one being dialed serves the caller it was dialed for,
    /// once.
    pub fn retire_all_now(&mut self, now: Timestamp) {
        self.generation += 1;
        if self.remaking > 0 {
            for entry in self.keys.values_mut() {
                entry.reserve.hold(Vec::new(), 0, &mut self.remaking);
            }
        }
        let all: Vec<ConnectionId> = self.connections.ids().collect();
        for id in all {
            self.retire(id, CloseCause::Retired, now);
        }
    }

    /// Chooses which idle connections of a key stay in service, those in a look included. Returns the
    /// others.
    pub(super) fn hold_back_reserve(&mut self, key: KeyId) -> Vec<ConnectionId> {
        let mut idle = self.idle_of(key);
        idle.extend(self.looks.of_key(key).filter(|id| self.connections[*id].retired.is_none()));
        // Of a reserve that had not been replaced yet, the oldest generation goes first.
        idle.sort_by_key(|id| {
            let connection = &self.connections[*id];
            (connection.generation, connection.idle_since)
        });
        let floor = usize::try_from(self.policy.min_idle).unwrap_or(usize::MAX);
        let reserve = idle.split_off(idle.len().saturating_sub(floor));
        let surplus = idle;
        let entry = &mut self.keys[key];
        entry.reserve.hold(reserve, entry.idle.len(), &mut self.remaking);
        surplus
    }

    /// Longest idle first.
    pub(super) fn idle_of(&self, key: KeyId) -> Vec<ConnectionId> {
        self.keys[key].idle.chain().ids(&self.connections, |c| &c.in_key).collect()
    }
}
