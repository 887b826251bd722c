//! A row of results.json: what one contestant measured in one comparison.

use serde_json::Value;

use super::parts::{Event, Kinds, LadderStep, Lanes, Percentiles, Recovery, Round, Slot, Step};
use super::{Noise, lenient::tolerant};
use crate::report::histogram;
use crate::run::events::LATE_MS;

tolerant! {
    /// One contestant in one comparison.
    pub struct Row {
        /// The protocol.
        pub protocol: Option<String>,
        /// The scenario.
        pub scenario: Option<String>,
        /// Its name.
        pub contestant: Option<String>,
        /// The figure that the scenario is about.
        pub figure: Option<String>,
        /// What happens in the scenario.
        pub about: Option<String>,
        /// What the scenario should show.
        pub teaches: Option<String>,
        /// Which way of the scenario.
        pub variant: Option<String>,
        /// limit, ours or peer.
        pub kind: Option<String>,
        /// Of a rival: as shipped or tuned.
        pub category: Option<String>,
        /// Whose limits of connections were in force: same or own.
        pub budget: Option<String>,
        /// closed or open.
        #[serde(rename = "loop")]
        pub load: Option<String>,
        /// The rate that was offered in an open loop.
        pub rate_per_s: Option<f64>,
        /// Its place in a ladder of rates.
        pub step: Option<LadderStep>,
        /// Arrivals that an open loop had scheduled.
        pub wanted: Option<f64>,
        /// How arrivals were spread.
        pub arrivals: Option<String>,
        /// The policy of a profile.
        pub policy: Option<Value>,
        /// Rounds that were played.
        pub rounds: Option<f64>,
        /// Callers that sent at the same time.
        pub callers: Option<f64>,
        /// Requests that were answered.
        pub requests: Option<f64>,
        /// The same with those of the warm-up, over which connections and dials are counted.
        pub replies_all: Option<f64>,
        /// Requests that failed.
        pub errors: Option<f64>,
        /// Requests that timed out.
        pub timeouts: Option<f64>,
        /// Requests that were refused.
        pub refusals: Option<f64>,
        /// Arrivals of an open loop that no caller was free for.
        pub unstarted: Option<f64>,
        /// The same by what went wrong.
        pub errors_by_kind: Option<Kinds>,
        /// The first failure.
        pub first_error: Option<String>,
        /// Why there is less of it than planned.
        pub partial: Option<String>,
        /// Why the contestant broke.
        pub broke: Option<String>,
        /// How it ran out of time in a whole round, or as a limit.
        pub overloaded: Option<String>,
        /// Replies that were another request's.
        pub mismatches: Option<f64>,
        /// Requests that the server executed twice.
        pub duplicates: Option<f64>,
        /// Sockets left open.
        pub leaked: Option<f64>,
        /// Connections opened.
        pub opened: Option<f64>,
        /// The most sockets open at once.
        pub high_water_open: Option<f64>,
        /// Attempts to dial.
        pub dials: Option<f64>,
        /// The most attempts in 100 ms.
        pub peak_dials_per_100ms: Option<f64>,
        /// Requests that must not run twice.
        pub writes: Option<f64>,
        /// Requests that must not run twice and did.
        pub write_duplicates: Option<f64>,
        /// Replies in a second.
        pub throughput_per_s: Option<f64>,
        /// Processor time of a request.
        pub cpu_us_per_request: Option<f64>,
        /// From the intended start.
        pub latency_us: Option<Percentiles>,
        /// How late the schedule was.
        pub lateness_us: Option<Percentiles>,
        /// The time after the last fault.
        pub recovery: Option<Recovery>,
        /// How much equal contestants of its table differed.
        pub noise: Option<Noise>,
        /// The figures of each round.
        pub rounds_detail: Vec<Round>,
        /// The last round in steps.
        pub slots: Vec<Slot>,
        /// The faults.
        pub events: Vec<Event>,
        /// By how much a fault of any round came later than planned, at most.
        pub faults_late_ms: Option<f64>,
        /// The rates of a sweep.
        pub sweep: Vec<Step>,
        /// The lives of connections in the last round.
        pub lanes: Option<Lanes>,
        /// Of all rounds.
        pub histograms: histogram::Encoded,
        /// Promises that a rival does not make.
        pub does_not: Vec<String>,
        /// Histograms that were read from a log, not from `histograms`.
        #[serde(skip)]
        pub read: histogram::Decoded,
    }
}

impl Row {
    /// The words that identify a row in its file.
    pub fn name(&self) -> String {
        let parts = [&self.protocol, &self.scenario, &self.contestant];
        let mut words: Vec<&str> = parts.map(|part| part.as_deref().unwrap_or("?")).to_vec();
        words.extend(self.variant.as_deref());
        let name = words.join(" ");
        match self.step.and_then(|step| step.index) {
            Some(index) => format!("{name}, step {index}"),
            None => name,
        }
    }

    /// Whether both are steps of one ladder.
    pub fn is_step_beside(&self, other: &Self) -> bool {
        let ladder = |row: &Self| {
            let parts = [&row.protocol, &row.scenario, &row.contestant, &row.variant, &row.budget];
            parts.map(Clone::clone)
        };
        self.step.is_some() && other.step.is_some() && ladder(self) == ladder(other)
    }

    /// The row as one step of its ladder.
    pub fn as_step(&self) -> Step {
        let latency = self.latency_us.unwrap_or_default();
        Step {
            rate_per_s: self.rate_per_s,
            p50_us: latency.p50,
            p99_us: latency.p99,
            throughput_per_s: self.throughput_per_s,
            unstarted: self.unstarted,
            wanted: self.wanted,
            requests: self.requests,
        }
    }

    /// Whether it is the limit or no-pool, the two ends of the scale.
    pub fn is_limit(&self) -> bool {
        self.kind.as_deref() == Some("limit")
    }

    /// A count of all rounds as one of a round: the mean.
    pub fn per_round(&self, count: f64) -> f64 {
        count / self.rounds.unwrap_or(1.0).max(1.0)
    }

    /// Requests without a reply, whatever went wrong.
    pub fn failed(&self) -> Option<f64> {
        match self.errors_by_kind {
            Some(kinds) => {
                Some(kinds.dial + kinds.timeout + kinds.refused + kinds.broken + kinds.wrong)
            }
            None => {
                Some(self.errors? + self.timeouts.unwrap_or(0.0) + self.refusals.unwrap_or(0.0))
            }
        }
    }

    /// Whether a fault came so late that it was not the fault that the others met.
    pub fn has_late_faults(&self) -> bool {
        self.faults_late_ms.is_some_and(|late| late > LATE_MS)
    }

    /// Whether one request in a hundred was sent so late that the client had no processor: the figures of
    /// the row are then the machine's. The bound is that of late faults, and a tenth of the time that callers
    /// of the fault scenarios wait.
    pub fn has_late_requests(&self) -> bool {
        let p99 = self.lateness_us.and_then(|late| late.p99);
        p99.is_some_and(|p99| p99 > LATE_MS * 1000.0)
    }

    /// The events that are faults, without conditions of the whole run.
    pub fn faults(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !event.is_condition())
    }
}
