//! Connections dialed by hand, against a real redis-server.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pool_common::testing::servers::RedisServer;
use resp_pool::{
    Config, Connection, Error, Pipeline, Protocol, ServerErrorKind, SubscriptionKind, Value, cmd,
};

fn config(server: &RedisServer, protocol: Protocol) -> Config {
    Config { port: server.addr().port(), protocol, ..Config::default() }
}

async fn dial(config: &Config) -> Result<Connection, Error> {
    Connection::dial(&config.key().expect("a valid config"), Arc::new(config.settings.clone()))
        .await
}

/// Makes two tests of an async function: one for each protocol version.
macro_rules! for_both_protocols {
    ($($name:ident),* $(,)?) => {
        mod resp2 {
            $(#[tokio::test]
            async fn $name() {
                super::$name(resp_pool::Protocol::Resp2).await;
            })*
        }
        mod resp3 {
            $(#[tokio::test]
            async fn $name() {
                super::$name(resp_pool::Protocol::Resp3).await;
            })*
        }
    };
}

for_both_protocols!(
    commands_and_values,
    server_errors_leave_the_connection_usable,
    a_conversion_error_leaves_the_connection_in_step,
    handshake_sets_everything_up,
    pipelines_answer_in_order,
    transactions_execute_or_abort,
    a_refused_command_refuses_the_whole_transaction,
    subscriptions_bring_messages,
    sent_commands_are_received_one_by_one,
    large_values_pass,
    a_large_pipeline_does_not_lock_up,
    blocking_commands_have_their_own_timeout,
    a_dropped_call_makes_the_connection_unusable,
    a_dropped_pipeline_makes_the_connection_unusable,
    reset_undoes_what_a_borrower_left,
    a_change_that_cannot_be_undone_breaks_the_connection,
    a_session_changed_inside_a_transaction_is_seen,
);

async fn connect(protocol: Protocol) -> (RedisServer, Connection) {
    let server = RedisServer::start(&[]);
    let connection = dial(&config(&server, protocol)).await.expect("connects");
    (server, connection)
}

async fn commands_and_values(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let ok: () = connection.query(&["SET", "key", "value"]).await.expect("SET");
    assert_eq!(ok, ());
    assert_eq!(connection.query::<String>(&["GET", "key"]).await.expect("GET"), "value");
    assert_eq!(connection.query::<Option<String>>(&["GET", "none"]).await.expect("GET"), None);
    let count: i64 = connection.query(&cmd("INCRBY").arg("n").arg(5)).await.expect("INCRBY");
    assert_eq!(count, 5);
    let fields = cmd("HSET").arg("h").arg(&["a", "1", "b", "2"][..]);
    assert_eq!(connection.query::<u64>(&fields).await.expect("HSET"), 2);
    let map: HashMap<String, u8> = connection.query(&["HGETALL", "h"]).await.expect("HGETALL");
    assert_eq!(map, HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
    connection.query::<()>(&["ZADD", "z", "1.5", "m"]).await.expect("ZADD");
    assert_eq!(connection.query::<f64>(&["ZSCORE", "z", "m"]).await.expect("ZSCORE"), 1.5);
    let reply = connection.call(&["ZSCORE", "z", "m"]).await.expect("ZSCORE");
    assert_eq!(matches!(reply, Value::Double(_)), protocol == Protocol::Resp3);
    connection.ping().await.expect("PING");
    assert!(!connection.is_broken() && !connection.needs_reset());
}

async fn server_errors_leave_the_connection_usable(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    connection.query::<()>(&["SET", "key", "value"]).await.expect("SET");
    let error = connection.query::<i64>(&["LPUSH", "key", "x"]).await.expect_err("not a list");
    let Error::Server(reply) = &error else { panic!("{error:?}") };
    assert_eq!(reply.kind(), ServerErrorKind::WrongType);
    assert!(!error.is_retryable() && !error.is_timeout());
    let error = connection.query::<i64>(&["NOSUCH"]).await.expect_err("unknown");
    assert_eq!(error.server_error().expect("a server error").code(), "ERR");
    assert_eq!(connection.query::<String>(&["GET", "key"]).await.expect("GET"), "value");
    assert!(!connection.is_broken());
}

async fn a_conversion_error_leaves_the_connection_in_step(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    connection.query::<()>(&["SET", "key", "text"]).await.expect("SET");
    let error = connection.query::<i64>(&["GET", "key"]).await.expect_err("no number");
    assert!(matches!(error, Error::Conversion(_)), "{error:?}");
    assert!(!connection.is_broken());
    assert_eq!(connection.query::<String>(&["GET", "key"]).await.expect("GET"), "text");
}

async fn handshake_sets_everything_up(protocol: Protocol) {
    let server = RedisServer::start(&["--requirepass", "s3cret"]);
    let mut config = config(&server, protocol);
    let refused = dial(&config).await;
    if protocol == Protocol::Resp3 {
        assert_eq!(
            refused.expect_err("no credentials").server_error().expect("refused").code(),
            "NOAUTH"
        );
    }
    config.password = Some("wr0ng".into());
    let error = dial(&config).await.expect_err("wrong password");
    assert_eq!(error.server_error().expect("refused").kind(), ServerErrorKind::WrongPass);
    assert!(!format!("{error} {error:?}").contains("wr0ng"));

    config.password = Some("s3cret".into());
    config.database = 5;
    config.client_name = Some("tester".to_owned());
    let mut connection = dial(&config).await.expect("connects");
    assert_eq!(connection.query::<String>(&["CLIENT", "GETNAME"]).await.expect("name"), "tester");
    let info: String = connection.query(&["CLIENT", "INFO"]).await.expect("info");
    assert!(info.contains(" db=5 "), "{info}");
    let version = if protocol == Protocol::Resp3 { "resp=3" } else { "resp=2" };
    assert!(info.contains(version), "{info}");
    assert!(!connection.needs_reset() && !connection.is_broken());

    config.username = Some("default".to_owned());
    dial(&config).await.expect("connects with a user");
    config.database = 99;
    let error = dial(&config).await.expect_err("no such database");
    assert!(error.server_error().is_some(), "{error:?}");
}

async fn pipelines_answer_in_order(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let mut pipeline = Pipeline::new();
    for number in 0..1000 {
        pipeline.add(&cmd("ECHO").arg(number));
    }
    let replies: Vec<u32> = connection.pipeline_as(&pipeline).await.expect("a pipeline");
    assert_eq!(replies, (0..1000).collect::<Vec<_>>());

    pipeline.clear();
    pipeline.add(&["SET", "s", "x"]).add(&["LPUSH", "s", "y"]).add(&["GET", "s"]);
    let replies = connection.pipeline(&pipeline).await.expect("a pipeline");
    assert!(replies[0].is_ok());
    assert!(
        matches!(&replies[1], Value::Error(error) if error.kind() == ServerErrorKind::WrongType)
    );
    assert_eq!(replies[2].as_bytes().expect("a string"), "x");
    let error = connection.pipeline_as::<Value>(&pipeline).await.expect_err("one failed");
    assert_eq!(error.server_error().expect("typed").kind(), ServerErrorKind::WrongType);
    assert!(!connection.is_broken());

    let nothing = connection.pipeline(&Pipeline::new()).await.expect("an empty pipeline");
    assert!(nothing.is_empty());
    pipeline.clear();
    pipeline.add(&["MONITOR"]).add(&["GET", "s"]);
    assert!(matches!(connection.pipeline(&pipeline).await, Err(Error::Refused { .. })));
    assert!(!connection.is_broken());
}

async fn transactions_execute_or_abort(protocol: Protocol) {
    let (server, mut connection) = connect(protocol).await;
    let mut other = dial(&config(&server, protocol)).await.expect("connects");
    let mut increments = Pipeline::new();
    increments.add(&["INCR", "n"]).add(&["INCR", "n"]);
    let replies = connection.transaction(&increments).await.expect("a transaction");
    assert_eq!(replies, Some(vec![Value::Integer(1), Value::Integer(2)]));

    connection.watch(&["n"]).await.expect("WATCH");
    assert!(connection.session().is_watching());
    other.query::<()>(&["SET", "n", "10"]).await.expect("SET");
    assert_eq!(connection.transaction(&increments).await.expect("a transaction"), None);
    assert!(!connection.session().is_watching());
    assert_eq!(connection.query::<i64>(&["GET", "n"]).await.expect("GET"), 10);

    connection.watch(&["n"]).await.expect("WATCH");
    assert!(connection.transaction(&increments).await.expect("a transaction").is_some());
    assert!(connection.session().is_neutral());

    // A command that fails while executing does not undo the others.
    let mut mixed = Pipeline::new();
    mixed.add(&["LPUSH", "n", "x"]).add(&["INCR", "n"]);
    let replies = connection.transaction(&mixed).await.expect("a transaction").expect("executed");
    assert!(matches!(replies[..], [Value::Error(_), Value::Integer(13)]), "{replies:?}");
}

async fn a_refused_command_refuses_the_whole_transaction(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let mut broken = Pipeline::new();
    broken.add(&["SET", "k", "v"]).add(&["NOSUCH"]);
    let error = connection.transaction(&broken).await.expect_err("refused");
    assert!(error.to_string().contains("NOSUCH"), "{error}");
    assert!(connection.session().is_neutral() && !connection.is_broken());
    assert_eq!(connection.query::<Option<String>>(&["GET", "k"]).await.expect("GET"), None);

    let mut nested = Pipeline::new();
    nested.add(&["MULTI"]);
    assert!(matches!(connection.transaction(&nested).await, Err(Error::Refused { .. })));
    connection.query::<()>(&["MULTI"]).await.expect("MULTI");
    assert!(matches!(connection.transaction(&broken).await, Err(Error::Refused { .. })));
    assert!(!connection.is_broken());
}

async fn subscriptions_bring_messages(protocol: Protocol) {
    let (server, mut connection) = connect(protocol).await;
    let mut publisher = dial(&config(&server, protocol)).await.expect("connects");
    connection.subscribe(&["a", "b", "a"]).await.expect("SUBSCRIBE");
    connection.psubscribe(&["n*"]).await.expect("PSUBSCRIBE");
    assert!(connection.session().is_subscribed());
    for (channel, text) in [("a", "1"), ("news", "2"), ("other", "3"), ("b", "4")] {
        publisher.query::<()>(&["PUBLISH", channel, text]).await.expect("PUBLISH");
    }
    let limit = Duration::from_secs(5);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let message = connection.receive_message(limit).await.expect("alive").expect("a message");
        seen.push((message.kind, message.channel, message.payload));
    }
    assert_eq!(
        seen,
        [
            (SubscriptionKind::Channel, "a".into(), "1".into()),
            (SubscriptionKind::Pattern, "news".into(), "2".into()),
            (SubscriptionKind::Channel, "b".into(), "4".into()),
        ]
    );
    assert_eq!(connection.receive_message(Duration::from_millis(1)).await.expect("alive"), None);
    connection.ping().await.expect("also while subscribed");
    if protocol == Protocol::Resp3 {
        // RESP3 takes ordinary commands meanwhile.
        publisher.query::<()>(&["PUBLISH", "a", "5"]).await.expect("PUBLISH");
        connection.query::<()>(&["SET", "k", "v"]).await.expect("SET");
        let message = connection.receive_message(limit).await.expect("alive").expect("a message");
        assert_eq!(message.payload, "5");
    }
    connection.unsubscribe(&["a"]).await.expect("UNSUBSCRIBE");
    connection.unsubscribe(&[]).await.expect("UNSUBSCRIBE");
    assert!(connection.session().is_subscribed());
    connection.punsubscribe(&[]).await.expect("PUNSUBSCRIBE");
    assert!(connection.session().is_neutral());
    connection.unsubscribe(&[]).await.expect("nothing left, still confirmed");
    connection.ssubscribe(&["s"]).await.expect("SSUBSCRIBE");
    connection.reset().await.expect("reset");
    connection.ping().await.expect("in step");
}

async fn sent_commands_are_received_one_by_one(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    for number in 0..10 {
        connection.send(&cmd("ECHO").arg(number)).expect("send");
    }
    assert!(connection.needs_reset());
    for number in 0..4_i64 {
        let reply = connection.receive().await.expect("a reply");
        assert_eq!(reply.as_bytes().expect("a string"), number.to_string().as_bytes());
    }
    // A query reads away what is owed before it.
    assert_eq!(connection.query::<String>(&["ECHO", "mine"]).await.expect("ECHO"), "mine");
    assert_eq!(connection.pending_replies(), 0);
    assert!(matches!(connection.receive().await, Err(Error::Refused { .. })));
    assert!(!connection.is_broken());
}

async fn large_values_pass(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let value: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    connection.query::<()>(&[&b"SET"[..], b"big", &value]).await.expect("SET");
    assert_eq!(connection.query::<Vec<u8>>(&["GET", "big"]).await.expect("GET"), value);
    connection.ping().await.expect("in step");
    assert!(!connection.is_broken());
}

async fn a_large_pipeline_does_not_lock_up(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    connection.query::<()>(&[&b"SET"[..], b"v", &[b'x'; 10_000]]).await.expect("SET");
    // 2000 requests with padding (20 MB) and 20 MB of replies: neither direction fits the sockets'
    // buffers.
    let mut pipeline = Pipeline::new();
    for _ in 0..2000 {
        pipeline.add(&[&b"ECHO"[..], &[b'y'; 10_000]]);
    }
    let replies = connection.pipeline(&pipeline).await.expect("a pipeline");
    assert!(
        replies.iter().all(|reply| reply.as_bytes().is_some_and(|bytes| bytes.len() == 10_000))
    );
}

async fn blocking_commands_have_their_own_timeout(protocol: Protocol) {
    let server = RedisServer::start(&[]);
    let mut config = config(&server, protocol);
    config.settings.read_timeout = Some(Duration::from_millis(300));
    let mut connection = dial(&config).await.expect("connects");
    let blocking = cmd("BLPOP").arg("nothing").arg(0.6);
    let patient = blocking.clone().timeout(Duration::from_secs(10));
    assert_eq!(connection.query::<Option<Vec<String>>>(&patient).await.expect("waits"), None);
    let patient = blocking.clone().no_timeout();
    assert_eq!(connection.query::<Option<Vec<String>>>(&patient).await.expect("waits"), None);
    let error = connection.query::<Option<Vec<String>>>(&blocking).await.expect_err("too slow");
    assert!(error.is_timeout() && error.may_have_executed(), "{error:?}");
    assert!(connection.is_broken());
    assert!(matches!(connection.ping().await, Err(Error::Broken)));
}

async fn a_dropped_call_makes_the_connection_unusable(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let blocking = cmd("BLPOP").arg("nothing").arg(0);
    let call = connection.query::<Value>(&blocking);
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    assert!(connection.is_broken());
    assert!(matches!(connection.query::<String>(&["ECHO", "x"]).await, Err(Error::Abandoned)));
    assert!(matches!(connection.send(&["ECHO", "x"]), Err(Error::Abandoned)));
    assert!(connection.reset().await.is_err());
}

async fn a_dropped_pipeline_makes_the_connection_unusable(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let mut pipeline = Pipeline::new();
    pipeline.add(&["PING"]).add(&cmd("BLPOP").arg("nothing").arg(0));
    let call = connection.pipeline(&pipeline);
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    assert!(connection.is_broken());
    assert!(matches!(connection.query::<String>(&["ECHO", "x"]).await, Err(Error::Abandoned)));
    assert!(connection.reset().await.is_err());
}

async fn reset_undoes_what_a_borrower_left(protocol: Protocol) {
    let server = RedisServer::start(&[]);
    let mut config = config(&server, protocol);
    config.client_name = Some("home".to_owned());
    config.database = 1;
    let mut connection = dial(&config).await.expect("connects");
    let id: u64 = connection.query(&["CLIENT", "ID"]).await.expect("id");
    let leave: &[&[&[&str]]] = &[
        &[&["MULTI"]],
        &[&["MULTI"], &["SET", "k", "v"]],
        &[&["WATCH", "k"]],
        &[&["WATCH", "k"], &["MULTI"], &["SELECT", "3"]],
        &[&["SELECT", "3"]],
        &[&["CLIENT", "SETNAME", "borrower"]],
        &[&["CLIENT", "NO-EVICT", "ON"]],
        &[&["SUBSCRIBE", "a", "b"]],
        &[&["SELECT", "3"], &["PSUBSCRIBE", "a*"], &["SUBSCRIBE", "a"]],
    ];
    for commands in leave {
        for command in *commands {
            connection.query::<()>(*command).await.expect("a command");
        }
        assert!(connection.needs_reset(), "{commands:?}");
        assert!(!connection.is_broken(), "{commands:?}");
        connection.reset().await.expect("reset");
        assert!(!connection.needs_reset() && !connection.is_broken(), "{commands:?}");
        let info: String = connection.query(&["CLIENT", "INFO"]).await.expect("info");
        assert!(info.contains(&format!("id={id} ")), "the same connection");
        for neutral in [" name=home ", " db=1 ", " sub=0 psub=0 ", " multi=-1 "] {
            assert!(info.contains(neutral), "{commands:?}: {info}");
        }
        assert!(!info.contains("flags=x") && !info.contains("flags=P"), "{commands:?}: {info}");
    }
    if protocol == Protocol::Resp3 {
        connection.query::<()>(&["CLIENT", "TRACKING", "ON"]).await.expect("TRACKING");
        connection.reset().await.expect("reset");
        let info: String = connection.query(&["CLIENT", "INFO"]).await.expect("info");
        assert!(info.contains("flags=N "), "{info}");
    }
    // Sent and never received, with the state change among what is unread.
    connection.send(&["MULTI"]).expect("send");
    connection.send(&["ECHO", "theirs"]).expect("send");
    connection.reset().await.expect("reset");
    assert_eq!(connection.query::<String>(&["ECHO", "mine"]).await.expect("ECHO"), "mine");

    // More than the bounds allow.
    for _ in 0..=config.settings.drain_replies {
        connection.send(&["PING"]).expect("send");
    }
    assert!(connection.reset().await.is_err());
    assert!(connection.is_broken());
}

async fn a_change_that_cannot_be_undone_breaks_the_connection(protocol: Protocol) {
    let server = RedisServer::start(&[]);
    let config = config(&server, protocol);
    let leave: &[&[&str]] =
        &[&["MONITOR"], &["HELLO", "3"], &["RESET"], &["AUTH", "default", "any"], &["QUIT"]];
    for command in leave {
        let mut connection = dial(&config).await.expect("connects");
        let reply = connection.call(*command).await.expect("a reply");
        assert!(!matches!(reply, Value::Error(_)), "{command:?}: {reply:?}");
        assert!(connection.is_broken(), "{command:?}");
        assert!(connection.reset().await.is_err(), "{command:?}");
    }
    let mut connection = dial(&config).await.expect("connects");
    assert!(matches!(
        connection.call(&["CLIENT", "REPLY", "OFF"]).await,
        Err(Error::Refused { .. })
    ));
    assert!(!connection.is_broken(), "nothing was sent");
    connection.send(&["CLIENT", "REPLY", "SKIP"]).expect("send");
    assert!(connection.is_broken());
    let mut connection = dial(&config).await.expect("connects");
    assert!(matches!(connection.call(&["PSYNC", "?", "-1"]).await, Err(Error::Refused { .. })));

    // After MONITOR the stream can be read.
    let mut monitor = dial(&config).await.expect("connects");
    monitor.query::<()>(&["MONITOR"]).await.expect("MONITOR");
    connection.query::<()>(&["SET", "seen", "1"]).await.expect("SET");
    let line = monitor.receive_push(Duration::from_secs(5)).await.expect("alive").expect("a line");
    assert!(String::from_utf8_lossy(line.as_bytes().expect("text")).contains("seen"));
    assert!(matches!(monitor.ping().await, Err(Error::Refused { .. })));
}

async fn a_session_changed_inside_a_transaction_is_seen(protocol: Protocol) {
    let (_server, mut connection) = connect(protocol).await;
    let mut select = Pipeline::new();
    select.add(&["SELECT", "4"]).add(&["SET", "k", "v"]);
    connection.transaction(&select).await.expect("a transaction");
    assert_eq!(connection.session().database(), 4);
    assert!(connection.needs_reset());
    connection.reset().await.expect("reset");
    assert_eq!(connection.query::<Option<String>>(&["GET", "k"]).await.expect("GET"), None);
}

#[tokio::test]
async fn a_server_that_went_away_is_noticed_while_idle() {
    let (server, mut connection) = connect(Protocol::Resp2).await;
    let mut other = dial(&config(&server, Protocol::Resp2)).await.expect("connects");
    let id: u64 = connection.query(&["CLIENT", "ID"]).await.expect("id");
    other.query::<()>(&cmd("CLIENT").arg("KILL").arg("ID").arg(id)).await.expect("KILL");
    // The reactor has to run once; the condition itself is waited for.
    while !connection.is_broken() {
        tokio::task::yield_now().await;
    }
    assert!(connection.ping().await.is_err());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let port = {
        let server = RedisServer::start(&[]);
        server.addr().port()
    };
    let config = Config { port, ..Config::default() };
    let error = dial(&config).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
    assert!(error.is_retryable() && !error.may_have_executed());
}

/// Borrowers do anything in any order; what we think of the session is compared with what the
/// server says.
#[tokio::test]
async fn the_session_agrees_with_the_server() {
    let moves: &[&[&str]] = &[
        &["MULTI"],
        &["EXEC"],
        &["DISCARD"],
        &["WATCH", "k"],
        &["UNWATCH"],
        &["SELECT", "0"],
        &["SELECT", "5"],
        &["SELECT", "99"],
        &["SUBSCRIBE", "a"],
        &["SUBSCRIBE", "a", "b"],
        &["UNSUBSCRIBE"],
        &["UNSUBSCRIBE", "b", "c"],
        &["PSUBSCRIBE", "a*"],
        &["PUNSUBSCRIBE"],
        &["SSUBSCRIBE", "s"],
        &["SUNSUBSCRIBE"],
        &["INCR", "k"],
        &["LPUSH", "k", "wrong type"],
        &["NOSUCH"],
        &["PING"],
    ];
    let server = RedisServer::start(&[]);
    let mut observer = dial(&config(&server, Protocol::Resp2)).await.expect("connects");
    let mut neutral_again = 0;
    'borrowers: for seed in 0..120 {
        let mut random = fastrand::Rng::with_seed(seed);
        let protocol = if random.bool() { Protocol::Resp2 } else { Protocol::Resp3 };
        let mut connection = dial(&config(&server, protocol)).await.expect("connects");
        let id: u64 = connection.query(&["CLIENT", "ID"]).await.expect("id");
        let mut done = Vec::new();
        for _ in 0..15 {
            let next = moves[random.usize(..moves.len())];
            done.push(next);
            if random.u8(..) < 40 {
                match connection.send(next) {
                    Ok(()) | Err(Error::Refused { .. }) => {}
                    Err(error) => panic!("{seed} {protocol:?} {done:?}: {error}"),
                }
            } else {
                match connection.call(next).await {
                    Ok(_) | Err(Error::Refused { .. }) => {}
                    // A subscription in a transaction we could not know of yet; see `send`.
                    Err(Error::Protocol(_)) if protocol == Protocol::Resp3 => {
                        assert!(connection.is_broken(), "{seed} {done:?}");
                        continue 'borrowers;
                    }
                    Err(error) => panic!("{seed} {protocol:?} {done:?}: {error}"),
                }
                let list = cmd("CLIENT").arg("LIST").arg("ID").arg(id);
                let info: String = observer.query(&list).await.expect("a list");
                let field = |name: &str| -> i64 {
                    let (_, rest) = info.split_once(&format!(" {name}=")).expect("a field");
                    rest.split(' ').next().expect("a value").parse().expect("a number")
                };
                let session = connection.session();
                if session.unfit().is_none() {
                    let subscribed = field("sub") + field("psub") + field("ssub") > 0;
                    assert_eq!(session.is_subscribed(), subscribed, "{seed} {done:?} {info}");
                    assert_eq!(
                        session.in_transaction(),
                        field("multi") >= 0,
                        "{seed} {done:?} {info}"
                    );
                    assert_eq!(
                        i64::from(session.database()),
                        field("db"),
                        "{seed} {done:?} {info}"
                    );
                }
            }
        }
        let reset = connection.reset().await;
        if connection.session().unfit().is_some() {
            assert!(reset.is_err() && connection.is_broken());
            continue;
        }
        reset.unwrap_or_else(|error| panic!("{seed} {protocol:?} {done:?}: {error}"));
        let info: String = connection.query(&["CLIENT", "INFO"]).await.expect("info");
        for neutral in [" db=0 ", " sub=0 psub=0 ssub=0 multi=-1 "] {
            assert!(info.contains(neutral), "{seed} {done:?}: {info}");
        }
        assert_eq!(connection.query::<String>(&["ECHO", "mine"]).await.expect("ECHO"), "mine");
        neutral_again += 1;
    }
    assert!(neutral_again > 90, "{neutral_again} of 120");
}

#[tokio::test]
async fn a_full_server_refuses_with_a_reason() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let config = config(&server, protocol);
        // The only place is free again once the server has seen the last one leave.
        let mut first = loop {
            let Ok(mut first) = dial(&config).await else { continue };
            if first.ping().await.is_ok() {
                break first;
            }
        };
        let error = match dial(&config).await {
            Ok(mut second) => second.query::<Value>(&["GET", "k"]).await.expect_err("no room"),
            Err(error) => error,
        };
        // Depending on who is faster, the server's word arrives or the request meets a closed socket.
        match error.server_error() {
            Some(refusal) => assert_eq!(refusal.kind(), ServerErrorKind::MaxClients),
            None => assert!(matches!(error, Error::Io { .. } | Error::Stale), "{error:?}"),
        }
        assert!(error.is_retryable());
        first.ping().await.expect("still there");
    }
}
