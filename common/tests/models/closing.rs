//! The pool is closed, or dropped, while other threads use it.

use std::sync::atomic::Ordering::Relaxed;

use pool_common::policy::Dial;
use pool_common::{Exclusive, Policy, Shared};
use shuttle::future::block_on;
use shuttle::thread;

use crate::world::{Socket, World, at_random, exhaust, explore, join, policy};

type Alone = World<Exclusive<Socket>>;
type Together = World<Shared<Socket>>;

fn closed_as_a_lease_ends() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let closer = world.go(|pool| block_on(pool.close()));
        drop(lease);
        join([closer]);
        assert_eq!(world.sockets(), 0);
    });
}

fn closed_as_one_wants_a_connection() {
    Alone::with(policy(1), |world| {
        let caller = world.easy_caller();
        block_on(world.pool.close());
        assert_eq!(world.sockets(), 0);
        join([caller]);
    });
}

fn closed_with_everything_going_on() {
    Alone::with(policy(1), |world| {
        let lease = world.lease();
        let notifier = world.notifier();
        let leaver = world.caller_that_leaves();
        let callers =
            [world.easy_caller(), world.go(|pool| drop(block_on(pool.acquire_fresh(&0))))];
        let others = [thread::spawn(move || drop(lease)), thread::spawn(move || notifier.retire())];
        block_on(world.pool.close());
        assert_eq!(world.sockets(), 0, "closed, and something is open");
        join(leaver.into_iter().chain(callers).chain(others));
    });
}

fn closed_with_shared_connections() {
    Together::with(policy(1), |world| {
        let leases = [world.lease(), world.lease()];
        let notifier = world.notifier();
        let leaver = world.caller_that_leaves();
        let callers = [world.easy_caller(), world.easy_caller()];
        let ends = leases.map(|lease| thread::spawn(move || drop(lease)));
        let retires = thread::spawn(move || notifier.retire());
        block_on(world.pool.close());
        assert_eq!(world.sockets(), 0, "closed, and something is open");
        join(leaver.into_iter().chain(callers).chain(ends).chain([retires]));
    });
}

fn closed_twice_with_background_dials() {
    Alone::with(Policy { dial: Dial::Racing, ..policy(2) }, |world| {
        let leaver = world.caller_that_leaves();
        let callers = [world.easy_caller(), world.easy_caller()];
        let closers = [(); 2].map(|()| world.go(|pool| block_on(pool.close())));
        world.while_runtime_runs(leaver.into_iter().chain(callers).chain(closers));
        assert_eq!(world.sockets(), 0);
    });
}

fn dropped_with_leases_out() {
    Alone::give(policy(3), 0, |world| {
        let leases = [world.lease(), world.lease()];
        let kept = world.lease();
        let ends = leases.map(|lease| thread::spawn(move || drop(lease)));
        let clone = world.pool.clone();
        let goes = thread::spawn(move || drop(clone));
        let World { pool, sockets, .. } = world;
        drop(pool);
        join(ends.into_iter().chain([goes]));
        assert_eq!(sockets.load(Relaxed), 1, "what came back of a pool that is gone is closed");
        drop(kept);
        assert_eq!(sockets.load(Relaxed), 0, "sockets are left");
    });
}

#[test]
fn close_against_a_release_in_every_order() {
    exhaust(closed_as_a_lease_ends);
}

#[test]
fn close_against_an_acquire() {
    explore(closed_as_one_wants_a_connection);
}

#[test]
fn close_against_everything() {
    explore(closed_with_everything_going_on);
    explore(closed_with_shared_connections);
}

#[test]
fn close_against_background_dials() {
    at_random(closed_twice_with_background_dials);
}

#[test]
fn a_pool_dropped_with_leases_on_other_threads() {
    explore(dropped_with_leases_out);
}
