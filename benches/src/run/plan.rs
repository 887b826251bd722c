//! The plan: everything that is going to be measured, checked before anything is.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pool_common::Policy;

use crate::ask::Ask;
use crate::catalog::{self, BUILD_PEERS, Contestant};
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::names::Protocol;
use crate::place;
use crate::policies::{self, Safety, Terms};
use crate::report::calibration::Calibration;
use crate::report::table::Look;
use crate::run::worker::Worker;
use crate::scenario::demand::{Arrivals, Budget, Demand, Rate};
use crate::scenario::ladder::Step;
use crate::scenario::{Play, SCENARIOS, STEADY, Scenario, Short, Variant};
use crate::serve::model::Models;
use crate::target::Target;

mod players;
mod relayed;
mod scenario_rules;

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
    /// What is known about this machine.
    pub calibration: Option<Calibration>,
    /// Which of several workers this is.
    pub worker: Option<Worker>,
    /// When the first turn of a worker begins.
    pub start_at: Option<SystemTime>,
    /// Tables have every figure, however wide they are.
    pub wide: bool,
    /// What is asked.
    pub ask: Ask,
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
    /// Its place in a ladder of rates.
    pub step: Option<Step>,
    /// How arrivals of a rate are spread.
    pub arrivals: Arrivals,
    /// Whose limits hold.
    pub budget: Budget,
    /// Who takes part.
    pub entries: Vec<Entry>,
    /// The relay in front of the user's server plays its faults.
    pub relayed: bool,
    /// One of them once more, which shows what equal contestants differ by.
    pub twin: Option<Entry>,
}

impl Group {
    /// Everybody who takes a turn in each round.
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
/// A turn at each rate of a ladder, and how many: there are ten rates.
const SWEEP_DURATION: Duration = Duration::from_millis(500);
const SWEEP_ROUNDS: u32 = 2;
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
        let out = args.out.clone().unwrap_or_else(|| PathBuf::from("target/poolbench"));
        let cores = place::allowed().len().max(1);
        let calibration = Calibration::read(&out, place::cpu_model().as_deref(), cores)?;
        let ask = Ask::new(args)?;
        if let Some(target) = &target {
            ask.apply(target.clone())?;
        }
        let mut groups = Vec::new();
        for &protocol in &protocols {
            for &scenario in &scenarios {
                let has_part = |short: Short| short.protocols.contains(&protocol);
                if args.is_bare() && !scenario.short.is_some_and(has_part) {
                    continue;
                }
                let steps: Vec<(Option<Step>, Option<Rate>)> = match args.sweep {
                    None => vec![(None, args.rate)],
                    Some(sweep) => {
                        sweep.steps().map(|(step, rate)| (Some(step), Some(rate))).collect()
                    }
                };
                for (step, rate) in steps {
                    let args = RunArgs { rate, ..args.clone() };
                    let relayed = target.is_some();
                    let mut group = group(&args, protocol, scenario, &contestants, &sets, relayed)?;
                    group.step = step;
                    if let Some(worker) = args.worker {
                        players::share(&mut group, worker, target.as_ref())?;
                    }
                    group.twin = players::twin(&group).filter(|_| {
                        // Workers have to play the same turns, whatever is known about their machines.
                        calibration.is_none() && step.is_none() && args.worker.is_none()
                    });
                    if !group.entries.is_empty() {
                        let takes_part: Vec<_> =
                            group.entries.iter().map(|entry| entry.contestant).collect();
                        ask.check(protocol, &scenario, group.demand.is_open(), &takes_part)?;
                        groups.push(group);
                    }
                }
            }
        }
        if groups.is_empty() {
            return Err(BenchError::usage(nothing_fits(&protocols, &scenarios, &contestants)));
        }
        relayed::show_cost(args, &contestants, &sets, &mut groups)?;
        check_every_contestant_plays(args, &groups)?;
        check_every_option_counts(args, &groups)?;
        Ok(Self {
            summary: groups.iter().filter(|group| group.step.is_none()).count() > 1,
            groups,
            seed: args.seed.unwrap_or(DEFAULT_SEED),
            target,
            models: args.model.clone(),
            out,
            json: args.json.clone(),
            markdown: args.markdown,
            quiet: args.quiet,
            set: args.set.clone(),
            calibration,
            worker: args.worker,
            start_at: args.start_at,
            wide: args.wide,
            ask,
        })
    }

    /// How tables look.
    pub fn look(&self) -> Look<'_> {
        Look { wide: self.wide, set: &self.set }
    }

    /// How many turns there will be.
    pub fn turns(&self) -> u64 {
        self.groups
            .iter()
            .map(|group| group.players().count() as u64 * u64::from(group.rounds))
            .sum()
    }

    /// How long the turns will take together, without what lies between them.
    pub fn duration(&self) -> Duration {
        self.groups
            .iter()
            .map(|group| {
                (group.warm_up + group.duration) * group.rounds * group.players().count() as u32
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
    let refused = |scenario: &Scenario| Some((scenario.name, scenario.asks_server()?));
    if let Some((name, does)) = named.iter().find_map(refused).filter(|_| target.is_some()) {
        return Err(BenchError::usage(format!(
            "scenario '{name}' needs the embedded server: the server must {does} on command, and a relay in front of --target does not know the protocol; leave --target or '{name}' out",
        )));
    }
    Ok(match (named.is_empty(), args.is_bare()) {
        (true, true) => SCENARIOS.into_iter().filter(|known| known.short.is_some()).collect(),
        (true, false) if args.sweep.is_some() => vec![Scenario::parse("paced")?],
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
    has_target: bool,
) -> Result<Group, BenchError> {
    let demand = demand(args, scenario)?;
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
            // An open loop begins with what it needs, or opens it soon.
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

/// When requests are wanted: as the scenario says, or at the rate that was asked for.
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
        for earlier in &args.model[..at] {
            if Models::protocol(earlier)? == protocol {
                return refuse(format!(
                    "--model {earlier} and --model {model}: the {protocol} server has one model, leave one out"
                ));
            }
        }
        if !groups.iter().any(|group| group.protocol == protocol) {
            return refuse(format!(
                "--model {model} is a model of {protocol}, which is not run: add --protocol {protocol}, or leave it out"
            ));
        }
    }
    let open = groups.iter().any(|group| group.demand.is_open());
    if args.callers.is_some() && groups.iter().all(|group| group.demand.is_open()) {
        return refuse(
            "--callers is for a closed loop; in an open loop --max-in-flight is the most at once"
                .to_owned(),
        );
    }
    if args.connections.is_some() && groups.iter().all(|group| group.budget == Budget::Own) {
        return refuse(
            "--connections is for --budget same; with --budget own each strategy has its own limits"
                .to_owned(),
        );
    }
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
                args.scenario = vec!["goaway".into()];
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
            args(|args| args.model = vec!["tasks".into(), "workers".into()]),
            args(|args| {
                args.callers = Some(3);
                args.scenario = vec!["paced".into()];
            }),
            args(|args| {
                args.connections = Some(3);
                args.budget = Some(Budget::Own);
            }),
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
