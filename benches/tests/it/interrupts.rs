//! Ctrl-C, and a parent that dies: the results so far are kept, and no child process is left.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common;

/// A run that takes an hour unless it is stopped.
fn long_run(out: &Path) -> Child {
    common::program()
        .args(["run", "--protocol", "framed", "--contestant", "redigo", "--quiet"])
        .args(["--duration", "1h", "--rounds", "1", "--out"])
        .arg(out)
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts")
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// The server process of a run, once it has opened connections, which it does when the turn began.
fn busy_server(run: &Child) -> PathBuf {
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let mut server = None;
    wait_until("the server is busy", || {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        server = text.split_whitespace().next().map(|pid| PathBuf::from("/proc").join(pid));
        // Listeners, epoll and the like are about a dozen descriptors; each caller adds one.
        let open = server.as_ref().and_then(|path| std::fs::read_dir(path.join("fd")).ok());
        open.is_some_and(|descriptors| descriptors.count() > 40)
    });
    server.expect("was just there")
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id() as i32).expect("a process has an id");
    kill_process(pid, signal).expect("the child is ours");
}

#[test]
fn an_interrupted_run_keeps_what_it_measured() {
    for sent in [Signal::INT, Signal::TERM] {
        let out = common::directory("interrupted");
        let mut run = long_run(&out);
        let server = busy_server(&run);
        // The window opens after a warm-up of half a second; an interrupt before it counts nothing.
        let pid = run.id();
        wait_until("something was measured", || cpu_ticks(pid) > 60);
        signal(&run, sent);
        let status = run.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{status}");
        assert!(!server.exists(), "the server was left behind");
        let text = std::fs::read_to_string(out.join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(results["partial"], true);
        assert!(results["warnings"].to_string().contains("partial"), "{}", results["warnings"]);
        for kept in ["report.html", "histograms/framed-steady-redigo.hlog"] {
            assert!(out.join(kept).exists(), "{kept} was not kept");
        }
        let row = &results["results"][0];
        for count in ["mismatches", "duplicates", "leaked"] {
            assert_eq!(row[count], 0, "{row:#}");
        }
    }
}

/// Processor time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| {
        after_name.split_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok())
    };
    field(11).unwrap_or(0) + field(12).unwrap_or(0)
}

#[test]
fn a_run_that_is_killed_leaves_no_server() {
    let out = common::directory("killed");
    let mut run = long_run(&out);
    let server = busy_server(&run);
    signal(&run, Signal::KILL);
    run.wait().unwrap();
    wait_until("the server is gone", || {
        // Ended and not yet taken by its new parent counts as gone.
        let stat = std::fs::read_to_string(server.join("stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}
