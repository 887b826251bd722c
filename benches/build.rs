//! Records the compiler and the commit, so that a saved result says what it measured.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs/heads");
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
