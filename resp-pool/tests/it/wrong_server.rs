//! Replies that say "wrong server" or "not able" retire the connection that brought them.

use std::{sync::Arc, time::Duration};

use crate::support::{honest, peer};
use pool_common::{Policy, policy::Retry, testing::servers::RedisServer};
use resp_pool::{Client, Config, Connection, Error, Pipeline, ServerErrorKind, Value};

const READONLY: &str = "-READONLY You can't write against a read only replica.\r\n";
const MASTERDOWN: &str = "-MASTERDOWN Link with MASTER is down\r\n";
const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";

/// The first connection answers everything with `line`, all others are honest.
async fn first_says(line: &'static str) -> Config {
    peer(move |asked| Some(if asked.connection == 0 { line.to_owned() } else { honest(asked) }))
        .await
}

fn client(config: Config, retry: Retry) -> Client {
    let policy = Policy { max_open_per_key: Some(1), retry, ..Policy::default() };
    Client::builder().config(config).policy(policy).build().expect("a client")
}

#[tokio::test]
async fn a_wrong_server_is_left_under_every_retry_rule_and_by_leases() {
    for line in [READONLY, MASTERDOWN, "-ERR max number of clients reached\r\n"] {
        for &retry in Retry::ALL {
            let by_client = client(first_says(line).await, retry);
            let result = by_client.query::<()>(&["SET", "k", "v"]).await;
            let again = matches!(retry, Retry::Attempts | Retry::Unprocessed);
            assert_eq!(result.is_ok(), again, "{retry:?} {line} {result:?}");
            by_client.query::<()>(&["SET", "k", "v"]).await.expect("on another connection");
            assert_eq!(by_client.stats().opened, 2, "{retry:?} {line}");

            for released in [false, true] {
                let client = client(first_says(line).await, retry);
                let mut lease = client.acquire().await.expect("a connection");
                for _ in 0..2 {
                    // The lease itself goes on: the connection is in step.
                    let error = lease.query::<()>(&["SET", "k", "v"]).await.expect_err("refused");
                    assert!(matches!(error, Error::Server(_)), "{error:?}");
                }
                assert!(lease.session().unfit().is_some());
                if released {
                    lease.release().await;
                } else {
                    drop(lease);
                }
                assert_eq!(client.status().idle, 0, "{retry:?} {line}");
                client.query::<()>(&["SET", "k", "v"]).await.expect("on another connection");
                assert_eq!(client.stats().opened, 2, "{retry:?} {line}");
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_server_is_noticed_by_every_way_to_send() {
    let exec = "*2\r\n+OK\r\n-READONLY a script says so\r\n";
    let config = peer(move |asked| {
        Some(match &asked.words[0][..] {
            "SET" => READONLY.to_owned(),
            "INCR" => "+QUEUED\r\n".to_owned(),
            "EXEC" => exec.to_owned(),
            _ => honest(asked),
        })
    })
    .await;
    let key = config.key().expect("valid");
    let dial = || Connection::dial(&key, Arc::new(config.settings.clone()));

    let mut raw = dial().await.expect("connects");
    raw.send(&["SET", "k", "v"]).expect("send");
    assert!(matches!(raw.receive().await, Ok(Value::Error(_))));
    assert!(raw.is_broken());

    let mut piped = dial().await.expect("connects");
    let mut pipeline = Pipeline::new();
    pipeline.add(&["ECHO", "x"]).add(&["SET", "k", "v"]).add(&["ECHO", "y"]);
    piped.pipeline(&pipeline).await.expect("replies");
    assert!(piped.is_broken());

    let mut transaction = dial().await.expect("connects");
    let mut commands = Pipeline::new();
    commands.add(&["INCR", "n"]).add(&["INCR", "n"]);
    transaction.transaction(&commands).await.expect("replies");
    assert!(transaction.is_broken());

    let mut read_away = dial().await.expect("connects");
    read_away.send(&["SET", "k", "v"]).expect("send");
    assert!(matches!(read_away.reset().await, Err(Error::NotNeutral(_))));
}

#[tokio::test]
async fn other_refusals_and_a_move_elsewhere_keep_the_connection() {
    for line in ["-ERR no\r\n", "-WRONGTYPE no\r\n", "-MOVED 1 127.0.0.1:1\r\n", "-TRYAGAIN x\r\n"]
    {
        let client = client(first_says(line).await, Retry::Never);
        client.query::<()>(&["SET", "k", "v"]).await.expect_err("refused");
        assert_eq!(client.status().idle, 1, "{line}");
    }
}

#[tokio::test]
async fn a_move_to_the_address_that_was_dialed_retires() {
    let config = peer(|asked| {
        Some(if asked.is("GET") {
            format!("-MOVED 1 {}\r\n", asked.words[1])
        } else {
            honest(asked)
        })
    })
    .await;
    let own = format!("127.0.0.1:{}", config.port);
    let client = client(config, Retry::Never);
    let error = client.get::<Value>(&own).await.expect_err("moved");
    assert_eq!(error.server_error().expect("a refusal").kind(), ServerErrorKind::Moved);
    assert_eq!(client.status().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn only_a_long_load_retires() {
    let config = peer(|asked| {
        Some(match &asked.words[0][..] {
            "GET" => LOADING.to_owned(),
            "INCR" => "-WRONGTYPE not a number\r\n".to_owned(),
            "EXEC" => "*0\r\n".to_owned(),
            _ => honest(asked),
        })
    })
    .await;
    let key = config.key().expect("valid");
    let settings = Arc::new(config.settings.clone());
    let mut connection = Connection::dial(&key, settings).await.expect("connects");
    let loading = async |connection: &mut Connection, millis| {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        connection.query::<()>(&["GET", "k"]).await.expect_err("loading");
        connection.is_broken()
    };
    assert!(!loading(&mut connection, 5000).await);
    assert!(!loading(&mut connection, 900).await);
    // It has answered in between, so this is another load.
    for (name, is_carried_out) in [("SET", true), ("INCR", false), ("EXEC", true)] {
        let answer = connection.query::<Value>(&[name, "k", "v"]).await;
        assert_eq!(answer.is_ok(), is_carried_out, "{name}");
        assert!(!loading(&mut connection, 900).await, "{name}");
    }
    assert!(!loading(&mut connection, 900).await);
    assert!(loading(&mut connection, 100).await);
}

#[tokio::test]
async fn a_demoted_master_costs_one_error_for_each_idle_connection() {
    let server = RedisServer::start(&["--replica-serve-stale-data", "no"]);
    let config = Config { port: server.addr().port(), ..Config::default() };
    let client = Client::builder().config(config.clone()).build().expect("a client");
    let leases = [client.acquire().await, client.acquire().await, client.acquire().await];
    drop(leases);
    assert_eq!(client.status().idle, 3);
    let mut operator = client.acquire().await.expect("a connection");
    operator.query::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await.expect("demoted");
    // Its own connection is not retired by this, but by its next reply.
    drop(operator);
    for left in [2, 1, 0] {
        let error = client.set("k", "v").await.expect_err("no primary");
        let kind = error.server_error().expect("a refusal").kind();
        assert!(
            matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown),
            "{error:?}"
        );
        assert_eq!(client.status().idle, left);
    }
    let operator = Client::builder().config(config).build().expect("a client");
    operator.query::<()>(&["REPLICAOF", "NO", "ONE"]).await.expect("promoted");
    client.set("k", "v").await.expect("a primary again");
}
