//! The pool's decisions, and nothing else: no socket, no clock, no task, no lock.
//!
//! A [`State`] is told what happened and when, and answers with what to do. There are four kinds
//! of methods:
//!
//! - *commands* of a user: [`acquire`](State::acquire), [`release`](State::release),
//!   [`cancel`](State::cancel), [`take_grant`](State::take_grant), [`distrust`](State::distrust),
//!   [`retire`](State::retire), [`close`](State::close);
//! - *reports* of what was done for it: [`dialed`](State::dialed),
//!   [`dial_failed`](State::dial_failed), [`dial_lost`](State::dial_lost), [`closed`](State::closed),
//!   [`handle_timeout`](State::handle_timeout);
//! - *questions* what to do next: [`poll_action`](State::poll_action) until it says `None`, after
//!   every command and report; [`next_deadline`](State::next_deadline);
//! - *getters*: [`status`](State::status), [`stats`](State::stats).
//!
//! # Where to find what
//!
//! | question | file |
//! |---|---|
//! | which idle connection goes out first | `idle_list` |
//! | when an idle connection or one past its lifetime ends | `expiry` |
//! | where a returned connection goes to a waiter | `release`, in the order of `wait_queue` |
//! | where `max_open` and the other limits are enforced | `limits` |
//! | how a key without room gets some | `places`, in the order of `starved` |
//! | when an acquire times out | `deadlines` |
//! | who dials, for whom, and hedges | `dialing`, with `dials` and `dial_pace` |
//! | what becomes of a dial's result | `dialed` |
//! | how long dials pause after a failure | `backoff` |
//! | how the floor is kept | `floor`, `refill`, `generation` |
//! | what happens when time passes | `time` |
//!
//! The parts own their data and know nothing of [`State`]: `backoff`, `dial_pace`, `dials`, `floor`,
//! `limits`, `starved`, `idle_list`, `wait_queue` and `deadlines`. The other files decide with them;
//! `questions` has what several of these ask, and `bookkeeping` the lists and counts that move together.
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
//! waiter cancelled in between passes its grant on, so nothing is lost. A shell that delivers grants
//! to waiters itself can [`attach`](State::attach) to each waiter where to deliver them; then
//! [`release_or_hand_over`](State::release_or_hand_over) needs no grant.
//!
//! Exclusive and shared lending are the same code: a connection has a capacity, and goes back to a
//! waiter or to the idle list as soon as fewer leases are out.

mod acquire;
mod backoff;
mod bookkeeping;
mod change_limits;
mod close;
mod connection;
mod deadlines;
mod dial_pace;
mod dialed;
mod dialing;
mod dials;

mod expiry;
mod fast_path;
mod floor;
mod generation;
mod idle_list;
mod ids;
mod invariants;
mod keys;
#[cfg(all(test, target_pointer_width = "64"))]
mod layout;
mod limits;
mod places;
mod precomputed;
mod questions;
mod refill;
mod release;
mod starved;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod unused;
mod wait_queue;
mod waiting;

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::collections::list::List;
use crate::collections::{BinaryHeap, SlotMap, VecDeque};
use crate::error::InvalidPolicy;
use crate::event::{Event, EventKind};
use crate::lending::Lend;
use crate::policy::Policy;
use crate::stats::{Stats, Status};
use connection::Connection;
use deadlines::Deadlines;
use dials::PoolDials;
use floor::KeyFloor;
pub use floor::PATIENCE;
use ids::KeyId;
pub use ids::{ConnectionId, WaiterId};
use keys::{KeyEntry, KeyIndex};
use limits::Allowance;
use precomputed::Precomputed;
use starved::StarvedKeys;
pub use types::{Acquire, Action, Fitness, Grant, Lent, Refusal, Released, Want};
use wait_queue::Waiter;

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
    /// The key that was asked for last: most programs ask for it again.
    recent: KeyId,
    listening: bool,
    /// Whether every lease takes the slow path: events are recorded, uses counted, or the order of
    /// idle connections is random.
    at_length: bool,
    closed: bool,
    /// Leases of connections that had not been lent before.
    first_leases: u64,
    deadlines: Deadlines,
    status: Status,
    counts: Counts,
    waiters: SlotMap<WaiterId, Waiter<L, E, W>>,
    /// Waiters with a grant to be told of.
    wakes: VecDeque<WaiterId>,
    keys: SlotMap<KeyId, KeyEntry<K, E>>,
    connections: SlotMap<ConnectionId, Connection<L>>,
    rules: Precomputed,
    actions: VecDeque<Action<K, L>>,
    events: Vec<Event<K>>,
    policy: Policy,
    index: KeyIndex,
    /// Idle connections of all keys, longest idle first; kept where `rules.global_idle` is set.
    all_idle: List<ConnectionId>,
    /// When lifetimes end; entries of connections that are gone are skipped.
    lifetimes: BinaryHeap<Reverse<(Timestamp, ConnectionId)>>,
    /// When idle connections are closed that may not be idle for as long as the policy allows; entries
    /// that do not count any more are skipped.
    idle_limits: BinaryHeap<Reverse<(Timestamp, ConnectionId)>>,
    /// When idle connections of a key expire, pauses end, failed refills are due, and failed keys
    /// can be forgotten.
    timers: BinaryHeap<Reverse<(Timestamp, KeyId)>>,
    next_sweep: Timestamp,
    /// How far timers have told the time; a coarse clock may trail it.
    timed_until: Timestamp,
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
    /// Where a sweep that spares floors goes on.
    swept_to: Option<ConnectionId>,
    /// Connections that are being looked at: seldom more than one.
    looks: Vec<unused::Look>,
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
            index: KeyIndex::default(),
            keys: SlotMap::new(),
            connections: SlotMap::new(),
            waiters: SlotMap::new(),
            recent: KeyId::default(),
            all_idle: List::default(),
            deadlines: Deadlines::default(),
            wakes: VecDeque::new(),
            lifetimes: BinaryHeap::new(),
            idle_limits: BinaryHeap::new(),
            timers: BinaryHeap::new(),
            next_sweep: Timestamp::NEVER,
            timed_until: Timestamp::ZERO,
            tidy_at: Timestamp::NEVER,
            noted_deadline: Timestamp::NEVER,
            starved: StarvedKeys::default(),
            dials: PoolDials::default(),
            denied_floors: VecDeque::new(),
            allowance: Allowance::default(),
            above_limits: 0,
            spent_keys: 0,
            swept_to: None,
            looks: Vec::new(),
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
        let looks = self.looks.len() as u32;
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

    /// The connections that are idle or leased, in no order.
    pub fn live_connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.phase == connection::Phase::Live)
            .map(|(id, _)| id)
    }

    /// The last dial of `key` that failed since one succeeded.
    pub fn last_dial_error(&self, key: &K) -> Option<&E> {
        self.keys[self.find_key(key)?].backoff.last_error()
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

    /// The entry of `key`, if it is known.
    #[inline]
    fn known_key(&mut self, key: &K) -> Option<KeyId> {
        if self.keys.get(self.recent).is_some_and(|entry| entry.key == *key) {
            return Some(self.recent);
        }
        let id = self.find_key(key)?;
        self.recent = id;
        Some(id)
    }

    fn find_key(&self, key: &K) -> Option<KeyId> {
        self.index.find(self.index.hash(key), |id| self.keys[id].key == *key)
    }

    /// The entry of `key`, made when it is new.
    fn key_id(&mut self, key: &K, now: Timestamp) -> KeyId {
        match self.known_key(key) {
            Some(id) => id,
            None => self.new_key(key, now),
        }
    }

    #[cold]
    fn new_key(&mut self, key: &K, now: Timestamp) -> KeyId {
        let hash = self.index.hash(key);
        let id = self.keys.insert(KeyEntry::new(key.clone(), hash));
        self.index.insert(hash, id);
        self.keys[id].floor = KeyFloor::new(&self.policy, now);
        id
    }
}
