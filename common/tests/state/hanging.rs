//! Dials that hang, or that serve no caller, beside waiters and limits.

use std::time::Duration;

use pool_common::event::CloseCause;
use pool_common::policy::*;
use pool_common::state::Want;
use pool_common::{Exclusive, Lending, Policy, Shared};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;
type Streams = Driver<Shared<u32>>;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A waiter's dial hangs, and each hedge is retired in its handshake.
fn hedges_retired_in_their_handshake<L: Lending<Connection = u32>>(dial: Dial, fresh: bool) {
    let mut pool = Driver::<L>::new(Policy { dial, ..Policy::default() });
    let waiter = pool.acquire_as(1, Want { fresh, again: false }).waiter();
    let hanging = pool.only_dial();
    pool.pass(150 * MILLI);
    let hedge = *pool.background.iter().find(|id| **id != hanging).expect("a hedge");
    pool.state.retire(hedge, CloseCause::Retired, pool.now);
    pool.dialed(hedge);
    let outcome = pool.collect(waiter);
    assert_eq!(outcome, Some(Outcome::Lent(hedge)), "{dial:?}, fresh {fresh}: it serves once");
}

#[test]
fn hedge_that_is_retired_in_its_handshake_serves_the_waiter_once() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        for fresh in [false, true] {
            hedges_retired_in_their_handshake::<Exclusive<u32>>(dial, fresh);
            hedges_retired_in_their_handshake::<Shared<u32>>(dial, fresh);
        }
    }
}

/// The dial of the first caller hangs. That caller leaves after some milliseconds, and a caller of `key`
/// comes. Returns how long that one waits; every other dial takes no time.
fn wait_beside(policy: Policy, leaves: u32, comes: u32, key: u8) -> Duration {
    let mut pool = Plain::new(policy);
    let first = pool.acquire(1).waiter();
    let hanging = pool.only_dial();
    let mut next = None;
    for at in 0..9_000 {
        if at == leaves {
            pool.cancel(first);
        }
        if at == comes {
            next = Some((pool.acquire(key).waiter(), pool.now));
        }
        pool.pass(MILLI);
        pool.finish_stopping();
        for id in pool.background.clone() {
            if id != hanging {
                pool.dialed(id);
            }
        }
        if let Some((waiter, since)) = next
            && let Some(outcome) = pool.collect(waiter)
        {
            assert!(matches!(outcome, Outcome::Lent(_)), "{outcome:?}");
            return pool.now.since(since);
        }
    }
    panic!("not served");
}

#[test]
fn hanging_dial_without_a_waiter_makes_way_at_every_limit() {
    let one = Some(1);
    let limits = [
        ("max_open", Policy { max_open: one, ..Policy::default() }),
        ("max_open_per_key", Policy { max_open_per_key: one, ..Policy::default() }),
        ("max_dials", Policy { max_dials: one, ..Policy::default() }),
        ("max_dials_per_key", Policy { max_dials_per_key: one, ..Policy::default() }),
    ];
    for (limit, policy) in limits {
        for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
            let policy = Policy { dial, ..policy.clone() };
            // The second caller comes after the first one has left, or before; and the first one leaves
            // after its dial is overdue, or before.
            for (leaves, comes) in [(200, 250), (80, 60), (200, 60), (20, 150)] {
                for key in [1, 2] {
                    let waited = wait_beside(policy.clone(), leaves, comes, key);
                    assert!(
                        waited <= 300 * MILLI,
                        "{limit}, {dial:?}, leaves at {leaves}, comes at {comes}, key {key}: {waited:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn hanging_dials_make_way_one_after_another() {
    for dial in [Dial::Racing, Dial::Detached] {
        let policy =
            Policy { dial, max_open_per_key: Some(2), dial_ramp: None, ..Policy::default() };
        let mut pool = Plain::new(policy);
        let left = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
        pool.pass(200 * MILLI);
        for waiter in left {
            pool.cancel(waiter);
        }
        let hanging = pool.background.clone();
        let waiting = [pool.acquire(1).waiter(), pool.acquire(1).waiter()];
        while pool.finish_stopping() > 0 {}
        assert!(pool.background.iter().all(|id| !hanging.contains(id)), "{dial:?}");
        for id in pool.background.clone() {
            pool.dialed(id);
        }
        for waiter in waiting {
            assert!(matches!(pool.collect(waiter), Some(Outcome::Lent(_))), "{dial:?}");
        }
    }
}

#[test]
fn dial_for_all_waiters_goes_on_while_one_is_there_that_has_waited_for_it_from_its_start() {
    let opener = (Dial::Caller, DialForWaiters::Opener);
    for (dial, dial_for_waiters) in [(Dial::Shared, DialForWaiters::Waiter), opener] {
        let policy =
            Policy { dial, dial_for_waiters, max_open_per_key: Some(1), ..Policy::default() };
        let mut pool = Plain::new(policy);
        if dial == Dial::Caller {
            let own = pool.acquire(1).dial();
            pool.acquire(1).waiter();
            pool.dial_failed(own, None);
        } else {
            pool.acquire(1).waiter();
        }
        let dials = pool.background.clone();
        assert_eq!(dials.len(), 1, "{dial:?}");
        for _ in 0..20 {
            pool.pass(100 * MILLI);
            pool.acquire(1).waiter();
            assert!(pool.stopping.is_empty(), "{dial:?}");
        }
        assert_eq!(pool.background, dials);
    }
}

#[test]
fn dial_of_a_waiter_goes_on_while_no_other_may_start() {
    for dial in [Dial::Racing, Dial::Detached, Dial::Shared] {
        let mut pool = Streams::new(Policy { dial, ..Policy::default() });
        let one = pool.lend_one(1);
        let _ = pool.acquire(1).lent();
        let waiter = pool.acquire(1).waiter();
        let slow = pool.only_dial();
        // Another connection would not help, so that none is dialed.
        pool.state.set_capacity(one, 0, pool.now);
        pool.settle();
        pool.pass(300 * MILLI);
        assert!(pool.stopping.is_empty(), "{dial:?}");
        pool.dialed(slow);
        assert_eq!(pool.collect(waiter), Some(Outcome::Lent(slow)), "{dial:?}");
    }
}

#[test]
fn no_dial_is_stopped_for_a_hedge_that_the_rate_does_not_allow() {
    for dial in [Dial::Racing, Dial::Detached] {
        let policy =
            Policy { dial, max_dials_per_second: Some(10), dial_ramp: None, ..Policy::default() };
        let mut pool = Plain::new(policy);
        for _ in 0..10 {
            pool.acquire(1).waiter();
        }
        pool.pass(SECOND - MILLI);
        assert_eq!((pool.stopping.len(), pool.background.len()), (0, 10), "{dial:?}");
        pool.pass(MILLI);
        assert_eq!(pool.background.len(), 11, "{dial:?}: the first hedge, in the next second");
    }
}

#[test]
fn pause_beside_a_connection_ends_with_that_connection() {
    let policy =
        Policy { back_off_base: 5 * SECOND, back_off_max: 5 * SECOND, ..Policy::default() };
    let mut pool = Streams::new(Policy { after_failed_dial: AfterFailedDial::Tell, ..policy });
    let one = pool.lend_one(1);
    let _ = pool.acquire(1).lent();
    let waiter = pool.acquire(1).waiter();
    pool.dial_failed(pool.only_dial(), Some("refused"));
    assert!(pool.background.is_empty(), "dials pause beside it");
    pool.state.retire(one, CloseCause::Retired, pool.now);
    pool.settle();
    let hanging = pool.only_dial();
    pool.pass(100 * MILLI);
    let hedge = *pool.background.last().expect("two dials");
    assert_ne!(hedge, hanging, "the second dial does not wait for the end of the pause");
    pool.dialed(hedge);
    assert_eq!(pool.collect(waiter), Some(Outcome::Lent(hedge)));
}
