//! Callers that wait for a connection to come back.

use std::sync::Arc;

use pool_common::Exclusive;
use tokio::sync::Notify;

use crate::world::{Socket, World, exhaust, explore, join, policy};

type Alone = World<Exclusive<Socket>>;

fn one_comes_back_as_another_is_wanted() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let caller = world.caller();
        drop(lease);
        join([caller]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn three_want_the_only_one() {
    Alone::with(policy(1), |world| {
        join([world.caller(), world.caller(), world.caller()]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn a_caller_leaves_after_the_hand_over() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let leave = Arc::new(Notify::new());
        let leaver = world.caller_until(&leave);
        drop(lease);
        leave.notify_one();
        join([leaver]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn the_next_gets_what_a_leaver_was_handed() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let leaver = world.caller_that_leaves();
        let next = world.caller();
        drop(lease);
        join(leaver);
        join([next]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn a_leaver_comes_again_while_what_it_left_is_on_its_way() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let leave = Arc::new(Notify::new());
        let leaver = world.caller_that_comes_again(&leave);
        let other = world.caller();
        let tell = shuttle::thread::spawn(move || leave.notify_one());
        drop(lease);
        join([leaver, other, tell]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn two_of_three_leave_a_queue_for_two() {
    Alone::with(policy(2), |world| {
        let leases = [world.lease(), world.lease()];
        let leavers = [world.caller_that_leaves(), world.caller_that_leaves()];
        let last = world.caller();
        drop(leases);
        join(leavers.into_iter().flatten());
        join([last]);
        assert_eq!(world.check_quiet().idle, 2);
    });
}

#[test]
fn release_against_a_new_waiter_in_every_order() {
    exhaust(one_comes_back_as_another_is_wanted);
}

#[test]
fn release_against_new_waiters() {
    explore(three_want_the_only_one);
}

#[test]
fn hand_over_against_cancel_in_every_order() {
    exhaust(a_caller_leaves_after_the_hand_over);
}

#[test]
fn hand_over_against_cancel() {
    explore(the_next_gets_what_a_leaver_was_handed);
    explore(a_leaver_comes_again_while_what_it_left_is_on_its_way);
    explore(two_of_three_leave_a_queue_for_two);
}
