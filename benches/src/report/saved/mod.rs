//! results.json as it is read again, by the page, by `compare` and by `merge`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;

mod lenient;
mod parts;
mod request;
mod row;

use lenient::tolerant;
pub use parts::{
    Event, Kinds, LadderStep, Lane, Lanes, Percentiles, Recovery, Round, Slot, Step, Total,
};
pub use request::Request;
pub use row::Row;

tolerant! {
    /// A results file.
    pub struct Saved {
        /// The version of the format.
        pub schema: Option<u64>,
        /// The program that wrote it.
        pub tool: Tool,
        /// The machine, as it stands there. See [`Saved::machine`].
        pub environment: Value,
        /// The options, as they stand there. See [`Saved::settings`].
        pub options: Value,
        /// The run was interrupted.
        pub partial: bool,
        /// When the run began, in seconds since 1970.
        pub measured_at_unix_s: Option<u64>,
        /// One row for each contestant of a table.
        pub results: Vec<Row>,
        /// What the reader should know.
        pub warnings: Vec<String>,
    }

    /// The program that wrote a file.
    #[derive(PartialEq)]
    pub struct Tool {
        /// Its version.
        pub version: Option<String>,
        /// Its commit.
        pub git: Option<String>,
        /// debug or release.
        pub build: Option<String>,
    }

    /// The parts of a machine's description that two runs are compared by.
    #[derive(PartialEq)]
    pub struct Machine {
        /// The processor's name.
        pub cpu: Option<String>,
        /// Usable processors.
        pub cores: Option<u64>,
        /// The kernel.
        pub kernel: Option<String>,
        /// The compiler.
        pub rustc: Option<String>,
        /// The processors of the client and the server.
        pub placement: Option<String>,
    }

    /// The measured difference of equal contestants or runs, as a share: 0.02 is 2 %.
    #[derive(Copy, PartialEq, Serialize)]
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
}

impl Noise {
    /// The larger of two, figure by figure.
    #[must_use]
    pub fn widest(self, other: Self) -> Self {
        let wider = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Self {
            throughput: wider(self.throughput, other.throughput),
            cpu: wider(self.cpu, other.cpu),
            p50: wider(self.p50, other.p50),
            p99: wider(self.p99, other.p99),
            p999: wider(self.p999, other.p999),
        }
    }
}

tolerant! {
    /// The options that two runs are compared by.
    pub struct Settings {
        /// Knobs that were set.
        pub set: Vec<String>,
        /// The request of the user's own; `None` for the built-in one.
        pub request: Option<Request>,
        /// The seed of the order of turns and of faults.
        pub seed: Option<u64>,
        /// Models of the embedded servers.
        pub models: Vec<String>,
        /// The user's server, in words.
        pub target: Option<String>,
        /// One for each table.
        pub groups: Vec<Group>,
    }

    /// What one table measured.
    pub struct Group {
        /// The protocol.
        pub protocol: Option<String>,
        /// The scenario.
        pub scenario: Option<String>,
        /// Connections that a contestant may open.
        pub connections: Option<u64>,
        /// The rate that was asked for, as 5000/s or as a share of the limit, as 60%.
        pub rate: Option<String>,
        /// Measured time of a turn.
        pub duration_ms: Option<u64>,
    }
}

impl Saved {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when it cannot be read or is not such a file.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        Self::parse(&text(path)?).map_err(|why| not_results(path, &why))
    }

    /// Reads the text of a file that says its schema.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let saved = Self::parse_any(text)?;
        saved.schema.ok_or("it has no schema")?;
        Ok(saved)
    }

    /// The same for a file that need not say its schema, as others make them for the page.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_any(text: &str) -> Result<Self, String> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        if !document.get("results").is_some_and(Value::is_array) {
            return Err("not a results.json of poolbench: it has no list \"results\"".to_owned());
        }
        let saved: Self = serde_json::from_value(document).map_err(|error| error.to_string())?;
        match saved.schema {
            None | Some(1) => Ok(saved),
            Some(other) => Err(format!("schema {other}: this poolbench reads schema 1")),
        }
    }

    /// The machine of the run.
    pub fn machine(&self) -> Machine {
        Machine::deserialize(&self.environment).unwrap_or_default()
    }

    /// The options of the run.
    pub fn settings(&self) -> Settings {
        Settings::deserialize(&self.options).unwrap_or_default()
    }

    /// What equal contestants differed by within the run; `None` where that was not measured.
    pub fn noise(&self) -> Option<Noise> {
        noise(&self.environment["noise"])
    }

    /// What a calibration found equal contestants to differ by from run to run on this machine.
    pub fn noise_between_runs(&self) -> Option<Noise> {
        noise(&self.environment["calibration"]["between_runs"])
    }
}

fn noise(value: &Value) -> Option<Noise> {
    let noise = Noise::deserialize(value).unwrap_or_default();
    (noise != Noise::default()).then_some(noise)
}

/// The file that a path of the command line means: the results in the directory of a run, or the file itself.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("results.json") } else { path.to_owned() }
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
        assert_eq!(saved.noise(), None);
        assert_eq!(saved.machine(), Machine::default());
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "[]", "{}", r#"{"schema":2,"results":[]}"#, r#"{"results":[]}"#] {
            Saved::parse(text).unwrap_err();
        }
        Saved::parse_any(r#"{"results":[]}"#).unwrap();
    }

    #[test]
    fn what_has_an_odd_shape_counts_as_missing() {
        let saved = Saved::parse(
            r#"{"schema":1,"environment":{"cpu":3,"cores":2,"noise":{"cpu":0.02,"p99":"low"}},
            "options":{"set":["a=b",7],"groups":[{"connections":"many","duration_ms":5}]},"results":[]}"#,
        )
        .unwrap();
        assert_eq!(saved.machine(), Machine { cores: Some(2), ..Machine::default() });
        assert_eq!(saved.noise(), Some(Noise { cpu: Some(0.02), ..Noise::default() }));
        let settings = saved.settings();
        assert_eq!(settings.set, ["a=b"]);
        assert_eq!(settings.groups[0].connections, None);
        assert_eq!(settings.groups[0].duration_ms, Some(5));
    }
}
