//! The verdict tables as Markdown for a pull request, with small curves that are made of characters.

use std::time::SystemTime;

use super::group::{Entry, Group, Model, asked};
use super::input::Source;
use super::sentences::{self, Level};
use super::stats::Metric;
use super::tables::{NOT_COMPARABLE, effect_words};
use super::text::{self, UNKNOWN, or_unknown};

/// Makes the document.
pub fn document(sources: &[Source], now: Option<SystemTime>) -> String {
    let model = Model::new(sources);
    let banners = sentences::banners(&model, now);
    let withdrawn = banners.iter().any(|banner| banner.level == Level::Red);
    let mut text = format!("**{}**\n\n", plain(&sentences::headline(&model, withdrawn)));
    for banner in &banners {
        let mark = match banner.level {
            Level::Red => "🔴 ",
            Level::Amber => "🟠 ",
            Level::Note => "",
        };
        text.push_str(&format!("> {mark}{}\n\n", plain(&banner.words)));
    }
    for group in &model.groups {
        table(&mut text, group, withdrawn);
    }
    text
}

fn table(text: &mut String, group: &Group<'_>, withdrawn: bool) {
    text.push_str(&format!("### {}\n\n", plain(&group.title())));
    let load = group.load();
    if !load.is_empty() {
        text.push_str(&format!("{}.\n\n", plain(&text::capital(&load))));
    }
    let curve = if group.entries.iter().any(|entry| !entry.row.slots.is_empty()) {
        "p99 over time"
    } else {
        "by round"
    };
    text.push_str(&format!(
        "| contestant | req/s | p50 | p99 | p99.9 | CPU | opened per 1,000 | failed | wrong | {} against {} | | {curve} |\n",
        group.metric.name(),
        plain(&group.baseline_name())
    ));
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n");
    for entry in &group.entries {
        let row = entry.row;
        let latency = row.latency_us.unwrap_or_default();
        let share = row
            .failed()
            .zip(asked(row))
            .filter(|(_, asked)| *asked > 0.0)
            .map(|(failed, asked)| failed * 100.0 / asked);
        let (effect, verdict) = match group.effect(entry) {
            _ if group.is_base(entry) => ("base".to_owned(), String::new()),
            Some((effect, _)) if withdrawn => {
                (effect_words(group.metric, &effect), "withdrawn".to_owned())
            }
            Some((effect, verdict)) => {
                let aside =
                    group.why_aside(entry).map(|why| format!("not placed: {}", why.words()));
                let words = aside.unwrap_or_else(|| verdict.words(&group.baseline_name()));
                (effect_words(group.metric, &effect), plain(&words))
            }
            None if !entry.unlike.is_empty() => (UNKNOWN.to_owned(), NOT_COMPARABLE.to_owned()),
            None => {
                let aside = group.why_aside(entry);
                let words = aside.map(|why| format!("not placed: {}", why.words()));
                (UNKNOWN.to_owned(), words.unwrap_or_default())
            }
        };
        let cells = [
            plain(&entry.label),
            or_unknown(row.throughput_per_s, text::figure),
            or_unknown(latency.p50, text::micros),
            or_unknown(latency.p99, text::micros),
            or_unknown(latency.p999, text::micros),
            or_unknown(row.cpu_us_per_request, text::micros),
            or_unknown(Metric::Opened.of(row), |value| Metric::Opened.text(value)),
            or_unknown(share, |share| format!("{} %", text::figure(share))),
            or_unknown(row.mismatches, text::count),
            plain(&effect),
            verdict,
            sparkline(&values(group, entry)),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push('\n');
}

/// What the small curve shows: the p99 of each slot, or the rounds.
fn values(group: &Group<'_>, entry: &Entry<'_>) -> Vec<Option<f64>> {
    if entry.row.slots.is_empty() {
        let rounds = group.metric.rounds(entry.row);
        return rounds.into_iter().map(|(_, value)| Some(value)).collect();
    }
    entry.row.slots.iter().map(|slot| slot.p99_us).collect()
}

/// A curve of at most 24 characters. If several values share a character, it shows the largest; a space is
/// a gap.
pub fn sparkline(values: &[Option<f64>]) -> String {
    const LETTERS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const MOST: usize = 24;
    let known = || values.iter().flatten().filter(|value| value.is_finite());
    let high = known().fold(f64::MIN, |a, b| a.max(*b));
    let low = known().fold(f64::MAX, |a, b| a.min(*b));
    let width = values.len().div_ceil(MOST).max(1);
    values
        .chunks(width)
        .map(|chunk| {
            let most =
                chunk.iter().flatten().filter(|value| value.is_finite()).copied().reduce(f64::max);
            most.map_or(' ', |value| {
                let share = if high > low { (value - low) / (high - low) } else { 0.0 };
                LETTERS[((share * 7.0).round() as usize).min(7)]
            })
        })
        .collect()
}

/// Text in which no Markdown reader finds markup.
fn plain(words: &str) -> String {
    let mut plain = String::new();
    for character in text::escape(words).chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '@') {
            plain.push('\\');
        }
        plain.push(character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_short() {
        assert_eq!(sparkline(&[Some(1.0), Some(8.0), None, Some(4.5)]), "▁█ ▅");
        assert_eq!(sparkline(&vec![Some(1.0); 100]).chars().count(), 20);
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[Some(f64::NAN)]), " ");
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(plain("a|b"), "a\\|b");
        assert_eq!(plain("<img>[x](y)"), "&lt;img&gt;\\[x\\](y)");
    }
}
