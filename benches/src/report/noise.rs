//! What equal contestants differ by in a run, and which rows of a table cannot be told apart.
//!
//! One contestant takes its turn twice in each round, the second time as its own twin. What the two
//! differ by is noise: a difference of others that is no larger says nothing.

use serde::Serialize;

use super::calibration::Calibration;
use super::model::{self, GroupResult, Record};
use super::saved::Noise;
use crate::compare::figure::Figure;
use crate::measure::{self, Percentiles};
use crate::run::turn::Turn;
use crate::scenario::{Figure as About, Play};
use crate::statistics;

/// The noise of equal contestants, and where it was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredNoise {
    /// As shares: 0.02 is 2 %.
    #[serde(flatten)]
    pub noise: Noise,
    /// Where it comes from, in words.
    pub from: String,
}

impl MeasuredNoise {
    /// The noise for a group: from the calibration of this machine, or else from its twin.
    pub fn of(group: &GroupResult, calibration: Option<&Calibration>) -> Option<Self> {
        if let Some(calibration) = calibration {
            return Some(Self { noise: calibration.noise, from: calibration.words() });
        }
        let twin = group.twin.as_ref()?;
        let like = |record: &&Record| record.label() == twin.label();
        let first = group.records.iter().find(like)?;
        let rounds = shared(&series(first, Figure::Throughput), &series(twin, Figure::Throughput));
        let from = match rounds.len() {
            // A single pair of turns says little about the mean difference of equal contestants.
            0 | 1 => return None,
            many => format!("{} twice in each of {many} rounds, interleaved", twin.label()),
        };
        Some(Self { noise: between(first, twin), from })
    }

    /// The larger of two, figure by figure.
    pub fn widest(self, other: Self) -> Self {
        let from =
            if self.from == other.from { self.from } else { "the twins of all tables".to_owned() };
        Self { noise: self.noise.widest(other.noise), from }
    }

    /// A line for people.
    pub fn words(&self) -> String {
        let figures = figures(&self.noise);
        format!("A/A noise, what equal contestants differ by: {figures} ({})", self.from)
    }
}

/// The figures of a noise that tables show.
pub fn figures(noise: &Noise) -> String {
    let figures = [Figure::Throughput, Figure::Cpu, Figure::P50, Figure::P99].into_iter();
    let parts = figures.filter_map(|figure| {
        let noise = figure.noise(noise)?;
        Some(format!("{} {:.1} %", short_name(figure), noise * 100.0))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn short_name(figure: Figure) -> &'static str {
    match figure {
        Figure::Throughput => "req/s",
        Figure::Cpu => "CPU",
        other => other.name(),
    }
}

/// The value of a figure in a turn.
fn of_turn(figure: Figure, turn: &Turn) -> Option<f64> {
    let latency = |which: fn(Percentiles) -> f64| Percentiles::of(&turn.latency).map(which);
    match figure {
        Figure::Throughput => model::throughput(turn),
        Figure::Cpu => model::cpu(turn),
        Figure::P50 => latency(|percentiles| percentiles.p50),
        Figure::P99 => latency(|percentiles| percentiles.p99),
        Figure::P999 => latency(|percentiles| percentiles.p999),
        // Letters and A/A noise are of figures that every row has.
        Figure::Count(_) => None,
    }
    .filter(|value| value.is_finite() && *value > 0.0)
}

/// The values of a figure with the number of their round.
type Series = Vec<(u32, f64)>;

fn series(record: &Record, figure: Figure) -> Series {
    let value = |(round, played): &(u32, model::Played)| {
        Some((*round, of_turn(figure, played.turn.as_ref().ok()?)?))
    };
    record.rounds.iter().filter_map(value).collect()
}

/// The values of the rounds that both have.
fn shared(left: &Series, right: &Series) -> Vec<(f64, f64)> {
    let pair = |(round, value): &(u32, f64)| {
        let (_, other) = right.iter().find(|(same, _)| same == round)?;
        Some((*value, *other))
    };
    left.iter().filter_map(pair).collect()
}

/// What two records differ by on average over their rounds.
fn between(one: &Record, other: &Record) -> Noise {
    let difference = |figure| {
        let pairs = shared(&series(one, figure), &series(other, figure));
        let ratios: Vec<f64> = pairs.iter().map(|(left, right)| (left / right).ln()).collect();
        statistics::mean(&ratios).map(|mean| measure::round(mean.abs().exp_m1()))
    };
    Figure::noises(difference)
}

/// Letters for the rows of a table: rows that share one cannot be told apart in this figure. Rows
/// without the figure have none, nor have rows whose faults came late. `None` when fewer than two rounds were played, or by fewer than two, and
/// when the best row and the worst one cannot be told apart: then letters would only seem to rank.
pub fn letters(group: &GroupResult, records: &[&Record], figure: Figure) -> Option<Vec<String>> {
    let of = |record: &&Record| match record.turns_with_late_faults() {
        0 => series(record, figure),
        _ => Series::new(),
    };
    let all: Vec<Series> = records.iter().map(of).collect();
    // The best first, so that it has the first letter.
    let middle = |series: &Series| {
        let values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
        statistics::median(&values)
    };
    let mut ranked: Vec<(usize, f64)> =
        all.iter().enumerate().filter_map(|(at, series)| Some((at, middle(series)?))).collect();
    ranked.sort_by(|(_, left), (_, right)| match figure.more_is_better() {
        true => right.total_cmp(left),
        false => left.total_cmp(right),
    });
    if ranked.len() < 2 || ranked.iter().all(|(at, _)| all[*at].len() < 2) {
        return None;
    }
    let noise = group.noise.as_ref().and_then(|measured| figure.noise(&measured.noise));
    let differs = |left: usize, right: usize| {
        let pairs = shared(&all[ranked[left].0], &all[ranked[right].0]);
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        // As the page does: a ranking asks once for each row after the first.
        statistics::distinguishable(&left, &right, noise.unwrap_or(0.0), ranked.len() - 1)
    };
    if !differs(0, ranked.len() - 1) {
        return None;
    }
    let mut letters = vec![String::new(); records.len()];
    for ((at, _), own) in ranked.iter().zip(statistics::letters(ranked.len(), differs)) {
        letters[*at] = own;
    }
    Some(letters)
}

/// Cells with letters behind their figures, so that figures stand below figures and letters below
/// letters.
pub fn beside(cells: Vec<String>, letters: &[String]) -> Vec<String> {
    let width = letters.iter().map(String::len).max().unwrap_or(0);
    let cell = |(cell, letters): (String, &String)| format!("{cell} {letters:<width$}");
    cells.into_iter().zip(letters).map(cell).collect()
}

/// The figure of a table that letters are about; none where it compares ways and not rows, or where the
/// scenario is about another figure: letters beside latencies would seem to rank by these.
pub fn figure(group: &GroupResult) -> Option<Figure> {
    match group.demand.is_open() {
        _ if group.scenario.play == Play::Reuse => None,
        true if group.scenario.figure != About::P99 => None,
        true => Some(Figure::P99),
        false => Some(Figure::Throughput),
    }
}

/// Whether two rows have a letter in common; a row may have several.
fn share_a_letter(letters: &[String]) -> bool {
    let mut seen = std::collections::HashSet::new();
    !letters.iter().flat_map(|own| own.chars()).all(|letter| seen.insert(letter))
}

/// What stands under a table about letters and noise.
pub fn notes(group: &GroupResult) -> Vec<String> {
    let mut notes = Vec::new();
    let records: Vec<&Record> = group.records.iter().collect();
    if group.scenario.play == Play::Reuse {
        return notes;
    }
    let known = |figure| records.iter().any(|record| series(record, figure).len() > 1);
    if records.len() < 2 {
        // Nothing to tell apart.
    } else if records.iter().all(|record| record.rounds.len() < 2) {
        notes.push(
            "one round: nothing says how much another would differ, so small differences may be noise (--rounds)"
                .to_owned(),
        );
    } else if let Some(figure) = figure(group).filter(|figure| known(*figure)) {
        let name = short_name(figure);
        notes.push(match letters(group, &records, figure) {
            None => format!(
                "no letters beside {name}: not even the best row and the worst can be told apart in it, in these rounds (--rounds)"
            ),
            Some(letters) if share_a_letter(&letters) => format!(
                "letters beside {name}: rows that share a letter cannot be told apart in it, in these rounds"
            ),
            Some(_) => {
                format!("letters beside {name}: no two rows share one, so all of them differ in it")
            }
        });
    }
    notes.extend(group.noise.as_ref().map(MeasuredNoise::words));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_several_letters_share_one() {
        let share = |letters: &[&str]| {
            share_a_letter(&letters.iter().map(|&own| own.to_owned()).collect::<Vec<_>>())
        };
        assert!(share(&["a", "ab", "c"]) && share(&["a", "a"]));
        assert!(!share(&["a", "b", "c"]) && !share(&["ab", "cd"]));
    }

    #[test]
    fn letters_stand_below_each_other() {
        let cells = vec!["103k".to_owned(), "98k".to_owned(), "-".to_owned()];
        let letters = ["a", "ab", ""].map(str::to_owned);
        assert_eq!(beside(cells, &letters), ["103k a ", "98k ab", "-   "]);
    }

    #[test]
    fn only_rounds_that_both_played_are_compared() {
        let left = vec![(1, 10.0), (2, 20.0), (3, 30.0)];
        assert_eq!(shared(&left, &vec![(3, 3.0), (1, 1.0), (4, 4.0)]), [(10.0, 1.0), (30.0, 3.0)]);
    }

    #[test]
    fn the_line_about_noise_says_where_it_comes_from() {
        let noise = Noise { throughput: Some(0.012), p99: Some(0.031), ..Noise::default() };
        let words = MeasuredNoise { noise, from: "redigo twice".to_owned() }.words();
        assert_eq!(
            words,
            "A/A noise, what equal contestants differ by: req/s 1.2 %, p99 3.1 % (redigo twice)"
        );
    }
}
