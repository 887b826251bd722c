//! What acquire and release cost without any I/O: the pool of `pool-common` beside the cheapest
//! thing that could be called a pool, a tokio semaphore with a deque behind a mutex.
//!
//! `cargo bench -p poolbench --bench acquire_release`

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use pool_common::profile::Profile;
use pool_common::{Exclusive, Manager, Notifier, Policy, Pool, Shared};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that cost nothing.
struct Free;

impl Manager for Free {
    type Key = u32;
    type Lending = Exclusive<u64>;
    type Error = Infallible;

    async fn connect(&self, _: &u32, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }
}

/// The same, shared by 100 leases.
struct FreeShared;

impl Manager for FreeShared {
    type Key = u32;
    type Lending = Shared<u64>;
    type Error = Infallible;

    async fn connect(&self, _: &u32, _: Notifier) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn capacity(&self, _: &u64) -> u32 {
        100
    }
}

/// The yardstick: a permit, a lock, a pop; a lock and a push.
#[derive(Clone)]
struct Yardstick {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<VecDeque<u64>>>,
}

struct YardstickLease {
    pool: Yardstick,
    connection: u64,
    _permit: OwnedSemaphorePermit,
}

impl Yardstick {
    async fn acquire(&self) -> YardstickLease {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        let connection = self.idle.lock().expect("never poisoned").pop_back().unwrap_or(0);
        YardstickLease { pool: self.clone(), connection, _permit: permit }
    }
}

impl Drop for YardstickLease {
    fn drop(&mut self) {
        self.pool.idle.lock().expect("never poisoned").push_back(self.connection);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// Acquires and drops as often as criterion wants, inside one task.
fn bench_pool<M: Manager<Key = u32>>(bencher: &mut Bencher<'_>, runtime: &Runtime, pool: &Pool<M>) {
    bencher.iter_custom(|times| {
        runtime.block_on(async {
            let began = Instant::now();
            for _ in 0..times {
                drop(black_box(pool.acquire(&1).await.expect("nothing can fail")));
            }
            began.elapsed()
        })
    });
}

fn acquire_release(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("acquire+release");

    let yardstick = Yardstick { permits: Arc::new(Semaphore::new(100)), idle: Arc::default() };
    group.bench_function("semaphore+deque", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..times {
                    drop(black_box(yardstick.acquire().await));
                }
                began.elapsed()
            })
        });
    });

    let own = [("default", Policy::default())];
    let profiles = Profile::all().into_iter().map(|profile| (profile.name, profile.policy));
    for (name, policy) in own.into_iter().chain(profiles) {
        let pool = Pool::builder(Free).policy(policy.clone()).build().expect("profiles are valid");
        group.bench_function(BenchmarkId::new("exclusive", name), |bencher| {
            bench_pool(bencher, &runtime, &pool);
        });
        let pool = Pool::builder(FreeShared).policy(policy).build().expect("profiles are valid");
        group.bench_function(BenchmarkId::new("shared", name), |bencher| {
            bench_pool(bencher, &runtime, &pool);
        });
    }
    group.finish();
}

/// The cost must not grow with the number of idle connections.
fn many_idle(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("acquire+release with idle connections");
    for idle in [1, 100, 10_000] {
        let policy = Policy { max_open_per_key: None, ..Policy::default() };
        let pool = Pool::builder(Free).policy(policy).build().expect("the policy is valid");
        let leases = runtime.block_on(async {
            let mut leases = Vec::new();
            for _ in 0..idle {
                leases.push(pool.acquire_fresh(&1).await.expect("nothing can fail"));
            }
            leases
        });
        drop(leases);
        group.bench_function(BenchmarkId::from_parameter(idle), |bencher| {
            bench_pool(bencher, &runtime, &pool);
        });
    }
    group.finish();
}

criterion_group!(benches, acquire_release, many_idle);
criterion_main!(benches);
