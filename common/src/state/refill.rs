//! Background dials: the floor is refilled, and a probe finds out whether a peer is back.

use std::hash::Hash;

use super::connection::DialFor;
use super::floor::PROVEN_AFTER;
use super::limits::Obstacle;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::CloseCause;
use crate::lending::Lend;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Makes sure the pool knows `key`, so that its floor is dialed before the first acquire.
    pub fn warm_up(&mut self, key: &K, now: Timestamp) {
        if !self.closed {
            let id = self.key_id(key, now);
            self.want_floor(id, now);
            self.refill(id, now);
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
        let nothing_else = entry.open == entry.dials.refilling() && entry.waiting == 0;
        if nothing_else && (entry.backoff.is_denied() || entry.floor.is_deserted(now)) {
            self.give_up_floor(key);
        }
    }

    /// A refill came to nothing. The next one waits, whatever the policy says of callers.
    fn pause_floor(&mut self, key: KeyId, now: Timestamp) {
        // Else a refill that a timer started, and that came to nothing within a tick, would seem to have
        // ended before its start, and the next would follow at once.
        let now = self.catch_up(now);
        let entry = &mut self.keys[key];
        let paused_until = entry.backoff.paused_until();
        if let Some(due) = entry.floor.fail(paused_until, &self.policy, &mut self.rng, now) {
            self.set_timer(due, key);
        }
    }

    /// A connection is about to be closed. If it ends at once, and no caller has used it, the refill was
    /// a failure: a peer that accepts and hangs up would else be dialed without a pause.
    pub(super) fn note_floor_loss(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &self.connections[id];
        let (key, is_young) = (connection.key, now.since(connection.opened_at) < PROVEN_AFTER);
        let by_peer = match cause {
            CloseCause::Gone | CloseCause::PeekFailed | CloseCause::CheckFailed => true,
            CloseCause::Retired => connection.generation == self.generation,
            // `idle_timeout` alone is what the user asked for.
            CloseCause::IdleTimeout => u128::from(connection.own_limit()) < PROVEN_AFTER.as_nanos(),
            _ => false,
        };
        if !is_young {
            self.keys[key].floor.note_proof();
        } else if by_peer && !connection.lent_before {
            self.pause_floor(key, now);
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
                // The floor comes after the waiters.
                if self.starved.is_empty() {
                    self.serve_room(key, now);
                }
                self.refill(key, now);
            }
        }
    }

    /// How many connections the floor of a key lacks, those being dialed for it not counted.
    fn floor_lacks(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        let stays =
            |id: &ConnectionId| self.connections[*id].retired.is_none() && !self.is_old(*id);
        let ready = || {
            let looked_at = self.in_look(key).filter(stays).count() as u32;
            self.new_idle(key) + looked_at + entry.dials.refilling()
        };
        entry.floor.lacks(ready, entry.backoff.is_denied(), &self.policy)
    }

    /// Whether the limits over all keys leave no place for the floor of one.
    fn floors_are_denied(&self, key: KeyId) -> bool {
        // Each of the reserve makes way for a successor.
        let stays = self.status.idle + self.all_looks() - self.keys[key].old_idle;
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
    pub(super) fn probe(&mut self, key: KeyId, now: Timestamp) {
        let entry = &mut self.keys[key];
        let unused = entry.open == 0 && entry.waiting == 0;
        if unused && entry.floor.is_deserted(now) {
            entry.backoff.give_up();
            return self.give_up_floor(key);
        }
        let limit = |max: Option<u32>, open: u32| max.is_some_and(|max| open >= max);
        let full = limit(self.policy.max_open_per_key, entry.open)
            || limit(self.policy.max_open, self.status.open)
            || self.dials_are_full()
            || self.keys[key].pace.rate_holds(&self.policy, now);
        if full {
            self.set_timer(now.after(self.policy.back_off_base), key);
        } else if self.keys[key].dials.in_progress() == 0 {
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
}
