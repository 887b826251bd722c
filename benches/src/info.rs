//! `list` and `explain`: what there is, and why a profile is as it is.

use pool_common::knob::{KNOBS, Knob};
use pool_common::profile::{Choice, Profile};
use serde_json::{Value, json};

use crate::catalog::CONTESTANTS;
use crate::error::BenchError;
use crate::names::{self, Protocol};
use crate::scenario::SCENARIOS;

/// Protocols, contestants, scenarios and knobs.
pub fn list(as_json: bool) -> String {
    if as_json { format!("{:#}\n", list_json()) } else { list_text() }
}

fn list_json() -> Value {
    let contestants: Vec<Value> = CONTESTANTS
        .iter()
        .map(|contestant| {
            json!({
                "name": contestant.name,
                "kind": contestant.kind_word(),
                "profile": contestant.profile(),
                "protocols": contestant.protocols,
                "about": contestant.about,
            })
        })
        .collect();
    let scenarios: Vec<Value> = SCENARIOS
        .iter()
        .map(|scenario| {
            let protocols: Vec<Protocol> =
                Protocol::ALL.into_iter().filter(|protocol| scenario.fits(*protocol)).collect();
            json!({"name": scenario.name, "protocols": protocols, "about": scenario.about, "teaches": scenario.teaches})
        })
        .collect();
    let knobs: Vec<Value> = KNOBS
        .iter()
        .map(|knob| {
            json!({
                "name": knob.name,
                "question": knob.question.words(),
                "about": knob.about,
                "accepts": knob.accepts.to_string(),
            })
        })
        .collect();
    json!({
        "protocols": Protocol::ALL,
        "contestants": contestants,
        "scenarios": scenarios,
        "knobs": knobs,
    })
}

fn list_text() -> String {
    let mut lines = vec![
        "protocols:".to_owned(),
        format!("  {}", Protocol::ALL.map(Protocol::name).join(", ")),
        String::new(),
        "contestants:".to_owned(),
    ];
    for contestant in CONTESTANTS {
        let protocols: Vec<&str> =
            contestant.protocols.iter().map(|protocol| protocol.name()).collect();
        let (name, about) = (contestant.name, contestant.about);
        lines.push(format!("  {name:<13} {about} [{}]", protocols.join(", ")));
    }
    lines.push("\nscenarios:".to_owned());
    for scenario in SCENARIOS {
        lines.push(format!("  {:<13} {}", scenario.name, scenario.about));
    }
    lines.push("\nknobs (--set KNOB=VALUE):".to_owned());
    for knob in KNOBS {
        lines.push(format!("  {:<26} {} ({})", knob.name, knob.about, knob.accepts));
    }
    lines.join("\n") + "\n"
}

/// A profile, question by question: each choice with its values and its source, and what differs
/// from the original on purpose.
///
/// # Errors
/// [`BenchError::Usage`] for a name that is no profile.
pub fn explain(name: &str, as_json: bool) -> Result<String, BenchError> {
    let Some(profile) = Profile::find(name) else {
        let known: Vec<&str> = Profile::all().iter().map(|profile| profile.name).collect();
        return Err(names::unknown("profile", name, &known));
    };
    Ok(if as_json { format!("{:#}\n", explain_json(&profile)) } else { explain_text(&profile) })
}

/// The knobs that answer the question of a choice.
fn knobs_of(choice: &Choice) -> impl Iterator<Item = &'static Knob> {
    let question = choice.question;
    KNOBS.iter().filter(move |knob| knob.question == question)
}

fn explain_json(profile: &Profile) -> Value {
    let choices: Vec<Value> = profile
        .choices
        .iter()
        .map(|choice| {
            let knobs: serde_json::Map<String, Value> = knobs_of(choice)
                .map(|knob| (knob.name.to_owned(), knob.value(&profile.policy).into()))
                .collect();
            json!({
                "question": choice.question.words(),
                "knobs": knobs,
                "source": choice.source,
                "difference": choice.difference,
            })
        })
        .collect();
    json!({
        "profile": profile.name,
        "system": profile.system,
        "summary": profile.summary,
        "policy": profile.policy,
        "choices": choices,
    })
}

fn explain_text(profile: &Profile) -> String {
    let mut text = format!("{}: {}\n", profile.name, profile.system);
    wrap(&mut text, "", profile.summary);
    for choice in profile.choices {
        text.push_str(&format!("\n{}?\n", choice.question.words()));
        let knobs: Vec<String> = knobs_of(choice)
            .map(|knob| format!("{}={}", knob.name, knob.value(&profile.policy)))
            .collect();
        wrap(&mut text, "  ", &knobs.join(" "));
        wrap(&mut text, "  source: ", choice.source);
        if let Some(difference) = choice.difference {
            wrap(&mut text, "  ours differs: ", difference);
        }
    }
    text
}

/// Appends words after `lead`, broken at 100 columns.
fn wrap(text: &mut String, lead: &str, words: &str) {
    let indent = " ".repeat(lead.len().min(4));
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > 100 {
            text.push_str(&line);
            text.push('\n');
            line = indent.clone();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_explained_question_by_question() {
        for profile in Profile::all() {
            let text = explain(profile.name, false).unwrap();
            for choice in profile.choices {
                assert!(text.contains(choice.question.words()), "{text}");
            }
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            let json: Value = serde_json::from_str(&explain(profile.name, true).unwrap()).unwrap();
            assert_eq!(json["choices"].as_array().unwrap().len(), profile.choices.len());
            assert!(json["policy"].is_object());
        }
        assert_eq!(explain("limit", false).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_list_names_everything() {
        let text = list(false);
        let json: Value = serde_json::from_str(&list(true)).unwrap();
        for contestant in CONTESTANTS {
            assert!(text.contains(contestant.name));
        }
        assert_eq!(json["knobs"].as_array().unwrap().len(), KNOBS.len());
        assert_eq!(json["protocols"].as_array().unwrap().len(), 4);
        assert_eq!(json["scenarios"].as_array().unwrap().len(), SCENARIOS.len());
    }
}
