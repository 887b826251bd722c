//! Tables for people: a title, lines that fit a screen of 80 columns, and notes.

use super::closed_table;
use super::columns::{Columns, SCREEN, wrap};
use super::model::{GroupResult, Record};
use super::noise;
use super::open_table;
use pool_common::policy::Retry;

use crate::catalog::Kind;
use crate::compare::figure::Figure;
use crate::names::Protocol;
use crate::run::turn::Turn;
use crate::scenario::demand::Budget;
use crate::scenario::{PUBLISHED_REST, PUBLISHED_REUSE, Play, Variant, WHAT_IT_DEPENDS_ON};

/// How tables look, and the options that their titles name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'a> {
    /// Every figure, however wide the lines are.
    pub wide: bool,
    /// Knobs that were set.
    pub set: &'a [String],
}

/// The table of a group, with its title and notes.
pub fn render(group: &GroupResult, look: Look<'_>) -> String {
    let mut text = "\n".to_owned();
    wrap(&mut text, "", &title(group, look));
    if let Some(words) = group.scenario.note(look.set).filter(|_| group.demand.is_open()) {
        note(&mut text, &words);
    }
    note(&mut text, &format!("shows: {}", group.scenario.teaches));
    let mut columns = columns(group);
    if let Some(figure) = noise::figure(group)
        && let Some(letters) = noise::letters(group, &played(group), figure)
    {
        columns.mark(if figure == Figure::P99 { "p99\nms" } else { "req/s" }, &letters);
    }
    let (lines, left_out) = columns.render(look.wide);
    text.push_str(&lines);
    if !left_out.is_empty() {
        let titles = left_out.join(", ");
        note(&mut text, &format!("left out to fit {SCREEN} columns, --wide prints it: {titles}"));
    }
    notes(group, look.wide, &left_out, &mut text);
    text
}

fn columns(group: &GroupResult) -> Columns<'_> {
    match group.scenario.play {
        Play::Reuse => closed_table::reuse(group),
        _ if group.demand.is_open() => open_table::table(group),
        Play::Requests | Play::Limits | Play::Session => closed_table::comparison(group),
    }
}

/// The entries that took a turn.
pub(super) fn played(group: &GroupResult) -> Vec<&Record> {
    group.records.iter().filter(|record| !record.rounds.is_empty()).collect()
}

/// What is measured, and under which conditions.
fn title(group: &GroupResult, look: Look<'_>) -> String {
    let mut title = format!(
        "{} {}: {}, {}; {}, {}",
        group.protocol,
        group.scenario.name,
        match group.demand.is_open() {
            false => count(group.callers, "caller"),
            true => format!("at most {} in flight", group.callers),
        },
        connections(group),
        open_table::demand(group),
        match group.target.embedded {
            true => "embedded server".to_owned(),
            false => group.target.describe(),
        },
    );
    for words in group.target.ask.request().unwrap_or_default().words() {
        title.push_str(&format!("; {words}"));
    }
    for set in look.set {
        title.push_str(&format!("; --set {}", set.escape_debug()));
    }
    title
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether the design of the contestant has one connection, and no knob changed that.
fn is_one_connection(record: &Record) -> bool {
    let policy = record.entry.policy.as_ref();
    record.entry.single && policy.is_none_or(|policy| policy.max_open_per_key == Some(1))
}

/// A contestant of which the server saw more connections than its policy allows, in words.
fn above_limit(group: &GroupResult, record: &Record) -> Option<String> {
    let policy = record.entry.policy.as_ref()?;
    let bound = policy.max_open_per_key.into_iter().chain(policy.max_open).min()?;
    let seen = record.high_water().filter(|seen| *seen > u64::from(bound))?;
    let name = if group.records.len() > 1 { record.label() + " " } else { String::new() };
    Some(format!("{name}{seen} of {bound}"))
}

/// How many connections contestants may open, from their policies with every knob applied. Contestants
/// whose design has one connection are named in a note below the table.
fn connections(group: &GroupResult) -> String {
    let bounds: Vec<Option<u32>> = group
        .records
        .iter()
        .filter(|record| !is_one_connection(record))
        .filter_map(|record| record.entry.policy.as_ref())
        .map(|policy| policy.max_open_per_key.into_iter().chain(policy.max_open).min())
        .collect();
    let asked = count(group.connections, "connection");
    let (Some(least), Some(most)) = (bounds.iter().flatten().min(), bounds.iter().flatten().max())
    else {
        return match group.budget {
            Budget::Own => "connections as each strategy ships".to_owned(),
            Budget::Same if bounds.is_empty() => asked,
            Budget::Same => "connections without a limit".to_owned(),
        };
    };
    let bounded = bounds.iter().all(Option::is_some);
    match group.budget {
        Budget::Own if !bounded || least != most => "connections as each strategy ships".to_owned(),
        _ if bounded && least == most && *most as usize == group.connections => asked,
        _ => {
            let mut words = match (least == most, bounded) {
                (true, true) => count(*most as usize, "connection"),
                (false, true) => format!("{least} to {most} connections"),
                (_, false) => format!("{least} connections or more"),
            };
            // Its sockets are opened before the turn, and no knob changes that.
            let limit = |record: &&Record| record.entry.contestant.kind == Kind::Limit;
            if group.protocol != Protocol::Http2 && group.records.iter().any(|one| limit(&one)) {
                words.push_str(&format!(" (limit: {})", group.connections));
            }
            words
        }
    }
}

/// Time per operation of the three ways relative to the first, all contestants together.
fn reuse_ratios(group: &GroupResult) -> String {
    let ratio = |variant| group.reuse_ratio(None, variant);
    match (ratio(Variant::ServerCloses), ratio(Variant::NoPool)) {
        (Some(closes), Some(none)) => joined([1.0, closes, none]),
        _ => super::columns::UNKNOWN.to_owned(),
    }
}

fn joined(ratios: [f64; 3]) -> String {
    format!("{} : {:.2} : {:.2}", ratios[0], ratios[1], ratios[2])
}

/// The notes below the figures: what a contestant does not do, and what could not be measured.
fn notes(group: &GroupResult, wide: bool, left_out: &[String], text: &mut String) {
    if group.scenario.play == Play::Reuse {
        let all = reuse_ratios(group);
        note(text, &format!("reused : server closes : no pool, all contestants together: {all}"));
        note(
            text,
            &format!(
                "published {}: its loops pause 20, 50 and 100 ms after each request and count that; \
                 without the pauses they say {}",
                joined(PUBLISHED_REUSE),
                joined(PUBLISHED_REST)
            ),
        );
    }
    for words in noise::notes(group) {
        note(text, &words);
    }
    // Each contestant once, even if it plays in several ways.
    let mut strategies: Vec<&Record> = Vec::new();
    for record in &group.records {
        if strategies.iter().all(|known| known.entry.contestant != record.entry.contestant) {
            strategies.push(record);
        }
    }
    let mut lacking = |what: &str, lacks: &dyn Fn(&Record) -> bool| {
        let names: Vec<&str> = strategies
            .iter()
            .filter(|record| lacks(record))
            .map(|record| record.entry.contestant.name)
            .collect();
        if !names.is_empty() {
            note(text, &format!("{what}: {}", names.join(", ")));
        }
    };
    lacking("no check before lending", &|record| record.entry.safety.check == Some(false));
    lacking("no bound on open connections", &|record| record.entry.safety.bounded == Some(false));
    lacking("no deadline on acquire", &|record| record.entry.safety.deadline == Some(false));
    lacking("no reset of the session", &|record| record.entry.safety.reset == Some(false));
    let is_framed = group.protocol == Protocol::Framed;
    let has_rule = |record: &Record| {
        let policy = record.entry.policy.as_ref();
        policy.is_some_and(|policy| policy.retry != Retry::Never)
    };
    // The rule is the client's part, and this protocol has only a pool.
    lacking("no request is sent again over framed, whatever the policy says", &|record| {
        is_framed && has_rule(record)
    });
    lacking("one connection by nature, whatever --connections says", &is_one_connection);
    lacking("refused at once instead of waiting", &|record| record.sum(Turn::refusals) > 0);
    let above: Vec<String> =
        group.records.iter().filter_map(|one| above_limit(group, one)).collect();
    if !above.is_empty() && !left_out.iter().any(|title| title == "most open") {
        note(
            text,
            &format!(
                "most open: counted by the server, which sees connections that are being closed beside the new ones: {}",
                above.join(", ")
            ),
        );
    }
    if group.scenario.play == Play::Limits && group.limit().is_some() {
        note(text, match group.scenario.leases(group.protocol) {
            None => "limit: as many callers as connections, each with a socket of its own".to_owned(),
            Some(streams) => format!("{streams} streams on a connection at a time; limit: as many connections, without that bound"),
        }.as_str());
    }
    if wide
        && group.protocol != Protocol::Framed
        && !matches!(group.scenario.play, Play::Reuse | Play::Session)
        && group.records.iter().any(|record| record.entry.policy.is_some())
    {
        note(
            text,
            "acquire of a profile: sampled, before one request in 64 the pool is asked once more",
        );
    }
    for record in &group.records {
        if let Some(words) = redials(record) {
            note(text, &words);
        }
    }
    if let Some(why) = group.no_limit() {
        note(text, &format!("no ratios to the limit: {}", why.escape_debug()));
    }
    if let Some(why) = &group.ended {
        let names = |wanted: &dyn Fn(&&Record) -> bool| {
            let names = group.records.iter().filter(wanted).map(Record::label);
            names.collect::<Vec<_>>().join(", ")
        };
        let partial = names(&|record| !record.rounds.is_empty() && group.partial(record).is_some());
        let missing = names(&|record| record.rounds.is_empty());
        for (what, names) in [("partial", partial), ("not measured", missing)] {
            if !names.is_empty() {
                note(text, &format!("{what}: {names}: {why}"));
            }
        }
    }
    if group.protocol == Protocol::Http2 && !group.demand.is_open() && group.limit().is_some() {
        note(text, WHAT_IT_DEPENDS_ON);
    }
    if group.target.relayed {
        note(
            text,
            "faults come from the relay, which counts connections and sees no requests: what the server ran, and what ran twice, is unknown",
        );
    } else if !group.target.embedded {
        note(
            text,
            "not the embedded server: duplicates, leaks and the high-water mark are unknown",
        );
    }
    if group.records.iter().any(|record| record.entry.variant == Some(Variant::Relay)) {
        note(
            text,
            "relay: the same through the relay of the scenarios with faults, and without a fault: what the relay costs",
        );
    }
    if !group.target.echoes {
        note(text, "the server does not echo: mismatches are unknown");
    }
}

/// How often a limit opened connections again, and why.
fn redials(record: &Record) -> Option<String> {
    let (all, left) = (record.sum(|turn| turn.redials), record.sum(|turn| turn.redials_left));
    let why = match (left, all.saturating_sub(left)) {
        (0, 0) => return None,
        (0, _) => "where the server ended a connection".to_owned(),
        (_, 0) => "each after a caller of its own had left before the reply".to_owned(),
        (left, ended) => format!(
            "{left} after callers of its own had left before the reply, {ended} where a connection had ended or failed"
        ),
    };
    let name = record.label();
    Some(format!("{name} redialed {all} times, {why}; time and CPU of that are not in its figures"))
}

/// One note.
fn note(text: &mut String, words: &str) {
    wrap(text, "  ", words);
}

#[cfg(test)]
mod tests;
