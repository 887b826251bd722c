//! Interleaved rounds over all contestants, and the tables that come of them.
//!
//! A round measures every contestant once, each time starting with another one. A ratio compares
//! two figures of the same round; the tables have the median over the rounds. So a change in the
//! speed of the machine affects all contestants in the same way.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::crowd::{Crowd, Crowded, Hold};
use super::flat::{self, MANY};
use super::{Contestant, Kind, calibrated, contestants, nanos_each, runtime_of_one};

/// Rounds in a table; odd, so that the median is one of them.
const ROUNDS: usize = 15;
/// How long one contestant is measured in a round, alone.
const ALONE: Duration = Duration::from_millis(20);
/// How long one contestant is measured in a round, with a crowd.
const CROWDED: Duration = Duration::from_millis(120);
/// Callers in a crowd.
const CALLERS: usize = 64;
/// Threads they run on.
const WORKERS: usize = 2;

/// The middle value, by size.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The results of `measure` for each of `count` contestants in each round: `[contestant][round]`.
fn rounds<T>(count: usize, mut measure: impl FnMut(usize) -> T) -> Vec<Vec<T>> {
    let mut measured: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for turn in 0..count {
            let one = (round + turn) % count;
            measured[one].push(measure(one));
        }
    }
    measured
}

/// Each figure divided by the one of the same round.
fn ratios<'a>(figures: &'a [f64], base: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    figures.iter().zip(base).map(|(figure, base)| figure / base)
}

/// Acquire and release by one task: every contestant.
pub fn alone() -> String {
    let contestants = contestants(&runtime_of_one(), 100);
    let times: Vec<u64> = contestants
        .iter()
        .map(|contestant| calibrated(ALONE, |times| contestant.turns(times)))
        .collect();
    let measured = rounds(contestants.len(), |one| contestants[one].nanos_per_turn(times[one]));
    let mut table = String::from(
        "| pool | ns | x limit | middle half of the rounds |\n| --- | ---: | ---: | ---: |\n",
    );
    for (contestant, nanos) in contestants.iter().zip(&measured) {
        let mut ratio: Vec<f64> = ratios(nanos, &measured[0]).collect();
        ratio.sort_by(f64::total_cmp);
        let (low, high) = (ratio[ROUNDS / 4], ratio[ROUNDS - 1 - ROUNDS / 4]);
        let (name, nanos, ratio) =
            (&contestant.name, median(nanos.iter().copied()), ratio[ROUNDS / 2]);
        writeln!(table, "| {name} | {nanos:.1} | {ratio:.2} | {low:.2} to {high:.2} |")
            .expect("a string takes everything");
    }
    table
}

/// Many callers: three tables.
pub fn crowds() -> String {
    [(64, Hold::Yield), (8, Hold::Yield), (64, Hold::Work), (8, Hold::Work), (64, Hold::No)]
        .map(|(connections, hold)| {
            let held = match hold {
                Hold::Yield => "others run while a connection is held",
                Hold::Work => "a caller works with it for 0.3 us, and others run while it is held",
                Hold::No => "a connection is given back at once",
            };
            let title = format!("{CALLERS} callers, {connections} connections; {held}:");
            format!("{title}\n\n{}", crowded(connections, hold))
        })
        .join("\n")
}

fn crowded(connections: u32, hold: Hold) -> String {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let mut contestants = contestants(&Arc::new(runtime.expect("a runtime starts")), connections);
    contestants.retain(|contestant| takes_part(contestant, connections));
    let crowd = Crowd { callers: CALLERS, hold, time: CROWDED };
    for contestant in &contestants {
        // Dials, and warms up.
        contestant.crowd(&Crowd { time: CROWDED / 4, ..crowd.clone() });
    }
    let measured = rounds(contestants.len(), |one| contestants[one].crowd(&crowd));
    let of = |crowded: &[Crowded], figure: fn(&Crowded) -> f64| -> Vec<f64> {
        crowded.iter().map(figure).collect()
    };
    let mut table = String::from(
        "| pool | million/s | x limit | CPU ns | x limit | acquire us, p50 | p99 | slowest caller |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (contestant, crowded) in contestants.iter().zip(&measured) {
        let limit = &measured[0];
        let (rate, cpu) = (|c: &Crowded| c.turns_per_second, |c: &Crowded| c.cpu_nanos);
        let (rates, cpus) = (of(crowded, rate), of(crowded, cpu));
        writeln!(
            table,
            "| {} | {:.2} | {:.2} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            contestant.name,
            median(rates.iter().copied()) / 1e6,
            median(ratios(&rates, &of(limit, rate))),
            median(cpus.iter().copied()),
            median(ratios(&cpus, &of(limit, cpu))),
            median(of(crowded, |c| c.p50 as f64 / 1e3)),
            median(of(crowded, |c| c.p99 as f64 / 1e3)),
            median(of(crowded, |c| c.slowest)),
        )
        .expect("a string takes everything");
    }
    table
}

/// Variations of our pool take part only in the tables of one caller, and a pool without a limit does not
/// take part in tables about waiting.
fn takes_part(contestant: &Contestant, connections: u32) -> bool {
    matches!(contestant.kind, Kind::Limit | Kind::Ours | Kind::Peer)
        && (contestant.limits || connections as usize >= CALLERS)
}

/// The costs that must not grow with the size of the pool.
pub fn flat() -> String {
    let mut table = format!(
        "| in the pool | lending | ns, 1 | ns, {MANY} | x |\n| --- | --- | ---: | ---: | ---: |\n"
    );
    for case in flat::cases() {
        let mut works = [(case.with)(1), (case.with)(MANY)];
        let times = works.each_mut().map(|work| calibrated(ALONE, work));
        let measured = rounds(works.len(), |one| nanos_each(times[one], &mut works[one]));
        writeln!(
            table,
            "| {} | {} | {:.1} | {:.1} | {:.2} |",
            case.name,
            case.lending,
            median(measured[0].iter().copied()),
            median(measured[1].iter().copied()),
            median(ratios(&measured[1], &measured[0])),
        )
        .expect("a string takes everything");
    }
    table
}
