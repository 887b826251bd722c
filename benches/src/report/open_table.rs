//! The table of an open loop: how the wanted requests ended, and at what cost.

use super::columns::{Columns, Keep, Pick, UNKNOWN, figure, number, short};
use super::detail;
use super::model::{GroupResult, Record};
use super::recovery::{Missing, Recovery};
use super::table;
use crate::measure::{Percentiles, Spread};
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
pub(super) fn table(group: &GroupResult) -> Columns<'_> {
    let mut table = Columns::new(table::played(group), Record::label);
    let faults = table.rows().any(|record| recovery(record).is_some());
    // The column of the scenario's own figure is the last to be left out.
    let about = |figure: Figure, rank: u8| {
        if group.scenario.figure == figure { Keep::Always } else { Keep::Fits(rank) }
    };
    let wide_unless = |shown: bool, keep: Keep| if shown { keep } else { Keep::Wide };
    table.add("ok\n%", Keep::Always, |record| figure(success(record).map(|share| share * 100.0)));
    latency(&mut table);
    let per_round = |record: &Record, count: u64| figure(Some(record.per_round(count)));
    let keep_failed = match group.scenario.figure {
        Figure::FailedWhileUp => Keep::Always,
        _ => about(Figure::Failed, 7),
    };
    table.add("failed\n/round", keep_failed, |record| {
        per_round(record, record.errors().iter().sum())
    });
    let unstarted = table.rows().any(|record| record.sum(|turn| turn.unstarted) > 0);
    // In the order of the kinds.
    let kinds = [
        "no dial\n/round",
        "too late\n/round",
        "refused\n/round",
        "broken\n/round",
        "wrong kind\n/round",
    ];
    for (kind, title) in kinds.into_iter().enumerate() {
        table.add(title, Keep::Wide, move |record| per_round(record, record.errors()[kind]));
    }
    table.add("not started\n/round", wide_unless(unstarted, Keep::Fits(7)), |record| {
        per_round(record, record.sum(|turn| turn.unstarted))
    });
    table.add("opened\nper 1k", about(Figure::Opened, 4), |record| figure(opened_per_1000(record)));
    let dialed =
        |record: &Record| record.known_sum(|played| played.turn.as_ref().ok()?.counts.dials);
    // Beside the failures of a restart, dials tell more than connections that were opened.
    table.add("dials\n/round", about(Figure::Dials, 5), |record| {
        figure(dialed(record).map(|dials| record.per_round(dials)))
    });
    table.add("dials in\n100 ms", about(Figure::PeakDials, 3), |record| {
        number(detail::peak_dials(record))
    });
    table.add("most\nopen", Keep::Fits(2), |record| number(record.high_water()));
    let after = |which: fn(Recovery) -> (Option<f64>, Option<Missing>)| {
        move |record: &Record| match recovery(record).map(which) {
            Some((Some(time), _)) => short(time),
            Some((None, Some(missing))) => missing.word(),
            _ => UNKNOWN.to_owned(),
        }
    };
    let first = wide_unless(faults, Keep::Fits(5));
    table.add(
        "first ok\nms",
        first,
        after(|after| (after.first_success_ms, after.first_success_missing)),
    );
    let normal = wide_unless(faults, about(Figure::Recovery, 6));
    table.add("normal\nms", normal, after(|after| (after.normal_p99_ms, after.normal_p99_missing)));
    let backends = group.scenario.figure == Figure::SlowShare;
    for (at, title) in ["% slow\nbefore", "% slow\nwhile", "% slow\nafter"].into_iter().enumerate()
    {
        table.add(title, wide_unless(backends, Keep::Always), move |record| {
            // The middle round, as on the page.
            let shares = record.rounds.iter().map(|(_, played)| detail::slow_shares(played)[at]);
            figure(Spread::of(shares.flatten()).map(|spread| spread.median))
        });
    }
    // Columns of zeros make room first.
    let unless_zero = |of: fn(&Record) -> Option<u64>| {
        let is_zero = table::played(group).iter().all(|record| of(record) == Some(0));
        if is_zero { Keep::Fits(1) } else { Keep::Fits(9) }
    };
    let writes = group.scenario.writes_percent > 0;
    let twice = wide_unless(writes, unless_zero(Record::write_duplicates));
    table.add("ran\ntwice", twice, |record| number(record.write_duplicates()));
    table.add("wrong", unless_zero(Record::mismatches), |record| number(record.mismatches()));
    table.add("left\nopen", Keep::Wide, |record| number(record.leaked()));
    table
}

fn latency(table: &mut Columns<'_>) {
    let columns: [(&str, Keep, Pick); 4] = [
        ("p50\nms", Keep::Always, |latency| latency.p50),
        ("p99\nms", Keep::Always, |latency| latency.p99),
        ("p99.9\nms", Keep::Wide, |latency| latency.p999),
        ("max\nms", Keep::Wide, |latency| latency.max),
    ];
    for (title, keep, which) in columns {
        table.add(title, keep, |record| {
            let latency = Percentiles::of(&record.merged(|turn| &turn.latency));
            figure(latency.map(|latency| which(latency) / 1000.0))
        });
    }
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

/// Times after the last fault, the median over the rounds.
pub(super) fn recovery(record: &Record) -> Option<Recovery> {
    Recovery::of_record(record)
}
