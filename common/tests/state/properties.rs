//! Random events against the promises: the invariants hold after every step, every waiter is served or
//! gets an error, and in the end all counts are zero.

use pool_common::knob::KNOBS;
use pool_common::lending::Lending;
use pool_common::profile::Profile;
use pool_common::{Exclusive, Limits, Policy, Shared};
use proptest::prelude::*;

use crate::driver::Driver;
use crate::operations::{Operation, Return, turned};
use crate::storm::DialEnd;

fn operation() -> impl Strategy<Value = Operation> {
    let which = 0..64usize;
    let how = prop_oneof![
        4 => Just(Return::Fit),
        4 => Just(Return::ToTheNext),
        1 => Just(Return::Unfit),
        1 => Just(Return::Lost)
    ];
    prop_oneof![
        8 => (0..3u8, prop::bool::weighted(0.1))
            .prop_map(|(key, fresh)| Operation::Acquire { key, fresh, again: false }),
        2 => (0..3u8, any::<bool>(), 0..1_000u32)
            .prop_map(|(key, again, millis)| Operation::AcquireWithin { key, again, millis }),
        1 => (0..3u8).prop_map(Operation::TryAcquire),
        4 => which.clone().prop_map(Operation::Collect),
        2 => which.clone().prop_map(Operation::Cancel),
        6 => (which.clone(), how).prop_map(|(which, how)| Operation::Release { which, how }),
        2 => (which.clone(), 0..10_000u16)
            .prop_map(|(which, took)| Operation::CheckFails { which, took }),
        5 => which.clone().prop_map(Operation::DialSucceeds),
        2 => which.clone().prop_map(Operation::DialStops),
        2 => which.clone().prop_map(Operation::DialFails),
        1 => which.clone().prop_map(Operation::CallerLeavesDial),
        1 => which.clone().prop_map(Operation::DialIsLost),
        1 => (0..16u32).prop_map(Operation::LookBegins),
        1 => (which.clone(), any::<bool>())
            .prop_map(|(which, gone)| Operation::LookEnds { which, gone }),
        3 => which.clone().prop_map(Operation::GoodbyeEnds),
        2 => (0..40_000u32).prop_map(Operation::TimePasses),
        1 => which.clone().prop_map(Operation::Retire),
        1 => (which.clone(), 0..4u32)
            .prop_map(|(which, capacity)| Operation::SetCapacity { which, capacity }),
        1 => (which.clone(), 0..3_000u32)
            .prop_map(|(which, millis)| Operation::SetIdleLimit { which, millis }),
        1 => which.clone().prop_map(Operation::Breaks),
        1 => (0..4u32).prop_map(Operation::DialsGetCapacity),
        1 => (prop::sample::select(&DialEnd::ALL[..]), any::<bool>())
            .prop_map(|(ends, others_hang)| Operation::Storm { ends, others_hang }),
        1 => Just(Operation::RetireAll),
        1 => Just(Operation::RetireAllNow),
        1 => limits().prop_map(Operation::SetLimits),
        1 => (0..3u8).prop_map(Operation::WarmUp),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || prop_oneof![Just(None), (1..5u32).prop_map(Some)];
    let idle = || prop_oneof![Just(None), (0..4u32).prop_map(Some)];
    let dials = (limit(), limit());
    (idle(), idle(), limit(), idle(), idle(), 0..4u32, limit(), dials).prop_map(
        |(per_key, open, leases, idle_per_key, idle, min_idle, waiters, dials)| Limits {
            max_open_per_key: per_key,
            max_open: open,
            max_leases_per_connection: leases,
            max_idle_per_key: idle_per_key,
            max_idle: idle,
            min_idle,
            max_waiters: waiters,
            max_dials_per_key: dials.0,
            max_dials: dials.1,
        },
    )
}

/// A profile with some knobs set, mostly small limits, so that limits are reached.
fn policy() -> impl Strategy<Value = Policy> {
    let profiles = Profile::all().len();
    let knobs = prop::collection::vec((0..KNOBS.len(), 0..8usize), 0..10);
    let limit = || prop_oneof![Just(None), (1..5u32).prop_map(Some)];
    let floor = prop_oneof![2 => Just(None), 1 => (1..3u32).prop_map(Some)];
    (0..=profiles, knobs, limit(), limit(), limit(), floor).prop_filter_map(
        "contradictory",
        |(profile, knobs, per_key, open, idle, floor)| {
            turned(profile, knobs, [per_key, open, idle, floor])
        },
    )
}

fn run<L: Lending<Connection = u32>>(policy: Policy, operations: &[Operation], serve: bool) {
    let mut driver = Driver::<L>::new(policy);
    for operation in operations {
        driver.play(*operation);
    }
    if serve {
        driver.serve_all_waiters();
    }
    driver.end();
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn exclusive_lending_keeps_every_promise(
        policy in policy(),
        operations in prop::collection::vec(operation(), 1..200),
        serve: bool,
    ) {
        run::<Exclusive<u32>>(policy, &operations, serve);
    }

    #[test]
    fn shared_lending_keeps_every_promise(
        policy in policy(),
        operations in prop::collection::vec(operation(), 1..200),
        serve: bool,
    ) {
        run::<Shared<u32>>(policy, &operations, serve);
    }
}
