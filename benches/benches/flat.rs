//! Whether acquire and release cost the same in a pool with one idle connection, key or waiter and in a
//! pool with 100,000 of them.
//!
//! `cargo bench -p poolbench --bench flat`; `--bench performance -- flat` prints the ratios.

mod peers;

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use peers::flat::{MANY, cases};

fn flat(criterion: &mut Criterion) {
    for case in cases() {
        let mut group = criterion.benchmark_group(format!("{}, {}", case.name, case.lending));
        for held in [1, MANY] {
            let mut work = (case.with)(held);
            group.bench_function(BenchmarkId::from_parameter(held), |bencher| {
                bencher.iter_custom(|times| {
                    let began = Instant::now();
                    work(times);
                    began.elapsed()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, flat);
criterion_main!(benches);
