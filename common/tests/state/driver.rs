//! Plays the shell: keeps the leases and dials that the state handed out, and returns them when told.

use std::collections::HashMap;
use std::time::Duration;

use pool_common::Policy;
use pool_common::clock::Timestamp;
use pool_common::event::CloseCause;
use pool_common::lending::Lending;
use pool_common::state::{
    Action, Answer, ConnectionId, Fitness, Lent, Refusal, Released, State, WaiterId, Want,
};

pub type Error = &'static str;

/// The outcome of an acquire or a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Lent(ConnectionId),
    Dial(ConnectionId),
    Wait(WaiterId),
    Retry,
    Refused(Refusal<Error>),
    DialFailed(Error),
    TimedOut,
}

impl Outcome {
    pub fn lent(self) -> ConnectionId {
        match self {
            Self::Lent(id) => id,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    pub fn dial(self) -> ConnectionId {
        match self {
            Self::Dial(id) => id,
            other => panic!("expected leave to dial, got {other:?}"),
        }
    }

    pub fn waiter(self) -> WaiterId {
        match self {
            Self::Wait(id) => id,
            other => panic!("expected a place in the queue, got {other:?}"),
        }
    }
}

pub struct Driver<L: Lending<Connection = u32>> {
    pub state: State<u8, L, Error>,
    pub now: Timestamp,
    pub leases: Vec<(ConnectionId, L)>,
    /// Idle connections that are being looked at.
    pub looks: Vec<Lent<L>>,
    /// Dials in progress: in the background, and by callers.
    pub background: Vec<ConnectionId>,
    pub by_callers: Vec<ConnectionId>,
    /// Waiting acquires, with their keys.
    pub waiters: Vec<(WaiterId, u8)>,
    /// The deadline of each caller that came, including those that have left.
    deadlines: HashMap<WaiterId, Timestamp>,
    /// The background dials that are to stop.
    pub stopping: Vec<ConnectionId>,
    pub woken: Vec<WaiterId>,
    pub closing: Vec<(ConnectionId, CloseCause)>,
    /// When the existing connections were opened.
    opened: Vec<(ConnectionId, Timestamp)>,
    /// The idle limits that connections have reported, including those of connections that are gone.
    idle_limits: HashMap<ConnectionId, Duration>,
    /// The last connection and the last waiter that ended.
    pub ended: Option<ConnectionId>,
    pub left: Option<WaiterId>,
    pub capacity: u32,
}

impl<L: Lending<Connection = u32>> Driver<L> {
    pub fn new(policy: Policy) -> Self {
        Self {
            state: State::new(policy, 7).expect("a valid policy"),
            now: Timestamp::from_nanos(1_000_000_000),
            leases: Vec::new(),
            looks: Vec::new(),
            background: Vec::new(),
            by_callers: Vec::new(),
            waiters: Vec::new(),
            deadlines: HashMap::new(),
            stopping: Vec::new(),
            woken: Vec::new(),
            closing: Vec::new(),
            opened: Vec::new(),
            idle_limits: HashMap::new(),
            ended: None,
            left: None,
            capacity: 2,
        }
    }

    /// Takes the actions, and checks every promise.
    pub fn settle(&mut self) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Dial { id, .. } => self.background.push(id),
                Action::StopDial(id) => {
                    assert!(self.background.contains(&id), "a dial in progress is stopped, once");
                    assert!(!self.stopping.contains(&id), "a dial in progress is stopped, once");
                    self.stopping.push(id);
                }
                Action::Wake(id) => self.woken.push(id),
                Action::Close { id, handle, cause } => {
                    drop(handle);
                    self.closing.push((id, cause));
                }
            }
        }
        if let Err(broken) = self.state.check_invariants() {
            panic!("{broken}\npolicy: {:#?}", self.state.policy());
        }
    }

    pub fn acquire(&mut self, key: u8) -> Outcome {
        self.acquire_as(key, Want::default())
    }

    pub fn acquire_as(&mut self, key: u8, want: Want) -> Outcome {
        self.acquire_until(key, want, Timestamp::NEVER)
    }

    pub fn acquire_until(&mut self, key: u8, want: Want, deadline: Timestamp) -> Outcome {
        let outcome = match self.state.acquire_until(&key, want, deadline, self.now) {
            Answer::Lend(lent) => {
                self.check_age(&lent);
                self.keep(lent)
            }
            Answer::Dial(id) => {
                self.by_callers.push(id);
                Outcome::Dial(id)
            }
            Answer::Wait(id) => {
                self.waiters.push((id, key));
                self.deadlines.insert(id, deadline);
                Outcome::Wait(id)
            }
            Answer::Refuse(refusal) => Outcome::Refused(refusal),
            Answer::Retry | Answer::DialFailed(_) | Answer::TimedOut => {
                panic!("only a waiter is told so")
            }
        };
        self.settle();
        outcome
    }

    pub fn try_acquire(&mut self, key: u8) -> Option<ConnectionId> {
        let lent = self.state.try_acquire(&key, self.now);
        let id = lent.map(|lent| {
            self.check_age(&lent);
            self.keep(lent).lent()
        });
        self.settle();
        id
    }

    /// An acquire never gets an expired connection, whether or not a timer has fired.
    fn check_age(&self, lent: &Lent<L>) {
        let policy = self.state.policy();
        let opened = self.opened.iter().find(|(id, _)| *id == lent.id);
        let age = opened.map_or(Duration::ZERO, |(_, at)| self.now.since(*at));
        let oldest = policy.max_lifetime.map(|max| max.saturating_add(policy.lifetime_jitter));
        assert!(oldest.is_none_or(|max| age <= max), "lent at the age of {age:?}");
        let idle = Duration::from_nanos(lent.idle_nanos);
        let limit = self.idle_limits.get(&lent.id);
        assert!(limit.is_none_or(|max| idle <= *max), "lent after {idle:?}, it said {limit:?}");
    }

    /// A connection reports how long it may be idle.
    pub fn set_idle_limit(&mut self, id: ConnectionId, limit: Duration) {
        self.idle_limits.insert(id, limit);
        self.state.set_idle_limit(id, limit, self.now);
        self.settle();
    }

    fn keep(&mut self, lent: Lent<L>) -> Outcome {
        let idle = Duration::from_nanos(lent.idle_nanos);
        let policy = self.state.policy();
        // There may have been a floor when it was granted.
        let spared = policy.idle_timeout_spares_floor;
        let longest = policy.idle_timeout.filter(|_| !spared);
        assert!(longest.is_none_or(|max| idle <= max), "lent after {idle:?} idle");
        self.leases.push((lent.id, lent.handle));
        Outcome::Lent(lent.id)
    }

    /// Collects the grant of a waiter, if there is one.
    pub fn collect(&mut self, waiter: WaiterId) -> Option<Outcome> {
        let grant = self.state.take_grant(waiter)?;
        self.waiters.retain(|(id, _)| *id != waiter);
        self.left = Some(waiter);
        let outcome = match grant {
            Answer::Lend(lent) => self.keep(lent),
            Answer::Dial(id) => {
                self.by_callers.push(id);
                Outcome::Dial(id)
            }
            Answer::Wait(_) => panic!("a waiter waits already"),
            Answer::Retry => Outcome::Retry,
            Answer::DialFailed(error) => Outcome::DialFailed(error),
            Answer::TimedOut => Outcome::TimedOut,
            Answer::Refuse(refusal) => Outcome::Refused(refusal),
        };
        self.settle();
        Some(outcome)
    }

    pub fn cancel(&mut self, waiter: WaiterId) {
        self.waiters.retain(|(id, _)| *id != waiter);
        self.left = Some(waiter);
        drop(self.state.cancel(waiter, self.now));
        self.settle();
    }

    pub fn release(&mut self, id: ConnectionId) {
        self.release_as(id, Fitness::Fit);
    }

    pub fn release_as(&mut self, id: ConnectionId, fitness: Fitness) {
        let handle = self.end_lease(id);
        drop(self.state.release(id, Some(handle), fitness, self.now));
        self.settle();
    }

    /// Like `release`, but as the shell does it, with a direct hand-over to the next waiter.
    pub fn release_or_hand_over(&mut self, id: ConnectionId) {
        let handle = self.end_lease(id);
        let fit = Fitness::Fit;
        match self.state.release_or_hand_over(id, Some(handle), fit, self.now, || true) {
            Released::Done(leftover) => drop(leftover),
            Released::HandedOver(waiter, lent, _) => {
                let at = self.waiters.iter().position(|(id, _)| *id == waiter);
                self.waiters.remove(at.expect("it waited"));
                self.left = Some(waiter);
                self.check_age(&lent);
                self.keep(lent);
            }
        }
        self.settle();
    }

    /// The lease ends without its handle.
    pub fn lose(&mut self, id: ConnectionId) {
        drop(self.end_lease(id));
        drop(self.state.release(id, None, Fitness::Fit, self.now));
        self.settle();
    }

    fn end_lease(&mut self, id: ConnectionId) -> L {
        let at = self.leases.iter().position(|(lent, _)| *lent == id).expect("it is leased");
        self.leases.swap_remove(at).1
    }

    /// A dial ends well.
    pub fn dialed(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        if self.state.is_gone(id) {
            self.dial_failed(id, Some("gone"));
            return None;
        }
        self.end_dial(id);
        self.opened.push((id, self.now));
        let lent = self.state.dialed(id, L::new(0), self.capacity, self.now);
        let lent = lent.map(|lent| self.keep(lent).lent());
        self.settle();
        lent
    }

    pub fn dial_failed(&mut self, id: ConnectionId, error: Option<Error>) {
        self.end_dial(id);
        self.ended = Some(id);
        self.state.dial_failed(id, error, self.now);
        self.settle();
    }

    pub fn dial_denied(&mut self, id: ConnectionId, error: Error) {
        self.end_dial(id);
        self.ended = Some(id);
        self.state.dial_denied(id, error, self.now);
        self.settle();
    }

    pub fn dial_lost(&mut self, id: ConnectionId) {
        self.end_dial(id);
        self.ended = Some(id);
        self.state.dial_lost(id, self.now);
        self.settle();
    }

    /// Takes an idle connection out to look at it, from `place` on.
    pub fn begin_look(&mut self, place: u32) {
        let mut places = self.state.connection_places();
        let mut place = if places == 0 { 0 } else { place % places };
        self.looks.extend(self.state.take_for_look(&mut place, &mut places, self.now, self.now));
        self.settle();
    }

    pub fn end_look(&mut self, which: usize, gone: bool) {
        let lent = self.looks.swap_remove(which);
        drop(self.state.put_back(lent, gone, self.now));
        self.settle();
    }

    pub fn finish_looks(&mut self) {
        while !self.looks.is_empty() {
            self.end_look(0, false);
        }
    }

    fn end_dial(&mut self, id: ConnectionId) {
        self.background.retain(|dial| *dial != id);
        self.stopping.retain(|dial| *dial != id);
        self.by_callers.retain(|dial| *dial != id);
    }

    /// Dials that are to stop have stopped. Returns how many.
    pub fn finish_stopping(&mut self) -> usize {
        let stopping = self.stopping.clone();
        for id in &stopping {
            self.dial_failed(*id, None);
        }
        stopping.len()
    }

    pub fn closed(&mut self, id: ConnectionId) {
        self.closing.retain(|(closing, _)| *closing != id);
        self.opened.retain(|(opened, _)| *opened != id);
        self.ended = Some(id);
        self.state.closed(id, self.now);
        self.settle();
    }

    /// All closes in progress end. Returns the cause of each.
    pub fn finish_closing(&mut self) -> Vec<CloseCause> {
        let mut causes = Vec::new();
        while let Some((id, cause)) = self.closing.first().copied() {
            causes.push(cause);
            self.closed(id);
        }
        causes
    }

    /// Time passes, and the state is told at each of its deadlines.
    pub fn pass(&mut self, by: Duration) {
        let end = self.now.after(by);
        loop {
            let next = self.state.next_deadline();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.state.handle_timeout(self.now);
            self.settle();
            self.check_deadlines();
        }
        self.now = end;
        // Nothing more was due, so no deadline can have passed.
        self.check_deadlines();
    }

    /// Every waiter whose deadline has passed has a grant, and was woken for it.
    fn check_deadlines(&self) {
        for (waiter, _) in &self.waiters {
            let late = self.deadlines[waiter] <= self.now;
            assert!(!late || self.woken.contains(waiter), "{waiter:?} waits beyond its deadline");
        }
    }

    /// Lends `count` connections of a key, dialing as the policy has it done.
    pub fn lend(&mut self, key: u8, count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| self.lend_one(key)).collect()
    }

    /// The dial in progress in the background, which is the only one.
    pub fn only_dial(&self) -> ConnectionId {
        assert_eq!(self.background.len(), 1, "one dial in the background");
        self.background[0]
    }

    pub fn lend_one(&mut self, key: u8) -> ConnectionId {
        match self.acquire(key) {
            Outcome::Lent(id) => id,
            Outcome::Dial(id) => self.dialed(id).expect("the caller dialed"),
            Outcome::Wait(waiter) => {
                let dial = *self.background.last().expect("a dial in the background");
                self.dialed(dial);
                self.collect(waiter).expect("the dial serves its waiter").lent()
            }
            other => panic!("no connection: {other:?}"),
        }
    }
}
