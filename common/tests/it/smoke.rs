//! The shortest way through the pool, with a manager that needs no socket.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use pool_common::{Exclusive, Manager, Notifier, Policy, Pool};

#[derive(Default)]
struct Counting(AtomicU32);

impl Manager for Counting {
    type Key = ();
    type Lending = Exclusive<u32>;
    type Error = Infallible;

    async fn connect(&self, _key: &(), _notifier: Notifier) -> Result<u32, Infallible> {
        Ok(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_returned_connection_is_lent_again() {
    let pool = Pool::builder(Counting::default()).build().expect("the default policy is valid");
    let mut lease = pool.acquire(&()).await.expect("dialed");
    *lease += 100;
    assert!(!lease.is_reused());
    drop(lease);
    let lease = pool.acquire(&()).await.expect("idle");
    assert_eq!(*lease, 100);
    assert!(lease.is_reused());
    let status = pool.status();
    assert_eq!((status.open, status.leased, status.idle), (1, 1, 0));
    drop(lease);
    pool.close().await;
    assert_eq!(pool.status(), Default::default());
}

#[tokio::test]
async fn a_waiter_gets_what_comes_back() {
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    let pool = Pool::builder(Counting::default()).policy(policy).build().expect("valid");
    let lease = pool.acquire(&()).await.expect("dialed");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire(&()).await.map(|lease| *lease) }
    });
    while pool.status().waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(lease);
    assert_eq!(waiter.await.expect("no panic").expect("handed over"), 0);
    assert_eq!(pool.stats().opened, 1);
}
