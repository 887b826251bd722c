//! What people read: errors with their causes, gauges, counters and leases as text.

use std::error::Error as _;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::policy::AfterFailedDial;
use pool_common::{Error, Exclusive, Policy, Pool, Shared, Stage, Status};

use crate::fake::{Connection, Refused, Way, manager, pool};

#[tokio::test(start_paused = true)]
async fn the_cause_of_an_error_is_the_managers_own_and_is_said_once() {
    let (pool, peer) = pool::<Exclusive<Connection>>(Policy {
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        wait_out_pauses: None,
        ..Policy::default()
    });
    peer.set(&peer.connect, Way::Fails);
    for _ in 0..2 {
        let error = pool.acquire(&1).await.expect_err("it is refused");
        let cause = error.source().expect("there is a cause");
        assert!(cause.is::<Refused>(), "{error:?}");
        assert_eq!(error.to_string().matches(&cause.to_string()).count(), 1, "{error}");
        assert!(cause.source().is_none());
        let dial = error.dial_error().expect("a dial failed");
        assert!(dial.source().is_some_and(|source| source.is::<Refused>()));
    }
    let error = pool.acquire(&1).await.expect_err("it is refused");
    assert!(matches!(error, Error::BackingOff { .. }), "{error}");
}

#[test]
fn times_are_said_in_milliseconds() {
    let words = |nanos: u64| {
        let error: Error<Refused> = Error::Timeout {
            stage: Stage::Queue,
            waited: Duration::from_nanos(nanos),
            status: Status::default(),
            last_dial_error: None,
        };
        error.to_string()
    };
    let said = |nanos| words(nanos).split(',').next().map(str::to_owned);
    assert_eq!(said(2_011_999_950).as_deref(), Some("no connection within 2.012s"));
    assert_eq!(said(999_999_999).as_deref(), Some("no connection within 1s"));
    assert_eq!(said(307_499_999).as_deref(), Some("no connection within 307ms"));
    assert_eq!(said(12_000).as_deref(), Some("no connection within 12µs"));
    assert_eq!(said(u64::MAX).as_deref(), Some("no connection within 18446744073.71s"));
}

#[test]
fn gauges_add_up_as_text() {
    let plain = Status { open: 3, idle: 1, leased: 1, dialing: 1, leases: 1, ..Status::default() };
    assert_eq!(plain.to_string(), "3 open (1 idle, 1 leased, 1 dialing), 0 waiting");
    let all = Status { open: 4, closing: 1, draining: 2, leases: 17, waiting: 5, ..plain };
    assert_eq!(
        all.to_string(),
        "4 open (1 idle, 1 leased, 1 dialing, 1 closing), 2 draining, 17 leases, 5 waiting"
    );
}

#[tokio::test(start_paused = true)]
async fn counters_are_one_line() {
    let (pool, peer) = pool::<Exclusive<Connection>>(Policy::default());
    drop(pool.acquire(&1).await.expect("dialed"));
    let lease = pool.acquire(&1).await.expect("reused");
    lease.broken.store(true, SeqCst);
    drop(lease);
    pool.acquire(&1).await.expect("dialed").discard();
    peer.set(&peer.connect, Way::Fails);
    pool.acquire(&1).await.expect_err("it is refused");
    pool.close().await;
    assert_eq!(
        pool.stats().to_string(),
        "3 leased (1 reused), 3 waited, 0 gave up, 0 refused; 3 dials (1 failed); 2 opened, at most \
         1 at a time; 2 closed: 1 broken, 1 discarded"
    );
}

#[tokio::test]
async fn a_lease_says_where_it_was_taken() {
    let (manager, _peer) = manager::<Shared<Connection>>();
    let (clock, hand) = Clock::manual();
    let pool = Pool::builder(manager).clock(clock).leak_detection(Duration::MAX).build();
    let pool = pool.expect("a valid policy");
    let (lease, line) = (pool.acquire(&7).await.expect("dialed"), line!());
    hand.advance(Duration::from_nanos(1_500_400_000));
    let said: Vec<String> = pool.leases().iter().map(ToString::to_string).collect();
    let id = lease.connection_id().as_u64();
    let start = format!("connection {id} to 7, out for 1.5s, taken at ");
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with(&start), "{}", said[0]);
    assert!(said[0].contains(&format!("words.rs:{line}:")), "{}", said[0]);
}
