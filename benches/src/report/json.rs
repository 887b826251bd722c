//! results.json, schema 1. A figure that was not measured is `null`.

use std::time::{SystemTime, UNIX_EPOCH};

use pool_common::Policy;
use pool_common::knob::KNOBS;
use serde::Serialize;
use serde_json::{Value, json};

use super::detail::{self, ErrorsByKind, Histograms, RoundRow, SlotRow};
use super::model::{GroupResult, Record};
use super::noise::MeasuredNoise;
use super::recovery::Recovery;
use super::sweep;
use crate::catalog::Kind;
use crate::measure::{Percentiles, Spread, round};
use crate::place::Environment;
use crate::policies::Safety;
use crate::run::events::Played as Event;
use crate::run::lanes::Lanes;
use crate::run::plan::Plan;
use crate::run::turn::{TimelinePoint, Turn};
use crate::scenario::demand::Rate;
use crate::scenario::ladder::Step;

/// The document.
#[derive(Debug, Serialize)]
pub struct Document {
    schema: u32,
    tool: Tool,
    environment: Environment,
    options: Value,
    /// When the run began, in seconds since 1970.
    measured_at_unix_s: Option<u64>,
    /// The run was interrupted; what is here was measured, the rest is missing.
    partial: bool,
    results: Vec<Row>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tool {
    version: &'static str,
    git: Option<&'static str>,
    /// `debug` or `release`. A debug build is many times slower, so the two cannot be compared.
    build: &'static str,
}

/// One entry of `results`. The fields beyond bench.md's list are additions that readers may ignore.
#[derive(Debug, Serialize)]
pub struct Row {
    protocol: &'static str,
    scenario: &'static str,
    contestant: &'static str,
    /// The figure that the scenario is about: contestants are ranked by it.
    figure: &'static str,
    /// What happens in the scenario.
    about: Option<String>,
    /// What the scenario should show.
    teaches: &'static str,
    /// Which way of the scenario, where it has several.
    variant: Option<std::borrow::Cow<'static, str>>,
    kind: &'static str,
    /// Of a rival: whether its settings were changed for this comparison.
    category: Option<&'static str>,
    /// Of a rival: what it does not do.
    does_not: &'static [&'static str],
    policy: Option<Policy>,
    rounds: usize,
    callers: usize,
    connections: usize,
    requests: u64,
    /// The same with those of the warm-up: what `opened` and `dials` are counted over.
    replies_all: u64,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    demand: &'static str,
    rate_per_s: Option<f64>,
    /// Its place in a ladder of rates.
    step: Option<Step>,
    /// Arrivals that an open loop had scheduled.
    wanted: Option<u64>,
    arrivals: Option<&'static str>,
    /// Whose limits of connections were in force.
    budget: &'static str,
    /// Requests that failed; those that timed out or were refused stand apart.
    errors: u64,
    timeouts: u64,
    refusals: u64,
    errors_by_kind: ErrorsByKind,
    /// Requests that their callers gave up. They are not errors.
    cancelled: u64,
    /// Arrivals of an open loop that no caller was free for until the end.
    unstarted: Option<u64>,
    /// Requests that must not run twice, and those that did.
    writes: u64,
    write_duplicates: Option<u64>,
    dials: Option<u64>,
    peak_dials_per_100ms: Option<u64>,
    first_error: Option<String>,
    broke: Option<String>,
    /// How it ran out of time: in a whole round, or as a limit. No fault of its program.
    overloaded: Option<String>,
    /// Why there are fewer rounds than planned, or the last one was cut short.
    partial: Option<String>,
    /// Requests went through the relay.
    relayed: bool,
    mismatches: Option<u64>,
    duplicates: Option<u64>,
    leaked: Option<u64>,
    opened: Option<u64>,
    reused_ratio: Option<f64>,
    high_water_open: Option<u64>,
    waits: Option<u64>,
    throughput_per_s: Option<f64>,
    cpu_us_per_request: Option<f64>,
    latency_us: Option<Percentiles>,
    acquire_us: Option<Percentiles>,
    /// From the moment a request was handed to the contestant, if that is later than the moment it was wanted.
    service_us: Option<Percentiles>,
    lateness_us: Option<Percentiles>,
    vs_limit: Option<Ratios>,
    /// Why there is no `vs_limit`, if the limit took part and broke.
    vs_limit_missing: Option<String>,
    /// Of the limit: connections opened again outside the measured time.
    redials: Option<u64>,
    /// Those of them that were closed because a caller left before its reply.
    redials_left: Option<u64>,
    /// The limit that `vs_limit` compares with, as tables name it.
    vs_limit_of: Option<String>,
    /// The lowest and highest round of the figures that are medians.
    spread: Option<Ranges>,
    safety: Safety,
    /// The gauges of the pool in the last round.
    timeline: Option<Vec<TimelinePoint>>,
    /// When the window of the last round began, in milliseconds since 1970.
    window_began_unix_ms: Option<f64>,
    /// The lives of the connections of one of our pools in the last round, in scenarios in which
    /// something happens.
    lanes: Option<Lanes>,
    /// The last round, in steps.
    slots: Option<Vec<SlotRow>>,
    /// The faults of the last round.
    events: Vec<Event>,
    /// By how much a fault of any round came later than planned, at most. Above 50 ms the row is not ranked.
    faults_late_ms: Option<f64>,
    /// After the last fault, the median over the rounds.
    recovery: Option<Recovery>,
    /// How much equal contestants of this table differed.
    noise: Option<MeasuredNoise>,
    rounds_detail: Vec<RoundRow>,
    histograms: Histograms,
}

#[derive(Debug, Serialize)]
struct Ratios {
    throughput: f64,
    cpu: f64,
}

#[derive(Debug, Serialize)]
struct Ranges {
    throughput_per_s: [f64; 2],
    cpu_us_per_request: [f64; 2],
    vs_limit_throughput: Option<[f64; 2]>,
    vs_limit_cpu: Option<[f64; 2]>,
}

impl Document {
    /// Everything that was measured.
    pub fn new(
        plan: &Plan,
        environment: Environment,
        groups: &[GroupResult],
        warnings: Vec<String>,
        partial: bool,
        began: SystemTime,
    ) -> Self {
        Self {
            schema: 1,
            tool: Tool {
                version: env!("CARGO_PKG_VERSION"),
                git: option_env!("POOLBENCH_GIT"),
                build: if cfg!(debug_assertions) { "debug" } else { "release" },
            },
            environment,
            options: options(plan),
            measured_at_unix_s: began.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
            partial,
            results: groups
                .iter()
                .flat_map(|group| {
                    // A contestant that was interrupted before its first turn has no row.
                    let played = group.records.iter().filter(|record| !record.rounds.is_empty());
                    played.map(|record| Row::new(group, record))
                })
                .collect(),
            warnings,
        }
    }
}

fn options(plan: &Plan) -> Value {
    let groups: Vec<Value> = plan
        .groups
        .iter()
        .map(|group| {
            json!({
                "protocol": group.protocol.name(),
                "scenario": group.scenario.name,
                "contestants": group.entries.iter().map(|entry| entry.contestant.name)
                    .fold(Vec::new(), |mut names, name| {
                        if !names.contains(&name) { names.push(name); }
                        names
                    }),
                "callers": group.callers,
                "connections": group.connections,
                "loop": if group.demand.is_open() { "open" } else { "closed" },
                "rate": group.demand.rate().map(Rate::words),
                "budget": group.budget.word(),
                "warm_up_ms": group.warm_up.as_millis() as u64,
                "duration_ms": group.duration.as_millis() as u64,
                "rounds": group.rounds,
                "step": group.step,
            })
        })
        .collect();
    json!({
        "command": command(std::env::args()),
        "seed": plan.seed,
        "set": plan.set,
        "request": plan.ask.request(),
        "target": plan.target.as_ref().map(crate::target::Target::describe),
        "models": plan.models,
        "worker": plan.worker.map(crate::run::worker::Worker::words),
        "start_at": plan.start_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
        "groups": groups,
    })
}

/// The command line without the folder of the program, and without user and password of an URL.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let words = arguments.enumerate().map(|(index, word)| {
        if index == 0 {
            return "poolbench".to_owned();
        }
        match (word.find("://"), word.rfind('@')) {
            (Some(scheme), Some(at)) if scheme < at => {
                format!("{}{}", &word[..scheme + 3], &word[at + 1..])
            }
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Row {
    /// What a contestant measured in a group.
    pub fn new(group: &GroupResult, record: &Record) -> Self {
        let vs_limit = group.vs_limit(record);
        let facts = record.entry.contestant.facts();
        let (throughput, cpu) = (record.throughput(), record.cpu());
        let open = group.demand.is_open();
        let last = record.last();
        Self {
            protocol: group.protocol.name(),
            scenario: group.scenario.name,
            contestant: record.entry.contestant.name,
            figure: group.scenario.figure.name(),
            about: about(group, record),
            teaches: group.scenario.teaches,
            variant: record.entry.variant.map(|variant| variant.name()),
            kind: record.entry.contestant.kind_word(),
            category: facts.map(|facts| facts.category.words()),
            does_not: facts.map_or(&[], |facts| facts.does_not),
            policy: record.entry.policy.clone(),
            rounds: record.rounds.len(),
            callers: group.scenario.callers_of(
                &record.entry.contestant,
                group.protocol,
                group.callers,
                group.connections,
            ),
            connections: group.connections,
            demand: if open { "open" } else { "closed" },
            rate_per_s: group.rate().map(round),
            step: group.step,
            wanted: open.then(|| sweep::wanted(record)),
            arrivals: open.then(|| group.arrivals.word()),
            budget: group.budget.word(),
            requests: record.sum(|turn| turn.requests),
            replies_all: record.sum(|turn| turn.replies),
            errors: record.sum(Turn::failures),
            timeouts: record.sum(Turn::timeouts),
            refusals: record.sum(Turn::refusals),
            errors_by_kind: ErrorsByKind::of(record.errors()),
            cancelled: record.sum(|turn| turn.cancelled),
            unstarted: open.then(|| record.sum(|turn| turn.unstarted)),
            writes: record.sum(|turn| turn.writes),
            write_duplicates: record.write_duplicates(),
            dials: record.known_sum(|played| played.turn.as_ref().ok()?.counts.dials),
            peak_dials_per_100ms: detail::peak_dials(record),
            first_error: record.first_error().map(str::to_owned),
            broke: record.broke(),
            overloaded: record.overloaded(),
            partial: group.partial(record).map(str::to_owned),
            relayed: record.rounds.iter().any(|(_, played)| played.relay.is_some()),
            mismatches: record.mismatches(),
            duplicates: record.duplicates(),
            leaked: record.leaked(),
            opened: record.opened(),
            reused_ratio: record.reused_ratio(),
            high_water_open: record.high_water(),
            waits: record.known_sum(|played| played.turn.as_ref().ok()?.counts.waits),
            throughput_per_s: throughput.map(|spread| round(spread.median)),
            cpu_us_per_request: cpu.map(|spread| round(spread.median)),
            latency_us: Percentiles::of(&record.merged(|turn| &turn.latency)),
            acquire_us: Percentiles::of(&record.merged(|turn| &turn.acquire)),
            service_us: Percentiles::of(&record.merged(|turn| &turn.service)),
            lateness_us: Percentiles::of(&record.merged(|turn| &turn.lateness)),
            vs_limit: vs_limit.map(|ratios| Ratios {
                throughput: round(ratios.throughput.median),
                cpu: round(ratios.cpu.median),
            }),
            vs_limit_missing: group.no_limit(),
            redials: (record.entry.contestant.kind == Kind::Limit)
                .then(|| record.sum(|turn| turn.redials)),
            redials_left: (record.entry.contestant.kind == Kind::Limit)
                .then(|| record.sum(|turn| turn.redials_left)),
            vs_limit_of: vs_limit.and(group.limit_of(record)).map(Record::label),
            spread: throughput.zip(cpu).map(|(throughput, cpu)| Ranges {
                throughput_per_s: range(throughput),
                cpu_us_per_request: range(cpu),
                vs_limit_throughput: vs_limit.map(|ratios| range(ratios.throughput)),
                vs_limit_cpu: vs_limit.map(|ratios| range(ratios.cpu)),
            }),
            safety: record.entry.safety,
            timeline: record.turns().last().and_then(|turn| turn.timeline.clone()),
            window_began_unix_ms: last.and_then(|(turn, _)| detail::unix_ms(turn.began_ns)),
            slots: last.and_then(|(turn, played)| detail::slots(turn, played.series.as_ref())),
            lanes: last.and_then(|(turn, _)| turn.lanes.clone()),
            recovery: Recovery::of_record(record),
            events: last.map_or(Vec::new(), |(_, played)| played.events.clone()),
            faults_late_ms: record.faults_late_ms(),
            noise: group.noise.clone(),
            rounds_detail: detail::rounds(record),
            histograms: Histograms::of(record),
        }
    }
}

/// What happens in the scenario, with the values of the policy that played it; `None` if it is the description
/// of a demand that was not played, as of the steps of a ladder.
fn about(group: &GroupResult, record: &Record) -> Option<String> {
    let value = |(name, _): &(&str, &str)| {
        let policy = record.entry.policy.as_ref()?;
        let knob = KNOBS.iter().find(|knob| knob.name == *name)?;
        Some(format!("{name}={}", knob.value(policy)))
    };
    let set: Vec<String> = group.scenario.set.iter().filter_map(value).collect();
    match group.demand.is_open() {
        true => group.scenario.note(&set).filter(|_| group.step.is_none()),
        false => Some(group.scenario.about_with(&set)),
    }
}

fn range(spread: Spread) -> [f64; 2] {
    [round(spread.low), round(spread.high)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_keeps_no_password() {
        let words = ["/x/poolbench", "run", "--target=redis://:se/cr@et@host:1/2", "--quiet"];
        let command = command(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(command, "poolbench run --target=redis://host:1/2 --quiet");
    }
}
