//! Promise 11: no lock is held over user code, I/O, a waker or a close. Whatever the pool calls asks
//! the pool for its status here, which takes the lock: held over the call, it is never released.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pool_common::event::{Event, Observer};
use pool_common::policy::{Check, Dial};
use pool_common::{Exclusive, Lending, Manager, Notifier, Policy, Pool, Shared};

/// Far more than it takes; who waits for so long has found a lock that is held.
const HANG: Duration = Duration::from_secs(20);

/// Asks for the status, and counts that.
type Ask = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

fn ask(ask: &Ask) {
    if let Some(ask) = ask.get() {
        ask();
    }
}

struct Curious<L> {
    ask: Ask,
    resets: Arc<AtomicBool>,
    lending: PhantomData<fn() -> L>,
}

struct Connection(Ask);

impl Drop for Connection {
    fn drop(&mut self) {
        ask(&self.0);
    }
}

impl<L: Lending<Connection = Connection>> Manager for Curious<L> {
    type Key = u8;
    type Lending = L;
    type Error = Infallible;

    async fn connect(&self, _: &u8, _: Notifier) -> Result<Connection, Infallible> {
        ask(&self.ask);
        Ok(Connection(Arc::clone(&self.ask)))
    }

    fn capacity(&self, _: &Connection) -> u32 {
        ask(&self.ask);
        1
    }

    fn is_stale(&self, _: &mut L, _: Duration) -> bool {
        ask(&self.ask);
        false
    }

    async fn check(&self, _: &mut L, _: Duration) -> Result<(), Infallible> {
        ask(&self.ask);
        Ok(())
    }

    fn is_broken(&self, _: &mut L) -> bool {
        ask(&self.ask);
        false
    }

    fn needs_reset(&self, _: &L) -> bool {
        ask(&self.ask);
        self.resets.load(SeqCst)
    }

    async fn reset(&self, _: &mut L) -> Result<(), Infallible> {
        ask(&self.ask);
        Ok(())
    }

    async fn close(&self, connection: L) {
        ask(&self.ask);
        drop(connection);
    }
}

struct Task(Ask);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        ask(&self.0);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        ask(&self.0);
    }
}

struct Watcher(Ask);

impl Observer<u8> for Watcher {
    fn event(&self, _: &Event<u8>) {
        ask(&self.0);
    }
}

async fn life<L: Lending<Connection = Connection>>(policy: Policy, observed: bool) -> u32 {
    let (question, resets) = (Ask::default(), Arc::new(AtomicBool::new(false)));
    let manager = Curious::<L> {
        ask: Arc::clone(&question),
        resets: Arc::clone(&resets),
        lending: PhantomData,
    };
    let mut builder = Pool::builder(manager).policy(policy);
    if observed {
        builder = builder.observer(Watcher(Arc::clone(&question)));
    }
    let pool = builder.build().expect("a valid policy");
    let (asked, times) = (pool.clone(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&times);
    let set = question.set(Box::new(move || {
        asked.status();
        counted.fetch_add(1, SeqCst);
    }));
    assert!(set.is_ok());

    // Each waker is the last of its task, so that dropping it drops the task.
    let waker = || Waker::from(Arc::new(Task(Arc::clone(&question))));
    drop(pool.acquire(&1).await.expect("dialed"));
    drop(pool.try_acquire(&1));
    let lease = pool.acquire(&1).await.expect("looked at");
    {
        // Polled by one task and then by another, and served.
        let mut served = pin!(pool.acquire(&1));
        assert!(served.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        assert!(served.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        drop(lease);
        let Poll::Ready(lease) = served.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("it was handed over");
        };
        let lease = lease.expect("handed over");
        {
            // One leaves before its grant, and one with it.
            let mut leaves = Box::pin(pool.acquire(&1));
            assert!(leaves.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
            drop(leaves);
            let mut granted = Box::pin(pool.acquire(&1));
            assert!(granted.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
            drop(lease);
            drop(granted);
        }
    }
    resets.store(true, SeqCst);
    pool.acquire(&1).await.expect("idle").release().await;
    resets.store(false, SeqCst);
    pool.acquire(&1).await.expect("reset").discard();
    let lease = pool.acquire(&1).await.expect("dialed anew");
    pool.retire_all();
    drop(lease);
    drop(pool.acquire(&1).await.expect("dialed anew"));
    pool.close().await;
    times.load(SeqCst)
}

#[test]
fn whatever_the_pool_calls_may_call_the_pool() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        for dial in [Dial::Caller, Dial::Detached, Dial::Racing, Dial::Shared] {
            for check in [Check::Never, Check::Always] {
                for observed in [false, true] {
                    // Without a deadline nobody keeps time, and a wait takes the short way.
                    let policy = Policy {
                        dial,
                        check,
                        max_open_per_key: Some(1),
                        acquire_timeout: None,
                        idle_timeout: None,
                        ..Policy::default()
                    };
                    let asked =
                        runtime.block_on(life::<Exclusive<Connection>>(policy.clone(), observed));
                    assert!(asked > 10, "asked {asked} times");
                    let asked = runtime.block_on(life::<Shared<Connection>>(policy, observed));
                    assert!(asked > 10, "asked {asked} times");
                }
            }
        }
        tell.send(()).expect("somebody waits");
    });
    told.recv_timeout(HANG).expect("a lock was held over user code, or the thread panicked");
}
