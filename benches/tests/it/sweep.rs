//! `--sweep`: its tables, its rows, its chart.

use crate::common::{directory, run};

#[test]
fn a_sweep_has_a_table_and_a_knee_for_each_contestant_and_a_chart() {
    let options = ["--protocol", "resp", "--contestant", "limit,redigo", "--sweep", "100..1000"];
    let ran = run("sweep", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(ran.stdout.contains("resp paced: a sweep of 10 rates"), "{}", ran.all());
    let knees = ran.stdout.split("knee: the highest rate").nth(1).expect("there are knees");
    for name in ["limit", "redigo"] {
        assert!(ran.stdout.contains(&format!("\n{name}\nrate/s")), "{}", ran.all());
        assert!(knees.contains(&format!("\n  {name}")), "{knees}");
    }
    assert_eq!(ran.rows().len(), 20);
    for (index, row) in ran.rows().iter().enumerate() {
        let step = index / 2 + 1;
        assert_eq!(row["step"]["index"], step);
        assert_eq!(row["rate_per_s"], 100.0 * step as f64);
        // Arrivals begin one distance after the window, which is 60 ms long.
        assert!(row["wanted"].as_u64().unwrap() >= 5 * step as u64, "{row}");
    }
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("data-chart=\"sweep\""));
    assert_eq!(page.matches("data-chart=\"verdicts\"").count(), 1, "a ladder is one comparison");
    let logs = std::fs::read_dir(out.join("histograms")).unwrap().count();
    assert_eq!(logs, 20, "a log for each contestant and rate");
    directory("sweep");
}
