//! Room under the limits over all keys: connections of other keys make way for a key that has none.
//!
//! A key with waiters that finds the pool full starves until there is room
//! ([`starved`](super::starved)). Room is made in two ways:
//!
//! - Idle connections of any key are closed, the longest idle first, as many at a time as starved keys
//!   lack places.
//! - Where none is idle, the starved keys wait for their turn. When a key is due, the next connection of
//!   another key that comes back makes way, although waiters of the same key would take it.
//!
//! Pools without [`max_open`](crate::Policy::max_open) never come here from a release.

use std::hash::Hash;

use super::limits::{self};
use super::starved::StarvedKeys;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// The pool is full: the connections that have been idle longest, of whatever key, make way.
    /// The key is remembered until it was served.
    pub(super) fn make_room(&mut self, key: KeyId, now: Timestamp) {
        self.starve(key);
        self.relieve_starving(now);
    }

    /// A limit over all keys denies this key a dial: it is served when there is room.
    pub(super) fn starve(&mut self, key: KeyId) {
        let before = self.waiting_elsewhere(key);
        self.starved.join(&mut self.keys, key, before);
        self.count_need(key);
    }

    /// How many callers wait for other keys.
    fn waiting_elsewhere(&self, key: KeyId) -> u32 {
        self.status.waiting - self.keys[key].waiting
    }

    /// Keeps count of the places that starved keys lack, after a change of this key.
    pub(super) fn count_need(&mut self, key: KeyId) {
        if self.keys[key].starvation.is_starved() {
            let looked_at = self.looks_of(key);
            let needs = limits::places_lacked(&self.keys[key], looked_at, &self.policy);
            self.starved.set_need(&mut self.keys[key], needs);
        }
    }

    /// Whether a place has to be made: starved keys lack more than are about to be free.
    pub(super) fn lacks_room(&self) -> bool {
        let Some(max) = self.policy.max_open else { return false };
        if self.starved.needed() == 0 || self.status.open < max {
            return false;
        }
        let dials =
            self.policy.max_dials.map_or(u32::MAX, |max| max.saturating_sub(self.status.dialing));
        let going = self.status.closing + self.dials.stopping();
        let coming = max.saturating_sub(self.status.open - going);
        coming < self.starved.needed().min(dials)
    }

    /// Whether an idle connection is in the way of another key.
    pub(super) fn makes_way(&mut self, id: ConnectionId) -> bool {
        self.connections[id].leased == 0 && self.lacks_room() && self.next_starved().is_some()
    }

    /// A connection of `key` is about to be handed over, which is a turn: whether a starved key comes
    /// before the waiters of `key`.
    pub(super) fn is_turn_of_another(&mut self, key: KeyId) -> bool {
        if !self.rules.contested || self.starved.is_empty() {
            return false;
        }
        let turn = self.starved.take_turn();
        if !self.lacks_room() {
            return false;
        }
        let Some(next) = self.next_starved().filter(|next| *next != key) else { return false };
        let before = self.waiting_elsewhere(next);
        StarvedKeys::is_due(&mut self.keys[next], before, turn)
    }

    /// Waiters of `key`, which had `waiting`, may have been served. If the key starves, the waiter that it
    /// was in the queue for is gone, and it goes to the end of the queue for the others.
    pub(super) fn line_up_again(&mut self, key: KeyId, waiting: u32) {
        if self.rules.contested
            && let Some(entry) = self.keys.get(key)
            && entry.starvation.is_starved()
            && entry.waiting < waiting
        {
            let before = self.waiting_elsewhere(key);
            self.starved.join_again(&mut self.keys, key, before);
        }
    }

    /// A waiter that was told to try again will not: the connection it was woken for stays idle, perhaps
    /// in the way of another key.
    pub fn relieve(&mut self, now: Timestamp) {
        self.relieve_starving(now);
    }

    /// Keys are denied room by `max_open`: idle connections, of whatever key, make way, and then dials
    /// that hang and that no caller waits for. Those make way for `max_dials`, too.
    pub(super) fn relieve_starving(&mut self, now: Timestamp) {
        while self.lacks_room() && self.next_starved().is_some() {
            if let Some(id) = self.all_idle.front(&self.connections) {
                self.begin_close(id, CloseCause::MakeRoom, now);
            } else if let Some(dial) = self.hanging_in_the_way() {
                self.stop_dial(dial);
            } else {
                break;
            }
        }
        // One at a time. Its end serves the first of the starved keys.
        if self.dials_are_full()
            && self.dials.stopping() == 0
            && self.next_starved().is_some()
            && let Some(dial) = self.hanging_in_the_way()
        {
            self.stop_dial(dial);
        }
    }

    /// The longest of the hanging dials that may make way.
    fn hanging_in_the_way(&mut self) -> Option<ConnectionId> {
        loop {
            let dial = self.dials.hanging().front(&self.connections)?;
            if !self.is_awaited(self.connections[dial].key) {
                return Some(dial);
            }
            // Many keys may have such a dial: each is looked at once.
            self.dials.set_aside(&mut self.connections, dial);
        }
    }

    /// A waiter has left, a dial starts, or a connection works: if a dial of the key was set aside, it may
    /// make way for other keys from now on.
    pub(super) fn end_set_aside(&mut self, key: KeyId) {
        self.keys[key].dials.end_set_aside(&mut self.dials, &mut self.connections);
    }

    /// Whether the waiters of the key can only wait for the one dial that serves all of them. If that
    /// dial hangs, it counts as a dial without a waiter, and it still is their only chance.
    pub(super) fn is_awaited(&self, key: KeyId) -> bool {
        let entry = &self.keys[key];
        let in_progress = entry.dials.in_progress().saturating_sub(entry.dials.stopping());
        self.dials_for_all() && in_progress < 2 && !entry.undialed.is_empty() && !entry.has_useful()
    }

    /// The starved key whose turn comes first. Entries before it that do not count are taken out.
    fn next_starved(&mut self) -> Option<KeyId> {
        loop {
            let key = match self.starved.first(&self.keys)? {
                Ok(key) => return Some(key),
                Err(key) => key,
            };
            self.starved.pop_front();
            if StarvedKeys::is_current(&mut self.keys, key) {
                self.starved.end(&mut self.keys, key);
                self.forget_if_unused(key);
            }
        }
    }
}
