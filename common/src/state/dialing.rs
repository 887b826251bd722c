//! Who dials, and when: a dial starts, changes hands, is doubled by a hedge, or is stopped.
//!
//! The end of a dial is in [`dialed`](super::dialed). The rules of the parts are in
//! [`limits`](super::limits) (what stands in the way of a dial), [`dials`](super::dials) (which dials take
//! too long), [`backoff`](super::backoff) and [`dial_pace`](super::dial_pace).
//!
//! # Hedges
//!
//! A dial that takes longer than usual holds up no caller that could have a second one. From the time
//! when a dial is overdue:
//!
//! - no waiter adopts it, and with a dial for all waiters another one may start;
//! - a waiter that depends on it gets the connection of a second dial (a *hedge*), if the limits
//!   have room. The overdue dial goes on, and the first of the two to succeed serves.
//!
//! Three rules keep hedges from becoming a storm while a peer is silent: one hedge at a time, until
//! one succeeds; each may take twice as long as the one before; and a key has no more than two dials
//! in progress for each waiter. Where the next one would be a third, the hedge that is
//! overdue is stopped first.

use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, DialFor, Phase};
use super::dialed::TICK;
use super::dials::Hanging;
use super::limits::Obstacle;
use super::starved::StarvedKeys;
use super::{Action, Answer, ConnectionId, KeyId, Refusal, State, WaiterId, limits};
use crate::clock::Timestamp;
use crate::event::EventKind;
use crate::lending::Lend;
use crate::policy::{Dial, DialForWaiters, OrphanDial, WaiterOrder};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// What stands in the way of a dial for `key`, if anything does.
    pub(super) fn obstacle(&self, key: KeyId, now: Timestamp) -> Option<Obstacle> {
        let is_paused = || self.is_paused(key, now);
        limits::obstacle(&self.keys[key], is_paused, &self.policy, &self.status, now)
    }

    pub(super) fn pool_is_full(&self) -> bool {
        limits::pool_is_full(&self.policy, &self.status)
    }

    pub(super) fn dials_are_full(&self) -> bool {
        limits::dials_are_full(&self.policy, &self.status)
    }

    /// Whether the pool itself dials for waiters, instead of letting each of them dial.
    pub(super) fn dials_in_background(&self) -> bool {
        self.policy.dial != Dial::Caller || self.policy.dial_for_waiters != DialForWaiters::Waiter
    }

    /// Whether a dial serves any waiter of its key, so that waiters wait for a dial that is not their own.
    pub(super) fn dials_for_all(&self) -> bool {
        self.policy.dial == Dial::Shared || self.policy.dial_for_waiters == DialForWaiters::Opener
    }

    /// Whether dials of a key pause after failures.
    pub(super) fn is_paused(&self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        entry.backoff.is_paused(&self.policy, entry.has_useful(), self.catch_up(now))
    }

    /// The refusal of callers of a key while its dials pause.
    pub(super) fn back_off_refusal(&self, key: KeyId, now: Timestamp) -> Option<Refusal<E>> {
        let refusal = self.keys[key].backoff.refusal(self.catch_up(now))?;
        self.is_paused(key, now).then_some(refusal)
    }

    /// Whether callers of a key fail at once because dials have failed. They wait instead where they
    /// share a connection that works.
    pub(super) fn fails_fast(&self, key: KeyId) -> bool {
        let entry = &self.keys[key];
        entry.backoff.fails_fast(&self.policy) && !(L::SHARED && entry.has_useful())
    }

    /// Takes a place in the limits; asks the shell to dial unless the caller does.
    pub(super) fn start_dial(
        &mut self,
        key: KeyId,
        dial_for: DialFor,
        now: Timestamp,
    ) -> ConnectionId {
        debug_assert!(!self.closed, "a closed pool starts no dial");
        // The user's code, which may panic: before anything is counted.
        let name = (dial_for != DialFor::Caller).then(|| self.keys[key].key.clone());
        // A coarse clock may trail the timer that started the last one.
        let now = self.catch_up(now).max(self.keys[key].pace.last_dial_at());
        let entry = &mut self.keys[key];
        let second_ends = entry.pace.start(entry.dials.in_progress(), &self.policy, now);
        let mut dial = Connection::dialing(key, dial_for, now);
        dial.serial = self.dials.next_serial();
        dial.generation = self.generation;
        dial.idle_limit = self.rules.idle_timeout;
        let id = self.connections.insert(dial);
        entry.open += 1;
        entry.dials.end_set_aside(&mut self.dials, &mut self.connections);
        let can_be_overdue =
            entry.dials.start(&mut self.dials, &mut self.connections, id, &self.policy);
        self.status.open += 1;
        self.status.dialing += 1;
        self.stats.dials += 1;
        self.stats.peak_open = self.stats.peak_open.max(self.status.open);
        self.emit(id, EventKind::Dialing, now);
        if let Some(second_ends) = second_ends {
            self.set_timer(second_ends, key);
        }
        if can_be_overdue {
            self.watch_dials(key);
        }
        if let Some(key) = name {
            self.actions.push_back(Action::Dial { id, key });
        }
        id
    }

    /// A waiter without a dial takes over one that lost its waiter.
    pub(super) fn adopt(&mut self, waiter: WaiterId) {
        let key = self.waiters[waiter].key;
        let Some(dial) = self.keys[key].dials.orphans().front(&self.connections) else { return };
        self.adopt_dial(waiter, dial);
    }

    pub(super) fn adopt_dial(&mut self, waiter: WaiterId, dial: ConnectionId) {
        let key = self.connections[dial].key;
        self.keys[key].dials.adopt(&mut self.connections, dial, waiter);
        self.tie(waiter, dial);
    }

    /// A place in the limits is free, or a dial ended: starts dials for waiters. Keys that the pool's
    /// limit had held back come first, in turn; the floor comes last.
    pub(super) fn room_appeared(&mut self, key: KeyId, now: Timestamp) {
        self.refuse_hopeless(key, None, now);
        if self.starved.is_empty() {
            self.serve_room(key, now);
        } else if self.keys[key].queue.has_undialed() {
            match self.obstacle(key, now) {
                None | Some(Obstacle::PoolFull | Obstacle::DialsFull) => self.starve(key),
                Some(Obstacle::Ramp) => self.watch_ramp(key),
                // It ends with a timer or a connection of the key; no other key has to make way meanwhile.
                Some(_) => self.replace_if_hanging(key, now),
            }
        }
        let mut rounds = self.starved.len();
        while rounds > 0
            && !self.dials.is_opener_busy()
            && !self.pool_is_full()
            && !self.dials_are_full()
            && let Some(starved) = self.starved.pop_front()
        {
            rounds -= 1;
            if StarvedKeys::is_current(&mut self.keys, starved) {
                self.starved.end(&mut self.keys, starved);
                self.serve_room(starved, now);
                self.forget_if_unused(starved);
            }
        }
        self.relieve_starving(now);
        if self.policy.min_idle > 0 {
            self.refill(key, now);
            self.refill_others(now);
        }
        self.forget_if_unused(key);
    }

    /// Starts the dials that the waiters of a key are owed and the limits allow.
    pub(super) fn serve_room(&mut self, key: KeyId, now: Timestamp) {
        while self.serve_room_once(key, now) {}
        if self.keys[key].dials.held_up() > 0 {
            self.hedge(key, now);
            // A waiter whose dial was stopped to make room has to be in line for that room.
            while self.serve_room_once(key, now) {}
        }
        self.replace_if_hanging(key, now);
    }

    /// Starts one of those dials; returns whether there may be another to start.
    pub(super) fn serve_room_once(&mut self, key: KeyId, now: Timestamp) -> bool {
        let entry = &self.keys[key];
        if self.closed || !entry.queue.has_undialed() {
            return false;
        }
        if self.policy.dial == Dial::Racing
            && self.policy.adopt_dials
            && entry.dials.held_up() == 0
            && entry.dials.has_orphans()
            && let Some(waiter) = entry.queue.first_undialed(&self.waiters)
        {
            self.adopt(waiter);
            return true;
        }
        if self.looks.of(key) >= self.keys[key].queue.undialed() {
            // The connections in looks serve them.
            return false;
        }
        match self.obstacle(key, now) {
            None => {}
            Some(Obstacle::PoolFull | Obstacle::DialsFull) => {
                self.make_room(key, now);
                return false;
            }
            Some(Obstacle::Ramp) => {
                self.watch_ramp(key);
                return false;
            }
            Some(_) => return false,
        }
        let waiting = self.keys[key].queue.waiting();
        if self.dials_in_background() && self.has_too_many_hanging(key, waiting) {
            return false;
        }
        match (self.policy.dial, self.policy.dial_for_waiters) {
            (Dial::Shared, _) => {
                self.start_dial(key, DialFor::Key, now);
                return false;
            }
            (Dial::Caller, DialForWaiters::Opener) => {
                if self.dials.is_opener_busy() {
                    self.starve(key);
                    return false;
                }
                self.start_dial(key, DialFor::Opener, now);
                return false;
            }
            (Dial::Caller, DialForWaiters::Waiter) => {
                let Some(waiter) = self.keys[key].queue.next(&self.waiters, &mut self.rng) else {
                    return false;
                };
                let dial = self.start_dial(key, DialFor::Caller, now);
                self.grant(waiter, Answer::Dial(dial));
                if self.policy.waiter_order == WaiterOrder::AllAtOnce {
                    self.wake_all(key);
                }
            }
            (Dial::Detached | Dial::Racing, _) | (_, DialForWaiters::Background) => {
                let looks = self.looks.of(key);
                let Some(waiter) = self.keys[key].queue.first_unserved(&self.waiters, looks) else {
                    return false;
                };
                let dial = self.start_dial(key, DialFor::Waiter(Some(waiter)), now);
                self.tie(waiter, dial);
            }
        }
        true
    }

    /// The ramp holds a waiter back: the key is looked at again when the dials in progress are late.
    pub(super) fn watch_ramp(&mut self, key: KeyId) {
        if let Some(ramp_ends) = self.keys[key].pace.ramp_ends(&self.policy) {
            self.set_timer(ramp_ends, key);
        }
    }

    /// The key is looked at again when its next dial is overdue.
    pub(super) fn watch_dials(&mut self, key: KeyId) {
        let overdue_at = self.keys[key].dials.next_overdue(&self.connections, &self.policy);
        self.set_timer(overdue_at, key);
    }

    /// Whether the dial takes longer than usual; without `dial_hedge`, longer than the default of
    /// that. A caller that gives up a dial which is not overdue has learned nothing about the peer.
    pub fn is_overdue(&self, id: ConnectionId, now: Timestamp) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        self.is_slower_than_a_dial(id, now.since(connection.opened_at))
    }

    /// Whether `took`, the time that a dial or a check of this connection has taken so far, is long for its
    /// key: at least twice what a dial usually takes, and at least `dial_hedge` (without that, its default).
    /// `false` when the connection has ended.
    fn is_slower_than_a_dial(&self, id: ConnectionId, took: Duration) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        self.keys[connection.key].dials.patience.is_slow(took, &self.policy)
    }

    /// Whether a check of this connection, cut off after `took` by the deadline of a caller that had waited
    /// for `waited` in all, tells anything of the peer: it was slower than a dial, or had at least half of
    /// the caller's time and as long as a dial usually takes, at least 10 ms. `false` when the connection has ended.
    pub fn has_had_its_chance(&self, id: ConnectionId, took: Duration, waited: Duration) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        // A dial may be shorter than a tick of the clock. Then little time tells nothing.
        let usual = self.keys[connection.key].dials.patience.usual().max(TICK);
        self.is_slower_than_a_dial(id, took) || (took >= waited / 2 && took >= usual)
    }

    /// Dials that have taken too long are overdue from now on.
    pub(super) fn mark_overdue(&mut self, key: KeyId, now: Timestamp) {
        let dials = &mut self.keys[key].dials;
        let changes = dials.mark_overdue(&mut self.dials, &mut self.connections, &self.policy, now);
        if changes.opener_is_free {
            // Waiters of other keys may have been waiting for it.
            self.room_appeared(key, now);
        }
    }

    /// Starts the second dials that waiters of overdue ones are owed and the limits allow.
    fn hedge(&mut self, key: KeyId, now: Timestamp) {
        let is_shared = self.policy.dial == Dial::Shared;
        loop {
            let entry = &self.keys[key];
            if self.closed || entry.dials.hedges_lacking(entry.live(), &self.policy) == 0 {
                return;
            }
            let (waiting, hedge_after) =
                (entry.queue.waiting(), entry.dials.patience.hedge_after());
            if hedge_after > self.catch_up(now) {
                return self.set_timer(hedge_after, key);
            }
            match self.obstacle(key, now) {
                None if self.has_too_many_hanging(key, waiting) => return,
                None => {}
                // Its end has a timer, and no dial that is stopped brings that forward.
                Some(Obstacle::Paused | Obstacle::Rate) => return,
                // A dial that is stopped makes no room: another starts when that connection has ended.
                Some(Obstacle::Useless) => return,
                Some(Obstacle::Ramp) => return self.watch_ramp(key),
                Some(Obstacle::KeyFull | Obstacle::Dialing) => {
                    if !self.has_too_many_hanging(key, waiting) {
                        self.replace_overdue(key, now);
                    }
                    return;
                }
                // It may end with something of another key: look again.
                Some(Obstacle::PoolFull | Obstacle::DialsFull) => {
                    if !self.has_too_many_hanging(key, waiting) {
                        self.replace_overdue(key, now);
                    }
                    let patience = self.keys[key].dials.patience.limit(&self.policy);
                    let again = patience.unwrap_or(self.policy.dial_timeout);
                    return self.set_timer(now.after(again), key);
                }
            }
            let dial_for = if is_shared { DialFor::Key } else { DialFor::Waiter(None) };
            self.start_dial(key, dial_for, now);
        }
    }

    /// Overdue dials that have waiters take all the room there is, and no connection that works will
    /// come back to those waiters: the youngest of the dials is given up for another try. Its waiter
    /// goes on without a dial, and is the first to get one when the shell has stopped this one.
    fn replace_overdue(&mut self, key: KeyId, now: Timestamp) {
        let entry = &self.keys[key];
        let returns_serve = self.policy.dial != Dial::Detached && entry.has_useful();
        // The only dial has the last word, its failure is told when `dial_timeout` is over: unless a
        // connection of the key works, which may serve the waiter.
        let is_only = entry.dials.tied().len() < 2 && !entry.has_useful();
        let has_young = !entry.dials.young().is_empty();
        if has_young || entry.dials.stopping() > 0 || returns_serve || is_only {
            return;
        }
        let Some(youngest) = entry.dials.tied().back(&self.connections) else { return };
        let connection = &self.connections[youngest];
        let DialFor::Waiter(Some(waiter)) = connection.dial_for() else { return };
        if !connection.is_overdue() {
            return;
        }
        self.orphan(youngest);
        self.untie(waiter, now);
        self.stop_dial(youngest);
    }

    /// Whether another dial would be a third for each of `waiting` waiters. Then one that hangs is
    /// stopped, and its end makes room.
    pub(super) fn has_too_many_hanging(&mut self, key: KeyId, waiting: u32) -> bool {
        match self.keys[key].dials.hangs(&self.connections, waiting) {
            Hanging::Few => false,
            Hanging::BeingStopped => true,
            Hanging::Stop(dial) => {
                self.stop_dial(dial);
                true
            }
        }
    }

    /// Waiters of a key may lack the room that an overdue dial without a waiter takes: then one such dial
    /// is stopped. Called when a caller joins the queue, when a dial becomes overdue, and when
    /// the waiter of an overdue dial leaves.
    pub(super) fn replace_if_hanging(&mut self, key: KeyId, now: Timestamp) {
        let Some(entry) = self.keys.get(key) else { return };
        let Some(oldest) = entry.dials.hanging().front(&self.connections) else { return };
        if self.closed || entry.dials.stopping() > 0 || entry.queue.undialed() <= self.looks.of(key)
        {
            return;
        }
        // A dial for all waiters is not abandoned while one is there that has waited for it from its start.
        if self.dials_for_all()
            && let Some(first) = entry.queue.first_undialed(&self.waiters)
            && self.waiters[first].waited_for(self.connections[oldest].serial)
        {
            return;
        }
        if let Some(
            Obstacle::KeyFull | Obstacle::PoolFull | Obstacle::Dialing | Obstacle::DialsFull,
        ) = self.obstacle(key, now)
        {
            self.stop_dial(oldest);
        }
    }

    /// Asks the shell to stop a dial without a waiter. Its place in the limits is free when the shell has
    /// reported that.
    pub(super) fn stop_dial(&mut self, dial: ConnectionId) {
        let key = self.connections[dial].key;
        self.keys[key].dials.stop(&mut self.dials, &mut self.connections, dial);
        self.actions.push_back(Action::StopDial(dial));
    }

    /// A dial in progress has lost its waiter.
    pub(super) fn orphan(&mut self, dial: ConnectionId) {
        let Some(connection) = self.connections.get(dial) else { return };
        if connection.phase == Phase::Dialing
            && let DialFor::Waiter(Some(_)) = connection.dial_for()
        {
            let dials = &mut self.keys[connection.key].dials;
            dials.orphan(&mut self.dials, &mut self.connections, dial);
        }
    }

    /// With `orphan_dial=stopped`: the waiter that `dial` was for has been served by another connection.
    /// The dial serves a waiter that has none; else there is one dial too many, and the youngest is
    /// stopped.
    pub(super) fn outrun(&mut self, dial: ConnectionId) {
        if self.policy.orphan_dial != OrphanDial::Stopped {
            return;
        }
        let key = self.connections[dial].key;
        if self.connections[dial].is_overdue() {
            // No waiter adopts a dial that hangs.
            return self.stop_dial(dial);
        }
        let entry = &mut self.keys[key];
        if let Some(waiter) = entry.queue.first_undialed(&self.waiters) {
            self.adopt_dial(waiter, dial);
        } else if entry.dials.spend_stop() {
            let youngest = entry.dials.tied().back(&self.connections).filter(|id| {
                let (other, own) = (&self.connections[*id], &self.connections[dial]);
                // A dial whose connection retired in its handshake is of use to its waiter only.
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
        let connection = &self.connections[younger];
        let DialFor::Waiter(Some(waiter)) = connection.dial_for() else {
            unreachable!("a tied dial has a waiter");
        };
        let key = connection.key;
        self.orphan(younger);
        self.keys[key].dials.adopt(&mut self.connections, older, waiter);
        self.waiters[waiter].set_dial(Some(older));
    }

    /// A look is over: of the callers that came meanwhile, one more may have to be dialed for.
    pub(super) fn dial_after_look(&mut self, key: KeyId, now: Timestamp) {
        if self.keys.get(key).is_some_and(|entry| entry.queue.has_undialed()) {
            self.room_appeared(key, now);
        }
    }
}
