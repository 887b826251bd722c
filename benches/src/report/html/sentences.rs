//! The sentences of the page: verdicts, banners, and the limits of the numbers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::group::{Entry, Group, Model, is_limit, is_scale, unsound};
use super::input::Source;
use super::stats::{Metric, Verdict};
use super::tables::effect_words;
use super::text::{self, clip, count, list, micros};
use super::validity::{at_the_edges, lateness, little, saturated};
use crate::compare::comparable;
use crate::report::saved::Step;
use crate::report::sweep::{self, Knee};

/// Results older than this say little about the program of today.
const OLD: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The share of failures stands beside a name if this many more of a thousand requests failed than of
/// the pool with the fewest failures.
const SOME_FAILED: f64 = 50.0;

/// By how much callers may be off Little's law: what a caller does between two requests is in no latency,
/// and takes a few percent of its time where a request takes some 50 us.
const LITTLE_OFF: f64 = 0.05;

/// How serious a banner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Withdraws the verdict.
    Red,
    /// The reader must know this before trusting the figures.
    Amber,
    /// The reader should know this.
    Note,
}

/// A line above everything.
#[derive(Debug)]
pub struct Banner {
    pub level: Level,
    pub words: String,
}

/// The verdict on a group in one sentence, and how far apart its contestants are: the ratio of the
/// best to the worst, 1 when nothing differs beyond the noise.
pub fn verdict(group: &Group<'_>) -> (String, f64) {
    if group.compares_files() {
        return between_files(group);
    }
    let metric = group.metric;
    let tiers = &group.ranking.tiers;
    let names = |members: &[usize]| {
        list(&members.iter().map(|member| named(group, *member)).collect::<Vec<_>>())
    };
    let value = |index: usize| metric.of(group.entries[index].row).unwrap_or(f64::NAN);
    let mut rest = not_placed(group).map_or(String::new(), |words| format!("; {words}"));
    let Some(best) = tiers.first() else {
        return (format!("{} ranks no contestant{rest}.", metric.name()), 1.0);
    };
    if let Some(words) = scale(group) {
        rest.push_str(&format!("; {words}"));
    }
    let knees = knees(group).map_or(String::new(), |words| format!("{words}. Beside it, "));
    if tiers.len() == 1 {
        let sentence = match best.members.as_slice() {
            [one] => format!(
                "{knees}{}: {} alone, {}{rest}.",
                metric.name(),
                named(group, *one),
                metric.text(value(*one))
            ),
            members => match group.too_few() {
                Some(why) => format!(
                    "{knees}{why} does not tell {} apart in {}{rest}.",
                    names(members),
                    metric.name()
                ),
                None => format!(
                    "{knees}no difference beyond the noise in {} between {}{rest}.",
                    metric.name(),
                    names(members)
                ),
            },
        };
        return (sentence, 1.0);
    }
    let top = value(best.members[0]);
    let mut sentence = format!("{knees}{}: {}", metric.name(), names(&best.members));
    sentence.push_str(match (best.members.len(), group.too_few()) {
        (1, _) => " leads",
        (_, Some(_)) => " lead",
        (_, None) => " lead, with no difference between them beyond the noise",
    });
    sentence.push_str(&format!(" ({})", range(group, &best.members)));
    let behind: Vec<String> = tiers[1..]
        .iter()
        .map(|tier| {
            let ratio = value(tier.members[0]) / top;
            let times = if metric.is_absolute() || !ratio.is_finite() {
                range(group, &tier.members)
            } else if ratio >= 10.0 {
                format!("{ratio:.0}×")
            } else {
                format!("{ratio:.2}×")
            };
            format!("{} ({times})", names(&tier.members))
        })
        .collect();
    sentence.push_str(&format!("; behind: {}", behind.join(", then ")));
    sentence.push_str(&rest);
    sentence.push_str(&match group.is_undecided() {
        true => format!(" ({}: only large differences count).", group.too_little()),
        false => ".".to_owned(),
    });
    let last = tiers.last().and_then(|tier| tier.members.last());
    let worst = last.map_or(top, |index| value(*index));
    (sentence, metric.times_apart(worst, top))
}

/// The rows without a place in the ranking, each with the reason.
fn not_placed(group: &Group<'_>) -> Option<String> {
    let ranking = &group.ranking;
    let mut parts = Vec::new();
    if !ranking.unplaced.is_empty() {
        let why = text::too_much_scatter(ranking.unplaced.len());
        let names: Vec<String> =
            ranking.unplaced.iter().map(|index| named(group, *index)).collect();
        parts.push(format!("not placed, {why}: {}", list(&names)));
    }
    if !ranking.aside.is_empty() {
        let aside = ranking.aside.iter();
        let names: Vec<String> =
            aside.map(|(index, why)| group.aside_words(*index, *why)).collect();
        parts.push(format!("not placed: {}", list(&names)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The highest rate that each contestant of a sweep serves; `None` without a sweep.
fn knees(group: &Group<'_>) -> Option<String> {
    let rate = |step: &Step| text::or_unknown(step.rate_per_s, text::count);
    let knee = |entry: &Entry<'_>| {
        let words = match sweep::knee(&entry.row.sweep) {
            Knee::At(step) => format!("{}/s", rate(step)),
            Knee::Beyond(step) => format!("beyond {}/s", rate(step)),
            Knee::Nowhere => "below the lowest rate".to_owned(),
        };
        format!("{} ({words})", clip(&entry.label, 40))
    };
    let swept = group.entries.iter().filter(|entry| !entry.row.sweep.is_empty());
    let knees: Vec<String> = swept.map(knee).collect();
    (!knees.is_empty()).then(|| format!("knees: {}", list(&knees)))
}

/// A row's name, and what the ranking does not say of it: how many of its requests failed, and its p99,
/// where others did better.
pub fn named(group: &Group<'_>, index: usize) -> String {
    let entry = &group.entries[index];
    let name = clip(&entry.label, 40);
    let is_told = group.metric == Metric::Failed || group.more_failed(index) < SOME_FAILED;
    let failed = Metric::Failed.of(entry.row).filter(|_| !is_told);
    let failed = failed.map(|failed| format!("failed {} %", text::figure((failed / 10.0).round())));
    let tail = group.worse_tail(index).map(|p99| format!("p99 {}", micros(p99)));
    let beside: Vec<String> = failed.into_iter().chain(tail).collect();
    if beside.is_empty() { name } else { format!("{name} ({})", beside.join(", ")) }
}

/// The figures of some rows, from the least to the most.
pub fn range(group: &Group<'_>, members: &[usize]) -> String {
    let metric = group.metric;
    let values = || members.iter().filter_map(|index| metric.of(group.entries[*index].row));
    let low = values().reduce(f64::min).map_or(String::new(), |low| metric.text(low));
    let high = values().reduce(f64::max).map_or(String::new(), |high| metric.text(high));
    if low == high { low } else { format!("{low} to {high}") }
}

/// The figure of no-pool. It is not a pool that a user could choose, so it has no place in the ranking.
pub fn scale(group: &Group<'_>) -> Option<String> {
    let is_no_pool = |entry: &&Entry<'_>| is_scale(entry.row) && !is_limit(entry.row);
    let value = group.entries.iter().find(is_no_pool)?;
    Some(format!("without a pool: {}", group.metric.text(group.metric.of(value.row)?)))
}

/// How contestants differ from themselves in the first file.
fn between_files(group: &Group<'_>) -> (String, f64) {
    let mut parts: [Vec<String>; 5] = Default::default();
    let mut spread = 1.0_f64;
    for entry in &group.entries {
        if !entry.unlike.is_empty() {
            parts[4].push(clip(&entry.label, 40));
        }
        let Some((effect, verdict)) = group.effect(entry) else { continue };
        let name = clip(&entry.label, 40);
        let (part, words) = match verdict {
            Verdict::Worse => (0, format!("{name} ({})", effect_words(group.metric, &effect))),
            Verdict::Better => (1, format!("{name} ({})", effect_words(group.metric, &effect))),
            Verdict::Same => (2, name),
            Verdict::Unknown => (3, name),
        };
        if part < 2 {
            // In no unit, as within a file: milliseconds are no more than dials.
            let value = |entry: &Entry<'_>| group.metric.of(entry.row);
            let values = value(entry).zip(group.baseline(entry).and_then(value));
            let times = values.map_or(1.0, |(own, base)| group.metric.times_apart(own, base));
            spread = spread.max(times);
        }
        parts[part].push(words);
    }
    let words = [
        "worse",
        "better",
        "no difference beyond the noise",
        "too few rounds to tell",
        "not the same comparison",
    ];
    let sentences: Vec<String> = words
        .iter()
        .zip(&parts)
        .filter(|(_, names)| !names.is_empty())
        .map(|(words, names)| format!("{words}: {}", list(names)))
        .collect();
    if sentences.is_empty() {
        return ("no contestant is in the first file too.".to_owned(), 1.0);
    }
    let metric = group.metric.name();
    (format!("{metric} against the first file, {}.", sentences.join("; ")), spread)
}

/// Further differences of a group that its ranking does not show: failures, tails, connections, CPU.
pub fn beside(group: &Group<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    if group.compares_files() {
        return sentences;
    }
    for metric in group.others().iter().copied() {
        // Of equal numbers of requests both say the same.
        let is_told =
            metric == group.metric || metric == Metric::Dials && group.metric == Metric::AllDials;
        if !is_told && let Some(words) = from_to(group, metric) {
            sentences.push(format!("{words}."));
        }
    }
    sentences
}

/// How a metric that does not rank the group goes from its best contestant to its worst, if they differ.
fn from_to(group: &Group<'_>, metric: Metric) -> Option<String> {
    let tiers = group.rank(metric).tiers;
    let [first, .., last] = tiers.as_slice() else { return None };
    let end = |member: Option<&usize>| {
        let entry = &group.entries[*member?];
        let value = metric.of(entry.row).map(|value| metric.text(value))?;
        Some(format!("{value} ({})", clip(&entry.label, 40)))
    };
    let (first, last) = (end(first.members.first())?, end(last.members.last())?);
    Some(format!("{}: from {first} to {last}", metric.name()))
}

/// The dials of a group that is ranked by its failures: what contestants do to a server that is away. Only our
/// own pools count them.
pub fn dials_beside(group: &Group<'_>) -> Option<String> {
    let is_ranked = group.metric == Metric::Failed && !group.compares_files();
    from_to(group, Metric::AllDials).filter(|_| is_ranked)
}

/// The verdict on everything, in one sentence.
pub fn headline(model: &Model<'_>, withdrawn: bool) -> String {
    if withdrawn {
        return "No verdict: the run was not sound, see the red lines.".to_owned();
    }
    let compared: Vec<&Group<'_>> =
        model.groups.iter().filter(|group| group.entries.len() > 1).collect();
    match compared.as_slice() {
        [] if model.groups.is_empty() => "Nothing was measured.".to_owned(),
        [] => "One contestant alone: there is nothing to compare.".to_owned(),
        [one] => format!("{}, {}", one.title(), verdict(one).0),
        several => {
            let judged: Vec<(&Group<'_>, String, f64)> = several
                .iter()
                .map(|group| {
                    let (sentence, spread) = verdict(group);
                    (*group, sentence, spread)
                })
                .collect();
            // The groups are in this order: the one that teaches most comes first.
            match judged.iter().find(|(.., spread)| *spread > 1.0) {
                Some((group, sentence, _)) => format!(
                    "Contestants differ {}; above all in {}, {sentence}",
                    how_many(&judged),
                    group.title(),
                ),
                _ if several.iter().all(|group| group.is_undecided()) => {
                    format!(
                        "One round each does not tell contestants apart in {} comparisons.",
                        judged.len()
                    )
                }
                _ => format!(
                    "No contestant differs from another beyond the noise in {} comparisons.",
                    judged.len()
                ),
            }
        }
    }
}

/// In how many comparisons contestants differ. Only several rounds have a noise to be beyond.
fn how_many(judged: &[(&Group<'_>, String, f64)]) -> String {
    let all = judged.len();
    let apart = judged.iter().filter(|(_, _, spread)| *spread > 1.0).count();
    let single = judged.iter().filter(|(group, ..)| group.is_undecided()).count();
    let plural = if all == 1 { "" } else { "s" };
    let rounds = match single {
        0 => " beyond the noise".to_owned(),
        _ if single == all => " of one round".to_owned(),
        _ => format!(" (one round in {single} of them)"),
    };
    format!("in {apart} of {all} comparison{plural}{rounds}")
}

/// Everything that weakens or withdraws the verdict.
pub fn banners(model: &Model<'_>, now: Option<SystemTime>) -> Vec<Banner> {
    let mut banners = Vec::new();
    let mut add = |level: Level, words: String| banners.push(Banner { level, words });
    for (group, entry) in rows(model) {
        if let Some(why) = unsound(entry.row) {
            add(
                Level::Red,
                format!(
                    "{}, {}: {why}. The verdict is withdrawn.",
                    group.title(),
                    clip(&entry.label, 60)
                ),
            );
        }
    }
    for (group, entry) in rows(model) {
        if let Some(broke) = &entry.row.broke {
            add(
                Level::Amber,
                format!(
                    "{}, {} broke: {}",
                    group.title(),
                    clip(&entry.label, 60),
                    clip(broke, 200)
                ),
            );
        }
    }
    for (words, rows) in unlike(model) {
        add(
            Level::Amber,
            format!("{} not the same comparison as in the first file: {words}.", text::are(&rows)),
        );
    }
    for source in &model.sources[model.sources.len().min(1)..] {
        let differences = comparable::of_runs(&model.sources[0].results, &source.results);
        if !differences.is_empty() {
            let (first, name) = (&model.sources[0].name, &source.name);
            add(Level::Note, format!("{first} and {name} differ: {}.", differences.join("; ")));
        }
    }
    for source in model.sources {
        let of = if model.sources.len() > 1 { format!("{}: ", source.name) } else { String::new() };
        if source.results.partial {
            add(
                Level::Amber,
                format!("{of}The run was interrupted: what it had not measured is missing."),
            );
        }
        let age = source.results.measured_at_unix_s.zip(now).and_then(|(measured, now)| {
            now.duration_since(UNIX_EPOCH + Duration::from_secs(measured.min(1 << 40))).ok()
        });
        if age.is_some_and(|age| age > OLD) {
            add(Level::Amber, format!("{of}Measured more than 90 days before this page was made."));
        }
        if source.results.warnings.iter().any(|warning| warning.contains("debug build")) {
            add(
                Level::Amber,
                format!(
                    "{of}Measured with a debug build: the figures say nothing about a release build."
                ),
            );
        }
    }
    let mut group_lines = |level: Level, found: Vec<String>, words: &str| {
        if !found.is_empty() {
            add(level, format!("{words}: {}.", list(&found)));
        }
    };
    let found = |test: &dyn Fn(&Entry<'_>) -> bool| -> Vec<String> {
        let hit = rows(model).filter(|(_, entry)| test(entry));
        hit.map(|(group, entry)| format!("{} {}", group.title(), clip(&entry.label, 40))).collect()
    };
    let is_open = |entry: &Entry<'_>| entry.row.load.as_deref() == Some("open");
    let mut late: Vec<(f64, String)> = rows(model)
        .filter_map(|(group, entry)| {
            let (p99, name) = (lateness(entry)?, clip(&entry.label, 40));
            Some((p99, format!("{} {name} (by {})", group.title(), micros(p99))))
        })
        .collect();
    late.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    group_lines(
        Level::Amber,
        late.into_iter().map(|(_, words)| words).collect(),
        "Requests were sent late, and the client is part of these tails (at p99, the latest first)",
    );
    group_lines(
        Level::Amber,
        found(&|entry| is_open(entry) && saturated(entry)),
        "The client used more than 90 % of a core, so it limited the rate",
    );
    let closed = found(&|entry| !is_open(entry) && saturated(entry));
    if !closed.is_empty() {
        add(
            Level::Note,
            format!(
                "In {} of {} rows the client used more than 90 % of a core: in a closed loop requests per second then compare what a request costs the client, not what the server can do.",
                closed.len(),
                rows(model).count()
            ),
        );
    }
    let little = rows(model)
        .filter_map(|(group, entry)| {
            let off =
                little(model, entry).filter(|off| off.abs() > LITTLE_OFF + at_the_edges(entry))?;
            Some(format!(
                "{} {} ({} %)",
                group.title(),
                clip(&entry.label, 40),
                text::signed(off * 100.0, 1)
            ))
        })
        .collect::<Vec<_>>();
    if !little.is_empty() {
        add(
            Level::Note,
            format!(
                "Requests per second times mean latency is not the number of callers (Little's law), by more than 5 % and the requests cut off at both ends of each round, so some time of these callers is in no latency: {}.",
                list(&little)
            ),
        );
    }
    banners
}

fn rows<'m>(model: &'m Model<'_>) -> impl Iterator<Item = (&'m Group<'m>, &'m Entry<'m>)> {
    model.groups.iter().flat_map(|group| group.entries.iter().map(move |entry| (group, entry)))
}

/// Options of rows that differ from those of the same rows in the first file, each with these rows.
fn unlike(model: &Model<'_>) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (group, entry) in rows(model).filter(|(_, entry)| !entry.unlike.is_empty()) {
        let words = entry.unlike.join("; ");
        let name = format!("{} {}", group.title(), clip(&entry.label, 40));
        match found.iter_mut().find(|(known, _)| *known == words) {
            Some((_, names)) => names.push(name),
            None => found.push((words, vec![name])),
        }
    }
    found
}

/// The least differences that tell contestants apart, over all tables. Each table has its own noise.
fn floors(model: &Model<'_>) -> String {
    let from = |metric: Metric| {
        let floors = || model.groups.iter().map(|group| metric.floor(group.noise) * 100.0);
        let low = text::figure(floors().fold(f64::INFINITY, f64::min));
        let high = text::figure(floors().fold(0.0, f64::max));
        if low == high { format!("{low} %") } else { format!("{low} to {high} %") }
    };
    let measured = model.groups.iter().any(|group| group.noise.throughput.is_some());
    format!(
        "A difference counts from {} in requests per second, {} in CPU, {} in p99 and 1 in 1,000 in counts ({}), and only when its whole interval lies beyond that. The intervals are of 95 % for all rows of a table together, in its marks as in the sentence above it.",
        from(Metric::Throughput),
        from(Metric::Cpu),
        from(Metric::P99),
        match (measured, model.groups.len()) {
            (true, 1) => "from this run's A/A noise",
            (true, _) => "from the A/A noise of each table",
            (false, _) => "assumed: this run has no A/A noise of its own",
        },
    )
}

/// Sentences on questions that the numbers leave open.
pub fn limits_of_the_numbers(model: &Model<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let has_target = |source: &Source| source.results.settings().target.is_some();
    if !model.sources.iter().all(has_target) {
        lines.push("Client and embedded servers share one machine and its loopback: there is no network, no loss, and no distance. A cost that a network hides looks large here, and a dial looks cheap.".to_owned());
    }
    if model.sources.iter().any(has_target) {
        lines.push("With --target the server is one of your own: what lies between it and the client is part of every figure, and so is whatever else it serves.".to_owned());
    }
    let any = |test: &dyn Fn(&Entry<'_>) -> bool| rows(model).any(|(_, entry)| test(entry));
    if any(&|entry| entry.row.load.as_deref() == Some("closed")) {
        lines.push("A closed loop sends the next request after the last reply: when something stalls, it stops asking. Its percentiles leave out the requests that would have waited.".to_owned());
    }
    if any(&|entry| entry.row.faults().next().is_some()) {
        lines.push("Time lines show the last round only; the tables are about all rounds. A fault of a real network is seldom this clean.".to_owned());
    }
    if any(&|entry| is_limit(entry.row)) {
        lines.push("The limit holds raw sockets that were opened before and does nothing else, and no-pool dials for each request: they are a scale, no pools to choose, and have no place in a ranking.".to_owned());
    }
    lines.push(floors(model));
    if let Some(undecided) = model.groups.iter().find(|group| group.is_undecided()) {
        let of = undecided.too_little();
        lines.push(format!(
            "Of {of} there is no interval. Only counts of events are told apart then, from {} in 1,000 or {} dials and a quarter on, and times to recover from {} ms on: rates and latencies of one round may be chance. Play more rounds (--rounds) to see them.",
            text::figure(Metric::Failed.single_floor().unwrap_or_default()),
            text::figure(Metric::AllDials.single_floor().unwrap_or_default()),
            text::figure(Metric::Recovery.single_floor().unwrap_or_default())
        ));
    }
    lines.push("Failed is every request without a reply: its connection broke or could not be dialed, it was too late, it was refused, its reply was wrong, or it never began.".to_owned());
    lines.push("Percentiles of all rounds come from merged histograms, never from averages. Beyond 1 - 1/N of N requests a percentile is one request's fate.".to_owned());
    if any(&|entry| lateness(entry).is_some()) {
        let worst = rows(model).filter_map(|(_, entry)| lateness(entry)).fold(0.0, f64::max);
        lines.push(format!(
            "Requests were up to {} late at p99: the tails contain that.",
            micros(worst)
        ));
    }
    let requests: f64 = rows(model).filter_map(|(_, entry)| entry.row.requests).sum();
    lines.push(format!(
        "{} requests on one machine on one day: another machine may rank them otherwise.",
        count(requests)
    ));
    lines
}
