//! The times at which requests are due, and their kind.

use std::time::Duration;

/// How a turn is driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Demand {
    /// Closed loop: each caller sends, waits for the reply, and sends the next request. For capacity
    /// only: a slow contestant gets fewer requests.
    Closed,
    /// Open loop: requests are due at a rate, whatever became of the ones before.
    Paced {
        /// How many.
        rate: Rate,
    },
    /// Open loop: `callers` requests at once every `every`, over a quiet base.
    Bursts {
        /// Requests of one burst, all due at the same time.
        size: usize,
        /// From the start of one burst to the start of the next.
        every: Duration,
        /// Requests in a second between them.
        base: f64,
    },
    /// Open loop: `size` requests at once at the start of the window, then paced requests.
    AtOnce {
        /// Requests of the first moment.
        size: usize,
        /// Requests in a second after it.
        then: f64,
    },
}

impl Demand {
    /// Whether requests come on a schedule, whatever became of earlier requests.
    pub fn is_open(self) -> bool {
        self != Self::Closed
    }

    /// The rate, if there is one for the whole time.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Self::Paced { rate } => Some(rate),
            Self::Closed | Self::Bursts { .. } | Self::AtOnce { .. } => None,
        }
    }
}

/// A rate of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Requests in a second.
    PerSecond(f64),
    /// This share of the throughput of `limit` in a closed loop, measured at the start of the run.
    OfLimit(f64),
}

impl Rate {
    /// As written in options and results.
    pub fn words(self) -> String {
        match self {
            Self::PerSecond(rate) => format!("{rate}/s"),
            // A share such as 0.07 is no round number of percent.
            Self::OfLimit(share) => format!("{}%", (share * 1e6).round() / 1e4),
        }
    }
}

/// How arrivals of a rate are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Uniform,
    /// At random, independent of each other (seeded).
    Poisson,
}

/// Which limits on connections apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Budget {
    /// Every contestant may open and keep the same number.
    #[default]
    Same,
    /// Each strategy has its own limits, as it ships.
    Own,
}

impl Arrivals {
    /// The word of options and results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Poisson => "poisson",
        }
    }
}

impl Budget {
    /// The word of options and results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Own => "own",
        }
    }
}

/// Callers that leave before the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveUp {
    /// How many requests of a hundred are given up ...
    pub percent: u8,
    /// ... at a random moment within this time.
    pub within: Duration,
}
