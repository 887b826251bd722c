//! Events between a timer, which is precise, and the next tick of the clock.

use std::time::Duration;

use pool_common::clock::Timestamp;
use pool_common::event::CloseCause::Lifetime;
use pool_common::policy::Expiry;
use pool_common::{Exclusive, Policy};

use crate::driver::Driver;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lifetime_that_ends_during_a_lease_or_a_look_is_not_forgotten_within_a_tick() {
    for expiry in [Expiry::Timer, Expiry::Sweep] {
        for in_look in [false, true] {
            let (max_lifetime, lifetime_jitter) = (Some(100 * SECOND), Duration::ZERO);
            let aging = Policy { max_lifetime, lifetime_jitter, ..Policy::default() };
            let mut pool =
                Driver::<Exclusive<u32>>::new(Policy { expiry, idle_timeout: None, ..aging });
            let id = pool.lend_one(1);
            pool.pass(99 * SECOND);
            if in_look {
                pool.release(id);
                pool.begin_look(0);
            }
            let due = pool.now.after(SECOND + Duration::from_nanos(1));
            while pool.now < due {
                pool.now = pool.now.max(pool.state.next_deadline()).min(due);
                pool.state.handle_timeout(pool.now);
                pool.settle();
            }
            // The clock reads three milliseconds less than the timer said.
            pool.now = Timestamp::from_nanos(due.as_nanos() - 3_000_000);
            if in_look {
                pool.end_look(0, false);
            } else {
                pool.release(id);
            }
            // With sweeps, the next one would find it as well, if it had not been found yet.
            pool.pass(if expiry == Expiry::Sweep { 20 * SECOND } else { Duration::ZERO });
            assert_eq!(pool.closing, [(id, Lifetime)], "{expiry:?}, in a look: {in_look}");
        }
    }
}
