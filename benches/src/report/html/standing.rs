//! Rows that have no place in a ranking, and why. Such a row is never named as the best, and no other row is
//! compared with it.

use super::group::{Entry, Group, LoadKind, is_scale};
use super::stats::{self, Metric, Verdict};
use super::text;
use crate::report::saved::{Row, Slot};

/// Why a row has no place in a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aside {
    /// It was cut short, so that it did not meet all that the others met.
    Partial,
    /// Its faults came later than planned, so it did not meet what the others met.
    LateFaults,
    /// Its requests were sent so late that its figures are those of a client without a processor.
    SentLate,
    /// Its design has one connection: it cannot open more, and cannot serve two requests at once.
    OneConnection,
    /// More is asked of it than it serves, before anything goes wrong.
    Overloaded,
    /// Many more of its requests failed than of others: its good figure comes from requests that were not
    /// served.
    Failing,
    /// The figure is not known of it.
    NoFigure,
}

/// A contestant is not ranked by another figure if this many more of a thousand requests failed than of
/// the contestant with the fewest failures: a refused request is quick and costs no connection.
const TOO_MANY: f64 = 100.0;

/// A median this many times the least one is a queue that grows.
const QUEUE: f64 = 10.0;

/// An overloaded row leaves this share of what was wanted unserved.
const UNSERVED: f64 = 0.5;

/// Of fewer requests the p99 of one round is the fate of a few of them, and is not named.
const TAIL_REQUESTS: f64 = 1000.0;

/// A p99 of one round has to be this many times the best one to be named.
const FAR_TAIL: f64 = 3.0;

/// And at least this many microseconds: the client's own lateness makes up a shorter one.
const LONG_TAIL: f64 = 50_000.0;

/// A slot of the time line.
const SLOT_MS: f64 = 100.0;

impl Aside {
    /// The words in sentences and tables.
    pub fn words(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::LateFaults => "faults came late",
            Self::SentLate => "sent late",
            Self::OneConnection => "one connection",
            Self::Overloaded => "overloaded",
            Self::Failing => "fails too much",
            Self::NoFigure => "no such figure",
        }
    }
}

impl Group<'_> {
    /// Why each of the entries has no place in a ranking by `metric`. If none would have one, only
    /// turns that were cut short, late faults, late requests and failures count: a ranking needs rows.
    pub fn aside(&self, metric: Metric) -> Vec<Option<Aside>> {
        let by_nature: Vec<Option<Aside>> =
            self.entries.iter().map(|entry| self.unfit(entry, metric)).collect();
        let pools = || (0..self.entries.len()).filter(|index| !is_scale(self.entries[*index].row));
        let failed = |index: usize| Metric::Failed.of(self.entries[index].row);
        // A row without the figure is not ranked by it, so its failures are no measure for the others.
        let is_ranked = |index: &usize| metric.of(self.entries[*index].row).is_some();
        let least = |fit: &[Option<Aside>]| {
            let ranked = pools().filter(|index| fit[*index].is_none()).filter(is_ranked);
            ranked.filter_map(failed).reduce(f64::min)
        };
        let with_failing = |fit: Vec<Option<Aside>>| -> Vec<Option<Aside>> {
            let Some(least) = least(&fit) else { return fit };
            let fails = |index| failed(index).is_some_and(|failed| failed - least >= TOO_MANY);
            let own = |(index, why): (usize, Option<Aside>)| {
                let failing = metric != Metric::Failed && fails(index);
                why.or(failing.then_some(Aside::Failing))
            };
            fit.into_iter().enumerate().map(own).collect()
        };
        match pools().any(|index| by_nature[index].is_none()) {
            true => with_failing(by_nature),
            false => {
                let is_unlike = |why: &Aside| {
                    matches!(why, Aside::Partial | Aside::LateFaults | Aside::SentLate)
                };
                with_failing(by_nature.into_iter().map(|why| why.filter(is_unlike)).collect())
            }
        }
    }

    fn unfit(&self, entry: &Entry<'_>, metric: Metric) -> Option<Aside> {
        if entry.row.partial.is_some() {
            return Some(Aside::Partial);
        }
        if entry.row.has_late_faults() {
            return Some(Aside::LateFaults);
        }
        if entry.row.has_late_requests() {
            return Some(Aside::SentLate);
        }
        if self.has_one_connection(entry, metric) {
            return Some(Aside::OneConnection);
        }
        self.is_overloaded(entry).then_some(Aside::Overloaded)
    }

    /// Whether its design has a single connection. Over HTTP/2, and in some rivals, that one connection serves
    /// many requests at once: such a row has no place only in a ranking by the number of connections.
    fn has_one_connection(&self, entry: &Entry<'_>, metric: Metric) -> bool {
        if self.protocol == "http2" {
            return false;
        }
        let policy = entry.row.policy.as_ref();
        let limit = policy.and_then(|policy| policy.get("max_open_per_key")?.as_u64());
        let counts_connections =
            matches!(metric, Metric::Opened | Metric::Dials | Metric::AllDials | Metric::PeakDials);
        let is_peer = entry.row.kind.as_deref() == Some("peer");
        let held_one = entry.row.high_water_open.is_some_and(|most| most <= 1.0);
        limit == Some(1) || counts_connections && is_peer && held_one
    }

    fn is_overloaded(&self, entry: &Entry<'_>) -> bool {
        if entry.row.load.as_deref() != Some("open") {
            return false;
        }
        let pools = || self.entries.iter().filter(|other| !is_scale(other.row));
        let queues = || {
            let least =
                pools().filter_map(|other| undisturbed_median(other.row)).reduce(f64::min)?;
            Some(undisturbed_median(entry.row)? > QUEUE * least)
        };
        let unserved = |row: &Row| undisturbed_unserved(row).unwrap_or(0.0);
        let least = || pools().map(|other| unserved(other.row)).fold(1.0, f64::min);
        let own = unserved(entry.row);
        queues() == Some(true) || own > UNSERVED && least() < own * UNSERVED
    }

    /// How many more of a thousand requests failed for this row than for the pool with the fewest failures.
    pub fn more_failed(&self, index: usize) -> f64 {
        let failed = |entry: &Entry<'_>| Metric::Failed.of(entry.row);
        let pools = self.entries.iter().filter(|entry| !is_scale(entry.row));
        let least = pools.filter_map(failed).reduce(f64::min).unwrap_or(0.0);
        failed(&self.entries[index]).unwrap_or(least) - least
    }

    /// A row's p99 in an open loop that is ranked by something else, where the p99 is worse than the best
    /// one of the ranking: few dials may be the price of a long wait. One round has no noise to be
    /// beyond, so only a long p99 of many requests counts there.
    pub fn worse_tail(&self, index: usize) -> Option<f64> {
        if self.metric == Metric::P99 || self.load_kind() == LoadKind::Closed {
            return None;
        }
        let p99 = |index: usize| Metric::P99.of(self.entries[index].row);
        let placed = self.ranking.tiers.iter().flat_map(|tier| tier.members.iter().copied());
        let best = placed.filter_map(|index| Some((index, p99(index)?)));
        let (best, _) = best.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let (own, best) = (&self.entries[index], &self.entries[best]);
        let (effect, verdict) = self.difference(Metric::P99, own, best)?;
        let is_worse = match effect.interval {
            Some(_) => verdict == Verdict::Worse,
            None => {
                let has_many = |entry: &Entry<'_>| {
                    entry.row.requests.is_some_and(|requests| requests >= TAIL_REQUESTS)
                };
                let is_far = effect.change + 1.0 >= FAR_TAIL;
                is_far && has_many(own) && has_many(best) && p99(index) >= Some(LONG_TAIL)
            }
        };
        p99(index).filter(|_| is_worse)
    }

    /// A row without a place, with the reason: `redigo (failed 47 %)`, `thrift (one connection)`.
    pub fn aside_words(&self, index: usize, why: Aside) -> String {
        let entry = &self.entries[index];
        let name = text::clip(&entry.label, 40);
        match (why, Metric::Failed.of(entry.row)) {
            (Aside::Failing, Some(failed)) => {
                format!("{name} (failed {} %)", text::figure((failed / 10.0).round()))
            }
            _ => format!("{name} ({})", why.words()),
        }
    }
}

/// The slots before the first fault; `None` where nothing goes wrong on purpose.
fn before_faults(row: &Row) -> Option<impl Iterator<Item = &Slot>> {
    let first = row.faults().filter_map(|fault| fault.at_ms).reduce(f64::min)?;
    let ended = move |slot: &&Slot| slot.t_ms.is_some_and(|t_ms| t_ms + SLOT_MS <= first);
    Some(row.slots.iter().filter(ended))
}

/// The median latency while nothing went wrong: the middle of the slots before the first fault.
fn undisturbed_median(row: &Row) -> Option<f64> {
    match before_faults(row) {
        Some(slots) => stats::median(slots.filter_map(|slot| slot.p50_us).collect()),
        None => row.latency_us?.p50,
    }
}

/// The share of the requests that were too late or never began while nothing went wrong.
fn undisturbed_unserved(row: &Row) -> Option<f64> {
    let (unserved, served) = match before_faults(row) {
        Some(slots) => slots.fold((0.0, 0.0), |(unserved, served), slot| {
            let failed = slot.errors.0.unwrap_or(0.0) + slot.unstarted.unwrap_or(0.0);
            (unserved + failed, served + slot.ok.unwrap_or(0.0))
        }),
        None => {
            let timeouts = row.errors_by_kind.map(|kinds| kinds.timeout).or(row.timeouts);
            let unserved = timeouts.unwrap_or(0.0) + row.unstarted.unwrap_or(0.0);
            (
                unserved,
                row.requests? + row.failed().unwrap_or(0.0) + row.unstarted.unwrap_or(0.0)
                    - unserved,
            )
        }
    };
    (unserved + served > 0.0).then(|| unserved / (unserved + served))
}
