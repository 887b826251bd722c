//! Where results go. Everything is opened before anything is measured, so that a run is never lost
//! to a directory that cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::model::{GroupResult, Record};
use crate::error::BenchError;
use crate::run::plan::Plan;

/// The places that a run writes to.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    json: Option<Json>,
    began: SystemTime,
}

/// The further place for results.
#[derive(Debug)]
enum Json {
    Stdout,
    File(PathBuf),
}

impl Output {
    /// Makes sure that everything can be written.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when something cannot.
    pub fn prepare(plan: &Plan) -> Result<Self, BenchError> {
        fs::create_dir_all(&plan.out).map_err(cannot_write("--out", &plan.out))?;
        let results = plan.out.join("results.json");
        writable(&results).map_err(cannot_write("--out", &results))?;
        let json = match &plan.json {
            None => None,
            Some(path) if path == Path::new("-") => Some(Json::Stdout),
            Some(path) => {
                writable(path).map_err(cannot_write("--json", path))?;
                Some(Json::File(path.clone()))
            }
        };
        Ok(Self { directory: plan.out.clone(), json, began: SystemTime::now() })
    }

    /// Whether standard output belongs to the JSON.
    pub fn json_on_stdout(&self) -> bool {
        matches!(self.json, Some(Json::Stdout))
    }

    /// When the run began.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// The directory for files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the document everywhere it is wanted.
    pub fn write_results(&self, text: &str) -> Result<(), BenchError> {
        let results = self.directory.join("results.json");
        write_file(&results, text)?;
        match &self.json {
            None => Ok(()),
            Some(Json::File(path)) => write_file(path, text),
            Some(Json::Stdout) => io::stdout()
                .lock()
                .write_all(text.as_bytes())
                .map_err(BenchError::io("writing the results to standard output")),
        }
    }

    /// Writes a page beside the results; its path.
    pub fn write_page(&self, name: &str, text: &str) -> Result<PathBuf, BenchError> {
        let path = self.directory.join(name);
        write_file(&path, text)?;
        Ok(path)
    }

    /// Writes the histograms of a group, one HdrHistogram V2 log for each contestant, in
    /// nanoseconds: an interval for each turn, tagged with what it holds.
    pub fn write_histograms(&self, group: &GroupResult) -> Result<(), BenchError> {
        let directory = self.directory.join("histograms");
        fs::create_dir_all(&directory)
            .map_err(BenchError::io(format!("creating {}", directory.display())))?;
        for record in &group.records {
            let step = group.step.map_or(String::new(), |step| format!("-step-{}", step.index));
            let name = format!(
                "{}-{}-{}{step}.hlog",
                group.protocol,
                group.scenario.name,
                record.label().replace(' ', "-")
            );
            let path = directory.join(name);
            self.write_log(&path, record)
                .map_err(BenchError::io(format!("writing {}", path.display())))?;
        }
        Ok(())
    }

    fn write_log(&self, path: &Path, record: &Record) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        {
            let mut log = IntervalLogWriterBuilder::new()
                .add_comment("poolbench: nanoseconds; one interval for each turn")
                .with_start_time(self.began)
                .begin_log_with(&mut file, &mut serializer)?;
            // Turns of other contestants lie between: the length is real, the start is the run's.
            let start = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
            for turn in record.turns() {
                let length = Duration::from_secs_f64(turn.seconds);
                let tagged: [(&str, &Histogram<u64>); 2] =
                    [("latency", &turn.latency), ("acquire", &turn.acquire)];
                for (tag, histogram) in tagged {
                    if !histogram.is_empty() {
                        log.write_histogram(histogram, start, length, Tag::new(tag))
                            .map_err(|error| io::Error::other(format!("{error:?}")))?;
                    }
                }
            }
        }
        file.flush()
    }
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), BenchError> {
    fs::write(path, text).map_err(BenchError::io(format!("writing {}", path.display())))
}

/// Opens for writing without touching what is there. Leaves no empty file behind.
fn writable(path: &Path) -> io::Result<()> {
    let existed = path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if existed { Ok(()) } else { fs::remove_file(path) }
}

fn cannot_write(option: &str, path: &Path) -> impl FnOnce(io::Error) -> BenchError {
    move |error| BenchError::usage(format!("{option}: cannot write {}: {error}", path.display()))
}
