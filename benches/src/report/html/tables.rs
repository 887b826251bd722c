//! The tables of the page: verdicts, figures of faults, safety.

use super::group::{Entry, Group, Model, asked, is_limit, unsound};
use super::stats::{Effect, Metric, NEVER, Verdict};
use super::text::{self, UNKNOWN, escape, or_unknown, signed};
use crate::report::recovery::missing_word;
use crate::report::saved::Row;

/// An effect in words: the change and its interval.
pub fn effect_words(metric: Metric, effect: &Effect) -> String {
    if effect.change.abs() > NEVER / 2.0 {
        return if effect.change > 0.0 { "never" } else { "where that never did" }.to_owned();
    }
    let (unit, factor, digits) = if metric.is_absolute() { ("", 1.0, 1) } else { (" %", 100.0, 1) };
    let number = |value: f64| {
        // A tenfold needs no decimals.
        let digits = if (value * factor).abs() >= 99.5 { 0 } else { digits };
        signed(value * factor, digits)
    };
    match effect.interval {
        // An interval of no width would seem to be surer than rounds can make it.
        Some((low, high)) if (high - low).abs() < f64::EPSILON => {
            format!("{}{unit} in every round", number(effect.change))
        }
        Some((low, high)) => {
            format!("{}{unit} [{}, {}]", number(effect.change), number(low), number(high))
        }
        None => format!("{}{unit}, no interval", number(effect.change)),
    }
}

/// Stands in place of a verdict on a row that was asked for something else.
pub const NOT_COMPARABLE: &str = "not comparable";

fn cell(label: &str, class: &str, words: &str) -> String {
    let label = escape(label);
    format!("<td data-label=\"{label}\" class=\"{class}\">{words}</td>")
}

fn head(columns: &[String]) -> String {
    let cells: String =
        columns.iter().map(|column| format!("<th scope=\"col\">{column}</th>")).collect();
    format!("<thead><tr>{cells}</tr></thead>\n")
}

fn name_cell(entry: &Entry<'_>) -> String {
    let row = entry.row;
    let mut notes: Vec<String> = Vec::new();
    notes.extend(row.category.as_deref().map(escape));
    if let Some(broke) = &row.broke {
        notes.push(format!("<b>broke: {}</b>", escape(&text::clip(broke, 200))));
    }
    if let Some(why) = &row.partial {
        notes.push(format!("<b>partial: {}</b>", escape(&text::clip(why, 200))));
    }
    if let Some(why) = unsound(row) {
        notes.push(format!("<b>void: {}</b>", escape(&why)));
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!("<small>{}</small>", notes.join("<br>"))
    };
    format!(
        "<th scope=\"row\"><span class=\"swatch\"></span>{}{notes}</th>",
        escape(&text::clip(&entry.label, 80))
    )
}

/// A note below the table: the cost of failed requests has no separate column.
const CPU_OF_ALL: &str = "CPU per request: the processor time of all requests, those that failed included, for each reply.";

/// The omissions of contestants, one line for each contestant. In the column of names they would take ten lines.
fn omissions(group: &Group<'_>) -> String {
    let mut seen = Vec::new();
    let mut lines = String::new();
    for entry in group.entries.iter().filter(|entry| !entry.row.does_not.is_empty()) {
        if seen.contains(&entry.contestant) {
            continue;
        }
        seen.push(entry.contestant);
        let name = text::clip(entry.row.contestant.as_deref().unwrap_or_default(), 40);
        let words = format!("{name} does not {}", entry.row.does_not.join("; "));
        lines.push_str(&format!("<li>{}</li>", escape(&words)));
    }
    match lines.is_empty() {
        true => lines,
        false => format!(
            "<details><summary>What contestants do not do</summary><ul class=\"hint\">{lines}</ul></details>\n"
        ),
    }
}

/// The verdict table of a group: the limit first, then contestants by tiers that do not differ
/// beyond the noise.
pub fn verdicts(group: &Group<'_>, withdrawn: bool) -> String {
    let against = group.baseline_name();
    let columns = [
        "contestant".to_owned(),
        "req/s".to_owned(),
        "p50".to_owned(),
        "p99".to_owned(),
        "p99.9".to_owned(),
        "CPU per request".to_owned(),
        "opened per 1,000".to_owned(),
        "failed in a round".to_owned(),
        "wrong replies".to_owned(),
        format!("against {}: {} [95 %]", escape(&text::clip(&against, 40)), group.metric.name()),
        "verdict".to_owned(),
    ];
    let mut html = format!("<table class=\"cards verdicts\">{}", head(&columns));
    let mut body = |class: &str, title: &str, members: &[usize]| {
        if members.is_empty() {
            return;
        }
        html.push_str(&format!("<tbody class=\"{class}\">"));
        if !title.is_empty() {
            html.push_str(&format!(
                "<tr class=\"tier-title\"><th colspan=\"{}\" scope=\"rowgroup\">{title}</th></tr>",
                columns.len()
            ));
        }
        for member in members {
            html.push_str(&verdict_row(group, &group.entries[*member], &columns, withdrawn));
        }
        html.push_str("</tbody>\n");
    };
    let all = 0..group.entries.len();
    let limits: Vec<usize> =
        all.clone().filter(|index| is_limit(group.entries[*index].row)).collect();
    body("tier", "", &limits);
    let mut ranked: Vec<usize> = limits;
    // Side by side each contestant stands with itself.
    for tier in &group.ranking.tiers {
        ranked.extend(&tier.members);
        let title = match (tier.members.len(), group.too_few()) {
            (1, _) => String::new(),
            (_, Some(why)) => {
                format!("{why}: not told apart from each other by {}", group.metric.name())
            }
            (many, None) => format!(
                "{many} that do not differ from each other beyond the noise in {}",
                group.metric.name()
            ),
        };
        body(if tier.members.len() > 1 { "tier many" } else { "tier" }, &title, &tier.members);
    }
    let unplaced = &group.ranking.unplaced;
    ranked.extend(unplaced);
    let title = format!("not placed: {}", text::too_much_scatter(unplaced.len()));
    body("tier many", &title, unplaced);
    let mut rest: Vec<usize> = all.filter(|index| !ranked.contains(index)).collect();
    while let Some(first) = rest.first().copied() {
        let like = |index: &usize| {
            !group.compares_files() || group.entries[first].is_like(&group.entries[*index])
        };
        let (alike, others): (Vec<usize>, Vec<usize>) = rest.into_iter().partition(like);
        body("tier", "", &alike);
        rest = others;
    }
    html.push_str("</table>\n");
    let failed = |entry: &Entry<'_>| {
        entry.row.cpu_us_per_request.is_some()
            && entry.row.failed().is_some_and(|failed| failed > 0.0)
    };
    if group.entries.iter().any(failed) {
        html.push_str(&format!("<p class=\"hint\">{CPU_OF_ALL}</p>\n"));
    }
    html.push_str(&omissions(group));
    html
}

fn verdict_row(
    group: &Group<'_>,
    entry: &Entry<'_>,
    columns: &[String],
    withdrawn: bool,
) -> String {
    let row = entry.row;
    let latency = row.latency_us.unwrap_or_default();
    let wrong = match (row.mismatches, row.requests) {
        (Some(wrong), Some(requests)) => {
            format!("{} of {}", text::count(wrong), text::count(requests))
        }
        (None, _) => "unknown".to_owned(),
        (Some(wrong), None) => text::count(wrong),
    };
    let wrong_class = if row.mismatches.is_some_and(|wrong| wrong > 0.0) { "bad" } else { "" };
    let failed_words = match (row.failed(), asked(row)) {
        (Some(0.0), _) => "0".to_owned(),
        (Some(failed), Some(asked)) if asked > 0.0 => {
            let share = text::figure(failed * 100.0 / asked);
            format!("{} ({share} %)", text::figure(row.per_round(failed)))
        }
        (Some(failed), _) => text::figure(row.per_round(failed)),
        (None, _) => UNKNOWN.to_owned(),
    };
    let failed_words = match row.unstarted.filter(|unstarted| *unstarted > 0.0) {
        Some(unstarted) => {
            format!("{failed_words}, {} not started", text::figure(row.per_round(unstarted)))
        }
        None => failed_words,
    };
    let (effect, verdict, class) = match group.effect(entry) {
        _ if group.is_base(entry) => ("base".to_owned(), String::new(), "base"),
        Some((effect, verdict)) => {
            let aside = group.why_aside(entry);
            let class = match verdict {
                _ if withdrawn || aside.is_some() => "v-same",
                Verdict::Better => "v-better",
                Verdict::Worse => "v-worse",
                Verdict::Same | Verdict::Unknown => "v-same",
            };
            let sign = match verdict {
                Verdict::Better => "▲ ",
                Verdict::Worse => "▼ ",
                Verdict::Same => "= ",
                Verdict::Unknown => "",
            };
            let word = if withdrawn {
                "withdrawn".to_owned()
            } else if let Some(why) = aside {
                format!("not placed: {}", why.words())
            } else {
                format!("{sign}{}", verdict.words(&group.baseline_name()))
            };
            (effect_words(group.metric, &effect), word, class)
        }
        None if !entry.unlike.is_empty() => {
            (UNKNOWN.to_owned(), NOT_COMPARABLE.to_owned(), "v-same")
        }
        None => match group.why_aside(entry) {
            Some(why) => (UNKNOWN.to_owned(), format!("not placed: {}", why.words()), "v-same"),
            None => (UNKNOWN.to_owned(), String::new(), ""),
        },
    };
    let cells = [
        ("", or_unknown(row.throughput_per_s, text::figure)),
        ("", or_unknown(latency.p50, text::micros)),
        ("", or_unknown(latency.p99, text::micros)),
        ("", or_unknown(latency.p999, text::micros)),
        ("", or_unknown(row.cpu_us_per_request, text::micros)),
        ("", or_unknown(Metric::Opened.of(row), |value| Metric::Opened.text(value))),
        ("", failed_words),
        (wrong_class, wrong),
        ("effect", effect),
        (class, verdict),
    ];
    let cells: String = cells
        .iter()
        .zip(&columns[1..])
        .map(|((class, words), column)| {
            format!("<td data-label=\"{column}\" class=\"{class}\">{}</td>", escape(words))
        })
        .collect();
    format!("<tr class=\"{}\">{}{cells}</tr>", entry.classes, name_cell(entry))
}

/// What faults did to each contestant: failures by kind, the time to recover, dials. `None` without
/// faults.
pub fn fault_figures(group: &Group<'_>) -> Option<String> {
    let entries: Vec<&Entry<'_>> = group
        .entries
        .iter()
        .filter(|entry| {
            let row = entry.row;
            row.faults().next().is_some() || row.recovery.is_some() || row.dials.is_some()
        })
        .collect();
    if entries.is_empty() {
        return None;
    }
    let columns = [
        "contestant",
        "failed in a round: dial",
        "timeout",
        "refused",
        "broken",
        "wrong",
        "not started",
        "first success after",
        "normal p99 after",
        "dials in a round",
        "peak dials per 100 ms",
        "most open",
    ];
    let mut lines: Vec<(&Entry<'_>, [String; 11])> = Vec::new();
    for entry in entries {
        let row = entry.row;
        let mean = |count: f64| text::figure(row.per_round(count));
        let kind = |of: fn(crate::report::saved::Kinds) -> f64| {
            or_unknown(row.errors_by_kind.map(of), mean)
        };
        let recovery = row.recovery.clone().unwrap_or_default();
        let after = |ms: Option<f64>, missing: Option<String>| match (&row.recovery, ms) {
            // Results of an older version have no reason.
            (Some(_), None) => missing
                .map_or("not in this run".to_owned(), |why| text::clip(missing_word(&why), 40)),
            (_, ms) => or_unknown(ms, |ms| format!("{} ms", text::figure(ms))),
        };
        let cells = [
            kind(|kinds| kinds.dial),
            kind(|kinds| kinds.timeout),
            kind(|kinds| kinds.refused),
            kind(|kinds| kinds.broken),
            kind(|kinds| kinds.wrong),
            or_unknown(row.unstarted, mean),
            after(recovery.first_success_ms, recovery.first_success_missing),
            after(recovery.normal_p99_ms, recovery.normal_p99_missing),
            or_unknown(row.dials, mean),
            or_unknown(row.peak_dials_per_100ms, text::count),
            or_unknown(row.high_water_open, text::count),
        ];
        lines.push((entry, cells));
    }
    // A column without a single figure is left out.
    let known = |index: usize| lines.iter().any(|(_, cells)| cells[index] != UNKNOWN);
    let shown: Vec<usize> = (0..columns.len() - 1).filter(|index| known(*index)).collect();
    let titles: Vec<String> = std::iter::once(columns[0])
        .chain(shown.iter().map(|index| columns[index + 1]))
        .map(str::to_owned)
        .collect();
    // Twelve columns are wider than some screens.
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of the faults\"><table class=\"cards\">{}<tbody>",
        head(&titles)
    );
    for (entry, cells) in &lines {
        let cells: String = shown
            .iter()
            .map(|index| cell(columns[index + 1], "", &escape(&cells[*index])))
            .collect();
        html.push_str(&format!(
            "<tr class=\"{}\"><th scope=\"row\"><span class=\"swatch\"></span>{}</th>{cells}</tr>",
            entry.classes,
            escape(&text::clip(&entry.label, 80))
        ));
    }
    html.push_str("</tbody></table></div>\n");
    Some(html)
}

/// Whether a row belongs into the safety matrix: faults happened, or writes were counted.
fn is_tested(row: &Row) -> bool {
    row.faults().next().is_some() || row.writes.is_some_and(|writes| writes > 0.0)
}

/// Contestants against faults: what was kept, lost, carried out twice, answered wrongly. `None`
/// without faults.
pub fn safety(model: &Model<'_>) -> Option<String> {
    let columns: Vec<&Group<'_>> = model
        .groups
        .iter()
        .filter(|group| group.entries.iter().any(|entry| is_tested(entry.row)))
        .collect();
    if columns.is_empty() {
        return None;
    }
    let mut lines: Vec<(usize, usize, &str, &str)> = columns
        .iter()
        .flat_map(|group| &group.entries)
        .map(|entry| (entry.contestant, entry.file, entry.label.as_str(), entry.classes.as_str()))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let mut titles = vec!["contestant".to_owned()];
    titles.extend(columns.iter().map(|group| escape(&text::clip(&group.title(), 40))));
    let mut html = format!("<table class=\"cards matrix\">{}<tbody>", head(&titles));
    for (contestant, _, label, classes) in lines {
        html.push_str(&format!(
            "<tr class=\"{classes}\"><th scope=\"row\"><span class=\"swatch\"></span>{}</th>",
            escape(&text::clip(label, 80))
        ));
        for group in &columns {
            let found = group
                .entries
                .iter()
                .find(|entry| entry.contestant == contestant && entry.label == label);
            let (class, words) =
                found.map_or(("", UNKNOWN.to_owned()), |entry| safety_cell(entry.row));
            html.push_str(&format!(
                "<td data-label=\"{}\" class=\"{class}\">{words}</td>",
                escape(&text::clip(&group.title(), 40))
            ));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>\n");
    Some(html)
}

fn safety_cell(row: &Row) -> (&'static str, String) {
    let lost = row.failed();
    let twice = row.write_duplicates;
    let wrong = row.mismatches;
    let some = |count: Option<f64>| count.is_some_and(|count| count > 0.0);
    // The worst decides, and has a sign besides its colour.
    let (class, sign) = match (some(wrong), some(twice), some(lost)) {
        (true, ..) => ("s-wrong", "✖"),
        (_, true, _) => ("s-twice", "‼"),
        (.., true) => ("s-lost", "◐"),
        _ => ("s-kept", "✔"),
    };
    // A count of zero is what was found, and no gap.
    let part = |count: Option<f64>, word: &str| match count {
        Some(0.0) => format!("0 {word}"),
        Some(count) => format!("<b>{} {word}</b>", text::count(count)),
        None => format!("{word}: unknown"),
    };
    let kept = format!("{} kept", or_unknown(row.requests, text::count));
    let mut parts = vec![kept, part(lost, "lost")];
    if row.writes.is_some() || twice.is_some() {
        parts.push(part(twice, "run twice"));
    }
    parts.push(part(wrong, "wrong"));
    (
        class,
        format!("<span class=\"sign\" aria-hidden=\"true\">{sign}</span> {}", parts.join("<br>")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_have_intervals() {
        let effect = Effect { change: -0.171, interval: Some((-0.19, -0.152)), is_far: false };
        assert_eq!(effect_words(Metric::Throughput, &effect), "−17.1 % [−19.0, −15.2]");
        let effect = Effect { change: 3.0, interval: None, is_far: false };
        assert_eq!(effect_words(Metric::Failed, &effect), "+3.0, no interval");
        let effect = Effect { change: 30.8, interval: Some((30.8, 30.8)), is_far: false };
        assert_eq!(effect_words(Metric::Failed, &effect), "+30.8 in every round");
        let effect = Effect { change: NEVER - 200.0, interval: None, is_far: true };
        assert_eq!(effect_words(Metric::Recovery, &effect), "never");
    }

    #[test]
    fn the_safety_matrix_says_what_was_found_even_if_it_is_nothing() {
        let row = Row {
            requests: Some(900.0),
            errors: Some(0.0),
            writes: Some(90.0),
            write_duplicates: Some(0.0),
            mismatches: Some(0.0),
            ..Row::default()
        };
        let (class, words) = safety_cell(&row);
        assert_eq!(class, "s-kept");
        assert!(words.ends_with("900 kept<br>0 lost<br>0 run twice<br>0 wrong"), "{words}");
        let unknown = Row { write_duplicates: None, ..row.clone() };
        assert!(safety_cell(&unknown).1.contains("run twice: unknown"));
        // Without a write nothing could run twice.
        let reads = Row { writes: None, write_duplicates: None, ..row };
        assert!(!safety_cell(&reads).1.contains("run twice"));
    }
}
