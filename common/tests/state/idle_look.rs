//! Looks at idle connections between leases: at the level of single decisions.

use std::time::Duration;

use pool_common::event::CloseCause::{self, IdleTimeout, PeekFailed};
use pool_common::event::EventKind;
use pool_common::policy::Expiry;
use pool_common::state::{ConnectionId, Lent};
use pool_common::{Exclusive, Policy};

use crate::driver::{Driver, Outcome};

mod callers;
mod suspects;

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);

impl Plain {
    /// Looks at all that have been idle for a second, each of which may be `gone`. Returns them.
    fn look(&mut self, gone: &[ConnectionId]) -> Vec<ConnectionId> {
        let (mut place, mut places) = (0, self.state.connection_places());
        let since = pool_common::clock::Timestamp::from_nanos(
            self.now.as_nanos() - SECOND.as_nanos() as u64,
        );
        let mut looked_at = Vec::new();
        while let Some(lent) = self.state.take_for_look(&mut place, &mut places, since, self.now) {
            let id = lent.id;
            looked_at.push(id);
            self.state.check_invariants().expect("while it is looked at");
            self.state.put_back(lent, gone.contains(&id), self.now);
            self.settle();
        }
        looked_at
    }
}

fn three_idle(policy: Policy) -> (Plain, Vec<ConnectionId>) {
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 3);
    // In another order than that of their places.
    for id in [ids[1], ids[2], ids[0]] {
        pool.release(id);
        pool.pass(SECOND);
    }
    (pool, ids)
}

#[test]
fn a_look_changes_neither_the_order_nor_the_idle_time_nor_a_counter() {
    for max_open in [None, Some(10)] {
        let (mut pool, ids) = three_idle(Policy { max_open, ..Policy::default() });
        let before = (pool.state.status(), pool.state.stats());
        for _ in 0..3 {
            assert_eq!(pool.look(&[]).len(), 3);
        }
        assert_eq!((pool.state.status(), pool.state.stats()), before);
        // Newest first, as without a look; each is idle since its release.
        for id in [ids[0], ids[2], ids[1]] {
            assert_eq!(pool.acquire(1), Outcome::Lent(id));
        }
    }
}

#[test]
fn a_connection_idle_for_too_short_a_time_is_left_alone() {
    let (mut pool, ids) = three_idle(Policy::default());
    let newest = pool.acquire(1).lent();
    pool.release(newest);
    assert_eq!(pool.look(&[]), [ids[1], ids[2]]);
}

#[test]
fn a_connection_whose_peer_has_gone_is_closed() {
    let (mut pool, ids) = three_idle(Policy::default());
    pool.look(&[ids[1], ids[0]]);
    let mut closing = pool.closing.clone();
    closing.sort_by_key(|(id, _)| id.as_u64());
    assert_eq!(closing, [(ids[0], PeekFailed), (ids[1], PeekFailed)]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[2]));
}

#[test]
fn a_pool_that_is_closed_during_a_look_closes_the_connection() {
    let (mut pool, _) = three_idle(Policy::default());
    let (mut place, mut places) = (0, 3);
    let lent = pool.state.take_for_look(&mut place, &mut places, pool.now, pool.now).expect("idle");
    pool.state.close(pool.now);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    assert_eq!(pool.closing.len(), 3);
}

/// Takes the only idle connection out for a look.
fn begin(pool: &mut Plain) -> Lent<Exclusive<u32>> {
    let (mut place, mut places) = (0, pool.state.connection_places());
    let now = pool.now;
    pool.state.take_for_look(&mut place, &mut places, now, now).expect("idle")
}

fn one_idle(policy: Policy) -> (Plain, ConnectionId) {
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(SECOND);
    (pool, id)
}

#[test]
fn a_connection_that_is_looked_at_counts_as_idle() {
    let (mut pool, _) = one_idle(Policy::default());
    let before = pool.state.status();
    let lent = begin(&mut pool);
    assert_eq!(pool.state.status(), before);
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn an_expired_connection_is_left_to_the_policy() {
    let (limit, expiry) = (Some(SECOND), Expiry::AtAcquire);
    let idle = Policy { idle_timeout: limit, expiry, ..Policy::default() };
    let lifetime_jitter = Duration::ZERO;
    let old = Policy { max_lifetime: limit, lifetime_jitter, expiry, ..Policy::default() };
    for policy in [idle, old] {
        let (mut pool, _) = one_idle(policy);
        pool.state.listen(true);
        // Its time passes while it is looked at.
        let lent = begin(&mut pool);
        pool.now = pool.now.after(SECOND);
        pool.state.put_back(lent, false, pool.now);
        pool.settle();
        assert!(pool.look(&[]).is_empty(), "it is past its time");
        assert_eq!(pool.state.take_events().len(), 0);
        assert_eq!(pool.state.status().idle, 1);
    }
}

#[test]
fn a_limit_that_is_set_during_a_look_is_watched_after_it() {
    let (mut pool, id) = one_idle(Policy::default());
    let lent = begin(&mut pool);
    pool.set_idle_limit(id, 3 * SECOND);
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    pool.pass(3 * SECOND);
    assert_eq!(pool.closing, [(id, IdleTimeout)]);
}

#[test]
fn the_floor_counts_connections_in_a_look() {
    let mut pool = Plain::new(Policy { min_idle: 2, max_open_per_key: None, ..Policy::default() });
    let first = pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.release(first);
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    // When an idle connection is lent, the floor is looked after.
    pool.acquire(1).lent();
    assert!(pool.background.is_empty(), "two of three are left");
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn a_look_makes_no_room_for_the_floor_of_another_key() {
    let mut pool = Plain::new(Policy { min_idle: 1, max_idle: Some(1), ..Policy::default() });
    let id = pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.release(id);
    pool.pass(SECOND);
    pool.finish_closing();
    let lent = begin(&mut pool);
    let waiter = pool.acquire(2).waiter();
    let dial = pool.only_dial();
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
    assert!(pool.background.is_empty(), "one idle connection is all there may be");
    pool.state.put_back(lent, false, pool.now);
}

#[test]
fn the_floor_is_refilled_when_a_look_ends_in_a_lease() {
    let mut pool = Plain::new(Policy { min_idle: 1, max_open_per_key: None, ..Policy::default() });
    pool.lend_one(1);
    while let [dial, ..] = pool.background[..] {
        pool.dialed(dial);
    }
    pool.pass(SECOND);
    let lent = begin(&mut pool);
    let waiter = pool.acquire(1).waiter();
    pool.state.put_back(lent, false, pool.now);
    pool.settle();
    pool.collect(waiter).expect("served").lent();
    assert_eq!(pool.background.len(), 1);
}

#[test]
fn a_lifetime_that_ends_during_a_look_is_told_as_if_there_had_been_no_look() {
    let mut pool = Plain::new(Policy {
        max_lifetime: Some(2 * SECOND),
        lifetime_jitter: Duration::ZERO,
        ..Policy::default()
    });
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(SECOND);
    pool.state.listen(true);
    pool.begin_look(0);
    pool.pass(2 * SECOND);
    let kinds = |pool: &mut Plain| -> Vec<_> {
        pool.state.take_events().iter().map(|event| event.kind).collect()
    };
    assert_eq!(kinds(&mut pool), []);
    pool.end_look(0, false);
    assert_eq!(kinds(&mut pool), [EventKind::Closing(CloseCause::Lifetime)]);
}
