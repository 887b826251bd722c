//! The cost of acquire and release for one task, without any I/O: our pool with its default policy and
//! with every profile, other pools, and the cheapest possible pool. `-- recorded` measures the cost of the
//! observer with which poolbench records the lives of connections.
//!
//! `cargo bench -p poolbench --bench acquire_release`. `--bench performance -- alone` measures the same in
//! interleaved rounds, which a busy machine disturbs less.

mod peers;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

use peers::ours::Free;
use peers::{contestants, runtime_of_one};
use pool_common::event::Event;
use pool_common::{Policy, Pool};
use poolbench::measure;
use poolbench::run::lives::Lives;

fn acquire_release(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire+release");
    for contestant in contestants(&runtime_of_one(), 100) {
        group.bench_function(&contestant.name, |bencher| {
            bencher.iter_custom(|times| {
                let began = Instant::now();
                contestant.turns(times);
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// One pool without an observer, and one with the observer.
fn recorded(criterion: &mut Criterion) {
    let runtime = runtime_of_one();
    let lives = Arc::new(Lives::new(Duration::from_secs(3600)));
    lives.begin(measure::monotonic_ns());
    let plain = Pool::builder(Free::<u32>::new());
    let heard = Pool::builder(Free::<u32>::new())
        .observer(move |event: &Event<u32>| lives.hear(event.connection, event.kind));
    let mut group = criterion.benchmark_group("recorded");
    for (name, builder) in [("not", plain), ("lives", heard)] {
        let pool = builder.policy(Policy::default()).build().expect("the policy is valid");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..times {
                        drop(black_box(pool.acquire(&1).await.expect("nothing can fail")));
                    }
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, acquire_release, recorded);
criterion_main!(benches);
