//! `explain NAME --diff OTHER`: the questions that two policies answer differently.

use pool_common::knob::{KNOBS, Knob};
use pool_common::policy::Policy;
use pool_common::profile::Profile;
use serde_json::{Value, json};

use super::own::{DEFAULT, Own};
use crate::catalog::{CONTESTANTS, PEERS};
use crate::error::BenchError;
use crate::names;

/// One side of a comparison.
struct Side {
    name: &'static str,
    policies: Policies,
}

enum Policies {
    Profile(Box<Policy>),
    Own(Own),
}

impl Side {
    fn find(name: &str) -> Result<Self, BenchError> {
        if name == DEFAULT {
            return Ok(Self { name: DEFAULT, policies: Policies::Own(Own::new()) });
        }
        let profile = Profile::find(name).ok_or_else(|| {
            let profiles = Profile::all().into_iter().map(|profile| profile.name);
            let known: Vec<&str> = std::iter::once(DEFAULT).chain(profiles).collect();
            if CONTESTANTS.iter().chain(&PEERS).any(|contestant| contestant.name == name) {
                return BenchError::usage(format!(
                    "{name} has no policy to compare; these have one: {}",
                    known.join(", ")
                ));
            }
            names::unknown("profile", name, &known)
        })?;
        let policies = Policies::Profile(Box::new(profile.policy.clone()));
        Ok(Self { name: profile.name, policies })
    }

    fn value(&self, knob: &Knob) -> String {
        match &self.policies {
            Policies::Profile(policy) => knob.value(policy),
            Policies::Own(own) => own.value(knob),
        }
    }
}

/// A question, and the knobs that differ in it with the value of each side.
type Differing = (&'static str, Vec<(&'static Knob, [String; 2])>);

/// The questions that two profiles answer differently, side by side. `default` is one of them.
///
/// # Errors
/// [`BenchError::Usage`] for a name that is not a profile.
pub fn diff(left: &str, right: &str, as_json: bool) -> Result<String, BenchError> {
    let (left, right) = (Side::find(left)?, Side::find(right)?);
    let mut differing: Vec<Differing> = Vec::new();
    for knob in KNOBS {
        let values = [left.value(knob), right.value(knob)];
        if values[0] == values[1] {
            continue;
        }
        match differing.last_mut().filter(|(question, _)| *question == knob.question.words()) {
            Some((_, knobs)) => knobs.push((knob, values)),
            None => differing.push((knob.question.words(), vec![(knob, values)])),
        }
    }
    if as_json {
        let questions: Vec<Value> = differing
            .iter()
            .map(|(question, knobs)| {
                let knobs: serde_json::Map<String, Value> = knobs
                    .iter()
                    .map(|(knob, values)| (knob.name.to_owned(), json!(values)))
                    .collect();
                json!({"question": question, "knobs": knobs})
            })
            .collect();
        let names = [left.name, right.name];
        return Ok(format!("{:#}\n", json!({"profiles": names, "questions": questions})));
    }
    let mut text = format!("{:<26} {:<24} {}\n", "", left.name, right.name);
    for (question, knobs) in differing {
        text.push_str(&format!("\n{question}?\n"));
        for (knob, [left, right]) in knobs {
            text.push_str(&format!("  {:<24} {left:<24} {right}\n", knob.name));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_has_the_questions_that_differ_and_no_other() {
        let text = diff("net-http", "redigo", false).unwrap();
        let [net_http, redigo] = ["net-http", "redigo"].map(|name| Profile::find(name).unwrap());
        for knob in KNOBS {
            let differs = knob.value(&net_http.policy) != knob.value(&redigo.policy);
            let stands = text.lines().any(|line| line.split_whitespace().next() == Some(knob.name));
            assert_eq!(stands, differs, "{}: {text}", knob.name);
        }
        let same: Value = serde_json::from_str(&diff("grpc", "grpc", true).unwrap()).unwrap();
        assert_eq!(same["questions"], json!([]));
        let error = diff("grpc", "no-such-one", false).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("default"), "{error}");
        let error = diff("limit", "redigo", false).unwrap_err();
        assert!(error.to_string().starts_with("limit has no policy to compare"), "{error}");
    }

    #[test]
    fn our_own_default_can_stand_on_either_side() {
        for (left, right) in [("default", "redigo"), ("redigo", "default")] {
            let text = diff(left, right, false).unwrap();
            assert!(text.lines().next().unwrap().trim_start().starts_with(left), "{text}");
            for words in ["dial_ramp", "after_failed_check"] {
                assert!(text.contains(words), "{words}: {text}");
            }
            // Clients differ in what they may send again.
            let retry = text.lines().find(|line| line.trim_start().starts_with("retry ")).unwrap();
            assert!(retry.contains("http1") && retry.contains("framed"), "{retry}");
        }
        let same: Value = serde_json::from_str(&diff("default", "default", true).unwrap()).unwrap();
        assert_eq!(same["questions"], json!([]));
    }
}
