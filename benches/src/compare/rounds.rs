//! The rounds of two builds, and the test of their difference: of one run of each, or of several that were
//! played in turn.
//!
//! Two single runs are compared round by round, by Welch's test. A machine that is slower for some minutes
//! changes one run and not the other. That is part of their difference, and the scatter of their rounds does
//! not show it. Runs that were played in turn do: each run is compared with the run played beside it, and
//! the test is about these differences.

use std::collections::BTreeMap;

use super::figure::Figure;
use crate::report::saved::{Row, Saved};
use crate::statistics::{self, Test};

/// The values of a figure by round, scaled as its tests take them.
pub(super) type Series = BTreeMap<u64, f64>;

fn series(row: &Row, figure: Figure) -> Series {
    row.rounds_detail
        .iter()
        .enumerate()
        .filter_map(|(index, round)| {
            let number = round.round.unwrap_or(index as u64 + 1);
            Some((number, figure.scaled(figure.of_round(round)?)?))
        })
        .collect()
}

/// A series relative to another one of the same rounds.
fn relative(series: &Series, limit: &Series) -> Series {
    let pairs =
        series.iter().filter_map(|(round, value)| Some((*round, value - limit.get(round)?)));
    pairs.collect()
}

/// A figure of a row in the runs of both builds.
pub(super) struct Sides {
    /// One series for each run of BASE and of NEW.
    pub(super) runs: [Vec<Series>; 2],
    /// They are relative to the limit of the same round.
    pub(super) vs_limit: bool,
}

impl Sides {
    /// Of the rows of the same name in each pair of runs.
    pub(super) fn of(pairs: &[Pair<'_>], figure: Figure) -> Self {
        let side = |which: for<'p> fn(&'p Pair<'p>) -> (&'p Saved, &'p Row), with_limit: bool| {
            let run = |pair| {
                let (saved, row) = which(pair);
                let own = series(row, figure);
                if !with_limit {
                    return Some(own);
                }
                let limit = limit_of(saved, row).filter(|_| !row.is_limit())?;
                Some(relative(&own, &series(limit, figure)))
                    .filter(|ratios| ratios.len() == own.len())
            };
            pairs.iter().map(run).collect::<Option<Vec<Series>>>()
        };
        let both = |with_limit| {
            Some([side(|pair| pair.base, with_limit)?, side(|pair| pair.new, with_limit)?])
        };
        // A count has no ratio to the limit's.
        match both(true).filter(|_| figure.metric().is_none()) {
            Some(runs) => Self { runs, vs_limit: true },
            None => Self { runs: both(false).unwrap_or_default(), vs_limit: false },
        }
    }

    /// The mean of several rows, run by run.
    pub(super) fn together(rows: &[Self]) -> Self {
        let run = |side: usize, number: usize| {
            over_rows(&rows.iter().map(|row| &row.runs[side][number]).collect::<Vec<_>>())
        };
        let side = |side: usize| {
            let runs = rows.first().map_or(0, |row| row.runs[side].len());
            (0..runs).map(|number| run(side, number)).collect()
        };
        Self { runs: [side(0), side(1)], vs_limit: false }
    }

    /// The test of the difference; `None` with too few rounds, or runs without this figure.
    pub(super) fn test(&self) -> Option<Test> {
        let values = |series: &Series| series.values().copied().collect::<Vec<f64>>();
        match &self.runs {
            [base, new] if base.len() == 1 => {
                statistics::welch(&values(&base[0]), &values(&new[0]))
            }
            [base, new] => {
                let difference = |(base, new): (&Series, &Series)| {
                    let middle = |series| statistics::trimmed_mean(&values(series));
                    Some(middle(new)? - middle(base)?)
                };
                let differences: Option<Vec<f64>> = base.iter().zip(new).map(difference).collect();
                statistics::paired(&differences?)
            }
        }
    }
}

/// A row in a pair of runs, each with the run that it is of.
pub(super) struct Pair<'a> {
    pub(super) base: (&'a Saved, &'a Row),
    pub(super) new: (&'a Saved, &'a Row),
}

/// The limit that stands beside a row.
fn limit_of<'a>(saved: &'a Saved, row: &Row) -> Option<&'a Row> {
    saved.results.iter().find(|other| {
        other.is_limit()
            && other.protocol == row.protocol
            && other.scenario == row.scenario
            && other.variant == row.variant
            && other.step == row.step
    })
}

/// The mean over rows in each round that all rows have.
fn over_rows(rows: &[&Series]) -> Series {
    let Some((first, others)) = rows.split_first() else {
        return Series::new();
    };
    let mean = |round: &u64, value: f64| {
        let rest = others.iter().map(|row| row.get(round).copied()).sum::<Option<f64>>()?;
        Some((*round, (value + rest) / rows.len() as f64))
    };
    first.iter().filter_map(|(round, value)| mean(round, *value)).collect()
}
