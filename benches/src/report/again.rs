//! `poolbench report`: the page again, from saved results.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::html::{self, input, markdown};
use super::output::{refuse_to_overwrite, write_file};
use super::saved;
use crate::cli::ReportArgs;
use crate::error::BenchError;
use crate::stdout;

/// Reads the files and writes the page, or prints its tables as Markdown.
///
/// # Errors
/// [`BenchError::Usage`] for a file that cannot be used, [`BenchError::Io`] when the page cannot be
/// written.
pub fn run(args: &ReportArgs) -> Result<(), BenchError> {
    let files = args.files.iter().map(|file| saved::file_of(file)).collect::<Vec<_>>();
    let sources = input::read_files(&files)?;
    let now = Some(SystemTime::now());
    if args.markdown {
        let text = markdown::document(&sources, now);
        return match &args.out {
            Some(path) if path != Path::new("-") => {
                refuse_to_overwrite(path, &files)?;
                write_file(path, &text)
            }
            _ => {
                stdout::print(&text);
                Ok(())
            }
        };
    }
    let page = html::page(&sources, now);
    let path = args.out.clone().unwrap_or_else(|| default_path(&files));
    if path == Path::new("-") {
        stdout::print(&page);
        return Ok(());
    }
    refuse_to_overwrite(&path, &files)?;
    write_file(&path, &page)?;
    stdout::print(&format!("report: {}\n", path.display()));
    Ok(())
}

/// A page of one file has its usual place; one of several must not replace it.
fn default_path(files: &[PathBuf]) -> PathBuf {
    let name = if files.len() > 1 { "side-by-side.html" } else { "report.html" };
    files.first().map_or_else(|| PathBuf::from(name), |file| file.with_file_name(name))
}
