//! Which contestants of a group lead and which stand behind, and what each row is compared with. Sentences
//! and marks are made of the same differences, so that they agree.

use super::group::{Entry, Group, is_limit, is_scale};
use super::stats::{Effect, Metric, Verdict};

/// Contestants in the order of a metric.
#[derive(Debug, Default)]
pub struct Ranking {
    /// The best first. The members of a tier are not told apart from its first one, and are worse than
    /// the first one of every tier before.
    pub tiers: Vec<Tier>,
    /// Rows that are not told apart from the first one of an earlier tier, although their own figure
    /// is worse: their rounds scatter too much for a place.
    pub unplaced: Vec<usize>,
    /// Rows with many more failures than others: their good figure comes from requests that were not served.
    pub failing: Vec<usize>,
    /// Rows whose faults came late: they did not meet what the others met.
    pub late: Vec<usize>,
}

/// A contestant is not ranked by another figure if this many more of a thousand requests failed than of
/// the contestant with the fewest failures: a refused request is quick and costs no connection.
const TOO_MANY: f64 = 100.0;

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
        ranked.sort_by(
            |(_, a), (_, b)| {
                if metric.higher_is_better() { b.total_cmp(a) } else { a.total_cmp(b) }
            },
        );
        let mut ranking = Ranking::default();
        for (index, _) in ranked {
            if self.entries[index].row.has_late_faults() {
                ranking.late.push(index);
                continue;
            }
            if metric != Metric::Failed && self.more_failed(index) >= TOO_MANY {
                ranking.failing.push(index);
                continue;
            }
            let worse_than_first = |tier: &Tier| {
                let (own, first) = (&self.entries[index], &self.entries[tier.members[0]]);
                let difference = self.difference(metric, own, first);
                difference.is_some_and(|(_, verdict)| verdict == Verdict::Worse)
            };
            match ranking.tiers.split_last_mut() {
                Some((_, before)) if !before.iter().all(worse_than_first) => {
                    ranking.unplaced.push(index);
                }
                Some((last, _)) if !worse_than_first(last) => last.members.push(index),
                _ => ranking.tiers.push(Tier { members: vec![index] }),
            }
        }
        ranking
    }

    /// How many more of a thousand requests of a row failed than of the pool with the least.
    pub fn more_failed(&self, index: usize) -> f64 {
        let failed = |entry: &Entry<'_>| Metric::Failed.of(entry.row);
        let pools = self.entries.iter().filter(|entry| !is_scale(entry.row));
        let least = pools.filter_map(failed).reduce(f64::min).unwrap_or(0.0);
        failed(&self.entries[index]).unwrap_or(least) - least
    }

    /// The entry that another is compared with: its like in the first file, or else the limit, or else the
    /// leader of the ranking. `None` when it is that itself.
    pub fn baseline(&self, entry: &Entry<'_>) -> Option<&Entry<'_>> {
        let base = if self.compares_files() {
            self.entries.iter().find(|other| other.is_like(entry))
        } else {
            // With fewer callers it does not do the same work.
            let same_callers = |limit: &&Entry<'_>| limit.row.callers == entry.row.callers;
            let limits = || self.limits().filter(same_callers);
            let is_other = |limit: &&Entry<'_>| !std::ptr::eq(*limit, entry);
            let same_way =
                limits().filter(is_other).find(|limit| limit.row.variant == entry.row.variant);
            same_way.or(limits().next()).or(self.leader())
        }?;
        (!std::ptr::eq(base, entry)).then_some(base)
    }

    /// The name of the baseline in headings.
    pub fn baseline_name(&self) -> String {
        if self.compares_files() {
            return "the first file".to_owned();
        }
        let same_callers = |limit: &&Entry<'_>| {
            self.entries
                .iter()
                .any(|entry| !is_limit(entry.row) && entry.row.callers == limit.row.callers)
        };
        let limit = self.limits().find(same_callers);
        let Some(base) = limit.or(self.leader()) else { return String::new() };
        // A limit of several ways is named with its way, unless there is a limit for each way.
        let has_ways = |entry: &Entry<'_>| !is_limit(entry.row) && entry.row.variant.is_some();
        match is_limit(base.row) && self.entries.iter().any(has_ways) {
            true => base.row.contestant.clone().unwrap_or_default(),
            false => base.label.clone(),
        }
    }

    fn limits(&self) -> impl Iterator<Item = &Entry<'_>> {
        self.entries.iter().filter(|entry| is_limit(entry.row))
    }

    /// The best contestant; the first one where nothing ranks them.
    fn leader(&self) -> Option<&Entry<'_>> {
        let best = self.ranking.tiers.first().map(|tier| &self.entries[tier.members[0]]);
        best.or(self.entries.first())
    }

    /// The difference from the baseline and what it means.
    pub fn effect(&self, entry: &Entry<'_>) -> Option<(Effect, Verdict)> {
        let is_alike = entry.unlike.is_empty() && !entry.row.has_late_faults();
        let base = self.baseline(entry).filter(|_| is_alike)?;
        self.difference(self.metric, entry, base)
    }

    /// The difference of two entries in a metric. A ranking and a table compare all entries of a group but
    /// one, so the chance of a false alarm is divided by the number of these comparisons.
    fn difference(
        &self,
        metric: Metric,
        own: &Entry<'_>,
        base: &Entry<'_>,
    ) -> Option<(Effect, Verdict)> {
        let questions = match self.compares_files() {
            true => self.entries.iter().filter(|entry| entry.file > 0).count(),
            false => self.entries.len().saturating_sub(1),
        };
        let effect = metric.effect(own.row, base.row, own.file == base.file, questions)?;
        Some((effect, metric.verdict(&effect, self.noise)))
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

    /// What the sentence and the headings of the table say is what the marks say.
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
        // The first row is in the middle, and was once what the others were compared with.
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
        assert_eq!(names(group, &group.ranking.late), ["late"]);
        assert_eq!(group.ranking.tiers.len(), 2);
        let (sentence, _) = sentences::verdict(group);
        assert!(sentence.contains("not placed, faults came late: late"), "{sentence}");
        let table = tables::verdicts(group, false);
        assert!(table.contains("not placed: faults came late"), "{table}");
        assert_eq!(verdict(group, 2), None, "{table}");
    }

    #[test]
    fn rows_that_scatter_are_not_said_to_be_behind() {
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
}
