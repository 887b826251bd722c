//! While dials pause after failures, and when the pause ends.

use std::time::Duration;

use pool_common::policy::*;
use pool_common::{Exclusive, Policy};

use crate::driver::Driver;

type Plain = Driver<Exclusive<u32>>;

const SECOND: Duration = Duration::from_secs(1);

/// The first failure is followed by a pause of a second.
fn pausing() -> Policy {
    Policy { back_off_after: 1, back_off_base: SECOND, ..Policy::default() }
}

#[test]
fn a_closed_pool_probed_its_peer() {
    let mut pool = Plain::new(Policy {
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::FailFast,
        ..pausing()
    });
    let dial = pool.acquire(1).dial();
    pool.state.close(pool.now);
    pool.settle();
    pool.dial_failed(dial, Some("down"));
    pool.pass(60 * SECOND);
    assert!(pool.background.is_empty(), "dialed after the close: {:?}", pool.state.status());
    assert!(pool.state.is_empty());
}
