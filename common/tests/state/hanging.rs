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
