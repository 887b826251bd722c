//! What people read: errors with their causes, gauges, counters and leases as text.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::policy::{AfterFailedDial, Dial};
use pool_common::{
    DialError, Error, Exclusive, Manager, Notifier, Policy, Pool, Shared, Stage, Status,
};

use crate::support::fake::{Connection, Refused, Way, manager, pool};

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
fn errors_begin_alike_and_say_numbers_at_their_end() {
    let status = Status { open: 8, leased: 8, leases: 8, waiting: 12, ..Status::default() };
    let timeout = |stage, status| -> Error<Refused> {
        Error::Timeout {
            key: "\"db\"".into(),
            stage,
            limit: Duration::from_secs(30),
            waited: Duration::from_nanos(30_001_234_567),
            status,
            last_dial_error: None,
        }
    };
    assert_eq!(
        timeout(Stage::Queue, status).to_string(),
        "timed out after 30s while waiting for a connection (open 8, idle 0, waiting 12); key: \"db\""
    );
    let more = Status { dialing: 2, closing: 1, leases: 9, ..status };
    assert_eq!(
        timeout(Stage::Dial, more).to_string(),
        "timed out after 30s while dialing (open 8, idle 0, dialing 2, closing 1, leases 9, \
         waiting 12); key: \"db\""
    );
    let error: Error<Refused> = Error::TooManyWaiters { limit: 5, status };
    assert_eq!(
        error.to_string(),
        "too many callers are waiting (max_waiters = 5); open 8, idle 0, waiting 12"
    );
    let error: Error<Refused> = Error::Exhausted { status };
    assert_eq!(
        error.to_string(),
        "all connections are in use, and at_limit is fail (open 8, idle 0, waiting 12)"
    );
    let last = || DialError::Failed(Arc::new(Refused));
    let paused = |nanos| -> Error<Refused> {
        Error::BackingOff { retry_in: Duration::from_nanos(nanos), last: last() }
    };
    let (one, other) = (paused(413_499_999), paused(12_000));
    assert_eq!(
        one.to_string(),
        "dials are paused after failures, the last: the fake peer refused; next in 413ms"
    );
    assert!(other.to_string().ends_with("; next in 12\u{b5}s"), "{other}");
    let error: Error<Refused> = Error::Closed { key: "7".into() };
    assert_eq!(error.to_string(), "the pool is closed; key: 7");
    let error: Error<Refused> =
        Error::Dial { source: DialError::TimedOut(Duration::from_secs(10)) };
    assert_eq!(error.to_string(), "could not connect: the dial took too long (limit 10s)");
}

/// A key that keeps a secret from logs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Account {
    user: &'static str,
    password: &'static str,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@db:***", self.user)
    }
}

struct Silent;

impl Manager for Silent {
    type Key = Account;
    type Lending = Exclusive<()>;
    type Error = Refused;

    async fn connect(&self, _: &Account, _: Notifier) -> Result<(), Refused> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_and_a_closed_pool_name_the_key_as_its_debug_does() {
    for dial in [Dial::Racing, Dial::Caller] {
        // Shorter than any timer: the limit is said as it was set.
        let limit = Duration::from_micros(100);
        let policy = Policy { acquire_timeout: Some(limit), dial, ..Policy::default() };
        let pool = Pool::builder(Silent).policy(policy).clock(Clock::tokio()).build();
        let pool = pool.expect("a valid policy");
        let key = Account { user: "ann", password: "hunter2" };
        let text = pool.acquire(&key).await.expect_err("no answer").to_string();
        assert!(text.starts_with("timed out after 100\u{b5}s while "), "{text}");
        assert!(text.contains("key: ann@db:***") && !text.contains(key.password), "{text}");
        pool.start_close();
        let text = pool.acquire(&key).await.expect_err("closed").to_string();
        assert_eq!(text, "the pool is closed; key: ann@db:***");
    }
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
    // The number that log lines say, wherever a connection is named.
    assert_eq!(format!("{:?}", lease.connection_id()), format!("ConnectionId({id})"));
    assert!(format!("{:?}", pool.leases()[0]).contains(&id.to_string()));
}
