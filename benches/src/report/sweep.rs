//! Sweeps: the knee of a ladder of rates, its tables, and its rows as the page takes them.

use super::columns::{UNKNOWN, or_unknown, plain_table, short, wrap};
use super::model::{GroupResult, Record};
use super::saved::{Row, Saved, Step};
use crate::measure::{Percentiles, round};

/// Up to the knee the p99 is at most this many times that of the lowest rate. A single queue with
/// random arrivals and services, at 20 % of its capacity to begin with, gets there at 73 %.
pub const TIMES_BASE: f64 = 3.0;
/// And at least this share of the requests that were wanted had its reply within the window.
pub const SERVED: f64 = 0.99;

/// The knee of a ladder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Knee<'a> {
    /// The highest rate that was served, with a higher one that was not.
    At(&'a Step),
    /// The highest rate of the ladder was served: the knee is beyond it.
    Beyond(&'a Step),
    /// No rate was served.
    Nowhere,
}

/// The knee of a ladder, whose lowest rate comes first: the highest rate with a p99 of at most
/// [`TIMES_BASE`] times that of the lowest rate, and with at least [`SERVED`] of its requests served.
pub fn knee(steps: &[Step]) -> Knee<'_> {
    let Some(base) = steps.first().and_then(|step| step.p99_us) else {
        return Knee::Nowhere;
    };
    let served = |step: &&Step| {
        step.served().is_none_or(|served| served >= SERVED)
            && step.p99_us.is_some_and(|p99| p99 <= TIMES_BASE * base)
    };
    match steps.iter().rev().find(served) {
        None => Knee::Nowhere,
        Some(step) if std::ptr::eq(step, &raw const steps[steps.len() - 1]) => Knee::Beyond(step),
        Some(step) => Knee::At(step),
    }
}

/// The rule in words.
pub fn rule() -> String {
    format!(
        "knee: the highest rate with a p99 of at most {TIMES_BASE} times that of the lowest rate and at least {} % of the requests served in time",
        SERVED * 100.0
    )
}

/// The arrivals of an open loop that were scheduled; those of the warm-up are no part of it.
pub fn wanted(record: &Record) -> u64 {
    let failed: u64 = record.errors().iter().sum();
    let others = record.sum(|turn| turn.latency.len() + turn.cancelled + turn.unstarted);
    failed + others
}

/// One step of a contestant.
fn step(group: &GroupResult, record: &Record) -> Step {
    let latency = Percentiles::of(&record.merged(|turn| &turn.latency));
    Step {
        rate_per_s: group.rate().map(round),
        p50_us: latency.map(|latency| latency.p50),
        p99_us: latency.map(|latency| latency.p99),
        throughput_per_s: record.throughput().map(|spread| round(spread.median)),
        unstarted: Some(record.sum(|turn| turn.unstarted) as f64),
        wanted: Some(wanted(record) as f64),
        requests: Some(record.sum(|turn| turn.requests) as f64),
    }
}

/// The tables of a ladder: one for each contestant, and the knees at the end.
pub fn render(groups: &[GroupResult]) -> String {
    let Some(first) = groups.first() else { return String::new() };
    let heading = format!(
        "{} {}: a sweep of {} rates, {} arrivals, at most {} in flight; {}",
        first.protocol,
        first.scenario.name,
        groups.len(),
        first.arrivals.word(),
        first.callers,
        first.target.describe(),
    );
    let mut text = "\n".to_owned();
    wrap(&mut text, "", &heading);
    let mut knees = Vec::new();
    for record in &first.records {
        let label = record.label();
        let of = |group: &GroupResult| {
            let mut records = group.records.iter().filter(|record| !record.rounds.is_empty());
            let found = records.find(|record| record.label() == label)?;
            let failed: u64 = found.errors().iter().sum();
            let beside = Beside { share: group.step.and_then(|step| step.share), failed };
            Some((beside, step(group, found)))
        };
        let (beside, steps): (Vec<_>, Vec<_>) = groups.iter().filter_map(of).unzip();
        if steps.is_empty() {
            continue;
        }
        text.push_str(&table(&label, &beside, &steps));
        knees.push((label, words(&steps)));
    }
    text.push('\n');
    wrap(&mut text, "", &rule());
    let width = knees.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, words) in knees {
        text.push_str(&format!("  {label:<width$}  {words}\n"));
    }
    text
}

/// What a table shows beside a step.
struct Beside {
    share: Option<f64>,
    /// Requests that failed, timed out or were refused.
    failed: u64,
}

fn table(label: &str, beside: &[Beside], steps: &[Step]) -> String {
    let mut table = plain_table([
        "rate/s",
        "of limit",
        "p50 ms",
        "p99 ms",
        "served/s",
        "served %",
        "failed",
        "unstarted",
        "",
    ]);
    // Numbers stand to the right, and the mark beside them.
    if let Some(marks) = table.column_mut(8) {
        marks.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    let knee = match knee(steps) {
        Knee::At(step) => step.rate_per_s,
        Knee::Beyond(_) | Knee::Nowhere => None,
    };
    let ms = |micros: Option<f64>| or_unknown(micros.map(|micros| short(micros / 1000.0)));
    let plain = |value: Option<f64>| or_unknown(value.map(short));
    for (Beside { share, failed }, step) in beside.iter().zip(steps) {
        let mark = if knee.is_some() && step.rate_per_s == knee { "< knee" } else { "" };
        table.add_row([
            plain(step.rate_per_s),
            share.map_or(UNKNOWN.to_owned(), |share| format!("{:.0}%", share * 100.0)),
            ms(step.p50_us),
            ms(step.p99_us),
            plain(step.throughput_per_s),
            or_unknown(step.served().map(|served| format!("{:.1}", served * 100.0))),
            short(*failed as f64),
            plain(step.unstarted),
            mark.to_owned(),
        ]);
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("\n{label}\n{lines}")
}

/// The knee in words.
fn words(steps: &[Step]) -> String {
    let rate = |step: &Step| or_unknown(step.rate_per_s.map(short));
    let p99 = |step: &Step| or_unknown(step.p99_us.map(|micros| short(micros / 1000.0)));
    match knee(steps) {
        Knee::At(step) => format!("{}/s, p99 {} ms", rate(step), p99(step)),
        Knee::Beyond(step) => {
            format!("beyond {}/s, the highest rate: p99 {} ms", rate(step), p99(step))
        }
        Knee::Nowhere => "not even the lowest rate was served".to_owned(),
    }
}

/// Merges the rows of a ladder into one row for each contestant, with the ladder in its `sweep`. The
/// other figures of the row are of the highest rate that every contestant served, so that all are of the
/// same load. If there is no such rate, they are of the lowest rate.
pub fn fold(saved: &mut Saved) {
    if saved.results.iter().all(|row| row.step.is_none()) {
        return;
    }
    let rows = std::mem::take(&mut saved.results);
    let mut ladders: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let ladder = ladders.iter_mut().find(|ladder| ladder[0].is_step_beside(&row));
        match ladder {
            Some(ladder) => ladder.push(row),
            None => ladders.push(vec![row]),
        }
    }
    for ladder in &mut ladders {
        ladder.sort_by(|left, right| {
            left.rate_per_s.unwrap_or(0.0).total_cmp(&right.rate_per_s.unwrap_or(0.0))
        });
    }
    let index = |ladder: &[Row]| {
        let steps: Vec<Step> = ladder.iter().map(Row::as_step).collect();
        match knee(&steps) {
            Knee::At(step) | Knee::Beyond(step) => {
                steps.iter().position(|one| std::ptr::eq(one, step)).unwrap_or(0)
            }
            Knee::Nowhere => 0,
        }
    };
    let same_table = |one: &Row, other: &Row| {
        (&one.protocol, &one.scenario, &one.budget)
            == (&other.protocol, &other.scenario, &other.budget)
    };
    let common: Vec<usize> = ladders
        .iter()
        .map(|own| {
            let beside = ladders.iter().filter(|other| same_table(&own[0], &other[0]));
            beside.filter(|other| other.len() > 1).map(|other| index(other)).min().unwrap_or(0)
        })
        .collect();
    for (ladder, common) in ladders.into_iter().zip(common) {
        let sweep: Vec<Step> = ladder.iter().map(Row::as_step).collect();
        let alone = ladder[0].step.is_none();
        let at = common.min(ladder.len() - 1);
        let row = ladder.into_iter().nth(at).expect("a ladder has its rows");
        saved.results.push(if alone { row } else { Row { sweep, ..row } });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rate: f64, p99: f64, served: f64) -> Step {
        Step {
            rate_per_s: Some(rate),
            p99_us: Some(p99),
            wanted: Some(1000.0),
            requests: Some(1000.0 * served),
            ..Step::default()
        }
    }

    #[test]
    fn the_knee_is_the_highest_rate_that_was_served() {
        let steps = [step(1.0, 10.0, 1.0), step(2.0, 29.0, 0.995), step(3.0, 31.0, 1.0)];
        assert_eq!(knee(&steps), Knee::At(&steps[1]));
        let steps = [step(1.0, 10.0, 1.0), step(2.0, 15.0, 0.98)];
        assert_eq!(knee(&steps), Knee::At(&steps[0]));
        let hiccup = [step(1.0, 10.0, 1.0), step(2.0, 90.0, 1.0), step(3.0, 12.0, 1.0)];
        assert_eq!(knee(&hiccup), Knee::Beyond(&hiccup[2]));
        assert_eq!(knee(&[step(1.0, 10.0, 0.5)]), Knee::Nowhere);
        assert_eq!(knee(&[]), Knee::Nowhere);
    }

    #[test]
    fn mark_of_the_knee_moves_no_number() {
        let steps = [step(1.0, 10.0, 1.0), step(2.0, 29.0, 0.995), step(3.0, 99.0, 0.9)];
        let beside = || Beside { share: None, failed: 0 };
        let text = table("redigo", &[beside(), beside(), beside()], &steps);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let end = |line: &str| line.trim_end_matches("< knee").trim_end().len();
        assert!(lines[2].ends_with("  < knee") || lines[2].ends_with(" < knee"), "{text}");
        assert!(lines.iter().all(|line| end(line) == end(lines[0])), "{text}");
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn rows_of_a_ladder_become_one_at_a_rate_that_all_served() {
        let row = |name: &str, index: u32, p99: f64| {
            format!(
                r#"{{"protocol":"resp","scenario":"paced","contestant":"{name}","rate_per_s":{index}000,
                "step":{{"index":{index},"of":3}},"latency_us":{{"p99":{p99}}},"wanted":100,"requests":100}}"#
            )
        };
        let rows = [
            row("a", 1, 10.0),
            row("b", 1, 10.0),
            row("a", 2, 20.0),
            row("b", 2, 20.0),
            row("a", 3, 25.0),
            row("b", 3, 99.0),
        ];
        let text = format!(r#"{{"schema":1,"results":[{},{{"contestant":"c"}}]}}"#, rows.join(","));
        let mut saved = Saved::parse(&text).unwrap();
        assert_eq!(saved.results[0].name(), "resp paced a, step 1");
        fold(&mut saved);
        let found: Vec<_> = saved
            .results
            .iter()
            .map(|row| (row.contestant.as_deref().unwrap(), row.rate_per_s, row.sweep.len()))
            .collect();
        assert_eq!(found, [("a", Some(2000.0), 3), ("b", Some(2000.0), 3), ("c", None, 0)]);
    }
}
