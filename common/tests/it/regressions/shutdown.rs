//! Closing a pool that is dialing.

use crate::support::fake::{Connection, pool};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pool_common::policy::Dial;
use pool_common::{Error, Exclusive, Manager, Notifier, Policy, Pool};
use tokio::sync::Notify;

/// Dials for ever; a dial that is dropped closes the pool, once more.
#[derive(Default)]
struct Closes {
    pool: OnceLock<Pool<Closes>>,
    dialing: Arc<Notify>,
}

struct CloseOnDrop(Pool<Closes>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.start_close();
    }
}

impl Manager for Closes {
    type Key = u8;
    type Lending = Exclusive<u8>;
    type Error = std::io::Error;

    async fn connect(&self, _: &u8, _: Notifier) -> std::io::Result<u8> {
        let _guard = CloseOnDrop(self.pool.get().expect("it was set").clone());
        self.dialing.notify_one();
        std::future::pending().await
    }
}

/// The lock of the shutdown channel was held while a dial that had been stopped was dropped.
#[test]
fn a_stopped_dial_that_closes_the_pool_hangs() {
    for dial in [Dial::Caller, Dial::Racing] {
        let (done, ended) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let outcome = runtime.block_on(async {
                let policy = Policy { dial, ..Policy::default() };
                let manager = Closes::default();
                let dialing = Arc::clone(&manager.dialing);
                let pool = Pool::builder(manager).policy(policy).build().expect("a valid policy");
                assert!(pool.manager().pool.set(pool.clone()).is_ok(), "set once");
                let caller = pool.clone();
                let caller = tokio::spawn(async move { caller.acquire(&1).await.map(drop) });
                dialing.notified().await;
                pool.close().await;
                caller.await.expect("no panic")
            });
            done.send(outcome).expect("somebody waits for it");
        });
        // Time stands still in there: only a thread that hangs lets this pass.
        let outcome = ended.recv_timeout(Duration::from_secs(60)).expect("it hangs");
        assert!(matches!(outcome, Err(Error::Closed { .. })), "{dial:?}: {outcome:?}");
    }
}

/// A program that stops keeps the future of an acquire, but polls it no more.
#[tokio::test(start_paused = true)]
async fn close_hangs_with_an_acquire_that_is_kept_and_not_polled() {
    let (pool, _peer) = pool::<Exclusive<Connection>>(Policy {
        max_open_per_key: Some(1),
        acquire_timeout: None,
        ..Policy::default()
    });
    let lease = pool.acquire(&1).await.unwrap();
    let mut waiter = pin!(pool.acquire(&1));
    tokio::select! {
        _ = &mut waiter => unreachable!("the only connection is leased"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    pool.start_close();
    drop(lease);
    assert!(pool.close_within(Duration::from_secs(3600)).await, "{:?}", pool.status());
    assert!(waiter.await.unwrap_err().is_closed());
}
