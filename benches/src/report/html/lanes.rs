//! Swim lanes: the lives of connections on the axis of the time lines, one strip for each contestant.

use super::curves::tip_text;
use super::group::{Entry, Group};
use super::strips::{Axes, LEFT, RIGHT, TOP, WIDTH, faults};
use super::svg::{Anchor, Scale, Svg, n};
use super::text::{self, clip, escape};
use crate::report::saved::{Lane, Lanes};

/// The height of a lane.
const LANE: f64 = 11.0;
/// The most lanes of one picture, and below it the most steps of one lane. A file may have more.
const MOST_LANES: usize = 60;
const MOST_STEPS: usize = 400;
/// The least width of a bar, in pixels.
const LEAST: f64 = 1.2;

/// What the colours mean. Lanes that are lent for a part of the time have the colours between.
pub const LEGEND: &str = "<p class=\"legend\"><span class=\"key\"><i class=\"st-dialing\"></i>dialing</span><span class=\"key\"><i class=\"st-idle\"></i>idle</span><span class=\"key\"><i class=\"st-leased part\"></i>leased for a part of the time</span><span class=\"key\"><i class=\"st-leased\"></i>leased</span><span class=\"key\"><i class=\"st-check\"></i>checked</span><span class=\"key\"><i class=\"st-closed end\"></i>closed, and why</span><span class=\"key\"><i class=\"st-failed\"></i>dials that failed or were stopped</span><span class=\"key\"><i class=\"band\"></i>fault</span></p>\n";

/// Names the contestants without lanes.
pub fn hint(group: &Group<'_>) -> String {
    let mut hint = "One lane for each connection of the last round, on the axis of the time lines. Uses shorter than two pixels are drawn as a share of the time.".to_owned();
    let silent: Vec<String> = group
        .entries
        .iter()
        .filter(|entry| entry.row.lanes.is_none())
        .map(|entry| clip(&entry.label, 40))
        .collect();
    if !silent.is_empty() {
        hint.push_str(&format!(
            " Only our own pools tell what happens to their connections; nothing is known of {}.",
            text::list(&silent)
        ));
    }
    hint
}

/// The lanes of every contestant that has some. `None` without any.
pub fn lanes(group: &Group<'_>) -> Option<String> {
    let axes = Axes::of(group);
    let known = group.entries.iter().filter_map(|entry| Some((entry, entry.row.lanes.as_ref()?)));
    let strips: Vec<String> = known
        .filter(|(_, lanes)| !lanes.lanes.is_empty() || lanes.failed.is_some())
        .map(|(entry, lanes)| strip(entry, lanes, &axes))
        .collect();
    (!strips.is_empty()).then(|| format!("<div class=\"strips\">{}</div>\n", strips.concat()))
}

/// The figure of a contestant.
fn strip(entry: &Entry<'_>, lanes: &Lanes, axes: &Axes) -> String {
    let said = sentence(lanes);
    let svg = picture(entry, lanes, axes, &said);
    format!(
        "<figure class=\"strip lanes {}\"><figcaption><span class=\"swatch\"></span>{}<small>{}</small></figcaption>{svg}</figure>\n",
        entry.classes,
        escape(&clip(&entry.label, 60)),
        escape(&said)
    )
}

/// What the lanes show, and what they leave out.
fn sentence(lanes: &Lanes) -> String {
    let shown = lanes.lanes.len().min(MOST_LANES) as f64;
    let all = lanes.connections.unwrap_or(shown).max(shown);
    let mut parts = vec![plural(all, "connection")];
    let closed: Vec<String> = lanes
        .closed
        .iter()
        .take(20)
        .map(|(cause, count)| format!("{} {}", text::count(*count), clip(cause, 30)))
        .collect();
    parts.push(match closed.is_empty() {
        true => "none closed".to_owned(),
        false => format!("closed: {}", closed.join(", ")),
    });
    if let Some(failed) = lanes.failed_dials.filter(|failed| *failed > 0.0) {
        parts.push(format!("{} failed or stopped", plural(failed, "dial")));
    }
    if all > shown {
        let more = all - shown;
        let verb = if more == 1.0 { "has" } else { "have" };
        parts.push(format!("{} more {verb} no lane here", text::count(more)));
    }
    parts.join("; ")
}

fn plural(count: f64, what: &str) -> String {
    format!("{} {what}{}", text::count(count), if count == 1.0 { "" } else { "s" })
}

fn picture(entry: &Entry<'_>, lanes: &Lanes, axes: &Axes, said: &str) -> String {
    let shown = &lanes.lanes[..lanes.lanes.len().min(MOST_LANES)];
    let failed = lanes.failed.as_deref().filter(|failed| failed.contains(|step| step != '.'));
    let rows = shown.len() + usize::from(failed.is_some());
    let bottom = TOP + rows as f64 * LANE + 2.0;
    let label = format!("Lives of the connections of {}. {said}", entry.label);
    let mut svg = Svg::new(WIDTH, bottom + 34.0, "fluid", &label);
    let time = axes.time();
    axes.draw_time(&mut svg, bottom);
    faults(&mut svg, &time, axes.end_ms, entry.row, bottom);
    let mut bars = Bars::default();
    let mut last: Option<(&str, f64)> = None;
    for (index, lane) in shown.iter().enumerate() {
        let y = TOP + (index as f64 + 0.5) * LANE + 1.0;
        let id = text::or_unknown(lane.id, |id| format!("{id:.0}"));
        svg.text("lane-name", (LEFT - 5.0, y + 3.0), Anchor::End, &clip(&id, 7));
        bars.lane(lane, lanes.step(), &time, axes.end_ms, y);
        last = close(&mut svg, &mut bars, lane, &time, y, last);
    }
    if let Some(failed) = failed {
        let y = TOP + (shown.len() as f64 + 0.5) * LANE + 1.0;
        svg.text("lane-name", (LEFT - 5.0, y + 3.0), Anchor::End, "failed");
        for (index, step) in failed.chars().take(MOST_STEPS).enumerate() {
            if step != '.' {
                let from = index as f64 * lanes.step();
                bars.add(FAILED, &time, from, from + lanes.step(), y);
            }
        }
    }
    bars.draw(&mut svg);
    for (index, lane) in shown.iter().enumerate() {
        let top = TOP + index as f64 * LANE + 1.0;
        let place = ((LEFT, top), (RIGHT - LEFT, LANE));
        svg.rect("hit", place.0, place.1, &tip_text(&words(lane)));
    }
    svg.finish()
}

/// The end of a lane, with its cause if there is room. The cause of neighbours that were closed together is
/// written once.
fn close<'a>(
    svg: &mut Svg,
    bars: &mut Bars,
    lane: &'a Lane,
    time: &Scale,
    y: f64,
    before: Option<(&'a str, f64)>,
) -> Option<(&'a str, f64)> {
    let at = lane.closed_ms.filter(|at| at.is_finite())?;
    let x = time.at(at);
    bars.paths[CLOSED].push_str(&format!("M{} {}v8", n(x), n(y - 4.0)));
    let cause = lane.cause.as_deref()?;
    let words = clip(cause, 24);
    let repeated = before.is_some_and(|(same, place)| same == cause && (place - x).abs() < 14.0);
    if !repeated && x + 5.0 + words.chars().count() as f64 * 5.2 <= RIGHT {
        svg.text("cause", (x + 4.0, y + 3.0), Anchor::Start, &words);
    }
    Some((cause, x))
}

/// The bars of all lanes. All bars of one kind are one path, so that a page with many lanes stays small.
#[derive(Default)]
struct Bars {
    paths: [String; KINDS.len()],
}

/// The kinds of bars, the later above the earlier.
const KINDS: [&str; 8] = [
    "lane st-idle",
    "lane st-dialing",
    "lane st-leased third",
    "lane st-leased part",
    "lane st-leased",
    "lane st-check",
    "lane st-failed",
    "lane-end st-closed",
];
const IDLE: usize = 0;
const DIALING: usize = 1;
const LEASED: [usize; 3] = [2, 3, 4];
const CHECKED: usize = 5;
const FAILED: usize = 6;
const CLOSED: usize = 7;

impl Bars {
    /// A bar between two moments in milliseconds.
    fn add(&mut self, kind: usize, time: &Scale, from: f64, to: f64, y: f64) {
        let (from, to) = (time.at(from), time.at(to));
        let path = format!("M{} {}h{}", n(from), n(y), n((to - from).max(LEAST)));
        self.paths[kind].push_str(&path);
    }

    fn lane(&mut self, lane: &Lane, step: f64, time: &Scale, end: f64, y: f64) {
        let finite = |at: Option<f64>| at.filter(|at| at.is_finite());
        let (dialed, opened) = (finite(lane.dial_ms), finite(lane.open_ms));
        let until = finite(lane.closed_ms).unwrap_or(end).min(end);
        if let Some(dialed) = dialed.filter(|_| opened.is_none_or(|opened| opened > 0.0)) {
            self.add(DIALING, time, dialed, opened.unwrap_or(until), y);
        }
        let Some(opened) = opened else { return };
        self.add(IDLE, time, opened, until, y);
        let first = lane.first_step.unwrap_or(0.0);
        let steps: Vec<char> = lane.steps.chars().take(MOST_STEPS).collect();
        let mut from = 0;
        for run in steps.chunk_by(|one, next| level(*one) == level(*next)) {
            let at =
                |index: usize| ((first + index as f64) * step).clamp(opened, until.max(opened));
            if let Some(kind) = level(run[0]) {
                self.add(kind, time, at(from), at(from + run.len()), y);
            }
            from += run.len();
        }
    }

    fn draw(self, svg: &mut Svg) {
        for (class, path) in KINDS.iter().zip(self.paths) {
            svg.strokes(class, &path);
        }
    }
}

/// The kind of bar for a step; `None` where the connection was idle.
fn level(step: char) -> Option<usize> {
    match step {
        '1'..='3' => Some(LEASED[0]),
        '4'..='7' => Some(LEASED[1]),
        '8' | '9' => Some(LEASED[2]),
        'c' => Some(CHECKED),
        _ => None,
    }
}

/// The life of a connection in words.
fn words(lane: &Lane) -> String {
    let seconds = |ms: f64| format!("{:.3} s", ms / 1e3);
    let mut words = format!("connection {}", text::or_unknown(lane.id, |id| format!("{id:.0}")));
    match (lane.dial_ms, lane.open_ms) {
        (Some(dialed), Some(opened)) if opened > 0.0 => words.push_str(&format!(
            "\ndialed at {}, open after {}",
            seconds(dialed),
            text::micros((opened - dialed) * 1e3)
        )),
        (_, Some(_)) => words.push_str("\nopen before the beginning"),
        (Some(dialed), None) => {
            words.push_str(&format!("\ndialed at {}, not open at the end", seconds(dialed)));
        }
        (None, None) => {}
    }
    if let Some(leases) = lane.leases {
        let times = if leases == 1.0 {
            "once".to_owned()
        } else {
            format!("{} times", text::count(leases))
        };
        words.push_str(&format!("\nleased {times}"));
    }
    match lane.closed_ms {
        Some(at) => {
            let cause = lane.cause.as_deref().unwrap_or("unknown");
            words.push_str(&format!("\nclosed at {}: {}", seconds(at), clip(cause, 40)));
        }
        None => words.push_str("\nopen at the end"),
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(steps: &str) -> Lane {
        Lane {
            id: Some(3.0),
            dial_ms: Some(100.0),
            open_ms: Some(120.0),
            closed_ms: Some(160.0),
            cause: Some("broken".to_owned()),
            leases: Some(2.0),
            first_step: Some(12.0),
            steps: steps.to_owned(),
        }
    }

    #[test]
    fn steps_become_bars_between_the_open_and_the_close() {
        let mut bars = Bars::default();
        let time = Scale::exact(0.0, 1000.0, 0.0, 1000.0);
        bars.lane(&lane("0299c99999"), 10.0, &time, 1000.0, 5.0);
        assert_eq!(bars.paths[DIALING], "M100 5h20");
        assert_eq!(bars.paths[IDLE], "M120 5h40");
        assert_eq!(bars.paths[LEASED[0]], "M130 5h10");
        assert_eq!(bars.paths[LEASED[2]], "M140 5h20M160 5h1.2");
        assert_eq!(bars.paths[CHECKED], "M160 5h1.2");
    }

    #[test]
    fn the_sentence_counts_what_has_no_lane() {
        let mut lanes = Lanes { lanes: vec![lane("9")], ..Lanes::default() };
        assert_eq!(sentence(&lanes), "1 connection; none closed");
        lanes.connections = Some(38.0);
        lanes.failed_dials = Some(2.0);
        lanes.closed = [("broken".to_owned(), 1.0), ("idle-limit".to_owned(), 30.0)].into();
        assert_eq!(
            sentence(&lanes),
            "38 connections; closed: 1 broken, 30 idle-limit; 2 dials failed or stopped; 37 more have no lane here"
        );
    }

    #[test]
    fn a_life_is_told_in_words() {
        assert_eq!(
            words(&lane("")),
            "connection 3\ndialed at 0.100 s, open after 20 ms\nleased 2 times\nclosed at 0.160 s: broken"
        );
        let mut old = Lane { dial_ms: Some(-50.0), open_ms: Some(-40.0), ..lane("") };
        old.closed_ms = None;
        old.leases = Some(1.0);
        assert_eq!(
            words(&old),
            "connection 3\nopen before the beginning\nleased once\nopen at the end"
        );
    }
}
