//! The tables of `docs/performance.md`.
//!
//! `cargo bench -p poolbench --bench performance` prints all of them in one run; after `--` the parts can
//! be chosen: `alone`, `crowds`, `flat`.

mod peers;

use std::env;
use std::io::{self, Write};

use peers::table;

fn main() -> io::Result<()> {
    let tables = [
        ("alone", "One caller", table::alone as fn() -> String),
        ("crowds", "Many callers", table::crowds),
        ("flat", "Full pools", table::flat),
    ];
    // Cargo adds `--bench`.
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (word, title, print) in tables {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == word) {
            let mut out = io::stdout();
            writeln!(out, "## {title}\n")?;
            out.flush()?;
            writeln!(out, "{}", print())?;
        }
    }
    Ok(())
}
