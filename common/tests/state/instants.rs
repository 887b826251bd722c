//! The time that the policy names is still allowed; one nanosecond more is not.

use std::time::Duration;

use pool_common::event::CloseCause::*;
use pool_common::policy::*;
use pool_common::{Exclusive, Policy};

use crate::driver::{Driver, Outcome};

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

/// The caller dials, nothing expires by a timer, nothing is damped.
fn plain() -> Policy {
    Policy {
        dial: Dial::Caller,
        idle_timeout: None,
        max_lifetime: None,
        lifetime_jitter: Duration::ZERO,
        expiry: Expiry::AtAcquire,
        dial_ramp: None,
        ..Policy::default()
    }
}

#[test]
fn connection_that_comes_back_after_its_lifetime_is_closed() {
    let policy = Policy { max_lifetime: Some(SECOND), max_open_per_key: Some(1), ..plain() };
    // With a listener every release takes the slow path.
    for listening in [false, true] {
        let lent = || {
            let mut pool = Plain::new(policy.clone());
            pool.state.listen(listening);
            let id = pool.lend_one(1);
            (pool, id)
        };
        let (mut pool, id) = lent();
        pool.pass(SECOND);
        pool.release(id);
        assert_eq!(pool.state.status().idle, 1, "it came back in time");

        let (mut pool, id) = lent();
        pool.pass(SECOND + NANO);
        pool.release(id);
        assert_eq!(pool.finish_closing(), [Lifetime]);

        let (mut pool, id) = lent();
        let waiter = pool.acquire(1).waiter();
        pool.pass(SECOND + NANO);
        pool.release_or_hand_over(id);
        assert_eq!(pool.finish_closing(), [Lifetime]);
        assert!(matches!(pool.collect(waiter), Some(Outcome::Dial(_))), "not the old connection");
    }
}

#[test]
fn try_acquire_lends_until_a_check_is_due() {
    let policy = Policy { check: Check::IfIdleLonger, check_after: SECOND, ..plain() };
    let mut pool = Plain::new(policy);
    let id = pool.lend_one(1);
    pool.release(id);
    pool.pass(SECOND);
    assert_eq!(pool.try_acquire(1), Some(id));
    pool.release(id);
    pool.pass(SECOND + NANO);
    assert_eq!(pool.try_acquire(1), None);
}
