//! A policy of the user's own keeps what suits HTTP/1, or a log line says that it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http1_pool::{BuildError, Client, ClientBuilder, Config, Key, Manager};
use pool_common::event::Event;
use pool_common::policy::{Policy, Retry};
use pool_common::testing::logs::warnings;
use pool_common::{Pool, profile};

fn build(builder: ClientBuilder) -> Client {
    builder.build().unwrap()
}

#[test]
fn changing_one_knob_keeps_the_retry_rule() {
    let client = build(Client::builder().change_policy(|policy| policy.max_idle = Some(5)));
    let expected = Policy { max_idle: Some(5), ..Client::default_policy() };
    assert_eq!(*client.pool().initial_policy(), expected);
    assert_eq!(expected.retry, Retry::ReusedAndReplayable);

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
        let lines = warnings("http1_pool", || drop(build(Client::builder().policy(mine)).clone()));
        assert_eq!(lines.len(), logged, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains(rule.word())), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("Client::default_policy()")), "{lines:?}");
        let lines = warnings("http1_pool", || {
            let manager = Manager::new(Config::default()).unwrap();
            drop(Client::from(Pool::builder(manager).policy(by_hand).build().unwrap()));
        });
        assert_eq!(lines.len(), logged, "{lines:?}");
    }
    assert_eq!(warnings("http1_pool", || drop(Client::new())), Vec::<String>::new());
}

#[tokio::test]
async fn an_observer_of_the_builder_hears_of_a_dial() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let observer = move |_: &Event<Key>| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let client = Client::builder().observer(observer).build().unwrap();
    client.get("http://127.0.0.1:1/".parse().unwrap()).await.expect_err("nothing listens there");
    assert_ne!(heard.load(Ordering::Relaxed), 0);
}

#[test]
fn a_config_out_of_range_is_told_when_the_client_is_built() {
    let built = Client::builder().change_config(|config| config.limits.headers = 0).build();
    assert!(matches!(built, Err(BuildError::Config(_))), "{built:?}");
}
