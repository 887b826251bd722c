//! Callers that come while an idle connection is looked at.

use pool_common::Exclusive;

use crate::world::{Socket, World, at_random, policy};

type Alone = World<Exclusive<Socket>>;

/// The only connection is idle and about to be looked at; `callers` come at the same time.
fn callers_come_during_a_look(limit: u32, callers: usize) -> impl FnOnce(&Alone) {
    move |world| {
        drop(world.lease());
        world.a_look_is_due();
        world.while_runtime_runs((0..callers).map(|_| world.caller()));
        assert!(world.check_quiet().idle <= limit);
    }
}

fn one_caller_and_a_look() {
    Alone::with_looks(policy(2), |world| {
        callers_come_during_a_look(2, 1)(world);
        // The caller got the connection before the look or after it, so there was no reason to dial.
        assert_eq!((world.sockets(), world.pool.stats().dials), (1, 1));
    });
}

fn two_callers_and_a_look_at_the_limit() {
    Alone::with_looks(policy(1), |world| {
        callers_come_during_a_look(1, 2)(world);
        assert_eq!(world.pool.stats().dials, 1);
    });
}

fn two_callers_and_a_look_below_the_limit() {
    Alone::with_looks(policy(2), |world| {
        callers_come_during_a_look(2, 2)(world);
        assert!(world.pool.stats().dials <= 2);
    });
}

fn a_caller_leaves_during_a_look() {
    Alone::with_looks(policy(1), |world| {
        drop(world.lease());
        world.a_look_is_due();
        let leaver = world.caller_that_leaves();
        world.while_runtime_runs(leaver.into_iter().chain([world.caller()]));
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn a_look_finds_the_peer_gone_while_a_caller_waits_for_it() {
    Alone::with_looks(policy(1), |world| {
        drop(world.lease());
        world.a_look_is_due();
        world.peer_goes();
        world.while_runtime_runs([world.caller()]);
        assert_eq!(world.check_quiet().idle, 0, "each connection is found broken");
    });
}

fn everything_is_retired_during_a_look() {
    Alone::with_looks(policy(1), |world| {
        drop(world.lease());
        world.a_look_is_due();
        let retires = world.go(|pool| pool.retire_all_now());
        world.while_runtime_runs([retires, world.caller()]);
        assert!(world.check_quiet().idle <= 1);
    });
}

#[test]
fn callers_against_a_look() {
    at_random(one_caller_and_a_look);
    at_random(two_callers_and_a_look_at_the_limit);
    at_random(two_callers_and_a_look_below_the_limit);
}

#[test]
fn cancel_against_a_look() {
    at_random(a_caller_leaves_during_a_look);
}

#[test]
fn the_end_of_a_connection_against_a_look() {
    at_random(a_look_finds_the_peer_gone_while_a_caller_waits_for_it);
    at_random(everything_is_retired_during_a_look);
}
