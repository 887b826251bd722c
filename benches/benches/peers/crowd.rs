//! Many callers at one pool.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use poolbench::measure::{cpu_time, record};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};

use super::{Peer, runtime_of_one};

/// The time to acquire is measured in one turn of this many, since reading the clock costs as much as a
/// turn. It must not divide [`TURNS_IN_A_ROW`], or the same turns of a row would always be measured.
const SAMPLED: u64 = 7;
/// Without holding, a caller yields after this many turns: most pools never yield by themselves while a
/// connection is idle.
const TURNS_IN_A_ROW: u64 = 32;
/// Steps of work, about a nanosecond each.
const WORK: u64 = 300;

/// How the callers use a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// They give the connection back at once.
    No,
    /// They let others run first.
    Yield,
    /// They work with the connection for about a third of a microsecond, and let others run.
    Work,
}

/// The work of a caller that holds a connection, for [`Hold::Work`]: [`WORK`] dependent steps.
fn use_it() {
    black_box((0..WORK).fold(0_u64, |sum, step| black_box(sum.wrapping_mul(31) ^ step)));
}

/// A load: each caller takes turns until the time is over.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Tasks, or threads where acquiring blocks.
    pub callers: usize,
    /// What they do with a connection.
    pub hold: Hold,
    /// For how long.
    pub time: Duration,
}

/// The result of a run with many callers.
#[derive(Debug)]
pub struct Crowded {
    /// Turns each second, over all callers.
    pub turns_per_second: f64,
    /// Processor time of the process for each turn, in nanoseconds.
    pub cpu_nanos: f64,
    /// Time to acquire, in nanoseconds; half of the sampled ones are at or below this.
    pub p50: u64,
    /// The same, 99 %.
    pub p99: u64,
    /// Turns of the caller that had the fewest, as a share of the mean. 1 is fair.
    pub slowest: f64,
}

/// The result of one caller.
struct Work {
    turns: u64,
    waits: Histogram<u64>,
}

impl Work {
    fn new() -> Self {
        // Two digits: there is one of these for each caller.
        let waits = Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are valid");
        Self { turns: 0, waits }
    }
}

/// A caller. `give_way` lets others run.
async fn call<P: Peer, F: Future<Output = ()> + Send>(
    mut peer: P,
    hold: Hold,
    stop: Arc<AtomicBool>,
    give_way: impl Fn() -> F + Sync + Send,
) -> Work {
    let mut work = Work::new();
    while !stop.load(Ordering::Relaxed) {
        let began = work.turns.is_multiple_of(SAMPLED).then(Instant::now);
        let lease = black_box(peer.acquire().await);
        if let Some(began) = began {
            record(&mut work.waits, began.elapsed());
        }
        if hold == Hold::Work {
            use_it();
        }
        if hold != Hold::No {
            give_way().await;
        }
        drop(lease);
        work.turns += 1;
        if hold == Hold::No && work.turns.is_multiple_of(TURNS_IN_A_ROW) {
            give_way().await;
        }
    }
    work
}

/// The callers are tasks.
pub(super) fn of_tasks<P: Peer>(runtime: &Runtime, peer: &P, crowd: &Crowd) -> Crowded {
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let began = (Instant::now(), cpu_time());
        let mut callers = JoinSet::new();
        for _ in 0..crowd.callers {
            callers.spawn(call(peer.clone(), crowd.hold, Arc::clone(&stop), yield_now));
        }
        tokio::time::sleep(crowd.time).await;
        stop.store(true, Ordering::Relaxed);
        let work = callers.join_all().await;
        Crowded::of(&work, began)
    })
}

/// The callers are threads.
pub(super) fn of_threads<P: Peer>(peer: &P, crowd: &Crowd) -> Crowded {
    let stop = Arc::new(AtomicBool::new(false));
    let began = (Instant::now(), cpu_time());
    let callers: Vec<_> = (0..crowd.callers)
        .map(|_| {
            let (peer, hold, stop) = (peer.clone(), crowd.hold, Arc::clone(&stop));
            let give_way = || async { thread::yield_now() };
            thread::spawn(move || runtime_of_one().block_on(call(peer, hold, stop, give_way)))
        })
        .collect();
    thread::sleep(crowd.time);
    stop.store(true, Ordering::Relaxed);
    let work: Vec<_> =
        callers.into_iter().map(|caller| caller.join().expect("nothing panics")).collect();
    Crowded::of(&work, began)
}

impl Crowded {
    fn of(work: &[Work], (began, cpu_began): (Instant, Duration)) -> Self {
        let (passed, cpu) = (began.elapsed(), cpu_time() - cpu_began);
        let turns: u64 = work.iter().map(|caller| caller.turns).sum();
        let fewest = work.iter().map(|caller| caller.turns).min().unwrap_or(0);
        let mut waits = Work::new().waits;
        for caller in work {
            waits.add(&caller.waits).expect("the same bounds");
        }
        Self {
            turns_per_second: turns as f64 / passed.as_secs_f64(),
            cpu_nanos: cpu.as_nanos() as f64 / turns as f64,
            p50: waits.value_at_quantile(0.5),
            p99: waits.value_at_quantile(0.99),
            slowest: fewest as f64 * work.len() as f64 / turns as f64,
        }
    }
}
