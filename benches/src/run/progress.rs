//! Progress on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// If nothing was printed for this long, the next turn has a line of its own.
const SILENCE: Duration = Duration::from_secs(5);

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal. Drawn between turns only, never while something is measured.
    Bar(ProgressBar),
    /// One line for each round, and for turns of a long one.
    Lines(Lines),
    /// Nowhere.
    Quiet,
}

/// The state of progress that is shown in lines.
#[derive(Debug)]
pub struct Lines {
    turns: u64,
    done: Cell<u64>,
    last: Cell<Instant>,
}

impl Progress {
    /// Chooses where progress of `turns` turns is shown.
    pub fn new(quiet: bool, turns: u64) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} turns, {eta} left  {msg}")
                    .expect("the template is valid");
            Self::Bar(ProgressBar::new(turns).with_style(style))
        } else {
            Self::Lines(Lines { turns, done: Cell::new(0), last: Cell::new(Instant::now()) })
        }
    }

    /// A round begins.
    pub fn round(&self, line: &str) {
        if let Self::Lines(lines) = self {
            write_line(&lines.line(line, Instant::now()));
        }
    }

    /// A turn begins.
    pub fn turn(&self, what: String) {
        match self {
            Self::Bar(bar) => bar.set_message(what),
            Self::Lines(lines) => {
                if let Some(line) = lines.after_silence(&what, Instant::now()) {
                    write_line(&line);
                }
            }
            Self::Quiet => {}
        }
    }

    /// A turn is over.
    pub fn turn_is_over(&self) {
        match self {
            Self::Bar(bar) => bar.inc(1),
            Self::Lines(lines) => lines.done.set(lines.done.get() + 1),
            Self::Quiet => {}
        }
    }

    /// Everything is over: the bar goes.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    /// Prints to standard output without disturbing the bar.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match self {
            Self::Bar(bar) => bar.suspend(print),
            Self::Lines(_) | Self::Quiet => print(),
        }
    }
}

impl Lines {
    /// A line with the number of turns that are done.
    fn line(&self, what: &str, now: Instant) -> String {
        self.last.set(now);
        format!("{what} ({} of {} turns done)", self.done.get(), self.turns)
    }

    /// The same, but only if nothing was printed for [`SILENCE`].
    fn after_silence(&self, what: &str, now: Instant) -> Option<String> {
        (now.duration_since(self.last.get()) >= SILENCE).then(|| self.line(what, now))
    }
}

fn write_line(line: &str) {
    // Standard error is closed, so the failure cannot be reported.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_round_has_lines_for_its_turns() {
        let now = Instant::now();
        let lines = Lines { turns: 9, done: Cell::new(0), last: Cell::new(now) };
        assert_eq!(
            lines.line("restart: round 1 of 1", now),
            "restart: round 1 of 1 (0 of 9 turns done)"
        );
        assert_eq!(lines.after_silence("restart: redigo", now), None);
        let progress = Progress::Lines(lines);
        progress.turn_is_over();
        let Progress::Lines(lines) = progress else { unreachable!() };
        let line = lines.after_silence("restart: redigo", now + SILENCE);
        assert_eq!(line.as_deref(), Some("restart: redigo (1 of 9 turns done)"));
        assert_eq!(lines.after_silence("restart: grpc", now + SILENCE), None, "it was just told");
    }
}
