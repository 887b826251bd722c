//! Keys that a limit over all keys keeps from dialing, and how connections of other keys make way.
//!
//! A key with waiters that finds the pool full *starves* until there is room. Room is made in two ways:
//!
//! - Idle connections of any key are closed, the longest idle first, as many at a time as starved keys
//!   lack places.
//! - Where none is idle, the starved keys wait for their turn. A key is due after as many leases
//!   have come back as other callers were waiting when it began to starve: each of those has had a
//!   turn by then. The next connection of another key that comes back makes way, although
//!   waiters of the same key would take it.
//!
//! A starved key that has connections itself is served by those as well. Each time, it goes to the end
//! of the line, since the waiter that is now its first came later.
//!
//! Everything here costs the same however many keys starve. Pools without
//! [`max_open`](crate::Policy::max_open) never come here from a release.

use std::hash::Hash;

use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{Dial, DialForWaiters};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// The pool is full: the connections that have been idle longest, of whatever key, make way.
    /// The key is remembered until it was served.
    pub(super) fn make_room(&mut self, key: KeyId, now: Timestamp) {
        self.starve(key);
        self.relieve_starving(now);
    }

    /// A limit over all keys denies this key a dial: it is served when there is room.
    pub(super) fn starve(&mut self, key: KeyId) {
        if !std::mem::replace(&mut self.keys[key].starved, true) {
            self.join_starved(key);
        }
        self.count_need(key);
    }

    fn join_starved(&mut self, key: KeyId) {
        let entry = &mut self.keys[key];
        let before = self.status.waiting - entry.waiting;
        entry.due_turn = self.turns + u64::from(before);
        if is_overgrown(self.starved.len(), self.keys.len()) {
            let mut queue = std::mem::take(&mut self.starved);
            queue.retain(|key| self.is_next_in_turn(*key));
            self.starved = queue;
        }
        self.starved.push_back(key);
    }

    /// An entry of this key is taken out of the queue, the first of it: whether it still counts.
    pub(super) fn is_next_in_turn(&mut self, key: KeyId) -> bool {
        match self.keys.get_mut(key) {
            Some(entry) if entry.starved_before > 0 => {
                entry.starved_before -= 1;
                false
            }
            entry => entry.is_some(),
        }
    }

    /// The entry of this key that counts was taken from the queue.
    pub(super) fn end_starving(&mut self, key: KeyId) {
        self.keys[key].starved = false;
        self.count_need(key);
    }

    /// Keeps count of the places that starved keys lack, after a change of this key.
    pub(super) fn count_need(&mut self, key: KeyId) {
        let entry = &self.keys[key];
        let needs = if entry.starved { self.places_lacked(key) } else { 0 };
        let entry = &mut self.keys[key];
        self.needed = self.needed - entry.needs + needs;
        entry.needs = needs;
    }

    /// A starved key has lost a waiter. It never needs more for that, so that no place is to be made.
    pub(super) fn shrink_need(&mut self, key: KeyId) {
        let entry = &mut self.keys[key];
        let needs = entry.needs.min(entry.undialed.len());
        self.needed = self.needed - entry.needs + needs;
        entry.needs = needs;
    }

    /// How many places the waiters of a key could use at once: at least one, if there are any. Less
    /// than the ramp allows at times; then the next is asked for when a dial has ended.
    fn places_lacked(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        let room =
            |max: Option<u32>, taken: u32| max.map_or(u32::MAX, |max| max.saturating_sub(taken));
        let live = entry.open - entry.dialing - entry.closing;
        let damped = match self.policy.dial_ramp {
            Some(_) => live.max(1).saturating_sub(entry.dialing),
            None => u32::MAX,
        };
        let together = if self.policy.dial == Dial::Shared { 1 } else { u32::MAX };
        let most = room(self.policy.max_open_per_key, entry.open)
            .min(room(self.policy.max_dials_per_key, entry.dialing))
            .min(damped)
            .min(together);
        let unserved = entry.undialed.len().saturating_sub(self.looks_of(key));
        unserved.min(most.max(1))
    }

    /// Whether a place has to be made: starved keys lack more than are about to be free.
    pub(super) fn lacks_room(&self) -> bool {
        let Some(max) = self.policy.max_open else { return false };
        if self.needed == 0 || self.status.open < max {
            return false;
        }
        let dials =
            self.policy.max_dials.map_or(u32::MAX, |max| max.saturating_sub(self.status.dialing));
        let going = self.status.closing + self.stopping;
        let coming = max.saturating_sub(self.status.open - going);
        coming < self.needed.min(dials)
    }

    /// Whether an idle connection is in the way of another key.
    pub(super) fn makes_way(&mut self, id: ConnectionId) -> bool {
        self.connections[id].leased == 0 && self.lacks_room() && self.somebody_starves()
    }

    /// A lease of a sound connection has come back while keys starve.
    #[cold]
    pub(super) fn settle_contested(&mut self, id: ConnectionId, key: KeyId, now: Timestamp) {
        if self.is_turn_of_another(key) {
            return self.retire_for(id, CloseCause::MakeRoom, now);
        }
        let waiting = self.keys[key].waiting;
        self.settle(id, now);
        self.line_up_again(key, waiting);
    }

    /// A connection of `key` is about to be handed over, which is a turn: whether a starved key comes
    /// before the waiters of `key`.
    pub(super) fn is_turn_of_another(&mut self, key: KeyId) -> bool {
        if !self.rules.contested || self.starved.is_empty() {
            return false;
        }
        let turn = self.turns;
        self.turns += 1;
        self.lacks_room()
            && self.next_starved().is_some_and(|next| next != key && self.is_due(next, turn))
    }

    /// Waiters of `key`, which had `waiting`, may have been served. If the key starves, the waiter that it
    /// was in line for is gone, and it goes to the end of the line for the others.
    pub(super) fn line_up_again(&mut self, key: KeyId, waiting: u32) {
        if self.rules.contested
            && let Some(entry) = self.keys.get_mut(key)
            && entry.starved
            && entry.waiting < waiting
        {
            entry.starved_before += 1;
            self.join_starved(key);
        }
    }

    /// Whether the turn of a starved key has come.
    fn is_due(&mut self, key: KeyId, turn: u64) -> bool {
        let entry = &mut self.keys[key];
        // Waiters before it that have left unserved take no turn.
        let before = u64::from(self.status.waiting - entry.waiting);
        entry.due_turn = entry.due_turn.min(turn + before);
        entry.due_turn <= turn
    }

    /// A waiter that was told to try again will not: the connection it was woken for stays idle, perhaps
    /// in the way of another key.
    pub fn relieve(&mut self, now: Timestamp) {
        self.relieve_starving(now);
    }

    /// Keys are denied room by `max_open`: idle connections, of whatever key, make way, and then dials
    /// that hang and that no caller waits for.
    pub(super) fn relieve_starving(&mut self, now: Timestamp) {
        while self.lacks_room() && self.somebody_starves() {
            if let Some(id) = self.all_idle.front(&self.connections) {
                self.begin_close(id, CloseCause::MakeRoom, now);
            } else if let Some(dial) = self.hanging_in_the_way() {
                self.stop_hanging(dial);
            } else {
                break;
            }
        }
    }

    /// The longest of the hanging dials that may make way.
    fn hanging_in_the_way(&self) -> Option<ConnectionId> {
        let may_go = |dial: &ConnectionId| !self.is_awaited(self.connections[*dial].key);
        self.all_hanging
            .chain()
            .ids(&self.connections, |connection| &connection.in_all)
            .find(may_go)
    }

    /// Whether waiters of the key have nothing to wait for but one dial for all of them: what hangs
    /// belongs to nobody then, and still is their only chance.
    fn is_awaited(&self, key: KeyId) -> bool {
        let entry = &self.keys[key];
        let in_progress = entry.dialing.saturating_sub(entry.stopping);
        let for_all = self.policy.dial == Dial::Shared
            || self.policy.dial_for_waiters == DialForWaiters::Opener;
        for_all && in_progress < 2 && !entry.undialed.is_empty() && !self.has_useful(key)
    }

    /// Whether a key with waiters was denied room by a limit over all keys.
    fn somebody_starves(&mut self) -> bool {
        self.next_starved().is_some()
    }

    /// The starved key whose turn comes first.
    fn next_starved(&mut self) -> Option<KeyId> {
        while let Some(&key) = self.starved.front() {
            if let Some(entry) = self.keys.get(key)
                && entry.starved_before == 0
                && !entry.undialed.is_empty()
            {
                return Some(key);
            }
            self.starved.pop_front();
            if self.is_next_in_turn(key) {
                self.end_starving(key);
                self.forget_if_unused(key);
            }
        }
        None
    }
}
