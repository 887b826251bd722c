//! The pools that are measured, each defined once, and the ways they are driven.
//!
//! A pool is a [`Peer`]; acquire and release of it are a turn. A [`Contestant`] is a
//! peer whose type is forgotten, so that rounds can go over all of them; the loops themselves are
//! compiled for each peer. No connection here does any I/O.
#![allow(dead_code, reason = "every bench includes this module, and none uses all of it")]

mod bb8;
pub mod crowd;
mod deadpool;
pub mod flat;
mod hyper_util;
mod limit;
mod mobc;
pub mod ours;
mod pingora;
mod r2d2;
pub mod table;

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use poolbench::measure::cpu_time;
use tokio::runtime::Runtime;

pub use self::limit::{LIMIT, Limit};
use crowd::{Crowd, Crowded};

/// How long a connection may be idle, where a pool can be told.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How old a connection may become, where a pool can be told.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// A pool that is measured. A clone is the same pool, for another task.
pub trait Peer: Clone + Send + 'static {
    /// What a caller holds. Dropping it is the release.
    type Lease<'pool>: Send
    where
        Self: 'pool;

    /// Acquires.
    fn acquire(&mut self) -> impl Future<Output = Self::Lease<'_>> + Send;
}

/// The part that a contestant plays in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reference for all ratios.
    Limit,
    /// Our pool, with its default policy.
    Ours,
    /// Our pool with a profile's policy, or with another key.
    OursVaried,
    /// Another pool, as its users have it.
    Peer,
    /// Another pool with its check before lending turned off, which is on by default.
    PeerUnchecked,
}

/// A pool in the comparison.
pub struct Contestant {
    /// What reports call it.
    pub name: String,
    /// Its part in the comparison.
    pub kind: Kind,
    /// Whether it limits the connections that are open. A contestant without a limit would open another
    /// connection where the others wait.
    pub limits: bool,
    drive: Box<dyn Drive>,
}

impl Contestant {
    /// A contestant whose turns are taken by tasks.
    fn tasks(name: impl Into<String>, kind: Kind, runtime: &Arc<Runtime>, peer: impl Peer) -> Self {
        let drive = Box::new(Tasks { peer, runtime: Arc::clone(runtime) });
        Self { name: name.into(), kind, limits: true, drive }
    }

    /// A contestant whose turns block, and are taken by threads.
    fn threads(name: &str, kind: Kind, runtime: &Arc<Runtime>, peer: impl Peer + Sync) -> Self {
        let drive = Box::new(Threads(Tasks { peer, runtime: Arc::clone(runtime) }));
        Self { name: name.into(), kind, limits: true, drive }
    }

    fn without_limit(self) -> Self {
        Self { limits: false, ..self }
    }

    /// Takes `times` turns one after another, without holding.
    pub fn turns(&self, times: u64) {
        self.drive.turns(times);
    }

    /// Processor time of one turn, in nanoseconds: the mean of `times` turns.
    ///
    /// No caller waits here, so on an idle machine this equals the elapsed time; on a busy one it
    /// leaves out the time of other programs.
    pub fn nanos_per_turn(&self, times: u64) -> f64 {
        nanos_each(times, |times| self.turns(times))
    }

    /// Many callers at once.
    pub fn crowd(&self, crowd: &Crowd) -> Crowded {
        self.drive.crowd(crowd)
    }
}

/// Processor time of each of `times` repetitions, in nanoseconds.
pub fn nanos_each(times: u64, mut work: impl FnMut(u64)) -> f64 {
    let began = cpu_time();
    work(times);
    (cpu_time() - began).as_nanos() as f64 / times as f64
}

/// How many repetitions take about `round`, after a short run to warm up.
pub fn calibrated(round: Duration, mut work: impl FnMut(u64)) -> u64 {
    const WARM_UP: u64 = 2_000;
    work(WARM_UP);
    let nanos = nanos_each(WARM_UP, work).max(1.0);
    ((round.as_nanos() as f64 / nanos) as u64).max(100)
}

/// The loops around a peer.
trait Drive {
    fn turns(&self, times: u64);
    fn crowd(&self, crowd: &Crowd) -> Crowded;
}

struct Tasks<P> {
    peer: P,
    runtime: Arc<Runtime>,
}

impl<P: Peer> Drive for Tasks<P> {
    fn turns(&self, times: u64) {
        let mut peer = self.peer.clone();
        self.runtime.block_on(async {
            for _ in 0..times {
                drop(black_box(peer.acquire().await));
            }
        });
    }

    fn crowd(&self, crowd: &Crowd) -> Crowded {
        crowd::of_tasks(&self.runtime, &self.peer, crowd)
    }
}

struct Threads<P>(Tasks<P>);

impl<P: Peer + Sync> Drive for Threads<P> {
    fn turns(&self, times: u64) {
        self.0.turns(times);
    }

    fn crowd(&self, crowd: &Crowd) -> Crowded {
        crowd::of_threads(&self.0.peer, crowd)
    }
}

/// Every contestant. `connections` is the most connections (or streams of one shared connection) of a
/// contestant that has a limit. Their tasks run on `runtime`.
pub fn contestants(runtime: &Arc<Runtime>, connections: u32) -> Vec<Contestant> {
    let limit = Contestant::tasks(LIMIT, Kind::Limit, runtime, Limit::new(connections));
    let mut all = vec![limit];
    all.extend(ours::contestants(runtime, connections));
    all.extend(bb8::contestants(runtime, connections));
    all.extend(deadpool::contestants(runtime, connections));
    all.extend(mobc::contestants(runtime, connections));
    all.extend(r2d2::contestants(runtime, connections));
    all.extend(pingora::contestants(runtime));
    all.extend(hyper_util::contestants(runtime));
    all
}

/// A runtime of one thread, for contestants that are measured alone.
pub fn runtime_of_one() -> Arc<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Arc::new(runtime.expect("a runtime starts"))
}
