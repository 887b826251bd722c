//! Tables for people, at most 120 columns wide.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::model::{GroupResult, Record};
use super::open_table;
use crate::catalog::Contestant;
use crate::measure::{Percentiles, Spread};
use crate::names::Protocol;
use crate::run::turn::Turn;
use crate::scenario::demand::Budget;
use crate::scenario::{PUBLISHED_REST, PUBLISHED_REUSE, Play, Variant, WHAT_IT_DEPENDS_ON};

/// Stands where nothing was measured.
pub(super) const UNKNOWN: &str = "-";

/// The table of a group, with its title and notes.
pub fn render(group: &GroupResult) -> String {
    let mut text = format!(
        "\n{} {}: {}, {}; {}, {}\n",
        group.protocol,
        group.scenario.name,
        match group.demand.is_open() {
            false => count(group.callers, "caller"),
            true => format!("at most {} in flight", group.callers),
        },
        match group.budget {
            Budget::Same => count(group.connections, "connection"),
            Budget::Own => "connections as each strategy ships".to_owned(),
        },
        open_table::demand(group),
        group.target.describe(),
    );
    let table = match group.scenario.play {
        Play::Reuse => reuse(group),
        _ if group.demand.is_open() => open_table::table(group),
        Play::Requests | Play::Limits | Play::Session => comparison(group),
    };
    if group.demand.is_open() {
        note(&mut text, group.scenario.about);
    }
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    notes(group, &mut text);
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn comparison(group: &GroupResult) -> Table {
    // Over HTTP/2 there is a limit for each number of connections.
    let limit = match (group.protocol, group.scenario.variants) {
        (Protocol::Http2, []) => "x limit\n1-conn.",
        (Protocol::Http2, _) => "x limit,\nsame",
        _ => "x limit",
    };
    let mut table = plain_table([
        "contestant",
        "req/s",
        limit,
        "CPU\nus/req",
        limit,
        "latency us\np50/p99/p99.9",
        "acquire us\np50/p99",
        "opened",
        "reused",
        "high\nopen",
        "waits",
        "err/to\n/ref",
        "mis/dup\n/leak",
    ]);
    for record in group.records.iter().filter(|record| !record.rounds.is_empty()) {
        let ratios = group.vs_limit(record);
        let latency = Percentiles::of(&record.merged(|turn| &turn.latency));
        let acquire = Percentiles::of(&record.merged(|turn| &turn.acquire));
        let rounds = record.rounds.len().max(1) as u64;
        row(
            &mut table,
            [
                record.label(),
                figure(record.throughput().map(|spread| spread.median)),
                ratio(ratios.map(|ratios| ratios.throughput)),
                figure(record.cpu().map(|spread| spread.median)),
                ratio(ratios.map(|ratios| ratios.cpu)),
                or_unknown(
                    latency.map(|p| format!("{}/{}/{}", short(p.p50), short(p.p99), short(p.p999))),
                ),
                or_unknown(acquire.map(|p| format!("{}/{}", short(p.p50), short(p.p99)))),
                or_unknown(record.opened().map(|opened| short((opened / rounds) as f64))),
                or_unknown(record.reused_ratio().map(|share| format!("{:.1}%", share * 100.0))),
                or_unknown(record.high_water().map(|high| high.to_string())),
                or_unknown(
                    record
                        .known_sum(|played| played.turn.as_ref().ok()?.counts.waits)
                        .map(|waits| short((waits / rounds) as f64)),
                ),
                failures(&[record]),
                oracle(&[record]),
            ],
        );
    }
    table
}

/// The three-way test: a line for each contestant, its three ways side by side.
fn reuse(group: &GroupResult) -> Table {
    let mut table = plain_table([
        "contestant",
        "reused\nus/op",
        "server closes\nus/op",
        "no pool\nus/op",
        "time ratios, published\n1 : 2.39 : 4.69",
        "CPU us/op",
        "opened/op",
        "err/to\n/ref",
        "mis/dup\n/leak",
    ]);
    for record in group.records.iter().filter(|record| !record.rounds.is_empty()) {
        if record.entry.variant != Some(Variant::Reused) {
            continue;
        }
        let ways = Variant::OF_REUSE.map(|variant| group.sibling(record, variant));
        let times = ways.map(|way| {
            way.and_then(|way| way.operation_time(group.callers)).map(|spread| spread.median)
        });
        let each = |text: fn(&Record) -> String| {
            ways.map(|way| way.map_or(UNKNOWN.to_owned(), text)).join(" ")
        };
        let present: Vec<&Record> = ways.into_iter().flatten().collect();
        row(
            &mut table,
            [
                record.entry.contestant.name.to_owned(),
                figure(times[0]),
                figure(times[1]),
                figure(times[2]),
                reuse_ratios(group, Some(&record.entry.contestant)),
                each(|way| figure(way.cpu().map(|spread| spread.median))),
                each(|way| {
                    or_unknown(way.reused_ratio().map(|reused| format!("{:.2}", 1.0 - reused)))
                }),
                failures(&present),
                oracle(&present),
            ],
        );
    }
    table
}

/// Time per operation of the three ways relative to the first, one contestant's or all together.
fn reuse_ratios(group: &GroupResult, contestant: Option<&Contestant>) -> String {
    let ratio = |variant| group.reuse_ratio(contestant, variant);
    match (ratio(Variant::ServerCloses), ratio(Variant::NoPool)) {
        (Some(closes), Some(none)) => joined([1.0, closes, none]),
        _ => UNKNOWN.to_owned(),
    }
}

fn joined(ratios: [f64; 3]) -> String {
    format!("{} : {:.2} : {:.2}", ratios[0], ratios[1], ratios[2])
}

/// Failures, timeouts and refusals of some records together.
fn failures(records: &[&Record]) -> String {
    let sum = |count: fn(&Turn) -> u64| {
        short(records.iter().map(|record| record.sum(count)).sum::<u64>() as f64)
    };
    format!("{}/{}/{}", sum(Turn::failures), sum(Turn::timeouts), sum(Turn::refusals))
}

/// Mismatches, duplicates and leaks of some records together, as far as they are known.
fn oracle(records: &[&Record]) -> String {
    let sum = |count: fn(&Record) -> Option<u64>| {
        or_unknown(
            records
                .iter()
                .map(|record| count(record))
                .sum::<Option<u64>>()
                .map(|sum| sum.to_string()),
        )
    };
    format!("{}/{}/{}", sum(Record::mismatches), sum(Record::duplicates), sum(Record::leaked))
}

/// What stands beside the figures: what a contestant does not do, and what could not be measured.
fn notes(group: &GroupResult, text: &mut String) {
    if group.scenario.play == Play::Reuse {
        let all = reuse_ratios(group, None);
        note(text, &format!("reused : server closes : no pool, all contestants together: {all}"));
        note(
            text,
            &format!(
                "published {}: its loops pause 20, 50 and 100 ms after each request and count that; \
                 without the pauses they say {}",
                joined(PUBLISHED_REUSE),
                joined(PUBLISHED_REST)
            ),
        );
    }
    // Each once, whatever ways it has.
    let mut strategies: Vec<&Record> = Vec::new();
    for record in &group.records {
        if strategies.iter().all(|known| known.entry.contestant != record.entry.contestant) {
            strategies.push(record);
        }
    }
    let mut lacking = |what: &str, lacks: &dyn Fn(&Record) -> bool| {
        let names: Vec<&str> = strategies
            .iter()
            .filter(|record| lacks(record))
            .map(|record| record.entry.contestant.name)
            .collect();
        if !names.is_empty() {
            note(text, &format!("{what}: {}", names.join(", ")));
        }
    };
    lacking("no check before lending", &|record| record.entry.safety.check == Some(false));
    lacking("no bound on open connections", &|record| record.entry.safety.bounded == Some(false));
    lacking("no deadline on acquire", &|record| record.entry.safety.deadline == Some(false));
    lacking("no reset of the session", &|record| record.entry.safety.reset == Some(false));
    lacking("one connection by nature, whatever --connections says", &|record| record.entry.single);
    lacking("refused at once instead of waiting", &|record| record.sum(Turn::refusals) > 0);
    if group.scenario.play == Play::Limits && group.limit().is_some() {
        note(text, match group.scenario.leases(group.protocol) {
            None => "limit: as many callers as connections, each with a socket of its own".to_owned(),
            Some(streams) => format!("{streams} streams on a connection at a time; limit: as many connections, without that bound"),
        }.as_str());
    }
    if matches!(group.protocol, Protocol::Http1 | Protocol::Http2)
        && group.scenario.play != Play::Reuse
        && group.records.iter().any(|record| record.entry.policy.is_some())
    {
        note(
            text,
            "acquire of a profile: sampled, before one request in 64 the pool is asked once more",
        );
    }
    if group.protocol == Protocol::Http2 && !group.demand.is_open() && group.limit().is_some() {
        note(text, WHAT_IT_DEPENDS_ON);
    }
    if !group.target.embedded {
        note(
            text,
            "not the embedded server: duplicates, leaks and the high-water mark are unknown",
        );
    }
    if !group.target.echoes {
        note(text, "the server does not echo: mismatches are unknown");
    }
}

/// One note, broken at 118 columns.
fn note(text: &mut String, words: &str) {
    let mut width = 0;
    for (index, word) in words.split(' ').enumerate() {
        if index == 0 {
            text.push_str("  ");
            width = 2;
        } else if width + word.len() > 118 {
            text.push_str("\n   ");
            width = 3;
        }
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word);
        width += word.len() + 1;
    }
    text.push('\n');
}

pub(super) fn plain_table<'a>(titles: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.into_iter().collect::<Vec<_>>());
    for (index, column) in table.column_iter_mut().enumerate() {
        // A space between columns, none before the first.
        column.set_padding((u16::from(index > 0), 0));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row<const N: usize>(table: &mut Table, cells: [String; N]) {
    table.add_row(cells.map(Cell::new));
}

pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Three digits are enough for people.
pub(super) fn figure(value: Option<f64>) -> String {
    or_unknown(value.map(short))
}

pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 99_950.0 => format!("{:.0}k", v / 1e3),
        v if v >= 9_995.0 => format!("{:.1}k", v / 1e3),
        v if v >= 999.5 => format!("{:.2}k", v / 1e3),
        v if v >= 100.0 || v == v.trunc() => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The median with half the distance of the extremes.
fn ratio(spread: Option<Spread>) -> String {
    or_unknown(spread.map(|spread| {
        let digits = if spread.median < 10.0 { 2 } else { 1 };
        let half = format!("{:.digits$}", (spread.high - spread.low) / 2.0);
        format!("{:.digits$}±{}", spread.median, half.trim_start_matches('0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.234, "1.23"),
            (50.0, "50"),
            (12.34, "12.3"),
            (999.4, "999"),
            (9_999.0, "10.0k"),
            (1_234.0, "1.23k"),
            (123_456.0, "123k"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(short(value), text);
        }
        let spread = Spread { median: 1.234, low: 1.2, high: 1.3 };
        assert_eq!(ratio(Some(spread)), "1.23±.05");
    }

    #[test]
    fn long_notes_are_broken() {
        let mut text = String::new();
        note(&mut text, &"word ".repeat(60));
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
}
