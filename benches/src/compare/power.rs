//! The smallest change that a comparison can find. Without this figure "no difference" may mean "too few
//! rounds".

use serde::Serialize;

use super::chances::Chances;
use super::figure::Figure;
use super::verdict::Change;
use crate::statistics::{self, Test};

/// The chance with which a change of that size is found.
const CHANCE: f64 = 0.9;
/// The change that the advice on rounds is about.
pub const WANTED: f64 = 0.05;
/// The same of a tail, which scatters more, and is asked for less.
pub const WANTED_TAIL: f64 = 0.25;

/// The change that rounds have to show for "no difference" to be said of a figure.
pub fn wanted(figure: Figure) -> f64 {
    match figure {
        Figure::Throughput | Figure::Cpu | Figure::P50 => WANTED,
        Figure::P99 | Figure::P999 | Figure::Count(_) => WANTED_TAIL,
    }
}

/// What the rounds of a comparison show of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Power {
    /// Which figure.
    pub figure: Figure,
    /// The relative change that is found nine times of ten.
    pub smallest: f64,
    /// Rounds of each build, at this noise, in which a change of 5 % is.
    pub rounds_for_5_percent: u64,
    /// Pairs of such runs in which it is.
    pub pairs_for_5_percent: u64,
}

/// The power of each figure, from changes that are judged together: of the middle one of the rows.
/// `alarms` is the chance of a false alarm that all of them share, `rounds` what each build played, in
/// `pairs` runs.
pub fn of(changes: &[&Change], alarms: f64, rounds: usize, pairs: usize) -> Vec<Power> {
    let chances = Chances::of(changes.iter().map(|change| change.figure), alarms);
    let of_figure = |figure: Figure| {
        let own = changes.iter().filter(|change| change.figure == figure);
        let reaches: Vec<f64> =
            own.filter_map(|change| reach(change.test(), chances.of_figure(figure))).collect();
        let reach = statistics::median(&reaches)?;
        // The error of a mean falls with the root of the rounds.
        let times = (reach / WANTED.ln_1p()).powi(2);
        let needed = |played: usize| (played as f64 * times).ceil() as u64;
        Some(Power {
            figure,
            smallest: reach.exp_m1(),
            rounds_for_5_percent: needed(rounds),
            pairs_for_5_percent: needed(pairs),
        })
    };
    Figure::ALL.into_iter().filter_map(of_figure).collect()
}

/// The difference of logarithms that a test with this error finds.
fn reach(test: &Test, chance: f64) -> Option<f64> {
    let reach = test.interval(1.0 - chance)[1] - test.difference;
    // The quantile that the chance to find it adds.
    let more = test.interval(2.0 * CHANCE - 1.0)[1] - test.difference;
    Some(reach + more).filter(|reach| reach.is_finite() && *reach > 0.0)
}

/// A line for people.
pub fn words(power: &[Power], pairs: usize) -> String {
    let parts: Vec<String> = power
        .iter()
        .map(|power| format!("{} {:.1} %", power.figure.name(), power.smallest * 100.0))
        .collect();
    let cpu = power.iter().find(|power| power.figure == Figure::Cpu);
    let advice = cpu.filter(|power| power.smallest > WANTED).map(|power| {
        match pairs {
            1 => format!(
                "; for 5 % in cpu play about {} rounds in each run (--rounds), or fewer in turn (docs/measuring.md)",
                power.rounds_for_5_percent
            ),
            _ => format!(
                "; for 5 % in cpu play about {} pairs of such runs, or on a quieter machine",
                power.pairs_for_5_percent
            ),
        }
    });
    format!(
        "changes that these rounds show nine times of ten: {}{}",
        parts.join(", "),
        advice.unwrap_or_default()
    )
}
