//! `--sweep`: a ladder of rates.

use super::demand::Rate;

/// Rates of a ladder: 20..110% in steps of ten.
const STEPS: u32 = 10;

/// A ladder from one rate to another, in equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    from: f64,
    to: f64,
    /// The rates are shares of the limit.
    of_limit: bool,
}

/// The place of a rate in its ladder.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Step {
    /// From 1 on.
    pub index: u32,
    /// Steps of the ladder.
    pub of: u32,
    /// The rate as a share of the limit, if it was given as a share: 0.2 is 20 %.
    pub share: Option<f64>,
}

impl Sweep {
    /// Reads `20..110%` or `1000..20000`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected two rates, the lower first: shares of the limit, as 20..110%, or requests in a second, as 1000..20000"
                .to_owned()
        };
        let (range, of_limit) = match text.strip_suffix('%') {
            Some(range) => (range, true),
            None => (text, false),
        };
        let (from, to) = range.split_once("..").ok_or_else(expected)?;
        let number = |text: &str| text.trim().trim_end_matches('%').parse::<f64>().ok();
        let (from, to) = number(from).zip(number(to)).ok_or_else(expected)?;
        let (least, most) = if of_limit { (1.0, 1000.0) } else { (1.0, 10_000_000.0) };
        if from < least || to > most || from.partial_cmp(&to) != Some(std::cmp::Ordering::Less) {
            return Err(expected());
        }
        let scale = if of_limit { 100.0 } else { 1.0 };
        Ok(Self { from: from / scale, to: to / scale, of_limit })
    }

    /// Its rates, the lowest first.
    pub fn steps(self) -> impl Iterator<Item = (Step, Rate)> {
        (0..STEPS).map(move |index| {
            let rate = self.from + (self.to - self.from) * f64::from(index) / f64::from(STEPS - 1);
            let share = self.of_limit.then(|| crate::measure::round(rate));
            let rate = if self.of_limit { Rate::OfLimit(rate) } else { Rate::PerSecond(rate) };
            (Step { index: index + 1, of: STEPS, share }, rate)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_has_both_ends_and_equal_steps() {
        let steps: Vec<_> = Sweep::parse("20..110%").unwrap().steps().collect();
        let shares: Vec<f64> = steps.iter().filter_map(|(step, _)| step.share).collect();
        assert_eq!(shares, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]);
        assert!(matches!(steps[9].1, Rate::OfLimit(share) if (share - 1.1).abs() < 1e-9));
        let steps: Vec<_> = Sweep::parse("1000..10000").unwrap().steps().collect();
        assert_eq!(steps[0], (Step { index: 1, of: 10, share: None }, Rate::PerSecond(1000.0)));
        assert_eq!(steps[9].1, Rate::PerSecond(10_000.0));
        assert_eq!(Sweep::parse("20%..110%"), Sweep::parse("20..110%"));
    }

    #[test]
    fn errors_tell_what_is_expected() {
        for text in ["", "20", "20%", "110..20%", "20..20", "0..10", "a..b", "20..2000%", "1..NaN"]
        {
            let error = Sweep::parse(text).unwrap_err();
            assert!(error.contains("as 20..110%"), "{text}: {error}");
        }
    }
}
