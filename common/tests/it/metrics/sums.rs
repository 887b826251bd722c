//! Threads report in any order; the sums are what the pool's own counters say.

use std::future::ready;
use std::sync::atomic::Ordering::SeqCst;

use pool_common::event::CloseCause;
use pool_common::metrics::Metrics;
use pool_common::{Exclusive, Lending, Policy, Pool, Shared, Stats};
use tokio::runtime::Builder;

use super::heard::{Heard, reporting};
use crate::support::fake::{Connection, Fake};

/// Eight tasks on four threads do whatever they like; then everything is over.
fn storm<L: Lending<Connection = Connection>>() -> (Heard, Stats) {
    let policy = Policy {
        max_open_per_key: Some(3),
        max_open: Some(5),
        max_idle_per_key: Some(2),
        ..Policy::default()
    };
    let (pool, _peer, heard) = reporting::<L>(policy, Metrics::db("p"));
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("threads");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8).map(|seed| tokio::spawn(play(pool.clone(), seed))).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        pool.close().await;
    });
    // A thread may still be about to report what it did; this waits for all of them.
    drop(runtime);
    let stats = pool.stats();
    assert!(stats.leased > 300 && stats.gave_up > 0, "much happened: {stats:?}");
    (heard, stats)
}

async fn play<L: Lending<Connection = Connection>>(pool: Pool<Fake<L>>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let key = rng.u8(..3);
        let impatient = rng.u8(..4) == 0;
        let acquired = tokio::select! {
            biased;
            acquired = pool.acquire(&key) => acquired,
            // Leaves as soon as it would have to wait.
            () = ready(()), if impatient => continue,
        };
        let Ok(lease) = acquired else { continue };
        if rng.bool() {
            tokio::task::yield_now().await;
        }
        match rng.u8(..8) {
            0 => lease.discard(),
            1 => lease.broken.store(true, SeqCst),
            2 => pool.retire(lease.connection_id()),
            3 => lease.dirty.store(true, SeqCst),
            _ => drop(lease),
        }
    }
}

fn check(heard: &mut Heard, stats: &Stats) {
    assert_eq!(heard.left(), []);
    let mut expected = vec![
        ("pool.leases.granted{pool.lease.reused=true}".to_owned(), stats.reused),
        ("pool.leases.granted{pool.lease.reused=false}".to_owned(), stats.leased - stats.reused),
        ("pool.dials".to_owned(), stats.dials),
        ("pool.dials.failed".to_owned(), stats.dials_failed),
        ("pool.acquires.waited".to_owned(), stats.waited),
        ("pool.acquires.gave_up".to_owned(), stats.gave_up),
    ];
    expected.extend(CloseCause::ALL.iter().map(|&cause| {
        (format!("pool.connection.closed{{pool.close.cause={cause}}}"), stats.closed(cause))
    }));
    for (name, count) in expected {
        assert_eq!(heard.counter(&name), count, "{name}");
    }
    let lives = heard.histogram("pool.connection.duration").len();
    assert_eq!(u64::try_from(lives), Ok(stats.closed_in_all()));
    assert_eq!(
        heard.histogram("db.client.connection.use_time").len(),
        heard.histogram("db.client.connection.wait_time").len(),
        "every lease that a caller had has come back"
    );
}

#[test]
fn exclusive_sums_are_exact() {
    let (mut heard, stats) = storm::<Exclusive<Connection>>();
    check(&mut heard, &stats);
}

#[test]
fn shared_sums_are_exact() {
    let (mut heard, stats) = storm::<Shared<Connection>>();
    check(&mut heard, &stats);
}
