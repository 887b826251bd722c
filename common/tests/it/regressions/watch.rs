//! Who watches the time of those who wait.

use pool_common::{Error, Exclusive, Manager, Notifier, Policy, Pool};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Its first dial fails, if it is told so.
#[derive(Default)]
struct Peer {
    fails: AtomicBool,
}

impl Manager for Peer {
    type Key = u8;
    type Lending = Exclusive<()>;
    type Error = std::io::Error;
    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<()> {
        if self.fails.swap(false, SeqCst) { Err(std::io::Error::other("not yet")) } else { Ok(()) }
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn one_connection(acquire_timeout: Option<Duration>) -> Policy {
    Policy { max_open_per_key: Some(1), acquire_timeout, ..Policy::default() }
}

#[test]
fn a_waiter_that_moves_to_another_runtime_waits_for_ever() {
    let timeout = Some(Duration::from_millis(100));
    let pool = Pool::builder(Peer::default()).policy(one_connection(timeout)).build().unwrap();
    let (first, second) = (one_thread(), one_thread());
    let _lease = first.block_on(pool.acquire(&1)).unwrap();
    // Its task watches from here on, and sleeps until somebody's time is up who came before.
    first.block_on(pool.acquire(&1)).unwrap_err();
    let mut before = pool.acquire(&1);
    let mut waiter = pool.acquire(&1);
    first.block_on(async {
        let polled = Pin::new(&mut before).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let polled = Pin::new(&mut waiter).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    });
    // `first` stands still.
    let ended = second
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), waiter).await })
        .expect("it has a deadline");
    assert!(ended.unwrap_err().is_timeout());
}

#[test]
fn a_pause_never_ends_when_the_runtime_that_watched_it_has_ended() {
    for acquire_timeout in [None, Some(Duration::from_secs(60))] {
        let peer = Peer { fails: AtomicBool::new(true) };
        let policy = Policy {
            wait_for_ready: true,
            back_off_after: 1,
            back_off_base: Duration::from_secs(1),
            ..one_connection(acquire_timeout)
        };
        let pool = Pool::builder(peer).policy(policy).build().unwrap();
        let first = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let second = one_thread();
        let patient = pool.clone();
        let patient = first.spawn(async move { patient.acquire(&1).await.map(drop) });
        while pool.stats().dials_failed == 0 {
            thread::yield_now();
        }
        let got = second.block_on(async {
            let mut waiter = pool.acquire(&1);
            poll_fn(|context| Poll::Ready(Pin::new(&mut waiter).poll(context).is_pending())).await;
            patient.abort();
            first.shutdown_background();
            tokio::time::timeout(Duration::from_secs(60), waiter).await
        });
        let got = got.expect("the pause is a second").map(drop);
        assert!(got.is_ok(), "{got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_virtual_time_took_no_time_with_the_coarse_clock() {
    let timeout = Duration::from_secs(30);
    let pool =
        Pool::builder(Peer::default()).policy(one_connection(Some(timeout))).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    for _ in 0..2 {
        let error = pool.acquire(&1).await.unwrap_err();
        let Error::Timeout { waited, .. } = error else { panic!("{error}") };
        assert!(waited >= timeout, "{waited:?}");
    }
}

/// It panics, and those who wait must not have it start again, and panic, for ever.
#[test]
fn a_runtime_without_time_spins() {
    let pool = Pool::builder(Peer::default()).policy(one_connection(None)).build().unwrap();
    let with_time = one_thread();
    let lease = with_time.block_on(pool.acquire(&1)).unwrap();
    drop(with_time);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut polls = 0;
        let mut waiter = pool.acquire(&1);
        let mut lease = Some(lease);
        let served = poll_fn(|context| {
            polls += 1;
            let polled = Pin::new(&mut waiter).poll(context);
            if polls == 1 {
                context.waker().wake_by_ref();
            } else if let Some(lease) = lease.take_if(|_| polls == 2) {
                tokio::spawn(async move {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    drop(lease);
                });
            }
            polled
        });
        drop(served.await.unwrap());
        assert!(polls < 10, "{polls} polls");
    });
}
