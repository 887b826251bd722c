//! A failed check and the other idle connections: at the level of single decisions.

use std::time::Duration;

use pool_common::event::CloseCause::{CheckFailed, Suspect};
use pool_common::policy::*;
use pool_common::state::{ConnectionId, Fitness, Want};
use pool_common::{Exclusive, Policy};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);
const FAILED: Fitness = Fitness::Unfit(CheckFailed);
/// The request of the acquire after the failed check.
const FRESH: Want = Want { fresh: true, again: true };

fn checking() -> Policy {
    Policy { dial: Dial::Caller, check: Check::Always, ..Policy::default() }
}

impl Plain {
    /// The check of a leased connection takes five seconds and fails.
    fn check_fails(&mut self, id: ConnectionId, began: pool_common::clock::Timestamp) {
        self.state.distrust(id, began, self.now);
        self.settle();
        self.release_as(id, FAILED);
    }
}

#[test]
fn connections_idle_when_the_check_began_are_closed_and_the_others_stay() {
    let mut pool = Plain::new(checking());
    let ids = pool.lend(1, 5);
    let other_key = pool.lend_one(2);
    pool.release(other_key);
    ids[..3].iter().for_each(|id| pool.release(*id));
    pool.pass(SECOND);
    let checked = pool.acquire(1).lent();
    assert_eq!(checked, ids[2]);
    let began = pool.now;
    pool.pass(SECOND);
    pool.release(ids[3]);
    pool.pass(4 * SECOND);
    pool.check_fails(checked, began);
    assert_eq!(pool.closing, [(ids[0], Suspect), (ids[1], Suspect), (checked, CheckFailed)]);
    let status = pool.state.status();
    assert_eq!((status.idle, status.leased, status.closing), (2, 1, 3), "{status:?}");
    // The caller that checked insists on a fresh connection; other callers may get the trusted one.
    pool.acquire_as(1, FRESH).dial();
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[3]));
}

#[test]
fn a_connection_that_became_idle_in_the_tick_of_the_check_is_a_suspect() {
    let mut pool = Plain::new(checking());
    let ids = pool.lend(1, 2);
    ids.iter().for_each(|id| pool.release(*id));
    let checked = pool.acquire(1).lent();
    pool.check_fails(checked, pool.now);
    assert_eq!(pool.closing, [(ids[0], Suspect), (checked, CheckFailed)]);
}

#[test]
fn at_the_limit_suspects_keep_their_places_until_they_are_gone() {
    let limit = Policy { max_open_per_key: Some(3), ..checking() };
    for at_limit in [AtLimit::Wait, AtLimit::Fail] {
        let mut pool = Plain::new(Policy { at_limit, ..limit.clone() });
        let ids = pool.lend(1, 3);
        ids.iter().for_each(|id| pool.release(*id));
        let checked = pool.acquire(1).lent();
        pool.check_fails(checked, pool.now);
        let waiter = pool.acquire_as(1, FRESH).waiter();
        assert_eq!((pool.state.status().open, pool.collect(waiter)), (3, None));
        pool.closed(ids[0]);
        pool.collect(waiter).expect("room").dial();
        assert_eq!(pool.state.status().open, 3);
    }
}

#[test]
fn a_policy_that_takes_the_next_connection_closes_no_other() {
    let mut pool = Plain::new(Policy { after_failed_check: AfterFailedCheck::Next, ..checking() });
    let ids = pool.lend(1, 3);
    ids.iter().for_each(|id| pool.release(*id));
    let checked = pool.acquire(1).lent();
    pool.check_fails(checked, pool.now);
    assert_eq!(pool.closing, [(checked, CheckFailed)]);
    assert_eq!(pool.acquire(1), Outcome::Lent(ids[1]));
}

#[test]
fn a_report_about_an_ended_connection_changes_nothing() {
    let mut pool = Plain::new(checking());
    let ids = pool.lend(1, 2);
    pool.release_as(ids[0], FAILED);
    pool.finish_closing();
    pool.release(ids[1]);
    pool.state.distrust(ids[0], pool.now, pool.now);
    pool.settle();
    assert_eq!((pool.closing.len(), pool.state.status().idle), (0, 1));
}

/// The usual dial takes 20 ms.
#[test]
fn a_check_that_is_cut_off_tells_something_when_it_had_most_of_its_callers_time() {
    let milli = Duration::from_millis(1);
    let mut pool = Driver::<Exclusive<u32>>::new(Policy::default());
    let waiter = pool.acquire(1).waiter();
    let dial = pool.only_dial();
    pool.pass(20 * milli);
    pool.dialed(dial);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(dial)));
    let tells = |took, waited| pool.state.has_had_its_chance(dial, took * milli, waited * milli);
    assert!(!tells(5, 80), "it had waited for a place before");
    assert!(!tells(15, 15), "no dial is that quick");
    assert!(tells(80, 80));
    assert!(tells(100, 5_000), "slower than a dial");
}

#[test]
fn a_check_that_had_a_few_milliseconds_tells_nothing_of_a_peer_whose_dials_take_no_time() {
    let milli = Duration::from_millis(1);
    let mut pool = Driver::<Exclusive<u32>>::new(Policy::default());
    let id = pool.lend_one(1);
    assert!(!pool.state.has_had_its_chance(id, 3 * milli, 2 * milli));
    assert!(pool.state.has_had_its_chance(id, 10 * milli, 20 * milli));
}
