//! The handles of one pool's metrics: registered once, when the pool is built.
//!
//! A handle runs the recorder's code. So it is called without the pool's lock, and a panic in it is
//! caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use tokio::time::Instant;

use super::names::{self, LIMITS, Measure, Metrics};
use crate::event::CloseCause;
use crate::stats::{Stats, Status};

/// The limits of the policy; `None` once the pool is closed.
pub(super) type Limits = [Option<u32>; LIMITS.len()];

pub(super) struct Instruments {
    pub(super) registered_at: Instant,
    registry: Registry,
    /// As [`names::GAUGES`].
    gauges: Vec<Gauge>,
    /// As [`names::COUNTERS`].
    counters: Vec<Counter>,
    /// As [`CloseCause::ALL`].
    closed: Vec<Counter>,
    /// As [`LIMITS`]; registered when the limit is set for the first time.
    limits: [OnceLock<Gauge>; LIMITS.len()],
    timeouts: Counter,
    create_time: Histogram,
    wait_time: Histogram,
    use_time: Histogram,
    duration: Histogram,
}

impl Instruments {
    pub(super) fn new(metrics: Metrics) -> Self {
        let registry = Registry(metrics);
        let label = |label: Option<(names::Name, names::Name)>| {
            label.map(|(key, value)| (registry.name(key), registry.name(value)))
        };
        Self {
            registered_at: Instant::now(),
            gauges: names::GAUGES
                .iter()
                .map(|row| registry.gauge(row.measure, label(row.label)))
                .collect(),
            counters: names::COUNTERS
                .iter()
                .map(|row| registry.counter(row.measure, label(row.label)))
                .collect(),
            closed: CloseCause::ALL
                .iter()
                .map(|cause| registry.counter(names::CLOSED, Some((names::CAUSE, cause.word()))))
                .collect(),
            limits: Default::default(),
            timeouts: registry.counter(names::TIMEOUTS, None),
            create_time: registry.histogram(names::CREATE_TIME),
            wait_time: registry.histogram(names::WAIT_TIME),
            use_time: registry.histogram(names::USE_TIME),
            duration: registry.histogram(names::DURATION),
            registry,
        }
    }

    pub(super) fn report_status(&self, before: &Status, now: &Status) {
        for (gauge, row) in self.gauges.iter().zip(names::GAUGES) {
            step(gauge, (row.read)(before), (row.read)(now));
        }
    }

    pub(super) fn report_stats(&self, before: &Stats, now: &Stats) {
        for (counter, row) in self.counters.iter().zip(names::COUNTERS) {
            add(counter, (row.read)(now) - (row.read)(before));
        }
        if before.closed_by_cause == now.closed_by_cause {
            return;
        }
        for (counter, cause) in self.closed.iter().zip(CloseCause::ALL) {
            add(counter, now.closed(cause) - before.closed(cause));
        }
    }

    pub(super) fn report_limits(&self, before: &Limits, now: &Limits) {
        if before == now {
            return;
        }
        for (at, limit) in LIMITS.iter().enumerate() {
            if now[at].is_some() || before[at].is_some() {
                let scope = Some((names::SCOPE, limit.scope));
                let gauge =
                    self.limits[at].get_or_init(|| self.registry.gauge(limit.measure, scope));
                step(gauge, before[at].unwrap_or(0).into(), now[at].unwrap_or(0).into());
            }
        }
    }

    pub(super) fn timed_out(&self) {
        add(&self.timeouts, 1);
    }

    pub(super) fn created(&self, took: Duration) {
        guard(|| self.create_time.record(took));
    }

    pub(super) fn acquired(&self, took: Duration) {
        guard(|| self.wait_time.record(took));
    }

    pub(super) fn used(&self, took: Duration) {
        guard(|| self.use_time.record(took));
    }

    pub(super) fn ended(&self, age: Duration) {
        guard(|| self.duration.record(age));
    }
}

fn step(gauge: &Gauge, before: u64, now: u64) {
    // Exact: a number of connections is far below 2^53.
    let size = now.abs_diff(before) as f64;
    match now.cmp(&before) {
        std::cmp::Ordering::Greater => guard(|| gauge.increment(size)),
        std::cmp::Ordering::Less => guard(|| gauge.decrement(size)),
        std::cmp::Ordering::Equal => {}
    }
}

fn add(counter: &Counter, more: u64) {
    if more > 0 {
        guard(|| counter.increment(more));
    }
}

/// Calls the recorder. Each call is guarded separately, so that a panic does not prevent other calls.
fn guard<T: Default>(call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::error!(target: "pool_common", "the metrics recorder panicked");
        T::default()
    })
}

/// Describes and registers under the names of a convention.
struct Registry(Metrics);

impl Registry {
    fn name(&self, name: names::Name) -> &'static str {
        name.under(self.0.convention)
    }

    fn labels(&self, metric: &str, extra: Option<(&'static str, &'static str)>) -> Vec<Label> {
        let mut labels = vec![Label::new(names::pool_label(metric), self.0.name.clone())];
        labels.extend(extra.map(|(key, value)| Label::from_static_parts(key, value)));
        labels.extend(
            self.0.labels.iter().map(|(key, value)| Label::new(key.clone(), value.clone())),
        );
        labels
    }

    fn gauge(&self, measure: Measure, extra: Option<(&'static str, &'static str)>) -> Gauge {
        let name = self.name(measure.name);
        let labels = self.labels(name, extra);
        guard(|| {
            describe_gauge!(name, measure.unit, measure.about);
            Some(gauge!(name, labels))
        })
        .unwrap_or_else(Gauge::noop)
    }

    fn counter(&self, measure: Measure, extra: Option<(&'static str, &'static str)>) -> Counter {
        let name = self.name(measure.name);
        let labels = self.labels(name, extra);
        guard(|| {
            describe_counter!(name, measure.unit, measure.about);
            Some(counter!(name, labels))
        })
        .unwrap_or_else(Counter::noop)
    }

    fn histogram(&self, measure: Measure) -> Histogram {
        let name = self.name(measure.name);
        let labels = self.labels(name, None);
        guard(|| {
            describe_histogram!(name, measure.unit, measure.about);
            Some(histogram!(name, labels))
        })
        .unwrap_or_else(Histogram::noop)
    }
}
