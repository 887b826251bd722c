//! A run: groups one after the other, and in each group rounds of interleaved turns.

use std::pin::pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::contestants::take_turn;
use crate::error::BenchError;
use crate::place::{self, Environment, Placement};
use crate::report::Report;
use crate::report::model::{GroupResult, Played, Record};
use crate::report::output::Output;
use crate::scenario::Variant;
use crate::serve::oracle::{Counters, Series};
use crate::stdout;

mod arrivals;
mod backend;
pub mod child;
mod choices;
mod closed_loop;
pub mod control;
pub mod drive;
pub mod events;
pub mod lanes;
mod line;
pub mod lives;
pub mod load;
mod open_loop;
mod outcome;
mod pacer;
pub mod plan;
mod player;
pub mod progress;
pub mod slots;
pub mod turn;
pub mod worker;

use backend::Backend;
use events::Script;
use lives::Lives;
use load::Load;
use plan::{Entry, Group, Plan};
use player::Player;
use progress::Progress;
use turn::Turn;
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
    /// The reader of standard output has gone; the results so far are sound.
    Cut,
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
        placement.server = backend.cpu();
        let described = placement.describe(plan.target.is_none(), backend.has_relay());
        let environment = Environment::observe(&allowed, described);
        let mut report = Report::new(plan, environment, output);
        backend.remarks().into_iter().for_each(|remark| report.warn(remark));
        plan.ask.warning().into_iter().for_each(|remark| report.warn(remark));
        let progress = Progress::new(plan.quiet, plan.turns());
        report.print_heading();
        let mut order = fastrand::Rng::with_seed(plan.seed);
        for (index, group) in plan.groups.iter().enumerate() {
            let result = play(group, &mut backend, &progress, &mut order, &interrupted).await;
            let ended = result.ended.clone();
            progress.suspend(|| report.add(result));
            let is_last = index + 1 == plan.groups.len();
            if interrupted.is_cancelled() || (stdout::reader_is_gone() && !is_last) {
                report.mark_partial();
                break;
            }
            let Some(why) = ended else { continue };
            if is_last || !backend.has_process() {
                report.mark_ended(why);
                break;
            }
            // The other scenarios have done nothing wrong.
            if let Err(error) = backend.restart(plan, placement.server).await {
                report.mark_ended(format!("{why}; starting again: {error}"));
                break;
            }
            report.mark_lost(why);
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

/// Plays all rounds of a group. An interrupt or a server that is gone ends it early, with what was
/// measured.
async fn play(
    group: &Group,
    backend: &mut Backend,
    progress: &Progress,
    order: &mut fastrand::Rng,
    interrupted: &CancellationToken,
) -> GroupResult {
    let target = Arc::clone(&backend.setup(group, &group.entries[0]).target);
    let mut result = GroupResult {
        protocol: group.protocol,
        scenario: group.scenario,
        callers: group.callers,
        connections: group.connections,
        demand: group.demand,
        step: group.step,
        arrivals: group.arrivals,
        budget: group.budget,
        target,
        records: group.players().cloned().map(Record::new).collect(),
        twin: None,
        noise: None,
        rounds: group.rounds,
        ended: None,
    };
    play_rounds(&mut result, group, backend, progress, order, interrupted).await;
    result.twin = group.twin.as_ref().and_then(|_| result.records.pop());
    result
}

async fn play_rounds(
    result: &mut GroupResult,
    group: &Group,
    backend: &mut Backend,
    progress: &Progress,
    order: &mut fastrand::Rng,
    interrupted: &CancellationToken,
) {
    match backend.demand(group, interrupted).await {
        Ok(demand) => result.demand = demand,
        Err(error) => {
            result.ended = Some(backend.why(&error).await);
            return;
        }
    }
    let mut name = format!("{} {}", group.protocol, group.scenario.name);
    if let Some(step) = group.step {
        name.push_str(&format!(" step {} of {}", step.index, step.of));
    }
    'rounds: for round in 1..=group.rounds {
        progress.round(&format!("{name}: round {round} of {}", group.rounds));
        let mut turns: Vec<usize> = (0..result.records.len()).collect();
        order.shuffle(&mut turns);
        for index in turns {
            if interrupted.is_cancelled() {
                break 'rounds;
            }
            let entry = &result.records[index].entry.clone();
            progress.turn(format!("{name}: {}", entry.contestant.name));
            if let Some(clock) = &mut backend.clock {
                clock.wait(group.warm_up + group.duration, interrupted).await;
            }
            let (played, ended) = match take(group, entry, round, backend, interrupted).await {
                Ok(played) => {
                    let cut = played.cut.clone();
                    (Some(played), cut)
                }
                Err(error) => (None, Some(backend.why(&error).await)),
            };
            let whole = ended.is_none() && !interrupted.is_cancelled();
            // Without a single measured request there is no turn to keep.
            if let Some(played) = played.filter(|played| whole || !played.is_empty()) {
                result.records[index].rounds.push((round, played));
            }
            if let Some(why) = ended {
                let turn = result.records[index].label();
                result.ended = Some(format!("{why}, in round {round}, at the turn of {turn}"));
                return;
            }
            progress.turn_is_over();
        }
    }
    if interrupted.is_cancelled() {
        result.ended = Some("interrupted".to_owned());
    }
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
    let relayed = group.is_relayed(entry);
    let close_after = entry.variant == Some(Variant::ServerCloses);
    let (run, before) = backend.begin(protocol, relayed, close_after).await?;
    let setup = backend.setup(group, entry);
    let scenario = group.scenario;
    let callers =
        scenario.callers_of(&entry.contestant, protocol, group.callers, group.connections);
    let seed = backend.seed.wrapping_add(u64::from(round));
    let own = |seed| backend.worker.map_or(seed, |worker| worker.seed(seed));
    let load = Load {
        demand,
        arrivals: group.arrivals,
        writes_percent: backend.writes_percent(group, entry),
        gives_up: scenario.gives_up,
        patience: scenario.patience,
        seed: own(seed),
        phase: backend.worker.map_or(0.0, Worker::phase),
        cold: scenario.cold,
        slots: demand.is_open(),
        answers: scenario.has_faults(),
        lives: wants_lives(group, entry, round).then(|| Arc::new(Lives::new(group.duration))),
        schedule_on: backend.schedule_on.clone(),
        think: setup.target.ask.think,
        run,
        interrupted: interrupted.child_token(),
        ..Load::closed(callers, group.warm_up, group.duration)
    };
    let events = (scenario.events)(&mut fastrand::Rng::with_seed(seed));
    let mut script = Script::new(protocol, events);
    let (turn, trouble) = match backend.side(relayed) {
        Some(server) => {
            script.prepare(server.control()).await?;
            let (gone, over) = (server.gone(), CancellationToken::new());
            let player = Player {
                control: server.control_address(),
                began: load.began.subscribe(),
                over: over.clone(),
                cpus: load.schedule_on.clone(),
            };
            let playing = player.start(script)?;
            let mut turn = pin!(take_turn(&setup, &load));
            let turn = tokio::select! {
                turn = &mut turn => turn,
                () = gone.cancelled() => {
                    load.interrupted.cancel();
                    turn.await
                }
            };
            over.cancel();
            let played;
            (script, played) = playing.end().await;
            (turn, played.err())
        }
        None => (take_turn(&setup, &load).await, None),
    };
    let counted = match trouble {
        None => count(backend, group, entry, &turn).await,
        Some(error) => Err(error),
    };
    let (mut cut, (series, after)) = match counted {
        Ok(counted) => (None, counted),
        Err(error) => (Some(backend.why(&error).await), (None, None)),
    };
    if cut.is_none() && !interrupted.is_cancelled() && turn.as_ref().map_or(true, Turn::has_failed)
    {
        cut = backend.lost_target().await;
    }
    if let Ok(turn) = &turn {
        let forgotten = backend.forget_writes(&load, turn).await;
        cut = cut.or(forgotten.err().map(|error| error.to_string()));
    }
    let events =
        turn.as_ref().map_or(Vec::new(), |turn| script.played(turn.began_ns, group.duration));
    let faults_late_ms =
        turn.as_ref().ok().and_then(|turn| script.lateness_ms(turn.began_ns, turn.seconds));
    Ok(Played {
        turn,
        leaked: before.zip(after).map(|(before, after)| after.open.saturating_sub(before.open)),
        server: after.filter(|_| !relayed),
        relay: after.filter(|_| relayed),
        series,
        events,
        faults_late_ms,
        cut,
        nonces: setup.target.ask.has_nonce(),
    })
}

/// Whether the lives of this entry's connections are recorded: in the round of which results keep the
/// time line, and where something happens to connections.
fn wants_lives(group: &Group, entry: &Entry, round: u32) -> bool {
    let shown = round == group.rounds && group.step.is_none();
    shown && group.scenario.has_faults() && entry.policy.is_some()
}

/// The counts of the server or the relay after a turn.
async fn count(
    backend: &mut Backend,
    group: &Group,
    entry: &Entry,
    turn: &Result<Turn, String>,
) -> Result<(Option<Series>, Option<Counters>), BenchError> {
    let (protocol, relayed) = (group.protocol, group.is_relayed(entry));
    let mut series = match (backend.side(relayed), turn) {
        (Some(server), Ok(turn)) if turn.slots.is_some() => Some(server.series(protocol).await?),
        _ => None,
    };
    if let Some(series) = series.as_mut().filter(|_| relayed) {
        // A relay counts connections; it does not see requests.
        series.backends.clear();
    }
    Ok((series, backend.end(protocol, relayed).await?))
}
