//! A table that fits the screen: one figure in a cell, and its unit in the title. Columns that do not fit
//! are left out, the least important first.

use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::model::Record;
use super::noise;
use crate::measure::{Percentiles, Spread};

/// Stands where nothing was measured.
pub(super) const UNKNOWN: &str = "-";

/// The usual width of a terminal, in columns.
pub(super) const SCREEN: usize = 80;

/// When a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    /// With `--wide` only.
    Wide,
    /// As long as it fits and something is known; the column with the lowest number goes first.
    Fits(u8),
    /// In every table.
    Always,
}

/// One of the percentiles.
pub(super) type Pick = fn(Percentiles) -> f64;

struct Column {
    title: &'static str,
    keep: Keep,
    cells: Vec<String>,
}

/// A table that is being built: a row for each entry, and columns one after the other.
pub(super) struct Columns<'a> {
    rows: Vec<&'a Record>,
    columns: Vec<Column>,
}

impl<'a> Columns<'a> {
    /// A table with a row for each of these entries, and so far only the column of their names.
    pub(super) fn new(rows: Vec<&'a Record>, name: impl Fn(&'a Record) -> String) -> Self {
        let mut table = Self { rows, columns: Vec::new() };
        table.add("contestant", Keep::Always, name);
        table
    }

    /// One more column. A line break in the title puts its end, usually the unit, on the second line.
    pub(super) fn add(
        &mut self,
        title: &'static str,
        keep: Keep,
        cell: impl Fn(&'a Record) -> String,
    ) {
        let cells = self.rows.iter().map(|record| cell(record)).collect();
        self.columns.push(Column { title, keep, cells });
    }

    /// Puts letters behind the cells of the column with this title.
    pub(super) fn mark(&mut self, title: &str, letters: &[String]) {
        if let Some(column) = self.columns.iter_mut().find(|column| column.title == title) {
            column.cells = noise::beside(std::mem::take(&mut column.cells), letters);
        }
    }

    /// The entries, in the order of the rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a Record> {
        self.rows.iter().copied()
    }

    /// The lines of the table, and the titles of columns that had values and did not fit.
    pub(super) fn render(mut self, wide: bool) -> (String, Vec<String>) {
        let mut left_out = Vec::new();
        if !wide {
            let known = |column: &Column| column.cells.iter().any(|cell| cell != UNKNOWN);
            self.columns.retain(|column| match column.keep {
                Keep::Always => true,
                Keep::Fits(_) => known(column),
                Keep::Wide => false,
            });
        }
        loop {
            let lines: Vec<String> =
                self.table().lines().map(|line| line.trim_end().to_owned()).collect();
            let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            let weakest = self.weakest().filter(|_| !wide && width > SCREEN);
            let Some(weakest) = weakest else {
                return (lines.join("\n") + "\n", left_out);
            };
            left_out.push(self.columns.remove(weakest).title.replace('\n', " "));
        }
    }

    /// The place of the column that is left out first when there is no room.
    fn weakest(&self) -> Option<usize> {
        let rank = |column: &Column| match column.keep {
            Keep::Fits(rank) => Some(rank),
            Keep::Wide | Keep::Always => None,
        };
        let ranked = self.columns.iter().enumerate();
        let ranked = ranked.filter_map(|(at, column)| Some((rank(column)?, at)));
        ranked.min().map(|(_, at)| at)
    }

    fn table(&self) -> Table {
        let mut table = plain_table(self.columns.iter().map(|column| column.title));
        let rows = self.columns.first().map_or(0, |column| column.cells.len());
        for row in 0..rows {
            table.add_row(self.columns.iter().map(|column| column.cells[row].as_str()));
        }
        table
    }
}

/// A table without lines: names on the left, figures on the right, a space between columns.
pub(super) fn plain_table<'a>(titles: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.into_iter().collect::<Vec<_>>());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((u16::from(index > 0), 0));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Appends words, broken where the screen ends. Lines after the first are indented.
pub(super) fn wrap(text: &mut String, lead: &str, words: &str) {
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > SCREEN {
            text.push_str(&line);
            text.push('\n');
            line = "    ".to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// A count, or [`UNKNOWN`].
pub(super) fn number(value: Option<u64>) -> String {
    figure(value.map(|value| value as f64))
}

/// Three digits are enough for people.
pub(super) fn figure(value: Option<f64>) -> String {
    or_unknown(value.map(short))
}

/// Three digits and the letter of their magnitude: never more than five letters.
pub(crate) fn short(value: f64) -> String {
    let (mut value, mut letters) = (value, ["", "k", "M", "G", "T", "P"].into_iter());
    let mut letter = letters.next().unwrap_or_default();
    while value >= 999.5
        && let Some(next) = letters.next()
    {
        (value, letter) = (value / 1000.0, next);
    }
    match value {
        v if v >= 99.95 || (v == v.trunc() && letter.is_empty()) => format!("{v:.0}{letter}"),
        v if v >= 9.995 => format!("{v:.1}{letter}"),
        v => format!("{v:.2}{letter}"),
    }
}

/// The median with half the distance between the extremes. For a single round only the value.
pub(super) fn ratio(spread: Option<Spread>) -> String {
    or_unknown(spread.map(|spread| {
        if spread.count < 2 {
            return match spread.median {
                value if value >= 100.0 => short(value),
                value if value >= 10.0 => format!("{value:.1}"),
                value => format!("{value:.2}"),
            };
        }
        let half = (spread.high - spread.low) / 2.0;
        if spread.median >= 100.0 || half >= 100.0 {
            return format!("{}±{}", short(spread.median), short(half));
        }
        let digits = if spread.median < 10.0 { 2 } else { 1 };
        let half = format!("{half:.digits$}");
        format!("{:.digits$}±{}", spread.median, half.trim_start_matches('0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.234, "1.23"),
            (50.0, "50"),
            (12.34, "12.3"),
            (99.97, "100"),
            (999.4, "999"),
            (9_999.0, "10.0k"),
            (1_234.0, "1.23k"),
            (123_456.0, "123k"),
            (999_700.0, "1.00M"),
            (1_234_567.0, "1.23M"),
            (123_456_789.0, "123M"),
            (60_000_000_000.0, "60.0G"),
        ] {
            assert_eq!(short(value), text);
        }
        let spread = Spread { median: 1.234, low: 1.2, high: 1.3, count: 3 };
        assert_eq!(ratio(Some(spread)), "1.23±.05");
        let spread = Spread { median: 12_345.6, low: 1.2, high: 40_000.0, count: 3 };
        assert_eq!(ratio(Some(spread)), "12.3k±20.0k");
    }

    #[test]
    fn a_single_round_has_no_range() {
        for (value, text) in [(0.171, "0.17"), (12.34, "12.3"), (12_345.6, "12.3k")] {
            assert_eq!(ratio(Spread::of([value])), text);
        }
        assert_eq!(ratio(Spread::of([1.0, 1.0])), "1.00±.00");
    }

    #[test]
    fn long_words_are_broken_at_the_end_of_the_screen() {
        let mut text = String::new();
        wrap(&mut text, "  ", &"word ".repeat(60));
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.len() <= SCREEN), "{text}");
        assert_eq!(text.split_whitespace().count(), 60);
    }

    #[test]
    fn the_weakest_columns_give_way_and_are_named() {
        let mut table = Columns { rows: Vec::new(), columns: Vec::new() };
        let mut add = |title, keep, cell: &str| {
            table.columns.push(Column { title, keep, cells: vec![cell.to_owned()] });
        };
        add("name", Keep::Always, "twelve signs");
        add("most\nimportant", Keep::Fits(9), &"a".repeat(40));
        add("less\nimportant", Keep::Fits(1), &"b".repeat(40));
        add("unknown", Keep::Fits(0), UNKNOWN);
        add("never", Keep::Wide, "y");
        let (text, left_out) = table.render(false);
        assert!(text.contains("most") && !text.contains("less"), "{text}");
        assert!(!text.contains("never") && !text.contains("unknown"), "{text}");
        assert_eq!(left_out, ["less important"]);
    }
}
