//! `poolbench compare BASE NEW`: whether two runs differ, and by how much.

use std::path::{Path, PathBuf};

use crate::error::BenchError;
use crate::report::saved::{self, Row, Saved};
use crate::run::plan::Plan;

mod chances;
pub mod comparable;
pub mod expression;
pub mod figure;
mod left_out;
pub mod power;
mod rounds;
mod table;
#[cfg(test)]
mod tests;
pub mod verdict;

use expression::Expression;
use verdict::Comparison;

/// Where baselines are kept unless `--out` says otherwise.
pub const BASELINES: &str = "target/poolbench/baselines";

/// Rounds of a row without which nothing says how much it scatters.
const LEAST_ROUNDS: u32 = 2;

/// Options of `compare`.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The earlier run: results.json, its directory, or the name of a baseline. Or a directory of several runs,
    /// which were played in turn with those of NEW
    pub base: String,
    /// The later run, or as many of them: the same
    pub new: String,
    /// Ends with exit code 1 when this holds: a change beyond the noise, as 'p99>+5%', or a value of NEW, as
    /// 'p99>2ms' (repeatable; figures: throughput, cpu, p50, p99, p999, errors, and what the scenario is about: failed,
    /// failed-while-up, opened, dials, peak-dials, recovery in ms, slow-share, as 'dials>+10' or 'dials>60')
    #[arg(long, value_name = "EXPR", value_parser = Expression::parse)]
    pub fail_if: Vec<Expression>,
    /// Where baselines are kept
    #[arg(long, value_name = "DIR", default_value = BASELINES)]
    pub baselines: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares two builds; the text for standard output, and whether no `--fail-if` held.
///
/// # Errors
/// [`BenchError::Usage`] when a run cannot be read, or no row can be compared.
pub fn run(args: &CompareArgs) -> Result<(String, bool), BenchError> {
    let base = runs_of(&args.base, &args.baselines)?;
    let new = runs_of(&args.new, &args.baselines)?;
    if base.len() != new.len() {
        return Err(BenchError::usage(format!(
            "{} has {} runs and {} has {}: each run is compared with the one that was played beside it",
            args.base,
            base.len(),
            args.new,
            new.len()
        )));
    }
    let pairs: Vec<(&Saved, &Saved)> = base.iter().zip(&new).collect();
    let comparison = verdict::compare(&pairs).map_err(BenchError::Usage)?;
    let mut failed: Vec<String> = Vec::new();
    for expression in &args.fail_if {
        if let Some(why) = expression.unasked(&comparison) {
            return Err(BenchError::usage(why));
        }
        for line in expression.found_in(&comparison, &new) {
            if !failed.contains(&line) {
                failed.push(line);
            }
        }
    }
    let text =
        if args.json { json(&comparison, &failed) } else { table::render(&comparison, &failed) };
    Ok((text, failed.is_empty()))
}

fn json(comparison: &Comparison, failed: &[String]) -> String {
    let mut value = serde_json::to_value(comparison).expect("a comparison is valid JSON");
    value["failed"] = failed.into();
    format!("{value:#}\n")
}

/// What `run` does with its results at the end: compares them, checks them, keeps them.
#[derive(Debug)]
pub struct Finish {
    results: PathBuf,
    base: Option<PathBuf>,
    require: Vec<Expression>,
    save: Option<String>,
    baselines: PathBuf,
}

impl Finish {
    /// Looks for the baseline.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when the baseline is not there, or nothing of the plan can be compared
    /// with it.
    pub fn new(args: &crate::cli::RunArgs, plan: &Plan) -> Result<Self, BenchError> {
        let baselines = baselines_of(args.out.as_deref());
        let base = args.baseline.as_deref().map(|name| find(name, &baselines)).transpose()?;
        if let Some(path) = &base {
            expect_comparison(plan, &Saved::read(path)?).map_err(BenchError::Usage)?;
        }
        Ok(Self {
            results: plan.out.join("results.json"),
            base,
            require: args.require.clone(),
            save: args.save_baseline.clone(),
            baselines,
        })
    }

    /// The words about it, and whether every requirement was met. A run that was interrupted or not
    /// sound is not kept as a baseline.
    ///
    /// # Errors
    /// [`BenchError`] when files cannot be read or written, or no row can be compared.
    pub fn apply(&self, outcome: crate::run::Outcome) -> Result<(String, bool), BenchError> {
        let mut text = String::new();
        let missed: Vec<String> = match self.require.as_slice() {
            [] => Vec::new(),
            all => {
                let saved = Saved::read(&self.results)?;
                let mut missed: Vec<String> = Vec::new();
                // A requirement that was given twice is missed once.
                for line in all.iter().flat_map(|one| one.missed_in(&saved)) {
                    if !missed.contains(&line) {
                        missed.push(line);
                    }
                }
                missed
            }
        };
        let mut passed = missed.is_empty();
        for miss in &missed {
            text.push_str(&format!("REQUIREMENT MISSED {miss}\n"));
        }
        if let Some(base) = &self.base {
            let (base, new) = (Saved::read(base)?, Saved::read(&self.results)?);
            match verdict::compare(&[(&base, &new)]) {
                Ok(comparison) => text.push_str(&table::render(&comparison, &[])),
                // It was measured, so the command line was in order.
                Err(why) => {
                    text.push_str(&format!("NOT COMPARED with the baseline: {why}\n"));
                    passed = false;
                }
            }
        }
        match &self.save {
            Some(name) if outcome == crate::run::Outcome::Done => {
                let file = save(&self.results, &self.baselines, name)?;
                text.push_str(&format!("baseline: {}\n", file.display()));
            }
            Some(name) => text.push_str(&format!(
                "baseline '{name}' not kept: the run was not whole and sound\n"
            )),
            None => {}
        }
        Ok((text, passed))
    }
}

/// Whether something of the plan has a partner in the baseline, with rounds enough for both.
fn expect_comparison(plan: &Plan, base: &Saved) -> Result<(), String> {
    if plan.groups.iter().all(|group| group.rounds < LEAST_ROUNDS) {
        return Err(format!(
            "--baseline: this run has 1 round, and a comparison needs {LEAST_ROUNDS} or more (--rounds)"
        ));
    }
    if base.results.iter().all(|row| row.rounds_detail.len() < LEAST_ROUNDS as usize) {
        return Err(format!(
            "--baseline: the baseline has no row with {LEAST_ROUNDS} rounds or more; make one with --rounds {LEAST_ROUNDS} --save-baseline NAME"
        ));
    }
    let planned = |row: &Row| {
        plan.groups.iter().any(|group| {
            let same = |part: &Option<String>, name: &str| part.as_deref() == Some(name);
            same(&row.protocol, group.protocol.name())
                && same(&row.scenario, group.scenario.name)
                && group.entries.iter().any(|entry| same(&row.contestant, entry.contestant.name))
        })
    };
    match base.results.iter().any(planned) {
        true => Ok(()),
        false => Err(
            "--baseline: the baseline has no contestant of this run in the same scenario and protocol"
                .to_owned(),
        ),
    }
}

/// Where the baselines of runs with this `--out` are kept.
pub fn baselines_of(out: Option<&Path>) -> PathBuf {
    match out.and_then(Path::parent) {
        Some(parent) => parent.join("baselines"),
        None => PathBuf::from(BASELINES),
    }
}

/// The file that a word of the command line means.
///
/// # Errors
/// [`BenchError::Usage`] with the baselines that there are.
pub fn find(word: &str, baselines: &Path) -> Result<PathBuf, BenchError> {
    let named = is_name(word).then(|| baselines.join(word).join("results.json"));
    if let Some(path) = named.filter(|path| path.is_file()) {
        return Ok(path);
    }
    let path = PathBuf::from(word);
    if path.is_dir() || path.is_file() {
        return Ok(saved::file_of(&path));
    }
    let mut known: Vec<String> = std::fs::read_dir(baselines)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    known.sort();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(BenchError::usage(format!(
        "'{word}' is neither a file, a directory with results.json, nor a baseline in {} (there: {known}; poolbench run --save-baseline NAME makes one)",
        baselines.display()
    )))
}

/// The runs that a word of the command line means, in the order in which they were played: one, or those
/// in the directories of a directory.
fn runs_of(word: &str, baselines: &Path) -> Result<Vec<Saved>, BenchError> {
    let several =
        several(Path::new(word)).filter(|_| find(word, baselines).is_ok_and(|one| !one.is_file()));
    let Some(files) = several else { return Ok(vec![Saved::read(&find(word, baselines)?)?]) };
    let mut runs = files.iter().map(|file| Saved::read(file)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by_key(|run| run.measured_at_unix_s);
    Ok(runs)
}

/// The results in the directories of a directory, by name; `None` where there are none.
fn several(directory: &Path) -> Option<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).ok()?;
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        Some(entry.ok()?.path().join("results.json")).filter(|file| file.is_file())
    };
    let mut files: Vec<PathBuf> = entries.filter_map(file).collect();
    files.sort();
    (!files.is_empty()).then_some(files)
}

/// Whether a word can be the name of a baseline: it becomes the name of a directory.
pub fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !word.is_empty() && !word.starts_with('.') && word.chars().all(plain)
}

/// Reads the name of a baseline.
///
/// # Errors
/// The characters that a name may have.
pub fn parse_name(word: &str) -> Result<String, String> {
    if is_name(word) {
        return Ok(word.to_owned());
    }
    Err("a name consists of letters, digits, '-', '_' and '.', and does not begin with '.'"
        .to_owned())
}

/// Keeps the results of a run as a baseline.
///
/// # Errors
/// [`BenchError::Io`] when it cannot be written.
pub fn save(results: &Path, baselines: &Path, name: &str) -> Result<PathBuf, BenchError> {
    let directory = baselines.join(name);
    let file = directory.join("results.json");
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::copy(results, &file))
        .map_err(BenchError::io(format!("writing the baseline {}", file.display())))?;
    Ok(file)
}
