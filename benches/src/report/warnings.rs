//! What people must know about the rows of a table before they believe its figures.

use hdrhistogram::Histogram;

use super::columns::short;
use super::model::{GroupResult, Record};
use crate::contestants::ErrorKind;
use crate::measure::Percentiles;
use crate::run::events::LATE_MS;
use crate::run::turn::Turn;

/// Arrivals later than this are late, however long requests take.
const MATERIAL_LATENESS: u64 = 1_000_000;
/// Of fewer arrivals one in a hundred is an accident.
const MANY_ARRIVALS: u64 = 1000;

/// The warnings about a group.
pub(super) fn of_group(group: &GroupResult) -> Vec<String> {
    let place = super::place(group);
    let mut warnings = Vec::new();
    for record in &group.records {
        // A ladder ends where contestants cannot follow, and its table says where that is.
        let of_all = group.demand.is_open() && group.step.is_none();
        let lines = late_faults(record).into_iter().chain(no_reply(record, of_all));
        warnings.extend(lines.map(|words| format!("{place} {}: {words}", record.label())));
    }
    warnings.extend(late_arrivals(&group.records).map(|words| format!("{place}: {words}")));
    warnings
}

/// By how much the faults of a contestant were late, where it did not meet the faults of the others.
fn late_faults(record: &Record) -> Option<String> {
    let rounds = record.turns_with_late_faults();
    let late = record.faults_late_ms().filter(|_| rounds > 0)?;
    Some(format!(
        "its faults came up to {late:.0} ms late in {rounds} of {}, so it did not meet the same as the others and has no place among them ({LATE_MS:.0} ms are allowed)",
        count_of_rounds(record),
    ))
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

/// The contestants whose requests were sent so late that their tails are the client's.
fn late_arrivals(records: &[Record]) -> Option<String> {
    let late = |record: &Record| {
        let merged = |which: fn(&Turn) -> &Histogram<u64>| record.merged(which);
        let (lateness, latency) = (merged(|turn| &turn.lateness), merged(|turn| &turn.latency));
        let ms = |which| Percentiles::of(which).map(|of| short(of.p99 / 1000.0));
        let own = ms(&lateness).filter(|_| is_late(&lateness, &latency))?;
        let latency = ms(&latency).map_or(String::new(), |ms| format!(" of {ms} ms"));
        Some(format!("{} ({own}{latency})", record.label()))
    };
    let names: Vec<String> = records.iter().filter_map(late).collect();
    (!names.is_empty()).then(|| {
        format!(
            "requests were sent late, and the client is part of these tails: {}; lateness of latency, both at p99",
            names.join(", ")
        )
    })
}

/// Whether a schedule was so late that latencies say something about it: of many arrivals one in a
/// hundred by more than a millisecond, or half of them by more than a tenth of the latency of half
/// the replies.
fn is_late(lateness: &Histogram<u64>, latency: &Histogram<u64>) -> bool {
    let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5);
    let often =
        lateness.len() >= MANY_ARRIVALS && lateness.value_at_quantile(0.99) > MATERIAL_LATENESS;
    let mostly = !latency.is_empty() && median(lateness) > median(latency) / 10;
    !lateness.is_empty() && (often || mostly)
}

fn count_of_rounds(record: &Record) -> String {
    match record.rounds.len() {
        1 => "1 round".to_owned(),
        many => format!("{many} rounds"),
    }
}

#[cfg(test)]
mod tests;
