//! What differs beyond the noise: intervals over rounds, and verdicts.

use crate::compare::power;
use crate::report::saved::{Noise, Recovery, Round, Row};
use crate::scenario::Figure;
use crate::statistics::{self, Test};

/// The figure by which contestants are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Throughput,
    P99,
    Cpu,
    /// Failed requests in a thousand.
    Failed,
    /// Failed requests in a thousand of those that were wanted while new connections worked.
    FailedWhileUp,
    /// Connections opened for a thousand requests.
    Opened,
    /// Attempts to dial for a thousand requests.
    Dials,
    /// Attempts to dial in a round.
    AllDials,
    /// The most attempts to dial in 100 ms.
    PeakDials,
    /// Milliseconds from the end of the last fault to normal latencies; [`NEVER`] if they did not come.
    Recovery,
    /// The slow backend's percentage of the replies while it was slow.
    SlowShare,
}

/// Stands for the time of an event that never happened, so that it can be compared with times.
pub const NEVER: f64 = 1e9;

/// The longest window after a fault, in milliseconds.
pub const LONGEST_RECOVERY: f64 = 10_000.0;

/// Times to recover that differ by more milliseconds are told apart. They are whole steps of 100 ms of the
/// time line and a little: a threshold of whole steps would be crossed by microseconds.
const BEYOND_A_STEP: f64 = 150.0;

/// With one round, which has no interval, figures count as different only from this factor on.
const SINGLE_FACTOR: f64 = 1.25;

/// The interval of fewer rounds does not show that two figures are the same.
pub const FEW_ROUNDS: usize = 3;

/// The difference of two contestants: a relative change (0.1 is 10 % more), or for counts in a
/// thousand the plain difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    pub change: f64,
    /// The 95 % interval; `None` when there are too few rounds for one.
    pub interval: Option<(f64, f64)>,
    /// Without an interval, or with one of two rounds: whether the figures are so far apart that this is
    /// no equality, whatever the interval says.
    pub is_far: bool,
}

/// The meaning of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Same,
    Worse,
    /// Too few rounds to say.
    Unknown,
}

impl Verdict {
    /// The words in tables, with the name of what a row is compared with.
    pub fn words(self, base: &str) -> String {
        let word = match self {
            Self::Better => "better than",
            Self::Same => "same as",
            Self::Worse => "worse than",
            Self::Unknown => return "too few rounds".to_owned(),
        };
        format!("{word} {}", super::text::clip(base, 40))
    }
}

/// Values of a metric with the number of their round.
pub type Series = Vec<(u64, f64)>;

impl Metric {
    /// The figure that a scenario is about, by the name that results have for it.
    pub fn of_figure(name: &str) -> Option<Self> {
        Figure::ALL.into_iter().find(|figure| figure.name() == name).map(|figure| match figure {
            Figure::Cpu => Self::Cpu,
            // The ways of the three-way test are rows: their rates show what reuse is worth.
            Figure::Reuse | Figure::Throughput => Self::Throughput,
            Figure::Failed => Self::Failed,
            Figure::FailedWhileUp => Self::FailedWhileUp,
            Figure::P99 => Self::P99,
            Figure::Opened => Self::Opened,
            Figure::Dials => Self::AllDials,
            Figure::PeakDials => Self::PeakDials,
            Figure::Recovery => Self::Recovery,
            Figure::SlowShare => Self::SlowShare,
        })
    }

    /// Its name in headings and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllDials => Figure::Dials.words(),
            Self::PeakDials => Figure::PeakDials.words(),
            Self::Recovery => Figure::Recovery.words(),
            Self::SlowShare => Figure::SlowShare.words(),
            Self::Throughput => Figure::Throughput.words(),
            Self::P99 => Figure::P99.words(),
            Self::Cpu => Figure::Cpu.words(),
            Self::Failed => Figure::Failed.words(),
            Self::FailedWhileUp => Figure::FailedWhileUp.words(),
            Self::Opened => Figure::Opened.words(),
            Self::Dials => "dials per 1,000",
        }
    }

    /// A value of it in words.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Recovery if value >= NEVER => "never".to_owned(),
            Self::Recovery => format!("{} ms", super::text::count(value)),
            Self::SlowShare => format!("{} %", super::text::figure(value)),
            Self::AllDials | Self::PeakDials => super::text::figure(value),
            Self::P99 | Self::Cpu => super::text::micros(value),
            Self::Throughput => super::text::figure(value),
            Self::Failed | Self::FailedWhileUp | Self::Opened | Self::Dials => match value >= 99.95
            {
                true => super::text::count(value),
                false => super::text::figure(value),
            },
        }
    }

    /// The ratio of two values, without a unit, so that differences in one figure can be compared with
    /// differences in another. The least difference that counts is added to both, since zero is a
    /// common value: the ratio of 0 and 10 failures is 2, that of 0 and 490 failures is 50.
    pub fn times_apart(self, one: f64, other: f64) -> f64 {
        let least = self.single_floor().unwrap_or(0.0);
        // A recovery that never came counts as one after the longest window.
        let longest = if self == Self::Recovery { LONGEST_RECOVERY } else { f64::MAX };
        let [one, other] = [one, other].map(|value| value.min(longest) + least);
        let times = (one / other).max(other / one);
        if times.is_finite() { times } else { f64::MAX }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        self == Self::Throughput
    }

    /// Whether differences are taken as they are, since zero is a common value.
    pub fn is_absolute(self) -> bool {
        !matches!(self, Self::Throughput | Self::P99 | Self::Cpu)
    }

    /// The least difference that counts: the noise that was measured, or else a fixed value.
    pub fn floor(self, noise: Noise) -> f64 {
        let measured = match self {
            Self::Throughput => noise.throughput,
            Self::P99 => noise.p99,
            Self::Cpu => noise.cpu,
            _ => None,
        };
        measured.filter(|floor| floor.is_finite() && *floor >= 0.0).unwrap_or(match self {
            Self::Throughput | Self::Cpu => 0.02,
            Self::P99 => 0.1,
            Self::Recovery => BEYOND_A_STEP,
            _ => 1.0,
        })
    }

    /// Its value in a round.
    pub fn of_round(self, round: &Round) -> Option<f64> {
        let value = match self {
            Self::AllDials => round.dials?,
            Self::PeakDials => round.peak_dials_per_100ms?,
            Self::Recovery => time_to_normal(round.recovery.as_ref()?)?,
            Self::SlowShare => round.slow_percent?,
            Self::FailedWhileUp => round.failed_while_up_per_1000?,
            Self::Throughput => round.throughput_per_s?,
            Self::P99 => round.p99_us?,
            Self::Cpu => round.cpu_us_per_request?,
            Self::Failed => {
                let failed = round.errors? + round.unstarted.unwrap_or(0.0);
                per_thousand(failed, round.requests? + failed)?
            }
            // Both count from the start of the turn, warm-up included.
            Self::Opened => per_thousand(round.opened?, round.replies_all.or(round.requests)?)?,
            Self::Dials => per_thousand(round.dials?, round.replies_all.or(round.requests)?)?,
        };
        value.is_finite().then_some(value)
    }

    /// The figure over all rounds.
    pub fn of(self, row: &Row) -> Option<f64> {
        // The middle of the rounds, and what older results have instead.
        let middle = |older: Option<f64>| {
            let rounds = self.rounds(row);
            median(rounds.into_iter().map(|(_, value)| value).collect()).or(older)
        };
        match self {
            Self::AllDials => middle(row.dials.filter(|_| row.rounds_detail.len() < 2)),
            Self::PeakDials => middle(row.peak_dials_per_100ms),
            Self::Recovery => middle(row.recovery.as_ref().and_then(time_to_normal)),
            Self::SlowShare | Self::FailedWhileUp => middle(None),
            Self::Throughput => row.throughput_per_s,
            Self::P99 => row.latency_us?.p99,
            Self::Cpu => row.cpu_us_per_request,
            Self::Failed => {
                let failed = row.failed()? + row.unstarted.unwrap_or(0.0);
                per_thousand(failed, row.requests? + failed)
            }
            Self::Opened => per_thousand(row.opened?, row.replies_all.or(row.requests)?),
            Self::Dials => per_thousand(row.dials?, row.replies_all.or(row.requests)?),
        }
    }

    /// The figure of each round.
    pub fn rounds(self, row: &Row) -> Series {
        let numbered = row.rounds_detail.iter().zip(1..);
        numbered
            .filter_map(|(round, index)| {
                Some((round.round.unwrap_or(index), self.of_round(round)?))
            })
            .collect()
    }

    /// How `own` differs from `base`. Rounds of one run are paired; those of two runs are not.
    ///
    /// The interval is one of 95 % for `questions` such differences together.
    pub fn effect(self, own: &Row, base: &Row, paired: bool, questions: usize) -> Option<Effect> {
        let chance = 0.05 / questions.max(1) as f64;
        let (own_rounds, base_rounds) = (self.rounds(own), self.rounds(base));
        let measured = if paired {
            self.paired(&own_rounds, &base_rounds, chance)
        } else {
            self.unpaired(&own_rounds, &base_rounds, chance)
        };
        let measured =
            measured.map(|effect| match self.is_far_in_each(&own_rounds, &base_rounds, paired) {
                true => Effect { interval: None, is_far: true, ..effect },
                false => effect,
            });
        measured.or_else(|| {
            // One round shows a difference, but not how certain it is.
            let value = |rounds: Series, row| {
                median(rounds.into_iter().map(|(_, value)| value).collect()).or(self.of(row))
            };
            self.plain(value(own_rounds, own)?, value(base_rounds, base)?)
        })
    }

    /// Whether there are two rounds and each of them differs by the rule of one round, in the same direction.
    /// Almost everything lies in the interval of two rounds, so it would tell less than either of them.
    fn is_far_in_each(self, own: &Series, base: &Series, paired: bool) -> bool {
        if own.len().min(base.len()) >= FEW_ROUNDS {
            return false;
        }
        let effects: Vec<Option<Effect>> = own
            .iter()
            .flat_map(|one| base.iter().map(move |other| (one, other)))
            .filter(|((round, _), (other, _))| !paired || round == other)
            .map(|((_, own), (_, base))| self.plain(*own, *base))
            .collect();
        let all =
            |test: fn(&Effect) -> bool| effects.iter().all(|one| one.as_ref().is_some_and(test));
        all(|effect| effect.is_far && effect.change > 0.0)
            || all(|effect| effect.is_far && effect.change < 0.0)
    }

    /// A difference of two figures, of unknown certainty.
    fn plain(self, own: f64, base: f64) -> Option<Effect> {
        let change = if self.is_absolute() { own - base } else { own / base - 1.0 };
        let (small, large) = (own.abs().min(base.abs()), own.abs().max(base.abs()));
        let is_far = large >= small * SINGLE_FACTOR
            && self.single_floor().is_some_and(|floor| change.abs() >= floor);
        change.is_finite().then_some(Effect { change, interval: None, is_far })
    }

    /// The least difference that is named where a single round was played; `None` for rates and times of
    /// requests, of which one round says too little: only events are counted.
    pub fn single_floor(self) -> Option<f64> {
        match self {
            Self::Throughput | Self::Cpu | Self::P99 => None,
            Self::Recovery => Some(BEYOND_A_STEP),
            _ => Some(10.0),
        }
    }

    /// Better or worse only when the whole interval lies beyond the noise floor; without an interval
    /// only when events differ so much that no second round is needed to see it.
    pub fn verdict(self, effect: &Effect, noise: Noise) -> Verdict {
        let (above, below) = match effect.interval {
            None if !effect.is_far => return Verdict::Unknown,
            None => (effect.change > 0.0, effect.change < 0.0),
            Some((low, high)) => {
                let floor = self.floor(noise);
                // Half as much is as far as twice as much.
                let least = if self.is_absolute() { -floor } else { 1.0 / (1.0 + floor) - 1.0 };
                (low > floor, high < least)
            }
        };
        match (above, below) {
            // The interval of two rounds is so wide that almost everything is within it.
            (false, false) if effect.is_far => Verdict::Unknown,
            (false, false) => Verdict::Same,
            _ if above == self.higher_is_better() => Verdict::Better,
            _ => Verdict::Worse,
        }
    }

    /// Whether an interval is narrow enough to call two runs the same. Beside a base of this value a difference
    /// that matters does not fit into it; `compare` has the same rule.
    pub fn is_narrow(self, interval: (f64, f64), base: f64, noise: Noise) -> bool {
        let wanted = self.wanted(base).max(self.floor(noise));
        let (low, high) = interval;
        match self.is_absolute() {
            true => (high - low) / 2.0 <= wanted,
            false => (high.ln_1p() - low.ln_1p()) / 2.0 <= wanted.ln_1p(),
        }
    }

    /// The difference that two runs have to show, beside a base of this value. Counts are asked for a quarter,
    /// as tails are, and for no less than what one round shows.
    pub fn wanted(self, base: f64) -> f64 {
        match self {
            Self::Throughput | Self::Cpu => power::WANTED,
            Self::P99 => power::WANTED_TAIL,
            _ => self.single_floor().unwrap_or(0.0).max(power::WANTED_TAIL * base.abs()),
        }
    }

    fn scaled(self, value: f64) -> Option<f64> {
        match self.is_absolute() {
            true => Some(value),
            false => (value > 0.0).then(|| value.ln()),
        }
    }

    fn back(self, value: f64) -> f64 {
        if self.is_absolute() { value } else { value.exp_m1() }
    }

    fn effect_of(self, test: &Test, chance: f64, rounds: usize) -> Effect {
        let [low, high] = test.interval(1.0 - chance);
        let change = self.back(test.difference);
        let far = match self.single_floor() {
            Some(floor) => floor,
            None => SINGLE_FACTOR - 1.0,
        };
        Effect {
            change,
            interval: Some((self.back(low), self.back(high))),
            is_far: rounds < FEW_ROUNDS && change.abs() >= far,
        }
    }

    fn paired(self, own: &Series, base: &Series, chance: f64) -> Option<Effect> {
        let differences: Vec<f64> = own
            .iter()
            .filter_map(|(round, value)| {
                let (_, other) = base.iter().find(|(same, _)| same == round)?;
                Some(self.scaled(*value)? - self.scaled(*other)?)
            })
            .collect();
        Some(self.effect_of(&statistics::paired(&differences)?, chance, differences.len()))
    }

    /// Welch's interval: the two runs may vary differently.
    fn unpaired(self, own: &Series, base: &Series, chance: f64) -> Option<Effect> {
        let scaled = |series: &Series| -> Option<Vec<f64>> {
            series.iter().map(|(_, value)| self.scaled(*value)).collect()
        };
        let (own, base) = (scaled(own)?, scaled(base)?);
        let rounds = own.len().min(base.len());
        Some(self.effect_of(&statistics::welch(&base, &own)?, chance, rounds))
    }
}

/// The time to normal latencies; [`NEVER`] if they did not come; `None` if it is unknown what is normal, or
/// if the window ended too early to know.
fn time_to_normal(recovery: &Recovery) -> Option<f64> {
    let is_told = |why: &String| why.starts_with("not within");
    match &recovery.normal_p99_missing {
        Some(why) if !is_told(why) => None,
        _ => Some(recovery.normal_p99_ms.unwrap_or(NEVER)),
    }
}

fn per_thousand(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part * 1000.0 / whole)
}

/// The middle of some values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    crate::measure::Spread::of(values).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        let round = |value: &f64| Round {
            throughput_per_s: Some(*value),
            p99_us: Some(*value),
            requests: Some(1000.0),
            errors: Some(*value),
            ..Round::default()
        };
        Row { rounds_detail: values.iter().map(round).collect(), ..Row::default() }
    }

    #[test]
    fn drift_between_rounds_is_no_difference_between_contestants() {
        let base = row(&[100.0, 150.0, 200.0, 120.0]);
        let own = row(&[110.0, 166.0, 219.0, 132.0]);
        let effect = Metric::Throughput.effect(&own, &base, true, 1).unwrap();
        let (low, high) = effect.interval.unwrap();
        assert!(low > 0.08 && high < 0.12, "{effect:?}");
        assert_eq!(Metric::Throughput.verdict(&effect, Noise::default()), Verdict::Better);
        assert_eq!(
            Metric::P99.verdict(&effect, Noise { p99: Some(0.05), ..Noise::default() }),
            Verdict::Worse
        );
        // Not paired, the drift hides it.
        let effect = Metric::Throughput.effect(&own, &base, false, 1).unwrap();
        assert_eq!(Metric::Throughput.verdict(&effect, Noise::default()), Verdict::Same);
    }

    #[test]
    fn a_difference_within_the_noise_floor_is_none() {
        let base = row(&[100.0, 100.0, 100.0]);
        let own = row(&[101.0, 101.0, 101.0]);
        let effect = Metric::Throughput.effect(&own, &base, true, 1).unwrap();
        assert_eq!(Metric::Throughput.verdict(&effect, Noise::default()), Verdict::Same);
        let noise = Noise { throughput: Some(0.001), ..Noise::default() };
        assert_eq!(Metric::Throughput.verdict(&effect, noise), Verdict::Better);
    }

    #[test]
    fn two_rounds_do_not_make_a_large_difference_an_equality() {
        let share = |values: &[f64]| {
            let round = |value: &f64| Round { slow_percent: Some(*value), ..Round::default() };
            Row { rounds_detail: values.iter().map(round).collect(), ..Row::default() }
        };
        let verdict = |own: &[f64], base: &[f64]| {
            let effect = Metric::SlowShare.effect(&share(own), &share(base), true, 2).unwrap();
            Metric::SlowShare.verdict(&effect, Noise::default())
        };
        assert_eq!(verdict(&[62.0, 33.0], &[31.0, 30.0]), Verdict::Unknown);
        assert_eq!(verdict(&[33.0, 30.0], &[31.0, 30.0]), Verdict::Same);
        assert_eq!(verdict(&[62.0, 33.0, 62.0], &[31.0, 30.0, 31.0]), Verdict::Same);
    }

    #[test]
    fn more_questions_ask_for_more_certainty() {
        let (own, base) = (row(&[103.0, 105.5, 104.0]), row(&[100.0, 100.0, 100.0]));
        let verdict = |questions| {
            let effect = Metric::Throughput.effect(&own, &base, true, questions).unwrap();
            Metric::Throughput
                .verdict(&effect, Noise { throughput: Some(0.005), ..Noise::default() })
        };
        assert_eq!(verdict(1), Verdict::Better);
        assert_eq!(verdict(20), Verdict::Same);
    }

    #[test]
    fn one_round_shows_only_large_differences_of_events() {
        let verdict = |own: f64| {
            let effect = Metric::Failed.effect(&row(&[own]), &row(&[100.0]), true, 1).unwrap();
            assert_eq!(effect.interval, None);
            Metric::Failed.verdict(&effect, Noise::default())
        };
        assert_eq!(verdict(110.0), Verdict::Unknown);
        assert_eq!(verdict(200.0), Verdict::Worse);
        assert_eq!(verdict(50.0), Verdict::Better);
        // Rates and latencies of one round may be chance, however far apart they are.
        for metric in [Metric::Throughput, Metric::P99] {
            let effect = metric.effect(&row(&[900.0]), &row(&[100.0]), true, 1).unwrap();
            assert_eq!(metric.verdict(&effect, Noise::default()), Verdict::Unknown);
        }
    }

    #[test]
    fn microseconds_do_not_decide_whether_recoveries_are_told_apart() {
        let row = |times: &[f64]| {
            let round = |time: &f64| Round {
                recovery: Some(Recovery { normal_p99_ms: Some(*time), ..Recovery::default() }),
                ..Round::default()
            };
            Row { rounds_detail: times.iter().map(round).collect(), ..Row::default() }
        };
        let verdict = |own: &[f64], base: &[f64]| {
            let effect = Metric::Recovery.effect(&row(own), &row(base), true, 1).unwrap();
            Metric::Recovery.verdict(&effect, Noise::default())
        };
        // Two steps apart, a little less and a little more.
        for own in [298.617, 298.736] {
            assert_eq!(verdict(&[own], &[98.7]), Verdict::Worse, "{own}");
            assert_eq!(verdict(&[own, own], &[98.7, 98.7]), Verdict::Worse, "{own}");
        }
        // One step.
        for own in [198.617, 198.736] {
            assert_eq!(verdict(&[own], &[98.7]), Verdict::Unknown, "{own}");
            assert_eq!(verdict(&[own, own], &[98.7, 98.7]), Verdict::Same, "{own}");
        }
    }

    #[test]
    fn a_row_that_never_recovers_is_behind_one_that_does() {
        let row = |times: &[Option<f64>]| {
            let round = |time: &Option<f64>| Round {
                recovery: Some(Recovery { normal_p99_ms: *time, ..Recovery::default() }),
                ..Round::default()
            };
            Row { rounds_detail: times.iter().map(round).collect(), ..Row::default() }
        };
        let verdict = |own: &Row, base: &Row| {
            let effect = Metric::Recovery.effect(own, base, true, 1).unwrap();
            Metric::Recovery.verdict(&effect, Noise::default())
        };
        assert_eq!(verdict(&row(&[None]), &row(&[Some(300.0)])), Verdict::Worse);
        assert_eq!(verdict(&row(&[Some(0.0)]), &row(&[Some(300.0)])), Verdict::Better);
        // The time line has steps of 100 ms, so a difference of one step is no difference.
        assert_eq!(verdict(&row(&[Some(0.0)]), &row(&[Some(100.0)])), Verdict::Unknown);
        assert_eq!(verdict(&row(&[None, None]), &row(&[Some(300.0), Some(400.0)])), Verdict::Worse);
        let wild = row(&[None, Some(100.0)]);
        assert_eq!(verdict(&wild, &row(&[Some(300.0), Some(300.0)])), Verdict::Unknown);
        assert_eq!(Metric::Recovery.of(&row(&[None, Some(200.0), None])), Some(NEVER));
        assert_eq!(Metric::Recovery.text(NEVER), "never");
        // Without a fault, or without time to recover, there is no figure.
        assert_eq!(Metric::Recovery.of(&Row::default()), None);
        for (why, time) in
            [("no base: failing before the fault", None), ("not within 900 ms", Some(NEVER))]
        {
            let recovery =
                Recovery { normal_p99_missing: Some(why.to_owned()), ..Recovery::default() };
            let row = Row { recovery: Some(recovery), ..Row::default() };
            assert_eq!(Metric::Recovery.of(&row), time, "{why}");
        }
    }

    #[test]
    fn connections_are_counted_over_the_replies_of_the_same_time() {
        let round = Round {
            opened: Some(900.0),
            dials: Some(900.0),
            requests: Some(600.0),
            replies_all: Some(900.0),
            ..Round::default()
        };
        let row = Row {
            opened: round.opened,
            dials: round.dials,
            requests: round.requests,
            replies_all: round.replies_all,
            rounds_detail: vec![round],
            ..Row::default()
        };
        for metric in [Metric::Opened, Metric::Dials] {
            assert_eq!(metric.of(&row), Some(1000.0), "{metric:?}");
            assert_eq!(metric.rounds(&row), [(1, 1000.0)], "{metric:?}");
        }
        // A file without them has only the requests of the window.
        let older = Row { replies_all: None, ..row };
        assert_eq!(Metric::Opened.of(&older), Some(1500.0));
    }

    #[test]
    fn two_rounds_tell_no_less_than_one() {
        let verdict = |metric: Metric, own: &[f64], base: &[f64], paired: bool| {
            let effect = metric.effect(&row(own), &row(base), paired, 9).unwrap();
            metric.verdict(&effect, Noise::default())
        };
        for paired in [true, false] {
            let failed = |own: &[f64], base: &[f64]| verdict(Metric::Failed, own, base, paired);
            assert_eq!(failed(&[737.0], &[0.0]), Verdict::Worse);
            assert_eq!(failed(&[737.0, 650.0], &[0.0, 0.0]), Verdict::Worse);
            assert_eq!(failed(&[0.0, 3.0], &[737.0, 650.0]), Verdict::Better);
            assert_eq!(failed(&[737.0, 4.0], &[0.0, 0.0]), Verdict::Unknown, "in one of them");
            assert_eq!(failed(&[50.0, 0.0], &[0.0, 50.0]), Verdict::Same, "in both directions");
            // One round says nothing of rates, and three have an interval.
            assert_ne!(
                verdict(Metric::Throughput, &[100.0, 90.0], &[10.0, 12.0], paired),
                Verdict::Worse
            );
            assert_eq!(failed(&[40.0, 200.0, 737.0], &[0.0; 3]), Verdict::Same);
        }
    }

    #[test]
    fn counts_in_a_thousand_are_subtracted() {
        let effect =
            Metric::Failed.effect(&row(&[10.0, 12.0]), &row(&[0.0, 0.0]), true, 1).unwrap();
        assert!(effect.change > 10.0 && effect.change < 12.0, "{effect:?}");
    }
}
