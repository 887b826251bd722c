//! Time passes: idle connections and lifetimes end, pauses are over, refills are due.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::connection::Phase;
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::Expiry;

/// How many timers of a kind one call handles, so that it does not keep the lock for long.
pub(super) const AT_A_TIME: usize = 1024;

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// When [`handle_timeout`](State::handle_timeout) has something to do, if nothing else happens
    /// before; [`Timestamp::NEVER`] when it has not. May be early, never late.
    pub fn next_deadline(&mut self) -> Timestamp {
        self.noted_deadline = Timestamp::NEVER;
        if self.connections.is_empty() {
            self.forget_ends();
        }
        let just_after = Duration::from_nanos(1);
        let mut next = self.timers.peek().map_or(Timestamp::NEVER, |Reverse((at, _))| *at);
        next = next.min(self.next_expiry()).min(self.tidy_at);
        next = next.min(self.idle_limits.peek().map_or(Timestamp::NEVER, |Reverse((at, _))| *at));
        match self.policy.expiry {
            Expiry::Timer => {
                if let Some(Reverse((at, _))) = self.lifetimes.peek() {
                    next = next.min(at.after(just_after));
                }
            }
            Expiry::Sweep
                if (self.policy.idle_timeout.is_some() && self.status.idle > 0)
                    || !self.lifetimes.is_empty() =>
            {
                next = next.min(self.next_sweep);
            }
            Expiry::Sweep | Expiry::AtAcquire | Expiry::PruneAtAcquire => {}
        }
        next
    }

    /// Notes the next deadline again, for a new timer to be armed.
    pub fn renote_deadline(&mut self) {
        let next = self.next_deadline();
        self.note_deadline(next);
    }

    /// Does what is due at `now`. A bounded number of timers is handled in one call; the others are due
    /// at once again, so that no thread waits long for the lock.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.timed_until = self.catch_up(now);
        self.expire_waiters(now);
        let sweeps = self.policy.expiry == Expiry::Sweep && now >= self.next_sweep;
        if sweeps {
            let swept = self.sweep_idle(now) && self.expire_lifetimes(now);
            // The sweep goes on at once where much is due.
            self.next_sweep = if swept { now.after(self.policy.sweep_interval) } else { now };
        } else if self.policy.expiry == Expiry::Timer {
            self.expire_lifetimes(now);
        }
        self.expire_idle_limits(now);
        for _ in 0..AT_A_TIME {
            let Some(&Reverse((at, key))) = self.timers.peek().filter(|next| next.0.0 <= now)
            else {
                break;
            };
            self.timers.pop();
            // An earlier one has replaced it, or the key was forgotten.
            if self.keys.get(key).is_some_and(|entry| entry.timer_at == at) {
                self.keys[key].timer_at = Timestamp::NEVER;
                self.key_timeout(key, now);
            }
        }
        self.tidy(now);
    }

    /// Why a connection must not be lent any more, if its time has come; one of a floor that the idle
    /// timeout spares may be idle for longer.
    #[inline]
    pub(super) fn expired(&self, id: ConnectionId, now: Timestamp) -> Option<CloseCause> {
        let cause = self.rules.past_its_time(&self.connections[id], now)?;
        (!self.is_spared(id, cause, now)).then_some(cause)
    }

    #[cold]
    fn is_spared(&self, id: ConnectionId, cause: CloseCause, now: Timestamp) -> bool {
        let connection = &self.connections[id];
        self.rules.spares_floor
            && cause == CloseCause::IdleTimeout
            && now.nanos_since(connection.idle_since) <= connection.own_limit()
            && self.keys[connection.key].idle.len() <= self.policy.min_idle
    }

    /// Closes idle connections that are past their time; says whether none is left.
    fn sweep_idle(&mut self, now: Timestamp) -> bool {
        if !self.rules.swept_idle {
            return true;
        }
        if self.rules.spares_floor {
            return self.sweep_unspared(now);
        }
        for _ in 0..AT_A_TIME {
            let Some(id) = self.all_idle.front(&self.connections) else { return true };
            let Some(cause) = self.rules.past_its_time(&self.connections[id], now) else {
                return true;
            };
            self.begin_close(id, cause, now);
        }
        false
    }

    /// Spared connections stay at the front of the list, before others that are due. So a sweep that
    /// is not complete goes on where it was.
    fn sweep_unspared(&mut self, now: Timestamp) -> bool {
        let from = self.swept_to.take().filter(|id| {
            self.connections.get(*id).is_some_and(|connection| connection.in_all.is_linked())
        });
        let from = from.or_else(|| self.all_idle.front(&self.connections));
        let past =
            |id: &ConnectionId| self.rules.past_its_time(&self.connections[*id], now).is_some();
        let ids = self.all_idle.chain().ids_from(from, &self.connections, |c| &c.in_all);
        let mut due: Vec<ConnectionId> = ids.take_while(past).take(AT_A_TIME + 1).collect();
        self.swept_to = if due.len() > AT_A_TIME { due.pop() } else { None };
        for id in due {
            if let Some(cause) = self.expired(id, now) {
                self.begin_close(id, cause, now);
            }
        }
        self.swept_to.is_none()
    }

    /// Ends connections whose lifetime is over; says whether none is left.
    fn expire_lifetimes(&mut self, now: Timestamp) -> bool {
        for _ in 0..AT_A_TIME {
            let Some(&Reverse((_, id))) = self.lifetimes.peek().filter(|next| next.0.0 < now)
            else {
                return true;
            };
            self.lifetimes.pop();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.phase != Phase::Live {
                continue;
            }
            if L::SHARED || connection.leased == 0 {
                self.retire_for(id, CloseCause::Lifetime, now);
            } else {
                // It ends when it is returned, which may be told by a clock that trails this timer; there
                // is no other timer that would find it.
                if connection.retired.is_none() {
                    connection.retired = Some(CloseCause::Lifetime);
                    // A look at an idle connection is no lease for observers.
                    if !self.is_looked_at(id) {
                        self.emit(id, EventKind::Retired, now);
                    }
                }
            }
        }
        false
    }

    /// The idle connections of one key that are past their time, longest idle first.
    pub(super) fn prune(&mut self, key: KeyId, now: Timestamp) {
        while let Some(id) = self.keys[key].idle.front(&self.connections) {
            match self.expired(id, now) {
                Some(cause) => self.begin_close(id, cause, now),
                None => break,
            }
        }
    }

    fn key_timeout(&mut self, key: KeyId, now: Timestamp) {
        if self.rules.timed_idle {
            self.prune(key, now);
        }
        self.end_second(key, now);
        let Some(entry) = self.keys.get(key) else { return };
        let pause_is_over = entry.paused_until <= now;
        self.mark_overdue(key, now);
        if pause_is_over {
            if self.is_paused(key, now) && !self.keys[key].denied {
                self.probe(key, now);
            }
            self.serve_room(key, now);
        }
        self.refill(key, now);
        let hedge_at = self.next_overdue(key);
        let entry = &mut self.keys[key];
        if entry.remember_until <= now && entry.paused_until <= now && entry.dialing == 0 {
            entry.failures = 0;
            entry.last_error = None;
        }
        let longest_idle = entry.idle.front(&self.connections).filter(|_| self.rules.timed_idle);
        let idle_end = longest_idle
            .map_or(Timestamp::NEVER, |id| self.rules.idle_end(self.connections[id].idle_since));
        let second_end = entry.end_of_second();
        let pending = [
            idle_end,
            entry.paused_until,
            entry.refill_at,
            entry.remember_until,
            second_end,
            hedge_at,
        ];
        if let Some(&next) = pending.iter().filter(|at| **at > now).min() {
            self.set_timer(next, key);
        }
        self.forget_if_unused(key);
    }

    /// When a connection opened at `now` ends: its lifetime, moved by the jitter.
    pub(super) fn lifetime_end(&mut self, now: Timestamp) -> Timestamp {
        let Some(lifetime) = self.policy.max_lifetime else { return Timestamp::NEVER };
        let jitter = self.policy.lifetime_jitter;
        if jitter.is_zero() {
            return now.after(lifetime);
        }
        let spread = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
        now.after(lifetime - jitter).after(Duration::from_nanos(self.rng.u64(..=spread)))
    }

    pub(super) fn watch_lifetime(&mut self, id: ConnectionId, end: Timestamp, now: Timestamp) {
        if self.next_sweep == Timestamp::NEVER {
            self.next_sweep = now.after(self.policy.sweep_interval);
        }
        if !self.rules.timed_lifetimes {
            return;
        }
        if is_overgrown(self.lifetimes.len(), self.connections.len()) {
            let connections = &self.connections;
            self.lifetimes.retain(|Reverse((_, id))| connections.contains(*id));
        }
        self.lifetimes.push(Reverse((end, id)));
        let due = if self.policy.expiry == Expiry::Sweep { self.next_sweep } else { end };
        self.note_deadline(due.after(Duration::from_nanos(1)));
    }

    /// Something of this key is due at `at`. Nothing is in a closed pool.
    ///
    /// One timer is pending for a key at a time, the earliest; when it fires, the next is set.
    pub(super) fn set_timer(&mut self, at: Timestamp, key: KeyId) {
        let entry = &mut self.keys[key];
        if at >= entry.timer_at || self.closed {
            return;
        }
        entry.timer_at = at;
        if is_overgrown(self.timers.len(), self.keys.len()) {
            // A walk over those that are set, not over the keys: there may be memory for many more.
            let mut timers = std::mem::take(&mut self.timers).into_vec();
            timers.retain(|Reverse((at, key))| {
                self.keys.get(*key).is_some_and(|entry| entry.timer_at == *at)
            });
            timers.sort_unstable();
            timers.dedup();
            self.timers = timers.into_iter().collect();
        }
        self.timers.push(Reverse((at, key)));
        self.note_deadline(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::{Exclusive, Lending};
    use crate::policy::{Dial, Policy};
    use crate::state::{Acquire, Action, Fitness, Want};

    #[test]
    fn a_sweep_over_many_spared_connections_is_done_in_pieces() {
        let hour = Duration::from_secs(3600);
        let policy = Policy {
            dial: Dial::Caller,
            idle_timeout: Some(hour),
            expiry: Expiry::Sweep,
            sweep_interval: hour,
            min_idle: 1,
            idle_timeout_spares_floor: true,
            max_open_per_key: None,
            max_dials: None,
            max_dials_per_key: None,
            dial_ramp: None,
            max_lifetime: None,
            lifetime_jitter: Duration::ZERO,
            ..Policy::default()
        };
        let mut state = State::<u32, Exclusive<u32>, ()>::new(policy, 7).expect("a valid policy");
        let mut now = Timestamp::from_nanos(1);
        let all = 3 * u32::try_from(AT_A_TIME).expect("a few");
        // The last key has two, one of which is not spared.
        for key in (0..all).chain([all - 1]) {
            let id = match state.acquire(&key, Want { fresh: true, again: false }, now) {
                Acquire::Dial(id) => id,
                other => panic!("for {key}: {other:?}"),
            };
            let lent = state.dialed(id, Exclusive::new(0), 1, now).expect("the caller dialed");
            let _ = state.release(id, Some(lent.handle), Fitness::Fit, now);
        }
        while state.poll_action().is_some() {}
        now = now.after(3 * hour);
        let idle = state.status().idle;
        let mut pieces = 0;
        while state.next_deadline() <= now {
            let steps = crate::collections::counted::taken(|| state.handle_timeout(now));
            assert!(steps < 40 * AT_A_TIME, "{steps} steps in one call");
            pieces += 1;
            assert!(pieces < 100, "the sweep has no end");
        }
        assert!(pieces > 1, "{idle} connections in one call");
        assert_eq!(state.status().idle, idle - 1, "all but one are spared");
    }

    #[test]
    fn lifetimes_of_connections_that_are_gone_are_not_kept() {
        let policy = Policy {
            dial: Dial::Caller,
            max_open_per_key: None,
            max_lifetime: Some(Duration::from_secs(100_000)),
            ..Policy::default()
        };
        let mut state = State::<u8, Exclusive<u32>, ()>::new(policy, 7).expect("a valid policy");
        let now = Timestamp::from_nanos(1);
        let open = |state: &mut State<u8, Exclusive<u32>, ()>| {
            let want = Want { fresh: true, again: false };
            let Acquire::Dial(id) = state.acquire(&1, want, now) else {
                panic!("there is no limit");
            };
            state.dialed(id, Exclusive::new(0), 1, now).expect("the caller dialed")
        };
        let _kept = open(&mut state);
        for _ in 0..10_000 {
            let lent = open(&mut state);
            let unfit = Fitness::Unfit(CloseCause::Broken);
            let _ = state.release(lent.id, Some(lent.handle), unfit, now);
            while let Some(action) = state.poll_action() {
                let Action::Close { id, .. } = action else { continue };
                state.closed(id, now);
            }
            assert!(!is_overgrown(state.lifetimes.len() - 1, 2));
        }
    }
}
