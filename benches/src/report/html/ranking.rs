//! Which contestants of a group lead and which are behind, and with which row each row is compared. Sentences
//! and marks are made from the same differences, so that they agree.

use super::group::{Entry, Group, LoadKind, is_limit, is_scale};
use super::standing::Aside;
use super::stats::{Effect, FEW_ROUNDS, Metric, Verdict};
use crate::report::saved::Row;

/// Contestants in the order of a metric.
#[derive(Debug, Default)]
pub struct Ranking {
    /// The best first. The members of a tier do not differ from its first one beyond the noise, and are worse
    /// than the first one of every tier before.
    pub tiers: Vec<Tier>,
    /// Rows that do not differ beyond the noise from the first one of an earlier tier, although their own
    /// figure is worse: their rounds scatter too much for a place.
    pub unplaced: Vec<usize>,
    /// Rows that have no place in it, and why.
    pub aside: Vec<(usize, Aside)>,
}

/// Contestants that do not differ beyond the noise.
#[derive(Debug)]
pub struct Tier {
    /// Places in [`Group::entries`], the best first.
    pub members: Vec<usize>,
}

impl Group<'_> {
    /// Ranks the contestants by a metric. The limit and no-pool are no pools and take no part.
    pub fn rank(&self, metric: Metric) -> Ranking {
        let mut ranked: Vec<(usize, f64)> = (0..self.entries.len())
            .filter(|index| !is_scale(self.entries[*index].row))
            .filter_map(|index| Some((index, metric.of(self.entries[index].row)?)))
            .filter(|(_, value)| value.is_finite())
            .collect();
        let is_known = |index: &usize| ranked.iter().any(|(known, _)| known == index);
        let unknown: Vec<usize> = (0..self.entries.len())
            .filter(|index| !is_scale(self.entries[*index].row) && !is_known(index))
            .collect();
        ranked.sort_by(
            |(_, a), (_, b)| {
                if metric.higher_is_better() { b.total_cmp(a) } else { a.total_cmp(b) }
            },
        );
        let mut ranking = Ranking::default();
        let aside = self.aside(metric);
        for (index, _) in ranked {
            if let Some(why) = aside[index] {
                ranking.aside.push((index, why));
                continue;
            }
            let worse_than_first = |tier: &Tier| self.is_worse(metric, index, tier.members[0]);
            match ranking.tiers.split_last_mut() {
                Some((_, before)) if !before.iter().all(worse_than_first) => {
                    ranking.unplaced.push(index);
                }
                Some((last, _)) if !self.is_cut_off(metric, index, last) => {
                    last.members.push(index);
                }
                _ => ranking.tiers.push(Tier { members: vec![index] }),
            }
        }
        for index in unknown {
            ranking.aside.push((index, aside[index].unwrap_or(Aside::NoFigure)));
        }
        ranking
    }

    fn is_worse(&self, metric: Metric, own: usize, base: usize) -> bool {
        let difference = self.difference(metric, &self.entries[own], &self.entries[base]);
        difference.is_some_and(|(_, verdict)| verdict == Verdict::Worse)
    }

    /// Whether a row begins a new tier: it is worse than the first row of the tier. One round has no interval
    /// that shows how certain a difference is, so with one round the row must also be worse than the last row
    /// of the tier. A chain of close values is then one tier, however long it is.
    fn is_cut_off(&self, metric: Metric, own: usize, tier: &Tier) -> bool {
        let (first, last) = (tier.members[0], tier.members[tier.members.len() - 1]);
        let sure = || {
            let (own, first) = (&self.entries[own], &self.entries[first]);
            self.difference(metric, own, first).is_some_and(|(effect, _)| effect.interval.is_some())
        };
        self.is_worse(metric, own, first) && (sure() || self.is_worse(metric, own, last))
    }

    /// Whether a tier holds contestants that are far apart and not told apart.
    pub(super) fn has_unsure_tier(&self) -> bool {
        let is_unsure = |tier: &Tier| {
            let first = &self.entries[tier.members[0]];
            tier.members[1..].iter().any(|index| {
                let difference = self.difference(self.metric, &self.entries[*index], first);
                difference.is_some_and(|(_, verdict)| verdict == Verdict::Unknown)
            })
        };
        self.ranking.tiers.iter().any(is_unsure)
    }

    /// The entry with which `entry` is compared: the same row in the first file, or else the limit, or else the
    /// leader of the ranking. `None` if that is `entry` itself, or if no entry is to be compared with it.
    pub fn baseline(&self, entry: &Entry<'_>) -> Option<&Entry<'_>> {
        let base = if self.compares_files() {
            self.entries.iter().find(|other| other.is_like(entry))
        } else {
            let limits = || self.limits().filter(|limit| self.is_measure_of(limit, entry));
            let is_other = |limit: &&Entry<'_>| !std::ptr::eq(*limit, entry);
            let same_way =
                limits().filter(is_other).find(|limit| limit.row.variant == entry.row.variant);
            let limit = same_way.or(limits().next());
            // A limit that measures nothing else is not compared with the contestants either.
            let leader = || self.leader().filter(|_| !is_limit(entry.row));
            limit.or_else(leader)
        }?;
        (!std::ptr::eq(base, entry)).then_some(base)
    }

    /// Whether others are compared with this entry, so that it has no verdict itself.
    pub fn is_base(&self, entry: &Entry<'_>) -> bool {
        if self.compares_files() {
            return entry.file == 0;
        }
        let is_it = |base: &Entry<'_>| std::ptr::eq(base, entry);
        let is_own_base = |other: &Entry<'_>| self.baseline(other).is_some_and(is_it);
        self.baseline(entry).is_none()
            && (self.leader().is_some_and(is_it) || self.entries.iter().any(is_own_base))
    }

    /// Whether a limit does the same work as an entry: the same number of callers, or the same rate without
    /// faults. During a fault, a limit with fewer sockets would only show that it has fewer sockets.
    fn is_measure_of(&self, limit: &Entry<'_>, entry: &Entry<'_>) -> bool {
        limit.row.callers == entry.row.callers || self.load_kind() == LoadKind::Quiet
    }

    /// The name of the baseline in headings.
    pub fn baseline_name(&self) -> String {
        if self.compares_files() {
            return "the first file".to_owned();
        }
        let measures = |limit: &&Entry<'_>| {
            let mut others = self.entries.iter().filter(|entry| !is_limit(entry.row));
            others.any(|entry| self.is_measure_of(limit, entry))
        };
        let limit = self.limits().find(measures);
        let Some(base) = limit.or(self.leader()) else { return String::new() };
        // A limit of several ways is named with its way, unless there is a limit for each way.
        let has_ways = |entry: &Entry<'_>| !is_limit(entry.row) && entry.row.variant.is_some();
        match is_limit(base.row) && self.entries.iter().any(has_ways) {
            true => base.row.contestant.clone().unwrap_or_default(),
            false => base.label.clone(),
        }
    }

    /// The limits that hold: nothing is compared with one that broke or was overloaded.
    fn limits(&self) -> impl Iterator<Item = &Entry<'_>> {
        let holds = |row: &Row| row.broke.is_none() && row.overloaded.is_none();
        self.entries.iter().filter(move |entry| is_limit(entry.row) && holds(entry.row))
    }

    /// The best contestant; the first one if there is no ranking.
    fn leader(&self) -> Option<&Entry<'_>> {
        let best = self.ranking.tiers.first().map(|tier| &self.entries[tier.members[0]]);
        let pool = || self.entries.iter().find(|entry| !is_limit(entry.row));
        best.or_else(pool).or(self.entries.first())
    }

    /// The difference from the baseline and what it means.
    pub fn effect(&self, entry: &Entry<'_>) -> Option<(Effect, Verdict)> {
        let row = entry.row;
        let is_whole = row.partial.is_none() && !row.has_late_faults() && !row.has_late_requests();
        let is_alike = entry.unlike.is_empty() && is_whole;
        let base = self.baseline(entry).filter(|_| is_alike)?;
        let (effect, verdict) = self.difference(self.metric, entry, base)?;
        // A chain of close values is one tier. Within a tier no mark may show a difference.
        let is_at =
            |index: &usize, entry: &Entry<'_>| std::ptr::eq(&raw const self.entries[*index], entry);
        let together = |tier: &Tier| {
            let holds = |entry: &Entry<'_>| tier.members.iter().any(|index| is_at(index, entry));
            effect.interval.is_none() && holds(entry) && holds(base)
        };
        let chained = self.ranking.tiers.iter().any(together);
        Some((effect, if chained { Verdict::Unknown } else { verdict }))
    }

    /// Why an entry has no place in the ranking.
    pub fn why_aside(&self, entry: &Entry<'_>) -> Option<Aside> {
        let is_it = |index: usize| std::ptr::eq(&raw const self.entries[index], entry);
        self.ranking.aside.iter().find(|(index, _)| is_it(*index)).map(|(_, why)| *why)
    }

    /// The difference of two entries in a metric. A ranking and a table compare all entries of a group but
    /// one, so the chance of a false alarm is divided by the number of these comparisons.
    pub(super) fn difference(
        &self,
        metric: Metric,
        own: &Entry<'_>,
        base: &Entry<'_>,
    ) -> Option<(Effect, Verdict)> {
        let questions = match self.compares_files() {
            true => self.entries.iter().filter(|entry| entry.file > 0).count(),
            false => self.entries.len().saturating_sub(1),
        };
        let base_file = base.file;
        let effect = metric.effect(own.row, base.row, own.file == base_file, questions)?;
        let verdict = metric.verdict(&effect, self.noise);
        // Two runs were played to find a small difference, so "the same" has to exclude one. Almost any
        // difference fits into the interval of two rounds.
        let is_few = [own, base].iter().any(|entry| metric.rounds(entry.row).len() < FEW_ROUNDS);
        let hides_one = |interval| {
            let base = metric.of(base.row).unwrap_or(0.0);
            (is_few || own.file != base_file) && !metric.is_narrow(interval, base, self.noise)
        };
        let verdict = match (verdict, effect.interval) {
            (Verdict::Same, Some(interval)) if hides_one(interval) => Verdict::Unknown,
            _ => verdict,
        };
        Some((effect, verdict))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::group::Model;
    use super::super::input::Source;
    use super::super::{sentences, tables};
    use super::*;

    /// A page's model of rows with these failures of a thousand requests in their rounds.
    fn sources(rows: &[(&str, &[u64])]) -> Vec<Source> {
        let row = |(name, failed): &(&str, &[u64])| {
            let round = |(failed, round): (&u64, u64)| json!({"round": round, "requests": 1000 - failed, "errors": failed});
            let all: u64 = failed.iter().sum();
            json!({"protocol": "http1", "scenario": "restart", "contestant": name, "kind": "ours",
                "events": [{"fault": "refuse", "at_ms": 5, "until_ms": 9}],
                "requests": 1000 * failed.len() as u64 - all, "errors": all,
                "rounds_detail": failed.iter().zip(1..).map(round).collect::<Vec<_>>()})
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        let text = json!({"schema": 1, "results": rows}).to_string();
        vec![Source::parse("results.json".to_owned(), text).unwrap()]
    }

    fn names(group: &Group<'_>, members: &[usize]) -> Vec<String> {
        members.iter().map(|index| group.entries[*index].label.clone()).collect()
    }

    fn verdict(group: &Group<'_>, index: usize) -> Option<Verdict> {
        group.effect(&group.entries[index]).map(|(_, verdict)| verdict)
    }

    /// The sentence, the headings of the table and the marks must agree.
    fn assert_agrees(group: &Group<'_>) {
        for (place, tier) in group.ranking.tiers.iter().enumerate() {
            for member in &tier.members {
                let mark = verdict(group, *member);
                let leads = place == 0 && mark.is_none_or(|mark| mark != Verdict::Worse);
                let behind = place > 0 && mark == Some(Verdict::Worse);
                assert!(leads || behind, "{}: {mark:?}", group.entries[*member].label);
            }
        }
    }

    #[test]
    fn marks_agree_with_the_ranking_in_one_round_and_in_five() {
        // The first row is in the middle. An earlier version compared the others with it.
        let one = sources(&[("mid", &[20]), ("best", &[0]), ("near", &[8]), ("worst", &[31])]);
        let model = Model::new(&one);
        let group = &model.groups[0];
        assert_agrees(group);
        assert_eq!(names(group, &group.ranking.tiers[0].members), ["best", "near"]);
        assert_eq!(group.ranking.tiers.len(), 3, "worst is plainly behind mid");
        let table = tables::verdicts(group, false);
        for words in [
            "one round: not told apart from each other by failed per 1,000",
            "against best: failed per 1,000",
            "worse than best",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
        let (sentence, _) = sentences::verdict(group);
        assert!(sentence.contains("best and near lead (0 to 8); behind: mid"), "{sentence}");

        let five = sources(&[
            ("mid", &[20, 21, 19, 20, 20]),
            ("best", &[0, 1, 0, 0, 1]),
            ("near", &[0, 1, 1, 0, 1]),
            ("worst", &[30, 30, 31, 29, 30]),
        ]);
        let model = Model::new(&five);
        assert_agrees(&model.groups[0]);
        assert_eq!(model.groups[0].ranking.tiers.len(), 3);
    }

    #[test]
    fn rows_whose_faults_came_late_have_no_place() {
        let mut sources = sources(&[("best", &[0]), ("behind", &[90]), ("late", &[300])]);
        let rows = &mut sources[0].results.results;
        rows[1].faults_late_ms = Some(4.0);
        rows[2].faults_late_ms = Some(2636.0);
        let model = Model::new(&sources);
        let group = &model.groups[0];
        assert_eq!(group.ranking.aside, [(2, Aside::LateFaults)]);
        assert_eq!(group.ranking.tiers.len(), 2);
        let (sentence, _) = sentences::verdict(group);
        assert!(sentence.contains("not placed: late (faults came late)"), "{sentence}");
        let table = tables::verdicts(group, false);
        assert!(table.contains("not placed: faults came late"), "{table}");
        assert_eq!(verdict(group, 2), None, "{table}");
    }

    #[test]
    fn rows_that_scatter_are_not_named_as_behind() {
        let sources = sources(&[
            ("best", &[0, 1, 0, 0, 1]),
            ("behind", &[20, 21, 19, 20, 20]),
            ("wild", &[0, 1, 300, 0, 1]),
        ]);
        let model = Model::new(&sources);
        let group = &model.groups[0];
        assert_agrees(group);
        assert_eq!(names(group, &group.ranking.unplaced), ["wild"]);
        assert_eq!(verdict(group, 2), Some(Verdict::Same));
        let (sentence, _) = sentences::verdict(group);
        assert!(
            sentence
                .ends_with("; behind: behind (20); not placed, its rounds scatter too much: wild."),
            "{sentence}"
        );
        assert!(tables::verdicts(group, false).contains("not placed: its rounds scatter too much"));
    }

    /// One round of an open loop, with `more` fields of the row.
    fn open(name: &str, opened: u32, more: &serde_json::Value) -> serde_json::Value {
        let mut row = json!({"protocol": "http1", "scenario": "burst", "contestant": name,
            "kind": "ours", "loop": "open", "figure": "opened", "requests": 1000, "errors": 0,
            "opened": opened, "latency_us": {"p50": 7000.0}, "policy": {"max_open_per_key": 50},
            "rounds_detail": [{"requests": 1000, "errors": 0, "opened": opened}]});
        for (key, value) in more.as_object().unwrap() {
            row[key] = value.clone();
        }
        row
    }

    fn of_rows(rows: &[serde_json::Value]) -> Vec<Source> {
        let text = json!({"schema": 1, "results": rows}).to_string();
        vec![Source::parse("results.json".to_owned(), text).unwrap()]
    }

    #[test]
    fn restart_ranks_rivals_that_count_no_dials() {
        let figure = crate::scenario::Scenario::parse("restart").unwrap().figure.name();
        let row = |name: &str, kind: &str, failed: u32, dials: Option<u32>| {
            let round = json!({"requests": 1000 - failed, "errors": failed, "dials": dials});
            json!({"protocol": "resp", "scenario": "restart", "contestant": name, "kind": kind,
                "loop": "open", "figure": figure, "requests": 1000 - failed, "errors": failed,
                "events": [{"fault": "refuse", "at_ms": 5, "until_ms": 9}], "dials": dials,
                "rounds": 1, "rounds_detail": [round]})
        };
        let sources = of_rows(&[
            row("fred", "peer", 0, None),
            row("default", "ours", 189, Some(75)),
            row("net-http", "ours", 253, Some(900)),
        ]);
        let model = Model::new(&sources);
        let group = &model.groups[0];
        let (sentence, _) = sentences::verdict(group);
        assert!(
            sentence.starts_with("failed per 1,000: fred leads (0); behind: default"),
            "{sentence}"
        );
        assert!(group.ranking.aside.is_empty(), "{sentence}");
        let text = super::super::summary::render(&sources);
        assert!(text.contains("dials begun: from 75 (default) to 900 (net-http)"), "{text}");
        // Where failures tell nothing apart, the dials are told all the same.
        let even = of_rows(&[
            row("default", "ours", 211, Some(83)),
            row("redigo", "ours", 255, Some(1020)),
        ]);
        let text = super::super::summary::render(&even);
        for words in [
            "resp restart: failed per 1,000, not told apart by so few rounds",
            "dials begun: from 83 (default) to 1.02k (redigo)",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        // A row that has no dials sets no measure of failures where dials rank.
        let aside = group.aside(Metric::AllDials);
        assert_eq!(aside[1..], [None, None], "{aside:?}");
    }

    #[test]
    fn a_row_with_one_connection_or_overload_neither_leads_nor_is_a_base() {
        let one = json!({"policy": {"max_open_per_key": 1}, "high_water_open": 1});
        let rival = json!({"kind": "peer", "policy": null, "high_water_open": 1});
        let queue = json!({"latency_us": {"p50": 177_000.0}});
        let unstarted = json!({"unstarted": 9000, "requests": 1000});
        let sources = of_rows(&[
            open("thrift", 4, &one),
            open("redis-rs", 3, &rival),
            open("queue", 2, &queue),
            open("unstarted", 1, &unstarted),
            open("go-redis", 84, &json!({})),
            open("net-http", 416, &json!({})),
        ]);
        let model = Model::new(&sources);
        let group = &model.groups[0];
        assert_eq!(names(group, &group.ranking.tiers[0].members), ["go-redis"]);
        assert_eq!(group.baseline_name(), "go-redis");
        let (sentence, _) = sentences::verdict(group);
        for words in [
            "go-redis leads (84); behind: net-http (416); not placed: ",
            "thrift (one connection)",
            "redis-rs (one connection)",
            "queue (overloaded)",
            "unstarted (overloaded)",
        ] {
            assert!(sentence.contains(words), "{words}: {sentence}");
        }
        let table = tables::verdicts(group, false);
        assert!(table.contains("not placed: one connection"), "{table}");
        assert!(!table.contains("better than"), "{table}");
        // In a ranking by failures, a rival that serves many requests on one connection has a place.
        let aside = group.aside(Metric::Failed);
        assert_eq!((aside[0], aside[1]), (Some(Aside::OneConnection), None));

        // If all rows have one connection, they are ranked.
        let alike = of_rows(&[open("thrift", 4, &one), open("grpc", 90, &one)]);
        let model = Model::new(&alike);
        assert_eq!(model.groups[0].ranking.tiers.len(), 2);
        assert!(model.groups[0].ranking.aside.is_empty());
    }

    #[test]
    fn rows_whose_requests_were_sent_late_have_no_place() {
        // A client without a processor times out like an overloaded one.
        let late = |p99: f64| json!({"lateness_us": {"p50": 900.0, "p99": p99}});
        let sources = of_rows(&[
            open("default", 2, &late(940_000.0)),
            open("net-http", 90, &late(2_000.0)),
            open("go-redis", 400, &late(49_000.0)),
        ]);
        let model = Model::new(&sources);
        let group = &model.groups[0];
        assert_eq!(group.ranking.aside, [(0, Aside::SentLate)]);
        let (sentence, _) = sentences::verdict(group);
        assert!(sentence.contains("net-http leads (90); behind: go-redis (400)"), "{sentence}");
        assert!(sentence.contains("not placed: default (sent late)"), "{sentence}");
        assert_eq!(verdict(group, 0), None);
    }

    #[test]
    fn a_growing_queue_during_a_fault_is_no_overload() {
        let fault = json!([{"fault": "slow-replies", "at_ms": 200, "until_ms": 900}]);
        let slots = |first: f64| {
            json!([{"t_ms": 0, "ok": 9, "p50_us": first}, {"t_ms": 100, "ok": 9, "p50_us": first},
                {"t_ms": 200, "ok": 9, "p50_us": 400_000.0}])
        };
        let row = |name: &str, first: f64, median: f64| {
            let more =
                json!({"events": fault, "slots": slots(first), "latency_us": {"p50": median}});
            open(name, 10, &more)
        };
        let sources = of_rows(&[
            row("refuses", 2000.0, 3000.0),
            row("waits", 2100.0, 300_000.0),
            row("slow", 90_000.0, 300_000.0),
        ]);
        let model = Model::new(&sources);
        let aside = model.groups[0].aside(Metric::Opened);
        assert_eq!(aside, [None, None, Some(Aside::Overloaded)]);
    }

    #[test]
    fn one_round_is_cut_at_gaps_and_not_within_a_chain() {
        let chain = sources(&[
            ("default", &[286]),
            ("database-sql", &[355]),
            ("net-http", &[365]),
            ("thrift", &[921]),
        ]);
        let model = Model::new(&chain);
        let group = &model.groups[0];
        let first = names(group, &group.ranking.tiers[0].members);
        assert_eq!(first, ["default", "database-sql", "net-http"]);
        assert_eq!(names(group, &group.ranking.tiers[1].members), ["thrift"]);
        assert_agrees(group);
        assert_eq!(verdict(group, 2), Some(Verdict::Unknown), "no mark beyond the ranking");
        assert_eq!(verdict(group, 3), Some(Verdict::Worse));
    }

    #[test]
    fn a_limit_with_other_callers_is_no_base_under_another_heading() {
        let row = |name: &str, callers: u32, at: f64, p99: f64| {
            let kind = if name == "limit" { "limit" } else { "ours" };
            json!({"protocol": "resp", "scenario": "restart", "contestant": name, "kind": kind,
                "loop": "closed", "callers": callers, "throughput_per_s": at,
                "latency_us": {"p99": p99}, "rounds_detail": [{"throughput_per_s": at}]})
        };
        let sources = of_rows(&[
            row("limit", 8, 90.0, 1.0),
            row("redigo", 50, 80.0, 2.0),
            row("two", 50, 70.0, 2.0),
        ]);
        let model = Model::new(&sources);
        let table = tables::verdicts(&model.groups[0], false);
        assert!(table.contains("against redigo"), "{table}");
        assert_eq!(table.matches(">base<").count(), 1, "{table}");
    }

    #[test]
    fn an_overloaded_limit_is_no_base() {
        let limit = |fields: &serde_json::Value| {
            let mut row = open("limit", 20, fields);
            row["kind"] = json!("limit");
            of_rows(&[row, open("redigo", 90, &json!({})), open("net-http", 400, &json!({}))])
        };
        assert_eq!(Model::new(&limit(&json!({}))).groups[0].baseline_name(), "limit");
        for why in ["overloaded", "broke"] {
            let sources = limit(&json!({why: "810 of 1000 requests had no reply in time"}));
            let model = Model::new(&sources);
            assert_eq!(model.groups[0].baseline_name(), "redigo", "{why}");
            assert_eq!(verdict(&model.groups[0], 0), None, "{why}");
        }
    }

    #[test]
    fn a_sweep_has_one_base_and_names_its_knees() {
        let row = |name: &str, callers: u32, rate: u32, p99: f64| {
            let kind = if name == "limit" { "limit" } else { "ours" };
            json!({"protocol": "resp", "scenario": "paced", "contestant": name, "kind": kind,
                "figure": "p99", "loop": "open", "callers": callers, "rate_per_s": rate,
                "step": {"index": rate / 1000}, "wanted": 100, "requests": 100, "errors": 0,
                "latency_us": {"p50": 500.0, "p99": p99}, "rounds_detail": [{"p99_us": p99}]})
        };
        let mut rows = Vec::new();
        for rate in [1000, 2000, 3000] {
            rows.push(row("limit", 50, rate, 900.0));
            rows.push(row("redigo", 1000, rate, if rate > 2000 { 90_000.0 } else { 1000.0 }));
        }
        let sources = of_rows(&rows);
        let model = Model::new(&sources);
        let table = tables::verdicts(&model.groups[0], false);
        assert!(table.contains("against limit"), "{table}");
        assert_eq!(table.matches(">base<").count(), 1, "{table}");
        let headline = sentences::headline(&model, false);
        let knees = "knees: limit (beyond 3,000/s) and redigo (2,000/s)";
        assert!(headline.contains(knees), "{headline}");
    }
}
