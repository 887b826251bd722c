//! `poolbench calibrate`: what this machine can measure at all, kept in calibration.json for later runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli;
use crate::error::BenchError;
use crate::place::{self, Environment, Placement};
use crate::report::calibration::{Calibration, FILE, Generator, Quartiles, Timer};
use crate::report::columns::short;
use crate::report::noise;
use crate::report::output::write_file;

mod aa;
mod generator;
mod round_trip;
mod timer;

/// Options of `calibrate`.
#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// Directory for calibration.json; runs with the same --out read it
    #[arg(long, value_name = "DIR", default_value = "target/poolbench")]
    pub out: PathBuf,
    /// Runs of the same build, which show what runs differ by [2 to 100]
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub runs: u32,
    /// Rounds of each run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub rounds: u32,
    /// Measured time of each turn
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = cli::parse_duration)]
    pub duration: Duration,
    /// No progress on standard error
    #[arg(long)]
    pub quiet: bool,
}

/// Measures everything and writes the file; returns the text for standard output.
///
/// # Errors
/// [`BenchError::Usage`] before anything is measured when the directory cannot be written, other errors
/// when a measurement fails.
pub fn run(args: &CalibrateArgs) -> Result<String, BenchError> {
    let path = args.out.join(FILE);
    prepare(&args.out)?;
    let say = |words: &str| {
        if !args.quiet {
            // If progress cannot be written, the measurement goes on.
            drop(writeln!(std::io::stderr().lock(), "{words}"));
        }
    };
    let allowed = place::allowed();
    let placement = Placement::choose(&allowed);
    let environment = Environment::observe(&allowed, placement.describe(true, false));
    // Before this thread is pinned: the runs choose their places themselves.
    let found = aa::measure(args, &say)?;
    say("timer, loopback and generator");
    if let Some(cpu) = placement.client {
        place::pin(cpu);
    }
    let timer = timer::measure();
    let round_trip = round_trip::measure(placement.server)
        .map_err(BenchError::io("measuring a round trip over loopback"))?;
    let generator = generator::measure(&allowed)?;
    let calibration = Calibration {
        schema: 1,
        measured_at_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        cpu: environment.cpu.clone(),
        cores: environment.cores,
        measured_with: aa::words(args),
        noise: found.within,
        between_runs: found.between,
        timer,
        generator,
        round_trip_us: round_trip,
    };
    let text = serde_json::to_string_pretty(&calibration).expect("a calibration is valid JSON");
    write_file(&path, &format!("{text}\n"))?;
    Ok(words(&calibration, &environment, &path))
}

/// Checks that the directory exists and is writable, before a minute is spent on measuring.
fn prepare(out: &Path) -> Result<(), BenchError> {
    let probe = out.join(".calibration");
    std::fs::create_dir_all(out)
        .and_then(|()| std::fs::write(&probe, ""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| {
            BenchError::usage(format!("--out: cannot write {}: {error}", out.display()))
        })
}

fn words(calibration: &Calibration, environment: &Environment, path: &Path) -> String {
    let Calibration { timer, generator, round_trip_us, .. } = calibration;
    let Timer { step_ns, read_ns, sleep_late_us: [late, late_p99] } = timer;
    let Quartiles { p50, p99 } = round_trip_us;
    let Generator { ceiling_per_s, lateness_p99_us } = generator;
    let generator = match (ceiling_per_s, lateness_p99_us) {
        (Some(rate), Some(late)) => format!(
            "hands over {} requests/s in time (99 % of them within {} us)",
            short(*rate),
            short(*late)
        ),
        _ => late_everywhere(cfg!(debug_assertions)),
    };
    format!(
        "calibration: {}, {} usable, {}\n\
         clock          steps of {step_ns} ns, a look takes {} ns\n\
         sleep          of 100 us ends {} us late, 99 % within {} us\n\
         loopback       a byte there and back: {} us, 99 % within {} us\n\
         generator      {generator}\n\
         A/A, one run   equal contestants differ by {}\n\
         A/A, two runs  beyond what their rounds explain, they differ by up to {}\n\
         measured with  {}\n\
         calibration: {}; runs with --out {} read it\n",
        environment.cpu.as_deref().unwrap_or("unknown"),
        environment.cores,
        environment.kernel.as_deref().unwrap_or("unknown"),
        short(*read_ns),
        short(*late),
        short(*late_p99),
        short(*p50),
        short(*p99),
        noise::figures(&calibration.noise),
        noise::figures(&calibration.between_runs),
        calibration.measured_with,
        path.display(),
        path.parent().unwrap_or(Path::new(".")).display(),
    )
}

/// The text for a generator that was late at every rate.
fn late_everywhere(debug_build: bool) -> String {
    let why = match debug_build {
        true => "this is a debug build: calibrate with cargo run --release".to_owned(),
        false => format!(
            "in turns of {:?} the machine was busy with something else, or an open loop says nothing on it; try again",
            generator::DURATION
        ),
    };
    format!("late even at the lowest rate: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_build_that_is_late_is_not_blamed_on_the_machine() {
        assert!(late_everywhere(true).contains("debug build"));
        let release = late_everywhere(false);
        assert!(release.contains("300ms") && !release.contains("debug"), "{release}");
    }
    use crate::report::calibration::tests::example;

    #[test]
    fn the_text_names_every_measurement_and_the_file() {
        let environment = Environment::observe(&[0, 1], "somewhere".to_owned());
        let text = words(&example(), &environment, Path::new("x/calibration.json"));
        for part in [
            "steps of 10 ns, a look takes 20.5 ns",
            "5 us late, 99 % within 60 us",
            "there and back: 8 us",
            "100k requests/s",
            "equal contestants differ by req/s 1.0 %, CPU 2.0 %",
            "req/s 1.0 %, CPU 3.0 %",
            "runs with --out x read it",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
