//! `explain NAME --diff OTHER`: the questions that two policies answer differently.

use pool_common::knob::{KNOBS, Knob};
use pool_common::policy::Policy;
use pool_common::profile::Profile;
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::names::{self, Protocol};
use crate::policies;

/// The name of our own default, which is no profile.
const DEFAULT: &str = "default";

/// One side of a comparison. Our own default differs a little from client to client.
struct Side {
    name: &'static str,
    /// Its policies; with the protocol of each where there are several.
    policies: Vec<(Option<Protocol>, Policy)>,
}

impl Side {
    fn find(name: &str) -> Result<Self, BenchError> {
        if name == DEFAULT {
            let of = |protocol| (Some(protocol), policies::own_default(protocol));
            return Ok(Self { name: DEFAULT, policies: Protocol::ALL.map(of).to_vec() });
        }
        let profile = Profile::find(name).ok_or_else(|| {
            let profiles = Profile::all().into_iter().map(|profile| profile.name);
            let known: Vec<&str> = std::iter::once(DEFAULT).chain(profiles).collect();
            names::unknown("profile", name, &known)
        })?;
        Ok(Self { name: profile.name, policies: vec![(None, profile.policy.clone())] })
    }

    /// The value of a knob; where it depends on the protocol each value with its protocols.
    fn value(&self, knob: &Knob) -> String {
        let mut values: Vec<(String, Vec<&str>)> = Vec::new();
        for (protocol, policy) in &self.policies {
            let (value, name) = (knob.value(policy), protocol.map(Protocol::name));
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, protocols)) => protocols.extend(name),
                None => values.push((value, name.into_iter().collect())),
            }
        }
        if let [(value, _)] = values.as_slice() {
            return value.clone();
        }
        let parts =
            values.iter().map(|(value, protocols)| format!("{value} ({})", protocols.join(", ")));
        parts.collect::<Vec<_>>().join(" ")
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
