//! The tables of closed loops: what a request costs, and the three ways of `reuse` side by side.

use super::columns::{Columns, Keep, Pick, figure, number, or_unknown, ratio};
use super::model::{GroupResult, Record};
use super::open_table::opened_per_1000;
use super::table;
use crate::catalog::Kind;
use crate::measure::{Percentiles, Spread};
use crate::names::Protocol;
use crate::run::turn::Turn;
use crate::scenario::{Play, Variant};

/// One line for each contestant.
pub(super) fn comparison(group: &GroupResult) -> Columns<'_> {
    let mut table = Columns::new(table::played(group), Record::label);
    let limits = group.scenario.play == Play::Limits;
    // The column that the scenario is about is dropped last.
    let (line, churn) = if limits { (9, 0) } else { (0, 2) };
    table.add("req/s", Keep::Always, |record| median(record.throughput()));
    // Over HTTP/2 there is a limit for each number of connections.
    let is_limit = |record: &&Record| record.entry.contestant.kind == Kind::Limit;
    let several = group.records.iter().filter(is_limit).count() > 1;
    let (faster, dearer) = match (group.protocol, group.scenario.variants) {
        (Protocol::Http2, []) if several => ("x limit\n1-conn.", "x limit\nCPU, 1-c."),
        (Protocol::Http2, [_, ..]) => ("x limit,\nsame", "x limit\nCPU, same"),
        _ => ("x limit", "x limit\nCPU"),
    };
    table.add(faster, Keep::Fits(6), |record| {
        ratio(group.vs_limit(record).map(|ratios| ratios.throughput))
    });
    latency(&mut table);
    let acquired = |which: Pick| {
        move |record: &Record| {
            figure(Percentiles::of(&record.merged(|turn| &turn.acquire)).map(which))
        }
    };
    table.add("acquire\np50 us", Keep::Wide, acquired(|acquire| acquire.p50));
    table.add("acquire\np99 us", Keep::Wide, acquired(|acquire| acquire.p99));
    table.add("CPU us\n/request", Keep::Always, |record| median(record.cpu()));
    table.add(dearer, Keep::Fits(5), |record| {
        ratio(group.vs_limit(record).map(|ratios| ratios.cpu))
    });
    table.add("most\nopen", Keep::Fits(churn + 2), |record| number(record.high_water()));
    table.add("opened\nper 1k", Keep::Fits(churn), |record| figure(opened_per_1000(record)));
    table.add("opened\n/round", Keep::Wide, |record| figure(per_round(record, record.opened())));
    table.add("reused\n%", Keep::Wide, |record| {
        or_unknown(record.reused_ratio().map(|share| format!("{:.1}", share * 100.0)))
    });
    let waits =
        |record: &Record| record.known_sum(|played| played.turn.as_ref().ok()?.counts.waits);
    let keep = if limits { Keep::Fits(line) } else { Keep::Wide };
    table.add("waits\n/round", keep, |record| figure(per_round(record, waits(record))));
    failures(&mut table, |record| vec![record]);
    table
}

/// The three-way test: a line for each contestant, its three ways side by side.
pub(super) fn reuse(group: &GroupResult) -> Columns<'_> {
    let reused = |record: &&Record| record.entry.variant == Some(Variant::Reused);
    let rows = table::played(group).into_iter().filter(reused).collect();
    let mut table = Columns::new(rows, |record| record.entry.contestant.name.to_owned());
    let time = |variant| {
        move |record: &Record| {
            let way = group.sibling(record, variant);
            median(way.and_then(|way| way.operation_time(group.callers)))
        }
    };
    table.add("reused\nus", Keep::Always, time(Variant::Reused));
    table.add("server\ncloses us", Keep::Always, time(Variant::ServerCloses));
    table.add("no pool\nus", Keep::Always, time(Variant::NoPool));
    let times = |variant| {
        move |record: &Record| {
            let ratio = group.reuse_ratio(Some(&record.entry.contestant), variant);
            or_unknown(ratio.map(|ratio| format!("{ratio:.2}")))
        }
    };
    table.add("closes\nx reused", Keep::Fits(6), times(Variant::ServerCloses));
    table.add("no pool\nx reused", Keep::Fits(5), times(Variant::NoPool));
    let titles = [
        ("CPU us\nreused", "opened/op\nreused"),
        ("CPU us\ncloses", "opened/op\ncloses"),
        ("CPU us\nno pool", "opened/op\nno pool"),
    ];
    for (variant, (cpu, opened)) in Variant::OF_REUSE.into_iter().zip(titles) {
        let way = move |record| group.sibling(record, variant);
        let keep = if variant == Variant::Reused { Keep::Fits(3) } else { Keep::Wide };
        table.add(cpu, keep, |record| median(way(record).and_then(Record::cpu)));
        table.add(opened, Keep::Wide, |record| {
            let reused = way(record).and_then(Record::reused_ratio);
            or_unknown(reused.map(|reused| format!("{:.2}", 1.0 - reused)))
        });
    }
    failures(&mut table, |record| {
        let ways = Variant::OF_REUSE.map(|variant| group.sibling(record, variant));
        ways.into_iter().flatten().collect()
    });
    table
}

fn latency(table: &mut Columns<'_>) {
    let columns: [(&str, Keep, Pick); 5] = [
        ("p50\nus", Keep::Always, |latency| latency.p50),
        ("p90\nus", Keep::Wide, |latency| latency.p90),
        ("p99\nus", Keep::Always, |latency| latency.p99),
        ("p99.9\nus", Keep::Wide, |latency| latency.p999),
        ("max\nus", Keep::Wide, |latency| latency.max),
    ];
    for (title, keep, which) in columns {
        table.add(title, keep, |record| {
            figure(Percentiles::of(&record.merged(|turn| &turn.latency)).map(which))
        });
    }
}

/// Requests without a reply, and what the oracle found, of the records that make a line.
fn failures<'a>(table: &mut Columns<'a>, of: impl Fn(&'a Record) -> Vec<&'a Record>) {
    let mean = |records: &[&Record], count: fn(&Turn) -> u64| -> f64 {
        records.iter().map(|record| record.per_round(record.sum(count))).sum()
    };
    let refused = table.rows().any(|record| mean(&of(record), Turn::refusals) > 0.0);
    let keep = if refused { Keep::Fits(7) } else { Keep::Wide };
    // Every request without a reply, as in the other tables. A second column repeats the refusals.
    table.add("failed\n/round", Keep::Fits(8), |record| {
        figure(Some(mean(&of(record), |turn| turn.errors.iter().sum())))
    });
    table.add("timed out\n/round", Keep::Wide, |record| {
        figure(Some(mean(&of(record), Turn::timeouts)))
    });
    table.add("refused\n/round", keep, |record| figure(Some(mean(&of(record), Turn::refusals))));
    // Broken promises are counted over all rounds: one is one too many.
    let known = |records: &[&Record], count: fn(&Record) -> Option<u64>| {
        number(records.iter().map(|record| count(record)).sum())
    };
    table.add("wrong", Keep::Fits(9), |record| known(&of(record), Record::mismatches));
    table.add("ran\ntwice", Keep::Wide, |record| known(&of(record), Record::duplicates));
    table.add("left\nopen", Keep::Wide, |record| known(&of(record), Record::leaked));
}

fn median(spread: Option<Spread>) -> String {
    figure(spread.map(|spread| spread.median))
}

fn per_round(record: &Record, count: Option<u64>) -> Option<f64> {
    count.map(|count| record.per_round(count))
}
