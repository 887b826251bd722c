//! The parts of a row of results.json.

use std::collections::BTreeMap;

use serde_json::Value;

pub use super::lenient::Total;
use super::lenient::tolerant;

tolerant! {
    /// Percentiles in microseconds.
    #[derive(Copy)]
    pub struct Percentiles {
        /// 50 %.
        pub p50: Option<f64>,
        /// 99 %.
        pub p99: Option<f64>,
        /// 99.9 %.
        pub p999: Option<f64>,
    }

    /// Failures by what went wrong.
    #[derive(Copy)]
    pub struct Kinds {
        /// Dialing.
        pub dial: f64,
        /// Timeouts.
        pub timeout: f64,
        /// Refused by the pool.
        pub refused: f64,
        /// The connection broke.
        pub broken: f64,
        /// A wrong reply.
        pub wrong: f64,
    }

    /// The time after the last fault ended.
    pub struct Recovery {
        /// To the first reply.
        pub first_success_ms: Option<f64>,
        /// Why it is missing.
        pub first_success_missing: Option<String>,
        /// To a p99 below twice its base.
        pub normal_p99_ms: Option<f64>,
        /// Why it is missing.
        pub normal_p99_missing: Option<String>,
    }

    /// The figures of one round.
    pub struct Round {
        /// Its number.
        pub round: Option<u64>,
        /// Requests that were answered.
        pub requests: Option<f64>,
        /// The same with those of the warm-up, over which connections and dials are counted.
        pub replies_all: Option<f64>,
        /// Requests that failed.
        pub errors: Option<f64>,
        /// Replies in a second.
        pub throughput_per_s: Option<f64>,
        /// Processor time of a request.
        pub cpu_us_per_request: Option<f64>,
        /// Half of the latencies are at or below this.
        pub p50_us: Option<f64>,
        /// 99 %.
        pub p99_us: Option<f64>,
        /// 99.9 %.
        pub p999_us: Option<f64>,
        /// Connections opened.
        pub opened: Option<f64>,
        /// Attempts to dial.
        pub dials: Option<f64>,
        /// The most attempts in 100 ms.
        pub peak_dials_per_100ms: Option<f64>,
        /// Arrivals of an open loop that no caller was free for.
        pub unstarted: Option<f64>,
        /// The time after its last fault.
        pub recovery: Option<Recovery>,
        /// The slow backend's share of the replies while it was slow, in percent.
        pub slow_percent: Option<f64>,
        /// Failed requests in a thousand of those that were wanted while new connections worked.
        pub failed_while_up_per_1000: Option<f64>,
    }

    /// 100 ms of a round.
    pub struct Slot {
        /// When it began or happened.
        pub t_ms: Option<f64>,
        /// Replies.
        pub ok: Option<f64>,
        /// Requests that failed.
        pub errors: Total,
        /// Arrivals of an open loop that no caller was free for.
        pub unstarted: Option<f64>,
        /// Half of the latencies are at or below this.
        pub p50_us: Option<f64>,
        /// 99 %.
        pub p99_us: Option<f64>,
        /// Attempts to dial.
        pub dials: Option<f64>,
        /// Connections that the server accepted.
        pub accepted: Option<f64>,
        /// Idle connections.
        pub idle: Option<f64>,
        /// Connections in use.
        pub leased: Option<f64>,
        /// Dials in progress.
        pub dialing: Option<f64>,
        /// Connections that end when the requests they carry have ended.
        pub draining: Option<f64>,
        /// Callers that wait.
        pub waiting: Option<f64>,
        /// Replies of each backend.
        pub backends: Vec<f64>,
    }

    /// A fault on the time axis.
    pub struct Event {
        /// The fault, with or without its settings.
        pub fault: Value,
        /// Words for it.
        pub label: Option<String>,
        /// When it began.
        pub at_ms: Option<f64>,
        /// When it was lifted.
        pub until_ms: Option<f64>,
    }
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

tolerant! {
    /// The place of a row in a ladder of rates.
    #[derive(Copy, PartialEq)]
    pub struct LadderStep {
        /// From 1 on.
        pub index: Option<u64>,
        /// The rate as a share of the limit, where it was given so.
        pub share: Option<f64>,
    }

    /// One rate of a sweep.
    #[derive(Copy, PartialEq)]
    pub struct Step {
        /// The rate that was offered in an open loop.
        pub rate_per_s: Option<f64>,
        /// Half of the latencies are at or below this.
        pub p50_us: Option<f64>,
        /// 99 %.
        pub p99_us: Option<f64>,
        /// Replies in a second.
        pub throughput_per_s: Option<f64>,
        /// Arrivals of an open loop that no caller was free for.
        pub unstarted: Option<f64>,
        /// Arrivals that were scheduled.
        pub wanted: Option<f64>,
        /// Those of them that had their reply in time.
        pub requests: Option<f64>,
    }
}

impl Step {
    /// The share of what was wanted that was served in time.
    pub fn served(&self) -> Option<f64> {
        let counted = self.requests.zip(self.wanted).filter(|(_, wanted)| *wanted > 0.0);
        let rates = self.throughput_per_s.zip(self.rate_per_s).filter(|(_, rate)| *rate > 0.0);
        counted.or(rates).map(|(served, wanted)| served / wanted)
    }
}

tolerant! {
    /// The lives of connections in the last round, as [`crate::run::lanes::Lanes`] writes them.
    pub struct Lanes {
        /// The length of a step.
        pub step_ms: Option<f64>,
        /// All connections, with those that have no lane.
        pub connections: Option<f64>,
        /// Connections that were closed, by cause.
        pub closed: BTreeMap<String, f64>,
        /// Dials that failed or were stopped.
        pub failed_dials: Option<f64>,
        /// The same for each step, one character each.
        pub failed: Option<String>,
        /// Single connections.
        pub lanes: Vec<Lane>,
    }

    /// The life of one connection, in milliseconds since the window began.
    pub struct Lane {
        /// Its number.
        pub id: Option<f64>,
        /// When its dial began.
        pub dial_ms: Option<f64>,
        /// When its dial succeeded.
        pub open_ms: Option<f64>,
        /// When it was closed.
        pub closed_ms: Option<f64>,
        /// Why.
        pub cause: Option<String>,
        /// Times it was lent.
        pub leases: Option<f64>,
        /// The step of the first character of `steps`.
        pub first_step: Option<f64>,
        /// What it did in each step, one character each.
        pub steps: String,
    }
}

impl Lanes {
    /// The length of a step, in milliseconds.
    pub fn step(&self) -> f64 {
        self.step_ms.filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0)
    }
}
