//! The parts of a row of results.json.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::lenient::{each, lenient, total};

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    /// 50 %.
    #[serde(deserialize_with = "lenient")]
    pub p50: Option<f64>,
    /// 99 %.
    #[serde(deserialize_with = "lenient")]
    pub p99: Option<f64>,
    /// 99.9 %.
    #[serde(deserialize_with = "lenient")]
    pub p999: Option<f64>,
}

/// Failures by what went wrong.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Kinds {
    /// Dialing.
    #[serde(deserialize_with = "lenient")]
    pub dial: f64,
    /// Timeouts.
    #[serde(deserialize_with = "lenient")]
    pub timeout: f64,
    /// Refused by the pool.
    #[serde(deserialize_with = "lenient")]
    pub refused: f64,
    /// The connection broke.
    #[serde(deserialize_with = "lenient")]
    pub broken: f64,
    /// A wrong reply.
    #[serde(deserialize_with = "lenient")]
    pub wrong: f64,
}

/// The time after the last fault ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// To the first reply.
    #[serde(deserialize_with = "lenient")]
    pub first_success_ms: Option<f64>,
    /// Why it is missing.
    #[serde(deserialize_with = "lenient")]
    pub first_success_missing: Option<String>,
    /// To a p99 below twice its base.
    #[serde(deserialize_with = "lenient")]
    pub normal_p99_ms: Option<f64>,
    /// Why it is missing.
    #[serde(deserialize_with = "lenient")]
    pub normal_p99_missing: Option<String>,
}

/// The figures of one round.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Its number.
    #[serde(deserialize_with = "lenient")]
    pub round: Option<u64>,
    /// Requests that were answered.
    #[serde(deserialize_with = "lenient")]
    pub requests: Option<f64>,
    /// The same with those of the warm-up, over which connections and dials are counted.
    #[serde(deserialize_with = "lenient")]
    pub replies_all: Option<f64>,
    /// Requests that failed.
    #[serde(deserialize_with = "lenient")]
    pub errors: Option<f64>,
    /// Replies in a second.
    #[serde(deserialize_with = "lenient")]
    pub throughput_per_s: Option<f64>,
    /// Processor time of a request.
    #[serde(deserialize_with = "lenient")]
    pub cpu_us_per_request: Option<f64>,
    /// Half of the latencies are at or below this.
    #[serde(deserialize_with = "lenient")]
    pub p50_us: Option<f64>,
    /// 99 %.
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    /// 99.9 %.
    #[serde(deserialize_with = "lenient")]
    pub p999_us: Option<f64>,
    /// Connections opened.
    #[serde(deserialize_with = "lenient")]
    pub opened: Option<f64>,
    /// Attempts to dial.
    #[serde(deserialize_with = "lenient")]
    pub dials: Option<f64>,
    /// The most attempts in 100 ms.
    #[serde(deserialize_with = "lenient")]
    pub peak_dials_per_100ms: Option<f64>,
    /// Arrivals of an open loop that no caller was free for.
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
    /// The time after its last fault.
    #[serde(deserialize_with = "lenient")]
    pub recovery: Option<Recovery>,
    /// The slow backend's share of the replies while it was slow, in percent.
    #[serde(deserialize_with = "lenient")]
    pub slow_percent: Option<f64>,
}

/// 100 ms of a round.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// When it began or happened.
    #[serde(deserialize_with = "lenient")]
    pub t_ms: Option<f64>,
    /// Replies.
    #[serde(deserialize_with = "lenient")]
    pub ok: Option<f64>,
    /// Requests that failed.
    #[serde(deserialize_with = "total")]
    pub errors: Option<f64>,
    /// Arrivals of an open loop that no caller was free for.
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
    /// Half of the latencies are at or below this.
    #[serde(deserialize_with = "lenient")]
    pub p50_us: Option<f64>,
    /// 99 %.
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    /// Attempts to dial.
    #[serde(deserialize_with = "lenient")]
    pub dials: Option<f64>,
    /// Connections that the server accepted.
    #[serde(deserialize_with = "lenient")]
    pub accepted: Option<f64>,
    /// Idle connections.
    #[serde(deserialize_with = "lenient")]
    pub idle: Option<f64>,
    /// Connections in use.
    #[serde(deserialize_with = "lenient")]
    pub leased: Option<f64>,
    /// Dials in progress.
    #[serde(deserialize_with = "lenient")]
    pub dialing: Option<f64>,
    /// Callers that wait.
    #[serde(deserialize_with = "lenient")]
    pub waiting: Option<f64>,
    /// Replies of each backend.
    #[serde(deserialize_with = "each")]
    pub backends: Vec<f64>,
}

/// A fault on the time axis.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The fault, with or without its settings.
    #[serde(deserialize_with = "lenient")]
    pub fault: Value,
    /// Words for it.
    #[serde(deserialize_with = "lenient")]
    pub label: Option<String>,
    /// When it began.
    #[serde(deserialize_with = "lenient")]
    pub at_ms: Option<f64>,
    /// When it was lifted.
    #[serde(deserialize_with = "lenient")]
    pub until_ms: Option<f64>,
}

impl Event {
    /// The name of the fault, which stands alone or with its settings.
    pub fn kind(&self) -> Option<&str> {
        self.fault.as_str().or_else(|| self.fault.get("fault")?.as_str())
    }

    /// Whether it happened at once and has no end.
    pub fn is_moment(&self) -> bool {
        self.kind().is_none_or(|kind| matches!(kind, "cut" | "announce"))
    }

    /// Words for it.
    pub fn name(&self) -> &str {
        self.label.as_deref().or_else(|| self.kind()).unwrap_or("fault")
    }

    /// Whether it held from the beginning to the end: a condition of the run and no fault in it.
    pub fn is_condition(&self) -> bool {
        !self.is_moment() && self.until_ms.is_none() && self.at_ms.is_some_and(|at| at <= 0.0)
    }
}

/// The place of a row in a ladder of rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LadderStep {
    /// From 1 on.
    #[serde(deserialize_with = "lenient")]
    pub index: Option<u64>,
    /// The rate as a share of the limit, where it was given so.
    #[serde(deserialize_with = "lenient")]
    pub share: Option<f64>,
}

/// One rate of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The rate that was offered in an open loop.
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    /// Half of the latencies are at or below this.
    #[serde(deserialize_with = "lenient")]
    pub p50_us: Option<f64>,
    /// 99 %.
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    /// Replies in a second.
    #[serde(deserialize_with = "lenient")]
    pub throughput_per_s: Option<f64>,
    /// Arrivals of an open loop that no caller was free for.
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
    /// Arrivals that were scheduled.
    #[serde(deserialize_with = "lenient")]
    pub wanted: Option<f64>,
    /// Those of them that had their reply in time.
    #[serde(deserialize_with = "lenient")]
    pub requests: Option<f64>,
}

impl Step {
    /// The share of what was wanted that was served in time.
    pub fn served(&self) -> Option<f64> {
        let counted = self.requests.zip(self.wanted).filter(|(_, wanted)| *wanted > 0.0);
        let rates = self.throughput_per_s.zip(self.rate_per_s).filter(|(_, rate)| *rate > 0.0);
        counted.or(rates).map(|(served, wanted)| served / wanted)
    }
}

/// The lives of connections in the last round, as [`crate::run::lanes::Lanes`] writes them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Lanes {
    /// The length of a step.
    #[serde(deserialize_with = "lenient")]
    pub step_ms: Option<f64>,
    /// All connections, with those that have no lane.
    #[serde(deserialize_with = "lenient")]
    pub connections: Option<f64>,
    /// Connections that were closed, by cause.
    #[serde(deserialize_with = "lenient")]
    pub closed: BTreeMap<String, f64>,
    /// Dials that failed or were stopped.
    #[serde(deserialize_with = "lenient")]
    pub failed_dials: Option<f64>,
    /// The same for each step, one character each.
    #[serde(deserialize_with = "lenient")]
    pub failed: Option<String>,
    /// Single connections.
    #[serde(deserialize_with = "each")]
    pub lanes: Vec<Lane>,
}

impl Lanes {
    /// The length of a step, in milliseconds.
    pub fn step(&self) -> f64 {
        self.step_ms.filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0)
    }
}

/// The life of one connection, in milliseconds since the window began.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Lane {
    /// Its number.
    #[serde(deserialize_with = "lenient")]
    pub id: Option<f64>,
    /// When its dial began.
    #[serde(deserialize_with = "lenient")]
    pub dial_ms: Option<f64>,
    /// When its dial succeeded.
    #[serde(deserialize_with = "lenient")]
    pub open_ms: Option<f64>,
    /// When it was closed.
    #[serde(deserialize_with = "lenient")]
    pub closed_ms: Option<f64>,
    /// Why.
    #[serde(deserialize_with = "lenient")]
    pub cause: Option<String>,
    /// Times it was lent.
    #[serde(deserialize_with = "lenient")]
    pub leases: Option<f64>,
    /// The step of the first character of `steps`.
    #[serde(deserialize_with = "lenient")]
    pub first_step: Option<f64>,
    /// What it did in each step, one character each.
    #[serde(deserialize_with = "lenient")]
    pub steps: String,
}
