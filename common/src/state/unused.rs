//! Connections that come back unused: from a look at an idle connection, or in a grant that its waiter never
//! collected. Each goes on being idle as if nothing had happened, unless a waiter needs it or its time is over.
//!
//! The shell looks at idle connections between two leases, so that a connection whose peer has gone does not
//! stay until the next acquire.

use std::hash::Hash;
use std::time::Duration;

use super::connection::{Connection, DialFor, Phase};
use super::keys::Entries;
use super::limits::Obstacle;
use super::{Answer, ConnectionId, Fitness, KeyId, Lent, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::{CloseCause, EventKind};
use crate::lending::Lend;
use crate::policy::Dial;

/// A connection that is being looked at. It is out of all lists and has a lease, as far as the rest of
/// the state knows; callers, observers and counters hear nothing of that.
#[derive(Debug)]
struct Look {
    id: ConnectionId,
    key: KeyId,
    /// Behind which it was in the list of its key and in that of all keys; `None` when it was first.
    behind_in_key: Option<ConnectionId>,
    behind_in_all: Option<ConnectionId>,
}

/// The connections that are being looked at: seldom more than one.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<Look>);

impl Looks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.0.iter().any(|look| look.id == id)
    }

    /// The connections of a key that are being looked at.
    pub(super) fn of_key(&self, key: KeyId) -> impl Iterator<Item = ConnectionId> {
        self.0.iter().filter(move |look| look.key == key).map(|look| look.id)
    }

    /// How many connections of a key are being looked at.
    pub(super) fn of(&self, key: KeyId) -> u32 {
        self.of_key(key).count() as u32
    }

    /// How many connections are being looked at, without a waiter of the same key for each of them.
    pub(super) fn unclaimed<K, E>(&self, keys: &Entries<K, E>) -> u32 {
        let is_claimed = |(at, look): &(usize, &Look)| {
            let before = self.0[..*at].iter().filter(|other| other.key == look.key).count();
            before < keys[look.key].queue.undialed() as usize
        };
        self.len() - self.0.iter().enumerate().filter(is_claimed).count() as u32
    }

    /// Whether a connection was being looked at.
    pub(super) fn end(&mut self, id: ConnectionId) -> bool {
        self.take(id).is_some()
    }

    fn take(&mut self, id: ConnectionId) -> Option<Look> {
        let at = self.0.iter().position(|look| look.id == id)?;
        Some(self.0.swap_remove(at))
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// How many places the table of connections has, empty ones included.
    pub fn connection_places(&self) -> u32 {
        self.connections.places()
    }

    /// Takes an exclusive connection out that has been idle since `idle_since` or longer and is not
    /// past its time at `now`, for the shell to look at. Until [`put_back`](State::put_back) it cannot
    /// be lent; it counts as idle, and in no counter.
    ///
    /// Goes on from `place`, a place in the table of connections, over at most `places` of them, and
    /// leaves in both how far it came. `None` when nothing more was found there.
    pub fn take_for_look(
        &mut self,
        place: &mut u32,
        places: &mut u32,
        idle_since: Timestamp,
        now: Timestamp,
    ) -> Option<Lent<L>> {
        // A shared connection notifies the pool, and while floors are remade the order of idle
        // connections means more than how long they have been idle.
        if L::SHARED || self.closed || self.remaking > 0 {
            return None;
        }
        while *places > 0 {
            *places -= 1;
            let id = self.connections.id_at(*place);
            *place = if *place + 1 < self.connections.places() { *place + 1 } else { 0 };
            let Some(id) = id else { continue };
            let connection = &self.connections[id];
            if connection.phase != Phase::Live
                || !connection.in_key.is_linked()
                || connection.idle_since > idle_since
                // The policy says when an expired connection is closed.
                || self.expired(id, now).is_some()
            {
                continue;
            }
            let key = connection.key;
            let behind_in_key =
                self.keys[key].idle.before(&mut self.connections, id, Connection::in_key);
            let behind_in_all = if self.rules.global_idle {
                self.all_idle.before(&mut self.connections, id, Connection::in_all)
            } else {
                None
            };
            let connection = &mut self.connections[id];
            let Some(handle) = L::lend(&mut connection.handle) else { continue };
            connection.leased = 1;
            let link = std::mem::take(&mut connection.in_key);
            let reused = connection.lent_before;
            self.leave_idle(id, key, link);
            self.status.leased += 1;
            self.status.leases += 1;
            self.looks.0.push(Look { id, key, behind_in_key, behind_in_all });
            return Some(Lent { id, handle, reused, idle_nanos: 0, was_idle: true });
        }
        None
    }

    /// A connection was looked at. One whose peer has `gone` is closed; another is idle as before, in
    /// its old place, unless something has happened to it, or a waiter has come, meanwhile. When its
    /// time has passed meanwhile it is closed as if there had been no look.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn put_back(&mut self, lent: Lent<L>, gone: bool, now: Timestamp) -> Option<L> {
        let Lent { id, handle, .. } = lent;
        let connection = &mut self.connections[id];
        connection.handle = Some(handle);
        let (key, since) = (connection.key, connection.idle_since);
        if gone {
            connection.retired.get_or_insert(CloseCause::PeekFailed);
        }
        let connection = &self.connections[id];
        let ends = if connection.retired.is_some() {
            connection.retired
        } else if connection.own_limit() == 0 {
            Some(CloseCause::IdleTimeout)
        } else if self.is_suspect(id) {
            Some(CloseCause::Suspect)
        } else {
            None
        };
        if let Some(cause) = ends {
            return self.close_after_look(id, cause, now);
        }
        let surplus = self.above_limits > 0 && self.is_surplus(key);
        // In random order each look at the queue is another draw, so there is one: what follows is about
        // this waiter.
        let next = self.keys[key].queue.next(&self.waiters, &mut self.rng);
        if !surplus && let Some(next) = next.and_then(|next| self.next_for_old_one(next, key)) {
            let in_the_way = self.insists_on_its_place(next, key, now);
            // It has expired, and a caller asks for it.
            return match self.past_all_limits(id, now) {
                Some(cause) => self.close_after_look(id, cause, now),
                None if in_the_way || self.is_turn_of_another(key) => {
                    self.close_after_look(id, CloseCause::MakeRoom, now)
                }
                None => {
                    self.looks.end(id);
                    let waiting = self.keys[key].queue.waiting();
                    let dial = self.waiters[next].dial();
                    self.hand_on(id, next, since, now);
                    if let Some(dial) = dial {
                        self.pass_dial_on(dial);
                    }
                    if self.at_length {
                        self.lent_at_length(id, now);
                    }
                    self.line_up_again(key, waiting);
                    if self.rules.floor {
                        self.refill(key, now);
                    }
                    self.dial_after_look(key, now);
                    None
                }
            };
        }
        if surplus {
            return self.close_after_look(id, CloseCause::OverLimit, now);
        }
        self.give_up_look_lease(id);
        let entry = &self.keys[key];
        let has_place = self.remaking == 0
            && self.above_limits == 0
            && entry.idle.len() < self.rules.max_idle_per_key
            && self.policy.max_idle.is_none_or(|max| self.status.idle < max);
        if has_place {
            let look = self.looks.take(id).expect("it was being looked at");
            self.idle_again(&look, since);
            // It was not there to make way.
            self.relieve_starving(now);
            return None;
        }
        self.settle_unwanted(id, key, now);
        self.backdate(id, since);
        self.looks.end(id);
        self.relieve_starving(now);
        None
    }

    /// As [`expired`](State::expired), for one that is being looked at.
    fn past_all_limits(&self, id: ConnectionId, now: Timestamp) -> Option<CloseCause> {
        let connection = &self.connections[id];
        let longest = connection.idle_limit.max(self.spared_limit(id));
        if now > connection.expires_at {
            Some(CloseCause::Lifetime)
        } else {
            (now.nanos_since(connection.idle_since) > longest).then_some(CloseCause::IdleTimeout)
        }
    }

    fn close_after_look(
        &mut self,
        id: ConnectionId,
        cause: CloseCause,
        now: Timestamp,
    ) -> Option<L> {
        let key = self.connections[id].key;
        self.looks.end(id);
        self.give_up_look_lease(id);
        self.retire_for(id, cause, now);
        self.dial_after_look(key, now);
        None
    }

    /// The waiter of `dial` was given a connection out of a look that another waiter may have waited for.
    /// That waiter takes the dial over, or it would have a second one: whatever the policy says of new
    /// callers, this one has waited for longer than the dial runs.
    fn pass_dial_on(&mut self, dial: ConnectionId) {
        let Some(connection) = self.connections.get(dial) else { return };
        let lost_its_waiter = connection.phase == Phase::Dialing
            && connection.dial_for() == DialFor::Waiter(None)
            && !connection.is_overdue();
        if lost_its_waiter
            && self.policy.dial == Dial::Racing
            && let key = connection.key
            && let Some(waiter) =
                self.keys[key].queue.first_unserved(&self.waiters, self.looks.of(key))
        {
            self.adopt_dial(waiter, dial);
        }
    }

    /// Whether `next`, the next waiter, insists on a new connection, and only the limits keep it from one:
    /// an idle connection would have made way when it came.
    fn insists_on_its_place(&self, next: WaiterId, key: KeyId, now: Timestamp) -> bool {
        self.waiters[next].is_fresh()
            && self.keys[key].closing == 0
            && matches!(self.obstacle(key, now), Some(Obstacle::KeyFull | Obstacle::PoolFull))
    }

    /// The waiter that a connection out of a look goes to, where `next` is the next waiter. A waiter that
    /// insists on a new connection leaves it to the first waiter that does not, as long as places are coming
    /// for all the others that lack one; where there is no such waiter, it goes to none.
    fn next_for_old_one(&self, next: WaiterId, key: KeyId) -> Option<WaiterId> {
        let entry = &self.keys[key];
        if !self.waiters[next].is_fresh() {
            return Some(next);
        }
        let content =
            entry.queue.for_returns(&self.waiters).find(|id| !self.waiters[*id].is_fresh());
        let lacking = entry.queue.undialed() - u32::from(content.is_some());
        if entry.closing >= lacking { content } else { Some(next) }
    }

    fn give_up_look_lease(&mut self, id: ConnectionId) {
        self.connections[id].leased = 0;
        self.status.leased -= 1;
        self.status.leases -= 1;
    }

    fn idle_again(&mut self, look: &Look, since: Timestamp) {
        let &Look { id, key, behind_in_key, behind_in_all } = look;
        let rank = |other: &Connection<L>| other.idle_since;
        let entry = &mut self.keys[key];
        entry.idle.put_back(&mut self.connections, id, behind_in_key, rank, Connection::in_key);
        if self.rules.global_idle {
            let all = &mut self.all_idle;
            all.put_back(&mut self.connections, id, behind_in_all, rank, Connection::in_all);
        }
        self.status.idle += 1;
        if self.rules.random {
            self.keys[key].random.join(&mut self.connections, id, &mut self.rng);
        }
        // Its timer may have fired during the look.
        if self.rules.timed_idle {
            self.set_timer(self.rules.idle_end(since), key);
        } else if self.rules.swept_idle {
            self.note_deadline(self.ends.next_sweep());
        }
        self.watch_idle_limit(id);
    }

    /// A connection that no caller has looked at goes to `waiter`, as one that has been idle since
    /// `since`.
    pub(super) fn hand_on(
        &mut self,
        id: ConnectionId,
        waiter: WaiterId,
        since: Timestamp,
        now: Timestamp,
    ) {
        let connection = &mut self.connections[id];
        let handle = L::lend(&mut connection.handle).expect("it has just come back");
        let reused = std::mem::replace(&mut connection.lent_before, true);
        let idle_nanos = now.nanos_since(since);
        self.counts.leased += 1;
        self.first_leases += u64::from(!reused);
        let idle_for = Duration::from_nanos(idle_nanos);
        self.emit(id, EventKind::Leased { reused, idle_for }, now);
        let lent = Lent { id, handle, reused, idle_nanos, was_idle: true };
        self.grant(waiter, Answer::Lend(lent));
    }

    /// A granted connection comes back uncollected. No caller has used one that had been idle: the next
    /// waiter gets it as one that was idle, or it goes on being idle as if nothing had happened.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn take_back(&mut self, lent: Lent<L>, now: Timestamp) -> Option<L> {
        let Lent { id, handle, was_idle, .. } = lent;
        // The handle of a shared connection goes first, so that a close which follows holds the
        // last one; the pool's own keeps the connection until then.
        let handle = (!L::SHARED).then_some(handle);
        let connection = &mut self.connections[id];
        if !was_idle || connection.leased > 1 {
            return self.release(id, handle, Fitness::Fit, now);
        }
        let (key, since) = (connection.key, connection.idle_since);
        // The peer may allow fewer leases than when it was granted.
        let sound = connection.retired.is_none()
            && connection.leased <= connection.capacity
            && now <= connection.expires_at;
        let surplus = self.above_limits > 0 && self.is_surplus(key);
        if now.nanos_since(since) > self.connections[id].idle_limit.max(self.spared_limit(id)) {
            let expired = Fitness::Unfit(CloseCause::IdleTimeout);
            return self.release(id, handle, expired, now);
        }
        if self.is_suspect(id) {
            return self.release(id, handle, Fitness::Unfit(CloseCause::Suspect), now);
        }
        if sound
            && !surplus
            && let Some(next) = self.keys[key].queue.next(&self.waiters, &mut self.rng)
        {
            if !L::SHARED {
                self.connections[id].handle = handle;
            }
            self.emit(id, EventKind::Returned, now);
            self.hand_on(id, next, since, now);
            return None;
        }
        let leftover = self.release(id, handle, Fitness::Fit, now);
        self.backdate(id, since);
        leftover
    }

    /// A connection that has just become the last of the idle ones has been idle since `since`, and
    /// belongs before those that became idle after that. Costs a step for each of them.
    pub(super) fn backdate(&mut self, id: ConnectionId, since: Timestamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Live || !connection.in_key.is_linked() {
            return;
        }
        connection.idle_since = since;
        let key = connection.key;
        let later = |other: &Connection<L>| other.idle_since > since;
        let entry = &mut self.keys[key];
        entry.idle.move_before(&mut self.connections, id, later, Connection::in_key);
        if self.rules.global_idle {
            self.all_idle.move_before(&mut self.connections, id, later, Connection::in_all);
        }
        if self.rules.timed_idle {
            self.set_timer(self.rules.idle_end(since), key);
        }
        self.watch_idle_limit(id);
    }

    /// A waiter leaves. A grant that it has not collected goes to the next waiter.
    ///
    /// Returns a handle to drop, outside any lock.
    pub fn cancel(&mut self, id: WaiterId, now: Timestamp) -> Option<L> {
        let waiter = self.waiters.get_mut(id)?;
        let key = waiter.key;
        let leftover = match waiter.take_grant() {
            None => {
                self.stats.gave_up += 1;
                self.leave_queues(id, None);
                // The dial that it waited for may be in the way of other waiters now.
                self.replace_if_hanging(key, now);
                self.relieve_starving(now);
                self.refill_for_leaver(key, now);
                None
            }
            Some(Answer::Lend(lent)) => self.take_back(lent, now),
            Some(Answer::Dial(dial)) => {
                self.dial_failed(dial, None, now);
                None
            }
            // A waiter that was told to try again left its queue then, and room was made for other keys.
            Some(Answer::Retry | Answer::DialFailed(_) | Answer::TimedOut | Answer::Refuse(_)) => {
                None
            }
            Some(Answer::Wait(_)) => unreachable!("a waiter waits already"),
        };
        self.remove_waiter(id);
        self.forget_if_unused(key);
        leftover
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::keys::KeyEntry;
    use crate::state::waiter::{Waiter, Waiters};

    #[test]
    fn look_is_claimed_by_a_waiter_of_its_key() {
        let mut keys = Entries::<u8, ()>::new();
        let [one, other] = [1, 2].map(|key| keys.insert(KeyEntry::new(key, 0)));
        let look = |key| Look {
            id: ConnectionId::default(),
            key,
            behind_in_key: None,
            behind_in_all: None,
        };
        let looks = Looks(vec![look(one), look(one), look(other)]);
        let mut waiters = Waiters::<(), (), ()>::new();
        let mut unclaimed = Vec::new();
        for _ in 0..3 {
            unclaimed.push(looks.unclaimed(&keys));
            keys[one].queue.join_in_order(&mut waiters, Waiter::new(one));
        }
        assert_eq!(unclaimed, [3, 2, 1]);
        assert_eq!(looks.unclaimed(&keys), 1, "the third waiter has no look");
        assert_eq!((looks.of(one), looks.of(other), looks.len()), (2, 1, 3));
    }
}
