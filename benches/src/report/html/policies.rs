//! The table of policies: the questions of a pool and the answers of its contestants.

use serde_json::{Map, Value};

use super::group::{Entry, Model};
use super::text::{self, UNKNOWN, escape};

/// The questions of the policy, and the answers of the contestants. Answers that differ from the most
/// common one are marked; questions with one answer are folded away. `None` without policies.
pub fn table(model: &Model<'_>) -> Option<String> {
    let mut columns: Vec<(&Entry<'_>, &Map<String, Value>)> = Vec::new();
    for entry in model.groups.iter().flat_map(|group| &group.entries) {
        let Some(Value::Object(policy)) = &entry.row.policy else { continue };
        let known = |(other, known): &(&Entry<'_>, &Map<String, Value>)| {
            other.contestant == entry.contestant && *known == policy
        };
        // A contestant may have another policy for each budget, protocol and variant of a scenario. Each
        // different one has a column.
        if !columns.iter().any(known) {
            columns.push((entry, policy));
        }
    }
    columns.sort_by_key(|(entry, _)| entry.contestant);
    let mut questions: Vec<&String> =
        columns.iter().flat_map(|(_, policy)| policy.keys()).collect();
    questions.sort_unstable();
    questions.dedup();
    if questions.is_empty() {
        return None;
    }
    let answer = |policy: &Map<String, Value>, question: &String| {
        policy.get(question).map_or_else(|| UNKNOWN.to_owned(), words_of)
    };
    let mut titles = vec!["question".to_owned()];
    titles.extend(columns.iter().map(|(entry, _)| {
        let name = &model.contestants[entry.contestant].name;
        let twice =
            columns.iter().filter(|(other, _)| other.contestant == entry.contestant).count() > 1;
        let place = if twice {
            let row = entry.row;
            let words = [&row.protocol, &row.scenario, &row.variant].into_iter().flatten();
            let words: Vec<&str> = words.map(String::as_str).collect();
            format!("<br><small>{}</small>", escape(&text::clip(&words.join(" "), 60)))
        } else {
            String::new()
        };
        format!("{}{place}", escape(&text::clip(name, 40)))
    }));
    let mut differing = String::new();
    let mut equal = String::new();
    for question in questions {
        let answers: Vec<String> =
            columns.iter().map(|(_, policy)| answer(policy, question)).collect();
        let usual = most_common(&answers);
        let title = format!("<th scope=\"row\">{}</th>", escape(question).replace('_', "_<wbr>"));
        if answers.iter().all(|answer| *answer == usual) {
            equal.push_str(&format!("<tr>{title}<td>{}</td></tr>", escape(&usual)));
            continue;
        }
        let cells: String = answers
            .iter()
            .zip(&columns)
            .map(|(answer, (entry, _))| {
                let class = if *answer == usual { "" } else { "differs" };
                format!("<td class=\"{class} ser c{}\">{}</td>", entry.contestant, escape(answer))
            })
            .collect();
        differing.push_str(&format!("<tr>{title}{cells}</tr>"));
    }
    let mut html = String::new();
    if !differing.is_empty() {
        let heads: String = titles
            .iter()
            .enumerate()
            .map(|(index, title)| {
                let class = match index {
                    0 => String::new(),
                    _ => format!(" class=\"ser c{}\"", columns[index - 1].0.contestant),
                };
                format!("<th scope=\"col\"{class}>{title}</th>")
            })
            .collect();
        html.push_str(&format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Policies\"><table class=\"policy\"><thead><tr>{heads}</tr></thead><tbody>{differing}</tbody></table></div>\n"
        ));
    }
    if !equal.is_empty() {
        html.push_str(&format!(
            "<details><summary>Questions that all answer alike</summary><table class=\"policy plain\"><tbody>{equal}</tbody></table></details>\n"
        ));
    }
    Some(html)
}

fn most_common(answers: &[String]) -> String {
    let times = |answer: &String| answers.iter().filter(|other| *other == answer).count();
    let mut best: Option<&String> = None;
    for answer in answers {
        if best.is_none_or(|best| times(answer) > times(best)) {
            best = Some(answer);
        }
    }
    best.cloned().unwrap_or_default()
}

/// A JSON value as people write it.
pub fn words_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Object(map) => match (
            map.get("secs").and_then(Value::as_u64),
            map.get("nanos").and_then(Value::as_u64),
        ) {
            (Some(secs), Some(nanos)) if map.len() == 2 => {
                let nanos = u32::try_from(nanos).unwrap_or(u32::MAX).min(999_999_999);
                humantime::format_duration(std::time::Duration::new(secs, nanos)).to_string()
            }
            _ => map
                .iter()
                .map(|(key, value)| format!("{key} {}", words_of(value)))
                .collect::<Vec<_>>()
                .join(", "),
        },
        Value::Array(values) => values.iter().map(words_of).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Source;
    use super::*;
    use serde_json::json;

    #[test]
    fn each_policy_of_a_contestant_that_differs_has_a_column() {
        let row = |variant: &str, order: &str| {
            json!({"protocol": "http1", "scenario": "imbalance", "contestant": "default", "kind": "ours",
                "variant": variant, "policy": {"idle_order": order, "peek": true}})
        };
        let rows = [
            row("newest-first", "newest-first"),
            row("oldest-first", "oldest-first"),
            row("random", "random"),
        ];
        let text = json!({"schema": 1, "results": rows}).to_string();
        let sources = [Source::parse("results.json".to_owned(), text).unwrap()];
        let html = table(&Model::new(&sources)).unwrap();
        for variant in ["newest-first", "oldest-first", "random"] {
            assert!(html.contains(&format!("<small>http1 imbalance {variant}</small>")), "{html}");
            assert!(html.contains(&format!(">{variant}</td>")), "{html}");
        }
    }

    #[test]
    fn values_are_words() {
        assert_eq!(words_of(&json!({"secs": 90, "nanos": 0})), "1m 30s");
        assert_eq!(words_of(&json!(null)), "none");
        assert_eq!(words_of(&json!({"retry": {"times": 2}})), "retry times 2");
    }

    #[test]
    fn the_most_common_answer_is_the_usual_one() {
        let answers = ["a", "b", "b"].map(str::to_owned);
        assert_eq!(most_common(&answers), "b");
    }
}
