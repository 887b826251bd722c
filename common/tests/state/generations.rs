//! One generation of connections is replaced by the next: counts at every step.

use std::time::Duration;

use pool_common::event::CloseCause::{Broken, Retired};
use pool_common::lending::Lending;
use pool_common::policy::*;
use pool_common::state::{ConnectionId, Fitness};
use pool_common::{Exclusive, Policy, Shared};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const SECOND: Duration = Duration::from_secs(1);

fn floor(min_idle: u32) -> Policy {
    Policy {
        min_idle,
        dial: Dial::Caller,
        dial_ramp: None,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    }
}

impl<L: Lending<Connection = u32>> Driver<L> {
    /// A pool whose key 1 has as many idle connections as the floor asks for, and `more`.
    fn with_idle(policy: Policy, more: usize) -> Self {
        let mut pool = Self::new(policy);
        pool.capacity = 1;
        pool.state.warm_up(&1, pool.now);
        pool.settle();
        pool.dials_end();
        let leased = pool.lend(1, more + pool.state.status().idle as usize);
        // The dials that the leases caused for the floor are surplus.
        while let Some(dial) = pool.background.first().copied() {
            pool.dial_failed(dial, None);
        }
        leased.into_iter().for_each(|id| pool.release(id));
        // The floor's pause after that is over.
        pool.pass(SECOND);
        pool
    }

    fn retire_all(&mut self) {
        self.state.retire_all(self.now);
        self.settle();
    }

    /// All dials in progress, and those that follow.
    pub fn dials_end(&mut self) {
        while let Some(dial) = self.background.first().copied() {
            self.dialed(dial);
        }
    }

    fn next_dial_ends(&mut self) {
        let dial = *self.background.first().expect("a dial is under way");
        self.dialed(dial);
    }

    /// (idle, dialing, closing)
    fn counts(&self) -> (u32, u32, u32) {
        let status = self.state.status();
        (status.idle, status.dialing, status.closing)
    }

    fn is_old(&self, id: ConnectionId) -> bool {
        self.state.generation_of(id).expect("it lives") < self.state.generation()
    }
}

#[test]
fn each_successor_closes_one_and_surplus_connections_are_closed_at_once() {
    let mut pool = Plain::with_idle(floor(3), 2);
    assert_eq!(pool.counts(), (5, 0, 0));
    pool.retire_all();
    assert_eq!(pool.counts(), (3, 3, 2), "three go on serving, their successors are dialed");
    pool.finish_closing();
    for _ in 0..3 {
        pool.next_dial_ends();
        assert_eq!(pool.state.status().idle, 3);
        assert_eq!(pool.finish_closing(), [Retired]);
    }
    assert_eq!(pool.counts(), (3, 0, 0));
    assert!(pool.state.live_connections().all(|id| !pool.is_old(id)));
    assert_eq!(pool.state.stats().opened, 5 + 3);
}

fn newer_ones_are_lent_first<L: Lending<Connection = u32>>() {
    for order in IdleOrder::ALL {
        let mut pool = Driver::<L>::with_idle(Policy { idle_order: *order, ..floor(3) }, 0);
        pool.retire_all();
        pool.next_dial_ends();
        let first = pool.acquire(1).lent();
        assert!(!pool.is_old(first), "{order:?}");
        let second = pool.acquire(1).lent();
        assert!(pool.is_old(second), "{order:?}: nobody waits while one is idle");
        // The old connection is back, and still comes after the new one.
        pool.release(second);
        pool.release(first);
        assert_eq!(pool.acquire(1), Outcome::Lent(first), "{order:?}");
        pool.release(first);
        pool.dials_end();
        assert_eq!(pool.finish_closing(), [Retired; 3], "{order:?}");
        assert!(!pool.lend(1, 3).into_iter().any(|id| pool.is_old(id)), "{order:?}");
    }
}

#[test]
fn newer_connections_are_lent_first_exclusive() {
    newer_ones_are_lent_first::<Exclusive<u32>>();
}

#[test]
fn newer_connections_are_lent_first_shared() {
    newer_ones_are_lent_first::<Shared<u32>>();
}

#[test]
fn while_dials_fail_old_connections_go_on_serving_and_the_dial_is_tried_again() {
    for after_failed_dial in AfterFailedDial::ALL {
        let policy = Policy { after_failed_dial: *after_failed_dial, ..floor(2) };
        // Longer than any pause of a floor.
        let pause = 120 * SECOND;
        let mut pool = Plain::with_idle(policy, 0);
        pool.retire_all();
        for _ in 0..20 {
            assert!(!pool.background.is_empty(), "{after_failed_dial:?}: it is tried again");
            while let Some(dial) = pool.background.first().copied() {
                pool.dial_failed(dial, Some("refused"));
            }
            assert_eq!(pool.counts(), (2, 0, 0));
            // After a lease and a return there are still as many.
            let ids = pool.lend(1, 2);
            assert!(ids.iter().all(|id| pool.is_old(*id)));
            ids.into_iter().for_each(|id| pool.release(id));
            assert_eq!(pool.counts(), (2, 0, 0));
            pool.pass(pause);
        }
        pool.dials_end();
        pool.pass(pause);
        pool.dials_end();
        assert_eq!(pool.finish_closing(), [Retired; 2]);
        assert_eq!(pool.counts(), (2, 0, 0));
    }
}

#[test]
fn at_a_limit_an_old_connection_is_closed_before_its_successor_is_dialed() {
    let limits = [
        Policy { max_open_per_key: Some(3), ..floor(3) },
        Policy { max_open_per_key: None, max_open: Some(3), ..floor(3) },
    ];
    for limit in limits {
        let mut pool = Plain::with_idle(limit, 0);
        pool.retire_all();
        for _ in 0..3 {
            assert_eq!(pool.counts(), (2, 0, 1), "one says goodbye");
            assert_eq!(pool.finish_closing(), [Retired]);
            assert_eq!(pool.counts(), (2, 1, 0), "its successor is dialed");
            pool.next_dial_ends();
        }
        assert_eq!(pool.counts(), (3, 0, 0));
        assert!(pool.state.live_connections().all(|id| !pool.is_old(id)));
    }
}

#[test]
fn at_a_limit_a_failed_dial_costs_no_second_connection() {
    let mut pool = Plain::with_idle(Policy { max_open_per_key: Some(3), ..floor(3) }, 0);
    pool.retire_all();
    pool.finish_closing();
    for _ in 0..10 {
        let dial = *pool.background.first().expect("it is tried again");
        pool.dial_failed(dial, Some("refused"));
        assert_eq!(pool.counts(), (2, 0, 0));
        pool.pass(120 * SECOND);
    }
}

#[test]
fn at_a_limit_a_returned_connection_makes_way() {
    let mut pool = Plain::with_idle(Policy { max_open_per_key: Some(2), ..floor(2) }, 0);
    pool.retire_all();
    let old = pool.acquire(1).lent();
    assert_eq!(pool.counts(), (0, 0, 1));
    pool.finish_closing();
    pool.next_dial_ends();
    assert_eq!(pool.counts(), (1, 0, 0));
    pool.release(old);
    assert_eq!(pool.counts(), (1, 0, 1), "the floor lacks one and the limit is reached");
    pool.finish_closing();
    pool.next_dial_ends();
    assert_eq!(pool.counts(), (2, 0, 0));
}

#[test]
fn the_limits_on_idle_connections_hold() {
    let limits = [
        Policy { max_idle: Some(3), ..floor(3) },
        Policy { max_idle_per_key: Some(3), ..floor(3) },
        Policy { max_idle_per_key: Some(3), idle_overflow: IdleOverflow::CloseOldest, ..floor(3) },
    ];
    for limit in limits {
        let mut pool = Plain::with_idle(limit, 0);
        pool.retire_all();
        for left in (0..3).rev() {
            pool.next_dial_ends();
            let live: Vec<_> = pool.state.live_connections().collect();
            assert_eq!(live.len(), 3);
            assert_eq!(live.into_iter().filter(|id| pool.is_old(*id)).count(), left);
        }
        assert_eq!(pool.finish_closing(), [Retired; 3], "closed for their age, not for the limit");
    }
}

#[test]
fn two_keys_share_the_limit_on_idle_connections() {
    let mut pool = Plain::with_idle(Policy { max_idle: Some(4), ..floor(2) }, 0);
    pool.state.warm_up(&2, pool.now);
    pool.settle();
    pool.dials_end();
    assert_eq!(pool.counts(), (4, 0, 0));
    pool.retire_all();
    assert_eq!(pool.state.status().idle, 4);
    pool.dials_end();
    assert_eq!(pool.finish_closing(), [Retired; 4]);
    assert_eq!(pool.counts(), (4, 0, 0));
    for key in [1, 2] {
        assert!(!pool.lend(key, 2).into_iter().any(|id| pool.is_old(id)));
    }
}

#[test]
fn old_connections_leased_or_being_dialed_serve_once_more_and_are_closed() {
    let mut pool = Plain::with_idle(floor(1), 0);
    let leased = pool.acquire(1).lent();
    pool.dials_end();
    let reserve = pool.acquire(1).lent();
    while let Some(dial) = pool.background.first().copied() {
        pool.dial_failed(dial, None);
    }
    let by_caller = pool.acquire(1).dial();
    pool.release(reserve);
    pool.pass(SECOND);
    pool.retire_all();
    assert_eq!(pool.state.status().idle, 1);
    pool.release(leased);
    assert_eq!(pool.closing, [(leased, Retired)], "though the floor is being remade");
    assert_eq!(pool.dialed(by_caller), Some(by_caller));
    pool.release(by_caller);
    assert_eq!(pool.closing[1], (by_caller, Retired));
    assert_eq!(pool.acquire(1), Outcome::Lent(reserve));
    // In use when the floor is complete: closed when it comes back.
    pool.dials_end();
    assert_eq!(pool.state.status().idle, 1);
    pool.release(reserve);
    assert_eq!(pool.closing[2], (reserve, Retired));
}

#[test]
fn a_borrowed_successor_that_comes_back_closes_an_old_one() {
    let mut pool = Plain::with_idle(floor(2), 0);
    pool.retire_all();
    let ids = pool.lend(1, 2);
    let extra = pool.acquire(1).dial();
    pool.dialed(extra);
    ids.iter().for_each(|id| pool.release(*id));
    assert_eq!((pool.state.status().idle, pool.closing.len()), (2, 0));
    pool.release(extra);
    assert_eq!((pool.state.status().idle, pool.closing.len()), (2, 1));
}

#[test]
fn a_second_time_the_oldest_generation_goes_first() {
    let mut pool = Plain::with_idle(floor(3), 0);
    pool.retire_all();
    pool.next_dial_ends();
    // The oldest has been back for the shortest time.
    let ids = pool.lend(1, 3);
    ids.iter().for_each(|id| pool.release(*id));
    pool.retire_all();
    let generations = |pool: &Plain| {
        let live = pool.state.live_connections();
        let mut found: Vec<_> = live.map(|id| pool.state.generation_of(id)).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(generations(&pool), [Some(0), Some(0), Some(1)]);
    assert_eq!(pool.state.generation_of(pool.closing[0].0), Some(0));
    let first = pool.acquire(1).lent();
    assert_eq!(pool.state.generation_of(first), Some(1), "the newest there is");
    pool.release(first);
    // Connections that were being dialed belong to the old generation: they are closed unused.
    pool.dials_end();
    assert_eq!(generations(&pool), [Some(2); 3]);
}

#[test]
fn retire_all_now_keeps_no_reserve() {
    let mut pool = Plain::with_idle(floor(3), 0);
    pool.retire_all();
    pool.next_dial_ends();
    let lent = pool.lend(1, 2);
    assert!(pool.is_old(lent[1]));
    pool.state.retire_all_now(pool.now);
    pool.settle();
    assert_eq!(pool.state.status().idle, 0);
    lent.into_iter().for_each(|id| pool.release(id));
    assert_eq!(pool.state.status().idle, 0, "not even those of the reserve");
    pool.finish_closing();
    pool.dials_end();
    pool.finish_closing();
    assert_eq!(pool.counts(), (3, 0, 0));
    assert!(pool.state.live_connections().all(|id| !pool.is_old(id)));
}

#[test]
fn a_floor_that_holds_once_and_no_floor_are_retired_at_once() {
    for policy in [Policy { floor: Floor::Once, ..floor(3) }, floor(0)] {
        let mut pool = Plain::with_idle(policy, 2);
        pool.retire_all();
        assert_eq!(pool.state.status().idle, 0);
    }
}

#[test]
fn a_shared_reserve_in_use_takes_no_new_leases_once_the_floor_is_remade() {
    let mut pool = Streams::with_idle(floor(1), 0);
    pool.retire_all();
    let old = pool.acquire(1).lent();
    pool.capacity = 2;
    pool.dials_end();
    let status = pool.state.status();
    assert_eq!((status.idle, status.draining, status.leased), (1, 1, 0), "{status:?}");
    let new = pool.acquire(1).lent();
    assert!(!pool.is_old(new));
    pool.release(old);
    assert_eq!(pool.finish_closing(), [Retired]);
}

#[test]
fn a_shared_reserve_in_use_at_the_limit_gives_up_its_place() {
    let mut pool = Streams::with_idle(Policy { max_open_per_key: Some(2), ..floor(2) }, 0);
    pool.retire_all();
    let old = pool.acquire(1).lent();
    assert!(pool.is_old(old));
    assert_eq!(pool.counts(), (0, 0, 1));
    pool.finish_closing();
    pool.next_dial_ends();
    // The limit is reached again, and no old connection is idle: the old one in use ends with its leases.
    let status = pool.state.status();
    assert_eq!((status.idle, status.dialing, status.draining), (1, 1, 1), "{status:?}");
    pool.next_dial_ends();
    pool.release(old);
    assert_eq!(pool.finish_closing(), [Retired]);
    assert_eq!(pool.counts(), (2, 0, 0));
}

#[test]
fn while_the_dial_pauses_nothing_makes_way_for_it() {
    let policy = Policy { max_open_per_key: None, max_open: Some(3), ..floor(3) };
    let mut pool = Plain::with_idle(policy, 0);
    pool.retire_all();
    pool.finish_closing();
    let dial = *pool.background.first().expect("the successor");
    pool.dial_failed(dial, Some("refused"));
    // Another key takes the place before the dial is tried again: its floor, first of all.
    pool.state.warm_up(&2, pool.now);
    pool.settle();
    assert_eq!(pool.counts(), (2, 1, 0));
    let lent = pool.acquire(1).lent();
    pool.release(lent);
    assert_eq!(pool.counts(), (2, 1, 0), "the old ones serve on");
}

/// Waiters of any key come first; after them the floor is dialed.
#[test]
fn a_floor_that_stood_back_for_waiters_of_another_key_is_dialed_after_them() {
    let policy =
        Policy { max_open_per_key: Some(2), dial_for_waiters: DialForWaiters::Opener, ..floor(1) };
    let mut pool = Plain::new(policy);
    for key in [1, 2] {
        let ids = pool.lend(key, 2);
        pool.acquire(key).waiter();
        pool.release_as(ids[0], Fitness::Unfit(Broken));
        pool.finish_closing();
    }
    assert_eq!(pool.background.len(), 1, "the opener dials for the first; the second has to wait");
    pool.state.warm_up(&3, pool.now);
    pool.settle();
    assert_eq!(pool.background.len(), 1);
    pool.next_dial_ends();
    pool.next_dial_ends();
    assert_eq!(pool.background.len(), 1, "the floor of the third key");
    pool.next_dial_ends();
    assert_eq!(pool.state.status().idle, 1);
}
