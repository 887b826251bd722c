//! The client over the pool, against a real redis-server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use pool_common::{
    Policy,
    clock::Clock,
    connect::TcpConnector,
    policy::{Check, Retry},
    profile::Profile,
    testing::servers::RedisServer,
};
use resp_pool::{Client, Config, Error, Pipeline, Protocol, ServerErrorKind, Value, cmd};

fn config(server: &RedisServer, protocol: Protocol) -> Config {
    Config { port: server.addr().port(), protocol, ..Config::default() }
}

fn policy() -> Policy {
    Policy { max_open_per_key: Some(1), ..Policy::default() }
}

fn client(server: &RedisServer, protocol: Protocol, policy: Policy) -> Client {
    Client::builder()
        .config(config(server, protocol))
        .policy(policy)
        .build()
        .expect("a good policy")
}

/// The next borrower finds the session neutral, and reads no replies of another caller.
async fn assert_neutral(client: &Client, what: &str) {
    for number in 0..100 {
        let mut lease = client.acquire().await.expect("a connection");
        let nonce = format!("{what} {number}");
        let echo: String = lease.query(&["ECHO", &nonce]).await.expect("ECHO");
        assert_eq!(echo, nonce);
        if number == 0 {
            let info: String = lease.query(&["CLIENT", "INFO"]).await.expect("info");
            for neutral in [" name= ", " db=0 ", " sub=0 psub=0 ", " multi=-1 "] {
                assert!(info.contains(neutral), "{what}: {info}");
            }
            assert!(lease.session().is_neutral(), "{what}");
        }
    }
    let status = client.status();
    assert_eq!((status.leased, status.waiting, status.dialing), (0, 0, 0), "{what}");
}

async fn connections_seen_by(server: &RedisServer) -> usize {
    let observer = client(server, Protocol::Resp2, policy());
    let list: String = observer.query(&["CLIENT", "LIST"]).await.expect("a list");
    observer.close().await;
    list.lines().count() - 1
}

/// Waits until the server counts `count` connections.
async fn until_server_counts(server: &RedisServer, count: usize) {
    let counted = async {
        while connections_seen_by(server).await != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.expect("the server counts them");
}

#[tokio::test]
async fn a_session_left_behind_is_neutral_for_the_next_borrower() {
    let left: &[&[&[&str]]] = &[
        &[&["MULTI"]],
        &[&["MULTI"], &["INCR", "n"]],
        &[&["WATCH", "k"]],
        &[&["WATCH", "k"], &["MULTI"], &["SELECT", "3"]],
        &[&["SUBSCRIBE", "a", "b"]],
        &[&["PSUBSCRIBE", "a*"]],
        &[&["SSUBSCRIBE", "a"]],
        &[&["SELECT", "3"]],
        &[&["CLIENT", "SETNAME", "me"]],
        &[&["MONITOR"]],
        &[&["HELLO", "2"]],
        &[&["AUTH", "default", "whatever"]],
    ];
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let server = RedisServer::start(&[]);
        let client = client(&server, protocol, policy());
        for commands in left {
            let mut lease = client.acquire().await.expect("a connection");
            for command in *commands {
                lease.query::<()>(*command).await.expect("a command");
            }
            drop(lease);
            assert_neutral(&client, &format!("{protocol:?} {commands:?}")).await;
            let mut lease = client.acquire().await.expect("a connection");
            for command in *commands {
                lease.query::<()>(*command).await.expect("a command");
            }
            lease.release().await;
            assert_neutral(&client, &format!("{protocol:?} {commands:?}, released")).await;
        }
        // Only what cannot be undone cost a connection: three of the twelve, twice, and the first.
        assert_eq!(client.stats().opened, 7, "{protocol:?}");
        until_server_counts(&server, 1).await;
        client.close().await;
        until_server_counts(&server, 0).await;
    }
}

#[tokio::test]
async fn unread_replies_are_read_and_dropped() {
    let server = RedisServer::start(&[]);
    let client = client(&server, Protocol::Resp3, policy());
    let mut lease = client.acquire().await.expect("a connection");
    for number in 0..50 {
        lease.send(&cmd("ECHO").arg(number)).expect("send");
    }
    lease.flush().await.expect("flush");
    lease.receive().await.expect("one of them");
    drop(lease);
    assert_neutral(&client, "pending").await;
    let mut lease = client.acquire().await.expect("a connection");
    lease.send(&["ECHO", "encoded, never written"]).expect("send");
    drop(lease);
    assert_neutral(&client, "unwritten").await;
    assert_eq!(client.stats().opened, 1);
}

#[tokio::test]
async fn pending_replies_beyond_the_bounds_cost_the_connection() {
    let server = RedisServer::start(&[]);
    let mut config = config(&server, Protocol::Resp2);
    config.settings.drain_bytes = 1000;
    let client = Client::builder().config(config).policy(policy()).build().expect("a client");
    for (length, opened) in [(900, 1), (2000, 2), (20_000_000, 3)] {
        let mut lease = client.acquire().await.expect("a connection");
        lease.send(&["ECHO", &"x".repeat(length)]).expect("send");
        drop(lease);
        assert_neutral(&client, "too much").await;
        assert_eq!(client.stats().opened, opened, "{length}");
    }
}

#[tokio::test]
async fn messages_of_a_subscription_do_not_reach_the_next_borrower() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let server = RedisServer::start(&[]);
        let subscriber = client(&server, protocol, policy());
        let publisher = client(&server, protocol, policy());
        let mut lease = subscriber.acquire().await.expect("a connection");
        lease.subscribe(&["news"]).await.expect("SUBSCRIBE");
        for number in 0..100 {
            publisher.query::<()>(&cmd("PUBLISH").arg("news").arg(number)).await.expect("PUBLISH");
        }
        let limit = Duration::from_secs(5);
        let message = lease.receive_message(limit).await.expect("alive").expect("a message");
        assert_eq!(message.payload, "0");
        drop(lease);
        assert_neutral(&subscriber, "messages").await;
        assert_eq!(subscriber.stats().opened, 1);
    }
}

#[tokio::test]
async fn a_cancelled_command_does_not_answer_the_next_borrower() {
    let server = RedisServer::start(&[]);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let client = client(&server, protocol, policy());
        let slow = cmd("BLPOP").arg(["none"].as_slice()).arg(0.05);
        let in_flight = client.query::<Value>(&slow);
        assert!(tokio::time::timeout(Duration::from_millis(5), in_flight).await.is_err());
        assert_neutral(&client, "cancelled").await;

        // Within a lease that lives on.
        let mut lease = client.acquire().await.expect("a connection");
        let in_flight = lease.query::<Value>(&slow);
        assert!(tokio::time::timeout(Duration::from_millis(5), in_flight).await.is_err());
        assert!(matches!(lease.query::<Value>(&["ECHO", "x"]).await, Err(Error::Abandoned)));
        drop(lease);
        assert_neutral(&client, "cancelled in a lease").await;
        client.close().await;
    }
    until_server_counts(&server, 0).await;
}

#[tokio::test]
async fn killed_idle_connections_are_replaced_without_an_error() {
    let server = RedisServer::start(&[]);
    let open = Policy { max_open_per_key: Some(10), ..Policy::default() };
    let client = client(&server, Protocol::Resp2, open);
    let mut leases = Vec::new();
    for _ in 0..10 {
        leases.push(client.acquire().await.expect("a connection"));
    }
    leases.clear();
    assert_eq!(client.status().idle, 10);
    let killer = client_of(&server);
    let killed: u32 =
        killer.query(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("KILL");
    assert_eq!(killed, 10);
    until_server_counts(&server, 1).await;
    assert_neutral(&client, "killed").await;
    assert_eq!(client.stats().opened, 11);
}

fn client_of(server: &RedisServer) -> Client {
    client(server, Protocol::Resp2, policy())
}

#[tokio::test]
async fn a_check_on_borrow_replaces_connections_that_fail_it() {
    let server = RedisServer::start(&[]);
    let checked = Policy { check: Check::Always, peek: false, ..policy() };
    let client = client(&server, Protocol::Resp3, checked);
    assert_neutral(&client, "checked").await;
    let killer = client_of(&server);
    killer.query::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("KILL");
    assert_neutral(&client, "checked and replaced").await;
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn the_users_own_check_runs_on_reuse_and_decides() {
    let server = RedisServer::start(&[]);
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let client = Client::builder()
        .config(config(&server, Protocol::Resp2))
        .policy(Policy { check: Check::Always, ..policy() })
        .check_with(move |connection, _idle| {
            let call = counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                // Leaves the session changed, which is undone, and refuses the third time.
                connection.query::<()>(&["SELECT", "7"]).await?;
                if call == 2 { Err(Error::Broken) } else { Ok(()) }
            })
        })
        .build()
        .expect("a client");
    for _ in 0..5 {
        let mut lease = client.acquire().await.expect("a connection");
        let info: String = lease.query(&["CLIENT", "INFO"]).await.expect("info");
        assert!(info.contains(" db=0 "), "{info}");
    }
    // Five acquires; on the first it was fresh, on the fourth it was refused and replaced.
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn the_floor_is_refilled_in_the_background() {
    let server = RedisServer::start(&[]);
    let floor = Policy { min_idle: 3, max_open_per_key: Some(8), ..Policy::default() };
    let client = client(&server, Protocol::Resp2, floor);
    client.warm_up();
    until_server_counts(&server, 3).await;
    let lease = client.acquire().await.expect("a connection");
    until_server_counts(&server, 4).await;
    lease.discard();
    until_server_counts(&server, 3).await;
    client.close().await;
    until_server_counts(&server, 0).await;
}

#[tokio::test]
async fn idle_time_and_lifetime_end_connections() {
    let server = RedisServer::start(&[]);
    let (clock, hands) = Clock::manual();
    let limited = Policy {
        idle_timeout: Some(Duration::from_secs(60)),
        max_lifetime: Some(Duration::from_secs(100)),
        expiry: pool_common::policy::Expiry::AtAcquire,
        lifetime_jitter: Duration::ZERO,
        ..policy()
    };
    let client = Client::builder()
        .config(config(&server, Protocol::Resp2))
        .policy(limited)
        .clock(clock)
        .build()
        .expect("a client");
    let dialed_after = async |seconds| {
        hands.advance(Duration::from_secs(seconds));
        client.query::<()>(&["PING"]).await.expect("PING");
        client.stats().opened
    };
    assert_eq!(dialed_after(0).await, 1);
    assert_eq!(dialed_after(59).await, 1, "idle for less than its time");
    assert_eq!(dialed_after(61).await, 2, "idle for too long");
    assert_eq!(dialed_after(50).await, 2);
    assert_eq!(dialed_after(51).await, 3, "too old, though used a while ago");
    client.close().await;
    until_server_counts(&server, 0).await;
}

#[tokio::test]
async fn attempts_outlast_a_restart_of_the_server() {
    let mut server = RedisServer::start(&[]);
    let patient = Policy {
        retry: Retry::Attempts,
        retry_attempts: 50,
        retry_back_off_max: Duration::from_millis(100),
        ..policy()
    };
    let client = client(&server, Protocol::Resp2, patient);
    client.set("k", "before").await.expect("SET");
    let open = client.acquire().await.expect("a connection");
    server.stop();
    // On the connection that was open the INCR could be lost halfway, and is then not repeated.
    open.discard();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.incr("n", 1).await }
    });
    tokio::task::yield_now().await;
    server.restart();
    assert_eq!(waiting.await.expect("no panic").expect("in the end"), 1);
    assert_neutral(&client, "restarted").await;
}

#[tokio::test]
async fn a_script_that_wrote_is_not_run_again_whatever_it_answers() {
    let server = RedisServer::start(&[]);
    let script = "redis.call('INCR', KEYS[1]); return redis.error_reply('TRYAGAIN later')";
    for (number, retry) in (1..).zip([Retry::Unprocessed, Retry::Attempts]) {
        let client = client(&server, Protocol::Resp2, Policy { retry, ..policy() });
        let eval = cmd("EVAL").arg(script).arg(1).arg("n");
        let error = client.query::<Value>(&eval).await.expect_err("the script says so");
        assert!(error.may_have_executed(), "{error:?}");
        assert_eq!(client.get::<u32>("n").await.expect("GET"), number, "{retry:?}");
    }
}

#[tokio::test]
async fn the_longest_durations_are_no_trouble() {
    let server = RedisServer::start(&[]);
    let max = Duration::MAX;
    let endless = Policy {
        check: Check::Always,
        check_timeout: max,
        reset_timeout: max,
        dial_timeout: max,
        close_timeout: max,
        acquire_timeout: Some(max),
        idle_timeout: Some(max),
        max_lifetime: Some(max),
        lifetime_jitter: max,
        retry: Retry::Attempts,
        retry_back_off_min: max,
        retry_back_off_max: max,
        ..policy()
    };
    let mut config = config(&server, Protocol::Resp2);
    config.settings.read_timeout = Some(max);
    config.settings.write_timeout = Some(max);
    let connector = TcpConnector { timeout: max, ..TcpConnector::default() };
    let client = |config| {
        let builder =
            Client::builder().config(config).policy(endless.clone()).connector(connector.clone());
        builder.build().expect("a good policy")
    };
    let working = client(config.clone());
    for _ in 0..2 {
        let mut lease = working.acquire().await.expect("a connection");
        lease.query::<()>(&["SELECT", "1"]).await.expect("SELECT");
        lease.release().await;
    }
    assert_eq!(working.stats().opened, 1);
    working.close().await;

    // The pause before the second attempt is as long as the policy says; it does not panic.
    drop(server);
    let call = client(config);
    let call = call.query::<()>(&["PING"]);
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
}

#[tokio::test]
async fn error_texts_tell_what_happened() {
    let mut server = RedisServer::start(&["--requirepass", "s3cret"]);
    let mut config = config(&server, Protocol::Resp3);
    config.password = Some("wr0ng".into());
    let client =
        Client::builder().config(config.clone()).policy(policy()).build().expect("a client");
    let error = client.get::<String>("k").await.expect_err("wrong password");
    assert_eq!(error.server_error().expect("typed").kind(), ServerErrorKind::WrongPass);
    assert!(!format!("{error} {error:?} {client:?}").contains("wr0ng"));

    config.password = Some("s3cret".into());
    let client = Client::builder().config(config).policy(policy()).build().expect("a client");
    client.set("k", "v").await.expect("SET");
    server.stop();
    let error = loop {
        match client.get::<String>("k").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error:?}");
    client.close().await;
    assert!(matches!(client.get::<String>("k").await, Err(Error::Acquire(_))));
}

#[tokio::test]
async fn helpers_pipelines_and_transactions_work_on_the_client() {
    let server = RedisServer::start(&[]);
    for retry in [Retry::Never, Retry::Attempts] {
        let client = client(&server, Protocol::Resp3, Policy { retry, ..policy() });
        client.set("k", "v").await.expect("SET");
        assert_eq!(client.get::<Option<String>>("k").await.expect("GET").as_deref(), Some("v"));
        assert!(client.del("k").await.expect("DEL"));
        assert!(!client.del("k").await.expect("DEL"));
        client.set_for("t", "v", Duration::from_secs(100)).await.expect("SET PX");
        assert!(client.query::<i64>(&["PTTL", "t"]).await.expect("PTTL") > 0);
        let mut pipeline = Pipeline::new();
        pipeline.add(&["SET", "n", "1"]).add(&["INCR", "n"]);
        assert_eq!(client.pipeline(&pipeline).await.expect("a pipeline")[1], Value::Integer(2));
        let both: (String, u8) = client.pipeline_as(&pipeline).await.expect("a pipeline");
        assert_eq!(both, ("OK".to_owned(), 2));
        let replies = client.transaction(&pipeline).await.expect("a transaction");
        assert_eq!(replies[1], Value::Integer(2));
        let other = client.with_database(1);
        assert_eq!(other.get::<Option<String>>("n").await.expect("GET"), None);
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_few_connections_and_read_their_own() {
    let server = RedisServer::start(&[]);
    let few = Policy { max_open_per_key: Some(4), ..Policy::default() };
    let client = client(&server, Protocol::Resp3, few);
    let callers = (0..50_u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..100_u64 {
                let nonce = format!("{caller} {number}");
                // Some callers give up, each at another point of the exchange.
                let request = ["ECHO", &nonce];
                let call = client.query::<String>(&request);
                if (caller + number) % 7 == 0 {
                    let patience = Duration::from_micros((caller * 13 + number) % 300);
                    if let Ok(echo) = tokio::time::timeout(patience, call).await {
                        assert_eq!(echo.expect("ECHO"), nonce);
                    }
                } else {
                    assert_eq!(call.await.expect("ECHO"), nonce);
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no panic");
    }
    assert_neutral(&client, "after the crowd").await;
    assert!(client.status().open <= 4);
    client.close().await;
    until_server_counts(&server, 0).await;
}

#[tokio::test]
async fn every_profile_keeps_its_borrowers_apart() {
    let server = RedisServer::start(&[]);
    for profile in Profile::all() {
        let client = client(&server, Protocol::Resp2, profile.policy);
        let callers = (0..8_u32).map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..20 {
                    let mut lease = client.acquire().await.expect("a connection");
                    assert!(lease.session().is_neutral());
                    let nonce = format!("{caller} {number}");
                    let echo: String = lease.query(&["ECHO", &nonce]).await.expect("ECHO");
                    assert_eq!(echo, nonce);
                    match (caller + number) % 4 {
                        0 => lease.query::<()>(&["MULTI"]).await.expect("MULTI"),
                        1 => lease.query::<()>(&["SELECT", "2"]).await.expect("SELECT"),
                        2 => lease.send(&["ECHO", "left behind"]).expect("send"),
                        _ => {}
                    }
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap_or_else(|error| panic!("{}: {error}", profile.name));
        }
        assert_neutral(&client, profile.name).await;
        client.close().await;
        assert_eq!(client.status().open, 0, "{}", profile.name);
        until_server_counts(&server, 0).await;
    }
}

#[tokio::test]
async fn every_retry_rule_gets_a_read_past_a_connection_that_died_idle() {
    let server = RedisServer::start(&[]);
    let killer = client_of(&server);
    for retry in
        [Retry::Attempts, Retry::Idempotent, Retry::ReusedAndReplayable, Retry::BadConnection]
    {
        // Without a peek the pool lends the dead connection.
        let client = client(&server, Protocol::Resp2, Policy { retry, peek: false, ..policy() });
        client.set("k", "v").await.expect("SET");
        killer.query::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("KILL");
        until_server_counts(&server, 1).await;
        assert_eq!(client.get::<String>("k").await.expect("GET"), "v", "{retry:?}");
        assert_eq!(client.stats().opened, 2, "{retry:?}");
        client.close().await;
    }
}
