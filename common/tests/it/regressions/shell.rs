//! The async pool.

use crate::support::fake::{Connection, Way, pool, until};
use pool_common::clock::Clock;
use pool_common::policy::*;
use pool_common::{Exclusive, Manager, Notifier, Policy, Pool, Shared, profile};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
type Ex = Exclusive<Connection>;

#[tokio::test(start_paused = true)]
async fn close_hangs_with_a_waiter_whose_dial_is_stopped() {
    let (pool, peer) = pool::<Ex>(Policy::default());
    peer.set(&peer.connect, Way::Never);
    let p = pool.clone();
    let _caller = tokio::spawn(async move { p.acquire(&1).await.map(drop) });
    until("dialing", || pool.status().dialing == 1).await;
    let closed = pool.close_within(Duration::from_secs(3600)).await;
    assert!(closed, "close never returns though everything is zero");
}

#[tokio::test(start_paused = true)]
async fn close_hangs_with_a_patient_waiter() {
    let (pool, peer) = pool::<Ex>(Policy {
        wait_for_ready: true,
        back_off_after: 1,
        back_off_base: Duration::from_secs(5),
        back_off_max: Duration::from_secs(5),
        ..Policy::default()
    });
    peer.set(&peer.connect, Way::Fails);
    let p = pool.clone();
    let _caller = tokio::spawn(async move { p.acquire(&1).await.map(drop) });
    until("paused", || peer.attempts.load(SeqCst) == 1 && pool.status().dialing == 0).await;
    let closed = pool.close_within(Duration::from_secs(3600)).await;
    assert!(closed, "close never returns though everything is zero");
}

#[tokio::test(start_paused = true)]
async fn try_acquire_dials() {
    let (pool, peer) = pool::<Ex>(Policy::default());
    assert!(pool.try_acquire(&1).is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (peer.attempts.load(SeqCst), pool.stats().dials),
        (0, 0),
        "(dials as the peer sees, as stats say)"
    );
}

#[tokio::test(start_paused = true)]
async fn try_acquire_closes_another_keys_idle_connection() {
    let (pool, peer) = pool::<Ex>(Policy { max_open: Some(1), ..Policy::default() });
    drop(pool.acquire(&1).await.unwrap());
    assert!(pool.try_acquire(&2).is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(peer.open(), 1);
    assert_eq!(pool.stats().closed_in_all(), 0);
}

#[test]
fn try_acquire_outside_a_runtime_starts_a_back_off() {
    let (pool, _peer) = pool::<Ex>(Policy::default());
    for _ in 0..3 {
        assert!(pool.try_acquire(&1).is_none());
    }
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async { pool.acquire(&1).await.map(drop) })
        .expect("nothing was wrong with the peer");
}

#[tokio::test(start_paused = true)]
async fn try_acquire_resets_the_idle_time() {
    let (pool, peer) = pool::<Ex>(Policy {
        check: Check::IfIdleLonger,
        check_after: Duration::from_secs(60),
        ..Policy::default()
    });
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert!(pool.try_acquire(&1).is_none(), "it needs a check");
    drop(pool.acquire(&1).await.unwrap());
    assert_eq!(
        peer.checks.load(SeqCst),
        1,
        "idle for 80 s, never used, and lent without the check"
    );
}

/// A peek that reads, as design.md recommends (`try_read`), consumes the stray byte.
struct Reading;
struct Line {
    stray: AtomicBool,
}
impl Manager for Reading {
    type Key = u8;
    type Lending = Exclusive<Line>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<Line> {
        Ok(Line { stray: AtomicBool::new(false) })
    }
    fn is_broken(&self, c: &mut Exclusive<Line>) -> bool {
        c.stray.swap(false, SeqCst)
    }
}
#[tokio::test(start_paused = true)]
async fn what_a_peek_found_broken_is_lent() {
    let pool = Pool::builder(Reading).clock(Clock::tokio()).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let id = lease.connection_id();
    drop(lease);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A stray byte arrives while idle: put there through the pool's own hands.
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(lease.connection_id(), id);
    drop(lease);
    // release asks is_broken too, so set it from outside afterwards:
    let pool2 = Pool::builder(Stray { armed: Arc::new(AtomicBool::new(false)) })
        .clock(Clock::tokio())
        .build()
        .unwrap();
    drop(pool2.acquire(&1).await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let armed = Arc::clone(&pool2.manager().armed);
    armed.store(true, SeqCst);
    let lease = pool2.acquire(&1).await.unwrap();
    assert!(!lease.is_reused(), "is_broken said yes, and the connection was lent");
}
struct Stray {
    armed: Arc<AtomicBool>,
}
impl Manager for Stray {
    type Key = u8;
    type Lending = Exclusive<()>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<()> {
        Ok(())
    }
    fn is_broken(&self, _: &mut Exclusive<()>) -> bool {
        self.armed.swap(false, SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_is_forgotten_after_a_retry() {
    // All at once, caller dials; at the limit.
    let (pool, _peer) = pool::<Ex>(Policy {
        dial: Dial::Caller,
        waiter_order: WaiterOrder::AllAtOnce,
        max_open_per_key: Some(2),
        ..Policy::default()
    });
    let a = pool.acquire(&1).await.unwrap();
    let b = pool.acquire(&1).await.unwrap();
    let p = pool.clone();
    let plain = tokio::spawn(async move { p.acquire(&1).await.unwrap() });
    tokio::task::yield_now().await;
    let p = pool.clone();
    let fresh = tokio::spawn(async move { p.acquire_fresh(&1).await.unwrap() });
    tokio::task::yield_now().await;
    a.discard(); // room: the first dials, the other is told to try again
    drop(b); // becomes idle
    let fresh = fresh.await.unwrap();
    let _plain = plain.await.unwrap();
    assert!(!fresh.is_reused(), "fresh was given a used connection");
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_callers_dials() {
    let (pool, peer) = pool::<Ex>(profile::redigo().policy);
    peer.set(&peer.connect, Way::Never);
    let p = pool.clone();
    let _caller = tokio::spawn(async move { p.acquire(&1).await.map(drop) });
    until("dialing", || pool.status().dialing == 1).await;
    let start = tokio::time::Instant::now();
    pool.close().await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "dials are stopped, says start_close; it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_maintenance_task_outlives_close() {
    let (pool, _peer) = pool::<Ex>(Policy::default());
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(Duration::from_millis(10)).await;
    pool.close().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn endless_check_timeout_panics() {
    let (pool, _peer) = pool::<Ex>(Policy {
        check: Check::Always,
        check_timeout: Duration::MAX,
        ..Policy::default()
    });
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(pool.acquire(&1).await.unwrap());
}

struct Goodbye {
    alone: Arc<AtomicUsize>,
}
impl Manager for Goodbye {
    type Key = u8;
    type Lending = Shared<u8>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<u8> {
        Ok(0)
    }
    async fn close(&self, c: Shared<u8>) {
        self.alone.store(Arc::strong_count(&c.into_arc()), SeqCst);
    }
}
#[tokio::test(start_paused = true)]
async fn the_goodbye_of_a_shared_one_is_not_alone() {
    let pool = Pool::builder(Goodbye { alone: Arc::default() }).build().unwrap();
    pool.acquire(&1).await.unwrap().discard();
    assert_eq!(
        pool.manager().alone.load(SeqCst),
        1,
        "the lease's handle is alive while the pool says goodbye and frees the place"
    );
}

/// Whose connections look stale whenever they are looked at.
struct Unread;
impl Manager for Unread {
    type Key = u8;
    type Lending = Shared<u8>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<u8> {
        Ok(0)
    }
    fn capacity(&self, _: &u8) -> u32 {
        2
    }
    fn is_stale(&self, _: &mut Shared<u8>, _: Duration) -> bool {
        true
    }
}
#[tokio::test(start_paused = true)]
async fn who_only_tries_looks_at_a_shared_one_in_use_as_at_an_idle_one() {
    let pool = Pool::builder(Unread).build().unwrap();
    let first = pool.acquire(&1).await.unwrap();
    let second = pool.try_acquire(&1).expect("it is in use, and has room");
    assert_eq!((pool.status().open, pool.status().leases), (1, 2));
    drop((first, second));
    assert!(pool.try_acquire(&1).is_none(), "idle, it is looked at");
    assert_eq!(pool.stats().closed(pool_common::event::CloseCause::PeekFailed), 1);
}

#[test]
fn waiters_are_told_one_inside_the_other_when_a_runtime_ends() {
    let waiters: usize = 20_000;
    let (pool, peer) = pool::<Ex>(Policy {
        max_open_per_key: Some(1),
        acquire_timeout: None,
        ..profile::net_http().policy
    });
    peer.set(&peer.connect, Way::Never);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        for _ in 0..waiters {
            let p = pool.clone();
            tokio::spawn(async move { p.acquire(&1).await.map(drop) });
        }
        until("waiting", || pool.status().waiting as usize == waiters).await;
    });
    drop(rt);
    assert_eq!(pool.status(), pool_common::Status::default());
}

struct Slowly {
    said: Arc<AtomicU32>,
}
impl Manager for Slowly {
    type Key = u8;
    type Lending = Exclusive<u8>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<u8> {
        Ok(0)
    }
    async fn close(&self, _c: Exclusive<u8>) {
        tokio::time::sleep(Duration::from_millis(1)).await; // stands for any I/O
        self.said.fetch_add(1, SeqCst);
    }
}
#[test]
fn goodbye_from_another_thread() {
    let pool = Pool::builder(Slowly { said: Arc::default() }).build().unwrap();
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lease = rt.block_on(pool.acquire(&1)).unwrap();
    std::thread::spawn(move || lease.discard()).join().unwrap();
    rt.block_on(pool.close()); // waits until the goodbye is over
    assert_eq!(pool.manager().said.load(SeqCst), 1, "a runtime is known, and no goodbye was said");
}

#[tokio::test(start_paused = true)]
async fn close_hangs_when_a_waiter_is_polled_late() {
    let (pool, peer) = pool::<Ex>(Policy::default());
    peer.set(&peer.connect, Way::Never);
    let p = pool.clone();
    let _caller = tokio::spawn(async move {
        let mut acquire = Box::pin(p.acquire(&1));
        assert!(
            std::future::poll_fn(|c| std::task::Poll::Ready(acquire.as_mut().poll(c)))
                .await
                .is_pending()
        );
        tokio::time::sleep(Duration::from_secs(1)).await; // busy elsewhere for a second
        acquire.await.map(drop)
    });
    until("dialing", || pool.status().dialing == 1).await;
    let closed = pool.close_within(Duration::from_secs(3600)).await;
    assert!(closed, "close did not return within an hour though everything is zero");
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_the_next_timer() {
    let (pool, peer) = pool::<Ex>(Policy { wait_for_ready: true, ..profile::grpc().policy });
    peer.set(&peer.connect, Way::Fails);
    let p = pool.clone();
    let _caller = tokio::spawn(async move { p.acquire(&1).await.map(drop) });
    until("paused", || peer.attempts.load(SeqCst) == 1 && pool.status().dialing == 0).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let start = tokio::time::Instant::now();
    let closed = pool.close_within(Duration::from_secs(3600)).await;
    assert!(closed && start.elapsed() < Duration::from_millis(10), "took {:?}", start.elapsed());
}

#[test]
fn close_races_with_waiters_on_threads() {
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let hung = rt.block_on(async {
        let mut hung = 0;
        for _ in 0..300 {
            let (pool, _peer) =
                pool::<Ex>(Policy { max_open_per_key: Some(1), ..profile::thrift().policy });
            let lease = pool.acquire(&1).await.unwrap();
            for _ in 0..20 {
                let p = pool.clone();
                tokio::spawn(async move { p.acquire(&1).await.map(drop) });
            }
            while pool.status().waiting < 20 {
                tokio::task::yield_now().await;
            }
            let p = pool.clone();
            let closing =
                tokio::spawn(async move { p.close_within(Duration::from_secs(20)).await });
            drop(lease);
            if !closing.await.unwrap() {
                hung += 1;
                assert!(pool.status() == Default::default());
            }
            if hung > 0 {
                break;
            }
        }
        hung
    });
    assert_eq!(hung, 0, "closes that hung with everything at zero");
}

#[test]
fn a_runtime_that_ends_under_many_waiters_leaves_nothing() {
    let waiters: usize = 20_000;
    let (pool, peer) = pool::<Ex>(Policy {
        max_open_per_key: Some(1),
        acquire_timeout: None,
        ..Policy::default()
    });
    peer.set(&peer.connect, Way::Never);
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async {
        for _ in 0..waiters {
            let p = pool.clone();
            tokio::spawn(async move { p.acquire(&1).await.map(drop) });
        }
        while (pool.status().waiting as usize) < waiters {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    drop(rt);
    assert_eq!(pool.status(), pool_common::Status::default());
    assert_eq!(peer.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn observer_sees_try_acquire() {
    let (pool, _peer) = pool::<Ex>(Policy { dial: Dial::Caller, ..Policy::default() });
    for _ in 0..5 {
        assert!(pool.try_acquire(&1).is_none());
    }
    let stats = pool.stats();
    assert_eq!((stats.dials, stats.dials_failed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_never_backs_off() {
    let (pool, peer) = pool::<Ex>(Policy {
        dial: Dial::Caller,
        acquire_timeout: Some(Duration::from_secs(5)),
        back_off_after: 1,
        back_off_base: Duration::from_secs(4),
        back_off_max: Duration::from_secs(4),
        ..Policy::default()
    });
    peer.set(&peer.connect, Way::Never);
    let mut backing_off = false;
    for _ in 0..20 {
        if let Err(pool_common::Error::BackingOff { .. }) = pool.acquire(&1).await.map(drop) {
            backing_off = true;
        }
    }
    assert!(backing_off, "{} dials, all of them timed out, no pause", peer.attempts.load(SeqCst));
}

#[tokio::test]
async fn bracketed_v6() {
    // Without IPv6 on the machine there is nothing to connect to.
    let Ok(l) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
    let port = l.local_addr().unwrap().port();
    pool_common::connect::TcpConnector::default().connect("[::1]", port).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_reset_of_a_closed_pool_delays_close() {
    let (pool, peer) = pool::<Ex>(Policy::default());
    let lease = pool.acquire(&1).await.unwrap();
    lease.dirty.store(true, SeqCst);
    peer.set(&peer.reset, Way::Never);
    pool.start_close();
    drop(lease);
    let start = tokio::time::Instant::now();
    pool.close().await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn retire_all_spares_the_dial_with_the_old_credentials() {
    let (pool, peer) = pool::<Ex>(Policy::default());
    peer.set(&peer.connect, Way::Slow(Duration::from_secs(1)));
    let p = pool.clone();
    let caller = tokio::spawn(async move { p.acquire(&1).await.unwrap().connection_id() });
    until("dialing", || pool.status().dialing == 1).await;
    pool.retire_all();
    let old = caller.await.unwrap();
    let again = pool.acquire(&1).await.unwrap().connection_id();
    assert_ne!(old, again, "a dial begun before retire_all is pooled after it");
}

/// Promise 2: the pool keeps nothing of a caller that left.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_the_queue_takes_its_waker_along() {
    struct Task;
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let (pool, _peer) = pool::<Ex>(Policy { max_open_per_key: Some(1), ..Policy::default() });
    let _lease = pool.acquire(&1).await.unwrap();
    let task = Arc::new(Task);
    let waker = std::task::Waker::from(Arc::clone(&task));
    let mut acquire = Box::pin(pool.acquire(&1));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(acquire.as_mut().poll(&mut context).is_pending());
    assert!(Arc::strong_count(&task) > 2, "the pool knows whom to wake");
    drop(acquire);
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 1, "the task of a caller that left is kept");
}

/// A caller that leaves says nothing of the peer.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_its_own_dial_starts_no_back_off() {
    let (pool, peer) = pool::<Ex>(Policy {
        dial: Dial::Caller,
        after_failed_dial: AfterFailedDial::BackOff,
        back_off_after: 1,
        ..Policy::default()
    });
    peer.set(&peer.connect, Way::Slow(Duration::from_millis(10)));
    for _ in 0..5 {
        let left = tokio::time::timeout(Duration::from_millis(1), pool.acquire(&1)).await;
        assert!(left.is_err(), "it is still being dialed");
    }
    drop(pool.acquire(&1).await.expect("nothing was wrong with the peer"));
}

/// Promise 4: a future may move from one task to another; the grant wakes who polled it last.
#[tokio::test(start_paused = true)]
async fn the_grant_wakes_the_task_that_polled_last() {
    struct Task(AtomicU32);
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    // With and without a deadline: the long way of an acquire, and the short one.
    for acquire_timeout in [None, Some(Duration::from_secs(60))] {
        let policy = Policy { max_open_per_key: Some(1), acquire_timeout, ..Policy::default() };
        let (pool, _peer) = pool::<Ex>(policy);
        let lease = pool.acquire(&1).await.unwrap();
        let tasks = [(); 2].map(|()| Arc::new(Task(AtomicU32::new(0))));
        let mut acquire = Box::pin(pool.acquire(&1));
        for task in &tasks {
            let waker = std::task::Waker::from(Arc::clone(task));
            let mut context = std::task::Context::from_waker(&waker);
            assert!(acquire.as_mut().poll(&mut context).is_pending());
        }
        drop(lease);
        let [first, last] = tasks.map(|task| task.0.load(SeqCst));
        assert_eq!((first, last), (0, 1), "acquire_timeout: {acquire_timeout:?}");
        drop(acquire.await.unwrap());
    }
}
