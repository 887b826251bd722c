//! What was measured, and the figures that are made of it.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::noise::MeasuredNoise;
use crate::catalog::{Contestant, Kind};
use crate::measure::{self, Spread};
use crate::names::Protocol;
use crate::run::events::{LATE_MS, Played as Event};
use crate::run::plan::Entry;
use crate::run::turn::Turn;
use crate::scenario::demand::{Arrivals, Budget, Demand, Rate};
use crate::scenario::ladder::Step;
use crate::scenario::{Scenario, Variant};
use crate::serve::oracle::{Counters, Series};
use crate::target::Target;

/// One turn as it was played.
#[derive(Debug)]
pub struct Played {
    /// What it measured, or why it could not start.
    pub turn: Result<Turn, String>,
    /// What the server counted; `None` where it cannot be asked.
    pub server: Option<Counters>,
    /// What the relay counted, if the turn went through it. It sees connections and no requests.
    pub relay: Option<Counters>,
    /// Sockets that stayed open; `None` where the server cannot be asked.
    pub leaked: Option<u64>,
    /// What the server saw when; `None` where it cannot be asked, or no steps were wanted.
    pub series: Option<Series>,
    /// The faults that were played.
    pub events: Vec<Event>,
    /// By how many milliseconds a fault came later than planned, at most; `None` if no fault was planned.
    pub faults_late_ms: Option<f64>,
    /// Why it was cut short, or is the last of its run: the server was gone.
    pub cut: Option<String>,
    /// Requests carried a nonce, by which the server could tell them apart.
    pub nonces: bool,
}

impl Played {
    /// What was counted of the connections: by the server, or by the relay in front of it.
    pub fn connections(&self) -> Option<&Counters> {
        self.server.as_ref().or(self.relay.as_ref())
    }

    /// Whether nothing was measured and nothing went wrong, as when an interrupt came, or the server
    /// was gone, before the window opened.
    pub fn is_empty(&self) -> bool {
        let quiet = |turn: &Turn| turn.requests == 0 && turn.mismatches.unwrap_or(0) == 0;
        self.turn.as_ref().map_or(self.cut.is_some(), quiet)
            && self.leaked.unwrap_or(0) == 0
            && self.server.is_none_or(|server| server.duplicates == 0)
    }

    /// What the server counted of single requests; `None` where it cannot tell them apart.
    pub(super) fn told_apart(&self) -> Option<Counters> {
        self.server.filter(|_| self.nonces)
    }
}

/// Everything one entry of a group did.
#[derive(Debug)]
pub struct Record {
    /// Who.
    pub entry: Entry,
    /// Its turns, with the number of their round.
    pub rounds: Vec<(u32, Played)>,
}

/// A group after it was played.
#[derive(Debug)]
pub struct GroupResult {
    /// The protocol.
    pub protocol: Protocol,
    /// The scenario.
    pub scenario: Scenario,
    /// Callers.
    pub callers: usize,
    /// Connections allowed.
    pub connections: usize,
    /// When requests were wanted, with its rate in requests per second.
    pub demand: Demand,
    /// Its place in a ladder of rates.
    pub step: Option<Step>,
    /// How arrivals of a rate were spread.
    pub arrivals: Arrivals,
    /// Whose limits of connections were in force.
    pub budget: Budget,
    /// Where requests went.
    pub target: Arc<Target>,
    /// The contestants that took part, in the order of tables.
    pub records: Vec<Record>,
    /// Turns of each that were planned.
    pub rounds: u32,
    /// Why it ended before all were played.
    pub ended: Option<String>,
    /// A second entry of one contestant, which shows how much equal contestants differ.
    pub twin: Option<Record>,
    /// How much equal contestants differ; `None` if that is not known.
    pub noise: Option<MeasuredNoise>,
}

/// Throughput and processor time relative to `limit`.
#[derive(Debug, Clone, Copy)]
pub struct VsLimit {
    /// Above 1 is faster than the limit.
    pub throughput: Spread,
    /// Below 1 is cheaper than the limit.
    pub cpu: Spread,
}

impl Record {
    /// A record without turns.
    pub fn new(entry: Entry) -> Self {
        Self { entry, rounds: Vec::new() }
    }

    /// The name in tables and files, with the way of the scenario where it has several.
    pub fn label(&self) -> String {
        match self.entry.variant {
            Some(variant) => format!("{} {}", self.entry.contestant.name, variant.name()),
            None => self.entry.contestant.name.to_owned(),
        }
    }

    /// The turns that started.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.rounds.iter().filter_map(|(_, played)| played.turn.as_ref().ok())
    }

    /// The last turn that started, with what the server saw of it.
    pub fn last(&self) -> Option<(&Turn, &Played)> {
        let started = |(_, played): &'_ (u32, Played)| played.turn.is_ok();
        let (_, played) = self.rounds.iter().rev().find(|round| started(round))?;
        Some((played.turn.as_ref().ok()?, played))
    }

    /// Failures of all turns, by [`ErrorKind::index`](crate::contestants::ErrorKind::index).
    pub fn errors(&self) -> [u64; 5] {
        std::array::from_fn(|kind| self.sum(|turn| turn.errors[kind]))
    }

    /// A sum over all turns.
    pub fn sum(&self, count: impl Fn(&Turn) -> u64) -> u64 {
        self.turns().map(count).sum()
    }

    /// A count of all turns as one of a round: the mean.
    pub fn per_round(&self, count: u64) -> f64 {
        count as f64 / self.rounds.len().max(1) as f64
    }

    /// Requests without a reply in all turns, whatever became of them.
    pub fn unanswered(&self) -> u64 {
        self.errors().iter().sum::<u64>() + self.sum(|turn| turn.unstarted)
    }

    /// A sum over all turns; `None` if the count of any turn is unknown, or no turn was played.
    pub fn known_sum(&self, count: impl Fn(&Played) -> Option<u64>) -> Option<u64> {
        self.rounds
            .iter()
            .map(|(_, played)| count(played))
            .reduce(|sum, next| Some(sum? + next?))
            .flatten()
    }

    /// Replies with the wrong nonce; `None` where the server does not echo.
    pub fn mismatches(&self) -> Option<u64> {
        // A turn without a single reply had nothing to compare, and does not make the sum unknown.
        let mut compared = self.turns().filter_map(|turn| turn.mismatches).peekable();
        compared.peek()?;
        Some(compared.sum())
    }

    /// Requests that the server executed twice; `None` where it cannot be asked.
    pub fn duplicates(&self) -> Option<u64> {
        self.known_sum(|played| Some(played.told_apart()?.duplicates))
    }

    /// Of the duplicates, requests that must not run twice.
    pub fn write_duplicates(&self) -> Option<u64> {
        self.known_sum(|played| Some(played.told_apart()?.write_duplicates))
    }

    /// Sockets that stayed open; `None` where the server cannot be asked.
    pub fn leaked(&self) -> Option<u64> {
        self.known_sum(|played| played.leaked)
    }

    /// Connections opened in all turns: what the server or the relay accepted, or else what the contestant knows.
    pub fn opened(&self) -> Option<u64> {
        self.known_sum(|played| match (played.connections(), &played.turn) {
            (Some(counted), _) => Some(counted.accepted),
            (None, Ok(turn)) => turn.counts.opened,
            (None, Err(_)) => None,
        })
    }

    /// The share of requests that found a connection, from all replies and all connections opened.
    pub fn reused_ratio(&self) -> Option<f64> {
        let replies = self.sum(|turn| turn.replies);
        let opened = self.opened()?;
        (replies > 0).then(|| measure::round((1.0 - opened as f64 / replies as f64).max(0.0)))
    }

    /// The most sockets that were open at once in any turn, as the server or the relay counted.
    pub fn high_water(&self) -> Option<u64> {
        self.rounds
            .iter()
            .map(|(_, played)| played.connections().map(|counted| counted.high_water))
            .reduce(|high, next| Some(high?.max(next?)))
            .flatten()
    }

    /// Replies in a second.
    pub fn throughput(&self) -> Option<Spread> {
        Spread::of(self.turns().filter_map(throughput))
    }

    /// Processor time of a request, in microseconds.
    pub fn cpu(&self) -> Option<Spread> {
        Spread::of(self.turns().filter_map(cpu))
    }

    /// Time of an operation from the point of view of one caller, in microseconds.
    pub fn operation_time(&self, callers: usize) -> Option<Spread> {
        Spread::of(
            self.turns().filter_map(throughput).map(|per_second| callers as f64 * 1e6 / per_second),
        )
    }

    /// The histograms of all turns, merged into one.
    pub fn merged(&self, which: impl Fn(&Turn) -> &Histogram<u64>) -> Histogram<u64> {
        let mut merged = measure::histogram();
        for turn in self.turns() {
            merged.add(which(turn)).expect("all histograms have the same bounds");
        }
        merged
    }

    /// By how many milliseconds a fault of any turn came later than planned, at most.
    pub fn faults_late_ms(&self) -> Option<f64> {
        self.rounds.iter().filter_map(|(_, played)| played.faults_late_ms).reduce(f64::max)
    }

    /// The number of turns whose faults came too late to compare them with the other turns.
    pub fn turns_with_late_faults(&self) -> usize {
        let late = |played: &Played| played.faults_late_ms.is_some_and(|late| late > LATE_MS);
        self.rounds.iter().filter(|(_, played)| late(played)).count()
    }

    /// The first failure of any turn.
    pub fn first_error(&self) -> Option<&str> {
        self.turns().find_map(|turn| turn.first_error.as_deref())
    }
}

impl GroupResult {
    /// Why there is less of this record than planned; `None` where it is whole.
    pub fn partial(&self, record: &Record) -> Option<&str> {
        let cut = record.rounds.iter().any(|(_, played)| played.cut.is_some());
        let fewer = record.rounds.len() < self.rounds as usize;
        self.ended.as_deref().filter(|_| cut || fewer)
    }

    /// The rate of an open loop that has one.
    pub fn rate(&self) -> Option<f64> {
        match self.demand {
            Demand::Paced { rate: Rate::PerSecond(rate) } => Some(rate),
            _ => None,
        }
    }

    /// The record of `limit`, if it took part.
    pub fn limit(&self) -> Option<&Record> {
        self.records.iter().find(|record| record.entry.contestant.kind == Kind::Limit)
    }

    /// Why there are no ratios to a limit, if one took part.
    pub fn no_limit(&self) -> Option<String> {
        let limits = self.records.iter().filter(|one| one.entry.contestant.kind == Kind::Limit);
        let why = |limit: &Record| {
            let broke = limit.broke().map(|why| format!("{} broke: {why}", limit.label()));
            broke.or_else(|| {
                Some(format!("{} was overloaded: {}", limit.label(), limit.overloaded()?))
            })
        };
        limits.filter_map(why).next()
    }

    /// The limit with which `record` is compared: in a scenario of several ways the limit that played the same
    /// way, and otherwise the first limit. Over HTTP/2 that is the limit of one connection.
    pub fn limit_of(&self, record: &Record) -> Option<&Record> {
        let limits =
            || self.records.iter().filter(|other| other.entry.contestant.kind == Kind::Limit);
        let same_way = |limit: &&Record| limit.entry.variant == record.entry.variant;
        match self.scenario.variants.is_empty() {
            true => limits().next(),
            false => limits().find(same_way).or_else(|| limits().next()),
        }
    }

    /// The figures of `record` relative to the limit's of the same round; `None` where the limit
    /// broke or was overloaded.
    pub fn vs_limit(&self, record: &Record) -> Option<VsLimit> {
        let holds = |limit: &&Record| limit.broke().is_none() && limit.overloaded().is_none();
        let limit = self.limit_of(record).filter(holds)?;
        let ratios = |figure: fn(&Turn) -> Option<f64>| {
            Spread::of(record.rounds.iter().filter_map(|(round, played)| {
                let (_, base) = limit.rounds.iter().find(|(other, _)| other == round)?;
                let (own, base) =
                    (figure(played.turn.as_ref().ok()?)?, figure(base.turn.as_ref().ok()?)?);
                (base > 0.0).then(|| own / base)
            }))
        };
        Some(VsLimit { throughput: ratios(throughput)?, cpu: ratios(cpu)? })
    }

    /// The time of an operation played this `variant`, relative to the time with connections reused:
    /// the ratio of each round, for each contestant or for one.
    pub fn reuse_ratio(&self, contestant: Option<&Contestant>, variant: Variant) -> Option<f64> {
        let reused = self.records.iter().filter(|record| {
            record.entry.variant == Some(Variant::Reused)
                && contestant.is_none_or(|wanted| record.entry.contestant == *wanted)
        });
        let ratios = reused.flat_map(|record| {
            let other = self.sibling(record, variant);
            record.rounds.iter().filter_map(move |(round, played)| {
                let (_, other) = other?.rounds.iter().find(|(same, _)| same == round)?;
                let reused = throughput(played.turn.as_ref().ok()?)?;
                Some(reused / throughput(other.turn.as_ref().ok()?)?)
            })
        });
        Spread::of(ratios).map(|spread| spread.median)
    }

    /// The record of the same contestant that played another way.
    pub fn sibling(&self, record: &Record, variant: Variant) -> Option<&Record> {
        self.records.iter().find(|other| {
            other.entry.contestant == record.entry.contestant
                && other.entry.variant == Some(variant)
        })
    }
}

/// Replies in a second.
pub(super) fn throughput(turn: &Turn) -> Option<f64> {
    (turn.requests > 0 && turn.seconds > 0.0).then(|| turn.requests as f64 / turn.seconds)
}

/// Processor time of a request, in microseconds.
pub(super) fn cpu(turn: &Turn) -> Option<f64> {
    (turn.requests > 0).then(|| turn.cpu_seconds * 1e6 / turn.requests as f64)
}
