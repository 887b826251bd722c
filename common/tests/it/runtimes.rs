//! One pool, several runtimes: a wait ends at its deadline whichever runtime does the pool's
//! timekeeping, and whatever becomes of that one.

mod background;
mod busy;
mod pauses;

use std::convert::Infallible;
use std::time::Duration;

use pool_common::{Error, Exclusive, Lease, Manager, Notifier, Policy, Pool, Stage};
use tokio::runtime::{Builder, Runtime};

use crate::support::within;

struct Free;

impl Manager for Free {
    type Key = u8;
    type Lending = Exclusive<u32>;
    type Error = Infallible;

    async fn connect(&self, _: &u8, _: Notifier) -> Result<u32, Infallible> {
        Ok(7)
    }
}

fn one_connection() -> Pool<Free> {
    let policy = Policy {
        max_open_per_key: Some(1),
        acquire_timeout: Some(Duration::from_millis(50)),
        ..Policy::default()
    };
    Pool::builder(Free).policy(policy).build().expect("a valid policy")
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()
        .expect("a runtime starts")
}

/// Takes the only connection, and has somebody wait in vain, so that `runtime` keeps the time.
fn occupy(pool: &Pool<Free>, runtime: &Runtime) -> Lease<Free> {
    runtime.block_on(async {
        let lease = pool.acquire(&1).await.expect("dialed");
        assert_times_out(pool).await;
        // Now there is a maintenance task, and the second wait relies on it.
        assert_times_out(pool).await;
        lease
    })
}

async fn assert_times_out(pool: &Pool<Free>) {
    match pool.acquire(&1).await {
        Err(Error::Timeout { stage: Stage::Queue, waited, .. }) => {
            assert!(waited >= Duration::from_millis(50), "it gave up after {waited:?}");
        }
        other => panic!("expected a timeout in the queue, got {other:?}"),
    }
}

#[test]
fn a_runtime_that_nobody_drives_holds_up_no_other() {
    let pool = one_connection();
    let (first, second) = (one_thread(), one_thread());
    let lease = occupy(&pool, &first);
    // `first` stands still from here on.
    second.block_on(assert_times_out(&pool));
    drop(lease);
    drop(first);
}

#[test]
fn a_runtime_that_ended_holds_up_no_other() {
    for ends in [one_thread(), workers(1)] {
        let pool = one_connection();
        let lease = occupy(&pool, &ends);
        drop(ends);
        one_thread().block_on(async {
            assert_times_out(&pool).await;
            assert_times_out(&pool).await;
        });
        drop(lease);
    }
}

#[test]
fn a_runtime_that_ends_under_a_waiter_of_another_does_not_hold_it_up() {
    let pool = one_connection();
    let (ends, lives) = (workers(1), workers(1));
    let lease = occupy(&pool, &ends);
    let waits = pool.clone();
    let waiter = lives.spawn(async move { assert_times_out(&waits).await });
    while pool.status().waiting == 0 {
        std::thread::yield_now();
    }
    drop(ends);
    lives.block_on(waiter).expect("it timed out");
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_virtual_time_also_with_the_coarse_clock() {
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    let pool = Pool::builder(Free).policy(policy).build().expect("a valid policy");
    let lease = pool.acquire(&1).await.expect("dialed");
    // That the clocks differ shows when the first timer fires.
    drop(pool.acquire(&1).await);
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        let error = pool.acquire(&1).await.expect_err("nothing comes back");
        assert!(error.is_timeout(), "{error}");
    }
    // Three times 30 s, and not in real time; the coarse clock may move by a tick meanwhile.
    assert!(start.elapsed() >= Duration::from_secs(89), "{:?}", start.elapsed());
    drop(lease);
}
