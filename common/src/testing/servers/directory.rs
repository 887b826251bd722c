//! A directory that lives as long as its value.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

/// A fresh directory below the system's temporary one; removed with all it holds on drop.
#[derive(Debug)]
pub(super) struct TempDirectory {
    path: PathBuf,
}

impl TempDirectory {
    /// Makes a directory that no other process uses: its name has the process id and a counter, and a
    /// name that a dead process left behind is skipped.
    pub(super) fn new(label: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path =
                env::temp_dir().join(format!("pool-test-{label}-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self { path },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot create {}: {error}", path.display()),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        // A leftover in the temporary directory must not fail a test that passed.
        let _ = fs::remove_dir_all(&self.path);
    }
}
