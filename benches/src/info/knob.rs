//! `explain KNOB`: what a knob decides, how profiles answer it, and where it shows.

use pool_common::Policy;
use pool_common::knob::{KNOBS, Knob};
use pool_common::profile::Profile;
use serde_json::{Value, json};

use super::wrap;
use crate::scenario::SCENARIOS;
use crate::shows;

/// The knob of this name.
pub(super) fn find(name: &str) -> Option<&'static Knob> {
    KNOBS.iter().find(|knob| knob.name == name)
}

/// What `list` and `explain` say of a knob.
pub(super) fn json(knob: &Knob) -> Value {
    json!({
        "name": knob.name,
        "question": knob.question.words(),
        "about": knob.about,
        "accepts": knob.accepts.to_string(),
        "shows_in": shows::of(knob.name),
        "unseen": shows::unseen(knob.name),
    })
}

/// A knob with the values that it has without `--set`.
pub(super) fn explain(knob: &Knob, as_json: bool) -> String {
    let default = knob.value(&Policy::default());
    if as_json {
        let mut value = json(knob);
        value["default"] = default.into();
        value["profiles"] = Profile::all()
            .iter()
            .map(|profile| (profile.name.to_owned(), knob.value(&profile.policy).into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        return format!("{value:#}\n");
    }
    let mut text = format!("{}: {}\n\n{}?\n", knob.name, knob.about, knob.question.words());
    wrap(&mut text, "  accepts: ", &knob.accepts.to_string());
    wrap(&mut text, "  default: ", &default);
    for (value, profiles) in values(knob) {
        wrap(&mut text, &format!("  {value}: "), &profiles.join(", "));
    }
    wrap(&mut text, "  shows in: ", &shows_in(&[knob]));
    text
}

/// The values of the profiles, each with the profiles that have it, in their order.
fn values(knob: &Knob) -> Vec<(String, Vec<&'static str>)> {
    let mut values: Vec<(String, Vec<&str>)> = Vec::new();
    for profile in Profile::all() {
        let value = knob.value(&profile.policy);
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, profiles)) => profiles.push(profile.name),
            None => values.push((value, vec![profile.name])),
        }
    }
    values
}

/// Text that names the scenarios in which knobs show or, for a knob that shows in none, the reason.
pub(super) fn shows_in(knobs: &[&Knob]) -> String {
    let seen = scenarios(knobs);
    let mut words = vec![match seen.is_empty() {
        true => "no scenario".to_owned(),
        false => seen.join(", "),
    }];
    for knob in knobs {
        let own = shows::of(knob.name).iter().filter(|name| sets_itself(name, knob));
        let own: Vec<&str> = own.copied().collect();
        if !own.is_empty() {
            let (name, own) = (knob.name, own.join(", "));
            words.push(format!("{own} plays each value of {name}, without --set"));
        }
        match shows::unseen(knob.name) {
            Some(why) if knobs.len() == 1 => words.push(why.to_owned()),
            Some(why) => words.push(format!("{} in none: {why}", knob.name)),
            None => {}
        }
    }
    match knobs {
        [knob] if shows::unseen(knob.name).is_some() => words.join(": "),
        _ => words.join("; "),
    }
}

/// Whether the ways of a scenario differ in a knob, so that `--set` is refused there.
fn sets_itself(scenario: &str, knob: &Knob) -> bool {
    let scenario = SCENARIOS.iter().find(|known| known.name == scenario);
    let mut ways = scenario.iter().flat_map(|scenario| scenario.variants);
    ways.any(|way| way.knobs().any(|own| own == knob.name))
}

/// The scenarios in which one of these knobs shows, each once.
pub(super) fn scenarios(knobs: &[&Knob]) -> Vec<&'static str> {
    let mut scenarios = Vec::new();
    for scenario in knobs.iter().flat_map(|knob| shows::of(knob.name)) {
        if !scenarios.contains(scenario) {
            scenarios.push(*scenario);
        }
    }
    scenarios
}

#[cfg(test)]
mod tests {
    use super::super::explain as explain_name;
    use super::*;
    use crate::catalog::contestants;

    /// The text in one line.
    fn words(name: &str) -> String {
        let text = explain_name(name, false).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_knob_is_explained_with_its_scenarios_or_the_reason_for_none() {
        for knob in KNOBS {
            let text = words(knob.name);
            let json: Value =
                serde_json::from_str(&explain_name(knob.name, true).unwrap()).unwrap();
            let (shown, unseen) = (shows::of(knob.name), shows::unseen(knob.name));
            match unseen {
                Some(why) => assert!(text.contains(&format!("shows in: no scenario: {why}"))),
                None => assert!(text.contains(&format!("shows in: {}", shown.join(", ")))),
            }
            assert_eq!((&json["shows_in"], &json["unseen"]), (&json!(shown), &json!(unseen)));
            assert_eq!(json["profiles"]["net-http"], knob.value(&profile("net-http").policy));
        }
    }

    fn profile(name: &str) -> Profile {
        Profile::find(name).unwrap()
    }

    #[test]
    fn a_knob_is_explained_with_the_values_of_the_profiles() {
        let text = words("max_idle_per_key");
        assert!(text.contains("2: net-http"), "{text}");
        for profile in Profile::all() {
            assert!(text.contains(profile.name), "{text}");
        }
    }

    #[test]
    fn a_scenario_that_sets_a_knob_itself_is_named() {
        for (knob, scenario) in [
            ("idle_order", "imbalance"),
            ("max_leases_per_connection", "connections"),
            ("lifetime_jitter", "lifetime"),
        ] {
            let text = words(knob);
            let own = format!("; {scenario} plays each value of {knob}, without --set");
            assert!(text.contains(&own), "{text}");
        }
        assert!(!words("max_idle").contains("without --set"));
    }

    #[test]
    fn a_profile_lists_its_knobs_that_show_in_no_scenario() {
        let text = words("net-http");
        let why = shows::unseen("dial_hedge").unwrap();
        assert!(text.contains(&format!("dial_hedge in none: {why}")), "{text}");
    }

    #[test]
    fn no_contestant_has_the_name_of_a_knob() {
        for contestant in contestants() {
            assert!(find(contestant.name).is_none(), "{}", contestant.name);
        }
    }
}
