//! `poolbench report`, and the page in a real browser.

mod browser;
mod fixtures;

use std::path::{Path, PathBuf};

use crate::common::{Ran, directory, plain, run};
use browser::Browser;
use serde_json::{Value, json};

/// Writes results into a directory of this test's own.
fn save(test: &str, name: &str, results: &Value) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, serde_json::to_string_pretty(results).unwrap()).unwrap();
    path
}

fn report(arguments: &[&Path]) -> Ran {
    let mut words = vec!["report"];
    words.extend(arguments.iter().map(|path| path.to_str().unwrap()));
    plain(&words)
}

/// The page of some results.
fn page(test: &str, results: &Value) -> PathBuf {
    let file = save(test, "results.json", results);
    let ran = report(&[&file]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    file.with_file_name("report.html")
}

#[test]
fn a_file_that_is_no_results_is_bad_usage() {
    let test = "report-bad";
    directory(test);
    let missing = Path::new("no/such/results.json");
    let text = save(test, "text.json", &json!({}));
    std::fs::write(&text, "hello").unwrap();
    let binary = save(test, "binary.json", &json!({}));
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let log = save(test, "text.hlog", &json!({}));
    let good = save(test, "good.json", &fixtures::document(vec![]));
    for (files, words) in [
        (vec![missing], "no/such/results.json"),
        (vec![&*text], "not JSON"),
        (vec![&*binary], "UTF-8"),
        (vec![&*log], "histogram log"),
        (vec![&*save(test, "other.json", &json!({"a": 1}))], "results"),
        (vec![&*save(test, "future.json", &json!({"schema": 2, "results": []}))], "schema 2"),
        (vec![&*good, missing], "no/such/results.json"),
        (vec![], "FILE"),
    ] {
        let ran = report(&files);
        assert_eq!(ran.code, Some(2), "{words}: {}", ran.all());
        assert_eq!(ran.stderr.lines().count(), 1, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert!(!good.with_file_name("side-by-side.html").exists());
    // The directory of a run stands for its results, as it does for compare.
    let directory = good.parent().unwrap();
    std::fs::copy(&good, directory.join("results.json")).unwrap();
    let ran = report(&[directory]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(directory.join("report.html").exists());
    let ran = report(&[&good, Path::new("--out"), &good]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(std::fs::read_to_string(&good).unwrap().starts_with('{'), "it was overwritten");
}

#[test]
fn equal_results_give_equal_bytes() {
    let results = fixtures::faults();
    let bytes = || std::fs::read(page("report-equal", &results)).unwrap();
    let first = bytes();
    assert!(first == bytes());
    let file = save("report-equal", "results.json", &results);
    let ran = plain(&["report", file.to_str().unwrap(), "--out", "-"]);
    assert!(ran.stdout.as_bytes() == first);
}

#[test]
fn a_page_is_made_of_whatever_there_is() {
    let mut everything = fixtures::faults();
    everything["results"].as_array_mut().unwrap().truncate(1);
    let row = everything["results"][0].as_object().unwrap();
    for field in row.keys() {
        for odd in [
            Value::Null,
            json!("odd"),
            json!(-1e300),
            json!([]),
            json!([{}]),
            json!({"p99": "odd"}),
        ] {
            let mut results = everything.clone();
            results["results"][0][field] = odd;
            page("report-odd", &results);
        }
    }
    for results in [json!({"results": []}), json!({"results": [{}]}), json!({"results": [{}, {}]})]
    {
        page("report-odd", &results);
    }
}

#[test]
fn the_verdict_names_no_winner_inside_the_noise() {
    let html = std::fs::read_to_string(page("report-verdict", &fixtures::steady())).unwrap();
    let start = html.find("<p class=\"verdict\">").unwrap();
    let verdict = &html[start..start + html[start..].find("</p>").unwrap()];
    assert!(
        verdict.contains("redigo and net-http lead, with no difference")
            || verdict.contains("net-http and redigo lead, with no difference"),
        "{verdict}"
    );
    assert!(verdict.contains("hyper-util (0.8"), "{verdict}");
    assert!(verdict.contains("without a pool: 17.8k"), "{verdict}");
    assert!(html.contains("more than 90 days before"), "the fixture is old");

    let mut wrong = fixtures::steady();
    wrong["results"][2]["mismatches"] = json!(1);
    let html = std::fs::read_to_string(page("report-verdict", &wrong)).unwrap();
    assert!(html.contains("No verdict: the run was not sound"));
    assert!(html.contains("class=\"banner red\""));
    assert!(!html.contains(" lead, with no difference"));
}

#[test]
fn markdown_has_the_tables() {
    let file = save("report-markdown", "results.json", &fixtures::steady());
    let ran = plain(&["report", file.to_str().unwrap(), "--markdown"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for words in ["| redigo |", "| worse than limit |", "no-pool", "▁", "### http1 steady"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().all(|row| columns(row) == columns(rows[0])), "{}", ran.stdout);
    let file = save("report-markdown", "hostile.json", &fixtures::hostile());
    let ran = plain(&["report", file.to_str().unwrap(), "--markdown"]);
    assert!(!ran.stdout.contains("<img"), "{}", ran.stdout);
}

#[test]
fn a_run_writes_its_page_and_a_log_is_read() {
    let ran = run(
        "report-run",
        &["--protocol", "framed", "--contestant", "limit,redigo", "--callers", "4", "--markdown"],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-run");
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("redigo") && html.contains("debug build"));
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().contains("| redigo |"));
    let logs: Vec<PathBuf> = std::fs::read_dir(out.join("histograms"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let paths: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    let ran = report(&paths);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let html = std::fs::read_to_string(out.join("histograms/side-by-side.html")).unwrap();
    assert!(html.contains("data-chart=\"percentiles\"") && html.contains("framed-steady-redigo"));
}

/// What a page must hold in any size; returns the marks of each chart.
const LAYOUT: &str = r#"(() => {
    const visible = (element) => element.getClientRects().length > 0;
    const charts = {};
    for (const chart of document.querySelectorAll("[data-chart]")) {
        const marks = [...chart.querySelectorAll(".mark, tbody tr, li")].filter(visible).length;
        charts[chart.dataset.chart] = Math.min(marks, charts[chart.dataset.chart] ?? Infinity);
    }
    const cut = [];
    for (const text of document.querySelectorAll("svg text")) {
        if (!visible(text)) continue;
        const box = text.getBoundingClientRect();
        const frame = text.ownerSVGElement.getBoundingClientRect();
        if (box.left < frame.left - 1.5 || box.right > frame.right + 1.5 || box.bottom > frame.bottom + 1.5 || box.top < frame.top - 1.5) {
            cut.push(text.textContent);
        }
    }
    return { charts, cut, scrolls: document.documentElement.scrollWidth, inner: innerWidth,
        images: document.images.length, scripts: document.scripts.length, broken: window.broken ?? null,
        text: document.body.innerText };
})()"#;

/// Opens the page of some results, in light, dark and 400 px wide, and checks what holds for all.
fn look(browser: &mut Browser, test: &str, results: &Value, charts: &[&str]) -> PathBuf {
    let html = page(test, results);
    browser.prefer("light");
    browser.resize(1200, 900);
    browser.open(&html);
    // Charts for a second look are folded on the screen and open on paper; here all are looked at.
    let folded = browser.evaluate("document.querySelectorAll('.fold:not([open])').length");
    assert!(folded.as_u64().unwrap() > 0, "{test}: {folded}");
    browser.evaluate("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(browser.evaluate("document.querySelectorAll('.fold:not([open])').length"), 0);
    browser.evaluate(
        "document.querySelectorAll('details').forEach((one) => { delete one.dataset.closed; })",
    );
    for (name, width, scheme) in [
        ("light", 1200, "light"),
        ("dark", 1200, "dark"),
        ("laptop", 1280, "light"),
        ("wide laptop", 1366, "light"),
        ("half", 1181, "light"),
        ("tablet", 800, "light"),
        ("narrow", 400, "light"),
    ] {
        browser.prefer(scheme);
        browser.resize(width, 900);
        let layout = browser.evaluate(LAYOUT);
        let found = layout["charts"].as_object().unwrap();
        for chart in charts {
            assert!(
                found.get(*chart).and_then(Value::as_u64).unwrap_or(0) > 0,
                "{test} {name}: {chart}: {found:?}"
            );
        }
        assert_eq!(found.len(), charts.len(), "{test} {name}: {found:?}");
        assert_eq!(layout["cut"], json!([]), "{test} {name}: text beyond its picture");
        assert_eq!(layout["scrolls"], width, "{test} {name}: it scrolls sideways");
        // For people to look at.
        std::fs::write(html.with_file_name(format!("{name}.png")), browser.screenshot()).unwrap();
    }
    let dark = |browser: &mut Browser| {
        browser
            .evaluate("getComputedStyle(document.body).backgroundColor")
            .as_str()
            .unwrap()
            .to_owned()
    };
    browser.prefer("light");
    assert_eq!(dark(browser), "rgb(255, 255, 255)");
    browser.prefer("dark");
    assert_eq!(dark(browser), "rgb(20, 23, 27)");
    browser.prefer("light");
    let printed = browser.print();
    assert!(printed.starts_with(b"%PDF") && printed.len() > 20_000, "{} bytes", printed.len());
    std::fs::write(html.with_file_name("print.pdf"), printed).unwrap();
    let complaints = browser.complaints(&html);
    assert!(complaints.is_empty(), "{test}: {complaints:#?}");
    html
}

#[test]
fn the_page_holds_in_a_browser() {
    let mut browser = Browser::start(&directory("report-browser"));
    let common = ["verdicts", "percentiles", "dots", "notes"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    look(&mut browser, "report-steady", &fixtures::steady(), &with(&["breakdown", "policies"]));
    keyboard(&mut browser);
    pointer(&mut browser);
    look(
        &mut browser,
        "report-sweep",
        &fixtures::sweep(),
        &with(&["sweep", "breakdown", "policies"]),
    );
    let all = with(&["timeline", "shares", "breakdown", "lanes", "safety", "policies"]);
    let html = look(&mut browser, "report-faults", &fixtures::faults(), &all);
    lanes(&mut browser);
    download(&mut browser, &html.with_file_name("results.json"));

    // Several comparisons on one page.
    let mut together = fixtures::steady();
    for other in [fixtures::faults(), fixtures::sweep()] {
        let rows = together["results"].as_array_mut().unwrap();
        rows.extend(other["results"].as_array().unwrap().iter().cloned());
    }
    look(&mut browser, "report-together", &together, &[&all[..], &["sweep"]].concat());

    look(&mut browser, "report-hostile", &fixtures::hostile(), &all);
    let layout = browser.evaluate(LAYOUT);
    assert_eq!((&layout["images"], &layout["broken"]), (&json!(0), &Value::Null));
    assert_eq!(layout["scripts"], 2, "the data and the page's own");
    let text = layout["text"].as_str().unwrap();
    for place in
        ["</script><img src=x onerror=", "broke: </script>", "No verdict", "\\u{202e}turned"]
    {
        assert!(text.contains(place), "{place}");
    }
    side_by_side(&mut browser);
}

/// Two runs on one page: each contestant twice, compared with itself.
fn side_by_side(browser: &mut Browser) {
    let test = "report-several";
    let mut slower = fixtures::steady();
    for round in slower["results"][2]["rounds_detail"].as_array_mut().unwrap() {
        round["throughput_per_s"] = json!(round["throughput_per_s"].as_f64().unwrap() * 0.8);
    }
    let first = save(test, "before.json", &fixtures::steady());
    let second = save(test, "after.json", &slower);
    let ran = report(&[&first, &second]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let html = first.with_file_name("side-by-side.html");
    browser.resize(400, 900);
    browser.open(&html);
    let layout = browser.evaluate(LAYOUT);
    assert_eq!((&layout["cut"], &layout["scrolls"]), (&json!([]), &json!(400)));
    browser.resize(1200, 900);
    let rows = browser.evaluate(
        "[...document.querySelectorAll('.verdicts tbody tr')].map((row) => [row.querySelector('th').textContent, row.lastElementChild.textContent])",
    );
    let verdict = |name: &str| {
        let found = rows.as_array().unwrap().iter().find(|row| row[0].as_str().unwrap() == name);
        found.unwrap_or_else(|| panic!("{name} in {rows}"))[1].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("net-http · after.json"), "▼ worse than the first file");
    // The rounds of both drift by more than a difference that matters.
    assert_eq!(verdict("redigo · after.json"), "too few rounds");
    assert_eq!(verdict("redigo · before.json"), "");
    std::fs::write(html.with_file_name("light.png"), browser.screenshot()).unwrap();
    assert_eq!(browser.complaints(&html), Vec::<String>::new());
}

/// Everything that can be changed is reached and changed with the keyboard alone.
fn keyboard(browser: &mut Browser) {
    browser.resize(1200, 900);
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press("Tab", 9, "");
        let name =
            browser.evaluate("document.activeElement.id || document.activeElement.value || ''");
        let name = name.as_str().unwrap_or_default().to_owned();
        if name == "c2" && !reached.contains(&name) {
            browser.press(" ", 32, " ");
            let hidden = browser.evaluate(
                "[...document.querySelectorAll('.c2')].every((mark) => getComputedStyle(mark).display === 'none') && [...document.querySelectorAll('.c3')].some((mark) => getComputedStyle(mark).display !== 'none')",
            );
            assert_eq!(hidden, true, "the second pool is hidden everywhere");
        }
        if name == "show-all" {
            browser.press("Enter", 13, "\r");
            let shown = browser.evaluate("document.querySelectorAll('.off').length");
            assert_eq!(shown, 0);
        }
        if name == "theme" && !reached.contains(&name) {
            browser.press("Enter", 13, "\r");
            browser.press("Enter", 13, "\r");
            let theme = browser.evaluate("document.documentElement.dataset.theme + getComputedStyle(document.body).backgroundColor");
            assert_eq!(theme, "darkrgb(20, 23, 27)");
            browser.press("Enter", 13, "\r");
        }
        reached.push(name);
    }
    for control in ["c0", "c1", "c2", "c3", "c4", "show-all", "theme", "download"] {
        assert!(reached.iter().any(|name| name == control), "{control} in {reached:?}");
    }
}

/// A mark says what it is when it is pointed at.
fn pointer(browser: &mut Browser) {
    let place = browser.evaluate(
        "(() => { const mark = [...document.querySelectorAll('.median')].find((mark) => mark.getClientRects().length); mark.scrollIntoView({block: 'center'}); const box = mark.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()",
    );
    browser.call(
        "Input.dispatchMouseEvent",
        json!({"type": "mouseMoved", "x": place[0], "y": place[1]}),
    );
    let tip = browser.evaluate(
        "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent",
    );
    assert!(tip.as_str().unwrap().contains("median: "), "{tip}");
}

/// A lane tells its connection's life when it is pointed at, and its picture says what it shows.
fn lanes(browser: &mut Browser) {
    let place = browser.evaluate(
        "(() => { const lane = document.querySelectorAll('.lanes .hit')[3]; lane.scrollIntoView({block: 'center'}); const box = lane.getBoundingClientRect(); return [box.x + 9, box.y + box.height / 2]; })()",
    );
    browser.call(
        "Input.dispatchMouseEvent",
        json!({"type": "mouseMoved", "x": place[0], "y": place[1]}),
    );
    let tip = browser.evaluate("document.getElementById('tip').textContent");
    assert!(tip.as_str().unwrap().contains("connection 4\n"), "{tip}");
    assert!(tip.as_str().unwrap().contains("check-failed"), "{tip}");
    let label = browser.evaluate("document.querySelector('.lanes svg').getAttribute('aria-label')");
    let label = label.as_str().unwrap();
    for words in ["44 broken", "12 dials failed or stopped", "37 more have no lane here"] {
        assert!(label.contains(words), "{words}: {label}");
    }
}

/// Whether two texts are the same JSON, down to the digits of its numbers.
fn same(left: &str, right: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    parse(left) == parse(right)
}

/// The data that the page offers is the data it was made of.
fn download(browser: &mut Browser, results: &Path) {
    let results = std::fs::read_to_string(results).unwrap();
    let to = directory("report-download");
    std::fs::create_dir_all(&to).unwrap();
    browser.download_to(&to);
    browser.evaluate("document.getElementById('download').click()");
    let file = to.join("results.json");
    for _ in 0..500 {
        // It appears under its name when it is complete.
        if let Ok(saved) = std::fs::read_to_string(&file) {
            assert!(same(&saved, &results));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("nothing was downloaded to {}", to.display());
}
