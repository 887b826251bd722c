//! A dial has ended: its connection is lent, or its failure told, and the dial that follows starts.
//!
//! The shell reports each dial here once, by [`dialed`](State::dialed), [`dial_failed`](State::dial_failed),
//! [`dial_denied`](State::dial_denied) or [`dial_lost`](State::dial_lost).

use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, DialFor, Phase};
use super::{Answer, ConnectionId, Lent, State};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{AfterFailedDial, Dial, OrphanDial, WaiterOrder};

/// The resolution of a coarse clock, at most.
pub(super) const TICK: Duration = Duration::from_millis(10);

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A dial succeeded. `capacity` is how many leases the connection serves at a time, before the
    /// policy's cap; exclusive connections serve one.
    ///
    /// Returns the connection when the caller dialed for itself, unless the pool was closed. When
    /// the connection [`is_gone`](State::is_gone) report a failed dial instead: it is never lent.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dialed(
        &mut self,
        id: ConnectionId,
        handle: L,
        capacity: u32,
        now: Timestamp,
    ) -> Option<Lent<L>> {
        if self.is_gone(id) {
            self.dialed_in_vain(id, handle, now);
            return None;
        }
        let dial_for = self.end_dial(id);
        let expires_at = self.lifetime_end(now);
        let cap = self.policy.max_leases_per_connection.unwrap_or(u32::MAX);
        let connection = &mut self.connections[id];
        let capacity = connection.leave_dial().unwrap_or(capacity);
        let took = now.since(connection.opened_at);
        connection.handle = Some(handle);
        connection.peer_capacity = capacity;
        connection.capacity = if L::SHARED { capacity.min(cap) } else { 1 };
        connection.opened_at = now;
        connection.expires_at = expires_at;
        let key = connection.key;
        let retired = connection.retired;
        self.stats.opened += 1;
        self.emit(id, EventKind::Opened(took), now);
        self.watch_lifetime(id, expires_at, now);
        self.end_set_aside(key);
        let entry = &mut self.keys[key];
        entry.count_useless(&mut self.connections[id]);
        entry.capacity = Some(capacity.into());
        entry.backoff.succeed(!self.connections[id].useless);
        entry.dials.patience.note_time(took);
        // The patience with the dials in progress may be shorter now.
        self.watch_dials(key);
        if self.rules.floor {
            self.keys[key].floor.note_success(dial_for != DialFor::Floor, now);
            self.want_floor(key, now);
        }

        if self.closed {
            self.begin_close(id, CloseCause::PoolClosed, now);
            return None;
        }
        let mut lent = None;
        match dial_for {
            DialFor::Caller => lent = Some(self.lend_first(id, now)),
            _ => self.serve_dependents(id, dial_for, now),
        }
        let unclaimed = self.connections[id].leased == 0;
        if let Some(cause) = retired {
            self.connections[id].retired = None;
            self.retire_for(id, cause, now);
        } else if unclaimed
            && matches!(dial_for, DialFor::Waiter(None) | DialFor::Key | DialFor::Opener)
            && self.policy.orphan_dial == OrphanDial::Dropped
            && !self.keys[key].queue.wants_returns()
        {
            self.begin_close(id, CloseCause::Orphan, now);
        } else {
            self.settle(id, now);
            if self.policy.waiter_order == WaiterOrder::AllAtOnce {
                self.wake_all(key);
            }
        }
        if self.connections[id].leased > 0 {
            self.keys[key].dials.earn_stop();
        }
        self.room_appeared(key, now);
        lent
    }

    /// Whether a connection has said that it is gone before its dial was reported: then report a
    /// failed dial instead.
    pub fn is_gone(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            connection.phase == Phase::Dialing && connection.retired == Some(CloseCause::Gone)
        })
    }

    /// As `dialed`, of a connection that is gone already: it is closed, and the waiters of its dial go
    /// on waiting.
    #[cold]
    fn dialed_in_vain(&mut self, id: ConnectionId, handle: L, now: Timestamp) {
        let dial_for = self.end_dial(id);
        let connection = &mut self.connections[id];
        let key = connection.key;
        let took = now.since(connection.opened_at);
        connection.leave_dial();
        connection.handle = Some(handle);
        connection.opened_at = now;
        self.stats.opened += 1;
        self.emit(id, EventKind::Opened(took), now);
        self.begin_close(id, CloseCause::Gone, now);
        if let DialFor::Waiter(Some(owner)) = dial_for {
            self.untie(owner, now);
        }
        self.room_appeared(key, now);
    }

    /// Serves the waiters that a finished dial belongs to before all others.
    fn serve_dependents(&mut self, id: ConnectionId, dial_for: DialFor, now: Timestamp) {
        let key = self.connections[id].key;
        let dial_for = self.for_first_in_line(id, dial_for);
        let retired = self.connections[id].retired.is_some();
        if let DialFor::Waiter(Some(owner)) = dial_for {
            if self.connections[id].capacity > 0 || retired {
                let lent = self.lend_first(id, now);
                self.keys[key].queue.end_dial(&mut self.waiters, owner);
                self.grant(owner, Answer::Lend(lent));
            } else {
                self.untie(owner, now);
            }
        } else if retired {
            // The connection serves once. As with a sound connection, waiters that depend on a dial come first.
            let queue = &self.keys[key].queue;
            let dependent = queue.first_dependent(&self.waiters);
            if let Some(waiter) = dependent.or_else(|| queue.next(&self.waiters, &mut self.rng)) {
                let lent = self.lend_first(id, now);
                self.grant(waiter, Answer::Lend(lent));
            }
        }
        // A detached dial that lost its caller serves the next caller that waits for a dial, whose
        // own dial is then the one without a caller.
        while self.connections[id].has_room()
            && let Some(next) = self.keys[key].queue.first_dependent(&self.waiters)
        {
            let lent = self.lend(id, now);
            self.grant(next, Answer::Lend(lent));
        }
    }

    /// A dial has ended that had been for one waiter. Where dials change hands, it serves the first waiter
    /// in the queue; the other goes on with the dial of that waiter, if it had any.
    fn for_first_in_line(&mut self, id: ConnectionId, dial_for: DialFor) -> DialFor {
        let connection = &self.connections[id];
        let entry = &self.keys[connection.key];
        let DialFor::Waiter(Some(owner)) = dial_for else { return dial_for };
        // A waiter that insists on a new connection, or depends on its own dial, is in no other queue.
        if self.policy.orphan_dial != OrphanDial::Stopped
            || connection.capacity == 0
            || connection.retired.is_some()
            || !self.waiters[owner].waits_for_returns()
        {
            return dial_for;
        }
        let first = entry.queue.next(&self.waiters, &mut self.rng).expect("its owner waits");
        if first == owner {
            return dial_for;
        }
        let others = self.waiters[first].set_dial(Some(id));
        self.waiters[owner].set_dial(others);
        if let Some(other) = others {
            self.connections[other].set_dial_for(DialFor::Waiter(Some(owner)));
        } else {
            let queue = &mut self.keys[self.connections[id].key].queue;
            queue.pass_dial(&mut self.waiters, owner, first);
        }
        DialFor::Waiter(Some(first))
    }

    /// The first lease of a connection, even of one that serves no other caller: it may have retired during
    /// its handshake, or its peer may allow no lease. Its borrower finds out, and the retry rule of the
    /// borrower bounds the attempts.
    fn lend_first(&mut self, id: ConnectionId, now: Timestamp) -> Lent<L> {
        let capacity = self.connections[id].capacity;
        self.connections[id].capacity = capacity.max(1);
        let lent = self.lend(id, now);
        self.connections[id].capacity = capacity;
        lent
    }

    /// A dial failed, with `error`; or was given up by its caller or stopped, with `None`, which
    /// does not count as a failure of the peer.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dial_failed(&mut self, id: ConnectionId, error: Option<E>, now: Timestamp) {
        self.end_failed_dial(id, error, false, now);
    }

    /// As [`dial_failed`](State::dial_failed): the peer answered and turned this client away
    /// ([`DialFailure::Denied`](crate::DialFailure)). Nothing is dialed in the background until a dial
    /// for a caller succeeds.
    ///
    /// # Panics
    /// As [`dial_failed`](State::dial_failed).
    pub fn dial_denied(&mut self, id: ConnectionId, error: E, now: Timestamp) {
        self.end_failed_dial(id, Some(error), true, now);
    }

    fn end_failed_dial(
        &mut self,
        id: ConnectionId,
        error: Option<E>,
        denied: bool,
        now: Timestamp,
    ) {
        let now = self.catch_up(now);
        let dial_for = self.end_dial(id);
        self.stats.dials_failed += 1;
        self.emit(id, EventKind::DialFailed, now);
        let dial = self.connections.remove(id).expect("it was dialing just now");
        let key = dial.key;
        self.keys[key].open -= 1;
        self.status.open -= 1;
        self.shrink_allowances(key);
        if denied {
            self.keys[key].backoff.deny();
        }
        match error {
            Some(error) => self.note_failure(&dial, dial_for, error, now),
            // Its caller is gone; a waiter it may have had goes on without a dial.
            None => {
                if let DialFor::Waiter(Some(owner)) = dial_for {
                    self.untie(owner, now);
                }
                // Earlier failures may only have been remembered for the sake of this dial.
                let backoff = &self.keys[key].backoff;
                if backoff.needs_its_key() {
                    self.set_timer(now.max(backoff.remember_until()), key);
                }
            }
        }
        if dial_for == DialFor::Floor {
            self.retry_floor(key, now);
        }
        self.room_appeared(key, now);
    }

    /// A dial that the shell was asked for did not end: the runtime it ran on did, or stands still, or
    /// there was none. That says nothing of the peer, so it is no failure of the peer's.
    ///
    /// A waiter that a dial is still owed to is granted leave to dial in its own task. Another task
    /// might be spawned where the first one was; the waiter's own runs where it waits.
    ///
    /// # Panics
    /// When `id` is not dialing: every dial ends once.
    pub fn dial_lost(&mut self, id: ConnectionId, now: Timestamp) {
        let now = self.catch_up(now);
        let dial_for = self.end_dial(id);
        self.stats.dials_failed += 1;
        self.emit(id, EventKind::DialFailed, now);
        let key = self.connections[id].key;
        self.connections.remove(id);
        self.keys[key].open -= 1;
        self.status.open -= 1;
        self.shrink_allowances(key);
        match dial_for {
            DialFor::Waiter(Some(owner)) => self.untie(owner, now),
            DialFor::Floor => self.retry_floor(key, now),
            _ => {
                let dials = &mut self.keys[key].dials;
                if let Some(hedge_after) = dials.put_off_hedge(dial_for, &self.policy, now) {
                    self.set_timer(hedge_after, key);
                }
            }
        }
        let backoff = &self.keys[key].backoff;
        if backoff.needs_its_key() {
            // With fail-fast the pause goes on until a probe has succeeded: the next one is due later.
            let look_again = now.after(self.policy.back_off_base);
            self.set_timer(look_again.max(backoff.paused_until()), key);
        }
        if !self.closed
            && self.obstacle(key, now).is_none()
            && let Some(waiter) = self.keys[key].queue.first_undialed(&self.waiters)
        {
            let dial = self.start_dial(key, DialFor::Caller, now);
            self.grant(waiter, Answer::Dial(dial));
        }
        self.room_appeared(key, now);
    }

    /// `dial` has failed: pauses further dials where the policy asks for that, and tells the callers
    /// that the dial started for.
    ///
    /// A caller that came later could have had another dial, and gets it now. A caller that a
    /// lease of its key or a second dial may still serve goes on waiting.
    fn note_failure(&mut self, dial: &Connection<L>, dial_for: DialFor, error: E, now: Timestamp) {
        let key = dial.key;
        let entry = &mut self.keys[key];
        entry.pace.forget_spent(&mut self.spent_keys);
        let backs_off = self.policy.after_failed_dial == AfterFailedDial::BackOff;
        // Beside connections that work a dial is a wish for more: callers wait for their leases, and
        // the next dial waits, too, or refusals would be answered with dials without a pause.
        let beside = entry.has_useful() && (L::SHARED || backs_off);
        let rng = &mut self.rng;
        let pause_ends = entry.backoff.fail(error.clone(), beside, &self.policy, rng, now);
        let pauses = entry.backoff.pauses(&self.policy);
        let hedge_after = if pauses || beside {
            None
        } else {
            entry.dials.put_off_hedge(dial_for, &self.policy, now)
        };
        let remember_until = entry.backoff.remember_until();
        for at in [pause_ends, hedge_after, Some(remember_until)].into_iter().flatten() {
            self.set_timer(at, key);
        }

        let patient = beside || (self.policy.wait_for_ready && backs_off);
        // A dial that took all of `dial_timeout` ends the wait of its caller, hedged or not.
        // Both ends of the dial were read from a clock that may be coarse.
        let took = now.since(dial.opened_at).saturating_add(TICK);
        let had_its_time = took >= self.policy.dial_timeout;
        let dials = &self.keys[key].dials;
        let is_hedged = dial.is_overdue() && !had_its_time && !dials.young().is_empty();
        match dial_for {
            DialFor::Waiter(Some(owner)) if patient => self.untie(owner, now),
            DialFor::Waiter(Some(owner)) if is_hedged && dials.has_orphans() => {
                self.untie(owner, now);
            }
            DialFor::Waiter(Some(owner)) => {
                self.keys[key].queue.end_dial(&mut self.waiters, owner);
                self.grant(owner, Answer::DialFailed(error));
            }
            DialFor::Key => self.tell_joined(dial, error, patient),
            DialFor::Waiter(None) if self.policy.dial == Dial::Shared => {
                self.tell_joined(dial, error, patient || is_hedged);
            }
            // Its waiter is in the queues, and goes on waiting there.
            DialFor::Opener if patient => {}
            DialFor::Opener => {
                if let Some(waiter) = self.keys[key].queue.next(&self.waiters, &mut self.rng) {
                    self.grant(waiter, Answer::DialFailed(error));
                }
            }
            _ => {}
        }
        self.refuse_hopeless(key, Some(dial.serial), now);
    }

    /// A dial for all waiters has failed: those that waited when it started are told.
    fn tell_joined(&mut self, dial: &Connection<L>, error: E, patient: bool) {
        while !patient
            && let Some(waiter) = self.keys[dial.key].queue.first_undialed(&self.waiters)
            && self.waiters[waiter].waited_for(dial.serial)
        {
            self.grant(waiter, Answer::DialFailed(error.clone()));
        }
    }

    /// Common to every end of a dial.
    fn end_dial(&mut self, id: ConnectionId) -> DialFor {
        let connection = &self.connections[id];
        assert!(connection.phase == Phase::Dialing, "a dial ends once");
        let (entry, started) = (&mut self.keys[connection.key], connection.opened_at);
        entry.pace.end(started);
        self.status.dialing -= 1;
        entry.dials.end(&mut self.dials, &mut self.connections, id)
    }
}
