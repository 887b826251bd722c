//! Reads what a run left behind: results.json, or a histogram log.
//!
//! Reading is tolerant. Every field may be missing, unknown fields are ignored, and a field of
//! another shape counts as missing: a page can be made of results of another version.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::histogram;
use crate::error::BenchError;

/// A file that was read.
#[derive(Debug)]
pub struct Source {
    /// The name that the page gives it.
    pub name: String,
    /// The text of the file, for the page's own copy.
    pub raw: Raw,
    /// What it says.
    pub results: Results,
}

/// The content of a file as it was.
#[derive(Debug)]
pub enum Raw {
    /// A JSON document.
    Json(String),
    /// A histogram log.
    Log(String),
}

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
    /// The noise floor of an A/A run, as shares: 0.02 is 2 %.
    #[serde(deserialize_with = "lenient")]
    pub noise: Noise,
    #[serde(deserialize_with = "each")]
    pub results: Vec<Row>,
    #[serde(deserialize_with = "each")]
    pub warnings: Vec<String>,
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
    #[serde(deserialize_with = "lenient")]
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
    pub open: Option<f64>,
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

/// Entries of another shape are left out, the others count.
fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let Value::Array(entries) = Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

impl Source {
    /// Reads the text of a results.json.
    ///
    /// # Errors
    /// What is wrong with it, without the name of the file.
    pub fn parse(name: String, text: String) -> Result<Self, String> {
        let document: Value =
            serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
        if !document.get("results").is_some_and(Value::is_array) {
            return Err("not a results.json of poolbench: it has no list \"results\"".to_owned());
        }
        let results: Results =
            serde_json::from_value(document).map_err(|error| error.to_string())?;
        match results.schema {
            None | Some(1) => Ok(Self { name, raw: Raw::Json(text), results }),
            Some(other) => Err(format!("schema {other}: this poolbench reads schema 1")),
        }
    }

    /// Reads a histogram log as `poolbench run` writes it.
    fn parse_log(name: String, path: &Path, text: String) -> Result<Self, String> {
        let read = histogram::read_log(&text)?;
        let contestant = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let row = Row { contestant, read, ..Row::default() };
        let results = Results { results: vec![row], ..Results::default() };
        Ok(Self { name, raw: Raw::Log(text), results })
    }
}

/// Reads the files of a command line.
///
/// # Errors
/// [`BenchError::Usage`] in one line for the first file that cannot be used.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<Source>, BenchError> {
    let names = names(paths);
    let mut sources = Vec::new();
    for (path, name) in paths.iter().zip(names) {
        let bad = |why: String| {
            BenchError::usage(
                format!("{}: {}", path.display(), why.escape_debug()).replace("\\\"", "\""),
            )
        };
        let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8 text".to_owned()))?;
        let text = text.trim_start_matches('\u{feff}').to_owned();
        let source = if path.extension().is_some_and(|extension| extension == "hlog") {
            Source::parse_log(name, path, text)
        } else {
            Source::parse(name, text)
        };
        sources.push(source.map_err(bad)?);
    }
    Ok(sources)
}

/// Names that differ: the file's, with as many of its folders as it takes, or else a number.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let ending = |path: &Path, parts: usize| {
        let all: Vec<_> = path.components().collect();
        let start = all.len().saturating_sub(parts);
        all[start..].iter().collect::<PathBuf>().display().to_string()
    };
    let longest = paths.iter().map(|path| path.components().count()).max().unwrap_or(1);
    for parts in 1..=longest {
        let names: Vec<String> = paths.iter().map(|path| ending(path, parts)).collect();
        if (1..names.len()).all(|index| !names[..index].contains(&names[index])) {
            return names;
        }
    }
    paths
        .iter()
        .enumerate()
        .map(|(index, path)| format!("{} ({})", path.display(), index + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_shapes_count_as_missing() {
        let text = r#"{"schema":1,"new":{},"partial":"perhaps","warnings":["a",3],
            "results":[{"contestant":"x","connections":50,"requests":"many","opened":3,
                        "latency_us":{"p50":1.5,"p99":null},"slots":null,"rounds_detail":[{"round":1},7]},
                       17]}"#;
        let source = Source::parse("a".into(), text.into()).unwrap();
        assert_eq!(source.results.results.len(), 1);
        assert_eq!(source.results.warnings, ["a"]);
        let row = &source.results.results[0];
        assert_eq!((row.requests, row.opened), (None, Some(3.0)));
        assert_eq!(row.latency_us.unwrap().p50, Some(1.5));
        assert_eq!(row.rounds_detail.len(), 1);
        assert!(row.slots.is_empty() && row.connections.is_empty());
    }

    #[test]
    fn other_files_are_refused() {
        for (text, words) in [
            ("<html>", "not JSON"),
            ("{}", "results"),
            ("[]", "results"),
            (r#"{"schema":2,"results":[]}"#, "schema 2"),
        ] {
            let why = Source::parse("a".into(), text.into()).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn files_are_named_apart() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(names(&paths(&["x/results.json"])), ["results.json"]);
        assert_eq!(
            names(&paths(&["x/results.json", "y/results.json"])),
            ["x/results.json", "y/results.json"]
        );
        assert_eq!(names(&paths(&["a", "a"])), ["a (1)", "a (2)"]);
    }
}
