//! The parts of a row of results.json that say more than one figure: steps of time, rounds, errors by
//! kind, histograms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::histogram;
use super::model::{Played, Record};
use super::recovery::Recovery;
use crate::contestants::ErrorKind;
use crate::fault::{Fault, Who};
use crate::measure::{Percentiles, monotonic_ns as monotonic_ns_now, round};
use crate::run::events::Played as Event;
use crate::run::slots::{STEP, Slot};
use crate::run::turn::Turn;
use crate::serve::oracle::Series;

/// Requests that failed, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ErrorsByKind {
    dial: u64,
    timeout: u64,
    refused: u64,
    broken: u64,
    wrong: u64,
}

impl ErrorsByKind {
    /// From counts in the order of [`ErrorKind::ALL`].
    pub fn of(counts: [u64; 5]) -> Self {
        let count = |kind: ErrorKind| counts[kind.index()];
        Self {
            dial: count(ErrorKind::Dial),
            timeout: count(ErrorKind::Timeout),
            refused: count(ErrorKind::Refused),
            broken: count(ErrorKind::Broken),
            wrong: count(ErrorKind::Wrong),
        }
    }
}

/// One step of the time line.
#[derive(Debug, Clone, Serialize)]
pub struct SlotRow {
    t_ms: u64,
    started: u64,
    ok: u64,
    errors: u64,
    cancelled: u64,
    unstarted: u64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    dials: Option<u64>,
    accepted: Option<u32>,
    open: Option<u32>,
    idle: Option<u32>,
    leased: Option<u32>,
    dialing: Option<u32>,
    draining: Option<u32>,
    waiting: Option<u32>,
    backends: Option<[u32; 2]>,
}

impl SlotRow {
    /// When it began, in milliseconds since the window did.
    pub fn at_ms(&self) -> f64 {
        self.t_ms as f64
    }

    /// Whether any request was wanted in it.
    pub fn was_wanted(&self) -> bool {
        self.started + self.unstarted > 0
    }

    /// Replies of each of two backends.
    pub fn backends(&self) -> Option<[u32; 2]> {
        self.backends
    }
}

/// A moment of the clock that a machine's processes share, in milliseconds since 1970.
pub fn unix_ms(monotonic_ns: u64) -> Option<f64> {
    let ago = Duration::from_nanos(monotonic_ns_now().saturating_sub(monotonic_ns));
    let at = SystemTime::now().checked_sub(ago)?;
    Some(round(at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() * 1000.0))
}

/// The steps of a turn, with what the server saw in each; `None` where none were wanted.
pub fn slots(turn: &Turn, series: Option<&Series>) -> Option<Vec<SlotRow>> {
    let slots = turn.slots.as_ref()?;
    // The server counts from the start of the run; the window began some steps later.
    let shift = series.map_or(0, |series| {
        let step = (series.step_ms * 1_000_000).max(1);
        (turn.began_ns.saturating_sub(series.origin_ns) + step / 2) / step
    });
    let rows = slots.iter().enumerate().map(|(n, slot)| {
        let at = n + usize::try_from(shift).unwrap_or(usize::MAX / 2);
        // Steps in which nothing happened are not kept at the end of a series.
        let seen = |list: fn(&Series) -> &Vec<u32>| {
            series.map(|series| list(series).get(at).copied().unwrap_or(0))
        };
        SlotRow {
            t_ms: slot.t_ms,
            started: slot.started,
            ok: slot.ok,
            errors: slot.errors.iter().sum(),
            cancelled: slot.cancelled,
            unstarted: slot.unstarted,
            p50_us: slot.p50_us.map(round),
            p99_us: slot.p99_us.map(round),
            dials: slot.dials,
            accepted: seen(|series| &series.accepted),
            open: slot.status.map(|status| status.open),
            idle: slot.status.map(|status| status.idle),
            leased: slot.status.map(|status| status.leased),
            dialing: slot.status.map(|status| status.dialing),
            draining: slot.status.map(|status| status.draining),
            waiting: slot.status.map(|status| status.waiting),
            // Without a single entry they are not known.
            backends: series
                .filter(|series| !series.backends.is_empty())
                .map(|series| series.backends.get(at).copied().unwrap_or_default()),
        }
    });
    Some(rows.collect())
}

/// The most dials begun in one step of any window; `None` where the contestant does not count its dials. The
/// connections that the server accepted are no stand-in: a server that is away accepts none.
pub fn peak_dials(record: &Record) -> Option<u64> {
    record.rounds.iter().filter_map(|(_, played)| peak_of_round(played)).max()
}

fn peak_of_round(played: &Played) -> Option<u64> {
    let rows = slots(played.turn.as_ref().ok()?, played.series.as_ref())?;
    rows.iter().filter_map(|row| row.dials).max()
}

/// What the second backend answered of all replies before it was slow, while it was, and after that,
/// in percent, in a round.
pub fn slow_shares(played: &Played) -> [Option<f64>; 3] {
    let is_slow = |event: &&Event| matches!(event.fault, Fault::SlowBackend { .. });
    let (Ok(turn), Some(slow)) = (&played.turn, played.events.iter().find(is_slow)) else {
        return [None; 3];
    };
    let mut replies = [[0_u64; 2]; 3];
    let end = slow.until_ms.unwrap_or(f64::INFINITY);
    for row in slots(turn, played.series.as_ref()).unwrap_or_default() {
        let part = usize::from(row.at_ms() >= slow.at_ms) + usize::from(row.at_ms() >= end);
        let step = row.backends().unwrap_or_default().map(u64::from);
        replies[part] = [replies[part][0] + step[0], replies[part][1] + step[1]];
    }
    replies.map(|[fast, slow]| {
        let all = fast + slow;
        (all > 0).then(|| slow as f64 * 100.0 / all as f64)
    })
}

/// Failed requests in a thousand of those that were wanted while new connections worked. `None` in a round
/// in which they always did.
fn failed_while_up(played: &Played) -> Option<f64> {
    let turn = played.turn.as_ref().ok()?;
    let is_down = |event: &&Event| {
        matches!(event.fault, Fault::Refuse | Fault::Silence { who: Who::All | Who::New })
    };
    let down: Vec<(f64, f64)> = played
        .events
        .iter()
        .filter(is_down)
        .map(|event| (event.at_ms, event.until_ms.unwrap_or(f64::INFINITY)))
        .collect();
    let slots = turn.slots.as_ref().filter(|_| !down.is_empty())?;
    let length = STEP.as_secs_f64() * 1000.0;
    // A fault begins some milliseconds within a step, of which the larger part decides.
    let is_up = |slot: &&Slot| {
        let middle = slot.t_ms as f64 + length / 2.0;
        !down.iter().any(|(from, until)| (*from..*until).contains(&middle))
    };
    let (failed, ok) = slots.iter().filter(is_up).fold((0, 0), |(failed, ok), slot| {
        (failed + slot.errors.iter().sum::<u64>() + slot.unstarted, ok + slot.ok)
    });
    (failed + ok > 0).then(|| round(failed as f64 * 1000.0 / (failed + ok) as f64))
}

/// One round, in figures.
#[derive(Debug, Clone, Serialize)]
pub struct RoundRow {
    round: u32,
    requests: u64,
    replies_all: u64,
    errors: u64,
    throughput_per_s: Option<f64>,
    cpu_us_per_request: Option<f64>,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    opened: Option<u64>,
    dials: Option<u64>,
    peak_dials_per_100ms: Option<u64>,
    /// Arrivals of an open loop that no caller was free for until the end.
    unstarted: Option<u64>,
    recovery: Option<Recovery>,
    /// The slow backend's share of the replies while it was slow.
    slow_percent: Option<f64>,
    /// Failed requests in a thousand of those that were wanted while new connections worked.
    failed_while_up_per_1000: Option<f64>,
}

/// The rounds that were played.
pub fn rounds(record: &Record) -> Vec<RoundRow> {
    let row = |(number, played): &(u32, Played)| {
        let turn = played.turn.as_ref().ok()?;
        let latency = Percentiles::of(&turn.latency);
        let each = |value: f64| (turn.requests > 0).then(|| round(value / turn.requests as f64));
        Some(RoundRow {
            round: *number,
            requests: turn.requests,
            replies_all: turn.replies,
            errors: turn.errors.iter().sum(),
            throughput_per_s: (turn.requests > 0 && turn.seconds > 0.0)
                .then(|| round(turn.requests as f64 / turn.seconds)),
            cpu_us_per_request: each(turn.cpu_seconds * 1e6),
            p50_us: latency.map(|latency| latency.p50),
            p90_us: latency.map(|latency| latency.p90),
            p99_us: latency.map(|latency| latency.p99),
            p999_us: latency.map(|latency| latency.p999),
            opened: played.connections().map(|counted| counted.accepted).or(turn.counts.opened),
            dials: turn.counts.dials,
            peak_dials_per_100ms: peak_of_round(played),
            unstarted: turn.slots.is_some().then_some(turn.unstarted),
            recovery: Recovery::of_round(played),
            slow_percent: slow_shares(played)[1].map(round),
            failed_while_up_per_1000: failed_while_up(played),
        })
    };
    record.rounds.iter().filter_map(row).collect()
}

/// All rounds merged: HdrHistogram V2, compressed, in base64. Nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Histograms {
    latency: Option<String>,
    service: Option<String>,
    acquire: Option<String>,
}

impl Histograms {
    /// Those of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            latency: encoded(&record.merged(|turn| &turn.latency)),
            service: encoded(&record.merged(|turn| &turn.service)),
            acquire: encoded(&record.merged(|turn| &turn.acquire)),
        }
    }
}

/// `None` for an empty one.
fn encoded(histogram: &Histogram<u64>) -> Option<String> {
    (!histogram.is_empty()).then(|| histogram::encode(histogram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_can_be_read_back() {
        let mut histogram = crate::measure::histogram();
        assert_eq!(encoded(&histogram), None);
        histogram.record(1234).unwrap();
        let back = histogram::decode(&encoded(&histogram).unwrap()).unwrap();
        assert_eq!(back.max(), histogram.max());
    }

    #[test]
    fn dials_that_a_contestant_does_not_count_have_no_peak() {
        let peak = |dials: Option<u64>| {
            let slot = Slot { dials, ..Slot::default() };
            let turn = Turn { slots: Some(vec![slot]), ..Turn::empty() };
            // A server that was away accepted ten of a thousand dials.
            let seen = Series { step_ms: 100, accepted: vec![10], ..Series::default() };
            peak_of_round(&Played {
                turn: Ok(turn),
                server: None,
                relay: None,
                leaked: None,
                series: Some(seen),
                events: Vec::new(),
                faults_late_ms: None,
                cut: None,
                nonces: true,
            })
        };
        assert_eq!(peak(None), None);
        assert_eq!(peak(Some(1000)), Some(1000));
    }

    #[test]
    fn errors_keep_their_kinds() {
        let errors = ErrorsByKind::of([1, 2, 3, 4, 5]);
        let json = serde_json::to_value(errors).unwrap();
        for (n, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(json[kind.word()], n + 1);
        }
    }
}
