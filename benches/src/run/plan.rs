//! The plan: everything that is going to be measured, checked before anything is.

use std::path::PathBuf;
use std::time::Duration;

use pool_common::Policy;

use crate::catalog::{self, BUILD_PEERS, Contestant};
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::policies::{self, Safety, Terms};
use crate::scenario::demand::{Arrivals, Budget, Demand};
use crate::scenario::{Play, SCENARIOS, STEADY, Scenario, Short, Variant};
use crate::serve::model::Models;
use crate::target::Target;

/// A run, complete.
#[derive(Debug)]
pub struct Plan {
    /// What is measured, one table each.
    pub groups: Vec<Group>,
    /// Seed of the order of contestants.
    pub seed: u64,
    /// The user's server; `None` for the embedded ones.
    pub target: Option<Target>,
    /// Names for `serve --model`.
    pub models: Vec<String>,
    /// Directory for files.
    pub out: PathBuf,
    /// A further place for the results; `-` is standard output.
    pub json: Option<PathBuf>,
    /// The tables as Markdown too.
    pub markdown: bool,
    /// No progress.
    pub quiet: bool,
    /// The run ends with a summary: it is the default comparison, or one of several scenarios.
    pub summary: bool,
    /// Knobs that were set.
    pub set: Vec<String>,
}

/// One scenario on one protocol: what is compared with each other.
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
    /// How arrivals of a rate are spread.
    pub arrivals: Arrivals,
    /// Whose limits hold.
    pub budget: Budget,
    /// Who takes part.
    pub entries: Vec<Entry>,
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
    /// It is one connection by nature: the budget is not for it.
    pub single: bool,
    /// What it takes care of.
    pub safety: Safety,
}

impl Entry {
    /// A contestant that needs no policy.
    pub fn without_policy(contestant: Contestant) -> Self {
        let safety = Safety::of(&contestant, None, Protocol::Http1);
        Self { contestant, variant: None, policy: None, single: false, safety }
    }
}

const DEFAULT_SEED: u64 = 1;
/// Time of an open loop before it is measured.
const WARM_UP_OPEN: Duration = Duration::from_millis(200);

impl Plan {
    /// Turns options into a plan.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for a name that does not exist, options that leave nothing to run, a
    /// policy that contradicts itself, or a target that cannot be used.
    pub fn new(args: &RunArgs) -> Result<Self, BenchError> {
        let target = args.target.as_deref().map(Target::parse).transpose()?;
        let protocols = protocols(args, target.as_ref())?;
        let scenarios = scenarios(args, target.as_ref())?;
        let contestants = contestants(args)?;
        Models::parse(&args.model)?;
        if target.is_some() && !args.model.is_empty() {
            return Err(BenchError::usage(
                "--model is for the embedded servers and --target replaces them: use one of the two",
            ));
        }
        let sets = policies::parse_sets(&args.set)?;
        let mut groups = Vec::new();
        for &protocol in &protocols {
            for &scenario in &scenarios {
                let has_part = |short: Short| short.protocols.contains(&protocol);
                if args.is_bare() && !scenario.short.is_some_and(has_part) {
                    continue;
                }
                let group = group(args, protocol, scenario, &contestants, &sets)?;
                if !group.entries.is_empty() {
                    groups.push(group);
                }
            }
        }
        if groups.is_empty() {
            return Err(BenchError::usage(nothing_fits(&protocols, &scenarios, &contestants)));
        }
        check_every_contestant_plays(args, &groups)?;
        check_every_option_counts(args, &groups)?;
        Ok(Self {
            summary: groups.len() > 1,
            groups,
            seed: args.seed.unwrap_or(DEFAULT_SEED),
            target,
            models: args.model.clone(),
            out: args.out.clone().unwrap_or_else(|| PathBuf::from("target/poolbench")),
            json: args.json.clone(),
            markdown: args.markdown,
            quiet: args.quiet,
            set: args.set.clone(),
        })
    }

    /// How many turns there will be.
    pub fn turns(&self) -> u64 {
        self.groups.iter().map(|group| group.entries.len() as u64 * u64::from(group.rounds)).sum()
    }

    /// How long the turns will take together, without what lies between them.
    pub fn duration(&self) -> Duration {
        self.groups
            .iter()
            .map(|group| {
                (group.warm_up + group.duration) * group.rounds * group.entries.len() as u32
            })
            .sum()
    }
}

fn protocols(args: &RunArgs, target: Option<&Target>) -> Result<Vec<Protocol>, BenchError> {
    let named: Vec<Protocol> = parse_all(&args.protocol, Protocol::parse)?;
    match target {
        None if named.is_empty() => Ok(Protocol::ALL.to_vec()),
        None => Ok(named),
        Some(target) => {
            if let Some(other) = named.iter().find(|named| **named != target.protocol) {
                return Err(BenchError::usage(format!(
                    "--target speaks {}, --protocol asks for {other}: name one protocol, or leave --protocol out",
                    target.protocol
                )));
            }
            Ok(vec![target.protocol])
        }
    }
}

fn scenarios(args: &RunArgs, target: Option<&Target>) -> Result<Vec<Scenario>, BenchError> {
    let named = parse_all(&args.scenario, Scenario::parse)?;
    if let Some(scenario) =
        named.iter().find(|scenario| target.is_some() && !scenario.fits_target())
    {
        return Err(BenchError::usage(format!(
            "scenario '{}' needs the embedded server, which closes, delays and silences connections when it is told to: leave --target out",
            scenario.name
        )));
    }
    Ok(match (named.is_empty(), args.is_bare()) {
        (true, true) => SCENARIOS.into_iter().filter(|known| known.short.is_some()).collect(),
        (true, false) => vec![STEADY],
        (false, _) => named,
    })
}

fn contestants(args: &RunArgs) -> Result<Vec<Contestant>, BenchError> {
    if args.peers && !cfg!(feature = "peers") {
        return Err(BenchError::usage(format!(
            "--peers: the rivals are not part of this build; build them: {BUILD_PEERS}"
        )));
    }
    let named = parse_all(&args.contestant, Contestant::find)?;
    // In the order of the catalog, whatever the order of the options.
    // Rivals take part when they are asked for, by name or all of them.
    let takes_part = |contestant: &Contestant| match contestant.is_peer() {
        true => args.peers || named.contains(contestant),
        false => named.is_empty() || named.contains(contestant),
    };
    Ok(catalog::contestants().filter(takes_part).collect())
}

/// Parses names, each once, in their order.
fn parse_all<T: PartialEq>(
    names: &[String],
    parse: impl Fn(&str) -> Result<T, BenchError>,
) -> Result<Vec<T>, BenchError> {
    let mut parsed = Vec::new();
    for name in names {
        let value = parse(name)?;
        if !parsed.contains(&value) {
            parsed.push(value);
        }
    }
    Ok(parsed)
}

fn group(
    args: &RunArgs,
    protocol: Protocol,
    scenario: Scenario,
    contestants: &[Contestant],
    sets: &[(String, String)],
) -> Result<Group, BenchError> {
    let demand = demand(args, scenario)?;
    let callers = match demand.is_open() {
        false => args.callers.unwrap_or(scenario.callers),
        true => args.max_in_flight.unwrap_or(scenario.callers),
    };
    let connections = args.connections.unwrap_or(scenario.connections);
    let (default_duration, default_rounds) = match scenario.short {
        Some(short) if args.is_bare() => (short.duration, short.rounds),
        _ => (scenario.duration, scenario.rounds),
    };
    let duration = args.duration.unwrap_or(default_duration);
    let budget = args.budget.unwrap_or(scenario.budget);
    let mut entries = Vec::new();
    for contestant in contestants.iter().filter(|one| scenario.admits(one, protocol)) {
        let closed = (!demand.is_open()).then_some(callers);
        for variant in scenario.ways(contestant, protocol, connections, closed) {
            // So many shared connections, each for an equal part of the callers.
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
            // An open loop begins with what it needs, or opens it soon.
            false if demand.is_open() => WARM_UP_OPEN.min(duration / 5),
            false => (duration / 5).min(Duration::from_millis(500)),
        },
        duration,
        rounds: args.rounds.unwrap_or(default_rounds),
        demand,
        arrivals: args.arrivals.unwrap_or_default(),
        budget,
        entries,
    })
}

/// When requests are wanted: as the scenario says, or at the rate that was asked for.
fn demand(args: &RunArgs, scenario: Scenario) -> Result<Demand, BenchError> {
    let Some(rate) = args.rate else {
        return Ok(scenario.demand);
    };
    match scenario.demand {
        Demand::Closed | Demand::Paced { .. } if scenario.play == Play::Requests => {
            Ok(Demand::Paced { rate })
        }
        _ => Err(BenchError::usage(format!(
            "--rate: scenario '{}' has a demand of its own; scenarios with a rate are steady, paced and those of faults (see poolbench list)",
            scenario.name
        ))),
    }
}

fn nothing_fits(
    protocols: &[Protocol],
    scenarios: &[Scenario],
    contestants: &[Contestant],
) -> String {
    let list = |names: Vec<&str>| names.join(", ");
    format!(
        "nothing to run: none of the contestants {} takes part in {} on {} (see poolbench list)",
        list(contestants.iter().map(|contestant| contestant.name).collect()),
        list(scenarios.iter().map(|scenario| scenario.name).collect()),
        list(protocols.iter().map(|protocol| protocol.name()).collect()),
    )
}

/// A contestant that was asked for by name and takes part in nothing is a mistake.
fn check_every_contestant_plays(args: &RunArgs, groups: &[Group]) -> Result<(), BenchError> {
    for name in &args.contestant {
        let plays = groups
            .iter()
            .flat_map(|group| &group.entries)
            .any(|entry| entry.contestant.name == name);
        if !plays {
            return Err(BenchError::usage(format!(
                "contestant '{name}' takes part in none of the scenarios and protocols asked for (see poolbench list)"
            )));
        }
    }
    Ok(())
}

/// An option that nothing in the run looks at is a mistake, and is not ignored.
fn check_every_option_counts(args: &RunArgs, groups: &[Group]) -> Result<(), BenchError> {
    let refuse = |text: String| Err(BenchError::usage(text));
    if let Some(set) = args.set.first()
        && !groups.iter().flat_map(|group| &group.entries).any(|entry| entry.policy.is_some())
    {
        return refuse(format!(
            "--set {} changes nothing: limit and no-pool have no policy; name another contestant",
            set.escape_debug()
        ));
    }
    for (at, model) in args.model.iter().enumerate() {
        let protocol = Models::protocol(model)?;
        if args.model[..at].contains(model) {
            return refuse(format!("--model {model} is given twice"));
        }
        if !groups.iter().any(|group| group.protocol == protocol) {
            return refuse(format!(
                "--model {model} is a model of {protocol}, which is not run: add --protocol {protocol}, or leave it out"
            ));
        }
    }
    let open = groups.iter().any(|group| group.demand.is_open());
    for (given, option) in
        [(args.arrivals.is_some(), "--arrivals"), (args.max_in_flight.is_some(), "--max-in-flight")]
    {
        if given && !open {
            return refuse(format!(
                "{option} is for an open loop: add --rate, or a scenario such as paced"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(change: impl FnOnce(&mut RunArgs)) -> RunArgs {
        let mut args = RunArgs::default();
        change(&mut args);
        args
    }

    #[test]
    fn the_default_comparison_is_complete_and_short() {
        let plan = Plan::new(&RunArgs::default()).unwrap();
        for protocol in Protocol::ALL {
            assert!(
                plan.groups
                    .iter()
                    .any(|group| { group.protocol == protocol && group.scenario == STEADY })
            );
        }
        for name in ["steady", "burst", "herd", "restart", "idle-cut"] {
            assert!(plan.groups.iter().any(|group| group.scenario.name == name), "{name}");
        }
        for contestant in catalog::CONTESTANTS {
            for &protocol in contestant.protocols {
                assert!(
                    plan.groups.iter().any(|group| group.protocol == protocol
                        && group.entries.iter().any(|entry| entry.contestant == contestant)),
                    "{} on {protocol}",
                    contestant.name
                );
            }
        }
        // Something is done between turns too, and the whole must stay below two minutes.
        assert!(plan.duration() < Duration::from_secs(105), "{:?}", plan.duration());
    }

    #[test]
    fn contradictions_are_bad_usage() {
        let bad = [
            args(|args| args.contestant = vec!["net-htp".into()]),
            args(|args| args.protocol = vec!["http3".into()]),
            args(|args| args.scenario = vec!["stedy".into()]),
            args(|args| args.set = vec!["nonsense".into()]),
            args(|args| args.model = vec!["nonsense".into()]),
            args(|args| {
                args.protocol = vec!["resp".into()];
                args.contestant = vec!["grpc".into()];
            }),
            args(|args| {
                args.protocol = vec!["http1".into()];
                args.scenario = vec!["session".into()];
            }),
            args(|args| {
                args.protocol = vec!["resp".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            args(|args| {
                args.scenario = vec!["reuse".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            args(|args| {
                args.scenario = vec!["restart".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
            args(|args| {
                args.model = vec!["tasks".into()];
                args.protocol = vec!["resp".into()];
            }),
            args(|args| {
                args.set = vec!["peek=true".into()];
                args.contestant = vec!["limit".into(), "no-pool".into()];
            }),
            args(|args| args.max_in_flight = Some(3)),
            args(|args| args.arrivals = Some(Arrivals::Poisson)),
            args(|args| {
                args.model = vec!["tasks".into()];
                args.target = Some("http://127.0.0.1:1".into());
            }),
        ];
        for args in bad {
            let error = Plan::new(&args).expect_err(&format!("{args:?}"));
            assert_eq!(error.exit_code(), 2, "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn names_may_be_repeated() {
        let plan = Plan::new(&args(|args| {
            args.protocol = vec!["http1".into(), "http1".into()];
            args.contestant = vec!["no-pool".into(), "limit".into(), "limit".into()];
        }))
        .unwrap();
        assert_eq!(plan.groups.len(), 1);
        let names: Vec<_> =
            plan.groups[0].entries.iter().map(|entry| entry.contestant.name).collect();
        assert_eq!(names, ["limit", "no-pool"]);
    }
}
