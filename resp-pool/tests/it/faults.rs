//! Peers that misbehave: an error for the caller, and the next request on the same pool succeeds.

use std::sync::Arc;
use std::time::Duration;

use pool_common::Policy;
use pool_common::policy::{Check, Retry};
use resp_pool::{Client, Config, Connection, Error, ProtocolError, ScanError, Stage, Value};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use self::peer::{Act, one, peer};

mod drops;
mod peer;
mod resets;

/// The first request meets `act`, all others an honest peer. Returns what the first one got.
async fn first_meets(act: Act, settle: fn(&mut Config)) -> Result<Value, Error> {
    let mut config =
        peer(move |request| if request == 0 { act.clone() } else { Act::Honestly }).await;
    settle(&mut config);
    let client = one(config);
    let result = client.query::<Value>(&["GET", "key"]).await;
    for number in 0..100 {
        let nonce = format!("nonce {number}");
        let echo: String = client.query(&["ECHO", &nonce]).await.expect("the next ones succeed");
        assert_eq!(echo, nonce);
    }
    let status = client.status();
    assert_eq!((status.leased, status.waiting, status.dialing), (0, 0, 0));
    client.close().await;
    assert_eq!(client.status().open, 0);
    result
}

#[tokio::test]
async fn unacceptable_bytes_are_an_error_and_end_the_connection() {
    let cases: &[(&[u8], ScanError)] = &[
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ScanError::UnknownType(b'H')),
        (b"$+5\r\nhello\r\n", ScanError::BadLength),
        (b"$5\r\nhello\n\n", ScanError::BadLineEnd),
        (b"$9999999999\r\n", ScanError::BulkTooLong(512 << 20)),
        (b"*9999999999\r\n", ScanError::TooManyElements(1 << 30)),
        (b"*?\r\n", ScanError::Streamed),
        (b"$?\r\n;4\r\nabcd\r\n;0\r\n", ScanError::Streamed),
        (b"+no\rreturn\r\n", ScanError::BadLineEnd),
    ];
    for (bytes, expected) in cases {
        let error = first_meets(Act::With(bytes.to_vec()), |_| {}).await.expect_err("refused");
        match error {
            Error::Protocol(ProtocolError::Scan(found)) => assert_eq!(found, *expected),
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }
}

#[tokio::test]
async fn a_bomb_of_levels_is_an_error() {
    let error = first_meets(Act::With(b"*1\r\n".repeat(100_000)), |_| {}).await;
    let error = error.expect_err("refused");
    assert!(
        matches!(error, Error::Protocol(ProtocolError::Scan(ScanError::TooDeep(32)))),
        "{error:?}"
    );
    assert!(!error.is_retryable() && error.may_have_executed());
}

#[tokio::test]
async fn a_peer_that_closes_is_an_error_wherever_it_stops() {
    let reply = b"*2\r\n$5\r\nhello\r\n:1\r\n";
    for cut in 0..reply.len() {
        let error = first_meets(Act::AndClose(reply[..cut].to_vec()), |_| {}).await;
        let error = error.expect_err("an incomplete reply");
        assert!(matches!(error, Error::Io { sent: true, .. }), "cut at {cut}: {error:?}");
        assert!(error.may_have_executed() && error.is_retryable());
    }
}

#[tokio::test]
async fn a_complete_reply_before_the_close_counts() {
    let value = first_meets(Act::AndClose(b"$2\r\nhi\r\n".to_vec()), |_| {}).await;
    assert_eq!(value.expect("a reply").as_bytes().expect("a string"), "hi");
}

#[tokio::test]
async fn a_silent_peer_is_a_timeout() {
    let error = first_meets(Act::Not, |config| {
        config.settings.read_timeout = Some(Duration::from_millis(200));
    });
    let error = error.await.expect_err("no reply");
    assert!(error.is_timeout() && error.may_have_executed(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_trickles_does_not_extend_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"$1000\r\n").await.expect("open");
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let key = config.key().expect("valid");
    let settings = Arc::new(config.settings.clone());
    let mut connection = Connection::dial(&key, settings).await.expect("connects");
    let start = tokio::time::Instant::now();
    let error = connection.query::<Value>(&["GET", "k"]).await.expect_err("too slow");
    assert!(error.is_timeout(), "{error:?}");
    let limit = config.settings.read_timeout.expect("the default has one");
    assert_eq!(start.elapsed().as_secs(), limit.as_secs());
}

#[tokio::test]
async fn bytes_after_the_reply_are_never_the_next_answer() {
    for stray in [&b"+stray\r\n"[..], b"$5\r\nstr", b"\r\n", b"+"] {
        let value = first_meets(Act::Adding(stray.to_vec()), |_| {}).await;
        assert!(value.is_ok(), "{value:?}");
    }
}

#[tokio::test]
async fn a_connection_that_went_stale_in_a_lease_is_noticed_before_anything_is_sent() {
    // Stray bytes are in our buffer with the reply; an end of stream has to be seen by the reactor.
    for act in [Act::Adding(b"+stray\r\n".to_vec()), Act::AndClose(b"+OK\r\n".to_vec())] {
        let closes = matches!(act, Act::AndClose(_));
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let config = peer(move |request| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if request == 0 { act.clone() } else { Act::Honestly }
        })
        .await;
        let client = one(config);
        let mut lease = client.acquire().await.expect("a connection");
        lease.query::<()>(&["SET", "k", "v"]).await.expect("SET");
        if closes {
            while !Connection::is_broken(&mut lease) {
                tokio::task::yield_now().await;
            }
        }
        let error = lease.query::<Value>(&["INCR", "n"]).await.expect_err("stale");
        assert_eq!(matches!(error, Error::Stale), !closes, "{error:?}");
        assert!(error.is_retryable() && !error.may_have_executed());
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn an_unrequested_push_is_no_answer() {
    let push = b">2\r\n+invalidate\r\n*1\r\n+k\r\n".to_vec();
    let value = first_meets(Act::With([push.clone(), b"+OK\r\n".to_vec()].concat()), |_| {}).await;
    assert!(value.expect("the reply after it").is_ok());
    let value = first_meets(Act::Adding(push), |_| {}).await;
    assert!(value.is_ok());
}

#[tokio::test]
async fn a_flood_of_pushes_is_bounded() {
    let flood = b">1\r\n+x\r\n".repeat(200);
    let error = first_meets(Act::With(flood), |config| config.settings.max_pushes = 100).await;
    let error = error.expect_err("too many");
    assert!(matches!(error, Error::Protocol(ProtocolError::TooManyPushes(100))), "{error:?}");
}

#[tokio::test]
async fn attributes_are_read_over() {
    let reply = b"|1\r\n+key-popularity\r\n:90\r\n*2\r\n:1\r\n|1\r\n+ttl\r\n:5\r\n:2\r\n".to_vec();
    let value = first_meets(Act::With(reply), |_| {}).await.expect("a reply");
    assert_eq!(value, Value::Array(vec![Value::Integer(1), Value::Integer(2)]));
}

#[tokio::test]
async fn a_check_that_gets_anothers_answer_replaces_the_connection() {
    // The peer is one reply behind from the second request on, as after a leak.
    let config = peer(|request| match request {
        1 => Act::With(b"$5\r\nsomeo\r\n".to_vec()),
        _ => Act::Honestly,
    })
    .await;
    let policy = Policy { max_open_per_key: Some(1), check: Check::Always, ..Policy::default() };
    let client = Client::builder().config(config).policy(policy).build().expect("a client");
    for number in 0..100 {
        let nonce = number.to_string();
        assert_eq!(client.query::<String>(&["ECHO", &nonce]).await.expect("ECHO"), nonce);
    }
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn the_password_is_not_in_the_error_even_when_the_server_repeats_it() {
    let echo =
        b"-ERR unknown command `HELLO`, args beginning with: `3`, `AUTH`, `u`, `hunter2`\r\n";
    let mut config = peer(move |_| Act::With(echo.to_vec())).await;
    config.password = Some("hunter2".into());
    config.protocol = resp_pool::Protocol::Resp3;
    let client = one(config);
    let error = client.query::<Value>(&["GET", "k"]).await.expect_err("refused");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(error.server_error().expect("typed").code(), "ERR");
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let config = peer(|request| match request {
        0 => Act::With(b"-READONLY You can't write against a read only replica.\r\n".to_vec()),
        _ => Act::Honestly,
    })
    .await;
    let policy = Policy { retry: Retry::Attempts, ..Policy::default() };
    let client = Client::builder().config(config).policy(policy).build().expect("a client");
    client.query::<()>(&["APPEND", "k", "v"]).await.expect("the second attempt");
    assert_eq!(client.stats().opened, 2);
}

#[tokio::test]
async fn a_lost_write_is_repeated_by_no_rule_and_a_lost_read_by_some() {
    for (retry, command, runs) in [
        (Retry::Never, "APPEND", 1),
        (Retry::Attempts, "APPEND", 1),
        (Retry::Idempotent, "APPEND", 1),
        (Retry::Unprocessed, "APPEND", 1),
        (Retry::Never, "GETRANGE", 1),
        (Retry::Attempts, "GETRANGE", 2),
        (Retry::Idempotent, "GETRANGE", 2),
    ] {
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let config = peer(move |request| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if request == 0 { Act::AndClose(Vec::new()) } else { Act::Honestly }
        })
        .await;
        let policy = Policy { retry, ..Policy::default() };
        let client = Client::builder().config(config).policy(policy).build().expect("a client");
        let result = client.query::<()>(&[command, "k", "v"]).await;
        assert_eq!(result.is_ok(), runs == 2, "{retry:?} {command}");
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), runs, "{retry:?} {command}");
    }
}

#[tokio::test]
async fn garbage_costs_an_error_and_nothing_else() {
    let pieces = [
        "*",
        "$",
        "%",
        "~",
        "|",
        ">",
        "+",
        "-",
        ":",
        ",",
        "#",
        "_",
        "(",
        "=",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "0",
        "1",
        "2",
        "-1",
        "?",
        "999999999999",
        "t",
        "txt:",
        "a",
        "*2\r\n",
        "$1\r\na\r\n",
        ":1\r\n",
        "%1\r\n",
        "+OK\r\n",
    ];
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(0..12);
        let garbage: String = (0..count).map(|_| pieces[random.usize(..pieces.len())]).collect();
        // A good reply may be among them; the requests after it are what matters.
        let _ = first_meets(Act::AndClose(garbage.into_bytes()), |_| {}).await;
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_a_timeout_of_the_write() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut config =
        Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    config.settings.write_timeout = Some(Duration::from_millis(50));
    let key = config.key().expect("valid");
    let settings = Arc::new(config.settings.clone());
    let mut connection = Connection::dial(&key, settings).await.expect("connects");
    // More than the buffers of both sockets take.
    let value = vec![b'x'; 64 * 1024 * 1024];
    let request = [&b"SET"[..], b"k", &value];
    let error = connection.query::<Value>(&request).await.expect_err("nobody reads");
    assert!(matches!(error, Error::Timeout { stage: Stage::Write, sent: true, .. }), "{error:?}");
    assert!(connection.is_broken());
}

#[tokio::test]
async fn a_refusal_before_the_first_request_is_told_and_a_later_one_is_stray() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let key = config.key().expect("valid");
    let settings = Arc::new(config.settings.clone());
    let refusal = b"-ERR max number of clients reached\r\n";
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(refusal).await.expect("open");
        stream
    });
    let mut connection = Connection::dial(&key, settings).await.expect("connects");
    let _stream = peer.await.expect("no panic");
    // Whether the reactor has seen it by now or not: it is the server's word on this request.
    let error = connection.query::<Value>(&["GET", "k"]).await.expect_err("refused");
    assert_eq!(error.server_error().expect("the server's word").code(), "ERR");
    assert!(!error.may_have_executed());

    let value = first_meets(Act::Adding(refusal.to_vec()), |_| {}).await;
    assert_eq!(value.expect("its own reply").as_bytes().expect("a string"), "key");
}
