//! Users of an access control list that may not run what checks and resets need, against a real
//! redis-server.

use pool_common::{
    Policy,
    policy::Check,
    testing::{logs::Lines, servers::RedisServer},
};
use resp_pool::{Client, Config, Protocol, ServerErrorKind};
use tracing::Level;

/// A server whose user `bob` may run everything but `forbidden`, and a client that is him.
async fn as_bob(forbidden: &[&str], protocol: Protocol) -> (RedisServer, Client) {
    let server = RedisServer::start(&[]);
    let mut config = Config { port: server.addr().port(), protocol, ..Config::default() };
    let admin = Client::builder().config(config.clone()).build().expect("a client");
    let mut rule = vec!["ACL", "SETUSER", "bob", "on", ">secret", "~*", "&*", "+@all"];
    rule.extend(forbidden);
    admin.query::<()>(&rule[..]).await.expect("ACL SETUSER");
    config.username = Some("bob".to_owned());
    config.password = Some("secret".into());
    let policy =
        Policy { max_open_per_key: Some(1), check: Check::Always, ..Client::default_policy() };
    (server, Client::builder().config(config).policy(policy).build().expect("a client"))
}

#[tokio::test]
async fn a_user_without_ping_keeps_its_connection_and_is_named_once() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        for (forbidden, named) in [
            (&["-ping"][..], &["PING"][..]),
            (&["-ping", "-echo"], &["PING", "ECHO"]),
            (&["-@all", "+get", "+set", "+select"], &["PING", "ECHO"]),
        ] {
            let (lines, _guard) = Lines::listen("resp_pool", Level::WARN);
            let (_server, client) = as_bob(forbidden, protocol).await;
            for number in 0..5 {
                client.set("k", number.to_string()).await.expect("SET");
                // A changed session is reset.
                let mut lease = client.acquire().await.expect("a connection");
                lease.query::<()>(&["SELECT", "3"]).await.expect("SELECT");
                lease.release().await;
                assert_eq!(client.get::<u32>("k").await.expect("GET"), number);
            }
            assert_eq!(client.stats().opened, 1, "{forbidden:?}");
            let lines = lines.all();
            assert_eq!(lines.len(), named.len(), "{lines:?}");
            for (line, name) in lines.iter().zip(named) {
                assert!(line.contains("user=\"bob\""), "{line}");
                assert!(line.contains(&format!("command=\"{name}\"")), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_reset_that_learns_of_a_missing_permission_keeps_the_connection() {
    let (_server, client) = as_bob(&["-ping", "-echo"], Protocol::Resp2).await;
    for _ in 0..3 {
        let mut lease = client.acquire_fresh().await.expect("a connection");
        lease.query::<()>(&["MULTI"]).await.expect("MULTI");
        lease.release().await;
        assert_eq!(client.status().idle, 1);
    }
}

#[tokio::test]
async fn a_user_that_may_not_undo_what_it_did_is_named_once() {
    let (lines, _guard) = Lines::listen("resp_pool", Level::WARN);
    let (_server, client) = as_bob(&["-unwatch"], Protocol::Resp2).await;
    for opened in 1..4 {
        let mut lease = client.acquire().await.expect("a connection");
        lease.watch(&["k"]).await.expect("WATCH");
        lease.release().await;
        assert_eq!((client.status().idle, client.stats().opened), (0, opened));
    }
    let lines = lines.all();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("bob") && lines[0].contains("unwatch"), "{lines:?}");
}

#[tokio::test]
async fn a_command_of_the_handshake_that_is_not_allowed_is_named() {
    let (server, _client) = as_bob(&["-select"], Protocol::Resp2).await;
    let url = format!("redis://bob:secret@127.0.0.1:{}/3", server.addr().port());
    let client = Client::open(&url).expect("a client");
    let error = client.get::<String>("k").await.expect_err("refused");
    assert_eq!(error.server_error().expect("typed").kind(), ServerErrorKind::NoPermission);
    assert!(error.to_string().contains("SELECT was refused in the handshake"), "{error}");
}
