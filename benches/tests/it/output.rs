//! The output of a run: tables that fit the screen, files of this run only, and the results of a full disk
//! or a reader that goes away.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{directory, program, run};

const ONE: [&str; 4] = ["--protocol", "framed", "--contestant", "redigo"];

#[test]
fn old_histograms_go_and_files_of_others_stay() {
    let out = directory("old-histograms");
    let histograms = out.join("histograms");
    fs::create_dir_all(&histograms).unwrap();
    let ours = ["http1-steady-net-http.hlog", "resp-lifetime-redigo-no-jitter.hlog"];
    let others = ["mine.hlog", "http1-steady-net-http.txt", "notes"];
    for name in ours.iter().chain(&others) {
        fs::write(histograms.join(name), "old").unwrap();
    }
    let written = || {
        let files = fs::read_dir(&histograms).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let again = |options: &[&str]| {
        let out = out.to_str().unwrap();
        program()
            .args(["run", "--duration", "60ms", "--rounds", "1", "--out", out])
            .args(options)
            .output()
            .unwrap()
    };
    // A run that never began leaves what there is.
    let ran = again(&["--target", "http://127.0.0.1:1"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert_eq!(written().len(), ours.len() + others.len());
    let ran = again(&ONE);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert_eq!(
        written(),
        ["framed-steady-redigo.hlog", "http1-steady-net-http.txt", "mine.hlog", "notes"]
    );
}

#[test]
fn tables_fit_the_screen_unless_they_are_asked_for_whole() {
    let options = ["--protocol", "resp", "--scenario", "steady,cancel", "--connections", "4"];
    let contestants = ["--contestant", "limit,no-pool,database-sql", "--set", "max_open_per_key=2"];
    let options = [&options[..], &contestants].concat();
    let ran = run("narrow", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let lines = || ran.stdout.lines().filter(|line| !line.starts_with("results:"));
    let lines = || lines().filter(|line| !line.starts_with("report:"));
    for line in lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for words in ["2 connections (limit: 4)", "--set max_open_per_key=2"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let wide = run("wide", &[&options[..], &["--wide"]].concat());
    assert!(wide.stdout.contains("p99.9") && !ran.stdout.contains("p99.9"), "{}", wide.stdout);
}

/// Runs a line of the shell, in which `$0` is the program and `$1` the directory for results.
fn shell(line: &str, out: &Path) -> Output {
    Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_poolbench")])
        .arg(out)
        .output()
        .expect("there is a shell")
}

const RUN: &str = r#""$0" run --quiet --protocol framed --contestant redigo --duration 60ms --rounds 1 --out "$1""#;

fn results(out: &Path) -> Value {
    let text = fs::read_to_string(out.join("results.json")).expect("results were kept");
    serde_json::from_str(&text).expect("results are whole")
}

/// The one line that was said.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_standard_output_that_takes_nothing_is_a_failure_and_the_results_are_kept() {
    for (redirect, words) in [(">/dev/full", "No space left"), (">&-", "it is closed")] {
        let out = directory("stdout-lost");
        let ran = shell(&format!("{RUN} {redirect}"), &out);
        assert_eq!(ran.status.code(), Some(1), "{redirect}: {ran:?}");
        let line = complaint(&ran);
        assert!(line.contains(words) && line.contains("results.json"), "{redirect}: {line}");
        assert_eq!(results(&out)["partial"], false);
        assert_eq!(results(&out)["results"].as_array().unwrap().len(), 1);
        for command in ["list", "explain redigo", "--help", "run --help"] {
            let ran = shell(&format!(r#""$0" {command} {redirect}"#), &out);
            assert_eq!(ran.status.code(), Some(1), "{command} {redirect}: {ran:?}");
            assert!(complaint(&ran).contains("writing to standard output"), "{ran:?}");
        }
        let ran = shell(&format!("{RUN} --json - {redirect}"), &out);
        assert_eq!(ran.status.code(), Some(1), "{redirect}: {ran:?}");
    }
    // `/dev/null` is a destination like any other.
    let out = directory("stdout-null");
    for redirect in [">/dev/null", "1<>/dev/null"] {
        let ran = shell(&format!("{RUN} {redirect}"), &out);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    }
}

#[test]
fn a_standard_error_that_takes_nothing_changes_nothing() {
    for redirect in ["2>/dev/full", "2>&-"] {
        let out = directory("stderr-lost");
        let ran = shell(&format!("{} {redirect}", RUN.replace("--quiet", "")), &out);
        assert_eq!(ran.status.code(), Some(0), "{redirect}: {ran:?}");
        assert_eq!(results(&out)["partial"], false);
    }
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly_with_what_was_measured() {
    let out = directory("reader-gone");
    let mut run = program()
        .args(["run", "--quiet", "--protocol", "framed,resp", "--contestant", "redigo"])
        .args(["--duration", "60ms", "--rounds", "1", "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("poolbench"), "{line}");
    // The pipe is closed here, as `head -1` does.
    let server = fs::read_to_string(children).unwrap_or_default();
    let server = server.split_whitespace().next().map(|pid| PathBuf::from("/proc").join(pid));
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(141), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    assert!(server.is_none_or(|server| !server.exists()), "the server was left behind");
    let results = results(&out);
    assert_eq!(results["partial"], true, "the second protocol was not played");
    assert_eq!(results["results"].as_array().unwrap().len(), 1);
    let ran = shell(r#"{ "$0" list; echo "exit $?" >&2; } | head -1"#, &out);
    let words = complaint(&ran);
    // A list that the pipe holds whole is printed before `head` leaves.
    assert!(["exit 141\n", "exit 0\n"].contains(&words.as_str()), "{words}");
}

/// Runs with `--out` and `--json FILE`, where something stands in the way of files.
fn run_into(out: &Path, json: &Path) -> (Output, String) {
    let ran = program()
        .args(["run", "--quiet", "--duration", "60ms", "--rounds", "1", "--out"])
        .arg(out)
        .arg("--json")
        .arg(json)
        .args(ONE)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let line = complaint(&ran);
    (ran, line)
}

#[test]
fn a_disk_that_is_full_costs_no_more_than_the_file_that_did_not_fit() {
    // Each file in turn cannot be written: the others are, and so are the tables.
    let out = directory("full-results");
    fs::create_dir_all(&out).unwrap();
    symlink("/dev/full", out.join("results.json")).unwrap();
    let json = out.join("further.json");
    let (ran, line) = run_into(&out, &json);
    assert!(line.contains("results.json: No space left on device"), "{line}");
    assert!(String::from_utf8(ran.stdout).unwrap().contains("redigo"));
    assert!(fs::read_to_string(&json).unwrap().contains("\"schema\": 1"));
    assert!(out.join("report.html").exists());
    assert!(out.join("results.json").is_symlink(), "a device is not removed");

    let out = directory("full-json");
    let (_, line) = run_into(&out, Path::new("/dev/full"));
    assert!(line.contains("/dev/full: No space left on device"), "{line}");
    assert_eq!(results(&out)["results"].as_array().unwrap().len(), 1);

    for (name, blocked) in [("full-page", "report.html"), ("full-histograms", "histograms")] {
        let out = directory(name);
        // A directory where a file has to go, a file where a directory has to go.
        match blocked {
            "histograms" => {
                fs::create_dir_all(&out).unwrap();
                fs::write(out.join(blocked), "in the way").unwrap();
            }
            _ => fs::create_dir_all(out.join(blocked)).unwrap(),
        }
        let (_, line) = run_into(&out, &out.join("further.json"));
        assert!(line.contains(blocked), "{line}");
        assert_eq!(results(&out)["results"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_file_that_was_cut_short_does_not_stay() {
    let out = directory("cut-short");
    // More than 8 blocks of 512 bytes fit into no file; results.json is larger.
    let ran = shell(&format!("trap '' XFSZ; ulimit -f 8; {RUN}"), &out);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(complaint(&ran).contains("File too large"), "{ran:?}");
    assert!(!out.join("results.json").exists(), "half a file would be read as results");
    assert!(String::from_utf8(ran.stdout).unwrap().contains("redigo"), "the table is left");
}
