//! A server that ends in the middle of a run: the results so far are kept and marked, and no child
//! process is left.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use pool_common::testing::servers::RedisServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common;
use crate::faulty_targets::redis;
use crate::interrupts::wait_until;

/// A run that was started, and its output so far.
struct Running {
    run: Child,
    progress: BufReader<std::process::ChildStderr>,
    out: PathBuf,
}

/// What is left of it.
struct Left {
    stdout: String,
    results: Value,
}

fn start(test: &str, options: &[&str]) -> Running {
    let out = common::directory(test);
    let mut run = common::program()
        .args(["run", "--out"])
        .arg(&out)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let progress = BufReader::new(run.stderr.take().expect("stderr is piped"));
    Running { run, progress, out }
}

impl Running {
    /// Waits until the run prints these words, and for a moment of the turn that follows.
    fn wait_for(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.progress.read_line(&mut line).unwrap() > 0, "never: {words}");
        }
        std::thread::sleep(Duration::from_millis(600));
    }

    /// The process of the embedded servers or of the relay.
    fn child(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.run.id());
        let text = std::fs::read_to_string(children).unwrap();
        text.split_whitespace().next().expect("it has a child").parse().unwrap()
    }

    /// Kills or stops the process in the first scenario; all others are played whole.
    fn lose_the_first_scenario(mut self, signal: Signal, why: &str) {
        self.wait_for("limits: round 2 of 3");
        let server = self.child();
        kill_process(Pid::from_raw(server as i32).unwrap(), signal).unwrap();
        let left = self.end_with("!!! A SCENARIO WAS CUT SHORT !!!");
        assert_gone(server);
        assert!(!left.stdout.contains("THE RUN ENDED EARLY"), "{}", left.stdout);
        left.assert_partial("limits", why);
        for scenario in ["steady", "cancel"] {
            let rows = left.rows(scenario);
            assert!(!rows.is_empty(), "{}", left.stdout);
            for row in rows {
                assert!(row["partial"].is_null() && row["rounds"] == 3, "{row:#}");
            }
        }
    }

    /// Waits for its end, which is early and a failure.
    fn end(self) -> Left {
        let left = self.end_with("!!! THE RUN ENDED EARLY !!!");
        assert!(!left.stdout.contains("A SCENARIO WAS CUT SHORT"), "{}", left.stdout);
        left
    }

    /// Waits for its end, which is a failure with this headline.
    fn end_with(mut self, headline: &str) -> Left {
        let mut stdout = String::new();
        self.run.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.progress.read_to_string(&mut stderr).unwrap();
        let status = self.run.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{status}\n{stdout}\n{stderr}");
        let text = std::fs::read_to_string(self.out.join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(results["partial"], true);
        assert!(self.out.join("report.html").exists());
        assert!(stdout.contains(headline), "{stdout}");
        assert!(!stdout.contains("THE COMPARISON FAILED"), "{stdout}");
        Left { stdout, results }
    }
}

fn kill(process: u32) {
    send(process, Signal::KILL);
}

fn send(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

fn assert_gone(process: u32) {
    wait_until("the child is gone", || !Path::new(&format!("/proc/{process}")).exists());
}

impl Left {
    fn rows(&self, scenario: &str) -> Vec<&Value> {
        let rows = self.results["results"].as_array().unwrap();
        rows.iter().filter(|row| row["scenario"] == scenario).collect()
    }

    /// The rows of the scenario that was cut short, which have fewer rounds than planned or say why
    /// the last one is shorter.
    fn assert_partial(&self, scenario: &str, why: &str) {
        let rows = self.rows(scenario);
        assert!(!rows.is_empty(), "{}", self.stdout);
        let mut partial = 0;
        for row in rows {
            assert!(row["broke"].is_null(), "{row:#}");
            assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
            if let Some(words) = row["partial"].as_str() {
                assert!(words.contains(why), "{row:#}");
                partial += 1;
            }
        }
        assert!(partial > 0, "{}", self.stdout);
        assert!(self.stdout.contains("partial: "), "{}", self.stdout);
        assert!(self.stdout.contains(why), "{}", self.stdout);
        let warnings = self.results["warnings"].to_string();
        assert!(warnings.contains(why), "{warnings}");
    }
}

const ROUNDS: [&str; 6] =
    ["--rounds", "3", "--duration", "1500ms", "--contestant", "no-pool,redigo"];

#[test]
fn tables_are_kept_when_the_embedded_server_is_killed() {
    let options = [&["--protocol", "resp", "--scenario", "limits,steady"], &ROUNDS[..]].concat();
    let mut running = start("lost-embedded", &[&options[..], &["--callers", "4"]].concat());
    running.wait_for("steady: round 2 of 3");
    let server = running.child();
    kill(server);
    let left = running.end();
    assert_gone(server);
    left.assert_partial("steady", "the process of the embedded servers ended (signal: 9");
    for row in left.rows("limits") {
        assert!(row["partial"].is_null() && row["rounds"] == 3, "{row:#}");
    }
}

#[test]
fn the_next_scenarios_are_played_after_the_embedded_server_was_killed() {
    let options = ["--protocol", "resp", "--scenario", "limits,steady,cancel"];
    let running = start("killed-first", &[&options[..], &ROUNDS].concat());
    running.lose_the_first_scenario(Signal::KILL, "the process of the embedded servers ended");
}

#[test]
fn the_next_scenarios_are_played_after_the_embedded_server_hung() {
    let options = ["--protocol", "resp", "--scenario", "limits,steady,cancel"];
    let running = start("hung-first", &[&options[..], &ROUNDS].concat());
    running.lose_the_first_scenario(Signal::STOP, "does not answer");
}

#[test]
fn tables_are_kept_when_a_server_of_the_users_goes_away() {
    let mut server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let options = [&["--target", &target, "--callers", "4"], &ROUNDS[..]].concat();
    let mut running = start("lost-target", &options);
    running.wait_for("steady: round 2 of 3");
    server.stop();
    running.end().assert_partial("steady", "does not answer any more");
}

/// The kernel goes on accepting connections for a process that is stopped; no request is answered.
#[test]
fn tables_are_kept_when_a_server_of_the_users_is_stopped() {
    let mut server = common::Serving::start(&["--resp", "127.0.0.1:0"]);
    let target = format!("redis://{}", server.bound.resp.unwrap());
    let options = [&["--target", &target, "--callers", "4"], &ROUNDS[..]].concat();
    let mut running = start("stopped-target", &options);
    running.wait_for("steady: round 2 of 3");
    send(server.child().id(), Signal::STOP);
    running.end().assert_partial("steady", "does not answer any more: no answer within");
}

/// The same of the embedded server, which is this program's own child.
#[test]
fn tables_are_kept_when_the_embedded_server_is_stopped() {
    let options = [&["--protocol", "resp", "--callers", "4"], &ROUNDS[..]].concat();
    let mut running = start("stopped-embedded", &options);
    running.wait_for("steady: round 2 of 3");
    let server = running.child();
    send(server, Signal::STOP);
    let left = running.end();
    assert_gone(server);
    left.assert_partial("steady", "the embedded server: does not answer");
}

#[test]
fn a_server_of_the_users_that_comes_back_ends_no_run() {
    let mut server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let options = [&["--target", &target, "--callers", "4"], &ROUNDS[..]].concat();
    let mut running = start("back-target", &options);
    running.wait_for("steady: round 2 of 3");
    server.restart();
    let status = running.run.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn tables_are_kept_when_the_relay_is_killed() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let options = ["--scenario", "restart", "--contestant", "redigo", "--rounds", "2"];
    let small = ["--max-in-flight", "100", "--callers", "4", "--duration", "1800ms"];
    let options = [&options[..], &small, &["--target", &target]].concat();
    let mut running = start("lost-relay", &options);
    running.wait_for("restart: round 2 of 2");
    let relay = running.child();
    kill(relay);
    let left = running.end();
    assert_gone(relay);
    left.assert_partial("restart", "the process of the relay ended (signal: 9");
    assert!(left.rows("steady").iter().all(|row| row["partial"].is_null()));
    assert_eq!(redis::size(&server), ":0", "counters were left behind");
}
