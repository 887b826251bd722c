//! A run: groups one after the other, and in each group rounds of interleaved turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog::{CONTESTANTS, Kind};
use crate::contestants::{self, Setup, Template, take_turn};
use crate::error::BenchError;
use crate::names::Protocol;
use crate::place::{self, Environment, Placement};
use crate::report::Report;
use crate::report::model::{GroupResult, Played, Record};
use crate::report::output::Output;
use crate::scenario::Variant;
use crate::scenario::demand::{Demand, Rate};
use crate::serve::oracle::Counters;
use crate::target::Target;

mod arrivals;
pub mod child;
mod choices;
mod closed_loop;
pub mod events;
mod line;
mod load;
mod open_loop;
mod outcome;
mod pacer;
pub mod plan;
pub mod progress;
pub mod slots;
pub mod turn;
pub mod worker;

use child::Server;
use events::Script;
use plan::{Entry, Group, Plan};
use progress::Progress;
use turn::Load;
use worker::{Clock, Worker};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was measured and was sound.
    Done,
    /// Something was wrong with a contestant: a mismatch, a duplicate, a leak, or it broke.
    Unsound,
    /// Ctrl-C came before the end; what was measured was sound.
    Interrupted,
}

/// Carries out a plan and writes everything that it promises.
///
/// # Errors
/// [`BenchError::Usage`] before anything is measured, other errors when the embedded server or a
/// file fails.
pub fn run(plan: &Plan) -> Result<Outcome, BenchError> {
    let output = Output::prepare(plan)?;
    check_descriptors(plan, place::raise_descriptor_limit())?;
    let allowed = place::allowed();
    let mut placement = Placement::choose(&allowed);
    // The one thread that sends and measures.
    placement.client = placement.client.filter(|cpu| place::pin(*cpu));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the runtime"))?;
    runtime.block_on(async {
        let interrupted = watch_for_interrupts();
        let mut backend = Backend::open(plan, placement, &allowed).await?;
        placement.server = backend.server.as_ref().and_then(Server::cpu);
        let described = placement.describe(plan.target.is_none());
        let environment = Environment::observe(&allowed, described);
        let mut report = Report::new(plan, environment, output);
        backend.remarks().into_iter().for_each(|remark| report.warn(remark));
        let progress = Progress::new(plan.quiet, plan.turns());
        report.print_heading();
        let mut order = fastrand::Rng::with_seed(plan.seed);
        for group in &plan.groups {
            let result = play(group, &mut backend, &progress, &mut order, &interrupted).await?;
            progress.suspend(|| report.add(result))?;
            if interrupted.is_cancelled() {
                report.mark_partial();
                break;
            }
        }
        progress.finish();
        backend
            .clock
            .as_ref()
            .and_then(Clock::remark)
            .into_iter()
            .for_each(|remark| report.warn(remark));
        drop(backend);
        report.finish()
    })
}

/// How long the limit runs when a rate depends on it.
const LIMIT_DURATION: Duration = Duration::from_millis(500);
const LIMIT_WARM_UP: Duration = Duration::from_millis(100);

/// Descriptors beside those of callers and connections: the runtime's, files, the control connection.
const OTHER_DESCRIPTORS: usize = 64;

/// Every contestant must be able to open what it is allowed to.
fn check_descriptors(plan: &Plan, allowed: Option<u64>) -> Result<(), BenchError> {
    let sockets = |group: &Group| group.callers.max(group.connections) + OTHER_DESCRIPTORS;
    let needed = plan.groups.iter().map(sockets).max().unwrap_or(0);
    match allowed {
        Some(allowed) if (needed as u64) > allowed => Err(BenchError::usage(format!(
            "--callers and --connections need {needed} open files, the system allows {allowed} (ulimit -Hn)"
        ))),
        _ => Ok(()),
    }
}

/// The first signal ends the run in order, the second at once.
fn watch_for_interrupts() -> CancellationToken {
    let token = CancellationToken::new();
    let interrupted = token.clone();
    tokio::spawn(async move {
        crate::signals::interrupted().await;
        interrupted.cancel();
        crate::signals::interrupted().await;
        // The server sees its standard input close and ends too.
        std::process::exit(130);
    });
    token
}

/// The other side: the embedded servers, or the user's.
struct Backend {
    server: Option<Server>,
    /// What is known about each protocol's server.
    probed: Vec<Probed>,
    /// What the limit does in a second, where a rate depends on it.
    limits: HashMap<Protocol, f64>,
    next_run: u32,
    /// Decides what requests arrive when; each round has others.
    seed: u64,
    /// Processors for the schedule thread.
    schedule_on: Vec<usize>,
    /// Which of several workers this is, and when its turns begin.
    worker: Option<Worker>,
    clock: Option<Clock>,
}

/// What is known about the server of a protocol.
struct Probed {
    protocol: Protocol,
    /// Whether a dial waits for its first word.
    greets: bool,
    target: Arc<Target>,
    template: Arc<Template>,
}

impl Backend {
    async fn open(
        plan: &Plan,
        placement: Placement,
        allowed: &[usize],
    ) -> Result<Self, BenchError> {
        let server = match &plan.target {
            Some(_) => None,
            None => Some(Server::start(placement.server, &plan.models).await?),
        };
        let mut probed: Vec<Probed> = Vec::new();
        for group in &plan.groups {
            let protocol = group.protocol;
            let greets = group.scenario.greets();
            if probed.iter().any(|known| (known.protocol, known.greets) == (protocol, greets)) {
                continue;
            }
            let target = match (&plan.target, &server) {
                (Some(target), _) => target.clone(),
                (None, Some(server)) => Target::embedded(protocol, server.address(protocol)),
                (None, None) => unreachable!("without a target there is a server"),
            };
            let target = if greets { target.greeting() } else { target };
            let template = contestants::probe(&target).await.map_err(|error| {
                BenchError::usage(format!("cannot use the {}: {error}", target.describe()))
            })?;
            let (target, template) = (Arc::new(target), Arc::new(template));
            probed.push(Probed { protocol, greets, target, template });
        }
        Ok(Self {
            server,
            probed,
            limits: HashMap::new(),
            next_run: plan.worker.map_or(1, Worker::first_turn),
            seed: plan.seed,
            schedule_on: allowed.to_vec(),
            worker: plan.worker,
            clock: plan.start_at.map(Clock::new).transpose()?,
        })
    }

    /// What people should know about the servers.
    fn remarks(&self) -> Vec<String> {
        let strange = |Probed { target, template, .. }: &Probed| {
            let status = template.status().filter(|status| !status.is_success())?;
            Some(format!("the {} answers {status}: that is what is compared", target.describe()))
        };
        self.probed.iter().filter_map(strange).collect()
    }

    fn setup(&self, group: &Group, entry: &Entry) -> Setup {
        let greets = group.scenario.greets();
        let Probed { target, template, .. } = self
            .probed
            .iter()
            .find(|known| (known.protocol, known.greets) == (group.protocol, greets))
            .expect("every protocol of the plan was probed");
        Setup {
            kind: entry.contestant.kind,
            policy: entry.policy.clone(),
            target: Arc::clone(target),
            template: Arc::clone(template),
            scenario: group.scenario,
            variant: entry.variant,
            connections: group.connections,
            budget: group.budget,
        }
    }

    /// The demand of a group, with its rate in requests per second. What depends on the limit lets the
    /// limit run first, for each protocol once.
    async fn demand(
        &mut self,
        group: &Group,
        interrupted: &CancellationToken,
    ) -> Result<Demand, BenchError> {
        let Demand::Paced { rate: Rate::OfLimit(share) } = group.demand else {
            return Ok(group.demand);
        };
        let protocol = group.protocol;
        if !self.limits.contains_key(&protocol) {
            let (run, _) = self.begin(protocol, false).await?;
            let callers = group.connections;
            let load = Load {
                run,
                interrupted: interrupted.clone(),
                ..Load::closed(callers, LIMIT_WARM_UP, LIMIT_DURATION)
            };
            let limit = CONTESTANTS.into_iter().find(|one| one.kind == Kind::Limit);
            let entry = Entry::without_policy(limit.expect("the catalog has it"));
            let turn = take_turn(&self.setup(group, &entry), &load).await;
            self.end(protocol).await?;
            let turn = turn.map_err(|error| {
                BenchError::Server(format!("the limit, which the rate depends on, broke: {error}"))
            })?;
            if turn.requests == 0 && !interrupted.is_cancelled() {
                let why = turn.first_error.unwrap_or_else(|| "it had no reply".to_owned());
                return Err(BenchError::Server(format!(
                    "the limit, which the rate depends on, measured nothing: {why}"
                )));
            }
            self.limits.insert(protocol, turn.requests as f64 / turn.seconds.max(f64::EPSILON));
        }
        let rate = (self.limits[&protocol] * share).max(1.0);
        Ok(Demand::Paced { rate: Rate::PerSecond(rate) })
    }

    /// Tells the server that a turn begins; what it counts then, `None` without an oracle.
    async fn begin(
        &mut self,
        protocol: Protocol,
        close_after: bool,
    ) -> Result<(u32, Option<Counters>), BenchError> {
        let run = self.next_run;
        self.next_run += 1;
        let counters = match &mut self.server {
            Some(server) => {
                server.counters_at_rest(protocol).await?;
                Some(server.start_run(protocol, run, close_after).await?)
            }
            None => None,
        };
        Ok((run, counters))
    }

    /// What the server counted in a turn, once its sockets are closed.
    async fn end(&mut self, protocol: Protocol) -> Result<Option<Counters>, BenchError> {
        match &mut self.server {
            Some(server) => Ok(Some(server.counters_at_rest(protocol).await?)),
            None => Ok(None),
        }
    }
}

/// Plays all rounds of a group. An interrupt ends it early, with what was measured.
async fn play(
    group: &Group,
    backend: &mut Backend,
    progress: &Progress,
    order: &mut fastrand::Rng,
    interrupted: &CancellationToken,
) -> Result<GroupResult, BenchError> {
    let demand = backend.demand(group, interrupted).await?;
    let mut records: Vec<Record> = group.players().cloned().map(Record::new).collect();
    let mut name = format!("{} {}", group.protocol, group.scenario.name);
    if let Some(step) = group.step {
        name.push_str(&format!(" step {} of {}", step.index, step.of));
    }
    'rounds: for round in 1..=group.rounds {
        progress.round(&format!("{name}: round {round} of {}", group.rounds));
        let mut turns: Vec<usize> = (0..records.len()).collect();
        order.shuffle(&mut turns);
        for index in turns {
            if interrupted.is_cancelled() {
                break 'rounds;
            }
            let entry = &records[index].entry.clone();
            progress.turn(format!("{name}: {}", entry.contestant.name));
            if let Some(clock) = &mut backend.clock {
                clock.wait(group.warm_up + group.duration, interrupted).await;
            }
            let played = take(group, entry, round, backend, interrupted).await?;
            if interrupted.is_cancelled() && played.is_empty() {
                break 'rounds;
            }
            records[index].rounds.push((round, played));
            progress.turn_is_over();
        }
    }
    let twin = group.twin.as_ref().and_then(|_| records.pop());
    let target = &backend.setup(group, &group.entries[0]).target;
    Ok(GroupResult {
        protocol: group.protocol,
        scenario: group.scenario,
        callers: group.callers,
        connections: group.connections,
        demand,
        step: group.step,
        arrivals: group.arrivals,
        budget: group.budget,
        target: Arc::clone(target),
        records,
        twin,
        noise: None,
    })
}

/// One turn, with the oracle asked before and after, and its faults played meanwhile.
async fn take(
    group: &Group,
    entry: &Entry,
    round: u32,
    backend: &mut Backend,
    interrupted: &CancellationToken,
) -> Result<Played, BenchError> {
    let protocol = group.protocol;
    let demand = backend.demand(group, interrupted).await?;
    let close_after = entry.variant == Some(Variant::ServerCloses);
    let (run, before) = backend.begin(protocol, close_after).await?;
    let setup = backend.setup(group, entry);
    let scenario = group.scenario;
    let callers =
        scenario.callers_of(&entry.contestant, protocol, group.callers, group.connections);
    let seed = backend.seed.wrapping_add(u64::from(round));
    let own = |seed| backend.worker.map_or(seed, |worker| worker.seed(seed));
    let load = Load {
        demand,
        arrivals: group.arrivals,
        writes_percent: scenario.writes_percent,
        gives_up: scenario.gives_up,
        patience: scenario.patience,
        seed: own(seed),
        phase: backend.worker.map_or(0.0, Worker::phase),
        cold: scenario.cold,
        slots: demand.is_open(),
        schedule_on: backend.schedule_on.clone(),
        run,
        interrupted: interrupted.clone(),
        ..Load::closed(callers, group.warm_up, group.duration)
    };
    let events = (scenario.events)(&mut fastrand::Rng::with_seed(seed));
    let mut script = Script::new(protocol, events);
    let turn = match &mut backend.server {
        Some(server) => {
            script.prepare(server).await?;
            let over = CancellationToken::new();
            let turn = async {
                let turn = take_turn(&setup, &load).await;
                over.cancel();
                turn
            };
            let (turn, played) =
                tokio::join!(turn, script.play(server, load.began.subscribe(), &over));
            played?;
            turn
        }
        None => take_turn(&setup, &load).await,
    };
    let series = match (&mut backend.server, &turn) {
        (Some(server), Ok(turn)) if turn.slots.is_some() => Some(server.series(protocol).await?),
        _ => None,
    };
    let server = backend.end(protocol).await?;
    let events = turn.as_ref().map_or(Vec::new(), |turn| script.played(turn.began_ns));
    Ok(Played {
        turn,
        leaked: before.zip(server).map(|(before, after)| after.open.saturating_sub(before.open)),
        server,
        series,
        events,
    })
}
