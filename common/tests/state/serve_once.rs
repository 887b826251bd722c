//! Connections that serve one request each, and connections that end at once.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::{ConnectionId, Fitness};
use pool_common::{Exclusive, Lending, Policy, Shared, profile};

use crate::driver::{Driver, Outcome};

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// 50 callers ask again and again, a dial takes 30 ms and a request 5 ms, and each connection is
/// discarded after use. Returns how many requests are served in two seconds, a thirtieth of a minute.
fn served_in_two_seconds<L: Lending<Connection = u32>>(policy: Policy) -> u64 {
    let mut pool = Driver::<L>::new(policy);
    pool.capacity = 1;
    let start = pool.now;
    let mut dials: Vec<(Timestamp, ConnectionId)> = Vec::new();
    let mut uses: Vec<(Timestamp, ConnectionId)> = Vec::new();
    let (mut served, mut asking) = (0, 50);
    while pool.now.since(start) < MINUTE / 30 {
        for _ in 0..std::mem::take(&mut asking) {
            match pool.acquire(1) {
                Outcome::Lent(id) => uses.push((pool.now.after(5 * MILLI), id)),
                Outcome::Wait(_) | Outcome::Dial(_) => {}
                other => panic!("{other:?}"),
            }
        }
        loop {
            pool.finish_stopping();
            let dialing: Vec<_> = pool.background.iter().chain(&pool.by_callers).copied().collect();
            dials.retain(|(_, id)| dialing.contains(id));
            for id in dialing {
                if !dials.iter().any(|(_, known)| *known == id) {
                    dials.push((pool.now.after(30 * MILLI), id));
                }
            }
            let woken = std::mem::take(&mut pool.woken);
            if woken.is_empty() {
                break;
            }
            for waiter in woken {
                match pool.collect(waiter) {
                    Some(Outcome::Lent(id)) => uses.push((pool.now.after(5 * MILLI), id)),
                    Some(Outcome::Retry) => asking += 1,
                    _ => {}
                }
            }
        }
        let next = dials.iter().chain(&uses).map(|(at, _)| *at).min();
        if asking == 0 {
            let next = next.expect("something is under way").min(pool.state.next_deadline());
            pool.pass(next.since(pool.now));
        }
        let now = pool.now;
        while let Some(at) = uses.iter().position(|(at, _)| *at <= now) {
            let (_, id) = uses.swap_remove(at);
            pool.release_as(id, Fitness::Unfit(CloseCause::Discarded));
            pool.finish_closing();
            served += 1;
            asking += 1;
        }
        while let Some(at) = dials.iter().position(|(at, _)| *at <= now) {
            let (_, id) = dials.swap_remove(at);
            if let Some(id) = pool.dialed(id) {
                uses.push((pool.now.after(5 * MILLI), id));
            }
        }
    }
    served
}

#[test]
fn connections_that_serve_once_are_dialed_as_fast_as_without_a_ramp() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Caller] {
        let ramp = Policy { dial, ..Policy::default() };
        let served = served_in_two_seconds::<Exclusive<u32>>(ramp.clone());
        let without =
            served_in_two_seconds::<Exclusive<u32>>(Policy { dial_ramp: None, ..ramp.clone() });
        assert!(without >= 80_000 / 30, "{dial:?}: {without}");
        assert!(served * 10 >= without * 8, "{dial:?}: {served} of {without}");
        assert!(served >= 68_000 / 30, "{dial:?}: {served}");
        let streams = served_in_two_seconds::<Shared<u32>>(ramp);
        assert!(streams >= 68_000 / 30, "{dial:?}, shared: {streams}");
    }
}

/// How many dials start in a minute without a caller, for a floor of one whose connections end as
/// `end` does.
fn dials_of_a_floor<L: Lending<Connection = u32>>(
    policy: Policy,
    end: impl Fn(&mut Driver<L>, ConnectionId),
) -> u64 {
    let mut pool = Driver::<L>::new(policy);
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    for _ in 0..60_000 {
        for dial in pool.background.clone() {
            end(&mut pool, dial);
        }
        pool.finish_closing();
        pool.pass(MILLI);
    }
    pool.state.stats().dials
}

fn floors() -> impl Iterator<Item = (&'static str, Policy)> {
    let default = std::iter::once(("default", Policy::default()));
    let named = profile::Profile::all().into_iter().map(|profile| (profile.name, profile.policy));
    default.chain(named).map(|(name, policy)| {
        let floor = Policy { min_idle: 1, max_idle_per_key: None, ..policy };
        (name, floor)
    })
}

#[test]
fn a_floor_whose_connections_end_at_once_is_dialed_ever_more_rarely() {
    for (name, policy) in floors().filter(|(_, policy)| policy.floor == Floor::Kept) {
        for cause in [CloseCause::Retired, CloseCause::Gone] {
            let dials = dials_of_a_floor::<Shared<u32>>(policy.clone(), |pool, dial| {
                pool.dialed(dial);
                pool.state.retire(dial, cause, pool.now);
                pool.settle();
            });
            assert!((5..=10).contains(&dials), "{name}, {cause:?}: {dials} dials");
        }
    }
}

#[test]
fn a_floor_whose_dials_fail_is_dialed_ever_more_rarely() {
    for (name, policy) in floors() {
        let policy = Policy { min_idle: 3, ..policy };
        if policy.validate().is_err() {
            continue; // one connection is all it may have
        }
        let dials = dials_of_a_floor::<Exclusive<u32>>(policy, |pool, dial| {
            pool.dial_failed(dial, Some("refused"));
        });
        // With fail-fast there is a probe for each pause, too.
        assert!((5..=70).contains(&dials), "{name}: {dials} dials");
    }
}

#[test]
fn a_login_that_was_denied_is_not_repeated_in_the_background() {
    for (name, policy) in floors() {
        for min_idle in [1, 3, 20] {
            let policy = Policy { min_idle, back_off_after: 1, ..policy.clone() };
            if policy.validate().is_err() {
                continue;
            }
            let dials = dials_of_a_floor::<Exclusive<u32>>(policy, |pool, dial| {
                let at = pool.background.iter().position(|id| *id == dial).expect("it dials");
                pool.background.swap_remove(at);
                pool.state.dial_denied(dial, "wrong password", pool.now);
                pool.settle();
            });
            assert_eq!(dials, 1, "{name}, a floor of {min_idle}");
        }
    }
}

#[test]
fn a_caller_that_logs_in_brings_a_denied_floor_back() {
    let mut pool = Driver::<Exclusive<u32>>::new(Policy { min_idle: 2, ..Policy::default() });
    pool.state.warm_up(&1, pool.now);
    pool.settle();
    let login = pool.background.pop().expect("the first of the floor");
    pool.state.dial_denied(login, "wrong password", pool.now);
    pool.settle();
    pool.pass(MINUTE);
    let waiter = pool.acquire(1).waiter();
    let own = pool.only_dial();
    pool.dialed(own);
    pool.collect(waiter).expect("its own").lent();
    while let Some(dial) = pool.background.first().copied() {
        pool.dialed(dial);
    }
    assert_eq!(pool.state.status().idle, 2);
}
