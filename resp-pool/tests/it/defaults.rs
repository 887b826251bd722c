//! The behaviour of a client with default settings.

use std::time::Duration;

use crate::support::{honest, peer};
use pool_common::{
    Policy,
    policy::Retry,
    profile,
    testing::{logs::Lines, servers::RedisServer},
};
use resp_pool::{Client, Config, Value, cmd};
use tracing::Level;

#[tokio::test]
async fn a_retry_rule_that_does_not_suit_is_logged_once() {
    let config = peer(|asked| Some(honest(asked))).await;
    for (policy, said) in [
        (None, 0),
        (Some(Client::default_policy()), 0),
        (Some(profile::go_redis().policy), 0),
        (Some(Policy::default()), 1),
        (Some(Policy { retry: Retry::Unprocessed, ..Client::default_policy() }), 1),
    ] {
        let (lines, _guard) = Lines::listen("resp_pool", Level::WARN);
        let builder = Client::builder().config(config.clone());
        let builder = match policy {
            Some(policy) => builder.policy(policy),
            None => builder,
        };
        let client = builder.build().expect("a client");
        for _ in 0..3 {
            client.set("k", "v").await.expect("SET");
        }
        let lines = lines.all();
        assert_eq!(lines.len(), said, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("default_policy") && line.contains("retry="))
        );
    }
}

#[tokio::test]
async fn by_default_a_read_gets_past_a_connection_that_was_closed_while_idle() {
    let server = RedisServer::start(&[]);
    let url = format!("redis://{}", server.addr());
    // Without a peek the pool lends the closed connection, as it does when the close is on its way.
    let policy = Policy { peek: false, ..Client::default_policy() };
    let config = Config::from_url(&url).expect("valid");
    let client = Client::builder().config(config).policy(policy).build().expect("a client");
    client.set("k", "v").await.expect("SET");
    let killer = Client::open(&url).expect("a client");
    killer.query::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("KILL");
    assert_eq!(client.get::<String>("k").await.expect("GET"), "v");
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn a_dropped_blpop_leaves_the_next_element_in_the_list() {
    let server = RedisServer::start(&[]);
    let url = format!("redis://{}", server.addr());
    let client = Client::open(&url).expect("a client");
    let other = Client::open(&url).expect("a client");
    let blocked = async |count: u32| {
        let counted = async {
            let expected = format!("blocked_clients:{count}\r\n");
            while !other.query::<String>(&["INFO", "clients"]).await.unwrap().contains(&expected) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), counted).await.expect("the server knows");
    };
    let pop = cmd("BLPOP").arg("list").arg(0).no_timeout();
    for round in 0..10 {
        let element = format!("element {round}");
        tokio::select! {
            _ = client.query::<Value>(&pop) => panic!("there is no element"),
            () = blocked(1) => {} // Drops the call.
        }
        blocked(0).await;
        other.query::<()>(&["RPUSH", "list", &element]).await.expect("RPUSH");
        let (_, popped): (String, String) = client.query(&pop).await.expect("BLPOP");
        assert_eq!(popped, element);
    }
}
