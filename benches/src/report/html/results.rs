//! The shape of results.json, as far as the page shows it.
//!
//! Reading is tolerant. Every field may be missing, unknown fields are ignored, and a field of
//! another shape counts as missing: a page can be made of results of another version.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::histogram;

/// results.json.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Results {
    #[serde(deserialize_with = "lenient")]
    pub schema: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub tool: Tool,
    #[serde(deserialize_with = "lenient")]
    pub environment: Value,
    #[serde(deserialize_with = "lenient")]
    pub options: Value,
    #[serde(deserialize_with = "lenient")]
    pub partial: bool,
    #[serde(deserialize_with = "lenient")]
    pub measured_at_unix_s: Option<u64>,
    #[serde(deserialize_with = "each")]
    pub results: Vec<Row>,
    #[serde(deserialize_with = "each")]
    pub warnings: Vec<String>,
}

impl Results {
    /// The noise floor that an A/A run on this machine found, as shares: 0.02 is 2 %.
    pub fn noise(&self) -> Noise {
        serde_json::from_value(self.environment["noise"].clone()).unwrap_or_default()
    }
}

/// The program that measured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Tool {
    #[serde(deserialize_with = "lenient")]
    pub version: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub git: Option<String>,
}

/// What an A/A run found equal contestants to differ by.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Noise {
    #[serde(deserialize_with = "lenient")]
    pub throughput: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub cpu: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p99: Option<f64>,
}

/// One contestant in one comparison.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    #[serde(deserialize_with = "lenient")]
    pub protocol: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub scenario: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub contestant: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub variant: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub category: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub budget: Option<String>,
    #[serde(rename = "loop", deserialize_with = "lenient")]
    pub load: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub arrivals: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub policy: Option<Value>,
    #[serde(deserialize_with = "lenient")]
    pub callers: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub requests: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub errors: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub timeouts: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub refusals: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub errors_by_kind: Option<Kinds>,
    #[serde(deserialize_with = "lenient")]
    pub first_error: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub broke: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub mismatches: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub duplicates: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub leaked: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub opened: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub high_water_open: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub dials: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub peak_dials_per_100ms: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub writes: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub write_duplicates: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub throughput_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub cpu_us_per_request: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub latency_us: Option<Percentiles>,
    #[serde(deserialize_with = "lenient")]
    pub lateness_us: Option<Percentiles>,
    #[serde(deserialize_with = "lenient")]
    pub recovery: Option<Recovery>,
    #[serde(deserialize_with = "each")]
    pub rounds_detail: Vec<Round>,
    #[serde(deserialize_with = "each")]
    pub slots: Vec<Slot>,
    #[serde(deserialize_with = "each")]
    pub events: Vec<Event>,
    #[serde(deserialize_with = "each")]
    pub sweep: Vec<Step>,
    /// The life of single connections. (The number allowed has the same name and is no list.)
    #[serde(deserialize_with = "each")]
    pub connections: Vec<Connection>,
    #[serde(deserialize_with = "lenient")]
    pub histograms: histogram::Encoded,
    #[serde(deserialize_with = "each")]
    pub does_not: Vec<String>,
    /// Histograms that were read from a log, not from `histograms`.
    #[serde(skip)]
    pub read: histogram::Decoded,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    #[serde(deserialize_with = "lenient")]
    pub p50: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p99: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p999: Option<f64>,
}

/// Failures by what went wrong.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Kinds {
    #[serde(deserialize_with = "lenient")]
    pub dial: f64,
    #[serde(deserialize_with = "lenient")]
    pub timeout: f64,
    #[serde(deserialize_with = "lenient")]
    pub refused: f64,
    #[serde(deserialize_with = "lenient")]
    pub broken: f64,
    #[serde(deserialize_with = "lenient")]
    pub wrong: f64,
}

/// The time after the last fault ended.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Recovery {
    #[serde(deserialize_with = "lenient")]
    pub first_success_ms: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub normal_p99_ms: Option<f64>,
}

/// The figures of one round.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Round {
    #[serde(deserialize_with = "lenient")]
    pub round: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub requests: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub errors: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub throughput_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub cpu_us_per_request: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub opened: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub dials: Option<f64>,
}

/// 100 ms of a round.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Slot {
    #[serde(deserialize_with = "lenient")]
    pub t_ms: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub ok: Option<f64>,
    #[serde(deserialize_with = "total")]
    pub errors: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p50_us: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub dials: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub accepted: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub idle: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub leased: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub dialing: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub waiting: Option<f64>,
    #[serde(deserialize_with = "each")]
    pub backends: Vec<f64>,
}

/// A fault on the time axis.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    #[serde(deserialize_with = "lenient")]
    pub fault: Value,
    #[serde(deserialize_with = "lenient")]
    pub label: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub at_ms: Option<f64>,
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

impl Row {
    /// The events that are faults, and no conditions of the whole run.
    pub fn faults(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !event.is_condition())
    }
}

/// One rate of a sweep.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    #[serde(deserialize_with = "lenient")]
    pub rate_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p50_us: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub p99_us: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub throughput_per_s: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub unstarted: Option<f64>,
}

/// The life of one connection: `[{"id": 1, "events": [{"t_ms": 0, "what": "dial"}]}]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Connection {
    #[serde(deserialize_with = "lenient")]
    pub id: Value,
    #[serde(deserialize_with = "each")]
    pub events: Vec<Moment>,
}

/// What happened to a connection: `dial`, `dialed`, `leased`, `idle`, `checked`, `closed` and, after
/// a colon, why.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Moment {
    #[serde(deserialize_with = "lenient")]
    pub t_ms: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub what: Option<String>,
}

/// A field of another shape counts as missing.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// A count, or counts by kind that are added up.
fn total<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let parts = |parts: Vec<&Value>| Some(parts.into_iter().filter_map(Value::as_f64).sum());
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(kinds) => parts(kinds.iter().collect()),
        Value::Object(kinds) => parts(kinds.values().collect()),
        other => other.as_f64(),
    })
}

/// Entries of another shape are left out, the others count.
fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let Value::Array(entries) = Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}
