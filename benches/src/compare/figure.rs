//! The figures by which runs are compared.

use crate::report::saved::{Noise, Percentiles, Round, Row};

/// A figure of a row, with one value for each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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
}

impl Figure {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 5] = [Self::Throughput, Self::Cpu, Self::P50, Self::P99, Self::P999];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Cpu => "cpu",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p999",
        }
    }

    /// The figure of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.name() == name)
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        self == Self::Throughput
    }

    /// Whether it is a time, given in microseconds.
    pub fn is_time(self) -> bool {
        self != Self::Throughput
    }

    /// Its value in a round.
    pub fn of_round(self, round: &Round) -> Option<f64> {
        match self {
            Self::Throughput => round.throughput_per_s,
            Self::Cpu => round.cpu_us_per_request,
            Self::P50 => round.p50_us,
            Self::P99 => round.p99_us,
            Self::P999 => round.p999_us,
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
        }
        .filter(|noise| noise.is_finite() && *noise >= 0.0)
    }
}
