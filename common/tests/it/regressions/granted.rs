//! A connector is told how long its dial may take.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::connect::dial_deadline;
use pool_common::policy::Dial;
use pool_common::{Exclusive, Manager, Notifier, Policy, Pool};
use tokio::time::Instant;

/// Notes how much time each dial had left at its start.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Option<Duration>>>>);

impl Manager for Noting {
    type Key = u8;
    type Lending = Exclusive<()>;
    type Error = std::io::Error;

    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<()> {
        let left = dial_deadline().map(|end| end - Instant::now());
        self.0.lock().expect("no panic").push(left);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn dial_deadline_is_the_end_of_the_dial_or_of_the_acquire_that_dials() {
    let seconds = Duration::from_secs;
    let cases = [
        (Dial::Shared, seconds(7), Some(seconds(3)), Some(seconds(7))),
        (Dial::Detached, seconds(7), Some(seconds(3)), Some(seconds(7))),
        (Dial::Caller, seconds(7), Some(seconds(3)), Some(seconds(3))),
        (Dial::Caller, seconds(7), Some(seconds(30)), Some(seconds(7))),
        (Dial::Caller, Duration::MAX, None, None),
        (Dial::Shared, Duration::MAX, None, None),
    ];
    for (dial, dial_timeout, acquire_timeout, expected) in cases {
        let noting = Noting::default();
        let policy = Policy { dial, dial_timeout, acquire_timeout, ..Policy::default() };
        let builder = Pool::builder(noting.clone()).policy(policy).clock(Clock::tokio());
        let pool = builder.build().expect("a valid policy");
        drop(pool.acquire(&1).await.expect("dialed"));
        let noted = noting.0.lock().expect("no panic").clone();
        assert_eq!(noted, [expected], "{dial:?}, {dial_timeout:?}, {acquire_timeout:?}");
    }
    assert_eq!(dial_deadline(), None);
}
