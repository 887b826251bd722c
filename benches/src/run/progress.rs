//! Progress on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal. Drawn between turns only, never while something is measured.
    Bar(ProgressBar),
    /// One line for each round.
    Lines,
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// Chooses the way for `turns` turns.
    pub fn new(quiet: bool, turns: u64) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} turns, {eta} left  {msg}")
                    .expect("the template is valid");
            Self::Bar(ProgressBar::new(turns).with_style(style))
        } else {
            Self::Lines
        }
    }

    /// A round begins.
    pub fn round(&self, line: &str) {
        if let Self::Lines = self {
            write_line(line);
        }
    }

    /// A turn begins.
    pub fn turn(&self, what: String) {
        if let Self::Bar(bar) = self {
            bar.set_message(what);
        }
    }

    /// A turn is over.
    pub fn turn_is_over(&self) {
        if let Self::Bar(bar) = self {
            bar.inc(1);
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
            Self::Lines | Self::Quiet => print(),
        }
    }
}

fn write_line(line: &str) {
    // Nobody reads standard error: nothing can be said about that.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}
