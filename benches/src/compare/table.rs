//! A comparison for people.

use std::fmt::Write;

use super::figure::Figure;
use super::power;
use super::verdict::{Change, Comparison, Verdict};

/// The table, what differs between the runs, and the verdict.
pub(super) fn render(comparison: &Comparison, failed: &[String]) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("text takes text");
    for difference in &comparison.differences {
        line(format!("the runs differ: {difference}"));
    }
    for row in &comparison.left_out {
        line(format!("not compared: {row}"));
    }
    line(format!(
        "  {:<15} {:>8} {:>8} {:>7} {:>18}  verdict",
        "figure", "BASE", "NEW", "change", "95 % interval"
    ));
    for row in &comparison.rows {
        line(row.name.clone());
        for change in &row.changes {
            line(one(change, if row.is_limit { "(reference)" } else { word(change) }));
        }
    }
    if !comparison.together.is_empty() {
        line("all rows together".to_owned());
    }
    for change in &comparison.together {
        line(one(change, word(change)));
    }
    line(
        "the intervals are corrected as the verdicts are: they hold for all figures together"
            .to_owned(),
    );
    line(
        "BASE and NEW are of all rounds together; a change is the mean of the rounds, so the two may differ"
            .to_owned(),
    );
    let changes = || comparison.rows.iter().flat_map(|row| &row.changes);
    if changes().any(|change| change.is_count) {
        line("failed, opened, dials and the like: the change is a plain difference".to_owned());
    }
    if changes().any(|change| change.vs_limit) {
        line(
            "*: relative to the limit of the same round, which cancels the drift of the machine"
                .to_owned(),
        );
    }
    let floors: Vec<String> = Figure::ALL
        .into_iter()
        .filter_map(|figure| {
            let of_it = |change: &&Change| change.figure == figure && change.floor > 0.0;
            let floor = changes().find(of_it)?.floor;
            Some(format!("{} {:.1} %", figure.name(), floor * 100.0))
        })
        .collect();
    line(format!("noise threshold: {}; from {}", floors.join(", "), comparison.noise_from));
    if !comparison.power.is_empty() {
        line(power::words(&comparison.power, comparison.pairs));
    }
    for failure in failed {
        line(format!("FAILED {failure}"));
    }
    let count = |verdict: Verdict| {
        comparison.rows.iter().filter(|row| !row.is_limit && row.verdict == verdict).count()
    };
    let own = || comparison.rows.iter().filter(|row| !row.is_limit).flat_map(|row| &row.changes);
    let unsure = own().filter(|change| change.too_few_rounds).count();
    if unsure > 0 {
        line(format!(
            "too few rounds: {unsure} of {} figures show no difference and could hide one of {:.0} % ({:.0} % in p99, p999 and counts)",
            own().count(),
            power::wanted(Figure::Cpu) * 100.0,
            power::wanted(Figure::P99) * 100.0,
        ));
    }
    // All rows together can differ where no single row does.
    let together = match comparison.together.is_empty() {
        true => String::new(),
        false => {
            let verdicts = comparison.together.iter().map(|change| change.verdict);
            format!("all rows together: {}; ", Verdict::of_all(verdicts).word())
        }
    };
    line(format!(
        "verdict: {} ({together}each on its own: {} improved, {} regressed, {} mixed, {} without a difference)",
        comparison.verdict.word(),
        count(Verdict::Improved),
        count(Verdict::Regressed),
        count(Verdict::Mixed),
        count(Verdict::NoDifference),
    ));
    text
}

/// The verdict on a change.
fn word(change: &Change) -> &'static str {
    if change.too_few_rounds { "too few rounds" } else { change.verdict.word() }
}

/// A figure of the row above it. It fits 80 columns.
fn one(change: &Change, verdict: &str) -> String {
    let value = |value: Option<f64>| {
        value.map_or("-".to_owned(), |value| {
            if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
        })
    };
    let percent = |share: f64| match share.is_finite() {
        true if change.is_count && share.abs() >= 100.0 => format!("{share:+.0}"),
        true if change.is_count => format!("{share:+.1}"),
        // A tenfold needs no digits.
        true if share >= 10.0 => ">+999%".to_owned(),
        true => format!("{:+.1}%", share * 100.0),
        false => "-".to_owned(),
    };
    format!(
        "  {:<15} {:>8} {:>8} {:>7} {:>18}  {verdict}",
        format!("{}{}", change.figure.name(), if change.vs_limit { " *" } else { "" }),
        value(change.base),
        value(change.new),
        percent(change.change),
        change.interval.map(percent).join(" to "),
    )
}
