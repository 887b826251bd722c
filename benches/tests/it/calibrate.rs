//! `poolbench calibrate`, and the run that reads its file.

use crate::common::{directory, plain, program};

#[test]
fn a_calibration_is_measured_kept_and_used() {
    let out = directory("calibrate");
    let path = out.to_str().unwrap();
    let short = ["--runs", "2", "--rounds", "2", "--duration", "30ms", "--quiet"];
    let ran = plain(&[&["calibrate", "--out", path][..], &short].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for words in ["clock", "loopback", "generator", "A/A, two runs", "calibration.json"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.all());
    }
    assert!(!out.join("calibration-runs").exists());
    let text = std::fs::read_to_string(out.join("calibration.json")).unwrap();
    let calibration: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(calibration["between_runs"]["cpu"].is_number(), "{text}");
    assert!(calibration["round_trip_us"]["p50"].as_f64().unwrap() > 0.0, "{text}");

    let run = |more: &[&str]| {
        let output = program()
            .args(["run", "--protocol", "resp", "--contestant", "limit,redigo"])
            .args(["--duration", "30ms", "--rounds", "2", "--quiet", "--out", path])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, table) = run(&[]);
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("A/A noise") && table.contains("(calibration.json of"), "{table}");
    let results = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["environment"]["calibration"], calibration);
    assert_eq!(results["environment"]["noise"]["cpu"], calibration["noise"]["cpu"]);

    std::fs::write(out.join("calibration.json"), "{}").unwrap();
    let ran = plain(&["run", "--protocol", "resp", "--out", path]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("poolbench calibrate"), "{}", ran.all());
}
