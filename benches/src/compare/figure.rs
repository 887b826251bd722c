//! The figures by which runs are compared.

use serde::{Serialize, Serializer};

use crate::report::html::stats::{LONGEST_RECOVERY, Metric};
use crate::report::saved::{Noise, Percentiles, Round, Row};
use crate::scenario::Figure as Subject;

/// A figure of a row, with one value for each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Requests in a second.
    Throughput,
    /// Processor time of a request.
    Cpu,
    /// Half of the latencies are at or below this.
    P50,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
    /// The figure that ranks the scenario of the row, unless it is one of the others: a count, or a time after
    /// a fault. Zero is a common value of these figures, so the plain difference is taken.
    Count(Subject),
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Figure {
    /// The figures of every row, in the order of tables.
    pub const ALL: [Self; 5] = [Self::Throughput, Self::Cpu, Self::P50, Self::P99, Self::P999];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Cpu => "cpu",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Count(subject) => subject.name(),
        }
    }

    /// The figure of that name.
    pub fn find(name: &str) -> Option<Self> {
        let counts = Subject::ALL.into_iter().map(Self::Count).filter(|one| one.metric().is_some());
        Self::ALL.into_iter().chain(counts).find(|figure| figure.name() == name)
    }

    /// The figures by which a row is compared: those that every row has, and what its scenario is about.
    pub fn of(row: &Row) -> impl Iterator<Item = Self> {
        let own = row.figure.as_deref().and_then(Self::find).filter(|own| own.metric().is_some());
        Self::ALL.into_iter().chain(own)
    }

    /// The figure of the page that a count is; `None` for a figure that every row has.
    pub fn metric(self) -> Option<Metric> {
        let Self::Count(subject) = self else { return None };
        Metric::of_figure(subject.name()).filter(|metric| metric.is_absolute())
    }

    /// A value as tests take it: a count as it is, and any other figure as a logarithm, so that differences are
    /// ratios. A recovery that never came counts as one after the longest window.
    pub fn scaled(self, value: f64) -> Option<f64> {
        match self.metric() {
            Some(_) => Some(value.min(LONGEST_RECOVERY)),
            None => (value > 0.0).then(|| value.ln()),
        }
    }

    /// A difference of scaled values as a change: a plain difference of counts, or else a relative change.
    pub fn change(self, difference: f64) -> f64 {
        if self.metric().is_some() { difference } else { difference.exp_m1() }
    }

    /// A change as a difference of scaled values.
    pub fn difference(self, change: f64) -> f64 {
        if self.metric().is_some() { change } else { change.ln_1p() }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        self == Self::Throughput
    }

    /// Whether it is a time, given in microseconds.
    pub fn is_time(self) -> bool {
        !matches!(self, Self::Throughput | Self::Count(_))
    }

    /// Its value in a round.
    pub fn of_round(self, round: &Round) -> Option<f64> {
        match self {
            Self::Throughput => round.throughput_per_s,
            Self::Cpu => round.cpu_us_per_request,
            Self::P50 => round.p50_us,
            Self::P99 => round.p99_us,
            Self::P999 => round.p999_us,
            Self::Count(_) => return self.metric()?.of_round(round),
        }
        .filter(|value| value.is_finite() && *value > 0.0)
    }

    /// Its value for the whole row.
    pub fn of_row(self, row: &Row) -> Option<f64> {
        let latency = |which: fn(Percentiles) -> Option<f64>| row.latency_us.and_then(which);
        match self {
            Self::Throughput => row.throughput_per_s,
            Self::Cpu => row.cpu_us_per_request,
            Self::P50 => latency(|percentiles| percentiles.p50),
            Self::P99 => latency(|percentiles| percentiles.p99),
            Self::P999 => latency(|percentiles| percentiles.p999),
            Self::Count(_) => self.metric()?.of(row),
        }
    }

    /// A noise with this value for each figure.
    pub fn noises(value: impl Fn(Self) -> Option<f64>) -> Noise {
        Noise {
            throughput: value(Self::Throughput),
            cpu: value(Self::Cpu),
            p50: value(Self::P50),
            p99: value(Self::P99),
            p999: value(Self::P999),
        }
    }

    /// How much two runs of the same build differ, if that was measured.
    pub fn noise(self, noise: &Noise) -> Option<f64> {
        match self {
            Self::Throughput => noise.throughput,
            Self::Cpu => noise.cpu,
            Self::P50 => noise.p50,
            Self::P99 => noise.p99,
            Self::P999 => noise.p999,
            Self::Count(_) => None,
        }
        .filter(|noise| noise.is_finite() && *noise >= 0.0)
    }
}
