//! `list` and `explain`: the names that exist, and the reasons for the choices of a profile.

use pool_common::knob::{KNOBS, Knob};
use pool_common::profile::{Choice, Profile};
use serde_json::{Value, json};

use crate::catalog::{CONTESTANTS, Contestant, PEERS, contestants};
use crate::error::BenchError;
use crate::names::{self, Protocol};
use crate::scenario::{SCENARIOS, Scenario};

mod diff;
mod knob;
mod own;

pub use diff::diff;

/// Protocols, contestants, scenarios and knobs.
pub fn list(as_json: bool) -> String {
    if as_json { format!("{:#}\n", list_json()) } else { list_text() }
}

fn list_json() -> Value {
    let contestants: Vec<Value> = contestants()
        .map(|contestant| {
            json!({
                "name": contestant.name,
                "kind": contestant.kind_word(),
                "profile": contestant.profile(),
                "protocols": contestant.protocols,
                "about": contestant.about,
                "category": contestant.facts().map(|facts| facts.category.words()),
                "does_not": contestant.facts().map_or(&[][..], |facts| facts.does_not),
            })
        })
        .collect();
    let scenarios: Vec<Value> = SCENARIOS
        .iter()
        .map(|scenario| {
            let protocols: Vec<Protocol> =
                Protocol::ALL.into_iter().filter(|protocol| scenario.fits(*protocol)).collect();
            json!({"name": scenario.name, "protocols": protocols, "about": scenario.about_with(&[]), "teaches": scenario.teaches, "figure": scenario.figure.name(), "only": scenario.only})
        })
        .collect();
    let knobs: Vec<Value> = KNOBS.iter().map(knob::json).collect();
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
    for contestant in contestants() {
        let protocols: Vec<&str> =
            contestant.protocols.iter().map(|protocol| protocol.name()).collect();
        let (name, about) = (contestant.name, contestant.about);
        lines.push(format!("  {name:<16} {about} [{}]", protocols.join(", ")));
    }
    lines.push("\nscenarios:".to_owned());
    for scenario in SCENARIOS {
        let takers = scenario.takers().map_or(String::new(), |only| format!(" [{only}]"));
        lines.push(format!("  {:<16} {}{takers}", scenario.name, scenario.about_with(&[])));
        lines.push(format!("  {:<16} shows: {}", "", scenario.teaches));
    }
    lines.push("\nknobs (--set KNOB=VALUE):".to_owned());
    for knob in KNOBS {
        lines.push(format!("  {:<26} {} ({})", knob.name, knob.about, knob.accepts));
    }
    lines.join("\n") + "\n"
}

/// A profile, question by question: each choice with its values and its source, and what differs
/// from the original on purpose. It also explains a contestant without a profile, or a single knob.
///
/// # Errors
/// [`BenchError::Usage`] for an unknown name.
pub fn explain(name: &str, as_json: bool) -> Result<String, BenchError> {
    if let Some(contestant) = contestants().find(|one| one.name == name)
        && let Some(words) = in_words(contestant.name).or_else(|| rival_in_words(&contestant))
    {
        let own = (name == own::DEFAULT).then(own::Own::new);
        return Ok(match as_json {
            true => {
                let mut about =
                    json!({"contestant": name, "summary": words, "policy": null, "choices": []});
                if let Some(own) = own {
                    own.add_to(&mut about);
                }
                format!("{about:#}\n")
            }
            false => {
                let mut text = format!("{name}: {}\n", contestant.about);
                wrap(&mut text, "", &words);
                if let Some(own) = own {
                    own.write(&mut text);
                }
                text
            }
        });
    }
    if let Some(knob) = knob::find(name) {
        return Ok(knob::explain(knob, as_json));
    }
    if let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) {
        return Ok(explain_scenario(scenario, as_json));
    }
    let profile = Profile::find(name).ok_or_else(|| unknown(name))?;
    Ok(if as_json { format!("{:#}\n", explain_json(&profile)) } else { explain_text(&profile) })
}

/// The error for an unknown name. For a rival that is not part of this build it tells how to build it.
fn unknown(name: &str) -> BenchError {
    let contestants = CONTESTANTS.iter().chain(&PEERS).map(|contestant| contestant.name);
    if contestants.clone().any(|known| known == name)
        && let Err(error) = Contestant::find(name)
    {
        return error;
    }
    let known = contestants.chain(SCENARIOS.iter().map(|scenario| scenario.name));
    let known: Vec<&str> = known.chain(KNOBS.iter().map(|knob| knob.name)).collect();
    names::unknown("profile, contestant, scenario or knob", name, &known)
}

/// A scenario: its events, the difference that it should show, and its contestants.
fn explain_scenario(scenario: &Scenario, as_json: bool) -> String {
    let (about, fits) = (scenario.about_with(&[]), |protocol: &Protocol| scenario.fits(*protocol));
    let protocols: Vec<Protocol> = Protocol::ALL.into_iter().filter(fits).collect();
    if as_json {
        let words = json!({
            "scenario": scenario.name, "about": about, "teaches": scenario.teaches,
            "figure": scenario.figure.name(), "protocols": protocols, "only": scenario.only,
        });
        return format!("{words:#}\n");
    }
    let mut text = format!("{}: a scenario\n", scenario.name);
    wrap(&mut text, "  what happens: ", &about);
    wrap(&mut text, "  it should show: ", scenario.teaches);
    wrap(&mut text, "  ranked by: ", scenario.figure.words());
    let protocols: Vec<&str> = protocols.into_iter().map(Protocol::name).collect();
    wrap(&mut text, "  protocols: ", &protocols.join(", "));
    let takers = scenario.takers().unwrap_or_else(|| "every contestant that fits".to_owned());
    wrap(&mut text, "  takes part: ", &takers);
    text
}

/// Describes a contestant that runs no profile, and so has no sources.
fn in_words(name: &str) -> Option<String> {
    let words = match name {
        "limit" => {
            "What the machine allows, and no pool: each caller has a socket of its own, opened before the \
             measured time. Over HTTP/2 callers share connections and there is a limit for each number of them: \
             1-connection, which the others are compared with, 2-connections and 4-connections; scenario connections \
             has more. None of them is a ceiling: two connections often do nearly twice as much as one. Replies are read by their known length, \
             so there is no parsing, no check, no limit to wait for and no deadline. It has no policy, so --set \
             does not change it. A connection that the server ends is opened again outside the measured time: what that \
             takes is not in its figures, and the table says how often. Where one request in a hundred fails all the \
             same, it has broken: it is named, there are no ratios to it, and the exit code is 1. Where as many have no \
             reply in time, it was overloaded: it is named and there are no ratios to it, and the exit code stays 0."
        }
        "no-pool" => {
            "The other end of the scale: each request dials a connection, uses it once and closes it. It has no \
             policy, so --set does not change it. Its time is what a pool can save."
        }
        "default" => {
            "What the clients of this project do when nothing is chosen: Client::default_policy() of the client, \
             Policy::default() for framed. It follows no surveyed system, so its choices have no source; \
             docs/choosing.md gives the reasons, and results.json holds the policy of each run. It starts as few dials \
             as prove to be needed and stops those whose callers were served meanwhile (dial_ramp, orphan_dial), so with \
             short requests it may open up to twice as many connections as it keeps in its first moments, and none after. \
             After three failed dials it pauses them: a server that is back is found up to 100 ms and a quarter of the \
             outage later, with about ten dials meanwhile instead of one for each caller (back_off_factor)."
        }
        _ => return None,
    };
    Some(words.to_owned())
}

/// A rival in words. Its settings are explained in its source file.
fn rival_in_words(contestant: &Contestant) -> Option<String> {
    let facts = contestant.facts()?;
    Some(format!(
        "Another client, {}. It does not {}. It has no policy, so --set does not change it; \
         docs/rivals.md says how it is used.",
        facts.category.words(),
        facts.does_not.join("; it does not ")
    ))
}

/// The knobs that answer the question of a choice.
fn knobs_of(choice: &Choice) -> Vec<&'static Knob> {
    KNOBS.iter().filter(|knob| knob.question == choice.question).collect()
}

fn explain_json(profile: &Profile) -> Value {
    let choices: Vec<Value> = profile
        .choices
        .iter()
        .map(|choice| {
            let of_choice = knobs_of(choice);
            let knobs: serde_json::Map<String, Value> = of_choice
                .iter()
                .map(|knob| (knob.name.to_owned(), knob.value(&profile.policy).into()))
                .collect();
            json!({
                "question": choice.question.words(),
                "knobs": knobs,
                "shows_in": knob::scenarios(&of_choice),
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
        let of_choice = knobs_of(choice);
        let knobs: Vec<String> = of_choice
            .iter()
            .map(|knob| format!("{}={}", knob.name, knob.value(&profile.policy)))
            .collect();
        wrap(&mut text, "  ", &knobs.join(" "));
        wrap(&mut text, "  shows in: ", &knob::shows_in(&of_choice));
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
        let error = explain("no-such-one", false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for name in ["redigo", "default", "limit", "no-pool", "hyper-util", "burst"] {
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn rivals_and_scenarios_are_explained_and_an_unbuilt_rival_tells_how_to_build_it() {
        match explain("hyper-util", false) {
            Ok(text) => assert!(text.starts_with("hyper-util: "), "{text}"),
            Err(error) => assert!(error.to_string().contains("--features peers"), "{error}"),
        }
        let text = explain("imbalance", false).unwrap();
        assert!(text.contains("ranked by: share of the slow backend"), "{text}");
        assert!(text.contains("it should show: ") && text.contains("only default"), "{text}");
        let json: Value = serde_json::from_str(&explain("burst", true).unwrap()).unwrap();
        assert_eq!(json["scenario"], "burst");
    }

    #[test]
    fn contestants_without_a_profile_are_explained_in_words() {
        for contestant in contestants() {
            assert!(explain(contestant.name, false).unwrap().starts_with(contestant.name));
            let json: Value =
                serde_json::from_str(&explain(contestant.name, true).unwrap()).unwrap();
            assert!(json["summary"].is_string(), "{}", contestant.name);
        }
        let limit = explain("limit", false).unwrap();
        let words: Vec<&str> = limit.split_whitespace().collect();
        assert!(words.join(" ").contains("--set does not change it"), "{limit}");
    }

    #[test]
    fn our_default_is_explained_question_by_question() {
        let text = explain("default", false).unwrap();
        let json: Value = serde_json::from_str(&explain("default", true).unwrap()).unwrap();
        for knob in KNOBS {
            let question = knob.question.words();
            assert!(text.contains(&format!("\n{question}?\n")), "{question}: {text}");
            assert!(text.contains(&format!("{}=", knob.name)), "{}: {text}", knob.name);
            let choices = json["choices"].as_array().unwrap();
            let choice = choices.iter().find(|choice| choice["question"] == question).unwrap();
            assert!(choice["knobs"][knob.name].is_string(), "{}: {choice}", knob.name);
        }
        assert!(text.contains("  source: our choice\n"), "{text}");
        // Clients differ in what they may send again.
        assert!(text.contains("(http1") && text.contains("framed)"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        for protocol in Protocol::ALL {
            assert!(json["policies"][protocol.name()].is_object(), "{protocol}");
        }
        assert_eq!(json["policy"], json["policies"]["framed"]);
    }

    #[test]
    fn the_list_names_everything() {
        let text = list(false);
        let json: Value = serde_json::from_str(&list(true)).unwrap();
        for contestant in contestants() {
            assert!(text.contains(contestant.name));
        }
        assert_eq!(json["knobs"].as_array().unwrap().len(), KNOBS.len());
        assert!(text.contains("with and without jitter [only default, net-http"), "{text}");
        assert_eq!(json["protocols"].as_array().unwrap().len(), 4);
        assert_eq!(json["scenarios"].as_array().unwrap().len(), SCENARIOS.len());
    }
}
