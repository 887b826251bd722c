//! Our own default, question by question. It is no profile: it follows no surveyed system, and differs a little
//! from client to client.

use pool_common::knob::{KNOBS, Knob};
use pool_common::policy::Policy;
use serde_json::{Map, Value, json};

use super::{knob, wrap};
use crate::names::Protocol;
use crate::policies;

/// The name of our own default.
pub(super) const DEFAULT: &str = "default";

/// Where its choices come from.
const SOURCE: &str = "our choice";

/// The policies of our clients.
pub(super) struct Own(Vec<(Protocol, Policy)>);

impl Own {
    pub(super) fn new() -> Self {
        Self(Protocol::ALL.map(|protocol| (protocol, policies::own_default(protocol))).to_vec())
    }

    /// The value of a knob; where it depends on the protocol each value with its protocols.
    pub(super) fn value(&self, knob: &Knob) -> String {
        let mut values: Vec<(String, Vec<&str>)> = Vec::new();
        for (protocol, policy) in &self.0 {
            let value = knob.value(policy);
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, protocols)) => protocols.push(protocol.name()),
                None => values.push((value, vec![protocol.name()])),
            }
        }
        if let [(value, _)] = values.as_slice() {
            return value.clone();
        }
        let parts =
            values.iter().map(|(value, protocols)| format!("{value} ({})", protocols.join(", ")));
        parts.collect::<Vec<_>>().join(" ")
    }

    /// Appends each question with the values of its knobs.
    pub(super) fn write(&self, text: &mut String) {
        for (question, knobs) in questions() {
            text.push_str(&format!("\n{question}?\n"));
            let values: Vec<String> =
                knobs.iter().map(|knob| format!("{}={}", knob.name, self.value(knob))).collect();
            wrap(text, "  ", &values.join(" "));
            wrap(text, "  shows in: ", &knob::shows_in(&knobs));
            wrap(text, "  source: ", SOURCE);
        }
    }

    /// The same as JSON. `policy` is the one without a client, `Policy::default()`.
    pub(super) fn add_to(&self, about: &mut Value) {
        let policies: Map<String, Value> = self
            .0
            .iter()
            .map(|(protocol, policy)| (protocol.name().to_owned(), json!(policy)))
            .collect();
        let choice = |(question, knobs): (&str, Vec<&'static Knob>)| {
            let values: Map<String, Value> =
                knobs.iter().map(|knob| (knob.name.to_owned(), self.value(knob).into())).collect();
            json!({"question": question, "knobs": values, "shows_in": knob::scenarios(&knobs),
                "source": SOURCE, "difference": null})
        };
        about["policy"] = json!(Policy::default());
        about["policies"] = policies.into();
        about["choices"] = questions().into_iter().map(choice).collect::<Vec<_>>().into();
    }
}

/// The questions in the order of the knobs, each with the knobs that answer it.
fn questions() -> Vec<(&'static str, Vec<&'static Knob>)> {
    let mut questions: Vec<(&str, Vec<&Knob>)> = Vec::new();
    for knob in KNOBS {
        let question = knob.question.words();
        match questions.iter_mut().find(|(known, _)| *known == question) {
            Some((_, knobs)) => knobs.push(knob),
            None => questions.push((question, vec![knob])),
        }
    }
    questions
}
