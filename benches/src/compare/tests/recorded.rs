//! How often two builds in turn are told apart, from recorded runs of one build: the figures of
//! docs/measuring.md.

use std::path::Path;

use super::super::figure::Figure;
use super::super::runs_of;
use super::super::verdict::{Verdict, compare};
use crate::report::saved::{Row, Saved};
use crate::stdout;

/// Times that pairs are drawn from the recorded ones.
const DRAWS: u32 = 400;

/// The rounds of some runs, in blocks of this length: each block is as a short run.
fn blocks(runs: &[Saved], rounds: usize) -> Vec<Saved> {
    let block = |run: &Saved, from: usize| {
        let row = |row: &Row| {
            let detail = row.rounds_detail.get(from..from + rounds)?.to_vec();
            Some(Row {
                protocol: row.protocol.clone(),
                scenario: row.scenario.clone(),
                contestant: row.contestant.clone(),
                kind: row.kind.clone(),
                rounds_detail: detail,
                ..Row::default()
            })
        };
        let results: Option<Vec<Row>> = run.results.iter().map(row).collect();
        Some(Saved { results: results?, ..Saved::default() })
    };
    let starts = |run: &Saved| {
        let all = run.results.iter().map(|row| row.rounds_detail.len()).min().unwrap_or(0);
        (0..all).step_by(rounds)
    };
    runs.iter().flat_map(|run| starts(run).filter_map(move |from| block(run, from))).collect()
}

/// The same run of a build that takes 5 % more processor time, in a closed loop that fills the processor.
fn slower(run: &Saved) -> Saved {
    let mut run = run.clone();
    for row in run.results.iter_mut().filter(|row| !row.is_limit()) {
        for round in &mut row.rounds_detail {
            let times = |value: &mut Option<f64>, by: f64| *value = value.map(|value| value * by);
            times(&mut round.cpu_us_per_request, 1.05);
            times(&mut round.p50_us, 1.05);
            times(&mut round.throughput_per_s, 1.0 / 1.05);
        }
    }
    run
}

#[test]
#[ignore = "prints the figures of docs/measuring.md, from the runs in the directory POOLBENCH_RUNS"]
fn builds_in_turn_on_recorded_runs() {
    let directory = std::env::var("POOLBENCH_RUNS").expect("a directory of runs");
    let runs = runs_of(&directory, Path::new("")).unwrap();
    let random = &mut fastrand::Rng::with_seed(1);
    stdout::print("rounds pairs alarms found\n");
    for rounds in [5, 10] {
        let same = blocks(&runs, rounds);
        let slow: Vec<Saved> = same.iter().map(slower).collect();
        for pairs in [20, 40, 60, 80] {
            let (mut alarms, mut found) = (0, 0);
            for _ in 0..DRAWS {
                // A pair of neighbours, one of which is of the other build.
                let drawn: Vec<(usize, usize)> = (0..pairs)
                    .map(|_| {
                        let at = random.usize(1..same.len());
                        if random.bool() { (at, at - 1) } else { (at - 1, at) }
                    })
                    .collect();
                let of = |new: &'_ [Saved]| {
                    let runs: Vec<(&Saved, &Saved)> =
                        drawn.iter().map(|(base, other)| (&same[*base], &new[*other])).collect();
                    compare(&runs).unwrap()
                };
                alarms += u32::from(of(&same).verdict != Verdict::NoDifference);
                let comparison = of(&slow);
                let mut changes = comparison.rows.iter().flat_map(|row| &row.changes);
                found += u32::from(changes.any(|change| {
                    change.figure == Figure::Cpu && change.verdict == Verdict::Regressed
                }));
            }
            let percent = |count: u32| f64::from(count) * 100.0 / f64::from(DRAWS);
            let (alarms, found) = (percent(alarms), percent(found));
            stdout::print(&format!("{rounds:6} {pairs:5} {alarms:4.1} % {found:4.1} %\n"));
        }
    }
}
