//! What people and scripts get to see: tables while the run goes on, files at its end.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use crate::error::BenchError;
use crate::place::Environment;
use crate::run::Outcome;
use crate::run::plan::Plan;

pub mod again;
pub mod calibration;
pub mod detail;
pub mod histogram;
mod html;
pub mod json;
pub mod model;
pub mod noise;
mod open_table;
pub mod output;
pub mod recovery;
pub mod saved;
mod summary;
pub mod sweep;
pub mod table;

use json::Document;
use model::GroupResult;
use noise::MeasuredNoise;
use output::Output;

/// Collects results and writes them.
pub struct Report<'a> {
    plan: &'a Plan,
    environment: Environment,
    output: Output,
    groups: Vec<GroupResult>,
    /// Places in `groups` of the steps of a ladder that is not whole.
    ladder: Vec<usize>,
    faults: Vec<String>,
    /// Said before anything was measured.
    remarks: Vec<String>,
    partial: bool,
}

impl<'a> Report<'a> {
    /// A report without results.
    pub fn new(plan: &'a Plan, environment: Environment, output: Output) -> Self {
        Self {
            plan,
            environment,
            output,
            groups: Vec::new(),
            ladder: Vec::new(),
            faults: Vec::new(),
            remarks: Vec::new(),
            partial: false,
        }
    }

    /// Says what is measured with, and where it runs.
    pub fn print_heading(&self) {
        let Environment { cpu, cores, kernel, placement, .. } = &self.environment;
        let unknown = || "unknown".to_owned();
        self.print(&format!(
            "poolbench {}: {}, {cores} usable, {}\n{placement}\n",
            env!("CARGO_PKG_VERSION"),
            cpu.clone().unwrap_or_else(unknown),
            kernel.clone().unwrap_or_else(unknown),
        ));
    }

    /// Takes a group's results: prints its table and writes its histograms.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the files cannot be written.
    pub fn add(&mut self, mut group: GroupResult) -> Result<(), BenchError> {
        if group.records.iter().all(|record| record.rounds.is_empty()) {
            return Ok(());
        }
        group.noise = MeasuredNoise::of(&group, self.plan.calibration.as_ref());
        match group.step {
            None => self.print(&table::render(&group)),
            // The tables of a ladder are printed when all its steps are there.
            Some(_) => self.ladder.push(self.groups.len()),
        }
        self.output.write_histograms(&group)?;
        let place = place(&group);
        let faults = group.records.iter().chain(&group.twin).flat_map(model::Record::faults);
        self.faults.extend(faults.map(|fault| format!("{place}: {fault}")));
        let whole = group.step.is_some_and(|step| step.index == step.of);
        self.groups.push(group);
        if whole {
            self.print_ladder();
        }
        Ok(())
    }

    /// Prints the tables of the ladder that was played last.
    fn print_ladder(&mut self) {
        let first = std::mem::take(&mut self.ladder).first().copied();
        if let Some(first) = first {
            self.print(&sweep::render(&self.groups[first..]));
        }
    }

    /// Adds a warning of its own.
    pub fn warn(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// The run was interrupted.
    pub fn mark_partial(&mut self) {
        self.partial = true;
    }

    /// Writes the files and says how it went.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the files cannot be written.
    pub fn finish(mut self) -> Result<Outcome, BenchError> {
        // The ladder of an interrupted run is not whole.
        self.print_ladder();
        let warnings = self.warnings();
        let noises = self.groups.iter().filter_map(|group| group.noise.clone());
        let environment = Environment {
            noise: noises.reduce(MeasuredNoise::widest),
            calibration: self.plan.calibration.clone(),
            ..self.environment.clone()
        };
        let document = Document::new(
            self.plan,
            environment,
            &self.groups,
            warnings.clone(),
            self.partial,
            self.output.began(),
        );
        let mut text = serde_json::to_string_pretty(&document).expect("results are valid JSON");
        text.push('\n');
        self.output.write_results(&text)?;
        let pages = self.pages(text)?;
        if self.plan.summary {
            self.print(&summary::render(&self.groups));
        }
        // Faults have a banner of their own.
        for warning in warnings.iter().filter(|warning| !self.faults.contains(warning)) {
            self.print(&format!("warning: {warning}\n"));
        }
        if !self.faults.is_empty() {
            self.print(&banner(&self.faults, self.colours()));
        }
        self.print(&format!(
            "results: {}\n",
            self.output.directory().join("results.json").display()
        ));
        for page in pages {
            self.print(&format!("report: {}\n", page.display()));
        }
        Ok(match (self.faults.is_empty(), self.partial) {
            (false, _) => Outcome::Unsound,
            (true, true) => Outcome::Interrupted,
            (true, false) => Outcome::Done,
        })
    }

    /// Writes the page and, when it is wanted, its tables as Markdown; the paths of both.
    fn pages(&self, results: String) -> Result<Vec<PathBuf>, BenchError> {
        let source = html::input::Source::parse("results.json".to_owned(), results)
            .expect("this program wrote the results");
        let sources = [source];
        let mut pages = vec![self.output.write_page("report.html", &html::page(&sources, None))?];
        if self.plan.markdown {
            let text = html::markdown::document(&sources, None);
            pages.push(self.output.write_page("report.md", &text)?);
        }
        Ok(pages)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.remarks.clone();
        if self.partial {
            warnings.push("interrupted: the results are partial".to_owned());
        }
        if cfg!(debug_assertions) {
            warnings.push(
                "this is a debug build: the figures say nothing, use cargo run --release"
                    .to_owned(),
            );
        }
        if self.environment.cores < 2 {
            warnings
                .push("one processor: client and server share it, ratios are squeezed".to_owned());
        }
        for group in &self.groups {
            for record in &group.records {
                let failed = record.sum(|turn| turn.failures() + turn.timeouts());
                if failed > 0 && record.broke().is_none() {
                    warnings.push(format!(
                        "{} {}: {failed} requests failed or timed out, first: {}",
                        place(group),
                        record.label(),
                        record.first_error().unwrap_or("unknown"),
                    ));
                }
            }
        }
        warnings.extend(self.faults.iter().cloned());
        warnings
    }

    /// Tables go to standard output, unless the JSON is there.
    fn print(&self, text: &str) {
        // A reader that went away misses the table; the files are still written.
        if self.output.json_on_stdout() {
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
        } else {
            drop(std::io::stdout().lock().write_all(text.as_bytes()));
        }
    }

    fn colours(&self) -> bool {
        if self.output.json_on_stdout() {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        }
    }
}

/// The name of a table, and of one rate of a ladder.
fn place(group: &GroupResult) -> String {
    let rate = group.rate().filter(|_| group.step.is_some());
    let rate = rate.map_or(String::new(), |rate| format!(" at {}/s", table::short(rate)));
    format!("{} {}{rate}", group.protocol, group.scenario.name)
}

/// What nobody may overlook.
fn banner(faults: &[String], colours: bool) -> String {
    let (red, plain) = if colours { ("\x1b[1;37;41m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{red}!!! THE COMPARISON FAILED !!!{plain}\n");
    for fault in faults {
        // The words of a server are among these lines.
        text.push_str(&format!("{red}!!!{plain} {}\n", fault.escape_debug()));
    }
    text
}
