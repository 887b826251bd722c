//! Promise 2: a manager that panics costs one connection, never a place in the limits, wherever it
//! panics. The limit is one, so a place that is lost leaves nothing for the next caller.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::policy::{self, AfterFailedDial, Dial};
use pool_common::{Exclusive, Lending, Manager, Notifier, Policy, Pool, Shared, Status};

const SECOND: Duration = Duration::from_secs(1);

/// Where the manager panics, the next time it comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Capacity,
    Stale,
    Check,
    Broken,
    NeedsReset,
    Reset,
    Close,
}

struct Panicky<L> {
    next: Mutex<Option<Place>>,
    panicked: AtomicU32,
    lending: PhantomData<fn() -> L>,
}

impl<L> Panicky<L> {
    fn at(&self, place: Place) {
        let mut next = self.next.lock().expect("no panic under it");
        if *next == Some(place) {
            *next = None;
            drop(next);
            self.panicked.fetch_add(1, SeqCst);
            panic!("told to panic in {place:?}");
        }
    }
}

impl<L: Lending<Connection = ()>> Manager for Panicky<L> {
    type Key = u8;
    type Lending = L;
    type Error = Infallible;

    async fn connect(&self, _: &u8, _: Notifier) -> Result<(), Infallible> {
        self.at(Place::Connect);
        Ok(())
    }

    fn capacity(&self, (): &()) -> u32 {
        self.at(Place::Capacity);
        1
    }

    fn is_stale(&self, _: &mut L, _: Duration) -> bool {
        self.at(Place::Stale);
        false
    }

    async fn check(&self, _: &mut L, _: Duration) -> Result<(), Infallible> {
        self.at(Place::Check);
        Ok(())
    }

    fn idle_look_interval(&self) -> Option<Duration> {
        Some(10 * SECOND)
    }

    fn is_broken(&self, _: &mut L) -> bool {
        self.at(Place::Broken);
        false
    }

    fn needs_reset(&self, _: &L) -> bool {
        self.at(Place::NeedsReset);
        true
    }

    async fn reset(&self, _: &mut L) -> Result<(), Infallible> {
        self.at(Place::Reset);
        Ok(())
    }

    async fn close(&self, connection: L) {
        self.at(Place::Close);
        drop(connection);
    }
}

async fn costs_one_connection<L: Lending<Connection = ()>>(place: Place, policy: Policy) {
    let manager =
        Panicky::<L> { next: Mutex::new(None), panicked: AtomicU32::new(0), lending: PhantomData };
    let builder = Pool::builder(manager).policy(policy).clock(Clock::tokio());
    let pool = builder.build().expect("a valid policy");
    if !matches!(place, Place::Connect | Place::Capacity) {
        // One is idle, so that there is something to look at.
        pool.acquire(&1).await.expect("dialed").release().await;
        tokio::time::sleep(SECOND).await;
    }
    *pool.manager().next.lock().expect("no panic under it") = Some(place);
    let task = {
        let pool = pool.clone();
        tokio::spawn(async move {
            let lease = pool.acquire(&1).await;
            match (place, lease) {
                (Place::Close, Ok(lease)) => lease.discard(),
                (_, Ok(lease)) => lease.release().await,
                // A dial of the pool's own panicked in its own task.
                (_, Err(_)) => {}
            }
        })
    };
    let _ = task.await;
    assert_eq!(pool.manager().panicked.load(SeqCst), 1, "{place:?}: it did not panic");
    tokio::time::sleep(SECOND).await;
    let status = pool.status();
    assert_eq!((status.leases, status.waiting, status.dialing), (0, 0, 0), "{place:?}");
    assert_eq!(status.open, status.idle, "{place:?}");
    let lease = pool.acquire(&1).await;
    lease.unwrap_or_else(|error| panic!("after {place:?}: {error}")).release().await;
    assert!(pool.close_within(SECOND).await, "{place:?}: {:?}", pool.status());
    assert_eq!(pool.status(), Status::default());
}

async fn everywhere<L: Lending<Connection = ()>>() {
    use Place::{Broken, Capacity, Check, Close, Connect, NeedsReset, Reset, Stale};
    for place in [Connect, Capacity, Stale, Check, Broken, NeedsReset, Reset, Close] {
        for dial in [Dial::Caller, Dial::Detached, Dial::Racing, Dial::Shared] {
            let policy = Policy {
                dial,
                max_open_per_key: Some(1),
                check: if place == Check { policy::Check::Always } else { policy::Check::Never },
                after_failed_dial: AfterFailedDial::Tell,
                acquire_timeout: Some(60 * SECOND),
                ..Policy::default()
            };
            costs_one_connection::<L>(place, policy).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_manager_costs_one_connection_and_no_place() {
    everywhere::<Exclusive<()>>().await;
    everywhere::<Shared<()>>().await;
}

/// As above, in the look of an acquire that does not wait.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_peek_of_try_acquire_costs_no_place() {
    let manager = Panicky::<Exclusive<()>> {
        next: Mutex::new(None),
        panicked: AtomicU32::new(0),
        lending: PhantomData,
    };
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    let pool = Pool::builder(manager).policy(policy).build().expect("a valid policy");
    pool.acquire(&1).await.expect("dialed").release().await;
    *pool.manager().next.lock().expect("no panic under it") = Some(Place::Stale);
    let looked = std::panic::catch_unwind(AssertUnwindSafe(|| pool.try_acquire(&1).is_some()));
    assert!(looked.is_err(), "it panicked");
    assert_eq!(pool.status().leases, 0);
    pool.acquire(&1).await.expect("there is room again").release().await;
    assert!(pool.close_within(SECOND).await);
}

/// As above, in a look at an idle connection. The pool would stand still forever, and the thread
/// with it.
#[test]
fn a_panic_in_a_look_at_an_idle_connection_costs_that_and_no_more() {
    crate::support::within(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().expect("a runtime starts");
        runtime.block_on(async {
            let manager = Panicky::<Exclusive<()>> {
                next: Mutex::new(None),
                panicked: AtomicU32::new(0),
                lending: PhantomData,
            };
            let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
            let builder = Pool::builder(manager).policy(policy).clock(Clock::tokio());
            let pool = builder.build().expect("a valid policy");
            pool.acquire(&1).await.expect("dialed").release().await;
            *pool.manager().next.lock().expect("no panic under it") = Some(Place::Broken);
            tokio::time::sleep(30 * SECOND).await;
            assert_eq!(pool.manager().panicked.load(SeqCst), 1, "nobody looked");
            assert_eq!(pool.status(), Status::default());
            pool.acquire(&1).await.expect("there is room again").release().await;
            assert!(pool.close_within(SECOND).await);
        });
    });
}
