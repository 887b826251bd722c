//! When a connection is too old, or has been idle for too long (`past_its_time`), and how it is found and
//! closed then.
//!
//! A connection may not be idle for as long as the policy allows when its peer has said when it closes
//! idle connections (HTTP/1's `Keep-Alive: timeout`): the pool has to be earlier. The connections of a key
//! are in the order in which they became idle. Their own limits do not end in that order, so such limits
//! have a heap, with one entry for each such connection.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, Connections, Phase};
use super::{ConnectionId, KeyId, State};
use crate::clock::Timestamp;
use crate::collections::{BinaryHeap, is_overgrown};
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::{Expiry, Policy};

/// How many timers of a kind one call handles, so that it does not keep the lock for long.
pub(super) const AT_A_TIME: usize = 1024;

/// When connections end: their lifetimes, the idle limits that they set themselves, and the next sweep.
#[derive(Debug)]
pub(super) struct Ends {
    /// When lifetimes end; entries of connections that are gone are skipped.
    lifetimes: BinaryHeap<Reverse<(Timestamp, ConnectionId)>>,
    /// When idle connections end that may not be idle for as long as the policy allows; entries that do
    /// not count any more are skipped.
    idle_limits: BinaryHeap<Reverse<(Timestamp, ConnectionId)>>,
    /// [`NEVER`](Timestamp::NEVER) before the first connection.
    next_sweep: Timestamp,
    /// Where a sweep that spares floors goes on.
    swept_to: Option<ConnectionId>,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            lifetimes: BinaryHeap::new(),
            idle_limits: BinaryHeap::new(),
            next_sweep: Timestamp::NEVER,
            swept_to: None,
        }
    }
}

impl Ends {
    pub(super) fn next_sweep(&self) -> Timestamp {
        self.next_sweep
    }

    /// When something is due next, where so many connections are idle.
    pub(super) fn next_due(&self, idle: u32, policy: &Policy) -> Timestamp {
        let first = |ends: &BinaryHeap<Reverse<(Timestamp, ConnectionId)>>| {
            ends.peek().map_or(Timestamp::NEVER, |Reverse((at, _))| *at)
        };
        let has_idle = policy.idle_timeout.is_some() && idle > 0;
        let by_policy = match policy.expiry {
            // A lifetime is over when its end has passed.
            Expiry::Timer => first(&self.lifetimes).after(Duration::from_nanos(1)),
            Expiry::Sweep if has_idle || !self.lifetimes.is_empty() => self.next_sweep,
            Expiry::Sweep | Expiry::AtAcquire | Expiry::PruneAtAcquire => Timestamp::NEVER,
        };
        by_policy.min(first(&self.idle_limits))
    }

    pub(super) fn is_sweep_due(&self, policy: &Policy, now: Timestamp) -> bool {
        policy.expiry == Expiry::Sweep && now >= self.next_sweep
    }

    /// A sweep has ended. If it was not `done`, because much was due, the next sweep starts at once.
    pub(super) fn end_sweep(&mut self, done: bool, policy: &Policy, now: Timestamp) {
        self.next_sweep = if done { now.after(policy.sweep_interval) } else { now };
    }

    /// A connection was opened: the first sweep is one interval later.
    fn begin_sweeps(&mut self, policy: &Policy, now: Timestamp) {
        if self.next_sweep == Timestamp::NEVER {
            self.next_sweep = now.after(policy.sweep_interval);
        }
    }

    fn watch_lifetime<L>(
        &mut self,
        connections: &Connections<L>,
        id: ConnectionId,
        end: Timestamp,
    ) {
        if is_overgrown(self.lifetimes.len(), connections.len()) {
            self.lifetimes.retain(|Reverse((_, id))| connections.contains(*id));
        }
        self.lifetimes.push(Reverse((end, id)));
    }

    /// Takes out one whose lifetime is over; the connection may be gone.
    fn next_to_expire(&mut self, now: Timestamp) -> Option<ConnectionId> {
        let &Reverse((end, id)) = self.lifetimes.peek()?;
        if end >= now {
            return None;
        }
        self.lifetimes.pop();
        Some(id)
    }

    fn watch_idle_limit<L>(
        &mut self,
        connections: &Connections<L>,
        id: ConnectionId,
        end: Timestamp,
    ) {
        if is_overgrown(self.idle_limits.len(), connections.len()) {
            self.idle_limits.retain(|Reverse((at, id))| {
                connections.get(*id).is_some_and(|connection| connection.limit_watched() == *at)
            });
        }
        self.idle_limits.push(Reverse((end, id)));
    }

    /// Takes out the next idle limit that is due, and when that was; it may not count any more.
    fn next_idle_limit(&mut self, now: Timestamp) -> Option<(Timestamp, ConnectionId)> {
        let &Reverse((end, id)) = self.idle_limits.peek()?;
        if end > now {
            return None;
        }
        self.idle_limits.pop();
        Some((end, id))
    }

    /// No idle limit is watched any more.
    pub(super) fn forget_idle_limits(&mut self) {
        self.idle_limits.clear();
    }

    /// The collections that give back memory which is not needed any more.
    pub(super) fn heaps(&mut self) -> [&mut BinaryHeap<Reverse<(Timestamp, ConnectionId)>>; 2] {
        [&mut self.lifetimes, &mut self.idle_limits]
    }
}

impl<L> Connection<L> {
    /// Why it must not be lent at `now`, if it is idle or shared.
    #[inline]
    pub(super) fn past_its_time(&self, now: Timestamp) -> Option<CloseCause> {
        if now > self.expires_at {
            Some(CloseCause::Lifetime)
        } else if self.leased == 0 && now.nanos_since(self.idle_since) > self.idle_limit {
            Some(CloseCause::IdleTimeout)
        } else {
            None
        }
    }

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
    /// Why a connection must not be lent any more, if its time has come; one of a floor that the idle
    /// timeout spares may be idle for longer.
    #[inline]
    pub(super) fn expired(&self, id: ConnectionId, now: Timestamp) -> Option<CloseCause> {
        let cause = self.connections[id].past_its_time(now)?;
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

    /// Whether a connection that comes back as it went, unused, was idle when a check began that failed
    /// meanwhile.
    pub(super) fn is_suspect(&self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        connection.idle_since < self.keys[connection.key].distrusted_before
    }

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
            let Some(cause) = self.connections[id].past_its_time(now) else {
                return true;
            };
            self.begin_close(id, cause, now);
        }
        false
    }

    /// Spared connections stay at the front of the list, before others that are due. So a sweep that
    /// is not complete goes on where it was.
    fn sweep_unspared(&mut self, now: Timestamp) -> bool {
        let from = self.ends.swept_to.take().filter(|id| {
            self.connections.get(*id).is_some_and(|connection| connection.in_all.is_linked())
        });
        let from = from.or_else(|| self.all_idle.front(&self.connections));
        let past = |id: &ConnectionId| self.connections[*id].past_its_time(now).is_some();
        let ids = self.all_idle.chain().ids_from(from, &self.connections, |c| &c.in_all);
        let mut due: Vec<ConnectionId> = ids.take_while(past).take(AT_A_TIME + 1).collect();
        self.ends.swept_to = if due.len() > AT_A_TIME { due.pop() } else { None };
        for id in due {
            if let Some(cause) = self.expired(id, now) {
                self.begin_close(id, cause, now);
            }
        }
        self.ends.swept_to.is_none()
    }

    /// Ends connections whose lifetime is over; says whether none is left.
    pub(super) fn expire_lifetimes(&mut self, now: Timestamp) -> bool {
        for _ in 0..AT_A_TIME {
            let Some(id) = self.ends.next_to_expire(now) else { return true };
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
                    if !self.looks.contains(id) {
                        self.emit(id, EventKind::Retired, now);
                    }
                }
            }
        }
        false
    }

    /// Ends the idle connections of one key that are past their time, longest idle first.
    pub(super) fn prune(&mut self, key: KeyId, now: Timestamp) {
        while !self.prune_some(key, now) {}
    }

    /// The same for a timer, which must not keep the lock for long; says whether none is left.
    pub(super) fn prune_some(&mut self, key: KeyId, now: Timestamp) -> bool {
        for _ in 0..AT_A_TIME {
            let Some(id) = self.keys[key].idle.front(&self.connections) else { return true };
            let Some(cause) = self.expired(id, now) else { return true };
            self.begin_close(id, cause, now);
        }
        false
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
        self.ends.begin_sweeps(&self.policy, now);
        if !self.rules.timed_lifetimes {
            return;
        }
        self.ends.watch_lifetime(&self.connections, id, end);
        let due = if self.policy.expiry == Expiry::Sweep { self.ends.next_sweep } else { end };
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
            let Some((at, id)) = self.ends.next_idle_limit(now) else { return };
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

    /// A connection has become idle: its limit is watched, if it has set one.
    #[inline]
    pub(super) fn watch_idle_limit(&mut self, id: ConnectionId) {
        if self.connections[id].idle_limit < self.rules.idle_timeout {
            self.watch_own_limit(id);
        }
    }

    #[cold]
    pub(super) fn watch_own_limit(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let end = connection.limit_ends();
        let timed = matches!(self.policy.expiry, Expiry::Timer | Expiry::Sweep);
        // An entry that is earlier looks at the connection then, and sets the next.
        if !timed || self.closed || end >= connection.limit_watched() {
            return;
        }
        connection.set_limit_watched(end);
        self.ends.watch_idle_limit(&self.connections, id, end);
        self.note_deadline(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::{Exclusive, Lending};
    use crate::policy::{Dial, Policy};
    use crate::state::connection::DialFor;
    use crate::state::{Action, Answer, Fitness, Want};

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
                Answer::Dial(id) => id,
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
            let Answer::Dial(id) = state.acquire(&1, want, now) else {
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
            assert!(!is_overgrown(state.ends.lifetimes.len() - 1, 2));
        }
    }

    #[test]
    fn sweep_is_due_where_something_may_have_expired_and_goes_on_until_it_is_done() {
        let (start, hour) = (Timestamp::from_nanos(1), Duration::from_secs(3600));
        let policy = Policy {
            expiry: Expiry::Sweep,
            idle_timeout: Some(hour),
            sweep_interval: hour,
            ..Policy::default()
        };
        let mut ends = Ends::default();
        ends.begin_sweeps(&policy, start);
        let due = start.after(hour);
        assert_eq!(ends.next_due(0, &policy), Timestamp::NEVER);
        assert_eq!(ends.next_due(1, &policy), due);
        assert!(!ends.is_sweep_due(&policy, start) && ends.is_sweep_due(&policy, due));
        ends.end_sweep(false, &policy, due);
        assert!(ends.is_sweep_due(&policy, due));
        ends.end_sweep(true, &policy, due);
        assert_eq!(ends.next_due(1, &policy), due.after(hour));
    }

    #[test]
    fn lifetime_is_over_after_its_end_and_an_idle_limit_at_its_end() {
        let mut connections = Connections::<()>::new();
        let dial = Connection::dialing(KeyId::default(), DialFor::Caller, Timestamp::ZERO);
        let id = connections.insert(dial);
        let (end, after) = (Timestamp::from_nanos(5), Timestamp::from_nanos(6));
        let policy = Policy { expiry: Expiry::Timer, ..Policy::default() };
        let mut ends = Ends::default();
        ends.watch_lifetime(&connections, id, end);
        assert_eq!(ends.next_due(1, &policy), after);
        assert_eq!((ends.next_to_expire(end), ends.next_to_expire(after)), (None, Some(id)));
        ends.watch_idle_limit(&connections, id, end);
        assert_eq!(ends.next_due(1, &policy), end);
        assert_eq!(ends.next_idle_limit(Timestamp::from_nanos(4)), None);
        assert_eq!(ends.next_idle_limit(end), Some((end, id)));
        assert_eq!(ends.next_due(1, &policy), Timestamp::NEVER);
    }
}
