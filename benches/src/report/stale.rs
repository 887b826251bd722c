//! Files of an earlier run, which a reader could take for files of the new run.

use std::fs;
use std::io;
use std::path::Path;

use crate::catalog::{CONTESTANTS, PEERS};
use crate::names::Protocol;
use crate::scenario::{SCENARIOS, Variant};

/// Removes the histogram logs of an earlier run. It does not touch files with names that this program never
/// gives, nor directories and links.
pub(super) fn remove_histograms(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && name.to_str().is_some_and(is_log_of_ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The name of the log of an entry.
pub(super) fn log_name(protocol: Protocol, scenario: &str, label: &str) -> String {
    format!("{protocol}-{scenario}-{}.hlog", label.replace(' ', "-"))
}

/// Whether [`log_name`] gives this name for a contestant that exists, in this build or another.
fn is_log_of_ours(name: &str) -> bool {
    let Some(name) = name.strip_suffix(".hlog") else { return false };
    // A sweep has one log for each of its rates.
    let name = match name.rsplit_once("-step-") {
        Some((start, step)) if step.parse::<u32>().is_ok() => start,
        _ => name,
    };
    let after = |text: &'_ str, start: &str| -> Option<usize> {
        let rest = text.strip_prefix(start)?;
        (rest.is_empty() || rest.starts_with('-'))
            .then(|| start.len() + usize::from(!rest.is_empty()))
    };
    let is_label = |label: &str| {
        CONTESTANTS.iter().chain(&PEERS).filter_map(|one| after(label, one.name)).any(|end| {
            let variant = &label[end..];
            let number = variant.trim_end_matches('s').strip_suffix("-connection");
            variant.is_empty()
                || number.is_some_and(|number| number.parse::<u16>().is_ok())
                || Variant::ALL.iter().any(|known| known.name() == variant)
        })
    };
    Protocol::ALL.iter().filter_map(|one| Some(&name[after(name, one.name())?..])).any(|rest| {
        SCENARIOS.iter().filter_map(|one| Some(&rest[after(rest, one.name)?..])).any(is_label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_ours_is_recognized_and_no_other() {
        for protocol in Protocol::ALL {
            for scenario in SCENARIOS {
                for contestant in CONTESTANTS.iter().chain(&PEERS) {
                    let name = log_name(protocol, scenario.name, contestant.name);
                    assert!(is_log_of_ours(&name), "{name}");
                    for variant in scenario.variants {
                        let label = format!("{} {}", contestant.name, variant.name());
                        let name = log_name(protocol, scenario.name, &label);
                        assert!(is_log_of_ours(&name), "{name}");
                    }
                }
            }
        }
        for name in [
            "results.json",
            "mine.hlog",
            "http1-steady-redigo.hlog.bak",
            "http1-steady-redigo.txt",
            "http1-steady-mine.hlog",
            "http1-steady-.hlog",
            "http1-steady.hlog",
            "http1-steady-redigo-mine.hlog",
            "http3-steady-redigo.hlog",
            "my-http1-steady-redigo.hlog",
            ".hlog",
        ] {
            assert!(!is_log_of_ours(name), "{name}");
        }
    }
}
