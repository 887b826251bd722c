//! The scenarios: what callers do, and what is asked of the contestants.

use crate::catalog::{Contestant, Kind};
use crate::error::BenchError;
use crate::names::{self, Protocol};

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// Closed loop at full load: callers send, wait, send.
    Steady,
    /// The three-way test of the net/http study, with one caller.
    Reuse,
    /// More callers than connections.
    Limits,
    /// Callers leave MULTI, WATCH, SUBSCRIBE and SELECT behind; the next borrower looks.
    Session,
}

/// The three ways of [`Scenario::Reuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Connections are reused.
    Reused,
    /// The server closes the connection after each response.
    ServerCloses,
    /// Every operation makes a client of its own.
    NoPool,
}

/// Streams of a connection in [`Scenario::Limits`] over HTTP/2: 8 connections of 4 are fewer than 50
/// callers.
pub const LIMITED_LEASES: u32 = 4;

/// Time per operation of the three ways in the published test, relative to the first.
///
/// Not a figure to aim at: the published loops sleep 20, 50 and 100 ms after each request and count
/// that (21.75, 52.01 and 102.03 ms per operation; `http/client/client_test.go` of the public
/// repository xiahuyun/go-by-example), see [`PUBLISHED_REST`].
pub const PUBLISHED_REUSE: [f64; 3] = [1.0, 2.39, 4.69];

/// The same without the pauses: 1.75, 2.01 and 2.03 ms, timers' lateness included. What is left says
/// that a connection dialed anew costs more than one reused, and that it hardly matters which side
/// closed the old one.
pub const PUBLISHED_REST: [f64; 3] = [1.0, 1.15, 1.16];

impl Variant {
    /// All three, in the order of the published ratios.
    pub const ALL: [Self; 3] = [Self::Reused, Self::ServerCloses, Self::NoPool];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::ServerCloses => "server-closes",
            Self::NoPool => "no-pool",
        }
    }
}

impl Scenario {
    /// All scenarios, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Reuse, Self::Limits, Self::Session];

    /// The name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Reuse => "reuse",
            Self::Limits => "limits",
            Self::Session => "session",
        }
    }

    /// One line for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Steady => "closed loop at full load",
            Self::Reuse => {
                "http1, one caller: connections reused / server closes after each response / no pool: a client for each operation that refuses keep-alive"
            }
            Self::Limits => "50 callers, 8 connections (--callers and --connections change both)",
            Self::Session => {
                "resp: callers leave MULTI, WATCH, SUBSCRIBE and SELECT 3 behind, the next borrower must not notice"
            }
        }
    }

    /// The scenario of this name.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for any other name.
    pub fn parse(name: &str) -> Result<Self, BenchError> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
            .ok_or_else(|| names::unknown("scenario", name, &Self::ALL.map(Self::name)))
    }

    /// Whether it is played on this protocol.
    pub fn fits(self, protocol: Protocol) -> bool {
        match self {
            Self::Steady | Self::Limits => true,
            Self::Reuse => protocol == Protocol::Http1,
            Self::Session => protocol == Protocol::Resp,
        }
    }

    /// Whether this contestant takes part on this protocol.
    pub fn admits(self, contestant: &Contestant, protocol: Protocol) -> bool {
        let strategy = matches!(contestant.kind, Kind::Profile(_));
        self.fits(protocol)
            && contestant.protocols.contains(&protocol)
            && match self {
                Self::Steady => true,
                // What has no pool has no limit, and nothing to reuse or to reset; `limit` with as
                // many callers as connections shows what those connections could carry.
                Self::Limits => strategy || contestant.kind == Kind::Limit,
                Self::Reuse | Self::Session => strategy,
            }
    }

    /// The ways in which each contestant plays it.
    pub fn variants(self) -> &'static [Option<Variant>] {
        match self {
            Self::Reuse => {
                &[Some(Variant::Reused), Some(Variant::ServerCloses), Some(Variant::NoPool)]
            }
            Self::Steady | Self::Limits | Self::Session => &[None],
        }
    }

    /// Callers and connections when none are asked for.
    pub fn default_load(self) -> (usize, usize) {
        match self {
            Self::Steady => (50, 50),
            Self::Reuse => (1, 1),
            Self::Limits | Self::Session => (50, 8),
        }
    }

    /// Whether a server of the user's can play it.
    pub fn fits_target(self) -> bool {
        // In `reuse` the server has to close connections when it is told to.
        self != Self::Reuse
    }

    /// How many callers this contestant is given: `limit` has a socket for each, so it gets no more
    /// than there may be connections. Over HTTP/2 its callers share one connection.
    pub fn callers_of(
        self,
        contestant: &Contestant,
        protocol: Protocol,
        callers: usize,
        connections: usize,
    ) -> usize {
        match (contestant.kind, protocol) {
            (Kind::Limit, Protocol::Http1 | Protocol::Resp | Protocol::Framed) => {
                callers.min(connections)
            }
            (Kind::Limit, Protocol::Http2) | (Kind::NoPool | Kind::Profile(_), _) => callers,
        }
    }

    /// What one shared connection may carry at a time, where the scenario says so: a server that
    /// allows 250 streams would never make 50 callers wait.
    pub fn leases(self, protocol: Protocol) -> Option<u32> {
        (self == Self::Limits && protocol == Protocol::Http2).then_some(LIMITED_LEASES)
    }
}
