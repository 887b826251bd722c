//! Rows that are not compared, and why: a line for each scenario and reason.

use crate::report::saved::Row;

/// Rows of one scenario that are left out for one reason.
#[derive(Debug)]
struct Together {
    /// Protocol and scenario.
    place: String,
    why: String,
    rows: Vec<String>,
}

/// What was left out so far, in the order in which it was found.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Vec<Together>);

impl LeftOut {
    /// Notes a row.
    pub(super) fn add(&mut self, row: &Row, why: &str) {
        let parts = [&row.protocol, &row.scenario].map(|part| part.as_deref().unwrap_or("?"));
        let place = parts.join(" ");
        let name = row.name();
        let own = name.strip_prefix(&place).map_or(name.as_str(), str::trim_start).to_owned();
        match self.0.iter_mut().find(|other| other.place == place && other.why == why) {
            Some(other) => other.rows.push(own),
            None => self.0.push(Together { place, why: why.to_owned(), rows: vec![own] }),
        }
    }

    /// The lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |Together { place, why, rows }: &Together| match rows.as_slice() {
            [row] => format!("{place} {row}: {why}"),
            rows => format!("{place}, {} rows ({}): {why}", rows.len(), rows.join(", ")),
        };
        self.0.iter().map(line).collect()
    }
}
