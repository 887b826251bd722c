//! A faulty or hostile peer can cause an error, and nothing else.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{
    Peer, answers_are_own, fed, fetch, finished, get, look_at_sockets, settled, within,
};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http1_pool::{Body, Client, Config, Error, Key, Limits, ProtocolError, Stage};
use tokio::io::AsyncWriteExt;

/// A peer whose first connection answers one request with `bytes`, and then closes or stays open;
/// its other connections are good.
async fn faulty(bytes: Vec<u8>, close: bool) -> Peer {
    Peer::start(move |mut wire, number| {
        let bytes = bytes.clone();
        async move {
            if number > 0 {
                return wire.echo().await;
            }
            wire.head().await.unwrap();
            wire.send(bytes).await;
            if !close {
                wire.closed().await;
            }
        }
    })
    .await
}

fn quick() -> Client {
    let config = Config {
        response_timeout: Some(Duration::from_millis(50)),
        body_timeout: Some(Duration::from_millis(50)),
        limits: Limits { head_bytes: 8192, headers: 20, interim_responses: 5, ..Limits::default() },
        ..Config::default()
    };
    Client::builder().config(config).build().unwrap()
}

#[tokio::test]
async fn each_fault_costs_one_error_and_no_other_answer() {
    let head = "HTTP/1.1 200 OK\r\n";
    let many = |line: &str, count: usize| format!("{head}{}", line.repeat(count)).into_bytes();
    let chunked =
        |rest: &str| format!("{head}transfer-encoding: chunked\r\n\r\n{rest}").into_bytes();
    let length = |value: &str| format!("{head}content-length: {value}\r\n\r\nhello").into_bytes();
    let faults: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("cut status line", b"HTTP/1.".to_vec()),
        ("cut head", format!("{head}content-le").into_bytes()),
        ("cut body", length("6")),
        ("cut chunk", chunked("5\r\nhel")),
        ("cut before the last chunk", chunked("5\r\nhello\r\n")),
        ("cut trailers", chunked("0\r\nx: y\r\n")),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("a banner", b"220 smtp.example ESMTP\r\n\r\n".to_vec()),
        ("a long garbage line", vec![b'x'; 10_000]),
        ("a huge header", many(&format!("x: {}\r\n", "y".repeat(9000)), 1)),
        ("endless headers", many("x: y\r\n", 2000)),
        ("interim flood", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100).into_bytes()),
        (
            "large interim",
            format!("HTTP/1.1 103 E\r\nx: {}\r\n\r\n", "y".repeat(3000)).repeat(4).into(),
        ),
        ("signed length", length("+5")),
        ("length list", length("5, 5")),
        ("length overflow", length("99999999999999999999")),
        ("two lengths", length("5\r\ncontent-length: 6")),
        ("length and chunks", length("5\r\ntransfer-encoding: chunked")),
        (
            "unknown coding",
            format!("{head}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n").into(),
        ),
        ("bare line feed", b"HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_vec()),
        ("chunk size overflow", chunked("fffffffffffffffff\r\nhello\r\n")),
        ("huge chunk", chunked("ffffffffffffffff\r\nhello\r\n")),
        ("negative chunk", chunked("-5\r\nhello\r\n")),
        ("chunk longer than its size", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        ("endless extension", chunked(&format!("5;{}", "x".repeat(20_000)))),
        ("endless trailers", chunked(&format!("0\r\n{}", "x: y\r\n".repeat(2000)))),
    ];
    for (name, bytes) in faults {
        for close in [true, false] {
            let peer = faulty(bytes.clone(), close).await;
            let client = quick();
            let result = fetch(&client, get(&peer, "/fault")).await;
            let error = result.expect_err(name);
            assert!(
                matches!(
                    error,
                    Error::Closed { .. }
                        | Error::Io { .. }
                        | Error::Timeout { .. }
                        | Error::Protocol { .. }
                ),
                "{name}: {error}"
            );
            assert!(error.may_have_executed(), "{name}: {error}");
            assert_eq!(client.pool().status().idle, 0, "{name}");
            answers_are_own(&client, &peer).await;
            assert_eq!(peer.accepted(), 2, "{name}");
            finished(&client, &peer).await;
        }
    }
}

#[tokio::test]
async fn errors_name_the_side_at_fault_and_the_stage() {
    for (bytes, close, expected) in [
        (&b""[..], true, "the peer closed the connection while waiting for the response"),
        (b"", false, "timed out while waiting for the response: response_timeout = 50ms"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
            true,
            "the peer closed the connection while reading the response body",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
            false,
            "timed out while reading the response body: body_timeout = 50ms",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: +9\r\n\r\n",
            false,
            "bad response: invalid or contradictory Content-Length",
        ),
    ] {
        let peer = faulty(bytes.to_vec(), close).await;
        let error = fetch(&quick(), get(&peer, "/")).await.unwrap_err();
        let origin = format!("http://{}", peer.addr);
        assert_eq!(error.to_string(), format!("{expected} ({origin})"));
        assert_eq!(error.peer().unwrap().to_string(), origin);
        assert_eq!(error.is_timeout(), expected.contains("50ms"));
    }
}

/// What a reporter prints that walks the chain: every cause is in it, and none twice.
#[tokio::test]
async fn each_cause_is_printed_once() {
    // Nothing listens there any more.
    let addr = std::net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let client =
        Client::builder().change_policy(|policy| policy.retry_attempts = 1).build().unwrap();
    let request = Request::get(format!("http://{addr}/")).body(Body::empty()).unwrap();
    let refused = fetch(&client, request).await.unwrap_err();
    assert_eq!(refused.io_error().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);

    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        // The close is a reset.
        wire.stream.set_zero_linger().unwrap();
    })
    .await;
    let reset = fetch(&client, get(&peer, "/")).await.unwrap_err();
    assert!(matches!(reset, Error::Io { .. }), "{reset}");

    for error in [refused, reset] {
        let cause = error.io_error().unwrap().to_string();
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        assert_eq!(text.matches(&cause).count(), 1, "{text}");
        assert_eq!(text.matches("connect:").count() + text.matches("failed").count(), 1, "{text}");
    }
}

/// The answer is good, and the bytes behind it belong to no request.
#[tokio::test]
async fn leftover_bytes_are_no_answer() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    for (method, answer) in
        [("GET", good), ("GET", chunked), ("HEAD", good), ("GET", empty), ("GET", good)]
    {
        for pause in [false, true] {
            let peer = Peer::start(move |mut wire, number| async move {
                if number > 0 {
                    return wire.echo().await;
                }
                wire.head().await.unwrap();
                if pause {
                    wire.send(answer).await;
                    look_at_sockets().await;
                    wire.send(evil).await;
                } else {
                    wire.send(format!("{answer}{evil}")).await;
                }
                wire.closed().await;
            })
            .await;
            let client = Client::new();
            let request = Request::builder().method(method).uri(peer.uri("/first"));
            let (_, body) = fetch(&client, request.body(Body::empty()).unwrap()).await.unwrap();
            assert!(body == "good" || body.is_empty(), "{body}");
            // Until the stray bytes have arrived.
            if pause {
                for _ in 0..10 {
                    look_at_sockets().await;
                }
            }
            answers_are_own(&client, &peer).await;
            assert_eq!(peer.accepted(), 2);
            finished(&client, &peer).await;
        }
    }
}

/// Without the policy's peek, stray bytes are still not read as an answer.
#[tokio::test]
async fn stray_bytes_are_seen_without_a_peek() {
    let peer = Peer::start(|mut wire, number| async move {
        if number > 0 {
            return wire.echo().await;
        }
        wire.head().await.unwrap();
        wire.reply("good").await;
        look_at_sockets().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
        wire.closed().await;
    })
    .await;
    let policy = pool_common::Policy { peek: false, ..Client::default_policy() };
    let client = Client::builder().policy(policy).build().unwrap();
    assert_eq!(fetch(&client, get(&peer, "/first")).await.unwrap().1, "good");
    for _ in 0..10 {
        look_at_sockets().await;
    }
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 2);
}

#[tokio::test]
async fn a_connection_whose_peer_spoke_first_is_not_used() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
        assert!(wire.head().await.is_none(), "a request was sent after all");
    })
    .await;
    let client = Client::new();
    let key = Key::from_uri(&peer.uri("/").parse().unwrap()).unwrap();
    let lease = within(client.pool().acquire(&key)).await.unwrap();
    for _ in 0..10 {
        look_at_sockets().await;
    }
    drop(lease);
    assert_eq!(client.pool().status().idle, 0);
    finished(&client, &peer).await;
}

/// Bytes that come one by one, or interim responses, do not buy the peer more time.
#[tokio::test]
async fn a_trickle_does_not_extend_the_wait() {
    for (start, piece) in [("HTTP/1.1 200 OK\r\nx: ", "x"), ("", "HTTP/1.1 100 Continue\r\n\r\n")] {
        let peer = Peer::start(move |mut wire, _| async move {
            wire.head().await.unwrap();
            wire.send(start).await;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while wire.stream.write_all(piece.as_bytes()).await.is_ok() {
                pace.tick().await;
            }
        })
        .await;
        let config =
            Config { response_timeout: Some(Duration::from_millis(100)), ..Config::default() };
        let client = Client::builder().config(config).build().unwrap();
        let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { stage: Stage::Response, .. }), "{error}");
        finished(&client, &peer).await;
    }
}

/// A response body that stalls is given up, whatever the request body does meanwhile.
#[tokio::test]
async fn an_upload_buys_a_stalled_body_no_time() {
    for dripping in [false, true] {
        let peer = Peer::start(|mut wire, _| async move {
            wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
            wire.closed().await;
        })
        .await;
        let client = quick();
        let (sender, body) = fed(None);
        let request = Request::post(peer.uri("/")).body(body).unwrap();
        let response = within(client.request(request)).await.unwrap();
        let drip = async {
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !dripping || sender.send(Frame::data(Bytes::from_static(b"x"))).is_ok() {
                pace.tick().await;
            }
        };
        let error = tokio::select! {
            read = within(response.into_body().read_all(100)) => read.unwrap_err(),
            () = drip => unreachable!("the upload is over before the response"),
        };
        assert!(matches!(error, Error::Timeout { stage: Stage::Body, .. }), "{error}");
        drop(sender);
        finished(&client, &peer).await;
    }
}

/// All announced bytes are there, so it is the peer who is waited for.
#[tokio::test]
async fn the_answer_to_a_complete_upload_is_timed_though_its_stream_is_open() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        wire.closed().await;
    })
    .await;
    let client = quick();
    let (sender, body) = fed(Some(2));
    sender.send(Frame::data(Bytes::from_static(b"ab"))).unwrap();
    let request = Request::post(peer.uri("/")).body(body).unwrap();
    let error = within(client.request(request)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { stage: Stage::Response, .. }), "{error}");
    finished(&client, &peer).await;
}

/// A stray reply is waiting in the socket, and the runtime has had no time to look.
#[tokio::test]
async fn a_stray_reply_that_the_runtime_has_not_seen_is_no_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (go, gone) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (signal, sent) = (go.0, gone.1);
    let peer = std::thread::spawn(move || {
        let answer = |body| format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}");
        let mut request = [0; 1024];
        let (mut first, _) = listener.accept().unwrap();
        assert!(first.read(&mut request).unwrap() > 0);
        first.write_all(answer("first").as_bytes()).unwrap();
        go.1.recv().unwrap();
        first.write_all(answer("stray").as_bytes()).unwrap();
        gone.0.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        assert!(second.read(&mut request).unwrap() > 0);
        second.write_all(answer("other").as_bytes()).unwrap();
    });
    let client = Client::new();
    let request = || Request::get(format!("http://{addr}/")).body(Body::empty()).unwrap();
    assert_eq!(fetch(&client, request()).await.unwrap().1, "first");
    signal.send(()).unwrap();
    // Blocks the runtime on purpose, for longer than the time from which the socket is asked.
    sent.recv().unwrap();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(fetch(&client, request()).await.unwrap().1, "other");
    peer.join().unwrap();
}

#[tokio::test]
async fn the_answer_to_a_refused_upload_is_read() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
            .await;
        wire.closed().await;
    })
    .await;
    let client = Client::new();
    let request = Request::post(peer.uri("/")).body(Body::from(vec![0; 8 << 20])).unwrap();
    let (response, body) = fetch(&client, request).await.unwrap();
    assert_eq!((response.status().as_u16(), body.as_str()), (413, "no"));
    finished(&client, &peer).await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_given_up() {
    let peer = Peer::start(|wire, _| async move {
        // Holds the socket open without reading from it.
        let _wire = wire;
        std::future::pending::<()>().await;
    })
    .await;
    let config = Config { write_timeout: Some(Duration::from_millis(50)), ..Config::default() };
    let client = Client::builder().config(config).build().unwrap();
    let request = Request::post(peer.uri("/")).body(Body::from(vec![0; 64 << 20])).unwrap();
    let error = fetch(&client, request).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { stage: Stage::Request, .. }), "{error}");
    settled(&client).await;
    assert_eq!(client.pool().status().open, 0);
}

#[tokio::test]
async fn limits_are_named_in_the_error() {
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(6).into_bytes();
    let peer = faulty(flood, false).await;
    let error = fetch(&quick(), get(&peer, "/")).await.unwrap_err();
    let Error::Protocol { source, .. } = &error else { panic!("{error}") };
    assert_eq!(*source, ProtocolError::TooManyInterim(5));
    assert!(error.to_string().contains("limits.interim_responses = 5"), "{error}");
}
