//! A policy of the user's own keeps what suits HTTP/1, or a log line says that it does not.

use http1_pool::{Client, ClientBuilder, Config, Manager};
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
