//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};

use crate::compare::expression::Expression;
use crate::error::BenchError;
use crate::fault::Fault;
use crate::run::worker::{Worker, parse_start};
use crate::scenario::demand::{Arrivals, Budget, Rate};
use crate::scenario::ladder::Sweep;

/// Compares connection-pooling strategies side by side on real sockets.
///
/// Without a command it runs the default comparison: every protocol, every contestant, embedded
/// servers, in about two minutes.
#[derive(Debug, Parser)]
#[command(name = "poolbench", bin_name = "poolbench", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, which is the default.
    #[command(flatten)]
    pub run: RunArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a reply mismatch, a duplicate, a leak, a contestant that broke, a \
server that is gone in the middle, or output that could not be written, as on a full disk; 2 bad usage, or a target \
that cannot be reached, said before anything is measured; 130 interrupted, 141 the reader of standard output has gone \
(| head): what was measured until then was sound and is kept.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a comparison: without options the default one, as no command does; with any, of steady alone
    /// where no scenario is named, each scenario with its own duration, rounds and callers
    Run(Box<RunArgs>),
    /// Lists protocols, contestants, scenarios and knobs
    List(ListArgs),
    /// Explains a profile, question by question, each choice with its source; or a scenario, or a knob
    Explain(ExplainArgs),
    /// Runs the embedded servers until it is interrupted, and prints their addresses as one JSON line
    Serve(ServeArgs),
    /// Says whether two runs differ beyond the noise, and by how much, and what its rounds could have shown.
    /// On a busy machine 5 % in processor time takes some 300 rounds of each build, played in turn: see
    /// docs/measuring.md
    Compare(crate::compare::CompareArgs),
    /// Makes the results of several workers into one; histograms are merged, percentiles never averaged
    Merge(crate::merge::MergeArgs),
    /// Measures what this machine can measure: A/A noise, timers, loopback, the generator's ceiling
    Calibrate(crate::calibrate::CalibrateArgs),
    /// Makes the HTML page again from saved results; several files are laid side by side
    Report(ReportArgs),
}

/// Options of `run`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = RUN_DEFAULTS)]
pub struct RunArgs {
    /// Protocols: http1, http2, resp, framed [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub protocol: Vec<String>,
    /// Contestants, see `poolbench list` [default: all that fit the protocol]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub contestant: Vec<String>,
    /// The rivals take part, too: other clients, see docs/rivals.md (needs the cargo feature peers)
    #[arg(long)]
    pub peers: bool,
    /// Scenarios, see `poolbench list` [default: steady]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Measured time of each turn, as 500ms or 2s [default: the scenario's, steady: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Turns of each contestant; they are interleaved [default: the scenario's, steady: 5]
    #[arg(long, value_name = "N", value_parser = parse_rounds, allow_hyphen_values = true)]
    pub rounds: Option<u32>,
    /// Callers that send at the same time [default: 50; reuse: 1]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    pub callers: Option<usize>,
    /// Open loop at this rate: requests per second (5000), or a share of the limit's throughput (60%)
    #[arg(long, value_name = "RATE", value_parser = parse_rate, allow_hyphen_values = true)]
    pub rate: Option<Rate>,
    /// Open loop at ten rates, one after the other, and the knee of each contestant: shares of the limit's
    /// throughput (20..110%), or requests per second (1000..20000) [scenario: paced; turns: 2 of 500ms]
    #[arg(long, value_name = "RATES", value_parser = Sweep::parse, conflicts_with = "rate")]
    pub sweep: Option<Sweep>,
    /// How arrivals of a rate are spread: uniform or poisson [default: uniform]
    #[arg(long, value_name = "HOW", value_parser = parse_arrivals)]
    pub arrivals: Option<Arrivals>,
    /// Most requests in flight in an open loop; requests that cannot start are counted [default: 1000]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    pub max_in_flight: Option<usize>,
    /// Limits of connections: same (--connections for all) or own (each strategy as it ships)
    /// [default: same; burst: own]
    #[arg(long, value_name = "WHOSE", value_parser = parse_budget)]
    pub budget: Option<Budget>,
    /// Connections that a contestant may open and keep [default: 50; limits, session: 8; reuse: 1]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    pub connections: Option<usize>,
    /// Seed of the order of contestants [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub seed: Option<u64>,
    /// Changes one knob of every profile, see `poolbench list` (repeatable)
    #[arg(long, value_name = "KNOB=VALUE")]
    pub set: Vec<String>,
    /// Your own server instead of the embedded one: http://, h2c:// or redis://. Faults come from a relay in
    /// front of it
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// One of several workers in front of one --target, as 1/3: it offers its share of callers and of the
    /// rate; poolbench merge puts the results together
    #[arg(long, value_name = "I/N", value_parser = Worker::parse, requires = "start_at")]
    pub worker: Option<Worker>,
    /// When a worker begins: RFC 3339 (2026-01-31T12:00:00Z), or seconds from now (+10)
    #[arg(long, value_name = "TIME", value_parser = parse_start, requires = "worker")]
    pub start_at: Option<SystemTime>,
    /// Method of the requests, over http1 and http2 [default: GET; with --body-size POST]
    #[arg(long, value_name = "NAME")]
    pub method: Option<String>,
    /// Path of the requests, over http1 and http2 [default: that of --target, or /]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Bytes that each request carries as its body, over http1 and http2
    #[arg(long, value_name = "N", value_parser = crate::ask::parse_body_size, allow_hyphen_values = true)]
    pub body_size: Option<usize>,
    /// Redis command to send instead of ECHO, as "GET key"; its words are separated by spaces
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Pause of a caller between a reply and its next request, in a closed loop; timers have steps of 1ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub think_time: Option<Duration>,
    /// Models of the embedded servers, see `poolbench serve --help` (repeatable)
    #[arg(long, value_name = "NAME")]
    pub model: Vec<String>,
    /// Directory for results.json and histograms [default: target/poolbench]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Writes the results here as well; - is standard output, which then has no tables
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keeps the results as a baseline, in `baselines` beside the directory of --out
    #[arg(long, value_name = "NAME", value_parser = crate::compare::parse_name)]
    pub save_baseline: Option<String>,
    /// Compares the results with this baseline at the end
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Ends with exit code 1 when a contestant misses this, as 'p99<2ms' (repeatable; figures: throughput,
    /// cpu, p50, p99, p999, errors)
    #[arg(long, value_name = "EXPR", value_parser = Expression::parse_requirement)]
    pub require: Vec<Expression>,
    /// Also writes report.md, the tables for a pull request
    #[arg(long)]
    pub markdown: bool,
    /// Tables have every figure; without it they fit 80 columns
    #[arg(long)]
    pub wide: bool,
    /// No progress on standard error
    #[arg(long)]
    pub quiet: bool,
}

const RUN_DEFAULTS: &str = "When none of --protocol, --contestant, --scenario, --duration, --rounds, --callers, \
--connections, --peers, --set, --target, --model and of the options for a request of your own is given, the scenarios that show most are run with short turns, about two \
minutes in all. As soon as one of them is given, the defaults above apply.";

impl RunArgs {
    /// The defaults, with this change.
    #[cfg(test)]
    pub(crate) fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut args = Self::default();
        change(&mut args);
        args
    }

    /// Whether no option selects what is measured, so that the short default comparison runs.
    pub fn is_bare(&self) -> bool {
        *self
            == Self {
                seed: self.seed,
                out: self.out.clone(),
                json: self.json.clone(),
                save_baseline: self.save_baseline.clone(),
                baseline: self.baseline.clone(),
                require: self.require.clone(),
                markdown: self.markdown,
                wide: self.wide,
                quiet: self.quiet,
                ..Self::default()
            }
    }
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The profile, as net-http, another contestant, a scenario, as burst, or a knob, as max_idle
    #[arg(value_name = "PROFILE|SCENARIO|KNOB")]
    pub name: String,
    /// Only the questions that this profile answers differently, side by side
    #[arg(long, value_name = "PROFILE")]
    pub diff: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// results.json of a run, or a histogram log (.hlog)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the page goes; - is standard output [default: report.html beside the file; of several
    /// files side-by-side.html beside the first]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Prints the tables as Markdown for a pull request instead of making the page
    #[arg(long)]
    pub markdown: bool,
}

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without an address all four protocols are served on free ports of 127.0.0.1."
)]
pub struct ServeArgs {
    /// Serve HTTP/1.1 here
    #[arg(long, value_name = "ADDR")]
    pub http1: Option<SocketAddr>,
    /// Serve HTTP/2 with prior knowledge here
    #[arg(long, value_name = "ADDR")]
    pub http2: Option<SocketAddr>,
    /// Serve RESP here
    #[arg(long, value_name = "ADDR")]
    pub resp: Option<SocketAddr>,
    /// Serve the framed echo here
    #[arg(long, value_name = "ADDR")]
    pub framed: Option<SocketAddr>,
    /// Accept control connections here (JSON lines) [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub control: Option<SocketAddr>,
    /// http1: tasks (a task for each connection) or workers (a reused worker pool); framed: one-task,
    /// reader-handoff or separate-writer (repeatable)
    #[arg(long, value_name = "NAME")]
    pub model: Vec<String>,
    /// Connections that the model `workers` serves at once; more are refused with 503
    #[arg(long, value_name = "N", default_value = "262144", value_parser = parse_count)]
    pub workers: usize,
    /// Streams that HTTP/2 allows at once on a connection [default: 250]
    #[arg(long, value_name = "N")]
    pub max_streams: Option<u32>,
    /// A fault that is in force from the start: refuse, slow-dial:200ms, slow-replies:5ms, stall-one:10:200ms,
    /// cut-idle:500ms:fin, cut-idle:500ms:rst, silence:old, silence:new, silence:all, max-streams:1,
    /// slow-backend:1ms (repeatable)
    #[arg(long, value_name = "FAULT", value_parser = Fault::parse)]
    pub fault: Vec<Fault>,
    /// Stand in front of this server instead (redis://, http:// or h2c://) and let connections feel faults
    #[arg(long, value_name = "URL")]
    pub relay: Option<String>,
    /// Where the relay listens [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub relay_listen: Option<SocketAddr>,
    /// Processor to run on
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// End when standard input is closed
    #[arg(long)]
    pub exit_with_stdin: bool,
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(24 * 60 * 60);
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= most)
        .ok_or_else(|| {
            "expected a time with its unit, as 500ms or 2s, more than zero and at most a day"
                .to_owned()
        })
}

fn parse_rounds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err("expected a whole number between 1 and 1000".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    let expected = "expected requests in a second, as 5000, or a share of the limit, as 60%";
    let (number, share) = match text.strip_suffix('%') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let value: f64 = number.trim().parse().map_err(|_| expected.to_owned())?;
    match share {
        true if (0.1..=1000.0).contains(&value) => Ok(Rate::OfLimit(value / 100.0)),
        false if (0.1..=10_000_000.0).contains(&value) => Ok(Rate::PerSecond(value)),
        _ => Err(expected.to_owned()),
    }
}

fn parse_arrivals(text: &str) -> Result<Arrivals, String> {
    match text {
        "uniform" => Ok(Arrivals::Uniform),
        "poisson" => Ok(Arrivals::Poisson),
        _ => Err("expected uniform or poisson".to_owned()),
    }
}

fn parse_budget(text: &str) -> Result<Budget, String> {
    match text {
        "same" => Ok(Budget::Same),
        "own" => Ok(Budget::Own),
        _ => Err("expected same or own".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1_000_000) => Ok(count),
        _ => Err("expected a whole number between 1 and 1000000".to_owned()),
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// A command.
    Cli(Box<Cli>),
    /// Help or the version was asked for: print this and be done.
    Text(String),
}

/// Reads the command line.
///
/// # Errors
/// [`BenchError::Usage`], in one line.
pub fn parse<I, T>(arguments: I) -> Result<Parsed, BenchError>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    use clap::error::ErrorKind;
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Parsed::Cli(Box::new(cli))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Text(error.render().to_string()))
            }
            _ => Err(BenchError::usage(one_line(&error.render().to_string()))),
        },
    }
}

/// Shortens clap's explanation of several paragraphs: the first one names the mistake, tips name what was
/// probably meant.
fn one_line(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or(text);
    let tips = text.lines().map(str::trim).filter(|line| line.starts_with("tip:"));
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = words(first.trim_start_matches("error:"));
    for tip in tips {
        line.push_str("; ");
        line.push_str(&words(tip));
    }
    line.push_str(" (see poolbench --help)");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Cli {
        match parse(words.split(' ')).unwrap() {
            Parsed::Cli(cli) => *cli,
            Parsed::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_with_and_without_options() {
        assert!(parsed("poolbench").run.is_bare());
        assert!(parsed("poolbench --quiet --wide --out x --seed 3").run.is_bare());
        assert!(!parsed("poolbench --protocol resp").run.is_bare());
        let Some(Command::Run(run)) =
            parsed("poolbench run --protocol http1,resp --set a=b --set c=d").command
        else {
            panic!("not run");
        };
        assert_eq!(run.protocol, ["http1", "resp"]);
        assert_eq!(run.set, ["a=b", "c=d"]);
    }

    #[test]
    fn mistakes_are_one_line() {
        for words in [
            "poolbench run --nonsense",
            "poolbench nonsense",
            "poolbench run --rounds 0",
            "poolbench run --duration 0s",
            "poolbench run --duration soon",
            "poolbench run --duration -1s",
            "poolbench run --rounds abc",
            "poolbench run --rounds -1",
            "poolbench run --callers -1",
            "poolbench explain",
            "poolbench serve --http1 here",
            "poolbench sim",
        ] {
            let error = parse(words.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
            assert!(!error.to_string().trim().is_empty());
        }
    }
}
