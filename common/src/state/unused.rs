//! Looks at idle connections between two leases, so that a connection whose peer has gone does not stay until
//! the next acquire.

use std::hash::Hash;

use super::connection::{Connection, DialFor, Phase};
use super::limits::Obstacle;
use super::{ConnectionId, KeyId, Lent, State, WaiterId};
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::Lend;
use crate::policy::Dial;

/// A connection that is being looked at. It is out of all lists and has a lease, as far as the rest of
/// the state knows; callers, observers and counters hear nothing of that.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) id: ConnectionId,
    pub(super) key: KeyId,
    /// Behind which it was in the list of its key and in that of all keys; `None` when it was first.
    behind_in_key: Option<ConnectionId>,
    behind_in_all: Option<ConnectionId>,
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
            self.looks.push(Look { id, key, behind_in_key, behind_in_all });
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
        let next = self.keys[key].returns.next(&self.waiters, &mut self.rng);
        if !surplus && let Some(next) = next.and_then(|next| self.next_for_old_one(next, key)) {
            let in_the_way = self.insists_on_its_place(next, key, now);
            // It has expired, and a caller asks for it.
            return match self.past_all_limits(id, now) {
                Some(cause) => self.close_after_look(id, cause, now),
                None if in_the_way || self.is_turn_of_another(key) => {
                    self.close_after_look(id, CloseCause::MakeRoom, now)
                }
                None => {
                    self.end_look(id);
                    let waiting = self.keys[key].waiting;
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
            let look = self.end_look(id).expect("it was being looked at");
            self.idle_again(&look, since);
            // It was not there to make way.
            self.relieve_starving(now);
            return None;
        }
        self.settle_unwanted(id, key, now);
        self.backdate(id, since);
        self.end_look(id);
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
        self.end_look(id);
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
            && let Some(waiter) = self.first_unserved(connection.key)
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
        let content = entry.returns.ids(&self.waiters).find(|id| !self.waiters[*id].is_fresh());
        let lacking = entry.undialed.len() - u32::from(content.is_some());
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
            self.join_random(id);
        }
        // Its timer may have fired during the look.
        if self.rules.timed_idle {
            self.set_timer(self.rules.idle_end(since), key);
        } else if self.rules.swept_idle {
            self.note_deadline(self.next_sweep);
        }
        self.watch_idle_limit(id);
    }
}
