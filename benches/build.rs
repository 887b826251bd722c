//! Records the compiler and the commit, so that a saved result says what it measured.

use std::path::Path;
use std::process::Command;

fn main() {
    // What the commit's name depends on, as far as it is there: a missing path would make cargo run
    // this every time.
    let sources = ["build.rs", "src", "../common/src", "../http1-pool/src", "../h2-shared/src"];
    let state = ["../resp-pool/src", "../.git/HEAD", "../.git/index", "../.git/refs/heads"];
    for path in sources.iter().chain(&state).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    record("POOLBENCH_RUSTC", &rustc, &["--version"]);
    record("POOLBENCH_GIT", "git", &["describe", "--always", "--dirty", "--abbrev=12"]);
}

/// Sets the variable to what the command prints; leaves it unset when the command is missing.
fn record(variable: &str, program: &str, arguments: &[&str]) {
    if let Ok(output) = Command::new(program).args(arguments).output()
        && output.status.success()
        && let Ok(text) = String::from_utf8(output.stdout)
    {
        println!("cargo::rustc-env={variable}={}", text.trim());
    }
}
