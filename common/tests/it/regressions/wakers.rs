//! Wakers are the user's code: they may use the pool, panic, or run who they wake.

use crate::support::within;
use pool_common::event::Event;
use pool_common::{Acquiring, Exclusive, Lease, Manager, Notifier, Policy, Pool};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;

struct Free;
impl Manager for Free {
    type Key = u8;
    type Lending = Exclusive<()>;
    type Error = Infallible;
    async fn connect(&self, _: &u8, _: Notifier) -> Result<(), Infallible> {
        Ok(())
    }
}

fn one_connection() -> Policy {
    Policy { max_open_per_key: Some(1), acquire_timeout: None, ..Policy::default() }
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Uses the pool when it is dropped, as the last reference to a task may do.
struct UsesInDrop(Arc<OnceLock<Pool<Free>>>);
impl Wake for UsesInDrop {
    fn wake(self: Arc<Self>) {}
}
impl Drop for UsesInDrop {
    fn drop(&mut self) {
        if let Some(pool) = self.0.get() {
            let _ = pool.status();
        }
    }
}

type Hidden = Arc<Mutex<Option<(Lease<Free>, Acquiring<'static, Free>)>>>;

#[test]
fn a_waker_that_was_not_used_is_dropped_under_the_lock_by_the_next_waiter() {
    within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (cell, hidden): (Arc<OnceLock<Pool<Free>>>, Hidden) = Default::default();
        let (pool, of_observer) = (Arc::clone(&cell), Arc::clone(&hidden));
        let observer = move |event: &Event<u8>| {
            if event.key != 2 {
                return;
            }
            let Some((lease, mut waiter)) = of_observer.lock().unwrap().take() else { return };
            // Granted; the loop that runs this observer wakes it later. It looks before that.
            drop(lease);
            let lease = poll_with(&mut waiter, Waker::noop());
            assert!(lease.is_ready());
            let mut next = pool.get().unwrap().acquire(&1);
            assert!(poll_with(&mut next, Waker::noop()).is_pending());
        };
        let built = Pool::builder(Free).policy(one_connection()).observer(observer).build();
        let pool: &'static Pool<Free> = Box::leak(Box::new(built.unwrap()));
        let _ = cell.set(pool.clone());
        let _entered = runtime.enter();
        let lease = runtime.block_on(pool.acquire(&1)).unwrap();
        let mut waiter = pool.acquire(&1);
        let waker = Waker::from(Arc::new(UsesInDrop(cell)));
        assert!(poll_with(&mut waiter, &waker).is_pending());
        drop(waker);
        *hidden.lock().unwrap() = Some((lease, waiter));
        drop(runtime.block_on(pool.acquire(&2)).unwrap());
        assert!(hidden.lock().unwrap().is_none(), "the observer was called");
    });
}

#[test]
fn a_waker_of_one_that_leaves_is_dropped_under_the_lock_by_the_next_waiter() {
    within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = Pool::builder(Free).policy(one_connection()).build().unwrap();
        let _lease = runtime.block_on(pool.acquire(&1)).unwrap();
        let cell = Arc::new(OnceLock::new());
        let _ = cell.set(pool.clone());
        // Between the end of a waiter and that of its waker, another took over its number.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let waker = Waker::from(Arc::new(UsesInDrop(Arc::clone(&cell))));
                        let mut waiter = pool.acquire(&1);
                        assert!(poll_with(&mut waiter, &waker).is_pending());
                        drop(waker);
                        drop(waiter);
                    }
                });
            }
        });
    });
}

/// The pool that the wakers of [`USES_IN_CLONE`] use.
static USED: OnceLock<Pool<Free>> = OnceLock::new();
static USES_IN_CLONE: RawWakerVTable = {
    fn clone(_: *const ()) -> RawWaker {
        let _ = USED.get().map(Pool::status);
        RawWaker::new(ptr::null(), &USES_IN_CLONE)
    }
    fn nothing(_: *const ()) {}
    RawWakerVTable::new(clone, nothing, nothing, nothing)
};

#[test]
fn a_waker_is_cloned_under_the_lock() {
    within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = Pool::builder(Free).policy(one_connection()).build().unwrap();
        let _ = USED.set(pool.clone());
        let _lease = runtime.block_on(pool.acquire(&1)).unwrap();
        // SAFETY: no function of the table looks at the pointer.
        let waker = unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &USES_IN_CLONE)) };
        let mut waiter = pool.acquire(&1);
        assert!(poll_with(&mut waiter, Waker::noop()).is_pending());
        assert!(poll_with(&mut waiter, &waker).is_pending());
        let mut at_once = pool.acquire(&1);
        assert!(poll_with(&mut at_once, &waker).is_pending());
    });
}

struct Panics;
impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

#[derive(Default)]
struct Counts(AtomicUsize);
impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_waker_that_panics_costs_the_others_their_wake_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = Pool::builder(Free).policy(one_connection()).build().unwrap();
    let lease = runtime.block_on(pool.acquire(&1)).unwrap();
    let (mut first, mut second) = (pool.acquire(&1), pool.acquire(&1));
    assert!(poll_with(&mut first, &Waker::from(Arc::new(Panics))).is_pending());
    let woken = Arc::new(Counts::default());
    assert!(poll_with(&mut second, &Waker::from(Arc::clone(&woken))).is_pending());
    pool.start_close();
    assert_eq!(woken.0.load(SeqCst), 1);
    drop(lease);
    assert_eq!(pool.status().open, 0);
}

/// Runs whom it wakes, as some executors do.
struct RunsInline {
    waiters: Arc<Mutex<Vec<Option<Acquiring<'static, Free>>>>>,
    at: usize,
    /// How many run inside each other, and how many did at most.
    depth: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Wake for RunsInline {
    fn wake(self: Arc<Self>) {
        let (now, most) = &*self.depth;
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        let waiter = self.waiters.lock().unwrap()[self.at].take();
        let lease = poll_with(&mut waiter.expect("woken once"), Waker::noop());
        assert!(lease.is_ready());
        drop(lease);
        now.fetch_sub(1, SeqCst);
    }
}

#[test]
fn hand_overs_pile_up_on_the_stack() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let built = Pool::builder(Free).policy(one_connection()).build();
    let pool: &'static Pool<Free> = Box::leak(Box::new(built.unwrap()));
    let lease = runtime.block_on(pool.acquire(&1)).unwrap();
    let (waiters, depth) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
    for at in 0..100 {
        let (waiters, depth) = (Arc::clone(&waiters), Arc::clone(&depth));
        let waker = Waker::from(Arc::new(RunsInline { waiters: Arc::clone(&waiters), at, depth }));
        let mut waiter = pool.acquire(&1);
        assert!(poll_with(&mut waiter, &waker).is_pending());
        waiters.lock().unwrap().push(Some(waiter));
    }
    drop(lease);
    let left = waiters.lock().unwrap().iter().flatten().count();
    assert_eq!(left, 0, "{:?} {:?}", depth, pool.status());
    assert_eq!(depth.1.load(SeqCst), 1);
    assert_eq!(pool.status().idle, 1);
}
