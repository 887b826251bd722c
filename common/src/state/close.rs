//! How connections leave: one of them, those that a failed check makes suspect, or all when the pool is closed.

use std::hash::Hash;

use super::connection::{Connection, Phase};
use super::floor::PROVEN_AFTER;
use super::{Action, Answer, ConnectionId, KeyId, Refusal, State, WaiterId};
use crate::clock::Timestamp;
use crate::collections::list::Link;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::AfterFailedCheck;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// A live connection without leases begins to close. It keeps its place in the limits until
    /// [`closed`](State::closed).
    pub(super) fn begin_close(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &mut self.connections[id];
        let (key, link) = (connection.key, std::mem::take(&mut connection.in_key));
        if link.is_linked() {
            self.leave_idle(id, key, link);
        }
        self.keys[key].leave_room(&mut self.connections, id, &self.rules);
        if self.rules.floor {
            self.note_floor_loss(id, cause, now);
        }
        let connection = &mut self.connections[id];
        debug_assert_eq!(connection.leased, 0);
        connection.phase = Phase::Closing;
        let handle = connection.handle.take();
        let never_served = connection.useless && !connection.lent_before;
        self.keys[key].count_useless(connection);
        if never_served {
            let caught_up = self.catch_up(now);
            let backoff = &mut self.keys[key].backoff;
            let pause_ends = backoff.end_useless(&self.policy, &mut self.rng, caught_up);
            if let Some(at) = pause_ends {
                self.set_timer(at, key);
            }
        }
        if !self.connections[id].drained {
            self.keys[key].closing += 1;
            self.status.closing += 1;
        }
        self.stats.closed_by_cause[cause as usize] += 1;
        self.emit(id, EventKind::Closing(cause), now);
        match handle {
            Some(handle) => self.actions.push_back(Action::Close { id, handle, cause }),
            None => self.closed(id, now),
        }
    }

    /// A connection is closed; its place in the limits is free.
    ///
    /// # Panics
    /// When `id` is not closing: every [`Action::Close`] is reported once.
    pub fn closed(&mut self, id: ConnectionId, now: Timestamp) {
        self.emit(id, EventKind::Closed, now);
        let connection = self.connections.remove(id).expect("a connection closes once");
        assert_eq!(connection.phase, Phase::Closing, "a connection begins to close first");
        if self.recording_ages {
            self.ages.push(now.since(connection.opened_at));
        }
        let entry = &mut self.keys[connection.key];
        if connection.drained {
            entry.draining -= 1;
            self.status.draining -= 1;
        } else {
            entry.open -= 1;
            entry.closing -= 1;
            self.status.open -= 1;
            self.status.closing -= 1;
            self.shrink_allowances(connection.key);
        }
        self.room_appeared(connection.key, now);
        self.plan_tidy(now);
    }

    /// Takes a connection out of the idle lists, whose link in the list of its key was `link`.
    pub(super) fn leave_idle(&mut self, id: ConnectionId, key: KeyId, link: Link<ConnectionId>) {
        if self.remaking > 0 {
            self.leave_reserve(id, key);
        }
        self.keys[key].idle.unlink(&mut self.connections, id, link, Connection::in_key);
        if self.rules.global_idle {
            self.all_idle.remove(&mut self.connections, id, Connection::in_all);
        }
        if self.rules.random && !L::SHARED {
            self.keys[key].random.leave(&mut self.connections, id);
        }
        self.status.idle -= 1;
        debug_assert_eq!(self.connections[id].phase, Phase::Live);
    }

    /// An idle connection is lent or ends while floors are remade.
    #[cold]
    pub(super) fn leave_reserve(&mut self, id: ConnectionId, key: KeyId) {
        if self.is_old(id) {
            self.keys[key].reserve.note_left();
        }
    }

    pub(super) fn is_old(&self, id: ConnectionId) -> bool {
        self.connections[id].generation < self.generation
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

    /// A refill came to nothing. The next one waits, whatever the policy says of callers.
    pub(super) fn pause_floor(&mut self, key: KeyId, now: Timestamp) {
        // Else a refill that a timer started, and that came to nothing within a tick, would seem to have
        // ended before its start, and the next would follow at once.
        let now = self.catch_up(now);
        let entry = &mut self.keys[key];
        let paused_until = entry.backoff.paused_until();
        if let Some(due) = entry.floor.fail(paused_until, &self.policy, &mut self.rng, now) {
            self.set_timer(due, key);
        }
    }

    /// A place in the limits was given up: the allowances shrink with `open`.
    pub(super) fn shrink_allowances(&mut self, key: KeyId) {
        if self.above_limits == 0 {
            return;
        }
        let entry = &mut self.keys[key];
        let pool_ended = self.allowance.shrink(self.status.open, self.policy.max_open);
        let key_ended = entry.allowance.shrink(entry.open, self.policy.max_open_per_key);
        self.above_limits -= u32::from(pool_ended) + u32::from(key_ended);
    }

    /// A connection asks to get no new leases (GOAWAY), or says that it is gone. Nothing happens
    /// when it has ended already.
    pub fn retire(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.retired.is_some() {
            return;
        }
        match connection.phase {
            // Remembered until the dial ends.
            Phase::Dialing => connection.retired = Some(cause),
            _ => self.retire_for(id, cause, now),
        }
    }

    /// Closes the pool: idle connections now, leased ones when they come back; every waiter
    /// is refused, and so is every later acquire. Doing it again changes nothing.
    ///
    /// Dials in progress are the shell's to stop; whatever they still give is closed.
    pub fn close(&mut self, now: Timestamp) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let waiting: Vec<WaiterId> =
            self.waiters.iter().filter(|(_, w)| w.waits()).map(|(id, _)| id).collect();
        for id in waiting {
            self.grant(id, Answer::Refuse(Refusal::Closed));
        }
        let live: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.phase == Phase::Live)
            .map(|(id, _)| id)
            .collect();
        for id in live {
            self.retire(id, CloseCause::PoolClosed, now);
        }
        self.timers.clear();
        self.ends.forget_idle_limits();
        self.tidy_at = Timestamp::NEVER;
    }

    /// A check that began at `began` failed or timed out. When a peer has gone silently, every connection
    /// to it is dead and none of them knows. Checked one after another, each would cost its caller a
    /// whole `check_timeout`; so the first failure is taken as evidence against all that were idle
    /// beside it.
    /// Say it before the
    /// [`release`](State::release) of `id`, the connection that was checked, as unfit.
    ///
    /// With [`AfterFailedCheck::Distrust`] the connections of its key that have been idle since
    /// before the check are closed; those that became idle later have worked meanwhile. A connection that is being
    /// looked at, or that a waiter was granted and has not collected, is closed when it comes back. The acquire
    /// then insists on a fresh one: [`Want::fresh`](super::Want::fresh). Else, and when `id` has
    /// ended, nothing happens.
    pub fn distrust(&mut self, id: ConnectionId, began: Timestamp, now: Timestamp) {
        if self.policy.after_failed_check != AfterFailedCheck::Distrust {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let key = connection.key;
        let after = Timestamp::from_nanos(began.as_nanos().saturating_add(1));
        let distrusted_before = &mut self.keys[key].distrusted_before;
        *distrusted_before = after.max(*distrusted_before);
        // On a coarse clock the check may have begun in the tick in which others became idle. Those
        // go too: a needless dial is cheaper than another check that times out.
        while let Some(longest) = self.keys[key].idle.front(&self.connections)
            && self.connections[longest].idle_since <= began
        {
            self.begin_close(longest, CloseCause::Suspect, now);
        }
    }

    /// A connection takes no new leases, and is closed as soon as none is out. A shared one with
    /// leases gives up its place in the limits, so that a successor can be dialed meanwhile.
    #[cold]
    pub(super) fn retire_for(&mut self, id: ConnectionId, cause: CloseCause, now: Timestamp) {
        let connection = &mut self.connections[id];
        connection.retired.get_or_insert(cause);
        let cause = connection.retired.unwrap_or(cause);
        match connection.phase {
            Phase::Dialing | Phase::Closing => {}
            Phase::Draining | Phase::Live if connection.leased == 0 => {
                self.begin_close(id, cause, now);
            }
            Phase::Draining => {}
            Phase::Live => {
                let key = connection.key;
                if L::SHARED {
                    connection.phase = Phase::Draining;
                    connection.drained = true;
                    let entry = &mut self.keys[key];
                    entry.count_useless(connection);
                    entry.leave_room(&mut self.connections, id, &self.rules);
                    entry.open -= 1;
                    entry.draining += 1;
                    self.status.open -= 1;
                    self.status.leased -= 1;
                    self.status.draining += 1;
                    self.shrink_allowances(key);
                    let entry = &mut self.keys[key];
                    entry.note_spent(cause, &self.policy, &mut self.spent_keys);
                    self.emit(id, EventKind::Retired, now);
                    self.room_appeared(key, now);
                } else if !self.looks.contains(id) {
                    self.emit(id, EventKind::Retired, now);
                }
            }
        }
    }
}
