//! A cold start, damped: dials start as fast as the pool proves to need them, and those that
//! turn out not to be needed are stopped.
//!
//! With `dial_ramp` a key has no more dials in progress than it has connections, but always one: 1,
//! 2, 4, ... Those who come too early for a dial of their own wait, for what comes back as well.
//! A dial that takes longer than the ramp's step counts as if it had ended, so that one that hangs
//! holds waiters back for a step at most. Connections that serve only once (the peer closes them,
//! or their callers give up) prove the need as well as those that stay: each counts as if it were
//! still there, until as many have come back that can be lent again, or a dial fails.
//!
//! With `orphan_dial=stopped` a dial ends when its waiter was served by another connection and
//! there is nobody else to serve. The place in the limits is free when the shell has reported that.

use std::hash::Hash;

use super::connection::DialFor;
use super::keys::{KeyEntry, Waiter};
use super::{Action, Connection, ConnectionId, KeyId, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, OrphanDial};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Whether the dials in progress for a key have to end, or grow old, before the next starts.
    pub(super) fn ramp_holds(&self, entry: &KeyEntry<K, E>, now: Timestamp) -> bool {
        let Some(step) = self.policy.dial_ramp else { return false };
        if entry.dialing == 0 {
            return false;
        }
        let all_late = now >= entry.last_dial_at.after(step);
        let late = if all_late { entry.dialing } else { entry.late };
        let live = entry.open - entry.dialing - entry.closing;
        // Where a failed dial is no reason to pause, it is none to hold others back: everybody who
        // waits is told by a dial of its own.
        let failed =
            if self.policy.after_failed_dial == AfterFailedDial::Tell { entry.failures } else { 0 };
        let earned = live.saturating_add(late).saturating_add(failed).saturating_add(entry.spent);
        entry.dialing.saturating_sub(late) >= earned.max(1)
    }

    /// A dial of this key starts at `now`, and is not counted yet.
    pub(super) fn note_dial(&mut self, key: KeyId, now: Timestamp) {
        let Some(step) = self.policy.dial_ramp else { return };
        let entry = &mut self.keys[key];
        if now >= entry.last_dial_at.after(step) {
            // All of them started a step ago, or earlier.
            entry.late = entry.dialing;
            entry.late_before = entry.last_dial_at;
        }
        entry.last_dial_at = now;
    }

    /// A dial of this key that started at `started` has ended, and is not counted any more.
    pub(super) fn forget_dial(&mut self, key: KeyId, started: Timestamp) {
        let entry = &mut self.keys[key];
        if entry.late > 0 && started <= entry.late_before {
            entry.late -= 1;
        }
    }

    /// A connection that was lent cannot be lent again, because of what happened while it was in use.
    /// Its place in the ramp stays earned, as long as there is demand for its successor.
    pub(super) fn note_spent(&mut self, key: KeyId, cause: CloseCause) {
        let in_use = match cause {
            CloseCause::Broken
            | CloseCause::ResetFailed
            | CloseCause::Discarded
            | CloseCause::Lost
            | CloseCause::Uses
            | CloseCause::Retired
            | CloseCause::Gone => true,
            // The others end it because of its age, or of a limit.
            _ => false,
        };
        if !in_use || self.policy.dial_ramp.is_none() {
            return;
        }
        let entry = &mut self.keys[key];
        let demand = entry.waiting.saturating_add(entry.open - entry.closing);
        let spent = (entry.spent + 1).min(demand);
        self.spent_keys = self.spent_keys - u32::from(entry.spent > 0) + u32::from(spent > 0);
        entry.spent = spent;
    }

    /// A connection came back that can be lent again: it counts for itself.
    pub(super) fn note_reusable(&mut self, key: KeyId) {
        let entry = &mut self.keys[key];
        if entry.spent > 0 {
            entry.spent -= 1;
            self.spent_keys -= u32::from(entry.spent == 0);
        }
    }

    /// A dial failed, or the key is forgotten: what was earned before says nothing any more.
    pub(super) fn forget_spent(&mut self, key: KeyId) {
        let spent = std::mem::take(&mut self.keys[key].spent);
        self.spent_keys -= u32::from(spent > 0);
    }

    /// The ramp holds somebody back: look again when the dials in progress are late.
    pub(super) fn watch_ramp(&mut self, key: KeyId) {
        if let Some(step) = self.policy.dial_ramp {
            self.set_timer(self.keys[key].last_dial_at.after(step), key);
        }
    }

    /// How many more dials of this key the limits allow once the ramp does.
    pub(super) fn room_above_ramp(&self, key: KeyId) -> u32 {
        let room =
            |max: Option<u32>, open: u32| max.map_or(u32::MAX, |max| max.saturating_sub(open));
        room(self.policy.max_open_per_key, self.keys[key].open)
            .min(room(self.policy.max_open, self.status.open))
    }

    /// The waiter that `dial` was for has been served by another connection. The dial serves one
    /// who has none; else there is one dial too many, and the youngest is stopped.
    ///
    /// At most as many are stopped as connections were opened for those who waited. A pool at the
    /// edge of its demand, where every other caller just misses a connection, would otherwise dial
    /// and stop for ever and never grow.
    pub(super) fn outrun(&mut self, dial: ConnectionId) {
        if self.policy.orphan_dial != OrphanDial::Stopped {
            return;
        }
        let key = self.connections[dial].key;
        if self.connections[dial].is_overdue() {
            // Nobody takes over one that hangs.
            return self.stop_hanging(dial);
        }
        let entry = &self.keys[key];
        if let Some(waiter) = entry.undialed.front(&self.waiters) {
            self.adopt_dial(waiter, dial);
        } else if entry.stops_left > 0 {
            let youngest = entry.tied.back(&self.connections).filter(|id| {
                let (other, own) = (&self.connections[*id], &self.connections[dial]);
                // One that retired in its handshake is of use to its waiter only.
                other.serial > own.serial
                    && !other.is_overdue()
                    && other.retired.is_none()
                    && own.retired.is_none()
            });
            if let Some(youngest) = youngest {
                self.swap_dials(youngest, dial);
            }
            self.stop_dial(youngest.unwrap_or(dial));
        }
    }

    /// The waiter of `younger` gets the dial without a waiter, which started earlier.
    fn swap_dials(&mut self, younger: ConnectionId, older: ConnectionId) {
        let connection = &mut self.connections[younger];
        let DialFor::Waiter(Some(waiter)) = connection.dial_for() else {
            unreachable!("a tied dial has a waiter");
        };
        self.orphan(younger);
        self.give_dial(waiter, older);
        self.waiters[waiter].set_dial(Some(older));
    }

    /// A dial has ended that had been for one waiter: it serves whoever is first in line, where dials
    /// change hands; the other goes on with the dial of that one, if it had any.
    pub(super) fn for_first_in_line(&mut self, id: ConnectionId, dial_for: DialFor) -> DialFor {
        let connection = &self.connections[id];
        let entry = &self.keys[connection.key];
        let DialFor::Waiter(Some(owner)) = dial_for else { return dial_for };
        // One that insists on a new connection, or depends on its own dial, is in no other line.
        if self.policy.orphan_dial != OrphanDial::Stopped
            || connection.capacity == 0
            || connection.retired.is_some()
            || !self.waiters[owner].waits_for_returns()
        {
            return dial_for;
        }
        let first = entry.returns.next(&self.waiters, &mut self.rng).expect("its owner waits");
        if first == owner {
            return dial_for;
        }
        let others = self.waiters[first].set_dial(Some(id));
        self.waiters[owner].set_dial(others);
        if let Some(other) = others {
            self.connections[other].set_dial_for(DialFor::Waiter(Some(owner)));
        } else {
            let entry = &mut self.keys[self.connections[id].key];
            entry.undialed.remove(&mut self.waiters, first, Waiter::in_dials);
            self.rejoin_undialed(owner);
        }
        DialFor::Waiter(Some(first))
    }

    /// A dial without a waiter is for `waiter` from now on.
    pub(super) fn give_dial(&mut self, waiter: WaiterId, dial: ConnectionId) {
        let entry = &mut self.keys[self.connections[dial].key];
        entry.orphans.remove(&mut self.connections, dial, Connection::in_key);
        entry.tied.push_front(&mut self.connections, dial, Connection::in_key);
        self.connections[dial].set_dial_for(DialFor::Waiter(Some(waiter)));
    }

    /// A dial without a waiter is not wanted any more. It may end well before it can be stopped.
    fn stop_dial(&mut self, dial: ConnectionId) {
        let entry = &mut self.keys[self.connections[dial].key];
        entry.orphans.remove(&mut self.connections, dial, Connection::in_key);
        entry.stops_left -= 1;
        self.leave_young(dial);
        self.note_stop(dial);
        self.actions.push_back(Action::StopDial(dial));
    }
}
