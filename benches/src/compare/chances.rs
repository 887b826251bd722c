//! What chance of a false alarm each question of a comparison has.

use super::figure::Figure;

/// How several tests share one chance of a false alarm (Bonferroni's way). A stepwise correction finds a
/// little more, but its intervals do not go with its verdicts.
///
/// Half of the chance belongs to processor time: it scatters least, and shows a slower build before any
/// other figure does. The other figures say mostly the same, less surely.
pub(super) struct Chances {
    /// The chance of a test of weight one.
    each: f64,
}

impl Chances {
    /// Of tests of these figures.
    pub(super) fn of(figures: impl Iterator<Item = Figure>, alarms: f64) -> Self {
        let weights: f64 = figures.map(Self::weight).sum();
        Self { each: alarms / weights.max(1.0) }
    }

    /// The chance of each test of this figure.
    pub(super) fn of_figure(&self, figure: Figure) -> f64 {
        self.each * Self::weight(figure)
    }

    fn weight(figure: Figure) -> f64 {
        if figure == Figure::Cpu { 4.0 } else { 1.0 }
    }
}
