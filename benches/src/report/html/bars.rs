//! Charts with a line for each contestant: a dot for each round, and where the time went.

use super::curves::{SIZES, tip_text};
use super::group::{Entry, Group};
use super::stats::{self, Metric};
use super::svg::{Anchor, Scale, Svg, row_name};
use super::text;
use crate::report::histogram;

const ROW: f64 = 24.0;
const TOP: f64 = 8.0;

/// Where the names end and the chart begins.
fn names_end(width: f64, entries: &[&Entry<'_>]) -> f64 {
    let most = if width > 500.0 { 260.0 } else { 132.0 };
    let longest = entries.iter().map(|entry| entry.label.chars().count()).max().unwrap_or(0);
    (longest as f64 * 7.8 + 16.0).min(most)
}

/// A dot for each round and a bar at the median. `None` without rounds.
pub fn dots(group: &Group<'_>, metric: Metric) -> Option<String> {
    let entries: Vec<&Entry<'_>> =
        group.entries.iter().filter(|entry| !metric.rounds(entry.row).is_empty()).collect();
    let values =
        || entries.iter().flat_map(|entry| metric.rounds(entry.row)).map(|(_, value)| value);
    let low = values().reduce(f64::min)?;
    let high = values().fold(low, f64::max);
    let bottom = TOP + entries.len() as f64 * ROW;
    let mut html = String::new();
    for (class, width) in SIZES {
        let left = names_end(width, &entries);
        let right = width - 22.0;
        // The values are orders of magnitude apart: only a logarithmic axis shows both.
        let log = low > 0.0 && high / low > 8.0;
        let x = if log {
            Scale::log(low, high, left, right)
        } else if metric.is_absolute() || high / low > 2.0 {
            Scale::linear(0.0, high, left, right)
        } else {
            Scale::linear(low - (high - low) * 0.05, high, left, right)
        };
        let label = format!("{} of each round, {}", metric.name(), group.title());
        let mut svg = Svg::new(width, bottom + 38.0, class, &label);
        let ticks: Vec<(f64, String)> = x
            .ticks(if width > 500.0 { 7 } else { 4 })
            .into_iter()
            .map(|tick| (tick, metric.text(tick)))
            .collect();
        svg.x_axis(&x, (TOP, bottom), &ticks);
        let kind = if log { " (logarithmic)" } else { "" };
        let words = format!("{}{kind}", metric.name());
        svg.text("axis", (f64::midpoint(left, right), bottom + 32.0), Anchor::Middle, &words);
        for (index, entry) in entries.iter().enumerate() {
            let y = TOP + (index as f64 + 0.5) * ROW;
            let rounds = metric.rounds(entry.row);
            svg.line(&format!("rule {}", entry.classes), (left, y), (right, y));
            row_name(&mut svg, entry, (left - 8.0, y + 4.0), Anchor::End, left - 12.0);
            for (round, value) in &rounds {
                let tip = format!("{}\nround {round}: {}", entry.label, metric.text(*value));
                svg.point(&format!("dot {}", entry.classes), 0, (x.at(*value), y), &tip_text(&tip));
            }
            let values = rounds.iter().map(|(_, value)| *value).collect();
            if let Some(median) = stats::median(values) {
                let tip = format!("{}\nmedian: {}", entry.label, metric.text(median));
                svg.rect(
                    &format!("median {}", entry.classes),
                    (x.at(median) - 1.25, y - 9.0),
                    (2.5, 18.0),
                    &tip_text(&tip),
                );
            }
        }
        html.push_str(&svg.finish());
    }
    Some(html)
}

/// Means of the parts of a request, in microseconds: waiting for its start, for a connection, and
/// for the reply.
fn parts(entry: &Entry<'_>) -> Option<[Option<f64>; 3]> {
    let total = histogram::mean(entry.histograms.latency.as_ref()?);
    let acquire = entry.histograms.acquire.as_ref().map(histogram::mean);
    let service = entry.histograms.service.as_ref().map(histogram::mean);
    if acquire.is_none() && service.is_none() {
        return None;
    }
    let served = service.unwrap_or(total);
    Some([
        service.map(|service| (total - service).max(0.0)),
        acquire,
        Some((served - acquire.unwrap_or(0.0)).max(0.0)),
    ])
}

const PARTS: [(&str, &str); 3] = [
    ("p-queue", "late start"),
    ("p-acquire", "getting a connection"),
    ("p-exchange", "request to reply"),
];

/// Where the mean request spent its time. `None` without the histograms for it.
pub fn breakdown(group: &Group<'_>) -> Option<String> {
    let known: Vec<(&Entry<'_>, [Option<f64>; 3])> =
        group.entries.iter().filter_map(|entry| Some((entry, parts(entry)?))).collect();
    let sum = |parts: &[Option<f64>; 3]| parts.iter().flatten().sum::<f64>();
    let high = known.iter().map(|(_, parts)| sum(parts)).reduce(f64::max)?;
    let entries: Vec<&Entry<'_>> = known.iter().map(|(entry, _)| *entry).collect();
    let bottom = TOP + known.len() as f64 * ROW;
    let mut html = String::new();
    for (class, width) in SIZES {
        let left = names_end(width, &entries);
        let right = width - 66.0;
        let x = Scale::exact(0.0, high, left, right);
        let mut svg = Svg::new(
            width,
            bottom + 38.0,
            class,
            &format!("Where the time went, {}", group.title()),
        );
        let ticks: Vec<(f64, String)> = x
            .ticks(if width > 500.0 { 6 } else { 3 })
            .into_iter()
            .map(|tick| (tick, text::micros(tick)))
            .collect();
        svg.x_axis(&x, (TOP, bottom), &ticks);
        svg.text(
            "axis",
            (f64::midpoint(left, right), bottom + 32.0),
            Anchor::Middle,
            "mean time of a request",
        );
        for (index, (entry, parts)) in known.iter().enumerate() {
            let y = TOP + (index as f64 + 0.5) * ROW;
            row_name(&mut svg, entry, (left - 8.0, y + 4.0), Anchor::End, left - 12.0);
            let mut from = 0.0;
            for ((class, words), part) in PARTS.iter().zip(parts) {
                let Some(part) = part else { continue };
                let tip = format!("{}\n{words}: {}", entry.label, text::micros(*part));
                let (start, end) = (x.at(from), x.at(from + part));
                svg.rect(
                    &format!("mark {class} ser c{} f{}", entry.contestant, entry.file),
                    (start, y - 7.0),
                    ((end - start).max(0.6), 14.0),
                    &tip_text(&tip),
                );
                from += part;
            }
            svg.text(
                &format!("tick ser c{} f{}", entry.contestant, entry.file),
                (x.at(from) + 6.0, y + 4.0),
                Anchor::Start,
                &text::micros(from),
            );
        }
        html.push_str(&svg.finish());
    }
    Some(html)
}

/// The colours of the parts.
pub fn breakdown_legend() -> String {
    let entries = PARTS.map(|(class, words)| {
        format!("<span class=\"key\"><i class=\"{class}\"></i>{words}</span>")
    });
    format!("<p class=\"legend\">{}</p>\n", entries.concat())
}
