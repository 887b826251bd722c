//! A damped cold start: as many connections as the callers turn out to need, and soon enough.

use std::collections::BTreeMap;
use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::policy::*;
use pool_common::state::{ConnectionId, Refusal, WaiterId};
use pool_common::{Exclusive, Lending, Policy, Shared};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const MILLI: Duration = Duration::from_millis(1);
/// The default's step.
const STEP: Duration = Duration::from_millis(100);

fn racing() -> Policy {
    // Without hedges: `hedge.rs` tests those.
    Policy { max_open_per_key: Some(200), dial_hedge: None, ..Policy::default() }
}

fn detached() -> Policy {
    Policy { dial: Dial::Detached, ..racing() }
}

fn callers_dial() -> Policy {
    Policy { dial: Dial::Caller, after_failed_dial: AfterFailedDial::Tell, ..racing() }
}

/// Callers, dials and leases in virtual time.
struct Run<L: Lending<Connection = u32>> {
    pool: Driver<L>,
    dial_time: Duration,
    /// How long a caller keeps its lease.
    hold: Option<Duration>,
    /// When each dial in progress ends, and each lease.
    dials: BTreeMap<ConnectionId, Timestamp>,
    leases: Vec<(Timestamp, ConnectionId)>,
    served: Vec<Duration>,
    order: Vec<WaiterId>,
    started: Timestamp,
}

impl<L: Lending<Connection = u32>> Run<L> {
    /// `callers` come at once to an empty pool.
    fn new(policy: Policy, callers: usize, dial_time: Duration, hold: Option<Duration>) -> Self {
        let pool = Driver::<L>::new(policy);
        let started = pool.now;
        let mut run = Self {
            pool,
            dial_time,
            hold,
            dials: BTreeMap::new(),
            leases: Vec::new(),
            served: Vec::new(),
            order: Vec::new(),
            started,
        };
        for _ in 0..callers {
            let outcome = run.pool.acquire(1);
            assert!(matches!(outcome, Outcome::Wait(_) | Outcome::Dial(_)), "{outcome:?}");
        }
        run
    }

    /// Plays until every caller was served, and surplus dials have stopped.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.notice();
            if self.pool.waiters.is_empty() && self.dials.is_empty() {
                return;
            }
            let next = self.dials.values().copied().chain(self.leases.iter().map(|(at, _)| *at));
            let next = next.min().expect("something is under way").min(self.deadline());
            self.pool.pass(next.since(self.pool.now));
            let now = self.pool.now;
            // Leases first: a caller that could be served needs no dial.
            while let Some(at) = self.leases.iter().position(|(at, _)| *at <= now) {
                let (_, id) = self.leases.swap_remove(at);
                self.pool.release(id);
                self.notice();
            }
            if let Some((&id, _)) = self.dials.iter().find(|(_, at)| **at <= now) {
                let opened_for_a_caller = self.pool.by_callers.contains(&id);
                let leases_before = self.pool.state.stats().leased;
                let lent = self.pool.dialed(id);
                self.dials.remove(&id);
                if opened_for_a_caller {
                    self.lease(lent.expect("the caller's own"));
                }
                let leases = self.pool.state.stats().leased;
                assert!(leases > leases_before, "what is opened is lent at once");
            }
        }
        panic!("it never ends: {:?}", self.pool.state.status());
    }

    fn deadline(&mut self) -> Timestamp {
        self.pool.state.next_deadline()
    }

    /// Carries out the pool's actions: dials start and stop, grants are collected.
    fn notice(&mut self) {
        loop {
            self.pool.finish_stopping();
            let now = self.pool.now;
            let dialing: Vec<_> =
                self.pool.background.iter().chain(&self.pool.by_callers).copied().collect();
            self.dials.retain(|id, _| dialing.contains(id));
            for id in &dialing {
                self.dials.entry(*id).or_insert_with(|| now.after(self.dial_time));
            }
            let woken = std::mem::take(&mut self.pool.woken);
            if woken.is_empty() {
                return;
            }
            for waiter in woken {
                match self.pool.collect(waiter).expect("it was woken") {
                    Outcome::Lent(id) => {
                        self.order.push(waiter);
                        self.lease(id);
                    }
                    Outcome::Dial(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn lease(&mut self, id: ConnectionId) {
        self.served.push(self.pool.now.since(self.started));
        if let Some(hold) = self.hold {
            self.leases.push((self.pool.now.after(hold), id));
        }
    }

    fn opened(&self) -> u64 {
        self.pool.state.stats().opened
    }
}

#[test]
fn a_hundred_short_requests_open_as_many_connections_as_they_need() {
    // One connection serves ten callers while the next is dialed. 1 from 10 ms on, 2 from 20, 4 from
    // 30, 8 from 40: 10 + 20 + 40 are served before that. The eight that are then being dialed have
    // waiters to lose; a caller that dials, or waits only for its own dial, stays with the dial.
    for (policy, most) in [(racing(), 8), (detached(), 16), (callers_dial(), 16)] {
        let name = policy.dial;
        let hold = MILLI - MILLI / 100;
        let mut run = Run::<Exclusive<u32>>::new(policy, 100, 10 * MILLI, Some(hold));
        run.finish();
        assert_eq!(run.served.len(), 100, "{name:?}");
        assert_eq!(run.opened(), most, "{name:?}");
        assert!(run.served.iter().max() <= Some(&(50 * MILLI)), "{name:?}: {:?}", run.served);
    }
}

#[test]
fn when_the_first_connection_serves_all_there_is_no_second() {
    // With detached dials the second dial has its own caller, which waits only for that dial.
    for (policy, expected) in [(racing(), (1, 2, 1)), (detached(), (2, 2, 0))] {
        let name = policy.dial;
        let mut run = Run::<Exclusive<u32>>::new(policy, 50, STEP / 2, Some(MILLI / 10));
        run.finish();
        let stats = run.pool.state.stats();
        assert_eq!((stats.opened, stats.dials, stats.dials_failed), expected, "{name:?}");
        assert!(run.pool.state.last_dial_error(&1).is_none());
    }
}

#[test]
fn callers_that_need_n_connections_have_them_after_log2_n_more_dial_times() {
    for policy in [racing(), detached(), callers_dial()] {
        for (n, rounds) in [(1, 1), (2, 2), (3, 3), (4, 3), (8, 4), (100, 8), (128, 8)] {
            let name = policy.dial;
            let mut run = Run::<Exclusive<u32>>::new(policy.clone(), n, 10 * MILLI, None);
            run.finish();
            assert_eq!(run.opened(), n as u64, "{name:?}: everybody keeps its own");
            assert_eq!(run.served.iter().max(), Some(&(10 * rounds * MILLI)), "{name:?} {n}");
            assert_eq!(run.pool.state.stats().dials, n as u64, "{name:?}: none for nothing");
        }
    }
}

#[test]
fn without_a_ramp_all_dials_start_at_once() {
    let policy = Policy { dial_ramp: None, orphan_dial: OrphanDial::Kept, ..racing() };
    let run = Run::<Exclusive<u32>>::new(policy, 100, 10 * MILLI, Some(MILLI));
    assert_eq!(run.pool.state.stats().dials, 100);
}

#[test]
fn slow_dials_cost_a_step_for_each_doubling_and_not_their_whole_time() {
    for (n, steps) in [(1, 0), (2, 1), (4, 2), (8, 3), (100, 7)] {
        let mut run = Run::<Exclusive<u32>>::new(racing(), n, 10 * STEP, None);
        run.finish();
        assert_eq!(run.served.iter().max(), Some(&(10 * STEP + steps * STEP)), "{n} callers");
    }
}

#[test]
fn a_first_dial_that_hangs_holds_the_others_for_one_step() {
    let mut pool = Plain::new(racing());
    let hung = pool.acquire(1).waiter();
    let second = pool.acquire(1).waiter();
    let hanging = pool.background[0];
    pool.pass(STEP - MILLI);
    assert_eq!(pool.background, [hanging]);
    pool.pass(MILLI);
    assert_eq!(pool.background.len(), 2, "by a timer: nobody comes, nothing ends");
    let other = pool.background[1];
    pool.dialed(other);
    assert_eq!(pool.collect(hung), Some(Outcome::Lent(other)), "who came first is served first");
    pool.release(other);
    assert_eq!(pool.collect(second), Some(Outcome::Lent(other)));
    assert_eq!(pool.stopping, [hanging]);
    pool.finish_stopping();
    assert_eq!(pool.state.status().open, 1);
}

#[test]
fn a_newcomer_does_not_overtake_callers_that_the_ramp_held_back() {
    for policy in [racing(), detached(), callers_dial()] {
        let mut pool = Plain::new(Policy { idle_timeout: None, ..policy });
        pool.acquire(1);
        let held = pool.acquire(1).waiter();
        // The step is over, and the timer has not fired yet.
        pool.now = pool.now.after(STEP);
        let newcomer = pool.acquire(1).waiter();
        if let Some(Outcome::Dial(_)) = pool.collect(held) {
            assert_eq!(pool.collect(newcomer), None);
        } else {
            let dial = *pool.background.last().expect("the second");
            pool.dialed(dial);
            assert_eq!(pool.collect(newcomer), None);
        }
    }
}

#[test]
fn a_failed_dial_lets_the_next_start_and_failures_do_not_queue_up() {
    let policy = Policy { after_failed_dial: AfterFailedDial::Tell, ..racing() };
    let mut pool = Plain::new(policy);
    let waiters: Vec<_> = (0..100).map(|_| pool.acquire(1).waiter()).collect();
    let mut rounds = 0;
    while !pool.background.is_empty() {
        rounds += 1;
        for dial in pool.background.clone() {
            pool.dial_failed(dial, Some("refused"));
        }
    }
    assert!(rounds <= 9, "{rounds} rounds");
    for waiter in waiters {
        assert_eq!(pool.collect(waiter), Some(Outcome::DialFailed("refused")));
    }
    assert_eq!(pool.state.status().open, 0);
}

#[test]
fn with_back_off_a_peer_that_is_down_sees_one_dial_at_a_time() {
    let mut pool = Plain::new(racing());
    for _ in 0..100 {
        pool.acquire(1).waiter();
    }
    for _ in 0..3 {
        assert_eq!(pool.background.len(), 1);
        pool.dial_failed(pool.background[0], Some("refused"));
    }
    assert_eq!((pool.background.len(), pool.state.status().waiting), (0, 0), "all were told");
}

#[test]
fn a_dial_whose_waiter_was_served_goes_to_a_waiter_without_one_and_the_youngest_is_stopped() {
    let mut pool = Plain::new(racing());
    let held = pool.lend(1, 2);
    let waiters: Vec<_> = (0..3).map(|_| pool.acquire(1).waiter()).collect();
    let dials = pool.background.clone();
    assert_eq!(dials.len(), 2, "two connections, two dials");
    pool.release(held[0]);
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::Lent(held[0])));
    assert!(pool.stopping.is_empty(), "the third needs it now");
    pool.release(held[1]);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(held[1])));
    assert_eq!(pool.stopping, [dials[1]], "the older one is nearer to its end");
    pool.dialed(dials[0]);
    assert_eq!(pool.collect(waiters[2]), Some(Outcome::Lent(dials[0])));
}

#[test]
fn a_dial_that_ends_before_it_is_stopped_is_kept() {
    let mut pool = Plain::new(racing());
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    pool.collect(waiter).expect("served");
    let dial = pool.stopping[0];
    pool.dialed(dial);
    assert_eq!((pool.state.status().idle, pool.closing.len()), (1, 0));
    assert_eq!(pool.acquire(1), Outcome::Lent(dial));
}

#[test]
fn a_dial_that_fails_before_it_is_stopped_is_a_failure_and_a_stopped_one_is_not() {
    for (error, failed) in [(Some("refused"), true), (None, false)] {
        let policy = Policy { back_off_after: 1, wait_for_ready: false, ..racing() };
        let mut pool = Plain::new(policy);
        let id = pool.lend_one(1);
        let waiter = pool.acquire(1).waiter();
        pool.release(id);
        pool.collect(waiter).expect("served");
        pool.dial_failed(pool.stopping[0], error);
        assert_eq!(pool.state.last_dial_error(&1).is_some(), failed);
        pool.acquire(1).waiter();
        assert_eq!(pool.background.is_empty(), failed, "a failure pauses dials");
    }
}

#[test]
fn a_dial_being_stopped_holds_its_place_and_its_end_makes_room() {
    let mut pool = Plain::new(Policy { max_open_per_key: Some(2), ..racing() });
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    pool.collect(waiter).expect("served");
    let next = pool.acquire(1).waiter();
    assert_eq!((pool.state.status().open, pool.background.len()), (2, 1), "the limit holds");
    pool.finish_stopping();
    assert_eq!((pool.background.len(), pool.stopping.len()), (1, 0), "a new one, for the next");
    pool.dialed(pool.background[0]);
    assert!(pool.collect(next).is_some());
}

#[test]
fn with_at_limit_fail_a_slot_that_is_being_given_up_is_waited_for() {
    let policy = Policy { max_open_per_key: Some(2), at_limit: AtLimit::Fail, ..racing() };
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    let waiter = pool.acquire(1).waiter();
    pool.release(id);
    pool.collect(waiter).expect("served");
    assert_eq!(pool.stopping.len(), 1);
    let next = pool.acquire(1).waiter();
    pool.finish_stopping();
    pool.dialed(pool.background[0]);
    assert!(pool.collect(next).is_some());
}

#[test]
fn a_pool_with_slightly_too_few_connections_grows_instead_of_dialing_and_stopping_forever() {
    let mut pool = Plain::new(racing());
    pool.lend_one(1);
    for _ in 0..100 {
        // Two callers at times, and the second is always served before its dial ends.
        let leased = pool.leases[0].0;
        if let Outcome::Wait(waiter) = pool.acquire(1) {
            pool.release(leased);
            assert!(pool.collect(waiter).is_some());
            pool.finish_stopping();
            for dial in pool.background.clone() {
                pool.dialed(dial);
            }
        } else {
            pool.release(leased);
        }
    }
    let stats = pool.state.stats();
    assert_eq!((stats.opened, stats.dials), (2, 3), "stopped once, then kept");
}

#[test]
fn callers_that_leave_in_the_ramp_leave_one_dial_that_serves_the_next() {
    let mut pool = Plain::new(racing());
    let waiters: Vec<_> = (0..100).map(|_| pool.acquire(1).waiter()).collect();
    for waiter in waiters {
        pool.cancel(waiter);
    }
    assert_eq!((pool.background.len(), pool.stopping.len()), (1, 0), "who left may have needed it");
    let next = pool.acquire(1).waiter();
    assert_eq!(pool.background.len(), 1, "adopted");
    pool.dialed(pool.background[0]);
    assert!(pool.collect(next).is_some());
    assert_eq!(pool.state.stats().dials, 1);
}

#[test]
fn a_caller_that_leaves_its_dial_to_others_does_not_hold_them_up() {
    for policy in [racing(), detached()] {
        let mut pool = Plain::new(policy);
        let waiters: Vec<_> = (0..3).map(|_| pool.acquire(1).waiter()).collect();
        pool.cancel(waiters[0]);
        let dial = pool.background[0];
        pool.dialed(dial);
        assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(dial)));
        assert_eq!(pool.background.len(), 1, "one connection, one dial");
    }
}

#[test]
fn callers_that_the_ramp_holds_back_are_no_queue_at_the_limit() {
    let policy = Policy { max_open_per_key: Some(4), max_waiters: Some(2), ..racing() };
    let mut pool = Plain::new(policy);
    let waiters: Vec<_> = (0..6).map(|_| pool.acquire(1).waiter()).collect();
    assert_eq!(pool.background.len(), 1);
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::TooManyWaiters { limit: 2 }));
    while !pool.background.is_empty() {
        pool.dialed(pool.background[0]);
    }
    let served = waiters.iter().filter(|waiter| pool.collect(**waiter).is_some()).count();
    assert_eq!((served, pool.state.status().waiting), (4, 2));

    let policy = Policy { max_open_per_key: Some(4), at_limit: AtLimit::Fail, ..racing() };
    let mut pool = Plain::new(policy);
    for _ in 0..4 {
        pool.acquire(1).waiter();
    }
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::Exhausted));
}

#[test]
fn the_floor_is_held_back_until_its_first_dial_has_succeeded() {
    let mut pool = Plain::new(Policy { min_idle: 5, ..racing() });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    assert_eq!(pool.background.len(), 1);
    pool.dialed(pool.background[0]);
    assert_eq!(pool.background.len(), 4, "no ramp: the size of the floor is known");
}

#[test]
fn shared_connections_are_opened_as_their_capacity_is_needed() {
    // Ten leases each, kept forever: a hundred callers need ten connections.
    let mut run = Run::<Shared<u32>>::new(racing(), 0, 10 * MILLI, None);
    run.pool.capacity = 10;
    for _ in 0..100 {
        run.pool.acquire(1).waiter();
    }
    run.finish();
    assert_eq!((run.served.len(), run.opened()), (100, 10));
    assert!(run.served.iter().max() <= Some(&(50 * MILLI)), "1, 2, 4, 8, 10");

    // One has room for all of them.
    let mut pool = Streams::new(racing());
    pool.capacity = 100;
    let waiters: Vec<_> = (0..100).map(|_| pool.acquire(1).waiter()).collect();
    pool.dialed(pool.background[0]);
    assert!(waiters.into_iter().all(|waiter| pool.collect(waiter).is_some()));
    assert_eq!((pool.background.len(), pool.state.stats().dials), (0, 1));
}

#[test]
fn waiters_are_served_in_order_of_arrival_all_the_way_up() {
    let mut run = Run::<Exclusive<u32>>::new(racing(), 0, 10 * MILLI, Some(3 * MILLI));
    let waiters: Vec<_> = (0..60).map(|_| run.pool.acquire(1).waiter()).collect();
    run.finish();
    assert_eq!(run.order, waiters);
}

#[test]
fn a_step_of_zero_is_refused() {
    let policy = Policy { dial_ramp: Some(Duration::ZERO), ..racing() };
    assert_eq!(policy.validate().expect_err("no step").names().0, "dial_ramp");
}
