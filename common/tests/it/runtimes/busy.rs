//! Threads that are busy, or gone, at the wrong moment. Each is held until what must not depend on
//! it has happened; a pool that depends on it stands still.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use pool_common::{Pool, event::CloseCause};

use super::{Free, assert_times_out, occupy, one_connection, one_thread, workers};

/// Holds a thread until it is let go; one that is not let go shows that the pool stands still.
fn hold(held: &mpsc::Receiver<()>) {
    held.recv_timeout(Duration::from_secs(60)).expect("what waited for this thread to go on");
}

async fn poll_once(pool: &Pool<Free>) {
    let mut acquiring = pool.acquire(&1);
    poll_fn(|context| {
        let polled = Pin::new(&mut acquiring).poll(context);
        assert!(polled.is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_busy_worker_that_had_to_wake_the_maintenance_holds_up_no_other_worker() {
    let pool = one_connection();
    let runtime = workers(2);
    let lease = occupy(&pool, &runtime);
    let (release, held) = mpsc::channel();
    let waits = pool.clone();
    runtime.block_on(async move {
        let (tell, told) = tokio::sync::oneshot::channel();
        let busy = waits.clone();
        let worker = tokio::spawn(async move {
            // The earliest deadline there is: the maintenance task is told of it by this worker,
            // which then does something else for long.
            poll_once(&busy).await;
            tell.send(()).expect("somebody listens");
            hold(&held);
        });
        told.await.expect("the worker has come so far");
        assert_times_out(&waits).await;
        release.send(()).expect("it is held");
        worker.await.expect("it was let go in time");
    });
    drop(lease);
}

#[test]
fn blocked_workers_of_another_runtime_hold_up_nobody() {
    let pool = one_connection();
    let (blocked, lives) = (workers(1), one_thread());
    let lease = occupy(&pool, &blocked);
    let (release, held) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let worker = blocked.spawn(async move {
        tell.send(()).expect("somebody listens");
        hold(&held);
    });
    told.recv().expect("the only worker is blocked");
    lives.block_on(assert_times_out(&pool));
    release.send(()).expect("it is held");
    blocked.block_on(worker).expect("it was let go in time");
    drop(lease);
}

#[test]
fn what_is_given_back_outside_a_runtime_is_replaced_where_there_is_one() {
    let pool = one_connection();
    let ended = one_thread();
    ended.block_on(pool.acquire(&1)).expect("dialed").discard();
    drop(ended);
    let lives = workers(1);
    let lease = lives.block_on(pool.acquire(&1)).expect("dialed");
    let waits = pool.clone();
    let waiter = lives.spawn(async move {
        // However often its time is up before the connection is discarded.
        loop {
            match waits.acquire(&1).await {
                Ok(lease) => return drop(lease),
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        }
    });
    while pool.status().waiting == 0 {
        std::thread::yield_now();
    }
    std::thread::spawn(move || lease.discard()).join().expect("discarded");
    lives.block_on(waiter).expect("nothing is wrong with the peer");
    assert_eq!(pool.stats().closed(CloseCause::Discarded), 2);
}
