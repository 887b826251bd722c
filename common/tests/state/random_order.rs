//! `idle_order=random`: any connection that can be lent, each as often as the others.

use std::collections::HashMap;
use std::time::Duration;

use pool_common::Policy;
use pool_common::event::CloseCause::{Evicted, IdleLimit, IdleTimeout};
use pool_common::lending::{Exclusive, Lending, Shared};
use pool_common::policy::{Dial, Expiry, IdleOrder, IdleOverflow};
use pool_common::state::{ConnectionId, State};

use crate::driver::Driver;

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

fn random() -> Policy {
    Policy {
        idle_order: IdleOrder::Random,
        dial: Dial::Caller,
        max_open_per_key: None,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        dial_ramp: None,
        ..Policy::default()
    }
}

const CONNECTIONS: usize = 8;
const PICKS: usize = 8_000;

/// Lends and releases one connection after another; returns their ids.
fn picks<L: Lending<Connection = u32>>(seed: u64, connections: usize) -> Vec<ConnectionId> {
    let mut pool = Driver::<L>::new(random());
    pool.state = State::new(random(), seed).expect("a valid policy");
    pool.capacity = 2;
    // Full connections, so that each lease opens one.
    let leases = pool.lend(1, connections * if L::SHARED { 2 } else { 1 });
    leases.iter().for_each(|id| pool.release(*id));
    (0..PICKS)
        .map(|_| {
            let id = pool.lend_one(1);
            pool.release(id);
            id
        })
        .collect()
}

/// The sum over all connections of (seen - expected)^2 / expected.
fn chi_squared(counts: &HashMap<impl Sized, usize>, kinds: usize, all: usize) -> f64 {
    let expected = all as f64 / kinds as f64;
    let seen: f64 =
        counts.values().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    seen + (kinds - counts.len()) as f64 * expected
}

fn assert_uniform<L: Lending<Connection = u32>>() {
    let picks = picks::<L>(7, CONNECTIONS);
    let mut singles: HashMap<ConnectionId, usize> = HashMap::new();
    picks.iter().for_each(|id| *singles.entry(*id).or_default() += 1);
    // With 7 degrees of freedom 24.3 is passed once in a thousand seeds, and this seed is fixed.
    assert!(chi_squared(&singles, CONNECTIONS, PICKS) < 24.3, "{singles:?}");
    // And each pick is independent of the one before: 63 degrees of freedom.
    let mut pairs: HashMap<(ConnectionId, ConnectionId), usize> = HashMap::new();
    picks.windows(2).for_each(|pair| *pairs.entry((pair[0], pair[1])).or_default() += 1);
    assert!(chi_squared(&pairs, CONNECTIONS * CONNECTIONS, PICKS - 1) < 103.4, "{pairs:?}");
}

#[test]
fn every_idle_connection_is_lent_as_often_as_the_others() {
    assert_uniform::<Exclusive<u32>>();
}

#[test]
fn every_shared_connection_with_room_is_lent_as_often_as_the_others() {
    assert_uniform::<Shared<u32>>();
}

#[test]
fn the_seed_decides_the_order() {
    assert_eq!(picks::<Exclusive<u32>>(3, 5), picks::<Exclusive<u32>>(3, 5));
    assert_ne!(picks::<Exclusive<u32>>(3, 5), picks::<Exclusive<u32>>(4, 5));
}

#[test]
fn a_pool_of_one_key_draws_from_its_own_connections_only() {
    let mut pool = Plain::new(random());
    let own = pool.lend(1, 4);
    let others = pool.lend(2, 4);
    own.iter().chain(&others).for_each(|id| pool.release(*id));
    for _ in 0..100 {
        let id = pool.lend_one(2);
        assert!(others.contains(&id));
        pool.release(id);
    }
}

#[test]
fn the_longest_idle_goes_at_the_limits_whatever_the_order() {
    let limits = [
        (
            Policy {
                max_idle_per_key: Some(2),
                idle_overflow: IdleOverflow::CloseOldest,
                ..random()
            },
            IdleLimit,
        ),
        (Policy { max_idle: Some(2), ..random() }, Evicted),
    ];
    for (policy, cause) in limits {
        let mut pool = Plain::new(policy);
        let ids = pool.lend(1, 5);
        ids.iter().for_each(|id| pool.release(*id));
        assert_eq!(pool.closing, [(ids[0], cause), (ids[1], cause), (ids[2], cause)]);
        pool.finish_closing();
        let mut left = pool.lend(1, 2);
        left.sort_unstable();
        assert_eq!(left, ids[3..]);
    }
}

#[test]
fn the_longest_idle_expires_first_whatever_the_order() {
    let second = Duration::from_secs(1);
    let policy = Policy { idle_timeout: Some(second * 10), expiry: Expiry::Timer, ..random() };
    let mut pool = Plain::new(policy);
    let ids = pool.lend(1, 3);
    for id in &ids {
        pool.release(*id);
        pool.now = pool.now.after(second);
    }
    for id in &ids {
        pool.now = pool.state.next_deadline();
        pool.state.handle_timeout(pool.now);
        pool.settle();
        assert_eq!(pool.closing, [(*id, IdleTimeout)]);
        pool.finish_closing();
    }
}

#[test]
fn a_shared_connection_without_room_is_not_drawn() {
    let mut pool = Streams::new(random());
    pool.capacity = 2;
    // Three full ones and, of these, one with room.
    let ids = pool.lend(1, 6);
    pool.release(ids[3]);
    assert_eq!(pool.lend_one(1), ids[3]);
}
