//! What can be said about figures that scatter: intervals, Welch's test, the samples that rounds are
//! worth, and whether two rows differ at all.
//!
//! Rounds of a run are not independent: a slow minute of the machine covers several of them. The test
//! therefore counts fewer rounds than there are when neighbours resemble each other. Rounds also have
//! heavy tails; from `TRIM_FROM` rounds on the test uses trimmed means (Yuen's form of Welch's test),
//! so that a few outliers neither make a difference nor hide one.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The chance of a false alarm that a whole comparison may have.
pub const FALSE_ALARMS: f64 = 0.05;
/// With fewer rounds nothing is trimmed.
const TRIM_FROM: usize = 10;
/// The share that is cut off at each end: the one that Yuen recommends. Rounds on a busy machine have
/// tails so heavy that means without their tenths still scatter a tenth more.
const TRIM: f64 = 0.2;
/// The correlation of neighbours that is assumed beforehand, and the number of rounds it weighs.
const ASSUMED: f64 = 0.4;
const ASSUMED_ROUNDS: f64 = 20.0;
/// Draws of a bootstrap.
const DRAWS: usize = 2000;
/// Differences below this are not worth a verdict, whatever the test says.
pub const LEAST_FLOOR: f64 = 0.01;

/// The mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle value, or the mean of the two in the middle; `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    crate::measure::Spread::of(values.iter().copied()).map(|spread| spread.median)
}

/// The variance of a sample; `None` with fewer than two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

/// The median with its 95 % interval from a seeded bootstrap: equal input gives equal output.
pub fn median_interval(values: &[f64]) -> Option<(f64, [f64; 2])> {
    let middle = median(values)?;
    let mut random = fastrand::Rng::with_seed(values.len() as u64);
    let mut medians: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let draw: Vec<f64> =
                values.iter().map(|_| values[random.usize(..values.len())]).collect();
            median(&draw)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((DRAWS - 1) as f64 * share).round() as usize];
    Some((middle, [at(0.025), at(0.975)]))
}

/// The mean without the fifth at each end, or of all values where there are few; `None` without values.
pub fn trimmed_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = cut_off(sorted.len());
    mean(&sorted[cut..sorted.len() - cut])
}

/// How many of so many values are cut off at each end.
fn cut_off(values: usize) -> usize {
    if values < TRIM_FROM { 0 } else { (values as f64 * TRIM) as usize }
}

/// How many independent values a series is worth, from the resemblance of neighbours.
///
/// The estimate of the autocorrelation is too low by about 1/n in short series, which is added. Values
/// that alternate count as independent: a series is never worth more than its length.
pub fn effective_size(values: &[f64]) -> f64 {
    let length = values.len() as f64;
    let (Some(mean), true) = (mean(values), values.len() > 3) else {
        return length;
    };
    let total: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if total <= 0.0 {
        return length;
    }
    let neighbours: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let seen = neighbours / total + 1.0 / length;
    // A short series cannot show its correlation; until it does, a usual one is assumed.
    let correlation = (seen * length + ASSUMED * ASSUMED_ROUNDS) / (length + ASSUMED_ROUNDS);
    let correlation = correlation.clamp(0.0, 0.9);
    (length * (1.0 - correlation) / (1.0 + correlation)).max(2.0)
}

/// What Welch's test says about two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The second mean minus the first.
    pub difference: f64,
    /// The standard error of the difference.
    pub error: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// The chance of a measured difference as large as this one where there is no difference.
    pub p: f64,
}

impl Test {
    /// The test of a difference whose estimate has this variance.
    fn new(difference: f64, variance: f64, freedom: f64) -> Self {
        let error = variance.sqrt();
        let p = match student(freedom) {
            _ if error == 0.0 => f64::from(u8::from(difference == 0.0)),
            Some(t) => (2.0 * (1.0 - t.cdf((difference / error).abs()))).clamp(0.0, 1.0),
            None => 1.0,
        };
        Self { difference, error, freedom, p }
    }

    /// The interval that holds the difference with this confidence, as 0.95.
    pub fn interval(&self, confidence: f64) -> [f64; 2] {
        let reach = student(self.freedom)
            .map_or(f64::INFINITY, |t| t.inverse_cdf(f64::midpoint(1.0, confidence)) * self.error);
        [self.difference - reach, self.difference + reach]
    }
}

fn student(freedom: f64) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, freedom).ok()
}

/// A sample's mean, the variance of that mean, and its degrees of freedom.
struct Part {
    mean: f64,
    variance: f64,
    freedom: f64,
}

impl Part {
    fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let length = values.len() as f64;
        let worth = effective_size(values) / length;
        let cut = cut_off(values.len());
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let kept = sorted.len() - 2 * cut;
        let mean = mean(&sorted[cut..cut + kept])?;
        // The variance counts what was cut off as if it lay at the edge of the rest.
        let (low, high) = (sorted[cut], sorted[cut + kept - 1]);
        let winsorized: Vec<f64> = sorted.iter().map(|value| value.clamp(low, high)).collect();
        let count = (kept as f64 * worth).max(2.0);
        let spread = variance(&winsorized)? * (length - 1.0) / (kept as f64 - 1.0);
        Some(Self { mean, variance: spread / count, freedom: count - 1.0 })
    }
}

/// Welch's test of two series of rounds; `None` with fewer than two values on a side.
pub fn welch(base: &[f64], new: &[f64]) -> Option<Test> {
    Some(between(&Part::of(base)?, &Part::of(new)?))
}

/// The test of differences that were taken round by round, which cancels what a round did to both
/// sides; `None` with fewer than two. Rounds of one run are compared so.
pub fn paired(differences: &[f64]) -> Option<Test> {
    if differences.iter().any(|difference| !difference.is_finite()) {
        return None;
    }
    let count = differences.len() as f64;
    let (difference, variance) = (mean(differences)?, variance(differences)?);
    Some(Test::new(difference, variance / count, count - 1.0))
}

fn between(base: &Part, new: &Part) -> Test {
    let variance = base.variance + new.variance;
    let parts = base.variance.powi(2) / base.freedom + new.variance.powi(2) / new.freedom;
    let freedom = if parts > 0.0 { variance.powi(2) / parts } else { base.freedom + new.freedom };
    Test::new(new.mean - base.mean, variance, freedom)
}

/// Whether two rows of a table differ beyond the noise in a figure: the whole interval of their
/// difference lies beyond it. Both sides are the figure's rounds, the same rounds in the same order;
/// `floor` is the relative difference that two equal contestants showed, and `tests` is the number of
/// such questions that the table asks.
pub fn distinguishable(left: &[f64], right: &[f64], floor: f64, tests: usize) -> bool {
    let ratios: Vec<f64> =
        left.iter().zip(right).map(|(left, right)| left.ln() - right.ln()).collect();
    paired(&ratios).is_some_and(|test| {
        let [low, high] = test.interval(1.0 - FALSE_ALARMS / tests.max(1) as f64);
        let floor = floor.max(LEAST_FLOOR).ln_1p();
        low > floor || high < -floor
    })
}

/// Letters for rows, as statisticians print them: rows that share a letter do not differ beyond the
/// noise. `differs` is asked for each pair once.
pub fn letters(rows: usize, differs: impl Fn(usize, usize) -> bool) -> Vec<String> {
    // The greatest sets of rows that do not differ from each other, grown from each row in turn.
    let mut sets: Vec<Vec<usize>> = Vec::new();
    let mut same = vec![vec![true; rows]; rows];
    let pairs = (0..rows).flat_map(|left| (left + 1..rows).map(move |right| (left, right)));
    for (left, right) in pairs.filter(|(left, right)| differs(*left, *right)) {
        same[left][right] = false;
        same[right][left] = false;
    }
    for left in 0..rows {
        for right in left..rows {
            let covered = |set: &Vec<usize>| set.contains(&left) && set.contains(&right);
            if !same[left][right] || sets.iter().any(covered) {
                continue;
            }
            let mut set = vec![left];
            let others = std::iter::once(right).chain(0..rows);
            for row in others {
                if !set.contains(&row) && set.iter().all(|member| same[row][*member]) {
                    set.push(row);
                }
            }
            sets.push(set);
        }
    }
    let name = |index: usize| match u8::try_from(index) {
        Ok(index @ 0..26) => char::from(b'a' + index).to_string(),
        _ => format!("{index}."),
    };
    (0..rows)
        .map(|row| {
            let letters = sets.iter().enumerate().filter(|(_, set)| set.contains(&row));
            letters.map(|(index, _)| name(index)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64, off: f64) {
        assert!((left - right).abs() <= off, "{left} is not {right}");
    }

    #[test]
    fn welch_gives_the_known_values() {
        // Without trimming and correlation: t = 2, both variances 2.5 / 5, 8 degrees of freedom.
        let part = |mean: f64| Part { mean, variance: 0.5, freedom: 4.0 };
        let test = between(&part(3.0), &part(5.0));
        close(test.difference, 2.0, 1e-12);
        close(test.error, 1.0, 1e-12);
        close(test.freedom, 8.0, 1e-9);
        close(test.p, 0.080_5, 1e-4);
        let [low, high] = test.interval(0.95);
        close(low, 2.0 - 2.306, 1e-3);
        close(high, 2.0 + 2.306, 1e-3);
    }

    #[test]
    fn unequal_variances_cost_degrees_of_freedom() {
        let part = |variance: f64| Part { mean: 1.0, variance, freedom: 4.0 };
        let test = between(&part(0.5), &part(50.0));
        // (0.5 + 50)^2 / (0.5^2 / 4 + 50^2 / 4)
        close(test.freedom, 4.079_6, 1e-3);
    }

    #[test]
    fn too_little_to_test_is_no_test() {
        assert_eq!(welch(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(welch(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(welch(&[1.0, 1.0], &[1.0, 1.0]).unwrap().p, 1.0);
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]).unwrap().p, 0.0);
    }

    #[test]
    fn outliers_do_not_hide_a_difference() {
        let base: Vec<f64> = (0..20).map(|n| 1.0 + f64::from(n * 7 % 20) / 1000.0).collect();
        let mut new: Vec<f64> = base.iter().map(|value| value + 0.05).collect();
        new[7] = 9.0;
        let test = welch(&base, &new).unwrap();
        close(test.difference, 0.05, 0.005);
        assert!(test.p < 0.001, "{test:?}");
    }

    #[test]
    fn neighbours_that_resemble_each_other_count_less() {
        let alternating: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
        close(effective_size(&alternating), 40.0, 1e-9);
        assert!(effective_size(&[1.0, 5.0, 2.0, 4.0, 3.0]) < 5.0, "five rounds show nothing");
        let blocks: Vec<f64> = (0..40).map(|n| f64::from(n / 10 % 2)).collect();
        assert!(effective_size(&blocks) < 8.0, "{}", effective_size(&blocks));
        // A series with autocorrelation 0.5 is worth a third.
        let mut random = fastrand::Rng::with_seed(1);
        let mut value = 0.0;
        let series: Vec<f64> = (0..5000)
            .map(|_| {
                value = 0.5 * value + random.f64() - 0.5;
                value
            })
            .collect();
        close(effective_size(&series) / 5000.0, 1.0 / 3.0, 0.04);
    }

    #[test]
    fn the_interval_of_a_median_holds_it_and_is_the_same_each_time() {
        let values: Vec<f64> = (1..=99).map(f64::from).collect();
        let (middle, [low, high]) = median_interval(&values).unwrap();
        assert_eq!(middle, 50.0);
        // Order statistics 40 and 60 bound the median of 99 with 95 %.
        close(low, 40.0, 4.0);
        close(high, 60.0, 4.0);
        assert_eq!(median_interval(&values), median_interval(&values));
        assert_eq!(median_interval(&[]), None);
    }

    #[test]
    fn the_interval_of_paired_differences_is_students() {
        let test = paired(&[1.0, 2.0, 3.0]).unwrap();
        let [low, high] = test.interval(0.95);
        close(low, 2.0 - 4.3027 / 3.0_f64.sqrt(), 1e-3);
        close(high, 2.0 + 4.3027 / 3.0_f64.sqrt(), 1e-3);
        assert_eq!(paired(&[1.0]), None);
        assert_eq!(paired(&[1.0, f64::INFINITY]), None);
        assert_eq!(paired(&[1.0, 1.0]).unwrap().interval(0.95), [1.0, 1.0]);
    }

    #[test]
    fn rows_inside_the_noise_are_not_told_apart() {
        // The machine drifts between rounds, for both alike.
        let slow = [100.0, 131.0, 79.0, 100.5, 119.5];
        let fast = slow.map(|rate: f64| rate * 1.1 + (rate % 7.0) / 10.0);
        assert!(distinguishable(&slow, &fast, 0.02, 10));
        assert!(distinguishable(&fast, &slow, 0.02, 10));
        assert!(!distinguishable(&slow, &fast, 0.15, 10), "within the noise of an A/A run");
        assert!(!distinguishable(&slow, &slow, 0.0, 1));
        assert!(!distinguishable(&slow[..1], &fast, 0.0, 1), "one round says nothing");
    }

    #[test]
    fn letters_are_shared_by_rows_that_do_not_differ() {
        let values = [100.0_f64, 99.0, 95.0, 50.0];
        let letters = letters(4, |left, right| (values[left] - values[right]).abs() > 4.5);
        assert_eq!(letters, ["a", "ab", "b", "c"]);
    }
}
