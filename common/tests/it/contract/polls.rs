//! A future dropped at its k-th poll, for every k: nothing is lost, whoever waits behind it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use pool_common::policy::*;
use pool_common::{Exclusive, Policy, Pool, Status, profile};

use crate::support::fake::{Connection, Fake, Peer, Way, pool, until};

type TestPool = Pool<Fake<Exclusive<Connection>>>;

/// Polls the future inside at most `left` times, then drops it and says `None`.
struct DropAt<F> {
    future: Option<Pin<Box<F>>>,
    left: u32,
}

impl<F: Future> Future for DropAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let future = this.future.as_mut().expect("not polled after the end");
        this.left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                this.future = None;
                Poll::Ready(Some(output))
            }
            Poll::Pending if this.left == 0 => {
                this.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

const STEP: Duration = Duration::from_millis(10);

/// Who dials, and for whom: every way an acquire can wait.
fn policies() -> Vec<Policy> {
    let mut policies: Vec<Policy> =
        profile::Profile::all().into_iter().map(|profile| profile.policy).collect();
    policies.push(Policy::default());
    for policy in &mut policies {
        policy.max_open_per_key = Some(1);
        policy.max_idle_per_key = None;
        policy.min_idle = 0;
        policy.at_limit = AtLimit::Wait;
        policy.acquire_timeout = Some(Duration::from_secs(2));
        policy.dial_timeout = Duration::from_secs(1);
        policy.check = Check::Always;
        policy.check_timeout = Duration::from_secs(1);
    }
    policies
}

/// Runs `act` on a pool again and again, dropping it one poll later each time, until it ends by
/// itself; `behind` callers wait meanwhile. Afterwards everybody has been served or told, and
/// everything is zero.
async fn at_every_poll<F: Future<Output: Send> + Send + 'static>(
    policy: &Policy,
    behind: u32,
    prepare: impl Fn(&Peer),
    act: impl Fn(TestPool) -> F,
) {
    for polls in 1..1000 {
        let (pool, peer) = pool::<Exclusive<Connection>>(policy.clone());
        // One connection is idle, so that the check comes before the dial.
        drop(pool.acquire(&1).await.expect("dialed"));
        prepare(&peer);
        let acting = DropAt { future: Some(Box::pin(act(pool.clone()))), left: polls };
        let acting = tokio::spawn(async move { acting.await.is_some() });
        tokio::task::yield_now().await;
        let callers: Vec<_> = (0..behind)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.acquire(&1).await.map(drop) })
            })
            .collect();
        let completed = acting.await.expect("no panic");
        for way in [&peer.connect, &peer.check, &peer.reset, &peer.close] {
            peer.set(way, Way::Ok);
        }
        for caller in callers {
            // Served, or told why not by its own deadline: it does not hang.
            let _ = caller.await.expect("no panic");
        }
        pool.close().await;
        assert_eq!(pool.status(), Status::default());
        until("the peer sees none", || peer.open() == 0).await;
        assert_eq!(peer.dialing.load(SeqCst), 0);
        if completed {
            return;
        }
    }
    panic!("it never completed");
}

fn ways() -> [Way; 4] {
    [Way::Ok, Way::Slow(STEP), Way::SlowlyFails(STEP), Way::Never]
}

#[tokio::test(start_paused = true)]
async fn acquire_can_be_dropped_in_the_check_and_the_dial() {
    for policy in policies() {
        for behind in [0, 1, 50] {
            for check in ways() {
                for connect in [Way::Slow(STEP), Way::SlowlyFails(STEP), Way::Never] {
                    let prepare = |peer: &Peer| {
                        peer.set(&peer.check, check);
                        peer.set(&peer.connect, connect);
                    };
                    at_every_poll(&policy, behind, prepare, |pool| async move {
                        drop(pool.acquire(&1).await);
                    })
                    .await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_can_be_dropped_in_the_queue() {
    for policy in policies() {
        for behind in [0, 1, 50] {
            let act = |pool: TestPool| async move {
                let lease = pool.acquire(&1).await.expect("the idle one");
                let holder = tokio::spawn(async move {
                    tokio::time::sleep(STEP).await;
                    drop(lease);
                });
                drop(pool.acquire(&1).await);
                // Only now: the acquire is what is dropped.
                let _ = holder.await;
            };
            at_every_poll(&policy, behind, |_| {}, act).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_fresh_can_be_dropped_anywhere() {
    for policy in policies() {
        for connect in [Way::Slow(STEP), Way::SlowlyFails(STEP)] {
            let prepare = |peer: &Peer| {
                peer.set(&peer.connect, connect);
                peer.set(&peer.close, Way::Slow(STEP));
            };
            at_every_poll(&policy, 1, prepare, |pool| async move {
                drop(pool.acquire_fresh(&1).await);
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn release_can_be_dropped_in_the_reset() {
    for policy in policies() {
        for behind in [0, 1, 50] {
            for reset in ways() {
                let prepare = |peer: &Peer| peer.set(&peer.reset, reset);
                at_every_poll(&policy, behind, prepare, |pool| async move {
                    let lease = pool.acquire(&1).await.expect("the idle one");
                    lease.dirty.store(true, SeqCst);
                    lease.release().await;
                })
                .await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn close_can_be_dropped_at_any_moment() {
    for policy in policies() {
        for close in ways() {
            let prepare = |peer: &Peer| peer.set(&peer.close, close);
            at_every_poll(&policy, 1, prepare, |pool| async move {
                let lease = pool.acquire(&1).await;
                let holder = Arc::new(lease);
                let held = Arc::clone(&holder);
                tokio::spawn(async move {
                    tokio::time::sleep(STEP).await;
                    drop(held);
                });
                drop(holder);
                pool.close().await;
            })
            .await;
        }
    }
}
