//! Charts over time, one strip for each contestant, all on the same axes: the time line with its
//! faults, and the share of each backend.

use super::curves::tip_text;
use super::group::{Entry, Group};
use super::svg::{Anchor, Scale, Svg, fit};
use super::text::{self, clip, escape};
use crate::report::saved::{Event, Row, Slot};

pub(super) const WIDTH: f64 = 380.0;
pub(super) const LEFT: f64 = 50.0;
pub(super) const RIGHT: f64 = WIDTH - 10.0;
/// The top of the panels, below the names of the faults.
pub(super) const TOP: f64 = 30.0;
/// Between panels, with room for a name.
const GAP: f64 = 24.0;

/// The axes that all strips of a group share.
pub(super) struct Axes {
    pub(super) end_ms: f64,
    /// The length of a slot.
    step_ms: f64,
    latency: Option<(f64, f64)>,
    connections: f64,
    /// Waiting callers have their own scale: on one scale, hundreds of them would flatten a few connections.
    waiting: f64,
}

impl Axes {
    pub(super) fn of(group: &Group<'_>) -> Self {
        let slots = || group.entries.iter().flat_map(|entry| &entry.row.slots);
        let latencies = || {
            let both = slots().flat_map(|slot| [slot.p50_us, slot.p99_us]);
            both.flatten().filter(|value| value.is_finite() && *value > 0.0)
        };
        let low = latencies().reduce(f64::min);
        let dialed = |slot: &Slot| slot.dials.or(slot.accepted).unwrap_or(0.0);
        let held = |slot: &Slot| {
            let held = stacked(slot).last().copied().unwrap_or(0.0);
            held.max(if slot.idle.is_none() { dialed(slot) } else { 0.0 })
        };
        let distances = group.entries.iter().flat_map(|entry| {
            let times = || entry.row.slots.iter().filter_map(|slot| slot.t_ms);
            times().zip(times().skip(1)).map(|(from, to)| to - from)
        });
        let least = distances.filter(|distance| *distance > 0.0).reduce(f64::min);
        let step_ms = least.unwrap_or(100.0);
        Self {
            end_ms: slots().filter_map(|slot| slot.t_ms).fold(0.0, f64::max) + step_ms,
            step_ms,
            latency: low.map(|low| (low, latencies().fold(low, f64::max))),
            connections: slots().map(held).fold(1.0, f64::max),
            waiting: slots().filter_map(|slot| slot.waiting).fold(1.0, f64::max),
        }
    }

    pub(super) fn time(&self) -> Scale {
        Scale::exact(0.0, self.end_ms, LEFT, RIGHT)
    }

    pub(super) fn draw_time(&self, svg: &mut Svg, bottom: f64) {
        let time = self.time();
        let seconds = Scale::exact(0.0, self.end_ms / 1000.0, LEFT, RIGHT);
        let ticks: Vec<(f64, String)> =
            seconds.ticks(6).into_iter().map(|tick| (tick * 1000.0, text::figure(tick))).collect();
        svg.x_axis(&time, (TOP, bottom), &ticks);
        svg.text("axis", (f64::midpoint(LEFT, RIGHT), bottom + 28.0), Anchor::Middle, "seconds");
    }
}

/// Idle, leased, draining and dialing connections, added up.
fn stacked(slot: &Slot) -> [f64; 4] {
    let mut sum = 0.0;
    [slot.idle, slot.leased, slot.draining, slot.dialing].map(|part| {
        sum += part.unwrap_or(0.0);
        sum
    })
}

/// Shaded bands where faults were, named above.
pub(super) fn faults(svg: &mut Svg, time: &Scale, end_ms: f64, row: &Row, bottom: f64) {
    // Names that would run into each other use two rows.
    let mut free = [f64::MIN; 2];
    let mut last = "";
    for event in row.faults() {
        let Some(at) = event.at_ms.filter(|at| at.is_finite()) else { continue };
        let until = match event.until_ms {
            Some(until) => until,
            // A fault without an end lasts until the end of the run, unless it is a moment.
            None if event.is_moment() => at,
            None => end_ms,
        };
        let name = event.name();
        let seconds = |ms: f64| text::figure(ms / 1e3);
        let (from, to) = (time.at(at), time.at(until.min(end_ms)));
        if until > at {
            let tip = format!("{name}\n{} to {} s", seconds(at), seconds(until));
            svg.rect("fault", (from, TOP), ((to - from).max(1.6), bottom - TOP), &tip_text(&tip));
        } else {
            let tip = format!("{name}\nat {} s", seconds(at));
            svg.rect("fault moment", (from - 0.8, TOP), (1.6, bottom - TOP), &tip_text(&tip));
        }
        // The same again needs no second name.
        if name == last {
            continue;
        }
        let words = fit(name, 300.0);
        let length = words.chars().count() as f64 * 6.2 + 8.0;
        let start = from.min(RIGHT - length).max(LEFT);
        if let Some(row) = free.iter().position(|free| *free <= start) {
            let place = (start, TOP - 4.0 - row as f64 * 11.0);
            svg.text("fault-name", place, Anchor::Start, &words);
            free[row] = start + length;
        }
        last = name;
    }
}

/// A figure of a slot, its name, and how it is written.
type Part = (Option<f64>, &'static str, fn(f64) -> String);

fn slot_words(slot: &Slot) -> String {
    let mut words = format!("at {} s", text::or_unknown(slot.t_ms, |t| format!("{:.1}", t / 1e3)));
    // One line for what belongs together; what was not measured is left out.
    let mut line = |parts: &[Part]| {
        let known: Vec<String> = parts
            .iter()
            .filter_map(|(value, name, text)| Some(format!("{name} {}", text((*value)?))))
            .collect();
        if !known.is_empty() {
            words.push('\n');
            words.push_str(&known.join(", "));
        }
    };
    let count: fn(f64) -> String = text::count;
    line(&[(slot.ok, "replies", count), (slot.errors.0, "errors", count)]);
    line(&[(slot.unstarted.filter(|unstarted| *unstarted > 0.0), "not started", count)]);
    line(&[(slot.p50_us, "p50", text::micros), (slot.p99_us, "p99", text::micros)]);
    line(&[(slot.idle, "idle", count), (slot.leased, "leased", count)]);
    line(&[(slot.dialing, "dialing", count), (slot.waiting, "waiting", count)]);
    line(&[(slot.draining.filter(|draining| *draining > 0.0), "draining", count)]);
    line(&[(slot.dials, "dials", count)]);
    words
}

/// Share of requests that had a reply; `None` for a slot without requests.
fn success(slot: &Slot) -> Option<f64> {
    let ok = slot.ok?;
    let all = ok + slot.errors.0.unwrap_or(0.0) + slot.unstarted.unwrap_or(0.0);
    (all > 0.0).then(|| ok / all)
}

/// The strips: success, latency, connections. `None` without slots.
pub fn timeline(group: &Group<'_>) -> Option<String> {
    let mut html = String::new();
    let axes = Axes::of(group);
    for entry in group.entries.iter().filter(|entry| !entry.row.slots.is_empty()) {
        html.push_str(&strip(entry, &timeline_of(entry, &axes)));
    }
    (!html.is_empty()).then_some(html)
}

/// A small figure with the name of its contestant.
fn strip(entry: &Entry<'_>, svg: &str) -> String {
    format!(
        "<figure class=\"strip {}\"><figcaption><span class=\"swatch\"></span>{}</figcaption>{svg}</figure>\n",
        entry.classes,
        escape(&clip(&entry.label, 60))
    )
}

fn timeline_of(entry: &Entry<'_>, axes: &Axes) -> String {
    let row = entry.row;
    let time = axes.time();
    // Its name stands above it as those of the others do: below, it would lie on the curve while nothing
    // succeeds.
    let success_panel = (TOP + 13.0, TOP + 49.0);
    let latency_panel = (success_panel.1 + GAP, success_panel.1 + GAP + 66.0);
    let pool_panel = (latency_panel.1 + GAP, latency_panel.1 + GAP + 78.0);
    let bottom = pool_panel.1;
    let label = format!("Time line of {}: success, latency, connections", entry.label);
    let mut svg = Svg::new(WIDTH, bottom + 34.0, "fluid", &label);
    axes.draw_time(&mut svg, bottom);
    faults(&mut svg, &time, axes.end_ms, row, bottom);
    let share = Scale::exact(0.0, 1.0, success_panel.1, success_panel.0);
    for (tick, words) in [(0.0, "0 %"), (1.0, "100 %")] {
        svg.line("grid", (LEFT, share.at(tick)), (RIGHT, share.at(tick)));
        svg.text("tick", (LEFT - 6.0, share.at(tick) + 3.5), Anchor::End, words);
    }
    let words = "success, by the moment a request was wanted";
    svg.text("panel", (LEFT + 3.0, success_panel.0 - 4.0), Anchor::Start, words);
    let steps =
        |scale: Scale, value: fn(&Slot) -> Option<f64>| steps(&row.slots, axes, scale, value);
    svg.path("curve ok-line", steps(share, success));

    if let Some((low, high)) = axes.latency {
        let latency = Scale::log(low, high, latency_panel.1, latency_panel.0);
        svg.y_axis(&latency, (LEFT, RIGHT), 4, text::micros);
        svg.text(
            "panel",
            (LEFT + 3.0, latency_panel.0 - 4.0),
            Anchor::Start,
            "latency: p99; dashed: p50",
        );
        svg.path(&format!("curve service {}", entry.classes), steps(latency, |slot| slot.p50_us));
        svg.path(&format!("curve {}", entry.classes), steps(latency, |slot| slot.p99_us));
    }

    let held = Scale::linear(0.0, axes.connections, pool_panel.1, pool_panel.0);
    svg.y_axis(&held, (LEFT, RIGHT), 3, text::figure);
    let known =
        |field: fn(&Slot) -> Option<f64>| row.slots.iter().any(|slot| field(slot).is_some());
    let has_pool = known(|slot| slot.idle) || known(|slot| slot.leased);
    let words = if has_pool {
        format!("connections; line: waiting callers, 0 to {}", text::count(axes.waiting))
    } else {
        "dials in each step".to_owned()
    };
    svg.text("panel", (LEFT + 3.0, pool_panel.0 - 4.0), Anchor::Start, &words);
    if has_pool {
        let places: Vec<(f64, [f64; 4])> = row
            .slots
            .iter()
            .filter_map(|slot| Some((slot.t_ms?, stacked(slot))))
            .flat_map(|(t, levels)| [(time.at(t), levels), (time.at(t + axes.step_ms), levels)])
            .collect();
        let classes = ["st-idle", "st-leased", "st-draining", "st-dialing"];
        for (level, class) in classes.into_iter().enumerate() {
            let upper = places.iter().map(|(x, levels)| (*x, held.at(levels[level])));
            let lower = places.iter().rev().map(|(x, levels)| {
                (*x, held.at(level.checked_sub(1).map_or(0.0, |below| levels[below])))
            });
            svg.area(class, &upper.chain(lower).collect::<Vec<_>>());
        }
        let waiting = Scale::linear(0.0, axes.waiting, pool_panel.1, pool_panel.0);
        svg.path("curve waiting", steps(waiting, |slot| slot.waiting));
        // The scale of the line is another one than that on the left.
        let top = format!("{} waiting", text::count(axes.waiting));
        svg.text("panel", (RIGHT - 2.0, pool_panel.0 + 9.0), Anchor::End, &top);
    } else {
        svg.path(
            &format!("curve {}", entry.classes),
            steps(held, |slot| slot.dials.or(slot.accepted)),
        );
    }
    hits(&mut svg, axes, &row.slots, bottom, slot_words);
    svg.finish()
}

/// A line that stays level over each slot, with a gap where nothing was measured.
fn steps(
    slots: &[Slot],
    axes: &Axes,
    scale: Scale,
    value: impl Fn(&Slot) -> Option<f64>,
) -> impl Iterator<Item = Option<(f64, f64)>> {
    let (time, step) = (axes.time(), axes.step_ms);
    slots.iter().flat_map(move |slot| match (slot.t_ms, value(slot)) {
        (Some(t), Some(value)) => {
            let y = scale.at(value);
            [Some((time.at(t), y)), Some((time.at(t + step), y))]
        }
        _ => [None, None],
    })
}

/// Invisible columns that tell what a slot holds.
fn hits(svg: &mut Svg, axes: &Axes, slots: &[Slot], bottom: f64, words: impl Fn(&Slot) -> String) {
    let time = axes.time();
    for slot in slots {
        let Some(at) = slot.t_ms else { continue };
        let (from, to) = (time.at(at), time.at(at + axes.step_ms));
        svg.rect("hit", (from, TOP), (to - from, bottom - TOP), &tip_text(&words(slot)));
    }
}

/// The share of replies of each backend over time. `None` unless one of two backends was slow: without
/// that every second connection is one of the second backend, and nothing follows from it.
pub fn shares(group: &Group<'_>) -> Option<String> {
    let slow = |event: &&Event| event.kind() == Some("slow-backend");
    if !group.entries.iter().any(|entry| entry.row.events.iter().any(|event| slow(&event))) {
        return None;
    }
    let both = |entry: &&Entry<'_>| {
        entry
            .row
            .slots
            .iter()
            .any(|slot| slot.backends.get(1).is_some_and(|replies| *replies > 0.0))
    };
    let axes = Axes::of(group);
    let mut html = String::new();
    for entry in group.entries.iter().filter(both) {
        let time = axes.time();
        let bottom = TOP + 110.0;
        let label = format!("Share of the second backend over time, {}", entry.label);
        let mut svg = Svg::new(WIDTH, bottom + 34.0, "fluid", &label);
        let share = Scale::exact(0.0, 1.0, bottom, TOP);
        axes.draw_time(&mut svg, bottom);
        faults(&mut svg, &time, axes.end_ms, entry.row, bottom);
        svg.y_axis(&share, (LEFT, RIGHT), 4, |tick| format!("{:.0} %", tick * 100.0));
        let second = |slot: &Slot| {
            let (first, second) = (slot.backends.first()?, slot.backends.get(1)?);
            (first + second > 0.0).then(|| second / (first + second))
        };
        let line: Vec<Option<(f64, f64)>> = steps(&entry.row.slots, &axes, share, second).collect();
        for part in line.split(Option::is_none) {
            let mut area: Vec<(f64, f64)> = part.iter().flatten().copied().collect();
            if let (Some(first), Some(last)) = (area.first().copied(), area.last().copied()) {
                area.extend([(last.0, bottom), (first.0, bottom)]);
            }
            svg.area(&format!("share {}", entry.classes), &area);
        }
        svg.path(&format!("curve {}", entry.classes), line);
        svg.line("even", (LEFT, share.at(0.5)), (RIGHT, share.at(0.5)));
        hits(&mut svg, &axes, &entry.row.slots, bottom, |slot| {
            format!(
                "at {} s\nsecond backend: {} of replies",
                text::or_unknown(slot.t_ms, |t| format!("{:.1}", t / 1e3)),
                text::or_unknown(second(slot), |share| format!("{:.0} %", share * 100.0))
            )
        });
        html.push_str(&strip(entry, &svg.finish()));
    }
    (!html.is_empty()).then_some(html)
}

#[cfg(test)]
mod tests {
    use super::super::group::Model;
    use super::super::input::Source;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fault_without_an_end_lasts_unless_it_is_a_moment() {
        let event = |fault: serde_json::Value| Event { fault, ..Event::default() };
        assert!(event(json!({"fault": "cut", "how": "rst"})).is_moment());
        assert!(event(json!("announce")).is_moment());
        assert!(event(json!(null)).is_moment());
        let mut slow = event(json!({"fault": "slow-dial", "ms": 200}));
        assert!(!slow.is_moment() && !slow.is_condition());
        slow.at_ms = Some(-200.0);
        assert!(slow.is_condition());
    }

    #[test]
    fn waiting_callers_do_not_press_connections_flat() {
        let row = |name: &str, waiting: u32| {
            json!({"protocol": "resp", "scenario": "restart", "contestant": name, "slots": [
                {"t_ms": 0, "ok": 1, "idle": 20, "leased": 20, "draining": 6, "dialing": 4, "waiting": waiting},
            ]})
        };
        let results = json!({"schema": 1, "results": [row("thrift", 500), row("default", 0)]});
        let source = Source::parse("results.json".to_owned(), results.to_string()).unwrap();
        let sources = [source];
        let model = Model::new(&sources);
        let group = &model.groups[0];
        let axes = Axes::of(group);
        assert_eq!((axes.connections, axes.waiting), (50.0, 500.0));
        let html = timeline(group).unwrap();
        for words in ["st-draining", "draining 6", "waiting callers, 0 to 500"] {
            assert!(html.contains(words), "{words}: {html}");
        }
    }

    #[test]
    fn success_counts_what_was_not_started() {
        let slot = |ok, unstarted| Slot { ok, unstarted, ..Slot::default() };
        assert_eq!(success(&slot(Some(3.0), Some(1.0))), Some(0.75));
        assert_eq!(success(&slot(Some(0.0), None)), None);
        assert_eq!(success(&slot(None, None)), None);
    }
}
