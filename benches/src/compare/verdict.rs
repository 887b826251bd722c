//! The verdicts: each figure of each row that both runs have, and all rows together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LEAST_ROUNDS;
use super::chances::Chances;
use super::comparable;
use super::figure::Figure;
use super::left_out::LeftOut;
use super::power::{self, Power};
use super::rounds::{Pair, Sides};
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
    /// The change over rounds. It is relative (0.05 is 5 % more), or of a count the plain difference.
    pub change: f64,
    /// Whether it is the plain difference of a count.
    pub is_count: bool,
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
    /// Runs of each build: with several, each is compared with the one played beside it.
    pub pairs: usize,
    /// Where the noise threshold comes from.
    pub noise_from: &'static str,
    /// What differs between the runs.
    pub differences: Vec<String>,
    /// Rows that were left out, and why.
    pub left_out: Vec<String>,
}

/// Compares two builds by runs of both: one of each, or pairs of runs that were played in turn. The chance
/// of a false alarm is 5 % for the whole comparison: half of it for the figures of all rows together and
/// half for single rows, or all of it where there is one row.
///
/// # Errors
/// Why no row can be compared.
pub fn compare(runs: &[(&Saved, &Saved)]) -> Result<Comparison, String> {
    let Some(&(base, new)) = runs.first() else { return Err("there is no run".to_owned()) };
    let mut left_out = LeftOut::default();
    let mut rows = Vec::new();
    let mut pooled: BTreeMap<usize, Vec<Sides>> = BTreeMap::new();
    for row in &base.results {
        let pairs = match pairs_of(&row.name(), runs) {
            Ok(pairs) => pairs,
            Err(why) => {
                left_out.add(row, &why);
                continue;
            }
        };
        let mut changes = Vec::new();
        for (index, figure) in Figure::of(row).enumerate() {
            let sides = Sides::of(&pairs, figure);
            let Some(test) = sides.test() else { continue };
            let middle = |which: for<'p> fn(&'p Pair<'p>) -> &'p Row| {
                let values = pairs.iter().filter_map(|pair| figure.of_row(which(pair)));
                statistics::median(&values.collect::<Vec<_>>())
            };
            let both = (middle(|pair| pair.base.1), middle(|pair| pair.new.1));
            changes.push(Change::new(figure, both, test, sides.vs_limit));
            // Rows of different scenarios have different counts.
            if !row.is_limit() && figure.metric().is_none() {
                pooled.entry(index).or_default().push(sides);
            }
        }
        if changes.is_empty() {
            left_out.add(row, "no figures of single rounds in both files");
            continue;
        }
        let rounds = |which: for<'p> fn(&'p Pair<'p>) -> &'p Row| {
            pairs.iter().map(|pair| which(pair).rounds_detail.len()).sum()
        };
        rows.push(Compared {
            name: row.name(),
            is_limit: row.is_limit(),
            rounds: [rounds(|pair| pair.base.1), rounds(|pair| pair.new.1)],
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
    for (index, rows) in pooled.iter().filter(|(_, rows)| rows.len() > 1) {
        if let Some(test) = Sides::together(rows).test() {
            together.push(Change::new(Figure::ALL[*index], (None, None), test, false));
        }
    }
    // Pairs of runs differ by what drifts between runs, too: there is nothing to add.
    let noise = new.noise_between_runs().or(base.noise_between_runs());
    let noise = noise.filter(|_| runs.len() == 1);
    let alarms = if together.is_empty() { FALSE_ALARMS } else { FALSE_ALARMS / 2.0 };
    judge(&mut together.iter_mut().collect::<Vec<_>>(), noise.as_ref(), alarms);
    let mut all: Vec<&mut Change> = rows
        .iter_mut()
        .filter(|row| !row.is_limit)
        .flat_map(|row| row.changes.iter_mut())
        .collect();
    judge(&mut all, noise.as_ref(), alarms);
    let chances = Chances::of(all.iter().map(|change| change.figure), alarms);
    // A change to all rows shows first in all of them together.
    let asked: Vec<&Change> = match together.is_empty() {
        false => together.iter().collect(),
        true => all.iter().map(|change| &**change).collect(),
    };
    let least = rows_of(runs, |(base, _)| *base).min(rows_of(runs, |(_, new)| *new));
    let power = power::of(&asked, alarms, least, runs.len());
    for row in &mut rows {
        if row.is_limit {
            // The reference is read beside the others.
            row.changes
                .iter_mut()
                .for_each(|change| change.widen(chances.of_figure(change.figure)));
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
        pairs: runs.len(),
        noise_from: match noise {
            _ if runs.len() > 1 => {
                "the differences of runs played in turn, which hold what drifts between runs"
            }
            Some(_) => "runs of one build (calibration.json)",
            None => "the spread of rounds in these runs (poolbench calibrate was not run)",
        },
        differences: differences(runs),
        left_out,
    })
}

/// The rows of this name in each pair of runs.
///
/// # Errors
/// Why they cannot be compared.
fn pairs_of<'a>(name: &str, runs: &[(&'a Saved, &'a Saved)]) -> Result<Vec<Pair<'a>>, String> {
    let find = |saved: &'a Saved| saved.results.iter().find(|row| row.name() == name);
    let pair = |&(base, new): &(&'a Saved, &'a Saved)| {
        let (own, other) = match (find(base), find(new)) {
            (Some(own), Some(other)) => (own, other),
            (_, None) if runs.len() == 1 => return Err("only in BASE".to_owned()),
            _ => return Err("not in every run".to_owned()),
        };
        // Several runs scatter among themselves, whatever the rounds of each.
        let least = if runs.len() > 1 { 1 } else { LEAST_ROUNDS as usize };
        match why_not((base, own), (new, other), least) {
            Some(why) => Err(why),
            None => Ok(Pair { base: (base, own), new: (new, other) }),
        }
    };
    runs.iter().map(pair).collect()
}

/// Rounds of the rows of a build, in all its runs.
fn rows_of<'a>(
    runs: &[(&'a Saved, &'a Saved)],
    which: fn(&(&'a Saved, &'a Saved)) -> &'a Saved,
) -> usize {
    let rounds = |saved: &Saved| saved.results.iter().map(|row| row.rounds_detail.len()).max();
    runs.iter().map(|pair| rounds(which(pair)).unwrap_or(0)).sum()
}

/// What differs between the runs of both builds.
fn differences(runs: &[(&Saved, &Saved)]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for words in runs.iter().flat_map(|(base, new)| comparable::of_runs(base, new)) {
        if !all.contains(&words) {
            all.push(words);
        }
    }
    let times = |which: fn(&(&Saved, &Saved)) -> Option<u64>| -> Option<(u64, u64)> {
        let times: Vec<u64> = runs.iter().map(which).collect::<Option<_>>()?;
        times.iter().min().copied().zip(times.iter().max().copied())
    };
    let both =
        times(|(base, _)| base.measured_at_unix_s).zip(times(|(_, new)| new.measured_at_unix_s));
    if let Some(((base, end), (new, last))) = both
        && runs.len() > 1
        && (end < new || last < base)
    {
        all.push(
            "time: all runs of one build came before those of the other, so what drifted meanwhile is part of the changes"
                .to_owned(),
        );
    }
    all
}

/// The tests of all rows but the limit, figure by figure.
///
/// # Errors
/// Why no row can be compared.
pub fn tests(base: &Saved, new: &Saved) -> Result<Vec<(Figure, Test)>, String> {
    let comparison = compare(&[(base, new)])?;
    let rows = comparison.rows.iter().filter(|row| !row.is_limit);
    Ok(rows.flat_map(|row| &row.changes).map(|change| (change.figure, change.test)).collect())
}

/// Why two rows of the same name cannot be compared.
fn why_not(base: (&Saved, &Row), new: (&Saved, &Row), least: usize) -> Option<String> {
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
        if row.has_late_requests() {
            return Some(format!("its requests were sent late in {name}"));
        }
        if row.rounds_detail.len() < least {
            return Some(format!(
                "{name} has {} rounds in its rounds_detail, {least} are the least (--rounds)",
                row.rounds_detail.len()
            ));
        }
    }
    let differences = comparable::of_rows(base, new);
    (!differences.is_empty()).then(|| differences.join("; "))
}

impl Change {
    /// Takes the interval that a test with this chance of a false alarm goes by.
    fn widen(&mut self, chance: f64) {
        let change = |difference| self.figure.change(difference);
        self.interval = self.test.interval(1.0 - chance).map(change);
    }

    /// The change relative to BASE.
    pub(super) fn relative(&self) -> f64 {
        match self.base {
            Some(base) if self.is_count => self.change / base,
            _ => self.change,
        }
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
            change: figure.change(test.difference),
            is_count: figure.metric().is_some(),
            interval: test.interval(0.95).map(|difference| figure.change(difference)),
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
    let chances = Chances::of(changes.iter().map(|change| change.figure), alarms);
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
        let (figure, metric) = (change.figure, change.figure.metric());
        let at = Figure::ALL.iter().position(|one| *one == figure).unwrap_or(0);
        change.floor = metric.map_or(floors[at], |metric| metric.floor(Noise::default()));
        let chance = chances.of_figure(change.figure);
        change.widen(chance);
        if change.p <= chance && change.test.difference.abs() > figure.difference(change.floor) {
            let better = (change.test.difference > 0.0) == change.figure.more_is_better();
            change.verdict = if better { Verdict::Improved } else { Verdict::Regressed };
        } else {
            let [low, high] = change.test.interval(1.0 - chance);
            let wanted = match metric {
                Some(metric) => metric.wanted(change.base.unwrap_or(0.0)),
                None => power::wanted(figure),
            };
            let wanted = wanted.max(change.floor);
            change.too_few_rounds = (high - low) / 2.0 > figure.difference(wanted);
        }
    }
}
