//! Percentile curves and the curve of a sweep: lines that are named at their ends.

use super::group::{Entry, Group};
use super::svg::{Anchor, Scale, Svg, apart, row_lines, row_name};
use super::text::{self, escape};
use crate::report::histogram;
use crate::report::saved::Step;
use crate::report::sweep::{Knee, knee};

/// The sizes in which a chart is drawn: for a desk, and for a telephone.
pub const SIZES: [(&str, f64); 2] = [("wide", 1130.0), ("narrow", 380.0)];

/// The distance from the end of the lines to the names beside them.
const NAME_FROM: f64 = 20.0;

/// Where a chart of lines lies.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    width: f64,
    height: f64,
    /// The distance between the names beside the lines.
    gap: f64,
}

impl Frame {
    fn new(width: f64, entries: &[&Entry<'_>]) -> Self {
        let wide = width > 500.0;
        let has_ways = entries.iter().any(|entry| !entry.lines.1.is_empty());
        let margin = match (wide, has_ways) {
            (true, _) => 190.0,
            (false, true) => 124.0,
            (false, false) => 96.0,
        };
        let lines = entries.len() as f64;
        // A name that is too long for one line takes two.
        let two_lines = |entry: &&Entry<'_>| row_lines(entry, margin - NAME_FROM) == 2;
        let gap = if entries.iter().any(two_lines) { 25.0 } else { 13.5 };
        // The names beside the lines need a row each.
        let height = (if wide { 340.0_f64 } else { 260.0 }).max(lines * gap + 60.0);
        Self {
            left: 56.0,
            right: width - margin,
            top: 22.0,
            bottom: height - 40.0,
            width,
            height,
            gap,
        }
    }

    fn svg(&self, class: &'static str, label: &str) -> Svg {
        Svg::new(self.width, self.height, class, label)
    }

    /// Names to the right, each joined with the end of its line.
    fn names(&self, svg: &mut Svg, ends: &[(&Entry<'_>, f64, f64)]) {
        let places: Vec<f64> = ends.iter().map(|(_, _, y)| *y).collect();
        let moved = apart(&places, self.gap, self.top + 2.0, self.bottom + 10.0);
        for ((entry, x, y), place) in ends.iter().zip(moved) {
            let start = self.right + NAME_FROM - 6.0;
            svg.path(
                &format!("lead {}", entry.classes),
                [Some((*x, *y)), Some((self.right + 4.0, place)), Some((start - 2.0, place))],
            );
            let most = self.width - self.right - NAME_FROM;
            row_name(svg, entry, (start + 2.0, place + 4.0), Anchor::Start, most);
        }
    }
}

const NAMED: [(f64, &str); 7] = [
    (1.0, "0 %"),
    (2.0, "50 %"),
    (10.0, "90 %"),
    (100.0, "99 %"),
    (1e3, "99.9 %"),
    (1e4, "99.99 %"),
    (1e5, "99.999 %"),
];

/// Latency by percentile, all contestants in one picture; dashed the service time. `None` without
/// histograms.
pub fn percentiles(group: &Group<'_>, several: bool) -> Option<String> {
    let lines: Vec<(&Entry<'_>, Vec<(f64, f64)>)> = group
        .entries
        .iter()
        .filter_map(|entry| Some((entry, histogram::curve(entry.histograms.latency.as_ref()?))))
        .collect();
    // In several files a dash tells the files apart.
    let dashed: Vec<(&Entry<'_>, Vec<(f64, f64)>)> = group
        .entries
        .iter()
        .filter(|_| !several)
        .filter_map(|entry| Some((entry, histogram::curve(entry.histograms.service.as_ref()?))))
        .collect();
    let all = || lines.iter().chain(&dashed).flat_map(|(_, points)| points);
    let most = all().map(|(x, _)| *x).fold(10.0, f64::max);
    let low = all().map(|(_, y)| *y).reduce(f64::min)?;
    let high = all().map(|(_, y)| *y).fold(low, f64::max);
    let entries: Vec<&Entry<'_>> = lines.iter().map(|(entry, _)| *entry).collect();
    let mut html = String::new();
    for (class, width) in SIZES {
        let frame = Frame::new(width, &entries);
        let x = Scale::exact(0.0, most.log10(), frame.left, frame.right);
        let y = Scale::log(low, high, frame.bottom, frame.top);
        let mut svg = frame.svg(
            class,
            &format!("Latency by percentile, {}: {} contestants", group.title(), lines.len()),
        );
        svg.y_axis(&y, (frame.left, frame.right), 7, text::micros);
        let narrow = width < 500.0;
        let ticks: Vec<(f64, String)> = NAMED
            .iter()
            .enumerate()
            .filter(|(index, (at, _))| {
                at.log10() <= most.log10() + 0.01 && (!narrow || matches!(index, 0 | 2 | 3 | 4 | 6))
            })
            .map(|(_, (at, words))| (at.log10(), (*words).to_owned()))
            .collect();
        svg.x_axis(&x, (frame.top, frame.bottom), &ticks);
        let middle = f64::midpoint(frame.left, frame.right);
        svg.text(
            "axis",
            (middle, frame.height - 6.0),
            Anchor::Middle,
            "share of requests that were at most this slow",
        );
        svg.text("axis", (4.0, 11.0), Anchor::Start, "latency (logarithmic)");
        for (entry, points) in &dashed {
            let place = |(at, value): &(f64, f64)| Some((x.at(at.log10()), y.at(*value)));
            svg.path(&format!("curve service {}", entry.classes), points.iter().map(place));
        }
        let mut ends = Vec::new();
        for (entry, points) in &lines {
            let place = |(at, value): &(f64, f64)| Some((x.at(at.log10()), y.at(*value)));
            svg.path(&format!("curve {}", entry.classes), points.iter().map(place));
            if let Some(end) = points.last().and_then(place) {
                ends.push((*entry, end.0, end.1));
            }
        }
        for (entry, points) in &lines {
            let histogram = entry.histograms.latency.as_ref()?;
            let reach = points.last()?.0;
            for (at, words) in NAMED.iter().skip(1).filter(|(at, _)| *at <= reach) {
                let value = histogram::at(histogram, 1.0 - 1.0 / at);
                let tip =
                    format!("{}\n{words} of requests within {}", entry.label, text::micros(value));
                svg.point(
                    &entry.classes,
                    entry.shape,
                    (x.at(at.log10()), y.at(value)),
                    &tip_text(&tip),
                );
            }
        }
        frame.names(&mut svg, &ends);
        html.push_str(&svg.finish());
    }
    Some(html)
}

/// Words of a tooltip: line ends stay.
pub fn tip_text(words: &str) -> String {
    words.split('\n').map(escape).collect::<Vec<_>>().join("&#10;")
}

/// Latency over the offered rate, with the knee of each contestant. `None` without a sweep.
pub fn sweep(group: &Group<'_>) -> Option<String> {
    let lines: Vec<(&Entry<'_>, Vec<Step>)> = group
        .entries
        .iter()
        .filter(|entry| !entry.row.sweep.is_empty())
        .map(|entry| {
            let mut steps = entry.row.sweep.clone();
            steps.retain(|step| step.rate_per_s.is_some_and(f64::is_finite));
            steps.sort_by(|a, b| {
                a.rate_per_s.unwrap_or(0.0).total_cmp(&b.rate_per_s.unwrap_or(0.0))
            });
            (entry, steps)
        })
        .collect();
    let all = || lines.iter().flat_map(|(_, steps)| steps);
    let latencies = || all().flat_map(|step| [step.p50_us, step.p99_us]).flatten();
    let low = latencies().reduce(f64::min)?;
    let high = latencies().fold(low, f64::max);
    let most = all().filter_map(|step| step.rate_per_s).fold(0.0, f64::max);
    let entries: Vec<&Entry<'_>> = lines.iter().map(|(entry, _)| *entry).collect();
    let mut html = String::new();
    for (class, width) in SIZES {
        let frame = Frame::new(width, &entries);
        let x = Scale::linear(0.0, most, frame.left, frame.right);
        let y = Scale::log(low, high, frame.bottom, frame.top);
        let mut svg =
            frame.svg(class, &format!("Latency over the offered rate, {}", group.title()));
        svg.y_axis(&y, (frame.left, frame.right), 7, text::micros);
        let ticks: Vec<(f64, String)> = x
            .ticks(if width < 500.0 { 3 } else { 7 })
            .into_iter()
            .map(|tick| (tick, text::figure(tick)))
            .collect();
        svg.x_axis(&x, (frame.top, frame.bottom), &ticks);
        let middle = f64::midpoint(frame.left, frame.right);
        svg.text(
            "axis",
            (middle, frame.height - 6.0),
            Anchor::Middle,
            "offered rate, requests per second",
        );
        svg.text("axis", (4.0, 11.0), Anchor::Start, "latency (logarithmic)");
        let mut ends = Vec::new();
        for (entry, steps) in &lines {
            let at = |step: &Step, value: Option<f64>| Some((x.at(step.rate_per_s?), y.at(value?)));
            svg.path(
                &format!("curve service {}", entry.classes),
                steps.iter().map(|step| at(step, step.p50_us)),
            );
            svg.path(
                &format!("curve {}", entry.classes),
                steps.iter().map(|step| at(step, step.p99_us)),
            );
            if let Some(end) = steps.iter().rev().find_map(|step| at(step, step.p99_us)) {
                ends.push((*entry, end.0, end.1));
            }
            for step in steps {
                let Some(place) = at(step, step.p99_us) else { continue };
                svg.point(&entry.classes, entry.shape, place, &tip_text(&step_words(entry, step)));
            }
            if let Knee::At(step) = knee(steps)
                && let Some(place) = at(step, step.p99_us)
            {
                svg.text(
                    &format!("knee {}", entry.classes),
                    (place.0, place.1 - 9.0),
                    Anchor::Middle,
                    "knee",
                );
            }
        }
        frame.names(&mut svg, &ends);
        html.push_str(&svg.finish());
    }
    Some(html)
}

fn step_words(entry: &Entry<'_>, step: &Step) -> String {
    format!(
        "{}\noffered {}/s, served {}/s\np50 {}, p99 {}\nnot started {}",
        entry.label,
        text::or_unknown(step.rate_per_s, text::figure),
        text::or_unknown(step.throughput_per_s, text::figure),
        text::or_unknown(step.p50_us, text::micros),
        text::or_unknown(step.p99_us, text::micros),
        text::or_unknown(step.unstarted, text::count),
    )
}
