//! Limits that change while the pool runs.

use pool_common::event::CloseCause::*;
use pool_common::policy::*;
use pool_common::state::{Fitness, Refusal, WaiterId};
use pool_common::{Exclusive, Policy, Shared};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

/// Dials start as soon as the limits allow.
fn undamped() -> Policy {
    Policy { dial_ramp: None, ..Policy::default() }
}

fn open_per_key(limit: u32) -> Policy {
    Policy { max_open_per_key: Some(limit), ..undamped() }
}

fn open(limit: u32) -> Policy {
    Policy { max_open: Some(limit), ..undamped() }
}

impl<L: pool_common::Lending<Connection = u32>> Driver<L> {
    /// Changes some of the limits.
    fn change(&mut self, change: impl FnOnce(&mut Limits)) {
        let mut limits = self.state.policy().limits();
        change(&mut limits);
        self.state.set_limits(limits, self.now).expect("valid");
        self.settle();
    }

    fn open(&self) -> u32 {
        self.state.status().open
    }

    fn wait(&mut self, key: u8, count: usize) -> Vec<WaiterId> {
        (0..count).map(|_| self.acquire(key).waiter()).collect()
    }

    fn keys_dialed(&self) -> Vec<u8> {
        let key = |id: &_| *self.state.key_of(*id).expect("it is being dialed");
        self.background.iter().map(key).collect()
    }
}

#[test]
fn the_pool_dials_for_waiters_when_the_limit_of_a_key_is_raised() {
    for dial in [Dial::Racing, Dial::Detached] {
        let mut pool = Plain::new(Policy { dial, ..open_per_key(1) });
        pool.lend_one(1);
        let waiters = pool.wait(1, 3);
        assert!(pool.background.is_empty());
        pool.change(|limits| limits.max_open_per_key = Some(3));
        assert_eq!(pool.background.len(), 2, "{dial:?}: as many as there is room for");
        for dial in pool.background.clone() {
            pool.dialed(dial);
        }
        assert!(pool.collect(waiters[0]).is_some() && pool.collect(waiters[1]).is_some());
        assert!(pool.collect(waiters[2]).is_none());
    }
}

#[test]
fn waiters_get_permission_to_dial_when_callers_dial_themselves() {
    let policy = Policy { dial: Dial::Caller, ..open_per_key(1) };
    let mut pool = Plain::new(policy);
    pool.lend_one(1);
    let waiters = pool.wait(1, 2);
    pool.change(|limits| limits.max_open_per_key = None);
    for waiter in waiters {
        pool.collect(waiter).expect("leave to dial").dial();
    }
}

#[test]
fn a_raised_limit_over_all_keys_is_shared_out_in_turn() {
    let mut pool = Plain::new(open(1));
    pool.lend_one(1);
    for key in [2, 2, 2, 3, 3, 4] {
        pool.acquire(key).waiter();
    }
    pool.change(|limits| limits.max_open = Some(5));
    assert_eq!(pool.keys_dialed(), [2, 3, 4, 2], "not all of them for the key that came first");
    pool.change(|limits| limits.max_open = None);
    assert_eq!(pool.keys_dialed(), [2, 3, 4, 2, 3, 2]);
}

#[test]
fn above_a_lowered_limit_returned_connections_are_closed_until_it_holds() {
    let mut pool = Plain::new(open_per_key(4));
    let ids = pool.lend(1, 4);
    pool.change(|limits| limits.max_open_per_key = Some(2));
    assert_eq!((pool.open(), pool.closing.len()), (4, 0), "nobody is cut off");
    let waiter = pool.wait(1, 1)[0];
    pool.release(ids[0]);
    pool.release(ids[1]);
    assert_eq!(pool.closing, [(ids[0], OverLimit), (ids[1], OverLimit)]);
    assert_eq!(pool.collect(waiter), None, "a connection that has to go serves nobody first");
    pool.finish_closing();
    assert_eq!((pool.open(), pool.background.len()), (2, 0));
    pool.release(ids[2]);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(ids[2])), "now the limit holds");
    pool.release(ids[2]);
    pool.release(ids[3]);
    assert_eq!((pool.closing.len(), pool.state.status().idle), (0, 2));
}

#[test]
fn a_limit_raised_again_in_time_closes_nothing() {
    let mut pool = Plain::new(open_per_key(3));
    let ids = pool.lend(1, 3);
    pool.change(|limits| limits.max_open_per_key = Some(1));
    pool.change(|limits| limits.max_open_per_key = Some(3));
    ids.iter().for_each(|id| pool.release(*id));
    assert_eq!((pool.closing.len(), pool.state.status().idle), (0, 3));
}

#[test]
fn above_a_lowered_limit_the_longest_idle_are_closed_at_once() {
    for over_all_keys in [false, true] {
        let mut pool = Plain::new(open_per_key(5));
        let ids = pool.lend(1, 5);
        for id in [ids[3], ids[0], ids[4], ids[1]] {
            pool.pass(std::time::Duration::from_secs(1));
            pool.release(id);
        }
        pool.change(|limits| {
            let limit =
                if over_all_keys { &mut limits.max_open } else { &mut limits.max_open_per_key };
            *limit = Some(3);
        });
        assert_eq!(pool.closing, [(ids[3], OverLimit), (ids[0], OverLimit)]);
        pool.finish_closing();
        pool.change(|limits| limits.max_open = Some(1));
        assert_eq!(pool.closing, [(ids[4], OverLimit), (ids[1], OverLimit)]);
        pool.finish_closing();
        pool.release(ids[2]);
        assert_eq!((pool.open(), pool.state.status().idle), (1, 1));
    }
}

#[test]
fn dials_in_progress_above_a_lowered_limit_serve_their_waiters_and_close_on_return() {
    let mut pool = Plain::new(Policy { orphan_dial: OrphanDial::Kept, ..open_per_key(3) });
    let waiters = pool.wait(1, 3);
    let dials = pool.background.clone();
    pool.change(|limits| limits.max_open_per_key = Some(1));
    let first = pool.dialed(dials[0]);
    assert_eq!(first, None);
    let first = pool.collect(waiters[0]).expect("dialed for it").lent();
    pool.release(first);
    assert_eq!(pool.closing, [(first, OverLimit)]);
    pool.cancel(waiters[1]);
    pool.cancel(waiters[2]);
    pool.dialed(dials[1]);
    assert_eq!(pool.closing[1], (dials[1], OverLimit), "nobody waits for it");
    pool.dialed(dials[2]);
    assert_eq!(pool.closing.len(), 2, "the last one is within the limit");
    pool.finish_closing();
    assert_eq!((pool.open(), pool.state.status().idle), (1, 1));
}

#[test]
fn a_pool_above_its_limit_does_not_dial_until_it_is_below() {
    let mut pool = Plain::new(open(3));
    let ids = pool.lend(1, 3);
    pool.change(|limits| limits.max_open = Some(2));
    let other = pool.wait(2, 1)[0];
    pool.release(ids[0]);
    pool.finish_closing();
    assert_eq!((pool.open(), pool.background.len()), (2, 0), "the limit holds, with no room");
    pool.release(ids[1]);
    assert_eq!(pool.finish_closing(), [MakeRoom]);
    let dial = pool.background[0];
    pool.dialed(dial);
    assert_eq!(pool.collect(other), Some(Outcome::Lent(dial)));
}

#[test]
fn a_lowered_idle_limit_closes_surplus_idle_connections() {
    for (idle_overflow, closed) in
        [(IdleOverflow::CloseReturned, [4, 3, 2]), (IdleOverflow::CloseOldest, [0, 1, 2])]
    {
        let mut pool = Plain::new(Policy { idle_overflow, ..open_per_key(5) });
        let ids = pool.lend(1, 5);
        ids.iter().for_each(|id| pool.release(*id));
        pool.change(|limits| limits.max_idle_per_key = Some(2));
        let expected: Vec<_> = closed.iter().map(|n| (ids[*n], IdleLimit)).collect();
        assert_eq!(pool.closing, expected);
    }
}

#[test]
fn a_lowered_idle_limit_over_all_keys_closes_the_longest_idle() {
    let mut pool = Plain::new(Policy { idle_timeout: None, ..Policy::default() });
    let ids: Vec<_> = (0..4).map(|key| pool.lend_one(key)).collect();
    for n in [2, 0, 3, 1] {
        pool.pass(std::time::Duration::from_secs(1));
        pool.release(ids[n]);
    }
    pool.change(|limits| limits.max_idle = Some(2));
    assert_eq!(pool.closing, [(ids[2], Evicted), (ids[0], Evicted)]);
}

#[test]
fn a_limit_over_all_keys_that_is_set_later_knows_the_longest_idle_connection() {
    let mut pool = Plain::new(Policy { idle_timeout: None, ..Policy::default() });
    let ids: Vec<_> = (0..3).map(|key| pool.lend_one(key)).collect();
    for n in [1, 2, 0] {
        pool.pass(std::time::Duration::from_secs(1));
        pool.release(ids[n]);
    }
    pool.change(|limits| limits.max_open = Some(3));
    pool.acquire(9).waiter();
    assert_eq!(pool.closing, [(ids[1], MakeRoom)]);
    // And it is forgotten again with the limit.
    pool.change(|limits| limits.max_open = None);
    pool.finish_closing();
    let taken = pool.acquire(2).lent();
    pool.release(taken);
    pool.change(|limits| limits.max_open = Some(3));
    pool.acquire(8).waiter();
    assert_eq!(pool.closing, [(ids[0], MakeRoom)]);
}

#[test]
fn a_raised_floor_is_filled_now_and_a_lowered_one_closes_nothing() {
    let mut pool = Plain::new(open_per_key(5));
    let id = pool.lend_one(1);
    pool.change(|limits| limits.min_idle = 2);
    assert_eq!(pool.background.len(), 2);
    for dial in pool.background.clone() {
        pool.dialed(dial);
    }
    pool.change(|limits| limits.min_idle = 0);
    assert_eq!((pool.closing.len(), pool.state.status().idle), (0, 2));
    pool.release(id);
    pool.state.retire_all(pool.now);
    pool.settle();
    pool.finish_closing();
    assert_eq!((pool.background.len(), pool.state.known_keys()), (0, 0), "no floor, no key");
}

#[test]
fn a_floor_that_holds_once_is_dialed_for_the_difference() {
    let mut pool = Plain::new(Policy { floor: Floor::Once, min_idle: 1, ..open_per_key(5) });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    assert_eq!(pool.background.len(), 1);
    pool.dialed(pool.background[0]);
    pool.change(|limits| limits.min_idle = 3);
    assert_eq!(pool.background.len(), 2);
    pool.change(|limits| limits.min_idle = 0);
    pool.change(|limits| limits.min_idle = 1);
    assert_eq!(pool.background.len(), 3, "raised again is dialed again");
}

#[test]
fn with_a_lowered_max_waiters_waiters_stay_and_the_next_caller_is_told_the_new_limit() {
    let mut pool = Plain::new(open_per_key(1));
    let id = pool.lend_one(1);
    let waiters = pool.wait(1, 3);
    pool.change(|limits| limits.max_waiters = Some(2));
    assert_eq!(pool.acquire(1), Outcome::Refused(Refusal::TooManyWaiters { limit: 2 }));
    for waiter in waiters {
        pool.release(id);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(id)));
    }
}

#[test]
fn limits_that_make_no_sense_change_nothing() {
    let mut pool = Plain::new(Policy { min_idle: 2, ..open_per_key(4) });
    let ids = pool.lend(1, 2);
    pool.release(ids[0]);
    let before = (pool.state.policy().clone(), pool.state.status());
    for broken in [
        Limits { max_open_per_key: Some(1), ..before.0.limits() },
        Limits { max_dials: Some(0), ..before.0.limits() },
        Limits { max_waiters: Some(0), ..before.0.limits() },
    ] {
        pool.state.set_limits(broken, pool.now).expect_err("contradictory");
        pool.settle();
        assert_eq!((pool.state.policy().clone(), pool.state.status()), before);
    }
}

#[test]
fn the_cap_on_leases_moves_for_connections_that_are_open_within_what_their_peer_allows() {
    let mut pool = Streams::new(Policy { max_leases_per_connection: Some(1), ..open_per_key(1) });
    pool.capacity = 3;
    let id = pool.lend_one(1);
    let waiters = pool.wait(1, 3);
    pool.change(|limits| limits.max_leases_per_connection = Some(2));
    assert_eq!(pool.collect(waiters[0]), Some(Outcome::Lent(id)));
    assert_eq!(pool.collect(waiters[1]), None);
    pool.change(|limits| limits.max_leases_per_connection = None);
    assert_eq!(pool.collect(waiters[1]), Some(Outcome::Lent(id)));
    assert_eq!(pool.collect(waiters[2]), None, "the peer allows three");
    pool.change(|limits| limits.max_leases_per_connection = Some(1));
    assert_eq!(pool.state.status().leases, 3, "those that are out stay");
    pool.release(id);
    pool.release(id);
    assert_eq!(pool.collect(waiters[2]), None, "one is out, and one may be");
    pool.release(id);
    assert_eq!(pool.collect(waiters[2]), Some(Outcome::Lent(id)));
}

#[test]
fn a_shared_connection_above_a_lowered_limit_ends_with_its_leases() {
    let mut pool = Streams::new(open_per_key(2));
    let ids = pool.lend(1, 4);
    assert_eq!(pool.open(), 2);
    pool.change(|limits| limits.max_open_per_key = Some(1));
    assert_eq!((pool.open(), pool.closing.len()), (2, 0));
    pool.release(ids[0]);
    let status = pool.state.status();
    assert_eq!((status.open, status.draining, status.leases), (1, 1, 3));
    pool.release(ids[0]);
    assert_eq!(pool.finish_closing(), [OverLimit]);
    pool.release(ids[2]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[2]), "the other stays");
}

#[test]
fn a_closed_pool_takes_new_limits_and_does_nothing() {
    let mut pool = Plain::new(Policy { min_idle: 0, ..open_per_key(3) });
    let ids = pool.lend(1, 3);
    pool.state.close(pool.now);
    pool.settle();
    pool.change(|limits| {
        limits.max_open_per_key = Some(1);
        limits.min_idle = 1;
    });
    assert!(pool.background.is_empty());
    ids.iter().for_each(|id| pool.release(*id));
    assert_eq!(pool.finish_closing(), [PoolClosed; 3]);
    assert!(pool.state.is_empty());
}

#[test]
fn connection_that_is_closing_is_a_reason_to_wait_for_one_caller() {
    for dial in [Dial::Caller, Dial::Racing, Dial::Detached] {
        let policy = Policy {
            dial,
            max_open_per_key: Some(2),
            at_limit: AtLimit::Fail,
            dial_ramp: None,
            ..Policy::default()
        };
        let mut pool = Driver::<Exclusive<u32>>::new(policy);
        let leases = pool.lend(1, 2);
        for id in leases {
            pool.release_as(id, Fitness::Unfit(Broken));
        }
        let waiters = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
        let outcome = pool.acquire(1);
        assert_eq!(outcome, Outcome::Refused(Refusal::Exhausted), "{dial:?}");
        pool.finish_closing();
        for id in pool.background.clone() {
            pool.dialed(id);
        }
        for waiter in waiters {
            let outcome = pool.collect(waiter);
            let is_served = matches!(outcome, Some(Outcome::Lent(_) | Outcome::Dial(_)));
            assert!(is_served, "{dial:?}: {outcome:?}");
        }
    }
}
