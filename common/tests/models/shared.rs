//! Shared connections that report changes while they have leases.

use pool_common::Shared;
use shuttle::thread;

use crate::world::{Socket, World, explore, join, policy};

type Together = World<Shared<Socket>>;

fn retired_as_it_is_wanted_and_comes_back() {
    Together::with(policy(1), |world| {
        let lease = world.lease();
        let notifier = world.notifier();
        let callers = [world.caller(), world.caller()];
        let retires = thread::spawn(move || notifier.retire());
        drop(lease);
        join(callers);
        join([retires]);
        world.check_quiet();
    });
}

fn retired_while_its_leases_stay_out() {
    Together::with(policy(1), |world| {
        let leases = [world.lease(), world.lease()];
        let notifier = world.notifier();
        let caller = world.caller();
        let retires = thread::spawn(move || notifier.retire());
        // A successor serves the caller.
        join([caller, retires]);
        drop(leases);
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn its_capacity_falls_and_rises() {
    Together::with(policy(1), |world| {
        let lease = world.lease();
        let notifier = world.notifier();
        let callers = [world.caller(), world.caller()];
        let leaver = world.caller_that_leaves();
        let speaks = thread::spawn(move || {
            notifier.set_capacity(0);
            notifier.set_capacity(1);
        });
        drop(lease);
        join(callers.into_iter().chain(leaver).chain([speaks]));
        assert_eq!(world.check_quiet().idle, 1);
    });
}

fn it_breaks_as_its_capacity_rises() {
    Together::with(policy(1), |world| {
        let lease = world.lease();
        let notifiers = [world.notifier(), world.notifier()];
        let callers = [world.caller(), world.caller()];
        let [rises, breaks] = notifiers;
        let speak =
            [thread::spawn(move || rises.set_capacity(3)), thread::spawn(move || breaks.broken())];
        drop(lease);
        join(callers.into_iter().chain(speak));
        world.check_quiet();
    });
}

#[test]
fn retire_against_acquire_and_release() {
    explore(retired_as_it_is_wanted_and_comes_back);
    explore(retired_while_its_leases_stay_out);
}

#[test]
fn capacity_against_acquire_and_release() {
    explore(its_capacity_falls_and_rises);
    explore(it_breaks_as_its_capacity_rises);
}
