use serde_json::{Value, json};

use super::stats::Metric;
use super::*;

fn sources(rows: Value) -> Vec<Source> {
    let text = json!({"schema": 1, "results": rows}).to_string();
    vec![Source::parse("results.json".to_owned(), text).unwrap()]
}

/// A contestant with these requests per second in its rounds.
fn row(name: &str, rates: &[f64]) -> Value {
    let rounds: Vec<Value> = rates
        .iter()
        .zip(1..)
        .map(|(rate, round)| json!({"round": round, "throughput_per_s": rate}))
        .collect();
    let kind = if name == "limit" { "limit" } else { "ours" };
    json!({"protocol": "http1", "scenario": "steady", "contestant": name, "kind": kind,
        "throughput_per_s": rates[rates.len() / 2], "rounds_detail": rounds})
}

/// A contestant, and the failures of a thousand requests in each of its rounds.
fn failed(name: &str, failed: &[f64]) -> Value {
    let rounds: Vec<Value> = failed
        .iter()
        .zip(1..)
        .map(|(failed, round)| json!({"round": round, "requests": 1000.0 - failed, "errors": failed}))
        .collect();
    let all: f64 = failed.iter().sum();
    json!({"protocol": "http1", "scenario": "restart", "contestant": name, "kind": "ours", "loop": "open",
        "figure": "failed", "events": [{"fault": "refuse", "at_ms": 5, "until_ms": 9}],
        "requests": 1000.0 * failed.len() as f64 - all, "errors": all, "rounds_detail": rounds})
}

/// A contestant of one round of a scenario about `figure`.
fn of_figure(figure: &str, name: &str, round: &Value, change: &Value) -> Value {
    let mut row = json!({"protocol": "http1", "scenario": figure, "contestant": name, "loop": "open",
        "kind": if name == "no-pool" { "limit" } else { "ours" }, "figure": figure, "budget": "same",
        "rounds_detail": [round]});
    for part in [round, change] {
        for (key, value) in part.as_object().unwrap() {
            row[key] = value.clone();
        }
    }
    row
}

#[test]
fn contestants_are_ranked_by_what_the_scenario_is_about() {
    let burst = |name: &str, opened: u32, p99: f64| {
        let round = json!({"requests": 1000, "errors": 0, "opened": opened, "p99_us": p99});
        of_figure("opened", name, &round, &json!({"latency_us": {"p99": p99}}))
    };
    let herd = |name: &str, dials: u32, p99: f64| {
        let round = json!({"requests": 50, "errors": 0, "dials": dials, "p99_us": p99});
        of_figure("dials", name, &round, &json!({"latency_us": {"p99": p99}}))
    };
    // The contestant with more dials is faster. `redigo` opens few connections because it refuses requests.
    let mut refuses = burst("redigo", 60, 500.0);
    refuses["refusals"] = json!(880);
    let sources = sources(json!([
        burst("no-pool", 1000, 700.0),
        burst("net-http", 412, 800.0),
        burst("go-redis", 84, 90_000.0),
        refuses,
        herd("net-http", 50, 60_000.0),
        herd("default", 9, 200_000.0),
    ]));
    let model = Model::new(&sources);
    let sentence = |figure: &str| {
        let group = model.groups.iter().find(|group| group.scenario == figure).unwrap();
        sentences::verdict(group).0
    };
    assert_eq!(
        sentence("opened"),
        "opened per 1,000: go-redis (p99 90 ms) leads (84); behind: net-http (412); not placed: redigo (failed 47 %); without a pool: 1,000 (one round: only large differences count)."
    );
    assert!(sentence("dials").starts_with("dials begun: default leads (9); behind: net-http (50)"));
    // The summary of the terminal has the same tiers with the same figures.
    let text = summary::render(&sources);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in [
        "not placed  redigo (failed 47 %)",
        "84  go-redis (p99 90 ms)",
        "412  net-http",
        "9  default",
        "50  net-http",
    ] {
        assert!(lines.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("without a pool: 1,000"), "{text}");
}

#[test]
fn refusing_half_of_the_requests_is_no_lead() {
    let limits = |name: &str, served: f64, p99: f64| {
        let round = json!({"requests": served, "errors": 1000.0 - served, "p99_us": p99});
        let change = json!({"latency_us": {"p99": p99}, "refusals": 1000.0 - served, "loop": "closed",
            "callers": if name == "limit" { 8 } else { 50 }, "errors": 0});
        let mut row = of_figure("failed", name, &round, &change);
        row["kind"] = json!(if name == "limit" { "limit" } else { "ours" });
        row
    };
    let sources = sources(json!([
        limits("limit", 1000.0, 90.0),
        limits("redigo", 530.0, 100.0),
        limits("default", 1000.0, 600.0),
    ]));
    let model = Model::new(&sources);
    let group = &model.groups[0];
    let (sentence, _) = sentences::verdict(group);
    assert!(sentence.contains("default leads (0); behind: redigo (470)"), "{sentence}");
    // A limit with a sixth of the callers is not a base for comparison.
    assert_eq!(group.baseline_name(), "default");
    assert_eq!(group.baseline(&group.entries[1]).unwrap().label, "default");
}

#[test]
fn the_noise_decides_what_a_row_of_the_summary_is() {
    // 25 % apart is no difference here: the rounds scatter as much.
    let noisy = json!([row("one", &[100.0, 140.0, 90.0]), row("two", &[128.0, 95.0, 150.0])]);
    let text = summary::render(&sources(noisy));
    assert!(text.contains("no difference beyond the noise: http1 steady"), "{text}");
    // 5 % apart in each round is a difference.
    let rates = [100.0, 130.0, 90.0, 110.0, 95.0];
    let slower = rates.map(|rate| rate * 0.95 + rate % 3.0 / 20.0);
    let pair = |noise: Value| {
        let mut rows = [row("one", &rates), row("two", &slower)];
        rows.iter_mut().for_each(|row| row["noise"] = noise.clone());
        summary::render(&sources(json!(rows)))
    };
    let text = pair(Value::Null);
    assert!(text.contains("http1 steady: requests per second"), "{text}");
    // In this run equal contestants differed by more.
    let text = pair(json!({"throughput": 0.07}));
    assert!(text.contains("no difference beyond the noise: http1 steady"), "{text}");
    // Answers of 80 and 100 % of the requests: what failed is what counts.
    let text = summary::render(&sources(json!([failed("grpc", &[200.0]), failed("one", &[0.0])])));
    assert!(text.contains("200  grpc"), "{text}");
}

#[test]
fn connections_say_nothing_where_the_number_of_requests_is_the_contestants() {
    let closed = |name: &str, rate: f64| {
        let mut row = row(name, &[rate, rate * 1.4, rate * 0.8]);
        for round in row["rounds_detail"].as_array_mut().unwrap() {
            round["requests"] = json!(rate);
            round["opened"] = json!(50);
        }
        row["requests"] = json!(3.0 * rate);
        row["opened"] = json!(150);
        row["loop"] = json!("closed");
        row
    };
    let mut rows = vec![closed("thrift", 400.0), closed("default", 300.0)];
    rows.extend([failed("one", &[0.0]), failed("two", &[30.0])]);
    // Ten times as many requests are no reason to begin with a closed loop.
    rows.extend([("one", 100.0), ("two", 1000.0)].map(|(name, rate)| {
        let mut row = row(name, &[rate, rate * 1.01, rate * 0.99]);
        (row["scenario"], row["loop"]) = (json!("session"), json!("closed"));
        row
    }));
    let sources = sources(json!(rows));
    let model = Model::new(&sources);
    let titles: Vec<String> = model.groups.iter().map(Group::title).collect();
    assert_eq!(titles, ["http1 restart", "http1 session", "http1 steady"], "faults come first");
    let spread = |group: &Group<'_>| sentences::verdict(group).1;
    assert!(spread(&model.groups[1]) > spread(&model.groups[0]));
    assert!(model.groups[2].others().iter().all(|metric| *metric != Metric::Opened));
    let headline = sentences::headline(&model, false);
    assert!(headline.contains("above all in http1 restart"), "{headline}");
    let html = page(&sources, None);
    assert!(!html.contains("opened per 1,000: "), "{headline}");
}

#[test]
fn ways_of_a_contestant_have_whole_names_and_points_of_their_own() {
    let way = |variant: &str| {
        let mut row = row("database-sql", &[100.0, 101.0]);
        row["variant"] = json!(variant);
        row["teaches"] = json!("what lifetimes that end together cost");
        row
    };
    let sources = sources(json!([way("no-jitter"), way("50-connections"), way("server-closes")]));
    let model = Model::new(&sources);
    let entries = &model.groups[0].entries;
    assert_eq!(entries[0].label, "database-sql no-jitter");
    let mut shapes: Vec<usize> = entries.iter().map(|entry| entry.shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    assert_eq!(shapes.len(), 3, "{shapes:?}");
    assert!(entries[1].classes.ends_with(" d1") && entries[2].classes.ends_with(" d2"));
    let svg = bars::dots(&model.groups[0], Metric::Throughput).unwrap();
    let narrow = &svg[svg.rfind("<svg").unwrap()..];
    for name in ["database-sql", "no-jitter", "50-connections", "server-closes"] {
        assert!(narrow.contains(&format!(">{name}<")), "{name}: {narrow}");
    }
    assert!(page(&sources, None).contains("Shows: what lifetimes that end together cost."));
}

#[test]
fn contestants_inside_the_noise_stand_together() {
    let sources = sources(json!([
        row("limit", &[200.0, 210.0, 190.0]),
        row("slow", &[50.0, 52.0, 47.0]),
        row("one", &[100.0, 105.0, 95.0]),
        row("two", &[100.5, 104.5, 95.5]),
    ]));
    let model = Model::new(&sources);
    let group = &model.groups[0];
    let tiers: Vec<Vec<&str>> = group
        .ranking
        .tiers
        .iter()
        .map(|tier| tier.members.iter().map(|index| group.entries[*index].label.as_str()).collect())
        .collect();
    assert_eq!(tiers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1], "{tiers:?}");
    assert_eq!(tiers[1], ["slow"]);
    let (sentence, spread) = sentences::verdict(group);
    assert!(sentence.contains("no difference between them") && spread > 1.9, "{sentence}");
    assert!(!sentence.contains("limit"), "the limit is no pool: {sentence}");
}

#[test]
fn one_round_names_no_winner_unless_it_is_plain() {
    let verdict = |other: f64| {
        let sources = sources(json!([failed("one", &[10.0]), failed("two", &[other])]));
        sentences::verdict(&Model::new(&sources).groups[0])
    };
    let (sentence, spread) = verdict(12.0);
    assert_eq!(sentence, "one round does not tell one and two apart in failed per 1,000.");
    assert_eq!(spread, 1.0);
    let (sentence, _) = verdict(90.0);
    assert!(sentence.contains("one leads") && sentence.contains("one round"), "{sentence}");
}

#[test]
fn the_headline_names_the_noise_only_where_there_are_rounds() {
    let of = |scenario: &str, name: &str, rates: &[f64]| {
        let mut row = row(name, rates);
        row["scenario"] = json!(scenario);
        row
    };
    let sources = sources(json!([
        of("steady", "one", &[100.0, 101.0, 102.0]),
        of("steady", "two", &[100.0, 101.0, 102.0]),
        failed("one", &[100.0]),
        failed("two", &[900.0]),
    ]));
    let headline = sentences::headline(&Model::new(&sources), false);
    assert!(
        headline.starts_with(
            "Contestants differ in 1 of 2 comparisons (one round in 1 of them); above all in http1 restart"
        ),
        "{headline}"
    );
    assert!(headline.ends_with("(one round: only large differences count)."), "{headline}");
}

#[test]
fn a_difference_elsewhere_stands_beside_the_ranking() {
    let opened = |name: &str, opened: f64| {
        let mut row = row(name, &[100.0, 101.0]);
        row["loop"] = json!("open");
        for round in row["rounds_detail"].as_array_mut().unwrap() {
            round["requests"] = json!(1000);
            round["opened"] = json!(opened);
        }
        row["requests"] = json!(2000);
        row["opened"] = json!(2.0 * opened);
        row
    };
    let sources = sources(json!([opened("one", 500.0), opened("two", 20.0)]));
    let model = Model::new(&sources);
    let beside = sentences::beside(&model.groups[0]).join(" ");
    assert!(beside.contains("opened per 1,000: from 20 (two) to 500 (one)"), "{beside}");
    let (_, spread) = sentences::verdict(&model.groups[0]);
    assert_eq!(spread, 1.0, "the figure of the scenario tells nothing apart");
}

#[test]
fn the_ways_of_a_contestant_are_compared_with_the_same_way() {
    let way = |name: &str, variant: &str, rates: &[f64]| {
        let mut row = row(name, rates);
        row["variant"] = json!(variant);
        row
    };
    let sources = sources(json!([
        way("limit", "reused", &[100.0, 101.0]),
        way("limit", "no pool", &[10.0, 10.1]),
        way("redigo", "no pool", &[10.0, 10.1]),
    ]));
    let model = Model::new(&sources);
    let group = &model.groups[0];
    let base = group.baseline(&group.entries[2]).unwrap();
    assert_eq!(base.label, "limit no pool");
    assert_eq!(model.contestants.len(), 2, "a contestant has one colour");
}

#[test]
fn banners_name_what_makes_figures_unreliable() {
    let sources = |change: Value| {
        let mut row = row("one", &[100.0, 100.0]);
        for (key, value) in change.as_object().unwrap() {
            row[key] = value.clone();
        }
        sources(json!([row]))
    };
    let level = |change: Value| {
        let sources = sources(change);
        sentences::banners(&Model::new(&sources), None).first().map(|banner| banner.level)
    };
    assert_eq!(level(json!({})), None);
    assert_eq!(level(json!({"mismatches": 1})), Some(Level::Red));
    assert_eq!(level(json!({"leaked": 1})), Some(Level::Red));
    assert_eq!(level(json!({"duplicates": 1})), Some(Level::Red));
    assert_eq!(level(json!({"duplicates": 1, "events": [{"at_ms": 1}]})), None);
    assert_eq!(level(json!({"broke": "why"})), Some(Level::Amber));
    assert_eq!(level(json!({"loop": "open", "cpu_us_per_request": 9500.0})), Some(Level::Amber));
    assert_eq!(level(json!({"loop": "closed", "cpu_us_per_request": 9500.0})), Some(Level::Note));
    let late = json!({"latency_us": {"p50": 300.0}, "lateness_us": {"p99": 80.0}});
    assert_eq!(level(late), Some(Level::Amber));
    let old = {
        let text = json!({"measured_at_unix_s": 0, "partial": true, "results": []}).to_string();
        vec![Source::parse("a".to_owned(), text).unwrap()]
    };
    let banners = sentences::banners(&Model::new(&old), Some(SystemTime::now()));
    assert_eq!(banners.len(), 2, "{banners:?}");
    assert_eq!(sentences::banners(&Model::new(&old), None).len(), 1);
}

/// Two files of the same row, the second with these options.
fn two_files(options: Value) -> Vec<Source> {
    let source = |name: &str, options: &Value| {
        let row = row("one", &[100.0, 101.0, 99.0]);
        let text = json!({"schema": 1, "options": options, "results": [row]}).to_string();
        Source::parse(name.to_owned(), text).unwrap()
    };
    vec![source("a", &json!({})), source("b", &options)]
}

#[test]
fn rows_with_other_requests_are_not_compared_side_by_side() {
    let sources = two_files(json!({"request": {"path": "/items", "think_time_ms": 5.0}}));
    let model = Model::new(&sources);
    let why = "request: the built-in one and GET /items; think time: none and 5ms";
    let banners = sentences::banners(&model, None);
    let banner = banners.iter().find(|banner| banner.words.contains(why)).unwrap();
    assert!(banner.words.starts_with("http1 steady one · b is not the same comparison"));
    let (sentence, _) = sentences::verdict(&model.groups[0]);
    assert!(sentence.contains("not the same comparison: one · b"), "{sentence}");
    let html = page(&sources, None);
    assert!(html.contains(tables::NOT_COMPARABLE) && html.contains(why), "{html}");
    assert!(html.contains("<span>request <b>GET /items, think time 5ms</b></span>"), "{html}");

    let sources = two_files(json!({"set": ["peek=false"]}));
    let model = Model::new(&sources);
    assert!(model.groups[0].entries.iter().all(|entry| entry.unlike.is_empty()));
    let banners = sentences::banners(&model, None);
    assert_eq!(banners[0].words, "a and b differ: --set: nothing and peek=false.");
    assert_eq!(banners[0].level, Level::Note);
}

#[test]
fn a_request_of_the_user_is_named_beside_the_load() {
    let mut row = row("one", &[100.0, 101.0]);
    row["loop"] = json!("closed");
    row["callers"] = json!(3);
    let options = json!({"request": {"command": "GET <key>"}});
    let text = json!({"schema": 1, "options": options, "results": [row]}).to_string();
    let sources = vec![Source::parse("a".to_owned(), text).unwrap()];
    let html = page(&sources, None);
    assert!(html.contains("closed loop, 3 callers, GET &lt;key&gt;: capacity"), "{html}");
    let markdown = markdown::document(&sources, None);
    assert!(markdown.contains("Closed loop, 3 callers, GET &lt;key&gt;: capacity"), "{markdown}");
}

#[test]
fn callers_that_think_keep_littles_law() {
    let histogram = {
        let mut histogram = crate::measure::histogram();
        crate::measure::record(&mut histogram, std::time::Duration::from_millis(5));
        crate::report::histogram::encode(&histogram)
    };
    let of = |options: Value| {
        let mut row = row("one", &[100.0, 100.0]);
        row["loop"] = json!("closed");
        row["callers"] = json!(3);
        row["errors"] = json!(0);
        row["histograms"] = json!({"latency": histogram});
        let text = json!({"schema": 1, "options": options, "results": [row]}).to_string();
        let sources = vec![Source::parse("a".to_owned(), text).unwrap()];
        let banners = sentences::banners(&Model::new(&sources), None);
        banners.iter().any(|banner| banner.words.contains("Little's law"))
    };
    // 100 in a second, of 5 ms each, keep half a caller busy; with 25 ms of thinking all three.
    assert!(of(json!({})));
    assert!(!of(json!({"request": {"think_time_ms": 25.0}})));
}

#[test]
fn little_s_law_allows_for_short_rounds_and_for_drift_between_them() {
    let words = |requests: f64, rates: [f64; 3]| {
        let mut histogram = crate::measure::histogram();
        // 50 callers that wait for 1 ms are 50,000 requests in a second.
        histogram.record_n(1_000_000, 3).unwrap();
        let mut row = row("one", &rates);
        for (round, rate) in row["rounds_detail"].as_array_mut().unwrap().iter_mut().zip(rates) {
            // As many requests in each window, so that a fast one was short.
            (round["requests"], round["throughput_per_s"]) = (json!(requests / 3.0), json!(rate));
        }
        row["requests"] = json!(requests);
        (row["rounds"], row["callers"], row["errors"]) = (json!(3), json!(50), json!(0));
        row["loop"] = json!("closed");
        row["histograms"] = json!({"latency": crate::report::histogram::encode(&histogram)});
        let sources = sources(json!([row]));
        let banners = sentences::banners(&Model::new(&sources), None);
        banners.into_iter().map(|banner| banner.words).find(|words| words.contains("Little"))
    };
    assert_eq!(words(1e6, [50_000.0; 3]), None);
    assert_eq!(words(1e6, [52_000.0; 3]), None, "4 % are what a caller does between its requests");
    assert!(words(1e6, [53_500.0; 3]).is_some(), "7 % of many requests are no accident");
    // 50 callers cut off in each of three rounds are 3 % of 5,000 requests.
    assert_eq!(words(5e3, [52_000.0; 3]), None);
    // The middle round is 10 % off the mean of all.
    assert_eq!(words(1e6, [40_000.0, 55_000.0, 57_895.0]), None);
}

#[test]
fn one_late_arrival_of_a_few_hundred_is_no_lateness_of_the_schedule() {
    let late = |requests: f64| {
        let mut row = row("one", &[100.0, 100.0]);
        row["loop"] = json!("open");
        row["requests"] = json!(requests);
        row["latency_us"] = json!({"p50": 300.0});
        row["lateness_us"] = json!({"p50": 2.0, "p99": 1500.0});
        let sources = sources(json!([row]));
        !sentences::banners(&Model::new(&sources), None).is_empty()
    };
    assert!(!late(300.0));
    assert!(late(30_000.0));
}

#[test]
fn a_time_that_is_not_known_is_a_word_in_a_table_that_scrolls() {
    let of = |why: &str| {
        let recovery = json!({"first_success_missing": why, "normal_p99_missing": why});
        let fields = json!({"recovery": recovery, "dials": 3, "requests": 100, "errors": 1});
        let sources = sources(json!([of_figure("failed", "one", &json!({}), &fields)]));
        tables::fault_figures(&Model::new(&sources).groups[0]).unwrap()
    };
    for (why, word) in [
        ("unknown: the fault was lifted after the window", ">late lift<"),
        ("unknown: the window ended 90 ms after the fault, too soon to tell", ">too short<"),
        ("no base: failing or overloaded before the fault", ">no base<"),
        ("not within 900 ms", ">not within 900 ms<"),
        ("<b>", ">&lt;b&gt;<"),
    ] {
        let html = of(why);
        assert_eq!(html.matches(word).count(), 2, "{why}: {html}");
        assert!(html.starts_with("<div class=\"scroll\"") && html.trim_end().ends_with("</div>"));
    }
}

#[test]
fn the_latest_row_is_named_first() {
    let rows = [("a", 2e3), ("b", 3e3), ("c", 4e3), ("d", 5e3), ("e", 940e3)];
    let sources = sources(json!(rows.map(|(name, late)| {
        let mut row = row(name, &[100.0, 100.0]);
        row["loop"] = json!("open");
        row["requests"] = json!(5000);
        row["latency_us"] = json!({"p50": 300.0, "p99": 900.0});
        row["lateness_us"] = json!({"p50": 2.0, "p99": late});
        row
    })));
    let banners = sentences::banners(&Model::new(&sources), None);
    let words = &banners[0].words;
    assert!(words.contains("first): http1 steady e (by 940 ms), http1 steady d"), "{words}");
}

#[test]
fn a_merged_file_is_not_called_one_round() {
    let sources = sources(json!([("one", 100.0), ("two", 120.0)].map(|(name, rate)| {
        let mut row = row(name, &[rate]);
        // The tails of single rounds are lost, and its rounds are two.
        row["rounds"] = json!(2);
        row["loop"] = json!("open");
        row["latency_us"] = json!({"p99": row["throughput_per_s"]});
        row["rounds_detail"] = json!([{"round": 1}, {"round": 2}]);
        row
    })));
    let model = Model::new(&sources);
    let (sentence, _) = sentences::verdict(&model.groups[0]);
    assert!(sentence.starts_with("a merged file without the figure of each round"), "{sentence}");
    assert!(!sentence.contains("one round"), "{sentence}");
    let limits = sentences::limits_of_the_numbers(&model).join(" ");
    assert!(!limits.contains("Of one round"), "{limits}");
}

#[test]
fn charts_without_data_are_left_out() {
    let sources = sources(json!([row("one", &[100.0, 100.0])]));
    let html = page(&sources, None);
    for chart in ["verdicts", "dots", "notes"] {
        assert!(html.contains(&format!("data-chart=\"{chart}\"")), "{chart}");
    }
    for chart in
        ["percentiles", "sweep", "timeline", "shares", "breakdown", "lanes", "safety", "policies"]
    {
        assert!(!html.contains(&format!("data-chart=\"{chart}\"")), "{chart}");
    }
}

#[test]
fn a_page_says_why_a_time_is_missing_and_what_its_figures_include() {
    let fault = json!({"fault": "refuse", "label": "refused", "at_ms": 100, "until_ms": 200});
    let slots = [0, 100, 200].map(|t_ms| json!({"t_ms": t_ms, "ok": 5, "errors": t_ms / 100}));
    let page_of = |errors: u64| {
        let mut row = row("one", &[100.0]);
        row["errors"] = json!(errors);
        row["cpu_us_per_request"] = json!(7.0);
        row["events"] = json!([fault]);
        row["slots"] = json!(slots);
        row["recovery"] = json!({
            "first_success_ms": 3.25,
            "normal_p99_ms": null,
            "normal_p99_missing": "not within 2200 ms",
        });
        page(&sources(json!([row])), None)
    };
    let html = page_of(3);
    for words in [
        "3.25 ms",
        "not within 2200 ms",
        "success, by the moment a request was wanted",
        "those that failed included",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert!(!page_of(0).contains("those that failed included"));
}

#[test]
fn the_headline_is_chosen_without_regard_to_units() {
    let row = |figure: &str, name: &str, value: u32| {
        let round = match figure {
            "failed" => json!({"requests": 1000 - value, "errors": value}),
            "recovery" => json!({"recovery": {"normal_p99_ms": value}}),
            _ => json!({"requests": 1000, "errors": 0, "dials": value}),
        };
        let totals = if figure == "recovery" { json!({}) } else { round.clone() };
        of_figure(figure, name, &round, &totals)
    };
    let sources = sources(json!([
        // 400 ms are forty times the number of dials, and less than twice apart.
        row("recovery", "one", 1500),
        row("recovery", "two", 1900),
        row("dials", "one", 9),
        row("dials", "two", 50),
        row("failed", "one", 100),
        row("failed", "two", 130),
    ]));
    let model = Model::new(&sources);
    let titles: Vec<&str> = model.groups.iter().map(|group| group.scenario.as_str()).collect();
    assert_eq!(titles, ["dials", "failed", "recovery"]);
    let headline = sentences::headline(&model, false);
    assert!(
        headline.contains("above all in http1 dials, dials begun: one leads (9)"),
        "{headline}"
    );
}

#[test]
fn a_scenario_is_ranked_by_one_figure_whatever_a_run_measured() {
    let row = |protocol: &str, name: &str, recovery: u32, failed: u32| {
        let round = json!({"requests": 1000 - failed, "errors": failed, "recovery": {"normal_p99_ms": recovery}});
        let mut row = of_figure("recovery", name, &round, &round);
        row["protocol"] = json!(protocol);
        row
    };
    let of = |recovery: [u32; 2], failed: u32| {
        let mut rows = vec![row("http1", "one", 200, 30), row("http1", "two", 200, 30)];
        rows.push(row("resp", "one", recovery[0], 30));
        rows.push(row("resp", "two", recovery[1], failed));
        let sources = sources(json!(rows));
        let model = Model::new(&sources);
        let metrics: Vec<Metric> = model.groups.iter().map(|group| group.metric).collect();
        let resp = model.groups.iter().find(|group| group.protocol == "resp").unwrap();
        (metrics, sentences::beside(resp).join(" "))
    };
    let both = vec![Metric::Recovery, Metric::Recovery];
    assert_eq!(of([100, 900], 30).0, both);
    // If it tells nothing apart, the page says so, and failures stand beside it.
    let (metrics, beside) = of([100, 100], 300);
    assert_eq!(metrics, both);
    assert!(beside.contains("failed per 1,000: from 30 (one) to 300 (two)"), "{beside}");
}

#[test]
fn a_worse_tail_stands_beside_the_figure_that_a_row_leads_in() {
    let herd = |name: &str, dials: u32, p99: [f64; 3]| {
        let rounds: Vec<Value> = p99
            .iter()
            .zip(1..)
            .map(|(p99, round)| json!({"round": round, "requests": 50, "errors": 0, "dials": dials, "p99_us": p99}))
            .collect();
        let mut row = of_figure("dials", name, &json!({}), &json!({"requests": 150, "errors": 0}));
        (row["latency_us"], row["rounds_detail"]) = (json!({"p99": p99[1]}), json!(rounds));
        row
    };
    let sentence = |tail: [f64; 3]| {
        let rows = [herd("default", 8, tail), herd("net-http", 50, [70e3, 72e3, 71e3])];
        let sources = sources(json!(rows));
        let model = Model::new(&sources);
        let group = &model.groups[0];
        (sentences::verdict(group).0, sentences::beside(group).join(" "), summary::render(&sources))
    };
    let (leads, beside, text) = sentence([147e3, 149e3, 148e3]);
    assert!(leads.contains("default (p99 149 ms) leads (8)"), "{leads}");
    assert!(beside.contains("p99 latency: from 72 ms (net-http) to 149 ms (default)"), "{beside}");
    assert!(text.contains("8  default (p99 149 ms)"), "{text}");
    // Within the noise it is no difference to name.
    let (leads, beside, _) = sentence([60e3, 90e3, 75e3]);
    assert!(leads.contains("default leads (8)"), "{leads}");
    assert!(!beside.contains("p99"), "{beside}");
}

#[test]
fn short_or_rare_tail_of_one_round_is_not_named() {
    let sentence = |requests: u32, best: f64, p99: f64| {
        let row = |name: &str, dials: u32, p99: f64| {
            let round = json!({"round": 1, "requests": requests, "errors": 0, "dials": dials, "p99_us": p99});
            let mut row = of_figure("dials", name, &round, &json!({"requests": requests}));
            row["latency_us"] = json!({"p99": p99});
            row
        };
        let sources = sources(json!([row("default", 8, p99), row("net-http", 50, best)]));
        sentences::verdict(&Model::new(&sources).groups[0]).0
    };
    let named = "default (p99 259 ms) leads (8)";
    assert!(sentence(2700, 10e3, 259e3).contains(named));
    for (requests, best, p99, why) in [
        (120, 10e3, 259e3, "a p99 of 120 requests is one request"),
        (2700, 3.3e3, 22e3, "the client's own lateness"),
        (2700, 100e3, 259e3, "less than three times"),
    ] {
        let sentence = sentence(requests, best, p99);
        assert!(sentence.contains("default leads (8)"), "{why}: {sentence}");
    }
}

#[test]
fn rows_without_a_place_are_named_in_the_summary_even_if_the_others_are_equal() {
    let mut rows = vec![failed("one", &[10.0]), failed("two", &[12.0]), failed("cut", &[900.0])];
    rows[2]["partial"] = json!("the server ended");
    let mut silent = failed("silent", &[12.0]);
    (silent["requests"], silent["errors"], silent["rounds_detail"]) =
        (json!(null), json!(null), json!([]));
    rows.push(silent);
    let sources = sources(json!(rows));
    let model = Model::new(&sources);
    let group = &model.groups[0];
    assert_eq!(group.effect(&group.entries[2]), None, "a part is not compared with the whole");
    let text = summary::render(&sources);
    let (sentence, _) = sentences::verdict(group);
    for words in ["cut (partial)", "silent (no such figure)"] {
        assert!(text.contains(words), "{words}: {text}");
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
    assert!(text.contains("not told apart by so few rounds"), "{text}");
    let table = tables::verdicts(group, false);
    for words in ["not placed: partial", "partial: the server ended", "not placed: no such figure"]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(!table.contains("worse than"), "{table}");
}

#[test]
fn files_side_by_side_differ_in_no_unit() {
    let file = |name: &str, dials: u32, recovery: u32| {
        let row = |figure: &str, round: Value| of_figure(figure, "one", &round, &json!({}));
        let rows = json!([
            row("dials", json!({"requests": 1000, "errors": 0, "dials": dials})),
            row(
                "recovery",
                json!({"requests": 1000, "errors": 0, "recovery": {"normal_p99_ms": recovery}})
            ),
        ]);
        let text = json!({"schema": 1, "results": rows}).to_string();
        Source::parse(name.to_owned(), text).unwrap()
    };
    // 400 ms are ten times the number of dials, and less than twice apart.
    let sources = [file("a", 9, 1500), file("b", 50, 1900)];
    let headline = sentences::headline(&Model::new(&sources), false);
    assert!(headline.contains("above all in http1 dials"), "{headline}");
}

#[test]
fn two_rounds_that_scatter_are_not_called_the_same() {
    let table = |rates: &[f64]| {
        let mut limit = row("limit", &[100.0, 101.0]);
        limit["kind"] = json!("limit");
        let sources = sources(json!([limit, row("one", rates)]));
        tables::verdicts(&Model::new(&sources).groups[0], false)
    };
    assert!(!table(&[60.0, 185.0]).contains("same as limit"), "[-89, +1287] excludes nothing");
    assert!(table(&[100.2, 101.1]).contains("same as limit"));
}

#[test]
fn what_a_rival_does_not_do_stands_below_the_table() {
    let mut rival = row("rival", &[100.0, 101.0]);
    rival["does_not"] = json!(["check connections", "bound <them>"]);
    let sources = sources(json!([rival, row("one", &[90.0, 91.0])]));
    let table = tables::verdicts(&Model::new(&sources).groups[0], false);
    let (inside, below) = table.split_once("</table>").unwrap();
    assert!(!inside.contains("check connections"), "{inside}");
    let line = "<li>rival does not check connections; bound &lt;them&gt;</li>";
    assert!(below.contains(line), "{below}");
}

#[test]
fn two_files_that_scatter_are_not_called_the_same() {
    let verdict = |base: &[f64], new: &[f64]| {
        let file = |name: &str, rates: &[f64]| {
            let text = json!({"schema": 1, "results": [row("one", rates)]}).to_string();
            Source::parse(name.to_owned(), text).unwrap()
        };
        let sources = [file("a", base), file("b", new)];
        let model = Model::new(&sources);
        let table = tables::verdicts(&model.groups[0], false);
        (sentences::verdict(&model.groups[0]).0, table)
    };
    let (sentence, table) = verdict(&[100.0, 30.0, 170.0, 60.0], &[80.0, 20.0, 150.0, 90.0]);
    assert!(sentence.contains("too few rounds to tell: one"), "{sentence}");
    assert!(!table.contains("same as the first file"), "{table}");
    let (sentence, table) = verdict(&[100.0, 101.0, 99.0, 100.5], &[100.2, 100.8, 99.3, 100.0]);
    assert!(sentence.contains("no difference beyond the noise: one"), "{sentence}");
    assert!(table.contains("= same as the first file"), "{table}");
}

#[test]
fn the_limits_of_the_numbers_are_those_of_the_run() {
    let words = |options: Value| {
        let of = |scenario: &str, noise: f64| {
            let mut row = row("one", &[100.0, 101.0]);
            (row["scenario"], row["noise"]) =
                (json!(scenario), json!({"throughput": noise, "cpu": 2.0 * noise, "p99": 0.3}));
            row
        };
        let rows = json!([of("steady", 0.05), of("idle-cut", 0.25)]);
        let text = json!({"schema": 1, "options": options, "results": rows}).to_string();
        let sources = [Source::parse("a".to_owned(), text).unwrap()];
        sentences::limits_of_the_numbers(&Model::new(&sources)).join(" ")
    };
    let own = words(json!({}));
    assert!(
        own.contains("from 5 to 25 % in requests per second, 10 to 50 % in CPU, 30 % in p99"),
        "{own}"
    );
    assert!(own.contains("no network"), "{own}");
    let target = words(json!({"target": "redis://10.0.0.1:6379"}));
    assert!(!target.contains("no network") && target.contains("--target"), "{target}");
}
