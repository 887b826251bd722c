//! A dial that takes longer than usual holds up no caller that could have a second one.
//!
//! After a lost SYN, in a handshake without an answer, or with a peer that was down for a moment, the
//! dial in progress may hang for all of `dial_timeout` while the next one would take a millisecond. So with
//! `dial_hedge` a dial becomes *overdue*, after that time or after twice the usual one, whichever
//! is longer. From then on:
//!
//! - no waiter takes it over, and with a dial for all waiters another one may start;
//! - a waiter that depends on it gets the connection of a second dial (a *hedge*), if the limits
//!   have room. The overdue dial goes on, and the first of the two to succeed serves.
//!
//! Three rules keep hedges from becoming a storm while a peer is silent: one hedge at a time, until
//! one succeeds; each may take twice as long as the one before; and a key has no more than two dials
//! in progress for each waiter. Where the next one would be a third, the hedge that is
//! overdue is stopped first.

use std::hash::Hash;
use std::time::Duration;

use super::acquire::Obstacle;
use super::connection::DialFor;
use super::{Action, Connection, ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::lending::Lend;
use crate::policy::Dial;

/// The patience with hedges doubles this often at most; the next limit is `dial_timeout`.
const DOUBLINGS: u32 = 10;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// How long a dial of this key may take before it is overdue.
    fn patience(&self, key: KeyId) -> Option<Duration> {
        let hedge = self.policy.dial_hedge?;
        let entry = &self.keys[key];
        let usual = Duration::from_nanos(entry.usual_dial.saturating_mul(2));
        let doubled = 1 << entry.overdue_in_a_row.min(DOUBLINGS);
        Some(hedge.max(usual).saturating_mul(doubled).min(self.policy.dial_timeout))
    }

    /// Whether the dial takes longer than usual; without `dial_hedge`, longer than the default of
    /// that. A caller that gives up a dial which is not has learned nothing about the peer.
    pub fn is_overdue(&self, id: ConnectionId, now: Timestamp) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        self.is_slower_than_a_dial(id, now.since(connection.opened_at))
    }

    /// Whether `took`, the time that a dial or a check of this connection has taken so far, is long for its
    /// key: at least twice what a dial usually takes, and at least `dial_hedge` (without that, its default).
    /// `false` when the connection has ended.
    pub fn is_slower_than_a_dial(&self, id: ConnectionId, took: Duration) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let usual = Duration::from_nanos(self.keys[connection.key].usual_dial.saturating_mul(2));
        let hedge = self.policy.dial_hedge.unwrap_or(Duration::from_millis(100));
        took >= hedge.max(usual)
    }

    /// Whether a check of this connection, cut off after `took` by the deadline of a caller that had waited
    /// for `waited` in all, tells anything of the peer: it was slower than a dial, or had at least half of
    /// the caller's time and as long as a dial usually takes. `false` when the connection has ended.
    pub fn has_had_its_chance(&self, id: ConnectionId, took: Duration, waited: Duration) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let usual = Duration::from_nanos(self.keys[connection.key].usual_dial);
        self.is_slower_than_a_dial(id, took) || (took >= waited / 2 && took >= usual)
    }

    /// A dial for waiters has started.
    pub(super) fn watch_dial(&mut self, id: ConnectionId, dial_for: DialFor) {
        let key = self.connections[id].key;
        let is_watched = match dial_for {
            DialFor::Waiter(_) | DialFor::Key | DialFor::Opener => true,
            // In place of one for all waiters, when that was lost with its runtime.
            DialFor::Caller => self.policy.dial == Dial::Shared,
            DialFor::Nobody | DialFor::Floor | DialFor::Probe => false,
        };
        if !is_watched || self.policy.dial_hedge.is_none() {
            return;
        }
        self.keys[key].young.push_back(&mut self.connections, id, Connection::in_young);
        let overdue_at = self.next_overdue(key);
        self.set_timer(overdue_at, key);
    }

    /// When the next dial of the key will be overdue.
    pub(super) fn next_overdue(&self, key: KeyId) -> Timestamp {
        let oldest = self.keys[key].young.front(&self.connections);
        match (oldest, self.patience(key)) {
            (Some(id), Some(patience)) => self.connections[id].opened_at.after(patience),
            _ => Timestamp::NEVER,
        }
    }

    /// Dials that have taken too long for that are not young any more.
    pub(super) fn mark_overdue(&mut self, key: KeyId, now: Timestamp) {
        let Some(patience) = self.patience(key) else { return };
        let (mut any, mut opener_is_free) = (false, false);
        while let Some(id) = self.keys[key].young.front(&self.connections)
            && self.connections[id].opened_at.after(patience) <= now
        {
            any = true;
            self.leave_young(id);
            let connection = &mut self.connections[id];
            connection.set_overdue();
            let entry = &mut self.keys[key];
            match connection.dial_for() {
                DialFor::Waiter(Some(_)) => entry.held_up += 1,
                DialFor::Waiter(None) => {
                    entry.orphans.remove(&mut self.connections, id, Connection::in_key);
                    self.join_hanging(id);
                }
                // From here on another one may start; this one serves whom it can when it ends.
                DialFor::Key | DialFor::Opener => {
                    if connection.dial_for() == DialFor::Opener {
                        self.opener_busy = false;
                        opener_is_free = true;
                    }
                    connection.set_dial_for(DialFor::Waiter(None));
                    self.join_hanging(id);
                }
                // From here on another one may start for those who wait.
                DialFor::Caller => entry.overdue_callers += 1,
                DialFor::Nobody | DialFor::Floor | DialFor::Probe => {}
            }
        }
        if any {
            // Several that became overdue together were one try.
            let entry = &mut self.keys[key];
            entry.overdue_in_a_row = entry.overdue_in_a_row.saturating_add(1);
        }
        if opener_is_free {
            // Waiters of other keys may have been waiting for it.
            self.room_appeared(key, now);
        }
    }

    /// An overdue dial has no waiter.
    pub(super) fn join_hanging(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        entry.hanging.push_back(&mut self.connections, id, Connection::in_key);
        self.all_hanging.push_back(&mut self.connections, id, Connection::in_all);
    }

    pub(super) fn leave_hanging(&mut self, id: ConnectionId) {
        let entry = &mut self.keys[self.connections[id].key];
        entry.hanging.remove(&mut self.connections, id, Connection::in_key);
        self.all_hanging.remove(&mut self.connections, id, Connection::in_all);
    }

    /// A dial without a waiter is being stopped.
    pub(super) fn note_stop(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        connection.set_dial_for(DialFor::Nobody);
        self.keys[connection.key].stopping += 1;
        self.stopping += 1;
    }

    pub(super) fn leave_young(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        if connection.place_in_young().is_linked() {
            let entry = &mut self.keys[connection.key];
            entry.young.remove(&mut self.connections, id, Connection::in_young);
        }
    }

    /// A dial of this key that took `took` has succeeded: the peer is there.
    pub(super) fn note_dial_time(&mut self, key: KeyId, took: Duration) {
        let entry = &mut self.keys[key];
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        entry.usual_dial = match entry.usual_dial {
            0 => took,
            usual => usual - usual / 8 + took / 8,
        };
        entry.overdue_in_a_row = 0;
        entry.hedge_after = Timestamp::ZERO;
        // The patience with the dials in progress may be shorter now.
        let overdue_at = self.next_overdue(key);
        self.set_timer(overdue_at, key);
    }

    /// A dial of this key has failed or was lost. If it may have been a hedge, and no pause of the policy
    /// follows, the next hedge starts when this one would have been overdue, and each after that twice as
    /// late. Without this, hedges that a peer refuses at once would follow each other without a pause.
    pub(super) fn put_off_hedge(&mut self, key: KeyId, dial_for: DialFor, now: Timestamp) {
        let may_be_hedge = matches!(dial_for, DialFor::Waiter(None) | DialFor::Key);
        let entry = &self.keys[key];
        // Several that failed together were one try.
        if !may_be_hedge || entry.held_up == 0 || entry.hedge_after > now {
            return;
        }
        let Some(patience) = self.patience(key) else { return };
        let hedge_after = now.after(patience);
        let entry = &mut self.keys[key];
        entry.overdue_in_a_row = entry.overdue_in_a_row.saturating_add(1);
        entry.hedge_after = hedge_after;
        self.set_timer(hedge_after, key);
    }

    /// Starts the second dials that waiters of overdue ones are owed and the limits allow.
    pub(super) fn hedge(&mut self, key: KeyId, now: Timestamp) {
        let is_shared = self.policy.dial == Dial::Shared;
        loop {
            let entry = &self.keys[key];
            // As many at a time as connections prove that the peer takes them, but always one. Young
            // dials of other waiters are no hedges.
            let live = entry.open - entry.dialing - entry.closing;
            let hedges = if is_shared { entry.young.len() } else { entry.orphans.len() };
            if self.closed || hedges >= entry.held_up.min(live.max(1)) {
                return;
            }
            let (waiting, hedge_after) = (entry.waiting, entry.hedge_after);
            if hedge_after > self.catch_up(now) {
                return self.set_timer(hedge_after, key);
            }
            match self.obstacle(key, now) {
                None if self.has_too_many_hanging(key, waiting) => return,
                None => {}
                // Its end has a timer.
                Some(Obstacle::Paused) => return,
                Some(Obstacle::Ramp) => return self.watch_ramp(key),
                Some(Obstacle::KeyFull | Obstacle::Dialing) => {
                    if !self.has_too_many_hanging(key, waiting) {
                        self.replace_overdue(key, now);
                    }
                    return;
                }
                // It may end with something of another key: look again.
                Some(Obstacle::PoolFull | Obstacle::DialsFull | Obstacle::Rate) => {
                    if !self.has_too_many_hanging(key, waiting) {
                        self.replace_overdue(key, now);
                    }
                    let again = self.patience(key).unwrap_or(self.policy.dial_timeout);
                    return self.set_timer(now.after(again), key);
                }
            }
            let dial_for = if is_shared { DialFor::Key } else { DialFor::Waiter(None) };
            self.start_dial(key, dial_for, now);
        }
    }

    /// Overdue dials that have waiters take all the room there is, and no connection that works will come
    /// back to those waiters: the youngest of the dials is given up for another try. Its waiter goes on without a dial, and is the first
    /// to get one when the shell has stopped this one.
    fn replace_overdue(&mut self, key: KeyId, now: Timestamp) {
        let entry = &self.keys[key];
        let returns_serve = self.policy.dial != Dial::Detached && self.has_useful(key);
        // The only one has the last word, its failure is told when `dial_timeout` is over: unless a
        // connection of the key works, which may serve the waiter.
        let live = entry.open - entry.dialing - entry.closing;
        let is_only = entry.tied.len() < 2 && live == 0;
        if !entry.young.is_empty() || entry.stopping > 0 || returns_serve || is_only {
            return;
        }
        let Some(youngest) = entry.tied.back(&self.connections) else { return };
        let connection = &self.connections[youngest];
        let DialFor::Waiter(Some(waiter)) = connection.dial_for() else { return };
        if !connection.is_overdue() {
            return;
        }
        self.orphan(youngest);
        self.untie(waiter, now);
        self.stop_hanging(youngest);
    }

    /// Whether another dial would be a third for each of so many waiters. Then one that hangs is
    /// stopped, and its end makes room.
    pub(super) fn has_too_many_hanging(&mut self, key: KeyId, waiting: u32) -> bool {
        let entry = &self.keys[key];
        if entry.hanging.is_empty() || entry.dialing < waiting.max(1).saturating_mul(2) {
            return false;
        }
        if entry.stopping == 0 {
            // Not the oldest: it has waited longest already, and its failure says most.
            let youngest = entry.hanging.back(&self.connections).expect("it is not empty");
            self.stop_hanging(youngest);
        }
        true
    }

    /// The limits leave no room, and overdue dials without a waiter take some of it: one of them is
    /// stopped. `alone`: no caller waited before this one.
    pub(super) fn replace_hanging(&mut self, key: KeyId, obstacle: Obstacle, alone: bool) {
        let entry = &self.keys[key];
        let full = matches!(obstacle, Obstacle::KeyFull | Obstacle::PoolFull | Obstacle::Dialing);
        // A dial for all waiters is not abandoned while some of them are there.
        if !full || entry.stopping > 0 || !(alone || self.policy.dial != Dial::Shared) {
            return;
        }
        if let Some(oldest) = entry.hanging.front(&self.connections) {
            self.stop_hanging(oldest);
        }
    }

    /// Stops an overdue dial without a waiter.
    pub(super) fn stop_hanging(&mut self, dial: ConnectionId) {
        self.leave_hanging(dial);
        self.note_stop(dial);
        self.actions.push_back(Action::StopDial(dial));
    }
}
