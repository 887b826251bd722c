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
use super::stale;
use crate::error::BenchError;
use crate::run::plan::Plan;
use crate::stdout;

/// The places that a run writes to.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    json: Option<Json>,
    began: SystemTime,
    /// The histograms of an earlier run are gone.
    cleared: bool,
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
        Ok(Self { directory: plan.out.clone(), json, began: SystemTime::now(), cleared: false })
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
    pub fn write_results(&mut self, text: &str) -> Result<(), BenchError> {
        let results = self.directory.join("results.json");
        // Each place by itself: what cannot be kept in one may be kept in the other.
        let cleared = self.clear();
        let kept = write_file(&results, text);
        if kept.is_ok() {
            stdout::also_kept_in(&results);
        }
        let further = match &self.json {
            None => Ok(()),
            Some(Json::File(path)) => write_file(path, text),
            Some(Json::Stdout) => {
                stdout::print(text);
                Ok(())
            }
        };
        kept.and(further).and(cleared)
    }

    /// Writes a page beside the results; its path.
    pub fn write_page(&self, name: &str, text: &str) -> Result<PathBuf, BenchError> {
        let path = self.directory.join(name);
        write_file(&path, text)?;
        Ok(path)
    }

    /// Removes the histograms of an earlier run, before the first file of this one is written.
    fn clear(&mut self) -> Result<(), BenchError> {
        if std::mem::replace(&mut self.cleared, true) {
            return Ok(());
        }
        let directory = self.directory.join("histograms");
        stale::remove_histograms(&directory)
            .map_err(BenchError::io(format!("removing old files of {}", directory.display())))
    }

    /// Writes the histograms of a group, one HdrHistogram V2 log for each contestant, in
    /// nanoseconds: an interval for each turn, tagged with what it holds.
    pub fn write_histograms(&mut self, group: &GroupResult) -> Result<(), BenchError> {
        self.clear()?;
        let directory = self.directory.join("histograms");
        fs::create_dir_all(&directory)
            .map_err(BenchError::io(format!("creating {}", directory.display())))?;
        for record in &group.records {
            let step = group.step.map_or(String::new(), |step| format!("-step-{}", step.index));
            let label = format!("{}{step}", record.label());
            let name = stale::log_name(group.protocol, group.scenario.name, &label);
            let path = directory.join(name);
            whole(&path, self.write_log(&path, record))?;
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

/// Refuses to write over a file that was read: a slip in the order of arguments must not cost the
/// results.
///
/// # Errors
/// [`BenchError::Usage`] with the name of the file.
pub(crate) fn refuse_to_overwrite(out: &Path, files: &[PathBuf]) -> Result<(), BenchError> {
    let Ok(place) = out.canonicalize() else { return Ok(()) };
    if files.iter().any(|file| file.canonicalize().is_ok_and(|file| file == place)) {
        return Err(BenchError::usage(format!(
            "--out: {} is one of the files to read: name another",
            out.display()
        )));
    }
    Ok(())
}

/// Writes a file whole, or leaves none: half a file would be read as damaged results.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), BenchError> {
    whole(path, fs::write(path, text))
}

fn whole(path: &Path, written: io::Result<()>) -> Result<(), BenchError> {
    written.map_err(|error| {
        // A device, or what a link leads to, is not ours to remove.
        if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            drop(fs::remove_file(path));
        }
        BenchError::io(format!("writing {}", path.display()))(error)
    })
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
