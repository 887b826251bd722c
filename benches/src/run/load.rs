//! The load of a turn: when requests are wanted, what they are, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::choices::Choices;
use super::lives::Lives;
use crate::contestants::RequestKind;
use crate::measure;
use crate::scenario::demand::{Arrivals, Demand, GiveUp};

/// How a turn is driven.
#[derive(Debug, Clone)]
pub struct Load {
    /// When requests are wanted. Its rate is in requests per second.
    pub demand: Demand,
    /// How the arrivals of an open loop are spread.
    pub arrivals: Arrivals,
    /// Callers that send at the same time; of an open loop, the most requests in flight.
    pub callers: usize,
    /// How many requests of a hundred must not run twice.
    pub writes_percent: u8,
    /// Which callers leave before the reply. A request that is given up is no error.
    pub gives_up: Option<GiveUp>,
    /// How long callers wait, counted from the moment at which their request is wanted. Then the request
    /// is a timeout. With `None` they wait without an end.
    pub patience: Option<Duration>,
    /// Decides arrivals, writes and which callers give up; the same for every contestant.
    pub seed: u64,
    /// Uniform arrivals come earlier by this share of their distance. Arrivals of other workers fall between
    /// them.
    pub phase: f64,
    /// Time before anything is measured.
    pub warm_up: Duration,
    /// No warm-up: the window begins with nothing opened.
    pub cold: bool,
    /// Time that is measured.
    pub duration: Duration,
    /// Whether figures of each step of the turn are wanted, too.
    pub slots: bool,
    /// Whether the moment of each reply is kept, too. The times after the end of a fault need it.
    pub answers: bool,
    /// Listens to the pool of the contestant; `None` where the lives of connections are not wanted.
    pub lives: Option<Arc<Lives>>,
    /// Processors for the schedule thread of an open loop; when empty, those of the client.
    pub schedule_on: Vec<usize>,
    /// Of a closed loop: how long a caller pauses between a reply and its next request.
    pub think: Option<Duration>,
    /// Identifies the turn in its nonces.
    pub run: u32,
    /// Sends the moment at which the window begins. Subscribe before the turn; a turn that cannot start sends
    /// nothing.
    pub began: watch::Sender<Option<Began>>,
    /// Ends the turn early; what was measured until then counts.
    pub interrupted: CancellationToken,
}

/// When a measured window began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// On the runtime's clock.
    pub at: tokio::time::Instant,
    /// On `CLOCK_MONOTONIC`, in nanoseconds, which a server on the same machine shares.
    pub ns: u64,
}

impl Began {
    /// A window that begins `lead` later than now.
    pub(super) fn after(lead: Duration) -> Self {
        Self {
            at: tokio::time::Instant::now() + lead,
            ns: measure::monotonic_ns() + lead.as_nanos() as u64,
        }
    }
}

impl Load {
    /// A closed loop with the defaults of everything else.
    pub fn closed(callers: usize, warm_up: Duration, duration: Duration) -> Self {
        Self {
            demand: Demand::Closed,
            arrivals: Arrivals::default(),
            callers,
            writes_percent: 0,
            gives_up: None,
            patience: None,
            seed: 1,
            phase: 0.0,
            warm_up,
            cold: false,
            duration,
            slots: false,
            answers: false,
            lives: None,
            schedule_on: Vec::new(),
            think: None,
            run: 1,
            began: watch::Sender::new(None),
            interrupted: CancellationToken::new(),
        }
    }

    /// The measured window begins.
    pub(super) fn begin(&self, began: Began) {
        if let Some(lives) = &self.lives {
            lives.begin(began.ns);
        }
        self.began.send_replace(Some(began));
    }

    /// Whether the request of this number must not run twice.
    pub fn is_write(&self, sequence: u32) -> bool {
        self.choices().kind(sequence) == RequestKind::Write
    }

    pub(super) fn choices(&self) -> Choices {
        Choices {
            seed: self.seed,
            writes_percent: self.writes_percent,
            gives_up: self.gives_up,
            patience: self.patience,
        }
    }
}
