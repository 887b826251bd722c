//! A/A runs: the same build several times, and in each run one contestant twice.

use std::path::Path;
use std::process::{Command, Stdio};

use super::CalibrateArgs;
use crate::compare::verdict;
use crate::error::BenchError;
use crate::report::saved::{Noise, Saved};

/// Who takes part: the reference, and a pool.
const CONTESTANTS: &str = "limit,redigo";

/// What equal things differed by.
pub(super) struct Found {
    pub(super) within: Noise,
    pub(super) between: Noise,
}

/// How it is measured, in words.
pub(super) fn words(args: &CalibrateArgs) -> String {
    format!(
        "{} runs of resp steady, {CONTESTANTS}, {} rounds of {:?}",
        args.runs, args.rounds, args.duration
    )
}

pub(super) fn measure(args: &CalibrateArgs, say: &dyn Fn(&str)) -> Result<Found, BenchError> {
    // A folder of their own: a calibration that is there must not hide the noise of these runs.
    let folder = args.out.join("calibration-runs");
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        say(&format!("run {number} of {}", args.runs));
        runs.push(one(args, &folder)?);
    }
    // They were needed for this alone.
    drop(std::fs::remove_dir_all(&folder));
    let of_run = |run: &Saved| run.noise().unwrap_or_default();
    let within = runs.iter().map(of_run).reduce(Noise::widest).unwrap_or_default();
    let pairs = (0..runs.len()).flat_map(|at| (at + 1..runs.len()).map(move |next| (at, next)));
    let mut between = Noise::default();
    for (one, other) in pairs {
        let differences =
            verdict::differences(&runs[one], &runs[other]).map_err(BenchError::Server)?;
        between = between.widest(differences);
    }
    Ok(Found { within, between })
}

/// A run in a process of its own, as people start it.
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
