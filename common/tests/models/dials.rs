//! Dials that end while their callers leave, time out, or are served by another connection.

use std::time::Duration;

use pool_common::policy::Dial;
use pool_common::{Exclusive, Policy};

use crate::world::{Socket, World, at_random, explore, join, policy};

type Alone = World<Exclusive<Socket>>;

fn a_caller_leaves_its_dial_to_the_next() {
    Alone::with(policy(1), |world| {
        let leaver = world.caller_that_leaves();
        let next = world.caller();
        join(leaver);
        join([next]);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn a_dial_fails_as_its_caller_leaves() {
    Alone::with_failures(policy(1), 1, |world| {
        let leaver = world.caller_that_leaves();
        let others = [world.easy_caller(), world.easy_caller()];
        join(leaver);
        join(others);
        world.check_quiet();
    });
}

fn the_time_of_a_caller_is_up_as_it_dials() {
    let limit = Duration::from_secs(1);
    Alone::with(Policy { acquire_timeout: Some(limit), ..policy(1) }, |world| {
        let callers = [world.easy_caller(), world.easy_caller()];
        let clock = world.pass(2 * limit);
        join(callers);
        join([clock]);
        world.check_quiet();
    });
}

fn background_dials_race_with_returns_and_leavers() {
    Alone::with(Policy { dial: Dial::Racing, ..policy(2) }, |world| {
        let leaver = world.caller_that_leaves();
        let others = [world.caller(), world.caller()];
        world.while_runtime_runs(leaver.into_iter().chain(others));
        // A dial that lost all its callers may still be in progress; a new caller adopts it.
        world.while_runtime_runs([world.caller()]);
    });
}

fn detached_dials_end_as_their_callers_leave() {
    Alone::with_failures(Policy { dial: Dial::Detached, ..policy(1) }, 1, |world| {
        let leaver = world.caller_that_leaves();
        world.while_runtime_runs(leaver.into_iter().chain([world.easy_caller()]));
        world.while_runtime_runs([world.easy_caller()]);
    });
}

#[test]
fn dial_end_against_cancel() {
    explore(a_caller_leaves_its_dial_to_the_next);
    explore(a_dial_fails_as_its_caller_leaves);
}

#[test]
fn dial_end_against_timeout() {
    explore(the_time_of_a_caller_is_up_as_it_dials);
}

#[test]
fn background_dials_against_cancel_and_return() {
    at_random(background_dials_race_with_returns_and_leavers);
    at_random(detached_dials_end_as_their_callers_leave);
}
