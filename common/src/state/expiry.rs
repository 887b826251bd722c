//! When a connection is too old, or has been idle for too long, and how it is found and closed then.
//!
//! A connection may not be idle for as long as the policy allows when its peer has said when it closes
//! idle connections (HTTP/1's `Keep-Alive: timeout`): the pool has to be earlier. The connections of a key
//! are in the order in which they became idle. Their own limits do not end in that order, so such limits
//! have a heap, with one entry for each such connection.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, Phase};
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::is_overgrown;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::Expiry;

/// How many timers of a kind one call handles, so that it does not keep the lock for long.
pub(super) const AT_A_TIME: usize = 1024;

impl<L> Connection<L> {
    /// When it has been idle for longer than it says it may.
    pub(super) fn limit_ends(&self) -> Timestamp {
        let end = self.idle_since.as_nanos().saturating_add(self.own_limit());
        Timestamp::from_nanos(end.saturating_add(1))
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Live && self.in_key.is_linked()
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// Closes idle connections that are past their time; says whether none is left.
    pub(super) fn sweep_idle(&mut self, now: Timestamp) -> bool {
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
    pub(super) fn expire_lifetimes(&mut self, now: Timestamp) -> bool {
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

    /// From now on a connection may be idle for `limit` at most, or for
    /// [`idle_timeout`](crate::Policy::idle_timeout) where that is shorter. The last call counts:
    /// [`Duration::MAX`] takes back an earlier limit, and zero closes the connection as soon as
    /// it would become idle. Nothing happens when it has ended.
    ///
    /// A connection beyond its limit is never lent. It is closed when its time has come, or, with the
    /// policies that have no timer for idle connections ([`Expiry::AtAcquire`],
    /// [`Expiry::PruneAtAcquire`]), when it would be lent.
    pub fn set_idle_limit(&mut self, id: ConnectionId, limit: Duration, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        // Where `idle_timeout` spares the floor, a limit longer than `idle_timeout` counts as well: it is
        // stored as a nanosecond less, so that the slow path looks at the connection.
        let notable = self.rules.idle_timeout - u64::from(self.rules.spares_floor);
        connection.set_own_limit(limit);
        connection.idle_limit =
            if limit == u64::MAX { self.rules.idle_timeout } else { limit.min(notable) };
        if !connection.is_idle() {
            return;
        }
        if limit == 0 || connection.limit_ends() <= now {
            self.begin_close(id, CloseCause::IdleTimeout, now);
        } else {
            self.watch_idle_limit(id);
        }
    }

    /// Closes the idle connections whose limit has ended.
    pub(super) fn expire_idle_limits(&mut self, now: Timestamp) {
        for _ in 0..AT_A_TIME {
            let next = self.idle_limits.peek().filter(|next| next.0.0 <= now);
            let Some(&Reverse((at, id))) = next else { return };
            self.idle_limits.pop();
            let counts = self.connections.get_mut(id).filter(|c| c.limit_watched() == at);
            let Some(connection) = counts else { continue };
            connection.set_limit_watched(Timestamp::NEVER);
            // A leased one is looked at again when it comes back.
            if !connection.is_idle() {
                continue;
            }
            if connection.limit_ends() <= now {
                self.begin_close(id, CloseCause::IdleTimeout, now);
            } else {
                self.watch_idle_limit(id);
            }
        }
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
