//! Bad usage: exit code 2 and one clear line, before anything is measured.

use crate::common::plain;

/// Runs the program and returns its one-line error.
fn complaint(arguments: &[&str]) -> String {
    let ran = plain(arguments);
    assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.all());
    assert_eq!(ran.stdout, "", "{arguments:?}: something was done before");
    assert_eq!(ran.stderr.lines().count(), 1, "{arguments:?}: {}", ran.stderr);
    ran.stderr
}

#[test]
fn unknown_names_are_named_with_a_suggestion() {
    for (arguments, words) in [
        (&["run", "--contestant", "fasthtp"][..], "did you mean 'fasthttp'?"),
        (&["run", "--scenario", "stady"], "did you mean 'steady'?"),
        (&["run", "--protocol", "http12"], "known: http1, http2, resp, framed"),
        (&["run", "--set", "max_opn=1"], "did you mean 'max_open'?"),
        (&["run", "--set", "idle_order=sideways"], "newest-first"),
        (&["run", "--model", "threads"], "known: tasks, workers"),
        (&["explain", "nethttp"], "did you mean 'net-http'?"),
        (&["explain", "dial-hedg"], "did you mean 'dial_hedge'?"),
        (&["run", "--scenario", "imbalance", "--contestant", "redigo"], "imbalance: only default"),
        (&["serve", "--model", "threads"], "known: tasks, workers"),
        (&["run", "--no-such-option"], "--no-such-option"),
        (&["simulate"], "simulate"),
        (&["compare", "a", "b"], "--save-baseline"),
    ] {
        let line = complaint(arguments);
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
}

#[test]
fn contradictions_are_refused() {
    for (arguments, words) in [
        (&["run", "--set", "min_idle=9", "--connections", "8"][..], "min_idle"),
        (&["run", "--set", "lifetime_jitter=2h", "--set", "max_lifetime=1h"], "lifetime_jitter"),
        (&["run", "--protocol", "resp", "--contestant", "grpc"], "grpc"),
        (&["run", "--protocol", "http1", "--scenario", "session"], "session"),
        (&["run", "--protocol", "resp", "--target", "http://127.0.0.1:1"], "http1"),
        (&["run", "--scenario", "reuse", "--target", "http://127.0.0.1:1"], "embedded"),
        (&["run", "--scenario", "goaway", "--target", "http://127.0.0.1:1"], "announce the end"),
        (
            &["run", "--scenario", "restart,max-streams", "--target", "h2c://127.0.0.1:1"],
            "leave --target or 'max-streams' out",
        ),
        (&["serve", "--relay", "rediss://127.0.0.1:1"], "--relay rediss:// is not supported yet"),
        (&["run", "--target", "https://127.0.0.1:1"], "not supported yet"),
        (&["run", "--target", "rediss://127.0.0.1:1"], "not supported yet"),
        (&["run", "--target", "127.0.0.1:1"], "--target"),
        (&["run", "--duration", "0s"], "duration"),
        (&["run", "--rounds", "0"], "rounds"),
        (
            &["run", "--scenario", "restart", "--protocol", "resp", "--duration", "300ms"],
            "the shortest is --duration 1800ms",
        ),
        (
            &["run", "--scenario", "imbalance", "--set", "idle_order=random"],
            "scenario 'imbalance' sets it itself in 'newest-first'",
        ),
        (&["run", "--scenario", "lifetime", "--set", "lifetime_jitter=0ms"], "'no-jitter'"),
        (
            &["run", "--scenario", "connections", "--set", "max_leases_per_connection=3"],
            "scenario 'connections'",
        ),
        (&["run", "--duration", "-1s"], "expected a time with its unit"),
        (&["run", "--rounds", "abc"], "expected a whole number"),
        (&["run", "--target", "127.0.0.1:6379"], "redis://127.0.0.1:6379"),
        (&["run", "--set", "peek=maybe"], "'maybe'"),
        (&["run", "--set", "peek=true", "--set", "peek=false"], "twice"),
        (&["run", "--contestant", "limit", "--set", "peek=true"], "have no policy"),
        (
            &["run", "--protocol", "framed", "--set", "retry=attempts"],
            "framed has no client that sends a request again",
        ),
        (&["run", "--protocol", "resp", "--model", "tasks"], "a model of http1"),
        (&["run", "--max-in-flight", "3"], "open loop"),
        (&["run", "--sweep", "110..20%"], "the lower first"),
        (&["run", "--sweep", "20..110%", "--rate", "5"], "cannot be used with"),
        (&["run", "--sweep", "20..110%", "--scenario", "restart"], "no knee"),
        (&["run", "--worker", "1/2"], "--start-at"),
        (&["run", "--worker", "1/2", "--start-at", "+5"], "--target"),
        (&["run", "--worker", "3/2", "--start-at", "+5"], "as 1/3"),
        (&["run", "--path", "/a"], "--path is for http1 and http2"),
        (&["run", "--protocol", "http1", "--command", "GET a"], "--command is for resp"),
        (&["run", "--protocol", "resp", "--method", "PUT"], "--method is for http1 and http2"),
        (&["run", "--protocol", "http1", "--method", "GTE"], "did you mean 'GET'?"),
        (&["run", "--protocol", "http1", "--method", "GET", "--body-size", "3"], "--body-size"),
        (&["run", "--protocol", "http1", "--path", "a"], "begins with /"),
        (&["run", "--path", "/a", "--target", "http://127.0.0.1:1/b"], "leave one out"),
        (
            &["run", "--protocol", "resp", "--command", "subscribe a"],
            "SUBSCRIBE changes the session",
        ),
        (&["run", "--scenario", "session", "--command", "GET a"], "commands of its own"),
        (&["run", "--protocol", "resp", "--scenario", "cancel", "--command", "GET a"], "'cancel'"),
        (&["run", "--protocol", "http1", "--scenario", "restart", "--method", "PUT"], "'restart'"),
        (&["run", "--scenario", "paced", "--think-time", "5ms"], "closed loop"),
        (&["run", "--scenario", "reuse", "--think-time", "5ms"], "'reuse'"),
        (&["run", "--think-time", "0ms"], "more than zero"),
        (&["run", "--scenario", "paced", "--callers", "3"], "closed loop"),
        (&["run", "--budget", "own", "--connections", "3"], "--budget same"),
        (&["run", "--model", "tasks", "--model", "workers"], "leave one out"),
        (&["run", "--callers", "-1"], "expected a whole number"),
        (&["run", "--rate", "-5"], "expected requests in a second"),
        (&["serve", "--resp", "127.0.0.1:0", "--model", "tasks"], "not served"),
        (&["serve", "--resp", "127.0.0.1:0", "--max-streams", "4"], "--max-streams is for http2"),
    ] {
        let line = complaint(arguments);
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
}

#[test]
fn an_unreachable_target_is_reported_before_anything_is_measured() {
    // Bound and closed again, so that the port refuses connections.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "h2c", "redis"] {
        let out = crate::common::directory(&format!("unreachable-{scheme}"));
        let target = format!("{scheme}://{address}");
        let line =
            complaint(&["run", "--quiet", "--target", &target, "--out", out.to_str().unwrap()]);
        assert!(line.contains(&address.to_string()), "{line}");
    }
}

#[test]
fn unwritable_output_is_reported_before_anything_is_measured() {
    let directory = crate::common::directory("unwritable");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let below = file.join("out");
    let line = complaint(&["run", "--out", below.to_str().unwrap()]);
    assert!(line.contains("--out"), "{line}");
    let json = file.join("results.json");
    let out = directory.join("out");
    let line =
        complaint(&["run", "--out", out.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert!(line.contains("--json"), "{line}");
}

#[test]
fn an_address_that_is_taken_is_bad_usage() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let line = complaint(&["serve", "--resp", &address]);
    assert!(line.contains(&address), "{line}");
}

#[test]
fn more_callers_than_the_system_has_descriptors_for_are_refused() {
    let out = crate::common::directory("descriptors");
    let script =
        r#"ulimit -n 100 && exec "$0" run --quiet --protocol framed --callers 200 --out "$1""#;
    let ran = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_poolbench")])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let line = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("ulimit"), "{line}");
}

#[test]
fn help_lists_what_there_is_and_nothing_else() {
    let ran = plain(&["--help"]);
    assert_eq!(ran.code, Some(0));
    for word in [
        "run",
        "list",
        "explain",
        "serve",
        "report",
        "compare",
        "merge",
        "calibrate",
        "--protocol",
        "--target",
        "--peers",
    ] {
        assert!(ran.stdout.contains(word), "{word} is missing");
    }
    assert!(!ran.stdout.contains("sim "), "sim is not built yet");
}

#[test]
fn list_and_explain_speak_json() {
    let list: serde_json::Value = serde_json::from_str(&plain(&["list", "--json"]).stdout).unwrap();
    let contestants = list["contestants"].as_array().unwrap();
    for contestant in contestants.iter().filter(|contestant| contestant["kind"] == "ours") {
        // Our default is no surveyed system.
        let Some(name) = contestant["profile"].as_str() else {
            continue;
        };
        let explained = plain(&["explain", name, "--json"]);
        assert_eq!(explained.code, Some(0), "{name}");
        let explained: serde_json::Value = serde_json::from_str(&explained.stdout).unwrap();
        for choice in explained["choices"].as_array().unwrap() {
            assert!(choice["source"].is_string(), "{name}: {choice}");
        }
    }
}

/// The tests of `peers` have a build with the rivals.
#[test]
#[cfg(not(feature = "peers"))]
fn naming_a_rival_that_is_not_built_tells_how_to_build_it() {
    for options in [&["run", "--peers"][..], &["run", "--contestant", "reqwest"]] {
        let ran = plain(options);
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert!(ran.stderr.contains("-p poolbench --features peers"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_baseline_that_nothing_can_be_compared_with_is_refused_before_the_run() {
    let folder = crate::common::directory("unfit-baselines");
    std::fs::create_dir_all(&folder).expect("the directory is this test's own");
    let row = |rounds: usize| {
        serde_json::json!({"schema": 1, "results": [{
            "protocol": "resp", "scenario": "steady", "contestant": "redigo",
            "rounds_detail": vec![serde_json::json!({"round": 1, "p99_us": 1.0}); rounds],
        }]})
    };
    let file = |name: &str, rounds: usize| {
        let path = folder.join(name);
        std::fs::write(&path, row(rounds).to_string()).expect("the directory is there");
        path.display().to_string()
    };
    let (short, long) = (file("short.json", 1), file("long.json", 2));
    for (options, words) in [
        (["--baseline", &long, "--contestant", "redigo", "--rounds", "1"], "this run has 1 round"),
        (
            ["--baseline", &short, "--contestant", "redigo", "--rounds", "2"],
            "the baseline has no row",
        ),
        (
            ["--baseline", &long, "--contestant", "go-redis", "--rounds", "2"],
            "no contestant of this",
        ),
    ] {
        let out = folder.join("out").display().to_string();
        let run = ["run", "--protocol", "resp", "--out", &out];
        let line = complaint(&[&run[..], &options].concat());
        assert!(line.contains(words), "{options:?}: {line}");
    }
}
