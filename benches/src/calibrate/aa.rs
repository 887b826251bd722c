//! A/A runs: the same build several times, and in each run one contestant twice.

use std::path::Path;
use std::process::{Command, Stdio};

use super::CalibrateArgs;
use crate::compare::figure::Figure;
use crate::compare::verdict;
use crate::error::BenchError;
use crate::measure;
use crate::report::saved::{Noise, Saved};
use crate::statistics::{self, Test};

/// The contestants: the reference, and a pool.
const CONTESTANTS: &str = "limit,redigo";

/// The differences between equal contestants.
pub(super) struct Found {
    pub(super) within: Noise,
    pub(super) between: Noise,
}

/// Describes how it is measured.
pub(super) fn words(args: &CalibrateArgs) -> String {
    format!(
        "{} runs of resp steady, {CONTESTANTS}, {} rounds of {:?}",
        args.runs, args.rounds, args.duration
    )
}

pub(super) fn measure(args: &CalibrateArgs, say: &dyn Fn(&str)) -> Result<Found, BenchError> {
    // Not --out itself: with the calibration.json there, the runs would play no twin.
    let folder = args.out.join("calibration-runs");
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        say(&format!("run {number} of {}", args.runs));
        runs.push(one(args, &folder)?);
    }
    // They were needed for this alone.
    drop(std::fs::remove_dir_all(&folder));
    let twins: Vec<Noise> = runs.iter().filter_map(Saved::noise).collect();
    let within = |figure: Figure| {
        let squares: Vec<f64> =
            twins.iter().filter_map(|noise| Some(figure.noise(noise)?.ln_1p().powi(2))).collect();
        Some(measure::round(statistics::mean(&squares)?.sqrt().exp_m1()))
    };
    let mut tests = Vec::new();
    for one in 0..runs.len() {
        for other in one + 1..runs.len() {
            let pair = verdict::tests(&runs[one], &runs[other]);
            tests.extend(pair.map_err(BenchError::Server)?);
        }
    }
    Ok(Found {
        within: Figure::noises(within),
        between: Figure::noises(|figure| beyond_the_rounds(&tests, figure)),
    })
}

/// The difference between runs that the scatter of their rounds does not explain; 19 of 20 pairs of runs
/// differ by less. A comparison counts the scatter of rounds separately.
fn beyond_the_rounds(tests: &[(Figure, Test)], figure: Figure) -> Option<f64> {
    let own = tests.iter().filter(|(of, _)| *of == figure);
    let excess: Vec<f64> =
        own.map(|(_, test)| test.difference.powi(2) - test.error.powi(2)).collect();
    Some(measure::round((1.96 * statistics::mean(&excess)?.max(0.0).sqrt()).exp_m1()))
}

/// Starts the program as a user does, and reads its results.
fn one(args: &CalibrateArgs, out: &Path) -> Result<Saved, BenchError> {
    let doing = || BenchError::io("running poolbench for the calibration");
    let program = std::env::current_exe().map_err(doing())?;
    let output = Command::new(program)
        .args(["run", "--quiet", "--protocol", "resp", "--scenario", "steady"])
        .args(["--contestant", CONTESTANTS, "--rounds", &args.rounds.to_string()])
        .args(["--duration", &format!("{}us", args.duration.as_micros())])
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .output()
        .map_err(doing())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or("it ended early").to_owned();
        return Err(doing()(std::io::Error::other(said)));
    }
    Saved::read(&out.join("results.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_between_runs_excludes_the_scatter_of_rounds() {
        let test = |difference: f64, error: f64| {
            (Figure::Cpu, Test { difference, error, freedom: 10.0, p: 0.5 })
        };
        let explained = [test(0.02, 0.03), test(-0.03, 0.03)];
        assert_eq!(beyond_the_rounds(&explained, Figure::Cpu), Some(0.0));
        let unexplained = [test(0.05, 0.03), test(-0.05, 0.03)];
        let noise = beyond_the_rounds(&unexplained, Figure::Cpu).unwrap();
        // The root of 0.05^2 - 0.03^2 is 0.04.
        assert!((noise - (1.96_f64 * 0.04).exp_m1()).abs() < 1e-3, "{noise}");
        assert_eq!(beyond_the_rounds(&unexplained, Figure::P99), None);
    }
}
