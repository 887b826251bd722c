//! The policy that a client is given: what does not suit HTTP/2 is said.

mod support;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use h2_shared::{Client, Config};
use pool_common::Policy;
use pool_common::policy::Retry;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what is logged as a warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(self));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message<'a>(&'a Warnings);

impl Visit for Message<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.0.0.lock().unwrap().push(format!("{value:?}"));
    }
}

fn warnings_of(policy: Policy) -> Vec<String> {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        Client::with_config(policy, Config::default()).unwrap();
    });
    warnings.0.lock().unwrap().clone()
}

#[test]
fn a_policy_that_repeats_no_request_is_said_once() {
    let said = warnings_of(Policy { max_open_per_key: Some(4), ..Policy::default() });
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("Client::default_policy()"), "{said:?}");
    for policy in [
        Client::default_policy(),
        Policy { max_open_per_key: Some(4), ..Client::default_policy() },
        Policy { retry: Retry::Unprocessed, ..Policy::default() },
    ] {
        assert!(warnings_of(policy).is_empty());
    }
}
