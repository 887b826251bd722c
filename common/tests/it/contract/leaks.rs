//! Leak detection: every lease that is out is listed with the line that took it, and reported once
//! when it is held for too long.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_common::clock::Clock;
use pool_common::{Exclusive, LeaseInfo, Pool, Shared};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::scenarios::Lend;
use crate::support::fake::{Connection, Fake, Peer, Way, manager, until};
use crate::support::listen;

const AFTER: Duration = Duration::from_secs(10);
/// More than the finest sleep of the maintenance task.
const A_MOMENT: Duration = Duration::from_millis(5);

type Fields = Vec<(&'static str, String)>;

/// Keeps the fields of every warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<Fields>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() == Level::WARN
            && metadata.target() == "pool_common"
    }
    fn event(&self, event: &Event<'_>) {
        let mut fields = Words(Vec::new());
        event.record(&mut fields);
        self.0.lock().expect("no panic").push(fields.0);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Words(Fields);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

impl Warnings {
    /// Listens in this thread, for as long as the guard lives.
    fn listen() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let guard = listen(warnings.clone());
        (warnings, guard)
    }

    /// One field of every warning so far.
    fn all(&self, field: &str) -> Vec<String> {
        let warnings = self.0.lock().expect("no panic");
        let value = |fields: &Fields| {
            fields.iter().find(|(name, _)| *name == field).expect("every warning has it").1.clone()
        };
        warnings.iter().map(value).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }
}

fn watched<L: Lend>() -> (Pool<Fake<L>>, Arc<Peer>) {
    let (manager, peer) = manager::<L>();
    let pool = Pool::builder(manager).clock(Clock::tokio()).leak_detection(AFTER);
    (pool.build().expect("a valid policy"), peer)
}

type Plain = Exclusive<Connection>;
type Streams = Shared<Connection>;

/// Where it was taken, as file and line.
fn place(lease: &LeaseInfo<u8>) -> (&'static str, u32) {
    (lease.taken_at.file(), lease.taken_at.line())
}

fn lines<L: Lend>(pool: &Pool<Fake<L>>) -> Vec<u32> {
    pool.leases().iter().map(|lease| lease.taken_at.line()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_for_long_is_reported_once_with_the_line_that_took_it() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = watched::<Plain>();
    let (lease, line) = (pool.acquire(&7).await.expect("dialed"), line!());
    let leases = pool.leases();
    assert_eq!(leases.len(), 1);
    assert_eq!(place(&leases[0]), (file!(), line));
    assert_eq!((leases[0].connection, leases[0].key), (lease.connection_id(), 7));
    sleep(AFTER - A_MOMENT).await;
    assert_eq!(warnings.count(), 0, "not yet");
    sleep(2 * A_MOMENT).await;
    let taken_at = warnings.all("taken_at");
    assert_eq!(taken_at.len(), 1);
    assert!(taken_at[0].starts_with(&format!("{}:{line}:", file!())), "{taken_at:?}");
    assert_eq!(warnings.all("key"), ["7"]);
    assert_eq!(warnings.all("connection"), [lease.connection_id().as_u64().to_string()]);
    sleep(100 * AFTER).await;
    assert_eq!(warnings.count(), 1, "once");
    assert!(pool.leases()[0].held_for >= 100 * AFTER, "but it is still listed");
    drop(lease);
    assert_eq!(pool.leases(), []);
}

#[tokio::test(start_paused = true)]
async fn a_lease_returned_in_time_is_not_reported() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = watched::<Plain>();
    for _ in 0..100 {
        let lease = pool.acquire(&1).await.expect("there is room");
        sleep(AFTER - A_MOMENT).await;
        drop(lease);
        assert_eq!(pool.leases(), []);
    }
    sleep(2 * AFTER).await;
    assert_eq!(warnings.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_leases_is_reported_when_its_own_time_has_come() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = watched::<Plain>();
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(pool.acquire(&1).await.expect("there is room"));
        sleep(AFTER / 10).await;
    }
    drop(leases.remove(2));
    sleep(AFTER / 2 + A_MOMENT).await;
    for reported in [1, 2, 2, 3, 4] {
        assert_eq!(warnings.count(), reported);
        sleep(AFTER / 10).await;
    }
    // The maintenance task had nothing to wait for; the next lease sets its clock again.
    drop(leases);
    sleep(100 * AFTER).await;
    let late = pool.acquire(&1).await.expect("there is room");
    sleep(AFTER + A_MOMENT).await;
    assert_eq!(warnings.count(), 5);
    drop(late);
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_to_another_task_keeps_the_line_that_took_it() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = watched::<Plain>();
    let (lease, line) = (pool.acquire(&1).await.expect("dialed"), line!());
    let task = tokio::spawn(async move {
        sleep(2 * AFTER).await;
        drop(lease);
    });
    sleep(AFTER + A_MOMENT).await;
    assert_eq!(lines(&pool), [line]);
    assert_eq!(warnings.count(), 1);
    task.await.expect("no panic");
    assert_eq!(pool.leases(), []);
}

#[tokio::test(start_paused = true)]
async fn every_lease_of_a_shared_connection_has_its_own_line() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = watched::<Streams>();
    let (one, first) = (pool.acquire(&1).await.expect("dialed"), line!());
    sleep(AFTER / 2).await;
    let (two, second) = (pool.acquire(&1).await.expect("it has room"), line!());
    assert_eq!(one.connection_id(), two.connection_id());
    assert_eq!(lines(&pool), [first, second], "longest held first");
    sleep(AFTER / 2 + A_MOMENT).await;
    assert_eq!(warnings.count(), 1);
    drop(one);
    assert_eq!(lines(&pool), [second]);
    sleep(AFTER / 2).await;
    assert_eq!(warnings.count(), 2);
    assert!(warnings.all("taken_at")[1].contains(&format!(":{second}:")));
    drop(two);
    assert_eq!(pool.leases(), []);
}

#[tokio::test(start_paused = true)]
async fn the_line_is_that_of_the_call_however_the_connection_was_come_by() {
    let (pool, _peer) = watched::<Plain>();
    // Dialed, then idle, then insisting on a fresh one, then without waiting.
    let (lease, line) = (pool.acquire(&1).await.expect("dialed"), line!());
    assert_eq!(lines(&pool), [line]);
    drop(lease);
    let (lease, line) = (pool.acquire(&1).await.expect("idle"), line!());
    assert_eq!(lines(&pool), [line]);
    drop(lease);
    let (lease, line) = (pool.acquire_fresh(&1).await.expect("dialed"), line!());
    assert_eq!(lines(&pool), [line]);
    drop(lease);
    let (lease, line) = (pool.try_acquire(&1).expect("idle"), line!());
    assert_eq!(lines(&pool), [line]);
    drop(lease);
    // The call, not the await.
    let (future, line) = (pool.acquire(&1), line!());
    assert_eq!(pool.leases(), [], "it was not polled yet");
    let lease = future.await.expect("idle");
    assert_eq!(lines(&pool), [line]);
    drop(lease);
    // On behalf of another.
    let elsewhere = Location::caller();
    let lease = pool.acquire_from(&1, elsewhere).await.expect("idle");
    assert_eq!(pool.leases()[0].taken_at, elsewhere);
    drop(lease);
    let lease = pool.acquire_fresh_from(&1, elsewhere).await.expect("dialed");
    assert_eq!(pool.leases()[0].taken_at, elsewhere);
    drop(lease);
    pool.close().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_lease_ends_its_entry() {
    let (pool, peer) = watched::<Plain>();
    pool.acquire(&1).await.expect("dialed").discard();
    assert_eq!(pool.leases(), [], "discarded");
    let mut lease = pool.acquire(&1).await.expect("dialed");
    lease.mark_broken();
    drop(lease);
    assert_eq!(pool.leases(), [], "broken");
    let lease = pool.acquire(&1).await.expect("dialed");
    std::thread::spawn(move || drop(lease)).join().expect("no panic");
    assert_eq!(pool.leases(), [], "dropped outside the runtime");
    let lease = pool.acquire(&1).await.expect("idle");
    let task = tokio::spawn(async move {
        let _lease = lease;
        panic!("the borrower panics");
    });
    assert!(task.await.is_err());
    assert_eq!(pool.leases(), [], "a panic");

    // A reset in a task of its own: out until that is over.
    peer.set(&peer.reset, Way::Slow(AFTER / 100));
    let lease = pool.acquire(&1).await.expect("dialed");
    lease.dirty.store(true, SeqCst);
    drop(lease);
    assert_eq!(pool.leases().len(), 1, "it is being reset");
    until("the reset has begun", || peer.resets.load(SeqCst) == 1).await;
    sleep(AFTER / 10).await;
    assert_eq!(pool.leases(), [], "reset");
    // In the caller's own, given up half way.
    let lease = pool.acquire(&1).await.expect("idle");
    lease.dirty.store(true, SeqCst);
    let given_up = tokio::time::timeout(AFTER / 1000, lease.release()).await;
    assert!(given_up.is_err());
    assert_eq!(pool.leases(), [], "the reset was dropped");
    // One that panics, and one that hangs.
    for way in [Way::Panics, Way::Never] {
        peer.set(&peer.reset, way);
        let lease = pool.acquire(&1).await.expect("there is room");
        lease.dirty.store(true, SeqCst);
        drop(lease);
        sleep(AFTER).await;
        assert_eq!(pool.leases(), [], "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_still_tells_who_keeps_it() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, peer) = watched::<Plain>();
    let (lease, line) = (pool.acquire(&1).await.expect("dialed"), line!());
    assert!(!pool.close_within(AFTER / 2).await, "a lease is out");
    assert_eq!(lines(&pool), [line]);
    sleep(AFTER).await;
    assert_eq!(warnings.count(), 1);
    drop(lease);
    pool.close().await;
    assert_eq!((peer.open(), pool.leases().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_on_after_a_closed_pools_last_lease() {
    let (pool, _peer) = watched::<Plain>();
    let lease = pool.acquire(&1).await.expect("dialed");
    pool.start_close();
    sleep(A_MOMENT).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "the lease may still leak");
    drop(lease);
    until("the maintenance task has ended", || tasks() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn without_leak_detection_nothing_is_known_and_nothing_is_reported() {
    let (warnings, _listening) = Warnings::listen();
    let (pool, _peer) = crate::support::fake::pool::<Plain>(pool_common::Policy::default());
    let lease = pool.acquire(&1).await.expect("dialed");
    sleep(100 * AFTER).await;
    assert_eq!((warnings.count(), pool.leases()), (0, Vec::new()));
    drop(lease);
}

#[tokio::test]
async fn how_long_a_lease_is_out_is_read_off_the_pools_clock() {
    let (manager, _peer) = manager::<Plain>();
    let (clock, hand) = Clock::manual();
    let pool = Pool::builder(manager).clock(clock).leak_detection(Duration::MAX).build();
    let pool = pool.expect("a valid policy");
    let first = pool.acquire(&1).await.expect("dialed");
    hand.advance(AFTER);
    let second = pool.acquire(&2).await.expect("dialed");
    hand.advance(AFTER);
    let held: Vec<_> = pool.leases().iter().map(|lease| (lease.key, lease.held_for)).collect();
    assert_eq!(held, [(1, 2 * AFTER), (2, AFTER)]);
    drop((first, second));
}
