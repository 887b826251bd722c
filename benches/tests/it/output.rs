//! What a run leaves: tables that fit the screen, files of this run only, and what becomes of both when
//! the disk is full or the reader goes away.

use std::fs;

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
    let options = ["--protocol", "resp", "--scenario", "steady,restart", "--connections", "4"];
    let contestants = ["--contestant", "limit,no-pool,database-sql", "--set", "max_open_per_key=2"];
    let options = [&options[..], &contestants].concat();
    let ran = run("narrow", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let lines = || ran.stdout.lines().filter(|line| !line.starts_with("results:"));
    let lines = || lines().filter(|line| !line.starts_with("report:"));
    for line in lines().filter(|line| !line.starts_with("warning:")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for words in ["2 connections (limit: 4)", "--set max_open_per_key=2"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let wide = run("wide", &[&options[..], &["--wide"]].concat());
    assert!(wide.stdout.contains("p99.9") && !ran.stdout.contains("p99.9"), "{}", wide.stdout);
}
