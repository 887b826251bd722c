//! `poolbench merge FILE...`: the results of several workers in one file. Histograms are merged, counts
//! are added, and percentiles are taken from the merged histograms, never averaged.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::compare::comparable;
use crate::error::BenchError;
use crate::measure::Percentiles;
use crate::report::histogram::{decode, encode};
use crate::report::output::{refuse_to_overwrite, write_file};
use crate::report::saved::{self, Saved};

mod over_time;

/// Options of `merge`.
#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// results.json of each worker, or its directory
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the merged results go
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Fields that must be equal in rows that are merged. `comparable` checks the load.
const SAME: [&str; 5] = ["kind", "variant", "policy", "connections", "step"];
/// Counts, and figures of a second: those of all workers together.
const ADDED: [&str; 21] = [
    "callers",
    "rate_per_s",
    "requests",
    "replies_all",
    "errors",
    "timeouts",
    "refusals",
    "mismatches",
    "duplicates",
    "leaked",
    "opened",
    "waits",
    "throughput_per_s",
    "wanted",
    "unstarted",
    "cancelled",
    "writes",
    "write_duplicates",
    "dials",
    "peak_dials_per_100ms",
    "high_water_open",
];
/// Histograms, and the percentiles that are made of them.
const HISTOGRAMS: [(&str, &str); 3] =
    [("latency", "latency_us"), ("service", "service_us"), ("acquire", "acquire_us")];
/// Belongs to one worker and cannot be added.
const DROPPED: [&str; 9] = [
    "vs_limit",
    "spread",
    "timeline",
    "lanes",
    "events",
    "recovery",
    "lateness_us",
    "reused_ratio",
    "noise",
];

/// Merges files and writes the result.
///
/// # Errors
/// [`BenchError::Usage`] when a file cannot be read, does not belong to the others, or is `--out` itself,
/// [`BenchError::Io`] when the result cannot be written.
pub fn run(args: &MergeArgs) -> Result<String, BenchError> {
    let files: Vec<PathBuf> = args.files.iter().map(|file| saved::file_of(file)).collect();
    refuse_to_overwrite(&args.out, &files)?;
    let mut documents = Vec::new();
    for path in &files {
        let text = saved::text(path)?;
        Saved::parse(&text).map_err(|why| saved::not_results(path, &why))?;
        let value = serde_json::from_str(&text).expect("it was parsed before");
        documents.push((path.display().to_string(), value));
    }
    let merged = merge(documents).map_err(BenchError::Usage)?;
    write_file(&args.out, &format!("{merged:#}\n"))?;
    Ok(format!("merged {} files: {}\n", args.files.len(), args.out.display()))
}

/// Merges documents, each with a name for messages.
///
/// # Errors
/// What does not belong together.
fn merge(documents: Vec<(String, Value)>) -> Result<Value, String> {
    let mut documents = documents.into_iter();
    let (first_name, mut merged) = documents.next().ok_or("there is nothing to merge")?;
    let first = merged.clone();
    let mut warnings = warnings_of(&first_name, &merged);
    let mut workers = vec![merged["options"]["worker"].clone()];
    let mut runs = vec![identity_of_run(&merged)];
    for (name, other) in documents {
        let worker = other["options"]["worker"].clone();
        let run = identity_of_run(&other);
        if runs.contains(&run) {
            return Err(format!(
                "{name}: this run is there twice: merge adds up what several workers did at a time"
            ));
        }
        runs.push(run);
        if !worker.is_null() && workers.contains(&worker) {
            return Err(format!("{name}: worker {worker} is there twice"));
        }
        let of = |worker: &Value| worker.as_str()?.split_once('/').map(|(_, of)| of.to_owned());
        if of(&worker) != of(&workers[0]) {
            return Err(format!(
                "{name} is worker {worker} and {first_name} is worker {}: they are of different runs",
                workers[0]
            ));
        }
        workers.push(worker);
        if merged["options"]["groups"].as_array().map(Vec::len)
            != other["options"]["groups"].as_array().map(Vec::len)
        {
            return Err(format!("{name} measured other scenarios than {first_name}"));
        }
        for (left, right) in groups(&merged).iter().zip(groups(&other)) {
            for field in ["protocol", "scenario", "rounds"] {
                if left[field] != right[field] {
                    return Err(format!(
                        "{name} does not belong to {first_name}: {field}: {} and {}",
                        right[field], left[field]
                    ));
                }
            }
        }
        warnings.extend(check_load((&first_name, &first), (&name, &other))?);
        let partial = [&merged, &other].iter().any(|file| file["partial"] == json!(true));
        merged["partial"] = partial.into();
        warnings.extend(warnings_of(&name, &other));
        let rows = merged["results"].as_array_mut().ok_or("a file has no results")?;
        let others = other["results"].as_array().ok_or("a file has no results")?;
        for row in rows.iter() {
            if !others.iter().any(|other| identity(other) == identity(row)) {
                return Err(format!("{name} has no row {}", identity(row)));
            }
        }
        for other in others {
            let row = rows.iter_mut().find(|row| identity(row) == identity(other));
            let row = row.ok_or_else(|| format!("{first_name} has no row {}", identity(other)))?;
            add(row, other).map_err(|why| format!("{name}: {}: {why}", identity(other)))?;
            let left_out = [over_time::add_rounds(row, other), over_time::add_slots(row, other)];
            let place = |why| format!("{name}, {}: {why}", identity(other));
            warnings.extend(left_out.into_iter().flatten().map(place));
        }
    }
    warnings.extend(missing(&workers));
    merged["warnings"] = warnings.into();
    if let Some(environment) = merged["environment"].as_object_mut() {
        // One worker's noise is not that of all together.
        environment.remove("noise");
    }
    for group in merged["options"]["groups"].as_array_mut().into_iter().flatten() {
        // Those of one worker; rows have those of all.
        group["rate"] = Value::Null;
        group["callers"] = Value::Null;
    }
    merged["merged_from"] = workers.len().into();
    merged["options"]["worker"] = Value::Null;
    Ok(merged)
}

/// Checks that two files are shares of one load, and returns a warning for the reader.
///
/// # Errors
/// What was asked of one and not of the other.
fn check_load(first: (&str, &Value), other: (&str, &Value)) -> Result<Option<String>, String> {
    let read = |(name, document): (&str, &Value)| {
        Saved::deserialize(document).map_err(|error| format!("{name}: {error}"))
    };
    let (left, right) = (read(first)?, read(other)?);
    let (first, other) = (first.0, other.0);
    for row in &right.results {
        let Some(base) = left.results.iter().find(|base| base.name() == row.name()) else {
            continue;
        };
        let differences = comparable::of_workers((&left, base), (&right, row));
        if let [why, ..] = &differences[..] {
            return Err(format!("{other} does not belong to {first}: {}: {why}", row.name()));
        }
    }
    Ok(comparable::of_targets(&left, &right).map(|why| format!("{first} and {other}: {why}")))
}

/// Identifies a run. The second in which it began is not enough: two short runs fit into one second.
fn identity_of_run(document: &Value) -> [Value; 4] {
    let options = &document["options"];
    let parts = [
        &options["worker"],
        &options["target"],
        &document["measured_at_unix_s"],
        &document["results"],
    ];
    parts.map(Value::clone)
}

/// The workers that are missing, in words.
fn missing(workers: &[Value]) -> Option<String> {
    let numbers: Vec<(u32, u32)> = workers
        .iter()
        .filter_map(|worker| {
            let (index, of) = worker.as_str()?.split_once('/')?;
            Some((index.parse().ok()?, of.parse().ok()?))
        })
        .collect();
    let of = numbers.iter().map(|(_, of)| *of).max()?;
    let there = |index: &u32| numbers.iter().any(|(number, _)| number == index);
    let missing: Vec<String> =
        (1..=of).filter(|index| !there(index)).map(|index| format!("{index}/{of}")).collect();
    (!missing.is_empty())
        .then(|| format!("workers are missing, and with them their load: {}", missing.join(", ")))
}

fn groups(document: &Value) -> &[Value] {
    document["options"]["groups"].as_array().map_or(&[], Vec::as_slice)
}

fn warnings_of(name: &str, document: &Value) -> Vec<String> {
    let warnings = document["warnings"].as_array().into_iter().flatten();
    warnings.filter_map(|warning| Some(format!("{name}: {}", warning.as_str()?))).collect()
}

fn identity(row: &Value) -> String {
    ["protocol", "scenario", "contestant", "variant"]
        .iter()
        .filter_map(|field| row[*field].as_str().map(str::to_owned))
        .chain(row["step"]["index"].as_u64().map(|index| format!("step {index}")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Adds a row to another one.
fn add(row: &mut Value, other: &Value) -> Result<(), String> {
    if let Some(field) = SAME.into_iter().find(|field| row[*field] != other[*field]) {
        return Err(format!("{field} differs: {} and {}", row[field], other[field]));
    }
    row["cpu_us_per_request"] = weighted_cpu(row, other);
    for field in ADDED.into_iter().filter(|field| other.get(field).is_some()) {
        row[field] = sum(&row[field], &other[field]);
    }
    let kinds = other["errors_by_kind"].as_object().cloned().unwrap_or_default();
    for (kind, count) in kinds {
        row["errors_by_kind"][&kind] = sum(&row["errors_by_kind"][&kind], &count);
    }
    for field in ["first_error", "broke", "overloaded"] {
        if row[field].is_null() {
            row[field] = other[field].clone();
        }
    }
    for (name, percentiles) in HISTOGRAMS {
        let both = (row["histograms"][name].as_str(), other["histograms"][name].as_str());
        let (Some(left), Some(right)) = both else {
            if name == "latency" && (!row[percentiles].is_null() || !other[percentiles].is_null()) {
                return Err(
                    "it has no histogram of its latencies: percentiles cannot be merged".to_owned()
                );
            }
            // One worker's percentiles are not those of all.
            row[percentiles] = Value::Null;
            continue;
        };
        let mut histogram = decode(left)?;
        histogram.add(decode(right)?).map_err(|error| format!("histogram {name}: {error:?}"))?;
        row["histograms"][name] = encode(&histogram).into();
        row[percentiles] = json!(Percentiles::of(&histogram));
    }
    for field in DROPPED {
        if row.get(field).is_some() {
            row[field] = Value::Null;
        }
    }
    Ok(())
}

/// Processor time is a figure of a request: each worker's counts as much as its requests.
fn weighted_cpu(left: &Value, right: &Value) -> Value {
    let cpu = |row: &Value| Some((row["cpu_us_per_request"].as_f64()?, row["requests"].as_f64()?));
    let cpu = cpu(left).zip(cpu(right)).and_then(|((left, many), (right, more))| {
        (many + more > 0.0).then(|| (left * many + right * more) / (many + more))
    });
    json!(cpu.map(crate::measure::round))
}

/// The sum of two counts; unknown when one of them is.
fn sum(left: &Value, right: &Value) -> Value {
    match (left.as_u64(), right.as_u64()) {
        (Some(left), Some(right)) => json!(left + right),
        _ => json!(left.as_f64().zip(right.as_f64()).map(|(left, right)| left + right)),
    }
}

#[cfg(test)]
mod tests;
