//! The surveyed pools as policies: the name, every choice with its source, and a sentence wherever
//! we differ on purpose.
//!
//! A profile is the newest version of its system. Where an older choice is the one textbooks
//! describe, the choice says which knob brings it back.

mod database_sql;
mod fasthttp;
mod go_redis;
mod grpc;
mod net_http;
mod net_http_h2;
mod redigo;
mod silenceper;
mod thrift;

pub use database_sql::database_sql;
pub use fasthttp::fasthttp;
pub use go_redis::go_redis;
pub use grpc::grpc;
pub use net_http::net_http;
pub use net_http_h2::net_http_h2;
pub use redigo::redigo;
pub use silenceper::silenceper;
pub use thrift::thrift;

use crate::knob::Question;
use crate::policy::Policy;

/// A surveyed pool as a point in the design space.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The name used on command lines and in reports.
    pub name: &'static str,
    /// The system and the version that was surveyed.
    pub system: &'static str,
    /// The strategy in a sentence or two.
    pub summary: &'static str,
    /// What it decides.
    pub policy: Policy,
    /// Where each decision comes from: one entry for every [`Question`].
    pub choices: &'static [Choice],
}

/// Where the answer to one question comes from.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The question.
    pub question: Question,
    /// The field, option or function of the system that decides it.
    pub source: &'static str,
    /// How and why we differ, where we do.
    pub difference: Option<&'static str>,
}

/// A choice as the system makes it.
const fn same(question: Question, source: &'static str) -> Choice {
    Choice { question, source, difference: None }
}

/// A choice where we differ on purpose.
const fn differs(question: Question, source: &'static str, difference: &'static str) -> Choice {
    Choice { question, source, difference: Some(difference) }
}

impl Profile {
    /// Every profile, in the order of the policy table.
    pub fn all() -> Vec<Profile> {
        vec![
            net_http(),
            net_http_h2(),
            fasthttp(),
            redigo(),
            go_redis(),
            database_sql(),
            silenceper(),
            grpc(),
            thrift(),
        ]
    }

    /// The profile with this name.
    pub fn find(name: &str) -> Option<Profile> {
        Self::all().into_iter().find(|profile| profile.name == name)
    }

    /// Whether the strategy has one connection for each key, so that a comparison on an equal
    /// number of connections has to leave it out.
    pub fn is_single_connection(&self) -> bool {
        self.policy.max_open_per_key == Some(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::knob::KNOBS;

    #[test]
    fn every_profile_is_valid_and_answers_every_question_once() {
        let questions: HashSet<Question> = KNOBS.iter().map(|knob| knob.question).collect();
        for profile in Profile::all() {
            profile.policy.validate().expect(profile.name);
            let answered: HashSet<Question> =
                profile.choices.iter().map(|choice| choice.question).collect();
            assert_eq!(answered, questions, "{}", profile.name);
            assert_eq!(answered.len(), profile.choices.len(), "{}: one twice", profile.name);
        }
    }

    #[test]
    fn names_are_found_and_unique() {
        let names: HashSet<_> = Profile::all().iter().map(|profile| profile.name).collect();
        assert_eq!(names.len(), Profile::all().len());
        for name in names {
            assert_eq!(Profile::find(name).expect(name).name, name);
        }
        assert!(Profile::find("no-such-pool").is_none());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn policies_survive_being_written_and_read() {
        for profile in Profile::all() {
            let text = serde_json::to_string(&profile.policy).expect("plain data");
            let back: Policy = serde_json::from_str(&text).expect(&text);
            assert_eq!(back, profile.policy, "{}", profile.name);
        }
    }
}
