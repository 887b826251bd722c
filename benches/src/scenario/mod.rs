//! The scenarios: what callers do, and what goes wrong meanwhile.

use std::borrow::Cow;
use std::time::Duration;

use crate::catalog::{Contestant, Kind};
use crate::error::BenchError;
use crate::fault::{Event, Fault};
use crate::names::{self, Protocol};
use crate::report::recovery::GOOD_STEPS;
use crate::run::slots::STEP;

mod connections;
pub mod demand;
pub mod ladder;
mod table;
mod words;

pub use connections::WHAT_IT_DEPENDS_ON;
use demand::{Budget, Demand, GiveUp};
pub use table::{CONNECTIONS, REUSE, SCENARIOS, STEADY};

/// A scenario: a demand, the faults, and the contestants that take part. To add a scenario, add a value to
/// [`SCENARIOS`].
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The name on the command line and in results.
    pub name: &'static str,
    /// Describes in one line what happens. A knob of `set` in braces stands for its value.
    pub about: &'static str,
    /// One sentence: what it should show.
    pub teaches: &'static str,
    /// The figure in which contestants differ most: the summary shows it.
    pub figure: Figure,
    /// The protocols on which it makes sense.
    pub protocols: &'static [Protocol],
    /// The contestants that take part; empty for all that fit.
    pub only: &'static [&'static str],
    /// What callers do.
    pub play: Play,
    /// The ways in which each contestant plays it; empty for one.
    pub variants: &'static [Variant],
    /// When requests are due.
    pub demand: Demand,
    /// How many requests of a hundred are not idempotent.
    pub writes_percent: u8,
    /// Callers that give up early, at random.
    pub gives_up: Option<GiveUp>,
    /// How long callers wait; `None` for as long as it takes.
    pub patience: Option<Duration>,
    /// The window begins with nothing open.
    pub cold: bool,
    /// What goes wrong, and when; random times come from the seed of the run.
    pub events: fn(&mut fastrand::Rng) -> Vec<Event>,
    /// Which limits on connections apply.
    pub budget: Budget,
    /// Knobs that the scenario sets for every profile.
    pub set: &'static [(&'static str, &'static str)],
    /// Callers, or the most requests in flight of an open loop, unless the user chooses.
    pub callers: usize,
    /// Connections, unless the user chooses.
    pub connections: usize,
    /// Length of a turn, unless the user chooses.
    pub duration: Duration,
    /// Turns of each contestant, unless the user chooses.
    pub rounds: u32,
    /// Its part in the default comparison; `None` if it has none.
    pub short: Option<Short>,
    /// Whether its callers can use a server of the user.
    pub target: bool,
}

/// A figure of a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Processor time of a request relative to the limit's.
    Cpu,
    /// Time of an operation on a reused connection relative to one that is dialed.
    Reuse,
    /// The 99th percentile of the latency.
    P99,
    /// Connections opened for a thousand requests.
    Opened,
    /// Dials.
    Dials,
    /// The most dials in 100 ms.
    PeakDials,
    /// Requests without a reply, of a thousand.
    Failed,
    /// The same of the requests that were wanted while new connections worked: what nothing could serve does
    /// not count.
    FailedWhileUp,
    /// Time from the end of the fault to normal latencies.
    Recovery,
    /// The slow backend's share of the replies while it was slow.
    SlowShare,
    /// Replies in a second.
    Throughput,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Cpu,
        Self::Reuse,
        Self::P99,
        Self::Opened,
        Self::Dials,
        Self::PeakDials,
        Self::Failed,
        Self::FailedWhileUp,
        Self::Recovery,
        Self::SlowShare,
        Self::Throughput,
    ];

    /// Its name in sentences.
    pub fn words(self) -> &'static str {
        match self {
            Self::Cpu => "CPU per request",
            Self::Reuse | Self::Throughput => "requests per second",
            Self::P99 => "p99 latency",
            Self::Opened => "opened per 1,000",
            Self::Dials => "dials begun",
            Self::PeakDials => "most dials in 100 ms",
            Self::Failed => "failed per 1,000",
            Self::FailedWhileUp => "failed per 1,000 while new connections worked",
            Self::Recovery => "time to normal latencies",
            Self::SlowShare => "share of the slow backend",
        }
    }

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Reuse => "reuse",
            Self::P99 => "p99",
            Self::Opened => "opened",
            Self::Dials => "dials",
            Self::PeakDials => "peak-dials",
            Self::Failed => "failed",
            Self::FailedWhileUp => "failed-while-up",
            Self::Recovery => "recovery",
            Self::SlowShare => "slow-share",
            Self::Throughput => "throughput",
        }
    }
}

/// The part of a scenario in the default comparison.
#[derive(Debug, Clone, Copy)]
pub struct Short {
    /// Length of a turn.
    pub duration: Duration,
    /// Turns of each contestant.
    pub rounds: u32,
    /// The protocols on which it is played.
    pub protocols: &'static [Protocol],
}

impl PartialEq for Scenario {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Scenario {}

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    /// Requests, each on its own.
    Requests,
    /// The three-way test of the net/http study, with one caller.
    Reuse,
    /// More callers than connections.
    Limits,
    /// Callers leave MULTI, WATCH, SUBSCRIBE and SELECT behind; the next borrower looks.
    Session,
}

/// A way to play a scenario that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Connections are reused.
    Reused,
    /// The server closes the connection after each response.
    ServerCloses,
    /// Every operation makes a new client.
    NoPool,
    /// All lifetimes are equal.
    NoJitter,
    /// Each lifetime is moved by up to half of it.
    Jitter,
    /// The connection that came back last is lent first.
    NewestFirst,
    /// The connection that is idle for longest is lent first.
    OldestFirst,
    /// Through the relay in front of a server of the user, without a fault.
    Relay,
    /// Any idle connection is lent, at random.
    Random,
    /// The callers share this many HTTP/2 connections, each with an equal part of them.
    Connections(u16),
}

/// The least time of a turn after its last fault, enough steps to show that latencies are normal again.
const AFTER_FAULTS: Duration = STEP.saturating_mul(GOOD_STEPS);

/// Streams of a connection in the scenario `limits` over HTTP/2: 8 connections of 4 are fewer than 50
/// callers.
pub const LIMITED_LEASES: u32 = 4;

/// Time per operation of the three ways in the published test, relative to the first.
///
/// Not a figure to aim at: the published loops sleep 20, 50 and 100 ms after each request and count
/// that (21.75, 52.01 and 102.03 ms per operation; `http/client/client_test.go` of the public
/// repository xiahuyun/go-by-example), see [`PUBLISHED_REST`].
pub const PUBLISHED_REUSE: [f64; 3] = [1.0, 2.39, 4.69];

/// The same without the pauses: 1.75, 2.01 and 2.03 ms, timers' lateness included. These times show
/// that a new connection costs more than a reused one, and that it hardly matters which side closed the
/// old one.
pub const PUBLISHED_REST: [f64; 3] = [1.0, 1.15, 1.16];

impl Variant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Reused,
        Self::ServerCloses,
        Self::NoPool,
        Self::NoJitter,
        Self::Jitter,
        Self::NewestFirst,
        Self::OldestFirst,
        Self::Relay,
        Self::Random,
    ];

    /// The three ways of [`REUSE`], in the order of the published ratios.
    pub const OF_REUSE: [Self; 3] = [Self::Reused, Self::ServerCloses, Self::NoPool];

    /// The name in results.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Reused => "reused",
            Self::ServerCloses => "server-closes",
            Self::NoPool => "no-pool",
            Self::NoJitter => "no-jitter",
            Self::Jitter => "jitter",
            Self::NewestFirst => "newest-first",
            Self::OldestFirst => "oldest-first",
            Self::Relay => "relay",
            Self::Random => "random",
            Self::Connections(1) => "1-connection",
            Self::Connections(many) => return Cow::Owned(format!("{many}-connections")),
        })
    }

    /// The names of the knobs that it sets for contestants with a policy.
    pub fn knobs(self) -> impl Iterator<Item = &'static str> {
        let shared: &[&str] = match self {
            Self::Connections(_) => {
                &["max_leases_per_connection", "max_open_per_key", "max_idle_per_key"]
            }
            _ => &[],
        };
        self.set().iter().map(|(knob, _)| *knob).chain(shared.iter().copied())
    }

    /// The knobs that it sets, with their values.
    pub fn set(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // How many leases a connection has then depends on the callers, see the plan.
            Self::Connections(_) => &[],
            Self::Reused | Self::ServerCloses | Self::NoPool | Self::Relay => &[],
            Self::NoJitter => &[("lifetime_jitter", "0ms")],
            Self::Jitter => &[("lifetime_jitter", "500ms")],
            Self::NewestFirst => &[("idle_order", "newest-first")],
            Self::OldestFirst => &[("idle_order", "oldest-first")],
            Self::Random => &[("idle_order", "random")],
        }
    }
}

impl Scenario {
    /// The scenario of this name.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for any other name.
    pub fn parse(name: &str) -> Result<Self, BenchError> {
        SCENARIOS
            .into_iter()
            .find(|scenario| scenario.name == name)
            .ok_or_else(|| names::unknown("scenario", name, &SCENARIOS.map(|known| known.name)))
    }

    /// Whether it is played on this protocol.
    pub fn fits(&self, protocol: Protocol) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Whether this contestant takes part on this protocol.
    pub fn admits(&self, contestant: &Contestant, protocol: Protocol) -> bool {
        let strategy = matches!(contestant.kind, Kind::Profile(_) | Kind::Default);
        self.fits(protocol)
            && contestant.protocols.contains(&protocol)
            && (self.only.is_empty() || self.only.contains(&contestant.name))
            && match self.play {
                // The sockets of `limit` are opened before the turn, and it cannot open others.
                Play::Requests if contestant.kind == Kind::Limit => !self.loses_connections(),
                Play::Requests => true,
                // A contestant without a pool has no limit, no reuse and no reset. `limit` with as
                // many callers as connections shows the capacity of those connections.
                Play::Limits => strategy || contestant.kind == Kind::Limit,
                Play::Reuse | Play::Session => strategy,
            }
    }

    /// What goes wrong, as far as it does not depend on a seed.
    fn faults(&self) -> impl Iterator<Item = Fault> {
        (self.events)(&mut fastrand::Rng::with_seed(0)).into_iter().map(|event| event.fault)
    }

    /// Whether it has faults, so that a server of the user needs the relay in front of it.
    pub fn has_faults(&self) -> bool {
        self.faults().next().is_some()
    }

    /// Whether something goes wrong in the middle of a turn, so that requests are expected to fail.
    pub fn disturbs(&self) -> bool {
        let events = (self.events)(&mut fastrand::Rng::with_seed(0));
        events.iter().any(|event| !event.is_condition())
    }

    /// The shortest turn in which all of its faults happen and end, with enough time after them to see
    /// whether latencies are normal again; zero without timed faults. If the faults last to the end of the
    /// usual turn, the usual turn is the shortest.
    pub fn shortest(&self) -> Duration {
        let events = (self.events)(&mut fastrand::Rng::with_seed(0));
        let timed = events.iter().filter(|event| !event.is_condition());
        let end = timed.map(|event| event.at + event.lasts.unwrap_or_default()).max();
        end.map_or(Duration::ZERO, |end| (end + AFTER_FAULTS).min(self.duration))
    }

    /// Why it cannot be played with a server of the user, in words that follow "the server must";
    /// `None` if it can.
    pub fn asks_server(&self) -> Option<&'static str> {
        let closes = (!self.target).then_some("close connections after a reply");
        closes.or_else(|| self.faults().find_map(Fault::asks_server))
    }

    /// Whether connections have to be opened in the window, because of faults or of the requests.
    pub fn loses_connections(&self) -> bool {
        let loses = |fault| {
            matches!(
                fault,
                Fault::Refuse
                    | Fault::SlowDial { .. }
                    | Fault::Cut { .. }
                    | Fault::CutIdle { .. }
                    | Fault::Announce
                    | Fault::Silence { .. }
            )
        };
        self.cold || self.budget == Budget::Own || self.faults().any(loses)
    }

    /// Whether every dial has to wait for the first byte of the server, so that dials exchange a greeting.
    pub fn greets(&self) -> bool {
        self.faults().any(|fault| matches!(fault, Fault::SlowDial { .. }))
    }

    /// How many callers this contestant is given: `limit` has a socket for each, so it gets no more
    /// than there may be connections. Over HTTP/2 its callers share connections.
    pub fn callers_of(
        &self,
        contestant: &Contestant,
        protocol: Protocol,
        callers: usize,
        connections: usize,
    ) -> usize {
        match (contestant.kind, protocol) {
            (Kind::Limit, Protocol::Http1 | Protocol::Resp | Protocol::Framed) => {
                callers.min(connections)
            }
            (Kind::Limit, Protocol::Http2)
            | (Kind::NoPool | Kind::Default | Kind::Profile(_) | Kind::Peer(_), _) => callers,
        }
    }

    /// The most requests at a time on one shared connection, where the scenario limits them: a server
    /// that allows 250 streams would never make 50 callers wait.
    pub fn leases(&self, protocol: Protocol) -> Option<u32> {
        (self.play == Play::Limits && protocol == Protocol::Http2).then_some(LIMITED_LEASES)
    }
}
