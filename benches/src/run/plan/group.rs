//! A group: one scenario on one protocol, and the contestants that are compared there.

use std::time::Duration;

use pool_common::Policy;

use super::scenario_rules;
use crate::catalog::Contestant;
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::policies::{self, Safety, Terms};
use crate::scenario::demand::{Arrivals, Budget, Demand};
use crate::scenario::ladder::Step;
use crate::scenario::{Play, Scenario, Variant};

/// The length of a turn at each rate of a ladder, and below it the number of rounds. They are small because
/// a ladder has ten rates.
const SWEEP_DURATION: Duration = Duration::from_millis(500);
const SWEEP_ROUNDS: u32 = 2;
/// Time of an open loop before it is measured.
const WARM_UP_OPEN: Duration = Duration::from_millis(200);

/// One scenario on one protocol. Its contestants are compared with each other.
#[derive(Debug)]
pub struct Group {
    /// The protocol.
    pub protocol: Protocol,
    /// The scenario.
    pub scenario: Scenario,
    /// Callers that send at the same time.
    pub callers: usize,
    /// Connections that a contestant may open.
    pub connections: usize,
    /// Time of a turn before it is measured.
    pub warm_up: Duration,
    /// Measured time of a turn.
    pub duration: Duration,
    /// Turns of each entry.
    pub rounds: u32,
    /// When requests are wanted.
    pub demand: Demand,
    /// Its place in a ladder of rates.
    pub step: Option<Step>,
    /// How arrivals of a rate are spread.
    pub arrivals: Arrivals,
    /// Whose limits of connections are in force.
    pub budget: Budget,
    /// The contestants that take part.
    pub entries: Vec<Entry>,
    /// The relay in front of the user's server plays its faults.
    pub relayed: bool,
    /// A second entry of one contestant, which shows how much equal contestants differ.
    pub twin: Option<Entry>,
}

impl Group {
    /// All entries that take a turn in each round.
    pub fn players(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(&self.twin)
    }

    /// Whether the requests of this entry go through the relay.
    pub fn is_relayed(&self, entry: &Entry) -> bool {
        self.relayed || entry.variant == Some(Variant::Relay)
    }

    /// Whether any entry's requests do.
    pub fn needs_relay(&self) -> bool {
        self.entries.iter().any(|entry| self.is_relayed(entry))
    }
}

/// A contestant in a group.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which one.
    pub contestant: Contestant,
    /// Which way of the scenario, where it has several.
    pub variant: Option<Variant>,
    /// The policy of a profile, budget and knobs applied.
    pub policy: Option<Policy>,
    /// Its design has one connection: the budget does not apply to it.
    pub single: bool,
    /// The safety measures that it has.
    pub safety: Safety,
}

impl Entry {
    /// A contestant that needs no policy.
    pub fn without_policy(contestant: Contestant) -> Self {
        let safety = Safety::of(&contestant, None, Protocol::Http1);
        Self { contestant, variant: None, policy: None, single: false, safety }
    }
}

/// The group of a scenario on a protocol, as the options ask for it.
///
/// # Errors
/// [`BenchError::Usage`] for a policy that contradicts itself, or a demand that does not fit.
pub(super) fn group(
    args: &RunArgs,
    protocol: Protocol,
    scenario: Scenario,
    contestants: &[Contestant],
    sets: &[(String, String)],
    has_target: bool,
) -> Result<Group, BenchError> {
    let demand = demand(args, scenario)?;
    let scenario = scenario.under(demand);
    let callers = match demand.is_open() {
        false => args.callers.unwrap_or(scenario.callers),
        true => args.max_in_flight.unwrap_or(scenario.callers),
    };
    let connections = args.connections.unwrap_or(scenario.connections);
    let (default_duration, default_rounds) = match scenario.short {
        Some(short) if args.is_bare() => (short.duration, short.rounds),
        _ if args.sweep.is_some() => (SWEEP_DURATION, SWEEP_ROUNDS),
        _ => (scenario.duration, scenario.rounds),
    };
    let duration = args.duration.unwrap_or(default_duration);
    scenario_rules::check_duration(scenario, duration)?;
    let budget = args.budget.unwrap_or(scenario.budget);
    let mut entries = Vec::new();
    for contestant in contestants.iter().filter(|one| scenario.admits(one, protocol)) {
        let closed = (!demand.is_open()).then_some(callers);
        for variant in scenario.ways(contestant, protocol, connections, closed) {
            // The number of shared connections. Each serves an equal part of the callers.
            let shared = variant.and_then(Variant::connections);
            let leases = shared.and_then(|number| u32::try_from(callers.div_ceil(number)).ok());
            let terms = Terms {
                connections: shared.or((budget == Budget::Same).then_some(connections)),
                leases: leases.or(scenario.leases(protocol)),
                scenario: scenario.set,
                variant: variant.map_or(&[], Variant::set),
                sets,
            };
            let policy = policies::resolve(contestant, protocol, &terms)?;
            if policy.is_some() {
                scenario_rules::check_knobs(scenario, variant, sets)?;
            }
            entries.push(Entry {
                contestant: *contestant,
                variant,
                single: policies::is_single(contestant),
                safety: Safety::of(contestant, policy.as_ref(), protocol),
                policy,
            });
        }
    }
    Ok(Group {
        protocol,
        scenario,
        callers,
        connections,
        warm_up: match scenario.cold {
            true => Duration::ZERO,
            // An open loop begins with the connections that it needs, or opens them soon.
            false if demand.is_open() => WARM_UP_OPEN.min(duration / 5),
            false => (duration / 5).min(Duration::from_millis(500)),
        },
        duration,
        rounds: args.rounds.unwrap_or(default_rounds),
        demand,
        step: None,
        arrivals: args.arrivals.unwrap_or_default(),
        budget,
        entries,
        relayed: has_target && scenario.has_faults(),
        twin: None,
    })
}

/// When requests are wanted: as the scenario defines it, or at the rate of the options.
fn demand(args: &RunArgs, scenario: Scenario) -> Result<Demand, BenchError> {
    let Some(rate) = args.rate else {
        return Ok(scenario.demand);
    };
    let quiet = (scenario.events)(&mut fastrand::Rng::with_seed(1)).is_empty();
    match scenario.demand {
        _ if args.sweep.is_some() && !quiet => Err(BenchError::usage(format!(
            "--sweep: scenario '{}' has faults, which have no knee; sweep paced, or give --rate",
            scenario.name
        ))),
        Demand::Closed | Demand::Paced { .. } if scenario.play == Play::Requests => {
            Ok(Demand::Paced { rate })
        }
        _ => Err(BenchError::usage(format!(
            "--rate and --sweep: scenario '{}' has a demand of its own; scenarios with a rate are steady, paced and those of faults (see poolbench list)",
            scenario.name
        ))),
    }
}
