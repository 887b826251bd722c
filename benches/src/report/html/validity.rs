//! Signs that figures of a row cannot be trusted: a late schedule, a busy client, times that do not agree with
//! each other.

use super::group::{Entry, Model};
use crate::report::histogram;
use crate::report::lateness::{self, Times};

/// The lateness of the schedule, where it is large enough to matter.
pub(super) fn lateness(entry: &Entry<'_>) -> Option<f64> {
    let (late, latency) = (entry.row.lateness_us?, entry.row.latency_us.unwrap_or_default());
    let late = Times { p50: late.p50.or(late.p99), p99: late.p99 };
    let latency = Times { p50: latency.p50, p99: latency.p99 };
    let arrivals = entry.row.requests.unwrap_or(0.0);
    late.p99.filter(|_| lateness::matters(arrivals, late, latency))
}

/// Whether the client's processor time fills a core.
pub(super) fn saturated(entry: &Entry<'_>) -> bool {
    let row = entry.row;
    let share =
        row.cpu_us_per_request.zip(row.throughput_per_s).map(|(cpu, rate)| cpu * rate / 1e6);
    share.is_some_and(|share| share > 0.9)
}

/// How far callers are from throughput times mean latency, as a share.
pub(super) fn little(model: &Model<'_>, entry: &Entry<'_>) -> Option<f64> {
    let row = entry.row;
    let request = model.sources[entry.file].results.settings().request.unwrap_or_default();
    // A caller that thinks has no request in flight.
    let think = request.think_time().map_or(0.0, |think| think.as_secs_f64() * 1e6);
    if row.load.as_deref() != Some("closed") || row.failed()? > 0.0 {
        return None;
    }
    let mean = histogram::mean(entry.histograms.latency.as_ref()?);
    // Over all rounds, as the mean latency is: the middle round is not the mean one.
    let rounds: Vec<(f64, f64)> = row
        .rounds_detail
        .iter()
        .filter_map(|round| Some((round.requests?, round.throughput_per_s?)))
        .filter(|(_, rate)| *rate > 0.0)
        .collect();
    let seconds: f64 = rounds.iter().map(|(requests, rate)| requests / rate).sum();
    let rate = match seconds > 0.0 {
        true => rounds.iter().map(|(requests, _)| requests).sum::<f64>() / seconds,
        false => row.throughput_per_s?,
    };
    let busy = rate * (mean + think) / 1e6;
    let callers = row.callers.filter(|callers| *callers > 0.0)?;
    Some(busy / callers - 1.0)
}

/// The share of a row's requests that began before its windows or ended after them: one for each caller
/// and round.
pub(super) fn at_the_edges(entry: &Entry<'_>) -> f64 {
    let row = entry.row;
    let cut = row.callers.unwrap_or(0.0) * row.rounds.unwrap_or(1.0);
    row.requests.filter(|requests| *requests > 0.0).map_or(0.0, |requests| cut / requests)
}
