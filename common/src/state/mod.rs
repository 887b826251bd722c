//! The pool's decisions, and nothing else: no socket, no clock, no task, no lock.
//!
//! # How to drive it
//!
//! A driver has what the [`State`] has not: a clock, connections, tasks. [`Pool`](crate::Pool) is one, a
//! simulation in virtual time can be another. It
//!
//! - passes on what users ask: [`acquire`](State::acquire), [`release`](State::release),
//!   [`cancel`](State::cancel), [`retire`](State::retire), [`set_limits`](State::set_limits),
//!   [`close`](State::close), and collects for a waiter with [`take_grant`](State::take_grant);
//! - does what the state asks for: [`poll_action`](State::poll_action) until it says `None`, after every
//!   call that changes anything;
//! - reports what it did, once for each [`Action`]: [`dialed`](State::dialed),
//!   [`dial_failed`](State::dial_failed), [`dial_lost`](State::dial_lost), [`closed`](State::closed);
//! - calls [`handle_timeout`](State::handle_timeout) when the time is
//!   [`next_deadline`](State::next_deadline).
//!
//! `now` is an argument of each call. It may stand still, but not go back. The same seed and the same calls
//! give the same answers on every machine.
//!
//! ```
//! use std::time::Duration;
//!
//! use pool_common::clock::Timestamp;
//! use pool_common::state::{Action, Answer, Fitness, State, Want};
//! use pool_common::{Exclusive, Lending, Policy};
//!
//! # fn main() -> Result<(), pool_common::InvalidPolicy> {
//! // One connection for everyone; in this simulation a connection is a number.
//! let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
//! let mut state: State<&str, Exclusive<u32>, String> = State::new(policy, 7)?;
//! let mut now = Timestamp::from_nanos(1);
//!
//! // A caller comes. Nothing is idle, so it waits, and the state asks for a dial.
//! let Answer::Wait(first) = state.acquire(&"db", Want::default(), now) else { unreachable!() };
//! let Some(Action::Dial { id, key: "db" }) = state.poll_action() else { unreachable!() };
//!
//! // The dial takes 3 ms. The caller gets its connection.
//! now = now.after(Duration::from_millis(3));
//! state.dialed(id, Exclusive::new(42), 1, now);
//! assert!(matches!(state.poll_action(), Some(Action::Wake(waiter)) if waiter == first));
//! let Some(Answer::Lend(lent)) = state.take_grant(first) else { unreachable!() };
//!
//! // A second caller waits for half a second at most. Virtual time jumps to that.
//! let deadline = now.after(Duration::from_millis(500));
//! let answer = state.acquire_until(&"db", Want::default(), deadline, now);
//! let Answer::Wait(second) = answer else { unreachable!() };
//! while state.take_grant(second).is_none() {
//!     now = state.next_deadline();
//!     state.handle_timeout(now);
//! }
//! assert_eq!(now, deadline);
//!
//! // The first caller gives the connection back: it is idle.
//! let leftover = state.release(lent.id, Some(lent.handle), Fitness::Fit, now);
//! assert!(leftover.is_none());
//! assert_eq!(state.status().idle, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A driver that delivers grants to waiters itself can [`attach`](State::attach) to each waiter where to
//! deliver them; then [`release_or_hand_over`](State::release_or_hand_over) needs no grant.
//!
//! # Where to find what
//!
//! | question | file |
//! |---|---|
//! | which idle connection goes out first | `idle_list` |
//! | when an idle connection or one past its lifetime ends | `expiry` |
//! | where a returned connection goes to a waiter | `release`, in the order of `wait_queue` |
//! | where `max_open` and the other limits are enforced | `limits` |
//! | how a key without room gets some, how limits change | `places`, in the order of `starved` |
//! | when a wait in the queue times out, or is refused | `waiting`, with `deadlines` |
//! | who dials, for whom, and hedges | `dialing`, with `dials` and `dial_pace` (`connect` is called in `pool::dial`) |
//! | what becomes of a dial's result | `dialed` |
//! | how long dials pause after a failure | `backoff` |
//! | how the floor is kept, how all connections are retired | `floor`, `refill` |
//! | how one connection is retired (a GOAWAY), or closed; how the pool closes | `close` |
//! | what becomes of a connection that no caller used | `unused` |
//! | what happens when time passes | `time` |
//!
//! The *parts* own their data, know nothing of [`State`] and have their own tests: `idle_list`, `wait_queue`,
//! `deadlines`, `dials`, `dial_pace`, `backoff`, `floor`, `limits` and `starved`; `connection`, `waiter` and
//! `keys` are what is remembered of one of each. The *conductor* decides with them, and is all that has
//! `impl State`: `acquire`, `waiting`, `release`, `unused`, `dialing`, `dialed`, `refill`, `places`, `close`,
//! `expiry`, `time`.
//!
//! # The fast path
//!
//! An idle connection that is lent, a caller that joins the queue and a connection that comes back have two
//! copies of their rules. `lend_plain`, `wait_plain` and `release_plain` act only when none of the rarer rules
//! has a say: no limit that was lowered or is in the way of another key, no floor to refill, nothing to prune,
//! no uses to count, no random order, no listener. They look up each connection and each key once, before
//! anything is written, and change nothing when the slow path has to decide. Their gain is measured in
//! `docs/decisions/0020-the-fast-path-is-a-second-copy.md`.
//!
//! # The life of a connection
//!
//! ```text
//!           dialed         lent           release, unfit or no room
//!  Dialing ────────▶ idle ◀──────▶ leased ───────────────────────────▶ Closing
//!     │ dial_failed   │   release    │ retired (shared)                 ▲   │
//!     ▼               ╰──────────────┼──────── expired, evicted ────────┤   │
//!    gone                            ╰──▶ Draining ── last lease ends ──╯   │
//!                                                              closed()     ▼
//!                                                                          gone
//! ```
//!
//! It holds a place in the limits from the start of its dial until [`closed`](State::closed); a
//! draining one gave its place up, so that a successor can be dialed while old leases end.
//!
//! # The life of a waiter
//!
//! A waiter waits in up to two queues of its key: for a connection that comes back, and for room
//! to dial. Whatever comes first is *granted*: a connection, leave to dial, an error, or "try
//! again". The grant stays with the waiter until [`take_grant`](State::take_grant) collects it; a
//! waiter cancelled in between passes its grant on, so nothing is lost.
//!
//! Exclusive and shared lending are the same code: a connection has a capacity, and goes back to a
//! waiter or to the idle list as soon as fewer leases are out.

mod acquire;
mod backoff;
mod close;
mod connection;
mod deadlines;
mod dial_pace;
mod dialed;
mod dialing;
mod dials;
mod expiry;
mod floor;
mod idle_list;
mod ids;
mod invariants;
mod keys;
mod limits;
mod places;
mod refill;
mod release;
mod starved;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod unused;
mod wait_queue;
mod waiter;
mod waiting;

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::collections::list::List;
use crate::collections::{BinaryHeap, VecDeque, is_overgrown};
use crate::error::InvalidPolicy;
use crate::event::{Event, EventKind};
use crate::lending::Lend;
use crate::policy::{Policy, Precomputed};
use crate::stats::{Stats, Status};
use connection::{Connections, Phase};
use deadlines::Deadlines;
use dials::PoolDials;
use expiry::Ends;
use floor::KeyFloor;
pub use floor::PATIENCE;
use ids::KeyId;
pub use ids::{ConnectionId, WaiterId};
use keys::Keys;
use limits::Allowance;
use starved::StarvedKeys;
pub use types::{Action, Answer, Fitness, Lent, Refusal, Released, Want};
use unused::Looks;
use waiter::Waiters;

/// The state machine. `K` is the key, `L` how connections are lent ([`Lend`]), `E` why dials fail,
/// `W` what a shell keeps with each waiter (nothing, unless it does so with
/// [`attach`](State::attach)).
// As in its entries, the fields are in the order of use: a line that every call reads and few change,
// one that every lease and every wait changes, and the rest.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct State<K, L, E, W = ()> {
    /// The earliest deadline that arose since [`State::next_deadline`] was asked.
    noted_deadline: Timestamp,
    /// How many allowances there are, of keys and the pool's own.
    above_limits: u32,
    /// Keys with a reserve: old connections that serve until their floor has been remade.
    remaking: u32,
    /// Keys whose ramp counts connections that are gone; see [`DialPace`](dial_pace::DialPace).
    spent_keys: u32,
    listening: bool,
    /// Whether every lease takes the slow path: events are recorded, uses counted, or the order of
    /// idle connections is random.
    at_length: bool,
    closed: bool,
    /// How far timers have told the time; a coarse clock may trail it.
    timed_until: Timestamp,
    /// Leases of connections that had not been lent before.
    first_leases: u64,
    deadlines: Deadlines,
    status: Status,
    counts: Counts,
    waiters: Waiters<L, E, W>,
    /// Waiters with a grant to be told of.
    wakes: VecDeque<WaiterId>,
    keys: Keys<K, E>,
    connections: Connections<L>,
    rules: Precomputed,
    actions: VecDeque<Action<K, L>>,
    events: Vec<Event<K>>,
    policy: Policy,
    /// Idle connections of all keys, longest idle first; kept where `rules.global_idle` is set.
    all_idle: List<ConnectionId>,
    ends: Ends,
    /// When idle connections of a key expire, pauses end, failed refills are due, and failed keys
    /// can be forgotten.
    timers: BinaryHeap<Reverse<(Timestamp, KeyId)>>,
    /// When memory is given back that is not needed any more, if there is any.
    tidy_at: Timestamp,
    /// Keys whose waiters want room that `max_open` denies, a dial that `max_dials` denies, or the
    /// opener's attention.
    starved: StarvedKeys,
    /// The dials in progress, as far as they are counted over all keys.
    dials: PoolDials,
    /// Keys whose floor was denied room by the limits over all keys.
    denied_floors: VecDeque<KeyId>,
    /// How many may be open beyond `max_open`, since that was lowered.
    allowance: Allowance,
    looks: Looks,
    /// How often all connections were retired.
    generation: u64,
    recording_ages: bool,
    ages: Vec<Duration>,
    /// How many waiters have had a dial, each counted at least once.
    tickets: u64,
    rng: fastrand::Rng,
    /// All but what is in `counts`.
    stats: Stats,
}

/// The counters of [`Stats`] that leases and waits change.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    leased: u64,
    waited: u64,
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone> State<K, L, E> {
    /// A pool without connections. `seed` decides everything random in it: the order of waiters
    /// where the policy says random, and jitter.
    ///
    /// # Errors
    /// [`InvalidPolicy`] when the policy makes no sense.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, InvalidPolicy> {
        Self::with_attachments(policy, seed)
    }
}

impl<K: Clone + Eq + Hash, L: Lend, E: Clone, W> State<K, L, E, W> {
    /// As [`new`](State::new), for a shell that keeps something with each waiter.
    ///
    /// # Errors
    /// As [`new`](State::new).
    pub fn with_attachments(policy: Policy, seed: u64) -> Result<Self, InvalidPolicy> {
        policy.validate()?;
        let rules = Precomputed::new(&policy);
        Ok(Self {
            at_length: rules.at_length,
            rules,
            policy,
            keys: Keys::default(),
            connections: Connections::new(),
            waiters: Waiters::new(),
            all_idle: List::default(),
            deadlines: Deadlines::default(),
            wakes: VecDeque::new(),
            ends: Ends::default(),
            timers: BinaryHeap::new(),
            timed_until: Timestamp::ZERO,
            tidy_at: Timestamp::NEVER,
            noted_deadline: Timestamp::NEVER,
            starved: StarvedKeys::default(),
            dials: PoolDials::default(),
            denied_floors: VecDeque::new(),
            allowance: Allowance::default(),
            above_limits: 0,
            spent_keys: 0,
            looks: Looks::default(),
            generation: 0,
            remaking: 0,
            actions: VecDeque::new(),
            listening: false,
            events: Vec::new(),
            recording_ages: false,
            ages: Vec::new(),
            status: Status::default(),
            counts: Counts::default(),
            first_leases: 0,
            stats: Stats::default(),
            tickets: 0,
            closed: false,
            rng: fastrand::Rng::with_seed(seed),
        })
    }

    /// The policy this pool follows, with the limits as they are now.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Gauges over all keys. A connection that is being looked at counts as idle.
    pub fn status(&self) -> Status {
        let looks = self.looks.len();
        let Status { idle, leased, leases, .. } = self.status;
        let (idle, leased, leases) = (idle + looks, leased - looks, leases - looks);
        Status { idle, leased, leases, ..self.status }
    }

    /// Counters over all keys.
    pub fn stats(&self) -> Stats {
        let Counts { leased, waited } = self.counts;
        Stats { leased, reused: leased - self.first_leases, waited, ..self.stats.clone() }
    }

    /// Whether [`close`](State::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is left: no connection, no dial, no waiter. A waiter that was told an
    /// error and has not collected it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.status.waiting == 0
    }

    /// How many keys the pool remembers: those with connections, waiters, a floor, or recent
    /// failures.
    pub fn known_keys(&self) -> usize {
        self.keys.len()
    }

    /// How many deadlines of waiters are remembered, some of waiters that have left included: those
    /// that came out of order. Counts them, which costs a walk over the waiters: for tests.
    pub fn watched_deadlines(&self) -> usize {
        self.deadlines.count(&self.waiters)
    }

    /// The key of a connection, while it lives.
    pub fn key_of(&self, id: ConnectionId) -> Option<&K> {
        let connection = self.connections.get(id)?;
        Some(&self.keys[connection.key].key)
    }

    /// When the dial of a connection had ended, or when it began if it has not; while it lives.
    pub fn opened_at(&self, id: ConnectionId) -> Option<Timestamp> {
        Some(self.connections.get(id)?.opened_at)
    }

    /// The connections that are idle or leased, in no order.
    pub fn live_connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.phase == Phase::Live)
            .map(|(id, _)| id)
    }

    /// The last dial of `key` that failed since one succeeded.
    pub fn last_dial_error(&self, key: &K) -> Option<&E> {
        self.keys[self.keys.find(key)?].backoff.last_error()
    }

    /// Whether there is something to do or to tell.
    #[inline]
    pub fn has_work(&self) -> bool {
        (self.wakes.len() | self.actions.len() | self.events.len()) != 0
    }

    /// The earliest deadline that arose since [`next_deadline`](State::next_deadline) was asked:
    /// cheaper than asking that again, to see whether a timer has to be moved forward.
    #[inline]
    pub fn noted_deadline(&self) -> Timestamp {
        self.noted_deadline
    }

    /// Something is due at `at`, in here or in the shell.
    #[inline]
    pub(crate) fn note_deadline(&mut self, at: Timestamp) {
        // Most are not earlier: then the line it is in stays as it is.
        if at < self.noted_deadline {
            self.noted_deadline = at;
        }
    }

    /// `now`, or the time up to which timers were served, if that is later.
    ///
    /// A shell may read a coarse clock, and be woken by a precise timer: what the timer ended (a
    /// pause) would begin again for the rest of the coarse tick, and what the timer started (a
    /// probe) would seem to have ended before its start. Whatever compares with a time at which
    /// a timer was due reads the clock through this.
    fn catch_up(&self, now: Timestamp) -> Timestamp {
        now.max(self.timed_until)
    }

    /// Something of this key is due at `at`. Nothing is in a closed pool.
    ///
    /// One timer is pending for a key at a time, the earliest; when it fires, the next is set.
    fn set_timer(&mut self, at: Timestamp, key: KeyId) {
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

    /// The next thing to do, if any. Ask until `None` after every command and report.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action<K, L>> {
        match self.wakes.pop_front() {
            Some(waiter) => Some(Action::Wake(waiter)),
            None => self.actions.pop_front(),
        }
    }

    /// Starts or stops recording events.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
        self.at_length = listening || self.rules.at_length;
    }

    /// Whether none of the rarer rules has a say in a lease, so that the fast path may act.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.above_limits | self.remaking | self.spent_keys | u32::from(self.at_length) == 0
    }

    /// Takes the events recorded since the last time.
    pub fn take_events(&mut self) -> Vec<Event<K>> {
        std::mem::take(&mut self.events)
    }

    /// Starts or stops recording how old connections become.
    pub fn record_ages(&mut self, recording: bool) {
        self.recording_ages = recording;
    }

    /// How long the connections that are gone had been open, from the end of the dial to the end
    /// of the close, as far as that was recorded since the last time.
    pub fn take_ages(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.ages)
    }

    #[inline]
    fn emit(&mut self, id: ConnectionId, kind: EventKind, now: Timestamp) {
        if self.listening {
            let key = self.keys[self.connections[id].key].key.clone();
            self.events.push(Event { at: now, key, connection: id, kind });
        }
    }

    /// The entry of `key`, made when it is new.
    fn key_id(&mut self, key: &K, now: Timestamp) -> KeyId {
        match self.keys.known(key) {
            Some(id) => id,
            None => self.keys.add(key, KeyFloor::new(&self.policy, now)),
        }
    }

    /// Forgets a key that nothing depends on any more.
    fn forget_if_unused(&mut self, id: KeyId) {
        if let Some(entry) = self.keys.get_mut(id)
            && entry.is_unused()
        {
            // Connections that are gone prove no need any more.
            entry.pace.forget_spent(&mut self.spent_keys);
            self.keys.remove(id);
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod layout {
    use std::mem::offset_of;
    use std::sync::Arc;

    use super::*;
    use crate::collections::slot_map::LINE;
    use crate::lending::Exclusive;

    #[test]
    fn what_leases_and_waits_change_of_the_state_is_one_line() {
        type Whole = State<String, Exclusive<Box<u64>>, (), Arc<()>>;
        assert_eq!(align_of::<Whole>(), LINE);
        let first = offset_of!(Whole, deadlines.in_order);
        assert_eq!(first % LINE, 0);
        // The map of waiters begins with what changes when one comes or goes.
        assert_eq!(offset_of!(Whole, waiters) + 2 * size_of::<u32>(), first + LINE);
        assert!((first..first + LINE).contains(&offset_of!(Whole, status)));
        assert!((first..first + LINE).contains(&offset_of!(Whole, counts)));
    }
}
