//! What acquire and release cost one task, without any I/O: our pool with its default policy and
//! with every profile, other pools, and the cheapest thing that could be called a pool.
//!
//! `cargo bench -p poolbench --bench acquire_release`; the same in interleaved rounds, which a busy
//! machine disturbs less, prints `--bench performance -- alone`.

mod peers;

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};

use peers::{contestants, runtime_of_one};

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

criterion_group!(benches, acquire_release);
criterion_main!(benches);
