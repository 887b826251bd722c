//! A recorder, and what it has heard so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::Unit;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use pool_common::clock::Clock;
use pool_common::metrics::Metrics;
use pool_common::{Lending, Policy, Pool};

use crate::support::fake::{Connection, Fake, Peer, manager};

/// Sums over everything a pool has reported. Names are written `name` or `name{label=value}`,
/// without the pool's name.
pub struct Heard {
    snapshotter: Snapshotter,
    gauges: BTreeMap<String, f64>,
    counters: BTreeMap<String, u64>,
    histograms: BTreeMap<String, Vec<f64>>,
    /// Kind, full name with all labels, unit, description.
    pub described: Vec<(MetricKind, String, Option<Unit>, String)>,
}

impl Heard {
    pub fn by(recorder: &DebuggingRecorder) -> Self {
        Self {
            snapshotter: recorder.snapshotter(),
            gauges: BTreeMap::new(),
            counters: BTreeMap::new(),
            histograms: BTreeMap::new(),
            described: Vec::new(),
        }
    }

    /// Takes in what was reported since the last time: the recorder forgets it when it is asked.
    pub fn update(&mut self) {
        self.described.clear();
        for (key, unit, about, value) in self.snapshotter.snapshot().into_vec() {
            let named = |all: bool| {
                let labels: Vec<String> = key
                    .key()
                    .labels()
                    .filter(|label| all || !label.key().ends_with("pool.name"))
                    .map(|label| format!("{}={}", label.key(), label.value()))
                    .collect();
                let name = key.key().name();
                if labels.is_empty() {
                    name.to_owned()
                } else {
                    format!("{name}{{{}}}", labels.join(","))
                }
            };
            let about = about.map(|about| about.to_string()).unwrap_or_default();
            self.described.push((key.kind(), named(true), unit, about));
            match value {
                DebugValue::Gauge(step) => {
                    *self.gauges.entry(named(false)).or_default() += step.into_inner();
                }
                DebugValue::Counter(more) => {
                    *self.counters.entry(named(false)).or_default() += more;
                }
                DebugValue::Histogram(more) => self
                    .histograms
                    .entry(named(false))
                    .or_default()
                    .extend(more.into_iter().map(|value| value.into_inner())),
            }
        }
    }

    pub fn gauge(&mut self, name: &str) -> f64 {
        self.update();
        *self.gauges.get(name).unwrap_or_else(|| panic!("no gauge {name}: {:#?}", self.gauges))
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        self.update();
        *self
            .counters
            .get(name)
            .unwrap_or_else(|| panic!("no counter {name}: {:#?}", self.counters))
    }

    /// In seconds, in order of size.
    pub fn histogram(&mut self, name: &str) -> Vec<f64> {
        self.update();
        let mut values = self.histograms.get(name).expect("that histogram").clone();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The gauges that are not zero.
    pub fn left(&mut self) -> Vec<(String, f64)> {
        self.update();
        assert!(!self.gauges.is_empty(), "gauges were reported");
        self.gauges.clone().into_iter().filter(|(_, value)| *value != 0.0).collect()
    }
}

/// A pool that follows tokio's clock and reports as `metrics` says; its peer; what is heard.
pub fn reporting<L: Lending<Connection = Connection>>(
    policy: Policy,
    metrics: Metrics,
) -> (Pool<Fake<L>>, Arc<Peer>, Heard) {
    let recorder = DebuggingRecorder::new();
    let heard = Heard::by(&recorder);
    let (pool, peer) = under(&recorder, policy, Some(metrics));
    (pool, peer, heard)
}

/// A pool that is built while `recorder` is installed.
pub fn under<L: Lending<Connection = Connection>>(
    recorder: &dyn metrics::Recorder,
    policy: Policy,
    metrics: Option<Metrics>,
) -> (Pool<Fake<L>>, Arc<Peer>) {
    let (manager, peer) = manager();
    let mut builder = Pool::builder(manager).policy(policy).clock(Clock::tokio()).seed(1);
    if let Some(metrics) = metrics {
        builder = builder.metrics(metrics);
    }
    let pool = metrics::with_local_recorder(recorder, || builder.build().expect("a valid policy"));
    (pool, peer)
}
