//! What people must know about the rows of a table before they believe its figures.

use hdrhistogram::Histogram;

use super::columns::short;
use super::lateness::{self, Times};
use super::model::{GroupResult, Record};
use crate::contestants::ErrorKind;
use crate::measure::Percentiles;
use crate::run::events::LATE_MS;
use crate::run::turn::Turn;

/// The warnings about all rows of a run.
pub(super) fn of_all(groups: &[GroupResult]) -> Vec<String> {
    let mut warnings: Vec<String> = groups.iter().flat_map(without_reply).collect();
    warnings.extend(late_faults(groups));
    warnings.extend(late_arrivals(groups));
    warnings
}

/// The rows of a group with requests that had no reply.
fn without_reply(group: &GroupResult) -> Vec<String> {
    // A ladder ends where contestants cannot follow, and its table says where that is. Faults are there to
    // cause failures, and the table counts them.
    if group.step.is_some() || group.scenario.disturbs() {
        return Vec::new();
    }
    let of_all = group.demand.is_open();
    let line =
        |record: &Record| Some(format!("{}: {}", name(group, record), no_reply(record, of_all)?));
    group.records.iter().filter_map(line).collect()
}

fn name(group: &GroupResult, record: &Record) -> String {
    format!("{} {}", super::place(group), record.label())
}

/// The late rows of a run: how many rows could be late, how many were, and a description of the worst.
/// On a busy machine nearly every row is late, and a line for each would hide the other warnings.
struct Late {
    of: usize,
    late: usize,
    worst: Option<(f64, String)>,
}

impl Late {
    /// Takes the rows that `is_of` counts; `how_late` says by how much a row was late, and in words.
    fn of(
        groups: &[GroupResult],
        is_of: impl Fn(&Record) -> bool,
        how_late: impl Fn(&Record) -> Option<(f64, String)>,
    ) -> Self {
        let mut found = Self { of: 0, late: 0, worst: None };
        for group in groups {
            for record in group.records.iter().filter(|record| is_of(record)) {
                found.of += 1;
                let Some((by, words)) = how_late(record) else { continue };
                found.late += 1;
                if found.worst.as_ref().is_none_or(|(most, _)| by > *most) {
                    found.worst = Some((by, format!("{} ({words})", name(group, record))));
                }
            }
        }
        found
    }

    /// A sentence with the count of late rows and the worst of them.
    fn words(self, what: &str, field: &str) -> Option<String> {
        let Self { of, late, worst } = self;
        let worst = worst?.1;
        Some(match late {
            1 => format!("{what} in 1 of {of} rows: {worst}"),
            _ => format!(
                "{what} in {late} of {of} rows, most of all in {worst}; {field} in results.json has the others"
            ),
        })
    }
}

/// Contestants that did not meet the faults of the others.
fn late_faults(groups: &[GroupResult]) -> Option<String> {
    let late = Late::of(
        groups,
        |record| record.faults_late_ms().is_some(),
        |record| {
            let rounds = record.turns_with_late_faults();
            let late = record.faults_late_ms().filter(|_| rounds > 0)?;
            Some((late, format!("up to {late:.0} ms in {rounds} of {}", count_of_rounds(record))))
        },
    );
    let what = format!(
        "faults came more than {LATE_MS:.0} ms late, so that rows did not meet the same as the others and have no place among them,"
    );
    late.words(&what, "faults_late_ms")
}

/// How many of its requests had no reply, why, and the first of them. With `of_all` those count that
/// were refused at once or never started, too.
fn no_reply(record: &Record, of_all: bool) -> Option<String> {
    let overloaded = record.overloaded().map(|how| format!("overloaded ({how}): "));
    let wanted = match of_all || overloaded.is_some() {
        true => record.unanswered(),
        false => record.sum(|turn| turn.failures() + turn.timeouts()),
    };
    if wanted == 0 || record.broke().is_some() {
        return None;
    }
    let errors = ErrorKind::ALL.map(|kind| (kind.word(), record.errors()[kind.index()]));
    let kinds: Vec<String> = errors
        .into_iter()
        .chain([("not started", record.sum(|turn| turn.unstarted))])
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    Some(format!(
        "{}{} requests had no reply in {} ({}){}",
        overloaded.unwrap_or_default(),
        record.unanswered(),
        count_of_rounds(record),
        kinds.join(", "),
        record.first_error().map_or(String::new(), |first| format!(", first: {first}")),
    ))
}

/// Contestants whose requests were sent so late that their tails are the client's.
fn late_arrivals(groups: &[GroupResult]) -> Option<String> {
    let merged = |record: &Record| {
        let merged = |which: fn(&Turn) -> &Histogram<u64>| record.merged(which);
        (merged(|turn| &turn.lateness), merged(|turn| &turn.latency))
    };
    let late = Late::of(
        groups,
        |record| record.turns().any(|turn| !turn.lateness.is_empty()),
        |record| {
            let (lateness, latency) = merged(record);
            let p99 = |which| Percentiles::of(which).map(|of| of.p99 / 1000.0);
            let own = p99(&lateness).filter(|_| is_late(&lateness, &latency))?;
            Some(match p99(&latency) {
                Some(latency) => (own, format!("{} of {} ms", short(own), short(latency))),
                None => (own, format!("{} ms", short(own))),
            })
        },
    );
    late.words(
        "requests were sent late, so that the client is part of the tails (lateness of all requests, and latency of those with a reply, both at p99),",
        "lateness_us",
    )
}

/// Whether a schedule was so late that latencies say something about it.
fn is_late(late: &Histogram<u64>, latency: &Histogram<u64>) -> bool {
    let times = |of: &Histogram<u64>| {
        Percentiles::of(of)
            .map_or(Times::default(), |times| Times { p50: Some(times.p50), p99: Some(times.p99) })
    };
    lateness::matters(late.len() as f64, times(late), times(latency))
}

fn count_of_rounds(record: &Record) -> String {
    match record.rounds.len() {
        1 => "1 round".to_owned(),
        many => format!("{many} rounds"),
    }
}

#[cfg(test)]
mod tests;
