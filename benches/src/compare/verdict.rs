//! The verdicts: each figure of each row that both runs have, and all rows together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LEAST_ROUNDS;
use super::comparable;
use super::figure::Figure;
use super::left_out::LeftOut;
use super::power::{self, Power};
use crate::report::saved::{Noise, Row, Saved};
use crate::statistics::{self, FALSE_ALARMS, LEAST_FLOOR, Test};

/// What became of a figure, a row or a whole comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Better beyond the noise.
    Improved,
    /// Worse beyond the noise.
    Regressed,
    /// Inside the noise.
    NoDifference,
    /// Some figures are better, others worse.
    Mixed,
}

impl Verdict {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::NoDifference => "no difference",
            Self::Mixed => "mixed",
        }
    }

    /// Several verdicts in one.
    pub fn of_all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().fold(Self::NoDifference, |all, next| match (all, next) {
            (all, Self::NoDifference) => all,
            (Self::NoDifference, next) => next,
            (all, next) if all == next => all,
            _ => Self::Mixed,
        })
    }
}

/// A figure of a row, or of all rows together, in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Which figure.
    pub figure: Figure,
    /// Its value in BASE and NEW, as the files have it.
    pub base: Option<f64>,
    /// The same in NEW.
    pub new: Option<f64>,
    /// The relative change over rounds: 0.05 is 5 % more.
    pub change: f64,
    /// The interval of the change, by the same test as the verdict: all intervals of single rows hold
    /// together at the level that the verdicts have.
    pub interval: [f64; 2],
    /// The chance of a measured change as large as this one where the runs do not differ.
    pub p: f64,
    /// The least change that counts.
    pub floor: f64,
    /// The values were taken relative to the limit of the same round.
    pub vs_limit: bool,
    /// What to make of it.
    pub verdict: Verdict,
    /// There is no difference to be seen, and the rounds are too few to exclude one of the size that
    /// is looked for.
    pub too_few_rounds: bool,
    #[serde(skip)]
    test: Test,
}

/// A row that both runs have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Protocol, scenario, contestant.
    pub name: String,
    /// It is the reference: its changes are the machine's, and no verdict is made of them.
    pub is_limit: bool,
    /// Rounds in BASE and NEW.
    pub rounds: [usize; 2],
    /// Its figures.
    pub changes: Vec<Change>,
    /// Its figures together.
    pub verdict: Verdict,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// All of it in one word.
    pub verdict: Verdict,
    /// Each figure over all rows together: what a change to all of them shows first.
    pub together: Vec<Change>,
    /// Each row.
    pub rows: Vec<Compared>,
    /// What the rounds could show.
    pub power: Vec<Power>,
    /// Where the noise threshold comes from.
    pub noise_from: &'static str,
    /// What differs between the runs.
    pub differences: Vec<String>,
    /// Rows that were left out, and why.
    pub left_out: Vec<String>,
}

/// The values of a figure by round, as logarithms: differences of them are ratios.
type Series = BTreeMap<u64, f64>;

fn series(row: &Row, figure: Figure) -> Series {
    row.rounds_detail
        .iter()
        .enumerate()
        .filter_map(|(index, round)| {
            let number = round.round.unwrap_or(index as u64 + 1);
            Some((number, figure.of_round(round)?.ln()))
        })
        .collect()
}

/// A series relative to another one of the same rounds.
fn relative(series: &Series, limit: &Series) -> Series {
    let pairs =
        series.iter().filter_map(|(round, value)| Some((*round, value - limit.get(round)?)));
    pairs.collect()
}

fn values(series: &Series) -> Vec<f64> {
    series.values().copied().collect()
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

/// Compares two runs. The chance of a false alarm is 5 % for the whole comparison: half of it for the
/// figures of all rows together and half for single rows, or all of it where there is one row.
///
/// # Errors
/// Why no row can be compared.
pub fn compare(base: &Saved, new: &Saved) -> Result<Comparison, String> {
    let mut left_out = LeftOut::default();
    let mut rows = Vec::new();
    let mut pooled: BTreeMap<usize, [Vec<Series>; 2]> = BTreeMap::new();
    let noise = new.noise_between_runs().or(base.noise_between_runs());
    for row in &base.results {
        let name = row.name();
        let Some(other) = new.results.iter().find(|other| other.name() == name) else {
            left_out.add(row, "only in BASE");
            continue;
        };
        if let Some(why) = why_not((base, row), (new, other)) {
            left_out.add(row, &why);
            continue;
        }
        let mut changes = Vec::new();
        for (index, figure) in Figure::ALL.into_iter().enumerate() {
            let mut pair = [series(row, figure), series(other, figure)];
            let limits = limit_of(base, row).zip(limit_of(new, other));
            let limits = limits.filter(|_| !row.is_limit());
            let mut vs_limit = false;
            if let Some((left, right)) = limits {
                let against = [
                    relative(&pair[0], &series(left, figure)),
                    relative(&pair[1], &series(right, figure)),
                ];
                if against.iter().zip(&pair).all(|(ratios, plain)| ratios.len() == plain.len()) {
                    pair = against;
                    vs_limit = true;
                }
            }
            let Some(test) = statistics::welch(&values(&pair[0]), &values(&pair[1])) else {
                continue;
            };
            let both = (figure.of_row(row), figure.of_row(other));
            changes.push(Change::new(figure, both, test, vs_limit));
            if !row.is_limit() {
                let [left, right] = pooled.entry(index).or_default();
                let [first, second] = pair;
                left.push(first);
                right.push(second);
            }
        }
        if changes.is_empty() {
            left_out.add(row, "no figures of single rounds in both files");
            continue;
        }
        rows.push(Compared {
            name,
            is_limit: row.is_limit(),
            rounds: [row.rounds_detail.len(), other.rounds_detail.len()],
            changes,
            verdict: Verdict::NoDifference,
        });
    }
    let known: Vec<String> = base.results.iter().map(Row::name).collect();
    for row in new.results.iter().filter(|row| !known.contains(&row.name())) {
        left_out.add(row, "only in NEW");
    }
    let left_out = left_out.lines();
    if rows.is_empty() {
        let why = left_out.first().cloned().unwrap_or_else(|| "a file has no rows".to_owned());
        return Err(format!("the runs have no row that can be compared ({why})"));
    }
    let mut together = Vec::new();
    for (index, [left, right]) in pooled.iter().filter(|(_, [left, _])| left.len() > 1) {
        let (left, right) = (over_rows(left), over_rows(right));
        if let Some(test) = statistics::welch(&values(&left), &values(&right)) {
            together.push(Change::new(Figure::ALL[*index], (None, None), test, false));
        }
    }
    let alarms = if together.is_empty() { FALSE_ALARMS } else { FALSE_ALARMS / 2.0 };
    judge(&mut together.iter_mut().collect::<Vec<_>>(), noise.as_ref(), alarms);
    let mut all: Vec<&mut Change> = rows
        .iter_mut()
        .filter(|row| !row.is_limit)
        .flat_map(|row| row.changes.iter_mut())
        .collect();
    judge(&mut all, noise.as_ref(), alarms);
    let asks = all.len();
    // A change to all rows shows first in all of them together.
    let asked: Vec<&Change> = match together.is_empty() {
        false => together.iter().collect(),
        true => all.iter().map(|change| &**change).collect(),
    };
    let least = rounds_of(base).min(rounds_of(new));
    let power = power::of(&asked, alarms, least);
    for row in &mut rows {
        if row.is_limit {
            // The reference is read beside the others.
            row.changes.iter_mut().for_each(|change| change.widen(chance(asks, alarms)));
        }
        row.verdict = Verdict::of_all(row.changes.iter().map(|change| change.verdict));
    }
    let verdicts = rows.iter().map(|row| row.verdict);
    let verdict = Verdict::of_all(verdicts.chain(together.iter().map(|change| change.verdict)));
    Ok(Comparison {
        verdict,
        together,
        rows,
        power,
        noise_from: if noise.is_some() {
            "runs of one build (calibration.json)"
        } else {
            "the spread of rounds in these runs (poolbench calibrate was not run)"
        },
        differences: comparable::of_runs(base, new),
        left_out,
    })
}

/// The tests of all rows but the limit, figure by figure.
///
/// # Errors
/// Why no row can be compared.
pub fn tests(base: &Saved, new: &Saved) -> Result<Vec<(Figure, Test)>, String> {
    let comparison = compare(base, new)?;
    let rows = comparison.rows.iter().filter(|row| !row.is_limit);
    Ok(rows.flat_map(|row| &row.changes).map(|change| (change.figure, change.test)).collect())
}

/// Why two rows of the same name cannot be compared.
fn why_not(base: (&Saved, &Row), new: (&Saved, &Row)) -> Option<String> {
    for (name, row) in [("BASE", base.1), ("NEW", new.1)] {
        if let Some(broke) = &row.broke {
            return Some(format!("it broke in {name}: {broke}"));
        }
        if let Some(overloaded) = &row.overloaded {
            return Some(format!("it was overloaded in {name}: {overloaded}"));
        }
        if row.has_late_faults() {
            return Some(format!("its faults came late in {name}"));
        }
        if row.rounds_detail.len() < LEAST_ROUNDS as usize {
            return Some(format!(
                "{name} has {} rounds in its rounds_detail, {LEAST_ROUNDS} are the least (--rounds)",
                row.rounds_detail.len()
            ));
        }
    }
    let differences = comparable::of_rows(base, new);
    (!differences.is_empty()).then(|| differences.join("; "))
}

/// Rounds of the rows of a run.
fn rounds_of(saved: &Saved) -> usize {
    saved.results.iter().map(|row| row.rounds_detail.len()).max().unwrap_or(0)
}

/// The mean over rows in each round that all rows have.
fn over_rows(rows: &[Series]) -> Series {
    let Some((first, others)) = rows.split_first() else {
        return Series::new();
    };
    let mean = |round: &u64, value: f64| {
        let rest = others.iter().map(|row| row.get(round).copied()).sum::<Option<f64>>()?;
        Some((*round, (value + rest) / rows.len() as f64))
    };
    first.iter().filter_map(|(round, value)| mean(round, *value)).collect()
}

impl Change {
    /// Takes the interval that a test with this chance of a false alarm goes by.
    fn widen(&mut self, chance: f64) {
        self.interval = self.test.interval(1.0 - chance).map(f64::exp_m1);
    }

    /// The test behind it.
    pub(super) fn test(&self) -> &Test {
        &self.test
    }

    fn new(
        figure: Figure,
        (base, new): (Option<f64>, Option<f64>),
        test: Test,
        vs_limit: bool,
    ) -> Self {
        Self {
            figure,
            base,
            new,
            change: test.difference.exp_m1(),
            interval: test.interval(0.95).map(f64::exp_m1),
            p: test.p,
            floor: 0.0,
            vs_limit,
            verdict: Verdict::NoDifference,
            too_few_rounds: false,
            test,
        }
    }
}

/// Gives verdicts to changes that share this chance of a false alarm.
fn judge(changes: &mut [&mut Change], noise: Option<&Noise>, alarms: f64) {
    let chance = chance(changes.len(), alarms);
    // Without an A/A run: what the middle row's difference is uncertain by.
    let spread = |figure: Figure| {
        let same = changes.iter().filter(|change| change.figure == figure);
        let errors: Vec<f64> = same.map(|change| change.test.error).collect();
        statistics::median(&errors).unwrap_or(0.0)
    };
    let floors = Figure::ALL.map(|figure| {
        let measured = noise.and_then(|noise| figure.noise(noise));
        measured.unwrap_or_else(|| spread(figure)).max(LEAST_FLOOR)
    });
    for change in changes.iter_mut() {
        let at = Figure::ALL.iter().position(|figure| *figure == change.figure).unwrap_or(0);
        change.floor = floors[at];
        change.widen(chance);
        if change.p <= chance && change.test.difference.abs() > change.floor.ln_1p() {
            let better = (change.test.difference > 0.0) == change.figure.more_is_better();
            change.verdict = if better { Verdict::Improved } else { Verdict::Regressed };
        } else {
            let [low, high] = change.test.interval(1.0 - chance);
            let wanted = power::wanted(change.figure).max(change.floor);
            change.too_few_rounds = (high - low) / 2.0 > wanted.ln_1p();
        }
    }
}

/// The chance of a false alarm of each of several tests that share one (Bonferroni). A stepwise
/// correction finds a little more, but its intervals do not go with its verdicts.
fn chance(tests: usize, alarms: f64) -> f64 {
    alarms / tests.max(1) as f64
}
