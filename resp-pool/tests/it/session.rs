//! What a session becomes, and what is refused because of it, against a real redis-server.

use std::{sync::Arc, time::Duration};

use pool_common::{Policy, testing::servers::RedisServer};
use resp_pool::{Client, Config, Connection, Error, Pipeline, Protocol, Value, cmd};

fn config(server: &RedisServer, protocol: Protocol) -> Config {
    Config { port: server.addr().port(), protocol, ..Config::default() }
}

async fn dial(config: &Config) -> Connection {
    let key = config.key().expect("valid");
    Connection::dial(&key, Arc::new(config.settings.clone())).await.expect("connects")
}

async fn connect(protocol: Protocol) -> (RedisServer, Connection) {
    let server = RedisServer::start(&[]);
    let connection = dial(&config(&server, protocol)).await;
    (server, connection)
}

fn one(config: Config) -> Client {
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    Client::builder().config(config).policy(policy).build().expect("a client")
}

#[tokio::test]
async fn a_list_that_looks_like_a_message_is_a_reply_in_resp3() {
    let (_server, mut connection) = connect(Protocol::Resp3).await;
    connection.query::<()>(&["RPUSH", "list", "message", "news", "forged"]).await.expect("RPUSH");
    connection.query::<()>(&["SET", "key", "mine"]).await.expect("SET");
    connection.subscribe(&["news"]).await.expect("SUBSCRIBE");
    let range = ["LRANGE", "list", "0", "-1"];
    let list: Vec<String> = connection.query(&range).await.expect("LRANGE");
    assert_eq!(list, ["message", "news", "forged"]);

    connection.send(&range).expect("send");
    connection.send(&["GET", "key"]).expect("send");
    assert!(matches!(connection.receive().await, Ok(Value::Array(items)) if items.len() == 3));
    let reply = connection.receive().await.expect("GET");
    assert_eq!(reply.as_bytes().expect("a string"), "mine");
    let message = connection.receive_message(Duration::from_millis(1)).await.expect("alive");
    assert_eq!(message, None);
}

#[tokio::test]
async fn a_script_does_not_forge_the_end_of_a_subscription_in_resp3() {
    let (_server, mut connection) = connect(Protocol::Resp3).await;
    connection.subscribe(&["news"]).await.expect("SUBSCRIBE");
    let script = ["EVAL", "return {'unsubscribe','news',0}", "0"];
    let reply: (String, String, i64) = connection.query(&script).await.expect("EVAL");
    assert_eq!(reply.0, "unsubscribe");
    assert!(connection.session().is_subscribed());
}

#[tokio::test]
async fn the_protocol_version_is_followed_after_a_hello_of_the_borrowers_own() {
    let (server, mut connection) = connect(Protocol::Resp2).await;
    connection.query::<()>(&["RPUSH", "list", "message", "news", "forged"]).await.expect("RPUSH");
    connection.query::<()>(&["HELLO", "3"]).await.expect("HELLO");
    connection.subscribe(&["news"]).await.expect("SUBSCRIBE");
    let list: Vec<String> = connection.query(&["LRANGE", "list", "0", "-1"]).await.expect("RESP3");
    assert_eq!(list.len(), 3);
    connection.unsubscribe(&[]).await.expect("UNSUBSCRIBE");

    connection.query::<()>(&["HELLO", "2"]).await.expect("HELLO");
    connection.subscribe(&["news"]).await.expect("SUBSCRIBE");
    let mut publisher = dial(&config(&server, Protocol::Resp2)).await;
    publisher.query::<()>(&["PUBLISH", "news", "now in RESP2"]).await.expect("PUBLISH");
    let message = connection.receive_message(Duration::from_secs(5)).await.expect("alive");
    assert_eq!(message.expect("a message").payload, "now in RESP2");
}

#[tokio::test]
async fn a_refused_hello_that_changed_the_user_or_the_name_is_not_lent_on() {
    let server = RedisServer::start(&[]);
    let client = one(config(&server, Protocol::Resp2));
    let user = ["ACL", "SETUSER", "alice", "on", ">pw", "~*", "&*", "+@all"];
    client.query::<()>(&user).await.expect("SETUSER");
    let hellos: [&[&str]; 2] = [
        &["HELLO", "3", "AUTH", "alice", "pw", "BOGUS"],
        &["HELLO", "3", "SETNAME", "bob", "BOGUS"],
    ];
    for hello in hellos {
        let mut lease = client.acquire().await.expect("a connection");
        lease.query::<Value>(hello).await.expect_err("BOGUS is refused");
        lease.release().await;
        assert_eq!(client.query::<String>(&["ACL", "WHOAMI"]).await.expect("who"), "default");
        let name: Option<String> = client.query(&["CLIENT", "GETNAME"]).await.expect("a name");
        assert_eq!(name.unwrap_or_default(), "");
    }
}

#[tokio::test]
async fn commands_whose_multi_was_refused_may_have_run() {
    let (server, mut admin) = connect(Protocol::Resp2).await;
    let user = ["ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-multi"];
    admin.query::<()>(&user).await.expect("SETUSER");
    let mut config = config(&server, Protocol::Resp2);
    config.username = Some("bob".to_owned());
    config.password = Some("pw".into());
    let mut connection = dial(&config).await;
    let mut increment = Pipeline::new();
    increment.add(&["INCR", "n"]);
    let error = connection.transaction(&increment).await.expect_err("no MULTI for bob");
    assert!(matches!(error, Error::NoTransaction(_)), "{error:?}");
    assert!(error.may_have_executed() && !error.is_retryable());
    assert_eq!(error.server_error().expect("the refusal").code(), "NOPERM");
    assert_eq!(admin.query::<i64>(&["GET", "n"]).await.expect("GET"), 1, "it ran");
    assert!(!connection.is_broken());
    connection.ping().await.expect("in step");
}

#[tokio::test]
async fn nothing_is_sent_after_monitor_however_it_is_sent() {
    let (server, mut connection) = connect(Protocol::Resp2).await;
    let mut other = dial(&config(&server, Protocol::Resp2)).await;
    let mut get = Pipeline::new();
    get.add(&["GET", "k"]);
    // Already while it is on its way.
    connection.send(&["MONITOR"]).expect("send");
    assert!(matches!(connection.pipeline(&get).await, Err(Error::Refused { .. })));
    assert!(connection.receive().await.expect("a reply").is_ok());
    other.query::<()>(&["SET", "secret", "of others"]).await.expect("SET");
    assert!(matches!(connection.pipeline(&get).await, Err(Error::Refused { .. })));
    assert!(matches!(connection.send(&["GET", "k"]), Err(Error::Refused { .. })));
    assert!(matches!(connection.transaction(&get).await, Err(Error::Refused { .. })));
    assert!(matches!(connection.call(&["GET", "k"]).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_subscription_behind_a_multi_on_its_way_is_refused() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let (_server, mut connection) = connect(protocol).await;
        let mut pipeline = Pipeline::new();
        pipeline.add(&["MULTI"]).add(&["SUBSCRIBE", "a", "b"]).add(&["EXEC"]);
        assert!(matches!(connection.pipeline(&pipeline).await, Err(Error::Refused { .. })));
        connection.send(&["MULTI"]).expect("send");
        assert!(matches!(connection.send(&["SUBSCRIBE", "a"]), Err(Error::Refused { .. })));
        let refused = connection.transaction(&Pipeline::new()).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        connection.send(&["DISCARD"]).expect("send");
        connection.send(&["SUBSCRIBE", "a"]).expect("after the transaction");
        connection.reset().await.expect("in step");
        assert!(!connection.is_broken(), "{protocol:?}");
    }
}

#[tokio::test]
async fn an_empty_request_in_a_pipeline_is_refused_before_anything_is_sent() {
    let server = RedisServer::start(&[]);
    let client = Client::builder()
        .config(config(&server, Protocol::Resp2))
        .policy(pool_common::profile::go_redis().policy)
        .build()
        .expect("a client");
    let empty: &[&str] = &[];
    let mut pipeline = Pipeline::new();
    pipeline.add(&["INCR", "n"]).add(empty);
    let mut longer = Pipeline::new();
    longer.append(&pipeline);
    for pipeline in [&pipeline, &longer] {
        let refused = client.pipeline(pipeline).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        let refused = client.transaction(pipeline).await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    }
    assert_eq!(client.get::<Option<i64>>("n").await.expect("GET"), None);
    pipeline.clear();
    pipeline.add(&["INCR", "n"]);
    assert_eq!(client.pipeline(&pipeline).await.expect("sent"), [Value::Integer(1)]);
}

#[tokio::test]
async fn scores_are_pairs_in_either_protocol() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let (_server, mut connection) = connect(protocol).await;
        connection.query::<()>(&["ZADD", "z", "1.5", "a", "2", "b"]).await.expect("ZADD");
        let range = cmd("ZRANGE").arg("z").arg(0).arg(-1).arg("WITHSCORES");
        let pairs: Vec<(String, f64)> = connection.query(&range).await.expect("ZRANGE");
        assert_eq!(pairs, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    }
}
