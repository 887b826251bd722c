//! Drawing: scales, axes and marks as SVG text. The same input gives the same bytes.

use std::fmt::Write;

use super::group::Entry;
use super::text::escape;

/// Maps values to places.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A linear scale from zero, or from `low` when that is below, to a round number above `high`.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = (finite(low), finite(high));
        let high = if high > low { high } else { low + 1.0 };
        let step = step((high - low) / 4.0);
        Self {
            log: false,
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            from,
            to,
        }
    }

    /// A linear scale that ends exactly at its bounds.
    pub fn exact(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = (finite(low), finite(high));
        Self { log: false, low, high: if high > low { high } else { low + 1.0 }, from, to }
    }

    /// A logarithmic scale between round numbers that include both bounds.
    pub fn log(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = finite(low).max(1e-9);
        let high = finite(high).max(low * 1.5);
        let round = |value: f64, up: bool| {
            let power = 10_f64.powf(value.log10().floor());
            let mantissa = value / power;
            let steps = [1.0, 2.0, 5.0, 10.0];
            let near = 1e-9;
            let found = if up {
                steps.into_iter().find(|step| *step >= mantissa - near)
            } else {
                steps.into_iter().rev().find(|step| *step <= mantissa + near)
            };
            found.unwrap_or(1.0) * power
        };
        Self { log: true, low: round(low, false), high: round(high, true), from, to }
    }

    /// The place of a value, never outside the scale.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.from + share * (self.to - self.from)
    }

    /// Round values for the axis, at most about `most`.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        let mut ticks = Vec::new();
        if self.log {
            let decades = (self.high / self.low).log10().round().max(1.0) as usize;
            let steps: &[f64] = if decades * 3 <= most { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let every = (decades + 1).div_ceil(most).max(1) as i32;
            let first = self.low.log10().floor() as i32;
            let last = self.high.log10().ceil() as i32;
            for decade in (first..=last).filter(|decade| (decade - first) % every == 0) {
                ticks.extend(steps.iter().map(|step| step * 10_f64.powi(decade)));
            }
        } else {
            let step = step((self.high - self.low) / most as f64);
            let first = (self.low / step).ceil() as i64;
            ticks.extend((first..first + 50).map(|index| index as f64 * step));
        }
        let (low, high) = (self.low * (1.0 - 1e-9), self.high + self.high.abs() * 1e-9);
        ticks.retain(|tick| *tick >= low - 1e-12 && *tick <= high);
        ticks
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value.clamp(-1e15, 1e15) } else { 0.0 }
}

/// The round number at or above `least`.
fn step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let found = steps.into_iter().find(|step| step * power >= least * (1.0 - 1e-9));
    found.unwrap_or(10.0) * power
}

/// A place with one decimal, as short as it goes.
pub fn n(value: f64) -> String {
    let value = if value.is_finite() { (value * 10.0).round() / 10.0 } else { 0.0 };
    format!("{}", if value == 0.0 { 0.0 } else { value })
}

/// A picture being drawn.
#[derive(Debug)]
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
    class: &'static str,
    label: String,
}

/// Which part of a text is at its place.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty picture. The label describes it for screen readers.
    pub fn new(width: f64, height: f64, class: &'static str, label: &str) -> Self {
        Self { body: String::new(), width, height, class, label: escape(label) }
    }

    /// The element.
    pub fn finish(self) -> String {
        let Self { body, width, height, class, label } = self;
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" aria-label=\"{label}\">{body}</svg>\n",
            n(width),
            n(height),
            n(width),
            n(height),
        )
    }

    fn add(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.body.write_fmt(arguments).expect("a string takes everything");
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(format_args!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            n(x1),
            n(y1),
            n(x2),
            n(y2)
        ));
    }

    /// A line through points; a gap where a point is missing.
    pub fn path(&mut self, class: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let mut path = String::new();
        let mut pen_up = true;
        for point in points {
            if let Some((x, y)) = point {
                let letter = if pen_up { 'M' } else { 'L' };
                write!(path, "{letter}{} {}", n(x), n(y)).expect("a string takes everything");
            }
            pen_up = point.is_none();
        }
        if !path.is_empty() {
            self.add(format_args!("<path class=\"mark {class}\" d=\"{path}\"/>"));
        }
    }

    /// Strokes that are drawn already, as the commands of a path.
    pub fn strokes(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            self.add(format_args!("<path class=\"mark {class}\" d=\"{path}\"/>"));
        }
    }

    /// A filled polygon.
    pub fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() < 3 {
            return;
        }
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", n(*x), n(*y))).collect();
        self.add(format_args!("<polygon class=\"mark {class}\" points=\"{}\"/>", points.join(" ")));
    }

    /// A box, with words that appear when it is pointed at.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), tip: &str) {
        let tip = if tip.is_empty() { String::new() } else { format!(" data-tip=\"{tip}\"") };
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{tip}/>",
            n(x),
            n(y),
            n(w.max(0.0)),
            n(h.max(0.0))
        ));
    }

    /// A point in one of several shapes, so that colour is not all that tells contestants apart.
    /// `tip` is escaped already.
    pub fn point(&mut self, class: &str, shape: usize, (x, y): (f64, f64), tip: &str) {
        const R: f64 = 3.6;
        let path = match shape {
            0 => format!("M{} {}a{R} {R} 0 1 0 7.2 0a{R} {R} 0 1 0 -7.2 0z", n(x - R), n(y)),
            1 => format!("M{} {}h6.4v6.4h-6.4z", n(x - 3.2), n(y - 3.2)),
            2 => format!("M{} {}l4.2 7.2h-8.4z", n(x), n(y - 4.4)),
            3 => format!("M{} {}l4.4 4.4l-4.4 4.4l-4.4 -4.4z", n(x), n(y - 4.4)),
            4 => format!("M{} {}l4.2 -7.2h-8.4z", n(x), n(y + 4.4)),
            5 => format!(
                "M{} {}h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
                n(x - 1.2),
                n(y - 4.0)
            ),
            6 => format!("M{} {}h8v2.6h-8z", n(x - 4.0), n(y - 1.3)),
            _ => format!(
                "M{} {}l1.8 -1.8l7 7l-1.8 1.8zM{} {}l1.8 1.8l7 -7l-1.8 -1.8z",
                n(x - 4.4),
                n(y - 2.6),
                n(x - 4.4),
                n(y + 2.6)
            ),
        };
        self.add(format_args!("<path class=\"mark pt {class}\" d=\"{path}\" data-tip=\"{tip}\"/>"));
    }

    /// Words. They are escaped here.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\"{anchor}>{}</text>",
            n(x),
            n(y),
            escape(words)
        ));
    }

    /// Grid lines and labels of a vertical axis.
    pub fn y_axis(
        &mut self,
        scale: &Scale,
        (left, right): (f64, f64),
        most: usize,
        words: impl Fn(f64) -> String,
    ) {
        for tick in scale.ticks(most) {
            let y = scale.at(tick);
            self.line("grid", (left, y), (right, y));
            self.text("tick", (left - 6.0, y + 3.5), Anchor::End, &words(tick));
        }
    }

    /// Grid lines and labels of a horizontal axis.
    pub fn x_axis(&mut self, scale: &Scale, (top, bottom): (f64, f64), ticks: &[(f64, String)]) {
        for (tick, words) in ticks {
            let x = scale.at(*tick);
            self.line("grid", (x, top), (x, bottom));
            self.text("tick", (x, bottom + 15.0), Anchor::Middle, words);
        }
    }
}

/// How many lines the name of a row takes that is at most so wide.
pub fn row_lines(entry: &Entry<'_>, most: f64) -> usize {
    if entry.lines.1.is_empty() || fit(&entry.label, most) == entry.label { 1 } else { 2 }
}

/// The name of a row, at most so wide: in one line, or in two where it would be cut off.
pub fn row_name(svg: &mut Svg, entry: &Entry<'_>, (x, y): (f64, f64), anchor: Anchor, most: f64) {
    let class = format!("name {}", entry.classes);
    let (first, second) = &entry.lines;
    if row_lines(entry, most) == 1 {
        return svg.text(&class, (x, y), anchor, &fit(&entry.label, most));
    }
    svg.text(&class, (x, y - 6.0), anchor, &fit(first, most));
    svg.text(&class, (x, y + 6.0), anchor, &fit(second, most));
}

/// The start of a text that is at most so wide when it is set bold, and a mark where the rest was
/// cut off. Fonts differ; this takes the widest usual one.
pub fn fit(words: &str, most: f64) -> String {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '-' => 4.8,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 12.2,
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => 7.8,
        c if c.is_ascii() || c == '·' => 9.4,
        _ => 13.0,
    };
    let length: f64 = words.chars().map(width).sum();
    if length <= most {
        return words.to_owned();
    }
    let mut left = most - 11.0;
    let mut fitting: String = words
        .chars()
        .take_while(|character| {
            left -= width(*character);
            left >= 0.0
        })
        .collect();
    fitting.push('…');
    fitting
}

/// Moves places apart until they are `gap` from each other, within the bounds; their order stays.
pub fn apart(places: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let mut moved = places.to_vec();
    let mut least = low;
    for index in &order {
        moved[*index] = moved[*index].max(least);
        least = moved[*index] + gap;
    }
    let mut most = high;
    for index in order.iter().rev() {
        moved[*index] = moved[*index].min(most);
        most = moved[*index] - gap;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_hold_their_values() {
        let scale = Scale::linear(0.0, 87.0, 100.0, 0.0);
        assert_eq!(scale.at(0.0), 100.0);
        assert_eq!(scale.at(100.0), 0.0);
        assert_eq!(scale.ticks(5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let scale = Scale::log(130.0, 40_000.0, 0.0, 1.0);
        assert_eq!(scale.at(100.0), 0.0);
        assert!((scale.at(50_000.0) - 1.0).abs() < 1e-9);
        assert_eq!(scale.ticks(4), [100.0, 1000.0, 10_000.0]);
    }

    #[test]
    fn odd_values_stay_on_the_page() {
        for scale in [
            Scale::linear(f64::NAN, f64::INFINITY, 0.0, 10.0),
            Scale::linear(0.0, 0.0, 0.0, 10.0),
            Scale::log(0.0, 0.0, 0.0, 10.0),
            Scale::log(1e300, -1.0, 0.0, 10.0),
        ] {
            for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e308] {
                assert!((0.0..=10.0).contains(&scale.at(value)), "{scale:?} {value}");
            }
            assert!(scale.ticks(5).len() < 60, "{scale:?}");
        }
        assert_eq!(n(-0.01), "0");
        assert_eq!(n(f64::NAN), "0");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(fit("redigo", 60.0), "redigo");
        assert_eq!(fit("WWWWWW", 60.0), "WWWW…");
        assert_eq!(fit("redigo", 0.0), "…");
    }

    #[test]
    fn labels_move_apart() {
        let moved = apart(&[10.0, 11.0, 9.0], 5.0, 0.0, 100.0);
        assert_eq!(moved, [14.0, 19.0, 9.0]);
        let moved = apart(&[99.0, 98.0], 5.0, 0.0, 100.0);
        assert_eq!(moved, [100.0, 95.0]);
    }
}
