//! Questions that several decisions ask, answered from what all parts say together. Nothing changes here.

use std::hash::Hash;

use super::limits::{self, Obstacle};
use super::unused::Look;
use super::{ConnectionId, KeyId, Refusal, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::{Dial, DialForWaiters};

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// `now`, or the time up to which timers were served, if that is later.
    ///
    /// A shell may read a coarse clock, and be woken by a precise timer: what the timer ended (a
    /// pause) would begin again for the rest of the coarse tick, and what the timer started (a
    /// probe) would seem to have ended before its start. Whatever compares with a time at which
    /// a timer was due reads the clock through this.
    pub(super) fn catch_up(&self, now: Timestamp) -> Timestamp {
        now.max(self.timed_until)
    }

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

    /// Whether more connections are open than a lowered limit allows, those that are closing not
    /// counted, so that one of this key has to go.
    #[cold]
    pub(super) fn is_surplus(&self, key: KeyId) -> bool {
        limits::key_is_above(&self.keys[key], &self.policy)
            || limits::pool_is_above(&self.policy, &self.status)
    }

    pub(super) fn is_old(&self, id: ConnectionId) -> bool {
        self.connections[id].generation < self.generation
    }

    /// Idle connections of the current generation.
    pub(super) fn new_idle(&self, key: KeyId) -> u32 {
        let entry = &self.keys[key];
        entry.idle.len() - entry.old_idle
    }

    /// Whether a connection that comes back as it went, unused, was idle when a check began that failed
    /// meanwhile.
    pub(super) fn is_suspect(&self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        connection.idle_since < self.keys[connection.key].distrusted_before
    }

    /// Why a connection must not be lent any more, if its time has come; one of a floor that the idle
    /// timeout spares may be idle for longer.
    #[inline]
    pub(super) fn expired(&self, id: ConnectionId, now: Timestamp) -> Option<CloseCause> {
        let cause = self.rules.past_its_time(&self.connections[id], now)?;
        (!self.is_spared(id, cause, now)).then_some(cause)
    }

    #[cold]
    pub(super) fn is_spared(&self, id: ConnectionId, cause: CloseCause, now: Timestamp) -> bool {
        let connection = &self.connections[id];
        self.rules.spares_floor
            && cause == CloseCause::IdleTimeout
            && now.nanos_since(connection.idle_since) <= connection.own_limit()
            && self.keys[connection.key].idle.len() <= self.policy.min_idle
    }

    /// How long a connection may have been idle that was lent uncollected although `idle_timeout` had
    /// passed.
    pub(super) fn spared_limit(&self, id: ConnectionId) -> u64 {
        if self.rules.spares_floor { self.connections[id].own_limit() } else { 0 }
    }

    pub(super) fn is_looked_at(&self, id: ConnectionId) -> bool {
        self.looks.iter().any(|look| look.id == id)
    }

    /// The connections of a key that are being looked at.
    pub(super) fn in_look(&self, key: KeyId) -> impl Iterator<Item = ConnectionId> {
        self.looks.iter().filter(move |look| look.key == key).map(|look| look.id)
    }

    /// How many connections of a key are being looked at.
    pub(super) fn looks_of(&self, key: KeyId) -> u32 {
        self.in_look(key).count() as u32
    }

    /// How many connections are being looked at.
    pub(super) fn all_looks(&self) -> u32 {
        self.looks.len() as u32
    }

    /// How many connections are being looked at and not awaited by a waiter of their own key.
    pub(super) fn unclaimed_looks(&self) -> u32 {
        let is_claimed = |(at, look): &(usize, &Look)| {
            let before = self.looks[..*at].iter().filter(|other| other.key == look.key).count();
            before < self.keys[look.key].undialed.len() as usize
        };
        self.all_looks() - self.looks.iter().enumerate().filter(is_claimed).count() as u32
    }

    /// Whether a look that is about to end gives one more caller what it asks for at a limit: a
    /// connection of its key, or one that makes way for a new one.
    pub(super) fn is_back_soon(&self, key: KeyId, obstacle: Obstacle) -> bool {
        match obstacle {
            Obstacle::PoolFull => {
                let going = self.status.closing + self.dials.stopping();
                self.unclaimed_looks() > self.starved.needed().saturating_sub(going)
            }
            _ => self.looks_of(key) > self.keys[key].undialed.len(),
        }
    }

    /// Whether this key, or all starved keys together, lack more places than connections that are leaving,
    /// or in a look, will free.
    pub(super) fn looks_do_not_suffice(&self, key: KeyId) -> bool {
        let going = self.status.closing + self.dials.stopping();
        let needed = self.starved.needed().max(self.keys[key].undialed.len());
        needed.saturating_sub(going) > self.unclaimed_looks()
    }

    /// The first waiter without a dial that no look is about to serve.
    pub(super) fn first_unserved(&self, key: KeyId) -> Option<WaiterId> {
        let undialed = &self.keys[key].undialed;
        match self.looks_of(key) {
            0 => undialed.front(&self.waiters),
            looks => {
                undialed.chain().ids(&self.waiters, |waiter| &waiter.in_dials).nth(looks as usize)
            }
        }
    }
}
