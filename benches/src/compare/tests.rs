//! How often a comparison is right, on rounds that are made up: with drift between runs, with rounds
//! that resemble their neighbours, and with tails far heavier than a normal distribution's.

mod recorded;

use super::expression::Expression;
use super::figure::Figure;
use super::verdict::{Comparison, Verdict, compare};
use crate::report::saved::{Round, Row, Saved};

/// Rounds that a comparison needs to find a change of 5 % in the processor time of all rows.
const ROUNDS: usize = 40;
const CONTESTANTS: usize = 9;
const TRIES: u64 = 200;
/// Runs of each build that are played in turn.
const PAIRS: usize = 20;

/// A build to be measured.
#[derive(Clone, Copy)]
struct Build {
    /// 1.05 takes 5 % more processor time for a request.
    cpu: f64,
}

/// A standard normal variable, from Box and Muller's transformation.
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// A variable with Student's t distribution with 4 degrees of freedom and variance 1.
fn heavy(random: &mut fastrand::Rng) -> f64 {
    let squares: f64 = (0..4).map(|_| normal(random).powi(2)).sum();
    normal(random) / (squares / 4.0).sqrt() / 2.0_f64.sqrt()
}

/// Noise in which neighbours resemble each other.
struct Noise {
    scale: f64,
    last: f64,
}

impl Noise {
    const CORRELATION: f64 = 0.3;

    fn new(scale: f64, random: &mut fastrand::Rng) -> Self {
        Self { scale, last: normal(random) }
    }

    fn next(&mut self, random: &mut fastrand::Rng) -> f64 {
        let own = (1.0 - Self::CORRELATION * Self::CORRELATION).sqrt();
        self.last = Self::CORRELATION * self.last + own * heavy(random);
        self.last * self.scale
    }
}

/// A run: a limit and some contestants on one machine, whose drift all of them share.
fn run(seed: u64, rounds: usize, build: Build) -> Saved {
    let random = &mut fastrand::Rng::with_seed(seed);
    // The same row was 0.77 to 1.02 of itself in different runs.
    let drift = normal(random) * 0.1;
    let mut machine = Noise::new(0.04, random);
    let shared: Vec<f64> = (0..rounds).map(|_| drift + machine.next(random)).collect();
    let results = (0..=CONTESTANTS).map(|index| {
        // Each contestant's latencies have 3 to 8 % of noise, its processor time has 3 %.
        let scale = 0.03 + 0.05 * index as f64 / CONTESTANTS as f64;
        let mut noises = [0.03, scale, scale, 0.08].map(|scale| Noise::new(scale, random));
        let work = if index == 0 { 1.0 } else { build.cpu };
        let detail = (0..rounds).map(|round| {
            let [cpu, throughput, p50, p99] = std::array::from_fn(|at| noises[at].next(random));
            let drift = shared[round];
            Round {
                round: Some(round as u64 + 1),
                cpu_us_per_request: Some(8.0 * work * (drift + cpu).exp()),
                throughput_per_s: Some(1e5 * (throughput - drift).exp()),
                p50_us: Some(400.0 * (drift + p50).exp()),
                p99_us: Some(900.0 * (drift + p99).exp()),
                ..Round::default()
            }
        });
        Row {
            protocol: Some("resp".to_owned()),
            scenario: Some("steady".to_owned()),
            contestant: Some(format!("contestant-{index}")),
            kind: Some(if index == 0 { "limit" } else { "ours" }.to_owned()),
            rounds_detail: detail.collect(),
            ..Row::default()
        }
    });
    Saved { schema: Some(1), results: results.collect(), ..Saved::default() }
}

const SAME: Build = Build { cpu: 1.0 };
const SLOWER: Build = Build { cpu: 1.05 };

fn tried(number: u64, rounds: usize, base: Build, new: Build) -> Comparison {
    // Neighbouring seeds give streams that resemble each other.
    let mut seeds = fastrand::Rng::with_seed(number);
    let (first, second) = (seeds.u64(..), seeds.u64(..));
    compare(&[(&run(first, rounds, base), &run(second, rounds, new))]).unwrap()
}

#[test]
fn same_build_shows_no_difference_in_19_of_20_tries() {
    for rounds in [5, ROUNDS] {
        let right = (0..TRIES)
            .filter(|number| tried(*number, rounds, SAME, SAME).verdict == Verdict::NoDifference)
            .count() as u64;
        assert!(right * 20 >= TRIES * 19, "{rounds} rounds: {right} of {TRIES}");
    }
}

#[test]
fn five_percent_more_processor_time_is_a_regression() {
    let expression = Expression::parse("cpu>+2%").unwrap();
    let (mut found, mut failed) = (0, 0);
    for number in 0..TRIES {
        let comparison = tried(number, ROUNDS, SAME, SLOWER);
        found += u64::from(comparison.verdict == Verdict::Regressed);
        failed += u64::from(!expression.found_in(&comparison, &[]).is_empty());
    }
    assert!(found * 20 >= TRIES * 19, "{found} of {TRIES}");
    assert!(failed * 20 >= TRIES * 19, "--fail-if: {failed} of {TRIES}");
    let faster = tried(1, ROUNDS, SLOWER, SAME);
    assert_eq!(faster.verdict, Verdict::Improved);
}

/// Runs of two builds in turn, on a machine that slows contestants and not the limit for some runs: the
/// verdict, and that on the first run of each.
fn in_turn(number: u64, base: Build, new: Build) -> [Comparison; 2] {
    let random = &mut fastrand::Rng::with_seed(number);
    let mut slow = normal(random) * 0.04;
    let mut next = |build: Build, rounds: usize| {
        slow = 0.8 * slow + 0.6 * 0.04 * normal(random);
        run(random.u64(..), rounds, Build { cpu: build.cpu * slow.exp() })
    };
    let runs: Vec<[Saved; 2]> = (0..PAIRS).map(|_| [next(base, 4), next(new, 4)]).collect();
    let pairs: Vec<(&Saved, &Saved)> = runs.iter().map(|[base, new]| (base, new)).collect();
    // Between two long runs there is more time to drift.
    let long = [next(base, 4 * PAIRS), {
        for _ in 0..PAIRS {
            next(base, 1);
        }
        next(new, 4 * PAIRS)
    }];
    [compare(&pairs).unwrap(), compare(&[(&long[0], &long[1])]).unwrap()]
}

#[test]
fn runs_in_turn_do_not_take_drift_for_a_difference() {
    let (mut right, mut fooled) = (0, 0);
    for number in 0..TRIES / 2 {
        let [turns, long] = in_turn(number, SAME, SAME);
        right += u64::from(turns.verdict == Verdict::NoDifference);
        fooled += u64::from(long.verdict != Verdict::NoDifference);
    }
    assert!(right * 20 >= TRIES / 2 * 19, "{right} of {}", TRIES / 2);
    assert!(fooled * 2 >= TRIES / 2, "one long run of each: {fooled} of {}", TRIES / 2);
}

#[test]
fn runs_in_turn_find_five_percent_more_processor_time() {
    let mut found = 0;
    for number in 0..TRIES / 4 {
        let [turns, _] = in_turn(number, SAME, SLOWER);
        found += u64::from(turns.verdict == Verdict::Regressed);
    }
    assert!(found * 20 >= TRIES / 4 * 19, "{found} of {}", TRIES / 4);
    let [turns, _] = in_turn(1, SAME, SLOWER);
    assert_eq!(turns.rows[1].rounds, [4 * PAIRS; 2]);
    let cpu = turns.power.iter().find(|power| power.figure == Figure::Cpu).unwrap();
    assert!(cpu.pairs_for_5_percent <= PAIRS as u64, "{cpu:?}");
    let text = super::table::render(&turns, &[]);
    assert!(text.contains("from the differences of runs played in turn"), "{text}");
}

#[test]
fn runs_that_were_not_in_turn_are_said() {
    let at = |second: u64| Saved { measured_at_unix_s: Some(second), ..run(second, 1, SAME) };
    let runs: Vec<Saved> = [1, 2, 3, 4].map(at).into();
    let said = |pairs: [[usize; 2]; 2]| {
        let pairs = pairs.map(|[base, new]| (&runs[base], &runs[new]));
        compare(&pairs).unwrap().differences.iter().any(|words| words.starts_with("time:"))
    };
    assert!(said([[0, 2], [1, 3]]) && said([[2, 0], [3, 1]]));
    assert!(!said([[0, 1], [2, 3]]) && !said([[0, 1], [3, 2]]));
    let mut short = runs[3].clone();
    short.results.pop();
    let comparison = compare(&[(&runs[0], &runs[1]), (&runs[2], &short)]).unwrap();
    assert_eq!(comparison.left_out, ["resp steady contestant-9: not in every run"]);
}

#[test]
fn a_directory_of_runs_stands_for_all_of_them() {
    let directory = std::env::temp_dir().join(format!("poolbench-turns-{}", std::process::id()));
    let write = |build: &str, name: u64, second: u64| {
        let run = Saved { measured_at_unix_s: Some(second), ..run(second, 2, SAME) };
        let folder = directory.join(build).join(name.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::json!({"schema": 1, "measured_at_unix_s": second,
            "results": run.results.iter().map(|row| serde_json::json!({
                "protocol": row.protocol, "scenario": row.scenario, "contestant": row.contestant,
                "kind": row.kind, "rounds_detail": row.rounds_detail.iter().map(|round| serde_json::json!({
                    "round": round.round, "cpu_us_per_request": round.cpu_us_per_request,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>()});
        std::fs::write(folder.join("results.json"), text.to_string()).unwrap();
    };
    // By their times: as words, 10 would come before 9.
    for (name, second) in [(9, 10), (10, 20)] {
        write("before", name, second);
        write("after", name, second + 1);
    }
    let word = |build: &str| directory.join(build).display().to_string();
    let times = |build: &str| {
        let runs = super::runs_of(&word(build), &directory).unwrap();
        runs.iter().map(|run| run.measured_at_unix_s.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((times("before"), times("after")), (vec![10, 20], vec![11, 21]));
    assert_eq!(times("before/9"), [10]);
    let args = || super::CompareArgs {
        base: word("before"),
        new: word("after"),
        fail_if: Vec::new(),
        baselines: directory.clone(),
        json: false,
    };
    let (text, passed) = super::run(&args()).unwrap();
    assert!(passed && text.contains("resp steady contestant-9"), "{text}");
    write("after", 11, 30);
    let error = super::run(&args()).unwrap_err().to_string();
    assert!(error.contains("has 2 runs and") && error.contains("has 3"), "{error}");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_power_of_a_comparison_is_what_it_finds() {
    let smallest = |comparison: &Comparison| {
        let mut power = comparison.power.iter();
        power.find(|power| power.figure == Figure::Cpu).unwrap().smallest
    };
    let comparison = tried(3, ROUNDS, SAME, SAME);
    let cpu = comparison.power.iter().find(|power| power.figure == Figure::Cpu).unwrap();
    // All rows together find 5 % in 40 rounds, see above; with 5 rounds they do not.
    assert!(cpu.smallest < 0.05 && cpu.rounds_for_5_percent <= ROUNDS as u64, "{cpu:?}");
    let short = tried(3, 5, SAME, SAME);
    let cpu = short.power.iter().find(|power| power.figure == Figure::Cpu).unwrap();
    assert!(cpu.smallest > 0.05 && cpu.rounds_for_5_percent > 5, "{cpu:?}");
    let text = super::table::render(&short, &[]);
    assert!(text.contains("nine times of ten") && text.contains("(--rounds)"), "{text}");
    // A change of the size that is said is found about as often as is said.
    let mut said: Vec<f64> =
        (0..41).map(|number| smallest(&tried(number, ROUNDS, SAME, SAME))).collect();
    said.sort_by(f64::total_cmp);
    let build = Build { cpu: 1.0 + said[20] };
    let found = (0..TRIES)
        .filter(|number| tried(*number, ROUNDS, SAME, build).verdict == Verdict::Regressed)
        .count() as u64;
    assert!(found * 10 >= TRIES * 8, "{found} of {TRIES}");
}

#[test]
fn an_interval_goes_with_its_verdict() {
    let (mut changes, mut unsure) = (0, 0);
    for number in 0..TRIES {
        // Single rows of few rounds seem to differ far more often than they do.
        let comparison = tried(number, 3, SAME, Build { cpu: 3.0 });
        let rows = comparison.rows.iter().filter(|row| !row.is_limit);
        for change in rows.flat_map(|row| &row.changes).chain(&comparison.together) {
            let [low, high] = change.interval;
            let differs = low > 0.0 || high < 0.0;
            let is_beyond = change.change.ln_1p().abs() > change.floor.ln_1p();
            assert_eq!(differs && is_beyond, change.verdict != Verdict::NoDifference, "{change:?}");
            assert!(!change.too_few_rounds || change.verdict == Verdict::NoDifference);
            changes += 1;
            unsure += u64::from(change.too_few_rounds);
        }
    }
    assert!(unsure * 2 > changes, "{unsure} of {changes}");
    let text = super::table::render(&tried(1, 3, SAME, SAME), &[]);
    assert!(text.contains("%  too few rounds"), "{text}");
    assert!(text.contains("figures show no difference and could hide one of 5 %"), "{text}");
    let long = super::table::render(&tried(1, 2000, SAME, SAME), &[]);
    assert!(!long.contains("too few rounds"), "{long}");
}

#[test]
fn rows_of_a_scenario_that_are_left_out_for_one_reason_share_a_line() {
    let base = run(1, 3, SAME);
    let mut new = run(2, 3, SAME);
    new.results.truncate(8);
    new.results[7].callers = Some(8.0);
    let mut base = base;
    base.results[7].callers = Some(50.0);
    let comparison = compare(&[(&base, &new)]).unwrap();
    assert_eq!(
        comparison.left_out,
        [
            "resp steady contestant-7: callers: 50 and 8",
            "resp steady, 2 rows (contestant-8, contestant-9): only in BASE",
        ]
    );
}

#[test]
fn a_debug_build_beside_a_release_build_is_a_difference() {
    let (mut base, mut new) = (run(1, 3, SAME), run(2, 3, SAME));
    base.tool.build = Some("debug".to_owned());
    assert!(
        compare(&[(&base, &new)]).unwrap().differences.is_empty(),
        "an older file does not say it"
    );
    new.tool.build = Some("release".to_owned());
    let comparison = compare(&[(&base, &new)]).unwrap();
    assert_eq!(comparison.differences, ["build: debug and release"]);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let base = run(1, 3, SAME);
    let mut new = run(2, 3, SAME);
    for row in &mut new.results {
        row.callers = Some(8.0);
    }
    let callers = |saved: &Saved| {
        let mut saved = saved.clone();
        saved.results.iter_mut().for_each(|row| row.callers = Some(50.0));
        saved
    };
    let error = compare(&[(&callers(&base), &new)]).unwrap_err();
    assert!(error.contains("callers: 50 and 8"), "{error}");
    let error = compare(&[(&run(1, 1, SAME), &base)]).unwrap_err();
    assert!(error.contains("--rounds"), "{error}");
    compare(&[(&Saved::default(), &base)]).unwrap_err();

    let mut other = base.clone();
    other.results.remove(3);
    other.environment = serde_json::json!({"cpu": "another"});
    let mut base = base;
    base.environment = serde_json::json!({"cpu": "one"});
    let comparison = compare(&[(&base, &other)]).unwrap();
    assert_eq!(comparison.left_out, ["resp steady contestant-3: only in BASE"]);
    assert_eq!(comparison.differences, ["cpu: one and another"]);
}

#[test]
fn verdicts_add_up() {
    use Verdict::{Improved, Mixed, NoDifference, Regressed};
    assert_eq!(Verdict::of_all([]), NoDifference);
    assert_eq!(Verdict::of_all([NoDifference, Regressed, Regressed]), Regressed);
    assert_eq!(Verdict::of_all([Improved, NoDifference, Regressed]), Mixed);
    assert_eq!(Verdict::of_all([Mixed, Regressed]), Mixed);
}

#[test]
fn a_table_has_a_verdict_for_people_and_names_what_failed() {
    let comparison = tried(1, ROUNDS, SAME, SLOWER);
    let text = super::table::render(&comparison, &["cpu>+2%: all rows together: +5 %".to_owned()]);
    for words in ["verdict: regressed", "FAILED cpu>+2%", "(reference)", "noise threshold:"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let figures: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(figures.len() > 2, "{text}");
    assert!(figures.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("(all rows together: regressed; each on its own: "), "{text}");
    let name = super::json(&comparison, &[]);
    assert!(name.contains("\"verdict\": \"regressed\""), "{name}");
}

/// A run of `herd` with these dials in its rounds, and the same tails in every run.
fn herd(dials: &[f64]) -> Saved {
    let round = |(dials, number): (&f64, u64)| Round {
        round: Some(number),
        dials: Some(*dials),
        p99_us: Some(900.0 + number as f64),
        ..Round::default()
    };
    let row = Row {
        protocol: Some("resp".to_owned()),
        scenario: Some("herd".to_owned()),
        contestant: Some("default".to_owned()),
        figure: Some("dials".to_owned()),
        dials: Some(dials.iter().sum()),
        rounds_detail: dials.iter().zip(1..).map(round).collect(),
        ..Row::default()
    };
    Saved { schema: Some(1), results: vec![row], ..Saved::default() }
}

#[test]
fn comparison_judges_what_the_scenario_is_about() {
    let (few, many) = (herd(&[8.0, 9.0, 8.0, 9.0, 8.0]), herd(&[50.0; 5]));
    let comparison = compare(&[(&few, &many)]).unwrap();
    assert_eq!(comparison.verdict, Verdict::Regressed);
    let change = comparison.rows[0].changes.last().unwrap();
    assert_eq!((change.figure.name(), change.base, change.new), ("dials", Some(8.0), Some(50.0)));
    assert!((change.change - 41.6).abs() < 0.01 && change.is_count, "{change:?}");
    assert_eq!(compare(&[(&many, &few)]).unwrap().verdict, Verdict::Improved);
    assert_eq!(compare(&[(&many, &many)]).unwrap().verdict, Verdict::NoDifference);
    let text = super::table::render(&comparison, &[]);
    assert!(text.contains("dials") && text.contains("+41.6"), "{text}");
    assert!(super::json(&comparison, &[]).contains("\"figure\": \"dials\""));

    let found = |text: &str| {
        Expression::parse(text).unwrap().found_in(&comparison, std::slice::from_ref(&many))
    };
    for (expression, line) in [
        ("dials>+10", "dials>+10: resp herd default: +41.6"),
        ("dials>+50%", "dials>+50%: resp herd default: +520.0 %"),
        ("dials>40", "dials>40: resp herd default: 50.0"),
    ] {
        assert_eq!(found(expression), [line]);
    }
    for expression in ["dials>+42", "dials<+1", "dials>50", "dials>+600%"] {
        assert_eq!(found(expression), [""; 0], "{expression}");
    }
    // An expression that no row can fulfil is a mistake, and no success.
    let why = Expression::parse("opened>+5").unwrap().unasked(&comparison).unwrap();
    assert!(why.contains("about opened"), "{why}");
    assert_eq!(Expression::parse("opened>5").unwrap().unasked(&comparison), None);
    assert_eq!(Expression::parse("dials>+5%").unwrap().unasked(&comparison), None);
}

#[test]
fn counts_that_scatter_are_too_few_rounds_and_no_equality() {
    let wild = herd(&[8.0, 90.0, 8.0, 90.0]);
    let comparison = compare(&[(&wild, &herd(&[90.0, 8.0, 90.0, 50.0]))]).unwrap();
    let change = comparison.rows[0].changes.last().unwrap();
    assert!(change.too_few_rounds && change.verdict == Verdict::NoDifference, "{change:?}");
    let calm = herd(&[50.0, 51.0, 50.0, 51.0]);
    let comparison = compare(&[(&calm, &herd(&[51.0, 50.0, 50.0, 51.0]))]).unwrap();
    assert!(!comparison.rows[0].changes.last().unwrap().too_few_rounds);
}

#[test]
fn baselines_are_found_by_name_and_others_are_listed() {
    let directory =
        std::env::temp_dir().join(format!("poolbench-baselines-{}", std::process::id()));
    let results = directory.join("results.json");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(&results, "{}").unwrap();
    let baselines = directory.join("baselines");
    let saved = super::save(&results, &baselines, "before").unwrap();
    assert_eq!(super::find("before", &baselines).unwrap(), saved);
    assert_eq!(super::find(directory.to_str().unwrap(), &baselines).unwrap(), results);
    let error = super::find("after", &baselines).unwrap_err();
    assert!(error.to_string().contains("there: before"), "{error}");
    std::fs::remove_dir_all(&directory).unwrap();
    for name in ["", "..", "a/b", ".hidden"] {
        super::parse_name(name).unwrap_err();
    }
}
