//! results.json as it is read again. Every field is optional: files of older and newer versions are
//! read too, and what a file does not say is `None` or empty.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::BenchError;

/// A results file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The version of the format.
    pub schema: Option<u32>,
    /// The program that wrote it.
    #[serde(deserialize_with = "or_default")]
    pub tool: Tool,
    /// The machine.
    #[serde(deserialize_with = "or_default")]
    pub environment: Environment,
    /// The options of the run.
    #[serde(deserialize_with = "or_default")]
    pub options: Options,
    /// The run was interrupted.
    #[serde(deserialize_with = "or_default")]
    pub partial: bool,
    /// One row for each contestant of a table.
    #[serde(deserialize_with = "or_default")]
    pub results: Vec<Row>,
    /// What the reader should know.
    #[serde(deserialize_with = "or_default")]
    pub warnings: Vec<String>,
}

/// The program that wrote a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Its version.
    pub version: Option<String>,
    /// Its commit.
    pub git: Option<String>,
}

/// The machine of a run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// The processor's name.
    pub cpu: Option<String>,
    /// Usable processors.
    pub cores: Option<u64>,
    /// The kernel.
    pub kernel: Option<String>,
    /// The compiler.
    pub rustc: Option<String>,
    /// Who ran where.
    pub placement: Option<String>,
    /// What two runs of the same build differ by on this machine.
    pub noise: Option<Noise>,
}

/// Relative differences between two runs of the same build: 0.02 is 2 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Noise {
    /// Of requests per second.
    pub throughput: Option<f64>,
    /// Of processor time per request.
    pub cpu: Option<f64>,
    /// Of the median latency.
    pub p50: Option<f64>,
    /// Of the 99th percentile.
    pub p99: Option<f64>,
    /// Of the 99.9th percentile.
    pub p999: Option<f64>,
}

/// The options of a run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Seed of the order of contestants.
    pub seed: Option<u64>,
    /// Knobs that were set.
    #[serde(deserialize_with = "or_default")]
    pub set: Vec<String>,
    /// The request of the user's own; `None` for the built-in one.
    pub request: Option<Value>,
    /// The user's server, in words.
    pub target: Option<String>,
    /// One for each table.
    #[serde(deserialize_with = "or_default")]
    pub groups: Vec<Group>,
    /// Which worker this was, as "1/3".
    pub worker: Option<String>,
}

/// What one table measured.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Group {
    /// The protocol.
    pub protocol: Option<String>,
    /// The scenario.
    pub scenario: Option<String>,
    /// Callers that send at the same time.
    pub callers: Option<u64>,
    /// Connections that a contestant may open.
    pub connections: Option<u64>,
    /// Measured time of a turn.
    pub duration_ms: Option<u64>,
    /// Turns of each contestant.
    pub rounds: Option<u64>,
}

/// A contestant's results.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The protocol.
    pub protocol: Option<String>,
    /// The scenario.
    pub scenario: Option<String>,
    /// Who.
    pub contestant: Option<String>,
    /// Which way of the scenario.
    pub variant: Option<String>,
    /// limit, ours or peer.
    pub kind: Option<String>,
    /// Whose limits held.
    pub budget: Option<String>,
    /// closed or open.
    #[serde(rename = "loop")]
    pub load: Option<String>,
    /// The rate of an open loop.
    pub rate_per_s: Option<f64>,
    /// How arrivals were spread.
    pub arrivals: Option<String>,
    /// Callers.
    pub callers: Option<u64>,
    /// Connections allowed.
    pub connections: Option<u64>,
    /// Turns.
    pub rounds: Option<u64>,
    /// Requests that were answered.
    pub requests: Option<u64>,
    /// Requests that failed.
    pub errors: Option<u64>,
    /// Requests that timed out.
    pub timeouts: Option<u64>,
    /// Requests that were refused.
    pub refusals: Option<u64>,
    /// Why it broke.
    pub broke: Option<String>,
    /// Replies in a second.
    pub throughput_per_s: Option<f64>,
    /// Processor time of a request.
    pub cpu_us_per_request: Option<f64>,
    /// From the intended start.
    pub latency_us: Option<Percentiles>,
    /// The figures of each round.
    #[serde(deserialize_with = "or_default")]
    pub rounds_detail: Vec<Round>,
    /// All rounds' histograms.
    pub histograms: Option<Histograms>,
    /// The lowest and highest round.
    pub spread: Option<Value>,
}

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    /// 50 %.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
}

/// The figures of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Its number.
    pub round: Option<u64>,
    /// Requests that were answered.
    pub requests: Option<u64>,
    /// Requests that failed.
    pub errors: Option<u64>,
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
    pub opened: Option<u64>,
    /// Attempts to dial.
    pub dials: Option<u64>,
}

/// Base64 of HdrHistogram V2 (compressed), in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Histograms {
    /// From the intended start.
    pub latency: Option<String>,
    /// From the real start.
    pub service: Option<String>,
    /// To get a connection.
    pub acquire: Option<String>,
}

/// `null` is the same as a field that is missing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Saved {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when it cannot be read or is not such a file.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        Self::parse(&text(path)?).map_err(|why| not_results(path, &why))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let saved: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match saved.schema {
            Some(1) => Ok(saved),
            Some(other) => Err(format!("it has schema {other}, this program reads schema 1")),
            None => Err("it has no schema".to_owned()),
        }
    }
}

/// The text of a results file.
pub(crate) fn text(path: &Path) -> Result<String, BenchError> {
    std::fs::read_to_string(path)
        .map_err(|error| BenchError::usage(format!("cannot read {}: {error}", path.display())))
}

/// A file that is something else.
pub(crate) fn not_results(path: &Path, why: &str) -> BenchError {
    BenchError::usage(format!("{} is not a results.json of poolbench run: {why}", path.display()))
}

impl Row {
    /// What identifies a row in its file, in words.
    pub fn name(&self) -> String {
        let unknown = || "?".to_owned();
        let mut name = [&self.protocol, &self.scenario, &self.contestant]
            .map(|part| part.clone().unwrap_or_else(unknown))
            .join(" ");
        if let Some(variant) = &self.variant {
            name = format!("{name} {variant}");
        }
        name
    }

    /// Whether it is the limit.
    pub fn is_limit(&self) -> bool {
        self.kind.as_deref() == Some("limit")
    }

    /// Everything that failed, and everything that was tried.
    pub fn failed(&self) -> Option<(u64, u64)> {
        let failed = self.errors? + self.timeouts.unwrap_or(0) + self.refusals.unwrap_or(0);
        Some((failed, self.requests? + failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_versions_are_read() {
        let saved = Saved::parse(
            r#"{"schema":1,"new":{},"results":[{"protocol":"resp","contestant":"limit","kind":"limit",
            "latency_us":null,"histograms":null,"rounds_detail":[{"round":1,"p99_us":null}],"novel":[1]},{"rounds_detail":null}]}"#,
        )
        .unwrap();
        assert_eq!(saved.results[0].name(), "resp ? limit");
        assert!(saved.results[0].is_limit());
        assert_eq!(saved.results[0].rounds_detail[0].p99_us, None);
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "[]", "{}", r#"{"schema":2}"#] {
            Saved::parse(text).unwrap_err();
        }
    }
}
