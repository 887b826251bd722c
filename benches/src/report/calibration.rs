//! calibration.json: what `poolbench calibrate` measured on a machine. Later runs read it.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::saved::Noise;
use crate::error::BenchError;

/// The name of the file in the directory of `--out`.
pub const FILE: &str = "calibration.json";

/// What was measured about a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The version of the format.
    pub schema: u32,
    /// When it was measured, in seconds since 1970.
    pub measured_at_unix_s: u64,
    /// The processor's name: a calibration is for one machine.
    pub cpu: Option<String>,
    /// Usable processors.
    pub cores: usize,
    /// How it was measured, in words.
    pub measured_with: String,
    /// How much one contestant differs from itself when it takes two turns in each round of one run: the root
    /// of the mean square over the runs.
    pub noise: Noise,
    /// How much one contestant, relative to the limit, differs from itself between two runs, beyond what the
    /// scatter of their rounds explains.
    pub between_runs: Noise,
    /// The timers of this machine.
    pub timer: Timer,
    /// The ceiling of the generator of an open loop.
    pub generator: Generator,
    /// How long a byte takes to the server's processor and back, in microseconds.
    pub round_trip_us: Quartiles,
}

/// The timers of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    /// The smallest difference between two readings of the clock, in nanoseconds.
    pub step_ns: u64,
    /// How long it takes to read the clock, in nanoseconds.
    pub read_ns: f64,
    /// How late a sleep of 100 us ends: the median and 99 %, in microseconds.
    pub sleep_late_us: [f64; 2],
}

/// The ceiling of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// The highest rate of the ladder that it handed over in time.
    pub ceiling_per_s: Option<f64>,
    /// How late the generator was at that rate, 99 %, in microseconds.
    pub lateness_p99_us: Option<f64>,
}

/// The spread of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quartiles {
    /// Half of the values are at or below this.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
}

impl Calibration {
    /// Reads the calibration in a directory; `None` when the directory has no calibration of this machine.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when the file is there and cannot be read.
    pub fn read(
        directory: &Path,
        cpu: Option<&str>,
        cores: usize,
    ) -> Result<Option<Self>, BenchError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| unusable(&path, &error.to_string()))?;
        let calibration: Self =
            serde_json::from_str(&text).map_err(|error| unusable(&path, &error.to_string()))?;
        if calibration.schema != 1 {
            return Err(unusable(&path, "another version wrote it"));
        }
        let same = calibration.cpu.as_deref() == cpu && calibration.cores == cores;
        Ok(same.then_some(calibration))
    }

    /// The source of a noise that was read from this calibration, in words.
    pub fn words(&self) -> String {
        let at = UNIX_EPOCH + Duration::from_secs(self.measured_at_unix_s);
        format!("{FILE} of {}", humantime::format_rfc3339_seconds(at))
    }
}

fn unusable(path: &Path, why: &str) -> BenchError {
    BenchError::usage(format!(
        "cannot use {}: {why}; measure it again with poolbench calibrate, or remove it",
        path.display()
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A calibration that was made up.
    pub(crate) fn example() -> Calibration {
        let noise = Noise { throughput: Some(0.01), cpu: Some(0.02), ..Noise::default() };
        Calibration {
            schema: 1,
            measured_at_unix_s: 1_700_000_000,
            cpu: Some("A Processor 7".to_owned()),
            cores: 2,
            measured_with: "resp steady".to_owned(),
            noise,
            between_runs: Noise { cpu: Some(0.03), ..noise },
            timer: Timer { step_ns: 10, read_ns: 20.5, sleep_late_us: [5.0, 60.0] },
            generator: Generator { ceiling_per_s: Some(1e5), lateness_p99_us: Some(80.0) },
            round_trip_us: Quartiles { p50: 8.0, p99: 20.0 },
        }
    }

    #[test]
    fn a_calibration_is_for_one_machine_and_a_broken_one_is_said() {
        let directory =
            std::env::temp_dir().join(format!("poolbench-calibration-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let read = |cpu: &str, cores| Calibration::read(&directory, Some(cpu), cores);
        assert_eq!(read("A Processor 7", 2).unwrap(), None);
        let path = directory.join(FILE);
        std::fs::write(&path, serde_json::to_string(&example()).unwrap()).unwrap();
        assert_eq!(read("A Processor 7", 2).unwrap(), Some(example()));
        assert_eq!(read("A Processor 7", 4).unwrap(), None);
        assert_eq!(read("Another", 2).unwrap(), None);
        for broken in ["", "{}", r#"{"schema":2}"#] {
            std::fs::write(&path, broken).unwrap();
            let error = read("A Processor 7", 2).unwrap_err();
            assert!(error.to_string().contains("poolbench calibrate"), "{error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
