//! The program: reads the command line, calls the library, turns the result into an exit code.
// Not `forbid`, which would reject the `allow` in the expansion of the `ctor` attribute.
#![deny(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use poolbench::cli::{self, Command, Parsed};
use poolbench::error::BenchError;
use poolbench::run::plan::Plan;
use poolbench::run::{self, Outcome};
use poolbench::{calibrate, compare, info, merge, report, serve, stdout};

/// Runs before `main`, and so before the runtime of Rust opens `/dev/null` in the place of a standard
/// output that is closed. After that a closed standard output and a redirect to `/dev/null` look the same. Like all
/// code before `main` it leaves most of the standard library alone: one system call, one atomic.
#[ctor::ctor(unsafe)]
fn look_for_standard_output() {
    if rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err() {
        stdout::was_closed();
    }
}

fn main() -> ExitCode {
    let result = dispatch();
    let result = match (result, stdout::check()) {
        // The exit code of a run with wrong results matters more than a reader that left.
        (Ok(code), Err(BenchError::ReaderGone)) if code != ExitCode::SUCCESS => Ok(code),
        (Ok(_), Err(error)) => Err(error),
        (result, _) => result,
    };
    match result {
        Ok(code) => code,
        Err(BenchError::ReaderGone) => ExitCode::from(BenchError::ReaderGone.exit_code()),
        Err(error) => {
            // Standard error is closed: the exit code still tells.
            drop(writeln!(std::io::stderr().lock(), "poolbench: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch() -> Result<ExitCode, BenchError> {
    let cli = match cli::parse(std::env::args_os())? {
        Parsed::Cli(cli) => cli,
        Parsed::Text(text) => return print(&text),
    };
    match cli.command {
        None => run_plan(&cli.run),
        Some(Command::Run(args)) => run_plan(&args),
        Some(Command::List(args)) => print(&info::list(args.json)),
        Some(Command::Explain(args)) => print(&match &args.diff {
            None => info::explain(&args.name, args.json)?,
            Some(other) => info::diff(&args.name, other, args.json)?,
        }),
        Some(Command::Compare(args)) => {
            let (text, passed) = compare::run(&args)?;
            print(&text)?;
            Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Some(Command::Calibrate(args)) => print(&calibrate::run(&args)?),
        Some(Command::Merge(args)) => print(&merge::run(&args)?),
        Some(Command::Report(args)) => {
            report::again::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Serve(args)) => {
            serve::run(&args.try_into()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_plan(args: &cli::RunArgs) -> Result<ExitCode, BenchError> {
    let plan = Plan::new(args)?;
    // Before anything is measured, check that the baseline exists.
    let finish = compare::Finish::new(args, &plan)?;
    let outcome = run::run(&plan)?;
    let (text, passed) = finish.apply(outcome)?;
    // Standard output may be used for the JSON.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
    Ok(match outcome {
        Outcome::Done if !passed => ExitCode::from(1),
        Outcome::Done | Outcome::Cut => ExitCode::SUCCESS,
        Outcome::Unsound => ExitCode::from(1),
        Outcome::Interrupted => ExitCode::from(130),
    })
}

/// Prints to standard output; failures are checked at the end.
fn print(text: &str) -> Result<ExitCode, BenchError> {
    stdout::print(text);
    Ok(ExitCode::SUCCESS)
}
