//! Runs the built program and reads its output.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use poolbench::serve::Bound;
use serde_json::Value;

/// The built program.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_poolbench"))
}

/// A directory for this test's files, empty.
pub(crate) fn directory(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    if path.exists() {
        std::fs::remove_dir_all(&path).expect("the directory is this test's own");
    }
    path
}

/// The output and the files of a run.
pub(crate) struct Ran {
    /// How it ended.
    pub(crate) code: Option<i32>,
    /// Tables.
    pub(crate) stdout: String,
    /// Progress and errors.
    pub(crate) stderr: String,
    /// results.json; null without that file.
    pub(crate) results: Value,
    /// Where it wrote its files.
    pub(crate) out: PathBuf,
}

/// Runs `poolbench run` with these options and short turns.
pub(crate) fn run(test: &str, options: &[&str]) -> Ran {
    run_for("60ms", test, options)
}

/// The same with turns of this length, which faults need.
pub(crate) fn run_for(duration: &str, test: &str, options: &[&str]) -> Ran {
    let out = directory(test);
    let output = program()
        .args(["run", "--duration", duration, "--rounds", "1"])
        .args(options)
        .arg("--out")
        .arg(&out)
        .output()
        .expect("the program starts");
    let results = std::fs::read_to_string(out.join("results.json"));
    Ran {
        results: results
            .map(|text| serde_json::from_str(&text).expect("results.json is JSON"))
            .unwrap_or_default(),
        out,
        ..ran(output)
    }
}

/// Runs the program as it is told.
pub(crate) fn plain(arguments: &[&str]) -> Ran {
    ran(program().args(arguments).output().expect("the program starts"))
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("output is UTF-8"),
        results: Value::Null,
        out: PathBuf::new(),
    }
}

impl Ran {
    /// The rows of results.json.
    pub(crate) fn rows(&self) -> &[Value] {
        self.results["results"].as_array().expect("there are results").as_slice()
    }

    /// Everything, for the message of a failed assertion.
    pub(crate) fn all(&self) -> String {
        format!("exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// `poolbench serve` as a child, ended on drop.
pub(crate) struct Serving {
    child: Child,
    /// What it printed.
    pub(crate) bound: Bound,
}

impl Serving {
    /// Starts it with these options.
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut child = program()
            .arg("serve")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it prints a line");
        let bound = serde_json::from_str(&line).expect("the line is JSON");
        Self { child, bound }
    }

    /// The process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
