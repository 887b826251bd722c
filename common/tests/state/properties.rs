//! Random events against the promises: whatever happens, the invariants hold after every step,
//! everybody who waits is served or told why not, and in the end everything is zero.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::knob::{Accepts, KNOBS};
use pool_common::lending::Lending;
use pool_common::profile::Profile;
use pool_common::state::{Fitness, Want};
use pool_common::{Exclusive, Limits, Policy, Shared, Status};
use proptest::prelude::*;

use crate::driver::{Driver, Outcome};

#[derive(Clone, Debug)]
enum Event {
    Acquire { key: u8, fresh: bool },
    Collect(usize),
    Cancel(usize),
    Release { which: usize, fit: bool },
    DialSucceeds(usize),
    DialFails(usize),
    CallerLeavesDial(usize),
    GoodbyeEnds(usize),
    DialStops(usize),
    TimePasses(u32),
    Retire(usize),
    SetCapacity { which: usize, capacity: u32 },
    DialsGetCapacity(u32),
    RetireAll,
    WarmUp(u8),
    SetLimits(Limits),
}

fn event() -> impl Strategy<Value = Event> {
    let which = 0..64usize;
    prop_oneof![
        8 => (0..3u8, prop::bool::weighted(0.1)).prop_map(|(key, fresh)| Event::Acquire { key, fresh }),
        4 => which.clone().prop_map(Event::Collect),
        2 => which.clone().prop_map(Event::Cancel),
        6 => (which.clone(), prop::bool::weighted(0.8))
            .prop_map(|(which, fit)| Event::Release { which, fit }),
        5 => which.clone().prop_map(Event::DialSucceeds),
        2 => which.clone().prop_map(Event::DialFails),
        1 => which.clone().prop_map(Event::CallerLeavesDial),
        3 => which.clone().prop_map(Event::GoodbyeEnds),
        2 => which.clone().prop_map(Event::DialStops),
        2 => (0..40_000u32).prop_map(Event::TimePasses),
        1 => which.clone().prop_map(Event::Retire),
        1 => (which, 0..4u32).prop_map(|(which, capacity)| Event::SetCapacity { which, capacity }),
        1 => (0..4u32).prop_map(Event::DialsGetCapacity),
        1 => Just(Event::RetireAll),
        1 => (0..3u8).prop_map(Event::WarmUp),
        1 => limits().prop_map(Event::SetLimits),
    ]
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), (1..5u32).prop_map(Some)]
}

fn limits() -> impl Strategy<Value = Limits> {
    let idle = || prop_oneof![Just(None), (0..4u32).prop_map(Some)];
    (limit(), limit(), limit(), idle(), idle(), 0..4u32, limit(), limit()).prop_map(
        |(per_key, open, leases, idle_per_key, idle, min_idle, waiters, dials)| Limits {
            max_open_per_key: per_key,
            max_open: open,
            max_leases_per_connection: leases,
            max_idle_per_key: idle_per_key,
            max_idle: idle,
            min_idle,
            max_waiters: waiters,
            max_dials_per_key: dials,
        },
    )
}

/// A profile with some knobs turned, small limits above all, so that limits are met.
fn policy() -> impl Strategy<Value = Policy> {
    let profiles = Profile::all();
    let turned = prop::collection::vec((0..KNOBS.len(), 0..8usize), 0..10);
    (0..=profiles.len(), turned, limit(), limit(), limit()).prop_filter_map(
        "contradictory",
        move |(profile, turned, per_key, open, idle)| {
            let mut policy =
                profiles.get(profile).map_or_else(Policy::default, |found| found.policy.clone());
            for (knob, choice) in turned {
                let knob = &KNOBS[knob];
                let value = match knob.accepts {
                    Accepts::Words(words) => words[choice % words.len()].to_owned(),
                    Accepts::Flag => (choice % 2 == 0).to_string(),
                    Accepts::Limit => ["none", "1", "2", "3"][choice % 4].to_owned(),
                    Accepts::Count => (choice % 4).to_string(),
                    Accepts::Span | Accepts::SpanLimit => {
                        ["1ms", "1s", "10s", "30s"][choice % 4].to_owned()
                    }
                    Accepts::Number => continue,
                };
                policy.set(knob.name, &value).expect("a value of its kind");
            }
            policy.max_open_per_key = per_key;
            policy.max_open = open;
            policy.max_idle = idle;
            policy.validate().is_ok().then_some(policy)
        },
    )
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()])
}

impl<L: Lending<Connection = u32>> Driver<L> {
    fn play(&mut self, event: &Event) {
        let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
        let waiters: Vec<_> = self.waiters.iter().map(|(id, _)| *id).collect();
        let closing: Vec<_> = self.closing.iter().map(|(id, _)| *id).collect();
        let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
        match *event {
            Event::Acquire { key, fresh } => {
                self.acquire_as(key, Want { fresh, again: false });
            }
            Event::Collect(which) => {
                if let Some((id, key)) = pick(&self.waiters, which)
                    && self.collect(id) == Some(Outcome::Retry)
                {
                    self.acquire_as(key, Want { fresh: false, again: true });
                }
            }
            Event::Cancel(which) => {
                if let Some(id) = pick(&waiters, which) {
                    self.cancel(id);
                }
            }
            Event::Release { which, fit } => {
                if let Some(id) = pick(&leases, which) {
                    let fitness =
                        if fit { Fitness::Fit } else { Fitness::Unfit(CloseCause::Broken) };
                    self.release_as(id, fitness);
                }
            }
            Event::DialSucceeds(which) => {
                if let Some(id) = pick(&dials, which) {
                    self.dialed(id);
                }
            }
            Event::DialFails(which) => {
                if let Some(id) = pick(&dials, which) {
                    self.dial_failed(id, Some("refused"));
                }
            }
            Event::CallerLeavesDial(which) => {
                if let Some(id) = pick(&self.by_callers, which) {
                    self.dial_failed(id, None);
                }
            }
            Event::GoodbyeEnds(which) => {
                if let Some(id) = pick(&closing, which) {
                    self.closed(id);
                }
            }
            Event::DialStops(which) => {
                if let Some(id) = pick(&self.stopping, which) {
                    self.dial_failed(id, None);
                }
            }
            Event::TimePasses(millis) => self.pass(Duration::from_millis(millis.into())),
            Event::Retire(which) => {
                if let Some(id) = pick(&leases, which).or_else(|| pick(&dials, which)) {
                    self.state.retire(id, CloseCause::Retired, self.now);
                    self.settle();
                }
            }
            Event::SetCapacity { which, capacity } => {
                if let Some(id) = pick(&leases, which).or_else(|| pick(&dials, which)) {
                    self.state.set_capacity(id, capacity, self.now);
                    self.settle();
                }
            }
            Event::DialsGetCapacity(capacity) => self.capacity = capacity,
            Event::RetireAll => {
                self.state.retire_all(self.now);
                self.settle();
            }
            Event::SetLimits(limits) => {
                let before = self.state.policy().clone();
                match self.state.set_limits(limits, self.now) {
                    Ok(()) => assert_eq!(self.state.policy().limits(), limits),
                    Err(_) => assert_eq!(*self.state.policy(), before, "nothing changed"),
                }
                self.settle();
            }
            Event::WarmUp(key) => {
                self.state.warm_up(&key, self.now);
                self.settle();
            }
        }
    }

    /// From now on everything goes well: everybody who waits must be served.
    fn serve_everybody(&mut self) {
        self.capacity = 3;
        for _ in 0..10_000 {
            let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
            for id in leases {
                // A peer that allowed nothing would keep everybody waiting, rightly.
                self.state.set_capacity(id, 3, self.now);
                self.settle();
                self.release(id);
            }
            for id in self.state_ids_with_no_capacity() {
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
            // Pauses end, refills are due.
            self.pass(Duration::from_millis(100));
        }
        panic!(
            "{} wait for ever, {:?}\npolicy: {:#?}",
            self.waiters.len(),
            self.state.status(),
            self.state.policy()
        );
    }

    /// Connections in the idle list may have been told a capacity of 0.
    fn state_ids_with_no_capacity(&self) -> Vec<pool_common::state::ConnectionId> {
        self.state.live_connections().collect()
    }

    fn end(&mut self) {
        self.state.close(self.now);
        self.settle();
        for (waiter, _) in self.waiters.clone() {
            self.collect(waiter);
        }
        let dials: Vec<_> = self.background.iter().chain(&self.by_callers).copied().collect();
        for id in dials {
            self.dialed(id);
        }
        let leases: Vec<_> = self.leases.iter().map(|(id, _)| *id).collect();
        for id in leases {
            self.release(id);
        }
        self.finish_closing();
        assert!(self.state.is_empty());
        assert_eq!(self.state.status(), Status::default());
        let stats = self.state.stats();
        assert_eq!(stats.opened, stats.closed_in_all(), "every connection opened was closed");
        assert_eq!(stats.dials, stats.opened + stats.dials_failed, "every dial ended");
    }
}

fn run<L: Lending<Connection = u32>>(policy: Policy, events: &[Event], serve: bool) {
    let mut driver = Driver::<L>::new(policy);
    for event in events {
        driver.play(event);
    }
    if serve {
        driver.serve_everybody();
    }
    driver.end();
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn exclusive_lending_keeps_every_promise(
        policy in policy(),
        events in prop::collection::vec(event(), 1..200),
        serve: bool,
    ) {
        run::<Exclusive<u32>>(policy, &events, serve);
    }

    #[test]
    fn shared_lending_keeps_every_promise(
        policy in policy(),
        events in prop::collection::vec(event(), 1..200),
        serve: bool,
    ) {
        run::<Shared<u32>>(policy, &events, serve);
    }
}
