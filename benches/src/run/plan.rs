//! The plan: everything that is going to be measured, checked before anything is.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::ask::Ask;
use crate::cli::RunArgs;
use crate::error::BenchError;
use crate::place;
use crate::policies;
use crate::report::calibration::Calibration;
use crate::report::table::Look;
use crate::run::worker::Worker;
use crate::scenario::Short;
use crate::scenario::demand::Rate;
use crate::scenario::ladder::Step;
use crate::serve::model::Models;
use crate::target::Target;

mod checks;
mod chosen;
mod group;
mod players;
mod relayed;
mod scenario_rules;

use chosen::{contestants, nothing_fits, protocols, scenarios};
use group::group;
pub use group::{Entry, Group};

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
    /// The run ends with a summary of the differences between contestants. A ladder of rates has its
    /// knees instead.
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

const DEFAULT_SEED: u64 = 1;

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
        let sets = policies::parse_sets(&args.set)?;
        let out = args.out.clone().unwrap_or_else(|| PathBuf::from("target/poolbench"));
        let cores = place::allowed().len().max(1);
        let calibration = Calibration::read(&out, place::cpu_model().as_deref(), cores)?;
        let ask = Ask::new(args, target.as_ref())?;
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
                        groups.push(group);
                    }
                }
            }
        }
        if groups.is_empty() {
            return Err(BenchError::usage(nothing_fits(&protocols, &scenarios, &contestants)));
        }
        if args.is_bare() {
            // Faults, bursts and cold starts first: there contestants differ most.
            groups.sort_by_key(|group| !group.demand.is_open());
        }
        relayed::show_cost(args, &contestants, &sets, &mut groups)?;
        checks::check(args, &ask, &groups)?;
        Ok(Self {
            summary: groups.iter().any(|group| group.step.is_none()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use crate::names::Protocol;
    use crate::scenario::STEADY;
    use crate::scenario::ladder::Sweep;

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
        // Beside its time each turn takes up to 30 ms for its connections and the counts of the server. The
        // whole must stay below two minutes.
        let between = Duration::from_millis(30) * u32::try_from(plan.turns()).unwrap();
        let whole = plan.duration() + between;
        assert!(whole < Duration::from_secs(115), "{whole:?} for {} turns", plan.turns());
    }

    #[test]
    fn the_default_comparison_begins_with_faults_and_repeats_what_is_noisy() {
        let plan = Plan::new(&RunArgs::default()).unwrap();
        let open: Vec<bool> = plan.groups.iter().map(|group| group.demand.is_open()).collect();
        assert!(open[0] && open.is_sorted_by(|left, right| left >= right), "{open:?}");
        for group in plan.groups.iter().filter(|group| !group.demand.is_open()) {
            assert!(group.rounds >= 5, "{} {}", group.protocol, group.scenario.name);
        }
    }

    #[test]
    fn every_comparison_ends_with_a_summary_but_a_ladder() {
        let one = RunArgs::with(|args| args.scenario = vec!["herd".into()]);
        let single = RunArgs { protocol: vec!["resp".into()], ..one };
        let plan = Plan::new(&single).unwrap();
        assert!(plan.summary && plan.groups.len() == 1);
        let ladder =
            RunArgs { sweep: Some(Sweep::parse("1000..2000").unwrap()), ..RunArgs::default() };
        assert!(!Plan::new(&ladder).unwrap().summary);
    }

    #[test]
    fn names_may_be_repeated() {
        let plan = Plan::new(&RunArgs::with(|args| {
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
