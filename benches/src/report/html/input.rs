//! Reads the files of a run: results.json, or a histogram log.

use std::path::{Path, PathBuf};

use crate::error::BenchError;
use crate::report::histogram;
use crate::report::saved::{Row, Saved};
use crate::report::sweep;

/// A file that was read.
#[derive(Debug)]
pub struct Source {
    /// The name that the page gives it.
    pub name: String,
    /// The text of the file, for the page's own copy.
    pub raw: Raw,
    /// Its results.
    pub results: Saved,
}

/// The unchanged content of a file.
#[derive(Debug)]
pub enum Raw {
    /// A JSON document.
    Json(String),
    /// A histogram log.
    Log(String),
}

impl Source {
    /// Reads the text of a results.json.
    ///
    /// # Errors
    /// What is wrong with it, without the name of the file.
    pub fn parse(name: String, text: String) -> Result<Self, String> {
        let mut results = Saved::parse_any(&text)?;
        sweep::fold(&mut results);
        Ok(Self { name, raw: Raw::Json(text), results })
    }

    /// Reads a histogram log as `poolbench run` writes it.
    fn parse_log(name: String, path: &Path, text: String) -> Result<Self, String> {
        let read = histogram::read_log(&text)?;
        let contestant = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let row = Row { contestant, read, ..Row::default() };
        let results = Saved { results: vec![row], ..Saved::default() };
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

/// A different name for each file: its path with as many folders as needed, or else with a number.
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
        assert!(row.slots.is_empty() && row.lanes.is_none());
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
    fn files_have_different_names() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(names(&paths(&["x/results.json"])), ["results.json"]);
        assert_eq!(
            names(&paths(&["x/results.json", "y/results.json"])),
            ["x/results.json", "y/results.json"]
        );
        assert_eq!(names(&paths(&["a", "a"])), ["a (1)", "a (2)"]);
    }
}
