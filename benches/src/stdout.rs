//! Standard output, and the end of a command that cannot write there.
//!
//! A full disk and a closed standard output are failures: the command does its other work, such as
//! writing its files, and ends with exit code 1. A reader that went away, as `head` does,
//! ends the command quietly, with the exit code of a process that SIGPIPE ended.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::BenchError;

static CLOSED: AtomicBool = AtomicBool::new(false);
static FAILED: OnceLock<io::Error> = OnceLock::new();
static KEPT: OnceLock<PathBuf> = OnceLock::new();

/// Notes that the program was started with standard output closed. The runtime of Rust opens `/dev/null`
/// in its place, where writing always succeeds.
pub fn was_closed() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// Prints. After the first failure it does nothing more; [`check`] returns that failure.
pub fn print(text: &str) {
    if FAILED.get().is_some() {
        return;
    }
    let mut stdout = io::stdout().lock();
    let written = match CLOSED.load(Ordering::Relaxed) {
        true => Err(io::Error::other("it is closed")),
        false => stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()),
    };
    if let Err(error) = written {
        // If two threads print at once, the first failure is kept.
        drop(FAILED.set(error));
    }
}

/// Whether the reader of standard output went away.
pub fn reader_is_gone() -> bool {
    FAILED.get().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Notes a file that also has the results meant for standard output.
pub fn also_kept_in(path: &Path) {
    drop(KEPT.set(path.to_owned()));
}

/// Whether everything was printed.
///
/// # Errors
/// [`BenchError::ReaderGone`] and [`BenchError::Io`] when it was not.
pub fn check() -> Result<(), BenchError> {
    let Some(error) = FAILED.get() else { return Ok(()) };
    if reader_is_gone() {
        return Err(BenchError::ReaderGone);
    }
    let doing = match KEPT.get() {
        Some(path) => format!("writing to standard output (the results are in {})", path.display()),
        None => "writing to standard output".to_owned(),
    };
    let source = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    };
    Err(BenchError::Io { doing, source })
}
