//! The summary of a run: for each scenario the figure in which contestants differ, and their values.
//! Contestants that hardly differ stand together.

use super::columns::{short, wrap};
use super::detail;
use super::model::{GroupResult, Record};
use super::open_table;
use crate::fault::Fault;
use crate::measure::Percentiles;
use crate::names::Protocol;
use crate::run::events::Played;
use crate::scenario::{Figure, Variant};

/// Contestants whose figures differ by less than this factor stand together.
const TOGETHER: f64 = 1.25;
/// And so do those whose figures differ by less than this, whatever the factor.
const HARDLY: f64 = 0.5;

/// The summary of a run; empty when nothing can be compared.
pub fn render(groups: &[GroupResult]) -> String {
    let mut text = String::new();
    for group in groups.iter().filter(|group| group.step.is_none()) {
        let clusters = clusters(figures(group));
        if clusters.is_empty() {
            continue;
        }
        let head = format!("{} {}: {}", group.scenario.name, group.protocol, words(group));
        wrap(&mut text, "", &head);
        if let [only] = &clusters[..] {
            text.push_str(&format!("  {:>11}  no difference worth a row\n", only.range()));
            continue;
        }
        for cluster in clusters {
            let lead = format!("  {:>11}  ", cluster.range());
            wrap(&mut text, &lead, &cluster.names.join(", "));
        }
    }
    if text.is_empty() { text } else { format!("\nsummary: who differs in what\n\n{text}") }
}

fn words(group: &GroupResult) -> &'static str {
    match group.scenario.figure {
        Figure::Cpu if group.limit().is_none() => "processor time of a request, us",
        Figure::Cpu if group.protocol == Protocol::Http2 => {
            "processor time of a request, times that of the limit with one connection"
        }
        Figure::Cpu => "processor time of a request, times the limit's",
        Figure::Reuse => {
            "time of an operation with a new connection, times one with a reused connection"
        }
        Figure::Success => "requests answered, %",
        Figure::P99 => "99th percentile of the latency, ms",
        Figure::Opened => "connections opened for 1,000 requests",
        Figure::Dials => "dials begun",
        Figure::PeakDials => "most dials in 100 ms",
        Figure::Failed => "requests that failed, of 1,000",
        Figure::Recovery => "ms from the end of the fault to normal latencies",
        Figure::Throughput => "requests in a second",
        Figure::SlowShare => "share of the slow backend while it was slow, %",
    }
}

/// Each contestant with its figure; `None` is "never".
fn figures(group: &GroupResult) -> Vec<(String, Option<f64>)> {
    let known = |record: &Record| Some((record.label(), value(group, record)?));
    group.records.iter().filter_map(known).collect()
}

/// The figure; `None` where it was not measured, `Some(None)` where it did not come to pass.
fn value(group: &GroupResult, record: &Record) -> Option<Option<f64>> {
    let figure = match group.scenario.figure {
        Figure::Cpu => group.vs_limit(record).map(|ratio| ratio.cpu.median).or_else(|| {
            // Without a limit there is nothing to compare with but the figure itself.
            group.limit().is_none().then(|| record.cpu().map(|cpu| cpu.median)).flatten()
        }),
        Figure::Reuse => match record.entry.variant {
            Some(Variant::Reused) => {
                group.reuse_ratio(Some(&record.entry.contestant), Variant::ServerCloses)
            }
            _ => None,
        },
        Figure::Success => open_table::success(record).map(|share| share * 100.0),
        Figure::P99 => {
            Percentiles::of(&record.merged(|turn| &turn.latency)).map(|latency| latency.p99 / 1e3)
        }
        Figure::Opened => open_table::opened_per_1000(record),
        Figure::Dials => {
            let dials = record.known_sum(|played| played.turn.as_ref().ok()?.counts.dials);
            dials.map(|dials| dials as f64 / record.rounds.len().max(1) as f64)
        }
        Figure::PeakDials => detail::peak_dials(record).map(|peak| peak as f64),
        Figure::Failed => open_table::success(record).map(|share| (1.0 - share) * 1000.0),
        Figure::Recovery => return open_table::recovery(record)?.normal_if_known(),
        Figure::SlowShare => slow_share(record),
        Figure::Throughput => record.throughput().map(|spread| spread.median),
    };
    figure.map(Some)
}

/// What the second backend answered of all replies while it was slow, in %.
fn slow_share(record: &Record) -> Option<f64> {
    slow_shares(record)[1]
}

/// What the second backend answered of all replies before it was slow, while it was, and after that,
/// in %. All rounds together: which connections lead where is chance.
pub(super) fn slow_shares(record: &Record) -> [Option<f64>; 3] {
    let mut replies = [[0_u64; 2]; 3];
    for (_, played) in &record.rounds {
        let is_slow = |event: &&Played| matches!(event.fault, Fault::SlowBackend { .. });
        let (Ok(turn), Some(slow)) = (&played.turn, played.events.iter().find(is_slow)) else {
            continue;
        };
        let end = slow.until_ms.unwrap_or(f64::INFINITY);
        let rows = detail::slots(turn, played.series.as_ref()).unwrap_or_default();
        for row in rows {
            let part = usize::from(row.at_ms() >= slow.at_ms) + usize::from(row.at_ms() >= end);
            let step = row.backends().unwrap_or_default().map(u64::from);
            replies[part] = [replies[part][0] + step[0], replies[part][1] + step[1]];
        }
    }
    replies.map(|[fast, slow]| {
        let all = fast + slow;
        (all > 0).then(|| slow as f64 * 100.0 / all as f64)
    })
}

/// Contestants that hardly differ.
#[derive(Debug, PartialEq)]
struct Cluster {
    /// `None` is never.
    bounds: Option<(f64, f64)>,
    names: Vec<String>,
}

impl Cluster {
    fn range(&self) -> String {
        match self.bounds {
            None => "never".to_owned(),
            Some((low, high)) => {
                let (low, high) = (short(low), short(high));
                if low == high { low } else { format!("{low} to {high}") }
            }
        }
    }
}

/// Smallest first, "never" last.
fn clusters(mut figures: Vec<(String, Option<f64>)>) -> Vec<Cluster> {
    figures.sort_by(|(_, left), (_, right)| {
        left.unwrap_or(f64::INFINITY).total_cmp(&right.unwrap_or(f64::INFINITY))
    });
    let mut clusters: Vec<Cluster> = Vec::new();
    for (name, figure) in figures {
        let bounds = figure.map(|figure| (figure, figure));
        let together = clusters.last_mut().filter(|last| match (last.bounds, figure) {
            (Some((low, _)), Some(figure)) => figure <= low * TOGETHER || figure - low < HARDLY,
            (None, None) => true,
            _ => false,
        });
        match together {
            Some(cluster) => {
                cluster.names.push(name);
                if let (Some((_, high)), Some(figure)) = (&mut cluster.bounds, figure) {
                    *high = figure;
                }
            }
            None => clusters.push(Cluster { bounds, names: vec![name] }),
        }
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hardly_differs_stands_together() {
        let figures = [("a", Some(20.0)), ("b", None), ("c", Some(22.0)), ("d", Some(250.0))];
        let figures = figures.map(|(name, figure)| (name.to_owned(), figure)).to_vec();
        let clusters = clusters(figures);
        let text: Vec<String> = clusters
            .iter()
            .map(|cluster| format!("{}: {}", cluster.range(), cluster.names.join(" ")))
            .collect();
        assert_eq!(text, ["20 to 22: a c", "250: d", "never: b"]);
    }

    #[test]
    fn nothing_is_not_far_from_next_to_nothing() {
        let figures = vec![("a".to_owned(), Some(0.0)), ("b".to_owned(), Some(0.2))];
        assert_eq!(clusters(figures).len(), 1);
    }
}
