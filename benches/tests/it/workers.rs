//! Several workers in front of one server, and their results in one file.

use std::path::Path;
use std::process::Stdio;

use crate::common::{Serving, directory, plain, program};

fn results(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn two_workers_offer_a_rate_together_and_are_merged() {
    let server = Serving::start(&["--resp", "127.0.0.1:0"]);
    let target = format!("redis://{}", server.bound.resp.unwrap());
    let out = directory("workers");
    // Far enough away for both to be ready.
    let start = std::time::SystemTime::now() + std::time::Duration::from_secs(3);
    let start = humantime::format_rfc3339_millis(start).to_string();
    let workers: Vec<_> = ["1/2", "2/2"]
        .map(|worker| {
            program()
                .args(["run", "--quiet", "--target", &target, "--contestant", "limit,redigo"])
                .args(["--scenario", "paced", "--rate", "400", "--duration", "300ms"])
                .args(["--rounds", "2", "--worker", worker, "--start-at", &start, "--out"])
                .arg(out.join(&worker[..1]))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .into_iter()
        .collect();
    for mut worker in workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    let [one, two] = ["1", "2"].map(|worker| out.join(worker).join("results.json"));
    let merged = out.join("merged.json");
    let ran = plain(&[
        "merge",
        one.to_str().unwrap(),
        two.to_str().unwrap(),
        "--out",
        merged.to_str().unwrap(),
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let (one, two, both) = (results(&one), results(&two), results(&merged));
    for (index, row) in both["results"].as_array().unwrap().iter().enumerate() {
        let count =
            |file: &serde_json::Value, field: &str| file["results"][index][field].as_u64().unwrap();
        assert_eq!(row["rate_per_s"], 400.0);
        for field in ["requests", "callers", "wanted"] {
            assert_eq!(count(&both, field), count(&one, field) + count(&two, field), "{field}");
        }
        // 400 in a second for two rounds of 0.3 s, the last one of each worker at its end.
        assert!((236..=240).contains(&count(&both, "wanted")), "{row}");
        let rounds = row["rounds_detail"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        let requests: u64 = rounds.iter().map(|round| round["requests"].as_u64().unwrap()).sum();
        assert_eq!(requests, count(&both, "requests"));
    }
    // Both may be late on a busy machine: then the steps are left out, and that is said.
    let said = both["warnings"].to_string();
    for row in both["results"].as_array().unwrap() {
        assert!(row["slots"].is_array() || said.contains("steps of time are left out"), "{said}");
    }
    let page = plain(&["report", merged.to_str().unwrap()]);
    assert_eq!(page.code, Some(0), "{}", page.all());
}
