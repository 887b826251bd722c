//! A limit over all keys: callers of one key do not keep another key out.
//!
//! Callers, dials and closes take time here, so that turns can be counted in milliseconds.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause::MakeRoom;
use pool_common::lending::Lending;
use pool_common::policy::*;
use pool_common::state::{ConnectionId, WaiterId, Want};
use pool_common::{Exclusive, Policy, Shared};

use crate::driver::{Driver, Outcome};

const TICK: Duration = Duration::from_micros(250);

/// The times of callers, dials and closes.
#[derive(Clone, Copy)]
struct Times {
    use_of_a_lease: Duration,
    dial: Duration,
    close: Duration,
}

const TIMES: Times = Times {
    use_of_a_lease: Duration::from_millis(1),
    dial: Duration::from_millis(1),
    close: Duration::from_millis(1),
};

#[derive(Clone, Copy, PartialEq)]
struct Caller(usize);

struct World<L: Lending<Connection = u32>> {
    pool: Driver<L>,
    times: Times,
    /// The key of each caller, whether it asks again and again, and when it was served first.
    callers: Vec<(u8, bool, Option<Timestamp>)>,
    waiting: Vec<(WaiterId, Caller)>,
    dials: Vec<(ConnectionId, Timestamp, Option<Caller>)>,
    closes: Vec<(ConnectionId, Timestamp)>,
    leases: Vec<(ConnectionId, Timestamp, Caller)>,
    hands_over: bool,
}

impl<L: Lending<Connection = u32>> World<L> {
    fn new(policy: Policy, times: Times) -> Self {
        let mut pool = Driver::new(policy);
        pool.capacity = 2;
        Self {
            pool,
            times,
            callers: Vec::new(),
            waiting: Vec::new(),
            dials: Vec::new(),
            closes: Vec::new(),
            leases: Vec::new(),
            hands_over: false,
        }
    }

    fn enter(&mut self, key: u8, again: bool) -> Caller {
        self.callers.push((key, again, None));
        let caller = Caller(self.callers.len() - 1);
        self.ask(caller, false);
        caller
    }

    fn ask(&mut self, caller: Caller, again: bool) {
        let key = self.callers[caller.0].0;
        let outcome = self.pool.acquire_as(key, Want { fresh: false, again });
        self.take(caller, outcome);
    }

    fn take(&mut self, caller: Caller, outcome: Outcome) {
        let now = self.pool.now;
        match outcome {
            Outcome::Lent(id) => {
                self.callers[caller.0].2.get_or_insert(now);
                self.leases.push((id, now.after(self.times.use_of_a_lease), caller));
            }
            Outcome::Dial(id) => self.dials.push((id, now.after(self.times.dial), Some(caller))),
            Outcome::Wait(waiter) => self.waiting.push((waiter, caller)),
            Outcome::Retry => self.ask(caller, true),
            other => panic!("not served: {other:?}"),
        }
    }

    fn tick(&mut self) {
        self.pool.pass(TICK);
        let now = self.pool.now;
        while let Some(at) = self.dials.iter().position(|(_, due, _)| *due <= now) {
            let (id, _, caller) = self.dials.remove(at);
            let lent = self.pool.dialed(id);
            if let (Some(id), Some(caller)) = (lent, caller) {
                self.take(caller, Outcome::Lent(id));
            }
            self.look();
        }
        while let Some(at) = self.closes.iter().position(|(_, due)| *due <= now) {
            let (id, _) = self.closes.remove(at);
            self.pool.closed(id);
            self.look();
        }
        while let Some(at) = self.leases.iter().position(|(_, due, _)| *due <= now) {
            let (id, _, caller) = self.leases.remove(at);
            let waiting = self.pool.waiters.len();
            if self.hands_over {
                self.pool.release_or_hand_over(id);
            } else {
                self.pool.release(id);
            }
            if self.pool.waiters.len() < waiting {
                let served = self.pool.left.expect("it was handed over");
                let at = self.waiting.iter().position(|(id, _)| *id == served).expect("it waits");
                let (_, next) = self.waiting.remove(at);
                self.take(next, Outcome::Lent(id));
            }
            self.look();
            if self.callers[caller.0].1 {
                self.ask(caller, false);
                self.look();
            }
        }
    }

    /// Takes the dials that the state has started, and its grants.
    fn look(&mut self) {
        let now = self.pool.now;
        for id in self.pool.background.clone() {
            if !self.dials.iter().any(|(dial, _, _)| *dial == id) {
                self.dials.push((id, now.after(self.times.dial), None));
            }
        }
        for id in self.pool.stopping.clone() {
            self.dials.retain(|(dial, _, _)| *dial != id);
            self.pool.dial_failed(id, None);
        }
        for (id, _) in self.pool.closing.clone() {
            if !self.closes.iter().any(|(close, _)| *close == id) {
                self.closes.push((id, now.after(self.times.close)));
            }
        }
        for (waiter, caller) in self.waiting.clone() {
            if let Some(outcome) = self.pool.collect(waiter) {
                self.waiting.retain(|(id, _)| *id != waiter);
                self.take(caller, outcome);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.pool.now.after(time);
        self.look();
        while self.pool.now < end {
            self.tick();
        }
    }

    /// When a caller was served first, if it was.
    fn served(&self, caller: Caller) -> Option<Timestamp> {
        self.callers[caller.0].2
    }
}

fn every_order(base: &Policy) -> Vec<Policy> {
    let mut policies = Vec::new();
    for &waiter_order in WaiterOrder::ALL {
        for &dial in Dial::ALL {
            for &dial_for_waiters in DialForWaiters::ALL {
                for dial_ramp in [None, Some(Duration::from_millis(100))] {
                    let policy =
                        Policy { waiter_order, dial, dial_for_waiters, dial_ramp, ..base.clone() };
                    if policy.validate().is_ok() {
                        policies.push(policy);
                    }
                }
            }
        }
    }
    policies
}

fn another_key_gets_its_turn<L: Lending<Connection = u32>>(hands_over: bool) {
    let base = Policy { max_open: Some(4), ..Policy::default() };
    for policy in every_order(&base) {
        let said = format!("{policy:?}");
        let mut world = World::<L>::new(policy, TIMES);
        world.hands_over = hands_over;
        // Enough callers for all possible leases, and one more.
        let crowd = if L::SHARED { 9 } else { 5 };
        for _ in 0..crowd {
            world.enter(1, true);
        }
        world.run(Duration::from_millis(50));
        for key in [2, 3, 2] {
            let asked = world.pool.now;
            let other = world.enter(key, false);
            world.run(Duration::from_millis(10));
            let served = world.served(other).unwrap_or_else(|| panic!("key {key} waits, {said}"));
            assert!(served <= asked.after(Duration::from_millis(10)), "{said}");
        }
        // And the others go on.
        let before = world.pool.state.stats().leased;
        world.run(Duration::from_millis(30));
        assert!(world.pool.state.stats().leased > before + 30, "{said}");
    }
}

#[test]
fn another_key_is_served_after_a_turn_of_each_waiter_before_it() {
    another_key_gets_its_turn::<Exclusive<u32>>(false);
    another_key_gets_its_turn::<Exclusive<u32>>(true);
}

#[test]
fn another_key_is_served_in_turn_when_connections_are_shared() {
    another_key_gets_its_turn::<Shared<u32>>(false);
    another_key_gets_its_turn::<Shared<u32>>(true);
}

/// How often callers of each key were served within a time.
fn served_by_key<L: Lending<Connection = u32>>(world: &mut World<L>, time: Duration) -> Vec<u32> {
    let keys = world.callers.iter().map(|caller| caller.0).max().expect("there are callers");
    let mut served = vec![0; usize::from(keys) + 1];
    let end = world.pool.now.after(time);
    let mut seen = Vec::new();
    world.look();
    while world.pool.now < end {
        world.tick();
        for lease in world.leases.iter().filter(|lease| !seen.contains(*lease)) {
            served[usize::from(world.callers[lease.2.0].0)] += 1;
        }
        seen.clone_from(&world.leases);
    }
    served
}

#[test]
fn two_keys_with_many_waiters_share_the_pool() {
    let policy = Policy { max_open: Some(4), ..Policy::default() };
    let mut world = World::<Exclusive<u32>>::new(policy, TIMES);
    world.hands_over = true;
    for caller in 0..40 {
        world.enter(caller % 2, true);
    }
    let served = served_by_key(&mut world, Duration::from_secs(2));
    assert!(served[0] > 2 * served[1] / 3 && served[1] > 2 * served[0] / 3, "{served:?}");
    // Connections are not moved from key to key at each return.
    let moved = world.pool.state.stats().closed(MakeRoom);
    assert!(moved < u64::from(served[0] + served[1]) / 10, "{moved} moves, {served:?}");
}

#[test]
fn more_keys_than_slots_share_the_pool() {
    let policy = Policy { max_open: Some(4), ..Policy::default() };
    let mut world = World::<Exclusive<u32>>::new(policy, TIMES);
    for caller in 0..24 {
        world.enter(caller % 12, true);
    }
    let served = served_by_key(&mut world, Duration::from_secs(1));
    let mean = served.iter().sum::<u32>() / 12;
    assert!(served.iter().all(|served| *served > mean / 2), "{served:?}");
}

/// As many idle connections are closed at a time as there are keys that lack room.
fn room_for_many_keys<L: Lending<Connection = u32>>(policy: Policy) {
    let close = Duration::from_millis(200);
    let said = format!("{policy:?}");
    // All of them are in use at a time, before they become idle.
    let long = Duration::from_secs(1);
    let mut world = World::<L>::new(policy, Times { close, use_of_a_lease: long, ..TIMES });
    world.pool.capacity = 1;
    for _ in 0..100 {
        world.enter(0, false);
    }
    world.run(Duration::from_millis(200));
    world.pool.pass(long);
    world.tick();
    assert_eq!(world.pool.state.status().idle, 100, "{said}");
    world.times.use_of_a_lease = TIMES.use_of_a_lease;
    let asked = world.pool.now;
    let callers: Vec<Caller> = (1..=100).map(|key| world.enter(key, false)).collect();
    world.run(Duration::from_millis(500));
    for caller in callers {
        let served = world.served(caller).unwrap_or_else(|| panic!("not served, {said}"));
        assert!(served <= asked.after(2 * close), "{said}");
    }
}

fn room_for_many_keys_with_every_dial<L: Lending<Connection = u32>>() {
    for &dial in Dial::ALL {
        for &dial_for_waiters in DialForWaiters::ALL {
            let policy = Policy {
                max_open: Some(100),
                max_open_per_key: None,
                dial,
                dial_for_waiters,
                ..Policy::default()
            };
            if policy.validate().is_ok() {
                room_for_many_keys::<L>(policy);
            }
        }
    }
}

#[test]
fn room_for_many_keys_is_made_at_once() {
    room_for_many_keys_with_every_dial::<Exclusive<u32>>();
    room_for_many_keys_with_every_dial::<Shared<u32>>();
}

#[test]
fn no_more_is_closed_than_the_waiters_of_other_keys_need() {
    let policy = Policy { max_open: Some(4), dial_ramp: None, ..Policy::default() };
    let mut pool = Driver::<Exclusive<u32>>::new(policy);
    let ids = pool.lend(1, 4);
    let waiters: Vec<_> = (0..3).map(|_| pool.acquire(2).waiter()).collect();
    // One waiter leaves: two slots are needed.
    pool.cancel(waiters[1]);
    for id in ids {
        pool.release(id);
    }
    assert_eq!(pool.closing.len(), 2);
    assert_eq!(pool.state.status().idle, 2);
}

#[test]
fn waiters_that_leave_unserved_take_no_turn() {
    let policy = Policy { max_open: Some(1), dial_ramp: None, ..Policy::default() };
    let mut pool = Driver::<Exclusive<u32>>::new(policy);
    let id = pool.lend_one(1);
    let before: Vec<_> = (0..50).map(|_| pool.acquire(1).waiter()).collect();
    let other = pool.acquire(2).waiter();
    for waiter in &before[2..] {
        pool.cancel(*waiter);
    }
    for waiter in &before[..2] {
        pool.release(id);
        assert_eq!(pool.collect(*waiter), Some(Outcome::Lent(id)));
        pool.acquire(1).waiter();
    }
    let mut turns = 0;
    while pool.closing.is_empty() {
        pool.release(id);
        let waiter = pool.woken.pop().filter(|_| pool.closing.is_empty());
        if let Some(waiter) = waiter {
            assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
            pool.acquire(1).waiter();
        }
        turns += 1;
    }
    assert!(turns <= 3, "{turns} turns more");
    pool.finish_closing();
    let dial = pool.background[0];
    pool.dialed(dial);
    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
}

#[test]
fn a_key_goes_to_the_end_of_the_line_only_for_a_waiter_that_was_served() {
    let policy = Policy { max_open: Some(2), dial_ramp: None, ..Policy::default() };
    let mut pool = Driver::<Shared<u32>>::new(policy);
    let own = pool.lend(1, 2)[0];
    pool.state.set_capacity(own, 1, pool.now);
    let others = pool.lend(3, 2)[0];
    pool.state.set_capacity(others, 1, pool.now);
    let first = pool.acquire(1).waiter();
    let second = pool.acquire(2).waiter();
    // One lease is still out, and one is allowed: the waiter of that key is not served.
    pool.release(own);
    // It is the turn of a key without a connection, or with none to spare, in the order in which they came.
    pool.release(others);
    pool.release(others);
    assert_eq!(pool.finish_closing(), [MakeRoom]);
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(first), Some(Outcome::Lent(dial)));
    assert_eq!(pool.collect(second), None);
}
