//! A policy of the user's own keeps what suits HTTP/1, or a log line says that it does not.

use std::sync::{Arc, Mutex};

use http1_pool::{Client, ClientBuilder, Config, Connector, default_policy};
use pool_common::connect::TcpConnector;
use pool_common::policy::{Policy, Retry};
use pool_common::{Pool, profile};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Collects the warnings of this crate, as text.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "http1_pool" && *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// What is logged while `f` runs.
fn warnings(f: impl FnOnce()) -> Vec<String> {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), f);
    warnings.0.lock().unwrap().clone()
}

fn build(builder: ClientBuilder) -> Client {
    builder.build().unwrap()
}

#[test]
fn changing_one_knob_keeps_the_retry_rule() {
    let client = build(Client::builder().change_policy(|policy| policy.max_idle = Some(5)));
    let expected = Policy { max_idle: Some(5), ..Client::default_policy() };
    assert_eq!(*client.pool().initial_policy(), expected);
    assert_eq!(expected.retry, Retry::ReusedAndReplayable);
    assert_eq!(Client::default_policy(), default_policy());

    let go = profile::fasthttp();
    let changed = Client::builder().profile(&go).change_policy(|policy| policy.peek = true);
    let expected = Policy { peek: true, ..go.policy };
    assert_eq!(*build(changed).pool().initial_policy(), expected);
}

#[test]
fn a_retry_rule_that_does_not_suit_http_1_is_logged_once() {
    for (rule, logged) in [
        (Retry::Never, 1),
        (Retry::BadConnection, 1),
        (Retry::Unprocessed, 1),
        (Retry::ReusedAndReplayable, 0),
        (Retry::Idempotent, 0),
        (Retry::Attempts, 0),
    ] {
        let policy = Policy { retry: rule, ..Policy::default() };
        let (mine, by_hand) = (policy.clone(), policy);
        let lines = warnings(|| drop(build(Client::builder().policy(mine)).clone()));
        assert_eq!(lines.len(), logged, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains(rule.word())), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("Client::default_policy()")), "{lines:?}");
        let lines = warnings(|| {
            let connector = Connector::new(TcpConnector::default(), Config::default()).unwrap();
            drop(Client::from(Pool::builder(connector).policy(by_hand).build().unwrap()));
        });
        assert_eq!(lines.len(), logged, "{lines:?}");
    }
    assert_eq!(warnings(|| drop(Client::new())), Vec::<String>::new());
}
