//! The table of an open loop: what became of the requests that were wanted, and what it took.

use comfy_table::Table;

use super::detail;
use super::model::{GroupResult, Record};
use super::recovery::Recovery;
use super::summary;
use super::table::{self, UNKNOWN, figure, or_unknown, short};
use crate::measure::Percentiles;
use crate::scenario::Figure;
use crate::scenario::demand::{Demand, Rate};

/// What is asked, in words.
pub(super) fn demand(group: &GroupResult) -> String {
    let rate = match group.demand {
        Demand::Closed => return "closed loop".to_owned(),
        Demand::Paced { rate: Rate::PerSecond(rate) } => format!("{} requests/s", short(rate)),
        Demand::Paced { rate: Rate::OfLimit(share) } => {
            format!("{:.0}% of the limit", share * 100.0)
        }
        Demand::Bursts { size, every, base } => {
            format!("{size} at once every {every:?}, {} requests/s between", short(base))
        }
        Demand::AtOnce { size, then } => format!("{size} at once, then {} requests/s", short(then)),
    };
    format!("open loop, {rate}, {}", group.arrivals.word())
}

/// One line for each contestant.
pub(super) fn table(group: &GroupResult) -> Table {
    let faults = group.records.iter().any(|record| recovery(record).is_some());
    let writes = group.scenario.writes_percent > 0;
    let mut titles = vec![
        "contestant",
        "ok\n%",
        "p50/p99\nms",
        "failed: dial/late\n/refused/broken",
        "opened per\n1000 requests",
        "dials, peak\nin 100 ms",
        "most\nopen",
    ];
    if faults {
        titles.push("first ok/normal\nafter, ms");
    }
    let backends = group.scenario.figure == Figure::SlowShare;
    if backends {
        titles.push("slow backend's share, %\nbefore/while/after");
    }
    if writes {
        titles.push("ran\ntwice");
    }
    let mut table = table::plain_table(titles);
    for record in group.records.iter().filter(|record| !record.rounds.is_empty()) {
        let latency = Percentiles::of(&record.merged(|turn| &turn.latency));
        let mut cells = vec![
            record.label(),
            figure(success(record).map(|share| share * 100.0)),
            or_unknown(latency.map(|latency| {
                format!("{}/{}", short(latency.p50 / 1000.0), short(latency.p99 / 1000.0))
            })),
            failures(record),
            figure(opened_per_1000(record)),
            dials(record),
            or_unknown(record.high_water().map(|high| high.to_string())),
        ];
        if faults {
            cells.push(times(recovery(record)));
        }
        if backends {
            cells.push(summary::slow_shares(record).map(figure).join("/"));
        }
        if writes {
            let twice = record.known_sum(|played| Some(played.server?.write_duplicates));
            cells.push(or_unknown(twice.map(|twice| twice.to_string())));
        }
        table.add_row(cells);
    }
    table
}

/// The share of requests that had a reply, of those that were wanted and not given up.
pub(super) fn success(record: &Record) -> Option<f64> {
    let ok: u64 = record.turns().map(|turn| turn.latency.len()).sum();
    let failed: u64 = record.errors().iter().sum();
    let wanted = ok + failed + record.sum(|turn| turn.unstarted);
    (wanted > 0).then(|| ok as f64 / wanted as f64)
}

/// Connections opened for a thousand requests.
pub(super) fn opened_per_1000(record: &Record) -> Option<f64> {
    let replies = record.sum(|turn| turn.replies);
    let opened = record.opened()?;
    (replies > 0).then(|| opened as f64 * 1000.0 / replies as f64)
}

/// Times after the last fault of the last round.
pub(super) fn recovery(record: &Record) -> Option<Recovery> {
    let (turn, played) = record.last()?;
    Recovery::of(turn.slots.as_ref()?, &played.events)
}

fn failures(record: &Record) -> String {
    let [dial, late, refused, broken, wrong] = record.errors().map(|count| short(count as f64));
    let mut text = format!("{dial}/{late}/{refused}/{broken}");
    if record.errors()[4] > 0 {
        text.push_str(&format!(", {wrong} wrong"));
    }
    let unstarted = record.sum(|turn| turn.unstarted);
    if unstarted > 0 {
        text.push_str(&format!(", {} not started", short(unstarted as f64)));
    }
    text
}

fn dials(record: &Record) -> String {
    let rounds = record.rounds.len().max(1) as f64;
    let total = record.known_sum(|played| played.turn.as_ref().ok()?.counts.dials);
    let total = or_unknown(total.map(|total| short(total as f64 / rounds)));
    match detail::peak_dials(record) {
        Some(peak) => format!("{total}, {peak}"),
        None => total,
    }
}

fn times(recovery: Option<Recovery>) -> String {
    let Some(recovery) = recovery else {
        return UNKNOWN.to_owned();
    };
    let time = |time: Option<f64>| time.map_or("never".to_owned(), short);
    format!("{}/{}", time(recovery.first_success_ms), time(recovery.normal_p99_ms))
}
