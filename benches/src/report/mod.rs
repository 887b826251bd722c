//! What people and scripts get to see: tables while the run goes on, files at its end.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use crate::error::BenchError;
use crate::place::Environment;
use crate::run::Outcome;
use crate::run::plan::Plan;
use crate::stdout;

pub mod again;
pub mod calibration;
mod closed_table;
pub(crate) mod columns;
pub mod detail;
pub mod histogram;
pub(crate) mod html;
pub mod json;
mod lateness;
pub mod model;
pub mod noise;
mod open_table;
pub mod output;
pub mod recovery;
pub mod saved;
mod soundness;
mod stale;
pub mod sweep;
pub mod table;
mod warnings;

use json::Document;
use model::GroupResult;
use noise::MeasuredNoise;
use output::Output;

/// The headline of a run that could not go on.
const ENDED: &str = "THE RUN ENDED EARLY";
/// The headline of a run in which a scenario was cut short, and the next ones were played.
const LOST: &str = "A SCENARIO WAS CUT SHORT";

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
    /// Why the run ended before everything was measured, which no interrupt did.
    ended: Option<String>,
    /// Why scenarios ended early, after which the servers were started again.
    cut_short: Vec<String>,
    /// The first file that could not be written.
    lost: Option<BenchError>,
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
            ended: None,
            cut_short: Vec::new(),
            lost: None,
        }
    }

    /// Says what is measured with, and where it runs.
    pub fn print_heading(&self) {
        let Environment { cpu, cores, kernel, placement, .. } = &self.environment;
        let unknown = || "unknown".to_owned();
        let mut text = String::new();
        let machine = format!(
            "poolbench {}: {}, {cores} usable, {}",
            env!("CARGO_PKG_VERSION"),
            cpu.clone().unwrap_or_else(unknown),
            kernel.clone().unwrap_or_else(unknown),
        );
        columns::wrap(&mut text, "", &machine);
        columns::wrap(&mut text, "", placement);
        self.print(&text);
    }

    /// Takes a group's results: prints its table and writes its histograms. A file that cannot be
    /// written does not keep the others from being written: [`finish`](Self::finish) tells it.
    pub fn add(&mut self, mut group: GroupResult) {
        if group.records.iter().all(|record| record.rounds.is_empty()) {
            return;
        }
        group.noise = MeasuredNoise::of(&group, self.plan.calibration.as_ref());
        match group.step {
            None => self.print(&table::render(&group, self.plan.look())),
            // The tables of a ladder are printed when all its steps are there.
            Some(_) => self.ladder.push(self.groups.len()),
        }
        let written = self.output.write_histograms(&group);
        self.keep_error(written);
        let place = place(&group);
        let faults = group.records.iter().chain(&group.twin).flat_map(model::Record::faults);
        self.faults.extend(faults.map(|fault| format!("{place}: {fault}")));
        let whole = group.step.is_some_and(|step| step.index == step.of);
        self.groups.push(group);
        if whole {
            self.print_ladder();
        }
    }

    fn keep_error(&mut self, written: Result<(), BenchError>) {
        if let Err(error) = written {
            self.lost.get_or_insert(error);
        }
    }

    /// Prints the tables of the ladder that was played last.
    fn print_ladder(&mut self) {
        let first = std::mem::take(&mut self.ladder).first().copied();
        if let Some(first) = first {
            self.print(&sweep::render(&self.groups[first..]));
        }
    }

    /// Adds a warning that does not come from the results.
    pub fn warn(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// The run did not come to its end.
    pub fn mark_partial(&mut self) {
        self.partial = true;
    }

    /// The run cannot go on: the server is gone.
    pub fn mark_ended(&mut self, why: String) {
        self.partial = true;
        self.ended = Some(why);
    }

    /// A scenario could not go on: its server was gone, and was started again for the next one.
    pub fn mark_lost(&mut self, why: String) {
        self.partial = true;
        self.cut_short.push(why);
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
        let written = self.output.write_results(&text);
        let has_results = written.is_ok();
        self.keep_error(written);
        let source = html::input::Source::parse("results.json".to_owned(), text)
            .expect("this program wrote the results");
        let sources = [source];
        let pages = self.pages(&sources);
        // These warnings are printed as banners.
        let has_banner = |warning: &&String| {
            self.faults.contains(warning) || warning.starts_with(ENDED) || warning.starts_with(LOST)
        };
        // The summary is the end of the run, and stays on the screen.
        for warning in warnings.iter().filter(|warning| !has_banner(warning)) {
            let mut text = String::new();
            columns::wrap(&mut text, "warning: ", warning);
            self.print(&text);
        }
        if self.plan.summary {
            self.print(&html::summary::render(&sources));
        }
        if !self.faults.is_empty() {
            self.print(&banner("THE COMPARISON FAILED", &self.faults, self.colours()));
        }
        if !self.cut_short.is_empty() {
            let kept = "what it measured until then is kept, and marked partial; the servers were started again";
            let lines = [&self.cut_short[..], &[kept.to_owned()]].concat();
            self.print(&banner(LOST, &lines, self.colours()));
        }
        if let Some(why) = &self.ended {
            let kept = "what was measured until then is kept, and marked partial".to_owned();
            self.print(&banner(ENDED, &[why.clone(), kept], self.colours()));
        }
        if has_results {
            let results = self.output.directory().join("results.json");
            self.print(&format!("results: {}\n", results.display()));
        }
        for page in pages {
            self.print(&format!("report: {}\n", page.display()));
        }
        let sound = self.faults.is_empty() && self.ended.is_none() && self.cut_short.is_empty();
        if let Some(error) = self.lost {
            return Err(error);
        }
        Ok(match (sound, self.partial) {
            (false, _) => Outcome::Unsound,
            (true, true) if stdout::reader_is_gone() => Outcome::Cut,
            (true, true) => Outcome::Interrupted,
            (true, false) => Outcome::Done,
        })
    }

    /// Writes the page and, when it is wanted, its tables as Markdown; the paths of what was written.
    fn pages(&mut self, sources: &[html::input::Source]) -> Vec<PathBuf> {
        let mut pages = vec![("report.html", html::page(sources, None))];
        if self.plan.markdown {
            pages.push(("report.md", html::markdown::document(sources, None)));
        }
        let mut written = Vec::new();
        for (name, text) in pages {
            match self.output.write_page(name, &text) {
                Ok(path) => written.push(path),
                Err(error) => self.keep_error(Err(error)),
            }
        }
        written
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.remarks.clone();
        let cut_short = self.cut_short.iter();
        warnings.extend(cut_short.map(|why| format!("{LOST}: {why}: its results are partial")));
        match &self.ended {
            Some(why) => warnings.push(format!("{ENDED}: {why}: the results are partial")),
            None if self.partial && self.cut_short.is_empty() => {
                warnings
                    .push("the run did not come to its end: the results are partial".to_owned());
            }
            None => {}
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
        warnings.extend(warnings::of_all(&self.groups));
        warnings.extend(self.faults.iter().cloned());
        warnings
    }

    /// Tables go to standard output, unless the JSON is there.
    fn print(&self, text: &str) {
        if self.output.json_on_stdout() {
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
        } else {
            // `stdout::check` reports a failure at the end; the files are still written.
            stdout::print(text);
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
    let rate = rate.map_or(String::new(), |rate| format!(" at {}/s", columns::short(rate)));
    format!("{} {}{rate}", group.protocol, group.scenario.name)
}

/// A banner for what the reader must not overlook.
fn banner(title: &str, faults: &[String], colours: bool) -> String {
    let (red, plain) = if colours { ("\x1b[1;37;41m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{red}!!! {title} !!!{plain}\n");
    for fault in faults {
        // The words of a server are among these lines.
        text.push_str(&format!("{red}!!!{plain} {}\n", fault.escape_debug()));
    }
    text
}
