//! The operations on a pool, as values: the property tests and the fuzzer play the same ones.
//!
//! A new operation is a variant of [`Operation`], an arm of [`Driver::play`], a line in the
//! fuzzer's table and one in the strategy of the property tests.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause;
use pool_common::knob::{Accepts, KNOBS};
use pool_common::lending::Lending;
use pool_common::profile::Profile;
use pool_common::state::{Fitness, PATIENCE, Want};
use pool_common::{Limits, Policy, Status};

use crate::driver::{Driver, Outcome};
use crate::storm::DialEnd;

/// How many keys the operations have.
const KEYS: u64 = 3;

/// One operation. Its target is a number, taken modulo the number of possible targets, so that an
/// operation is valid anywhere in a sequence; without a target it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Acquire {
        key: u8,
        fresh: bool,
        again: bool,
    },
    /// An acquire that waits for so many milliseconds at most.
    AcquireWithin {
        key: u8,
        again: bool,
        millis: u32,
    },
    TryAcquire(u8),
    Collect(usize),
    Cancel(usize),
    Release {
        which: usize,
        how: Return,
    },
    /// A check that began so many milliseconds ago fails.
    CheckFails {
        which: usize,
        took: u16,
    },
    DialSucceeds(usize),
    DialFails(usize),
    CallerLeavesDial(usize),
    /// The runtime of a background dial has ended.
    DialIsLost(usize),
    /// An idle connection is taken out to be looked at, from a place in the table of connections on.
    LookBegins(u32),
    LookEnds {
        which: usize,
        gone: bool,
    },
    /// A dial that was to stop has stopped.
    DialStops(usize),
    GoodbyeEnds(usize),
    /// The state is told at each of its deadlines.
    TimePasses(u32),
    /// The state is not told, as when a timer is late.
    TimeJumps(u32),
    TimerFires,
    Retire(usize),
    SetCapacity {
        which: usize,
        capacity: u32,
    },
    SetIdleLimit {
        which: usize,
        millis: u32,
    },
    /// A connection reports that it is broken, perhaps while it is dialed.
    Breaks(usize),
    DialsGetCapacity(u32),
    /// Reports about a connection and a waiter that have ended.
    LateWord,
    /// No caller comes for a while, and every dial ends at once in the same way; perhaps but those that are
    /// in progress.
    Storm {
        ends: DialEnd,
        others_hang: bool,
    },
    RetireAll,
    RetireAllNow,
    WarmUp(u8),
    SetLimits(Limits),
    Close,
}

/// How a connection comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Fit,
    /// Fit, with a direct hand-over to the next waiter.
    ToTheNext,
    Unfit,
    /// Without its handle.
    Lost,
}

/// The policy of profile number `profile` (the number after the last profile is the default policy) with
/// some knobs set, each to one of a few choices; `None` when they contradict each other.
pub fn turned(
    profile: usize,
    knobs: impl IntoIterator<Item = (usize, usize)>,
    [per_key, open, idle, floor]: [Option<u32>; 4],
) -> Option<Policy> {
    let profiles = Profile::all();
    let mut policy =
        profiles.get(profile).map_or_else(Policy::default, |found| found.policy.clone());
    for (knob, choice) in knobs {
        let knob = &KNOBS[knob];
        let value = match knob.accepts {
            Accepts::Words(words) => words[choice % words.len()].to_owned(),
            Accepts::Flag => (choice % 2 == 0).to_string(),
            Accepts::Limit => ["none", "1", "2", "3"][choice % 4].to_owned(),
            Accepts::Count => (choice % 4).to_string(),
            Accepts::Span | Accepts::SpanLimit => {
                ["50ms", "1s", "10s", "30s"][choice % 4].to_owned()
            }
            Accepts::Number => continue,
        };
        policy.set(knob.name, &value).expect("a value of its kind");
    }
    policy.max_open_per_key = per_key;
    policy.max_open = open;
    policy.max_idle = idle;
    policy.min_idle = floor.unwrap_or(policy.min_idle);
    policy.validate().is_ok().then_some(policy)
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()])
}

impl<L: Lending<Connection = u32>> Driver<L> {
    pub fn play(&mut self, operation: Operation) {
        let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
        let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
        match operation {
            Operation::Acquire { key, fresh, again } => {
                self.acquire_as(key, Want { fresh, again });
            }
            Operation::AcquireWithin { key, again, millis } => {
                let deadline = self.now.after(Duration::from_millis(millis.into()));
                self.acquire_until(key, Want { fresh: false, again }, deadline);
            }
            Operation::TryAcquire(key) => {
                self.try_acquire(key);
            }
            Operation::Collect(which) => {
                let woken: Vec<_> = self
                    .waiters
                    .iter()
                    .filter(|(id, _)| self.woken.contains(id))
                    .copied()
                    .collect();
                // A waiter that was not woken may look, too.
                if let Some((id, key)) = pick(&woken, which).or_else(|| pick(&self.waiters, which))
                    && self.collect(id) == Some(Outcome::Retry)
                {
                    self.acquire_as(key, Want { fresh: false, again: true });
                }
            }
            Operation::Cancel(which) => {
                if let Some((id, _)) = pick(&self.waiters, which) {
                    self.cancel(id);
                }
            }
            Operation::Release { which, how } => {
                if let Some(id) = pick(&leases, which) {
                    match how {
                        Return::Fit => self.release(id),
                        Return::ToTheNext => self.release_or_hand_over(id),
                        Return::Unfit => self.release_as(id, Fitness::Unfit(CloseCause::Broken)),
                        Return::Lost => self.lose(id),
                    }
                }
            }
            Operation::CheckFails { which, took } => {
                if let Some(id) = pick(&leases, which) {
                    let took = u64::from(took) * 1_000_000;
                    let began = Timestamp::from_nanos(self.now.as_nanos().saturating_sub(took));
                    self.state.distrust(id, began, self.now);
                    self.settle();
                    self.release_as(id, Fitness::Unfit(CloseCause::CheckFailed));
                }
            }
            Operation::DialSucceeds(which) => {
                if let Some(id) = pick(&dials, which) {
                    self.dialed(id);
                }
            }
            Operation::DialFails(which) => {
                if let Some(id) = pick(&dials, which) {
                    self.dial_failed(id, Some("refused"));
                }
            }
            Operation::CallerLeavesDial(which) => {
                if let Some(id) = pick(&self.by_callers, which) {
                    self.dial_failed(id, None);
                }
            }
            Operation::DialIsLost(which) => {
                if let Some(id) = pick(&self.background, which) {
                    self.dial_lost(id);
                }
            }
            Operation::LookBegins(place) => self.begin_look(place),
            Operation::LookEnds { which, gone } => {
                if !self.looks.is_empty() {
                    self.end_look(which % self.looks.len(), gone);
                }
            }
            Operation::DialStops(which) => {
                if let Some(id) = pick(&self.stopping, which) {
                    self.dial_failed(id, None);
                }
            }
            Operation::GoodbyeEnds(which) => {
                if let Some((id, _)) = pick(&self.closing, which) {
                    self.closed(id);
                }
            }
            Operation::TimePasses(millis) => self.pass(Duration::from_millis(millis.into())),
            Operation::TimeJumps(millis) => {
                self.now = self.now.after(Duration::from_millis(millis.into()));
            }
            Operation::TimerFires => self.pass(Duration::ZERO),
            Operation::Retire(which) => {
                if let Some(id) = pick(&self.speakers(), which) {
                    self.state.retire(id, CloseCause::Retired, self.now);
                    self.settle();
                }
            }
            Operation::SetCapacity { which, capacity } => {
                if let Some(id) = pick(&self.speakers(), which) {
                    self.state.set_capacity(id, capacity, self.now);
                    self.settle();
                }
            }
            Operation::SetIdleLimit { which, millis } => {
                if let Some(id) = pick(&self.speakers(), which) {
                    self.set_idle_limit(id, Duration::from_millis(millis.into()));
                }
            }
            Operation::Breaks(which) => {
                if let Some(id) = pick(&self.speakers(), which) {
                    self.state.retire(id, CloseCause::Gone, self.now);
                    self.settle();
                }
            }
            Operation::DialsGetCapacity(capacity) => self.capacity = capacity,
            Operation::LateWord => self.late_word(),
            Operation::Storm { ends, others_hang } => self.storm(ends, others_hang, KEYS),
            Operation::RetireAll => {
                self.state.retire_all(self.now);
                self.settle();
            }
            Operation::RetireAllNow => {
                self.state.retire_all_now(self.now);
                self.settle();
                assert_eq!(
                    self.state.status().idle as usize,
                    self.looks.len(),
                    "an old one may be lent again"
                );
            }
            Operation::SetLimits(limits) => {
                let before = self.state.policy().clone();
                match self.state.set_limits(limits, self.now) {
                    Ok(()) => assert_eq!(self.state.policy().limits(), limits),
                    Err(_) => assert_eq!(*self.state.policy(), before, "nothing changed"),
                }
                self.settle();
            }
            Operation::WarmUp(key) => {
                self.state.warm_up(&key, self.now);
                self.settle();
            }
            Operation::Close => {
                self.state.close(self.now);
                self.settle();
            }
        }
    }

    /// The connections that can report changes: leased, being dialed, idle.
    fn speakers(&self) -> Vec<pool_common::state::ConnectionId> {
        let leases = self.leases.iter().map(|(id, _)| *id);
        let dials = self.background.iter().chain(&self.by_callers).copied();
        leases.chain(dials).chain(self.state.live_connections()).collect()
    }

    /// A report about an ended connection or waiter changes nothing.
    fn late_word(&mut self) {
        let before = self.state.status();
        if let Some(id) = self.ended {
            self.state.retire(id, CloseCause::Retired, self.now);
            self.state.set_capacity(id, 2, self.now);
            self.state.set_idle_limit(id, Duration::ZERO, self.now);
        }
        if let Some(id) = self.left {
            assert!(self.state.cancel(id, self.now).is_none(), "it had left");
            assert!(self.state.take_grant(id).is_none(), "it had left");
        }
        assert!(!self.state.has_work(), "late word made work");
        assert_eq!(self.state.status(), before, "late word changed something");
        self.settle();
    }

    /// A pool that was paused goes on.
    fn resume(&mut self) {
        let mut limits = self.state.policy().limits();
        limits.max_open = limits.max_open.filter(|max| *max > 0);
        limits.max_open_per_key = limits.max_open_per_key.filter(|max| *max > 0);
        if limits != self.state.policy().limits() {
            // Its floor may be above what the limits allowed before.
            self.state.set_limits(limits, self.now).expect("no limit was lowered");
            self.settle();
        }
    }

    /// From now on all dials succeed: every waiter must be served.
    pub fn serve_all_waiters(&mut self) {
        self.capacity = 3;
        self.resume();
        self.finish_looks();
        for round in 1..500 {
            let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
            for id in leases {
                // With a peer that allows no lease, all callers would rightly go on waiting.
                self.state.set_capacity(id, 3, self.now);
                self.settle();
                self.release(id);
            }
            // Connections in the idle list may have been told a capacity of 0.
            let live: Vec<_> = self.state.live_connections().collect();
            for id in live {
                self.state.set_capacity(id, 3, self.now);
                self.settle();
            }
            let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
            for id in dials {
                self.state.set_capacity(id, 3, self.now);
                self.dialed(id);
            }
            self.finish_closing();
            let waiters = self.waiters.clone();
            if waiters.is_empty() && self.leases.is_empty() {
                return;
            }
            for (waiter, key) in waiters {
                if let Some(Outcome::Retry) = self.collect(waiter) {
                    self.acquire_as(key, Want { fresh: false, again: true });
                }
            }
            // Pauses end, refills are due; the longest of them within a few hundred rounds.
            self.pass(Duration::from_millis(100) * round);
        }
        panic!(
            "{} wait for ever, {:?}\npolicy: {:#?}",
            self.waiters.len(),
            self.state.status(),
            self.state.policy()
        );
    }

    /// No caller comes any more and all dials succeed: floors are full as far as the limits allow, no
    /// connection is of an older generation, and unused keys are forgotten.
    pub fn rest(&mut self) {
        self.serve_all_waiters();
        let mut at_rest = false;
        for round in 0..500_u32 {
            // Long steps at first, so that every timer fires; then steps of no time.
            self.pass(Duration::from_secs(60).saturating_mul(u32::from(round < 50)));
            let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
            at_rest = dials.is_empty() && self.closing.is_empty();
            if at_rest && round >= 50 {
                break;
            }
            for id in dials {
                self.dialed(id);
            }
            self.finish_closing();
        }
        assert!(at_rest, "dials and goodbyes without end, {:?}", self.state.status());
        let policy = self.state.policy().clone();
        let status = self.state.status();
        let live: Vec<_> = self.state.live_connections().collect();
        let old = live
            .iter()
            .filter(|id| self.state.generation_of(**id) != Some(self.state.generation()));
        assert_eq!(old.count(), 0, "connections of an older generation stay, {status:?}");
        let mut keys: Vec<u8> =
            live.iter().filter_map(|id| self.state.key_of(*id).copied()).collect();
        keys.sort_unstable();
        let full = policy.max_open.is_some_and(|max| status.open >= max)
            || policy.max_idle.is_some_and(|max| status.idle >= max);
        let floors = keys.chunk_by(|one, other| one == other);
        let short = floors.clone().filter(|floor| floor.len() < policy.min_idle as usize).count();
        // In the end no time passes, in which more dials might start.
        let dialed = policy.max_dials_per_second.is_none_or(|max| max >= policy.min_idle);
        if policy.floor == pool_common::policy::Floor::Kept && dialed {
            assert!(full || short == 0, "{short} floors are not full, {status:?}");
        }
        if policy.min_idle == 0 || !full {
            assert_eq!(self.state.known_keys(), floors.count(), "keys that nobody uses");
        }
    }

    /// All callers leave, open connections break, and no peer answers any more: after some time nothing is
    /// dialed and no key is remembered.
    pub fn desert(&mut self) {
        // A pool that is paused keeps the floors of its keys for later, for however long.
        self.resume();
        self.finish_looks();
        for (waiter, _) in self.waiters.clone() {
            self.cancel(waiter);
        }
        let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
        for id in leases {
            self.release_as(id, Fitness::Unfit(CloseCause::Broken));
        }
        let live: Vec<_> = self.state.live_connections().collect();
        for id in live {
            self.state.retire(id, CloseCause::Broken, self.now);
            self.settle();
        }
        let minute = Duration::from_secs(60);
        let end = self.now.after(PATIENCE + 15 * minute);
        while self.now < end {
            let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
            for id in dials {
                self.dial_failed(id, Some("refused"));
            }
            self.finish_closing();
            self.pass(minute);
        }
        assert!(self.background.is_empty(), "dialed for ever, {:?}", self.state.status());
        assert_eq!(self.state.known_keys(), 0, "keys that nobody uses");
        assert_eq!(self.state.next_deadline(), Timestamp::NEVER, "something is still due");
    }

    /// Closes the pool and ends all leases and dials; nothing may be left.
    pub fn end(&mut self) {
        self.state.close(self.now);
        self.settle();
        self.finish_looks();
        for (waiter, _) in self.waiters.clone() {
            self.collect(waiter);
        }
        let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
        let (good, bad) = dials.split_at(dials.len() / 2);
        for id in good {
            self.dialed(*id);
        }
        for id in bad {
            self.dial_failed(*id, Some("refused"));
        }
        let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
        for id in leases {
            self.release(id);
        }
        self.finish_closing();
        assert_eq!(self.state.next_deadline(), Timestamp::NEVER, "a closed pool has plans");
        assert!(self.state.is_empty(), "something is left of a closed pool");
        assert_eq!(self.state.status(), Status::default());
        let stats = self.state.stats();
        assert_eq!(stats.opened, stats.closed_in_all(), "every connection opened was closed");
        assert_eq!(stats.dials, stats.opened + stats.dials_failed, "every dial ended");
    }
}
