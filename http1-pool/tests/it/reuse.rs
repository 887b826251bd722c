//! When a connection is used again, and when it is not.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use crate::support::{Peer, answers_are_own, client, fetch, finished, get, settled, within};
use http::{Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use http1_pool::{Body, Client, Error, InvalidRequest};
use pool_common::clock::Clock;
use pool_common::connect::InvalidUri;
use pool_common::profile::Profile;

#[tokio::test]
async fn sequential_requests_use_one_connection() {
    let peer = Peer::echo().await;
    let client = Client::new();
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 1);
    assert_eq!(client.pool().status().idle, 1);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn responses_without_a_body_give_the_connection_back_before_they_are_handed_over() {
    let peer = Peer::start(|mut wire, _| async move {
        let answers = [
            "200 OK\r\ncontent-length: 5",
            "200 OK\r\ntransfer-encoding: chunked",
            "204 No Content",
            "304 Not Modified\r\ncontent-length: 5",
            "200 OK\r\ncontent-length: 0",
        ];
        for answer in answers {
            wire.head().await.unwrap();
            wire.send(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        }
        wire.echo().await;
    })
    .await;
    let client = Client::new();
    for method in [Method::HEAD, Method::HEAD, Method::GET, Method::GET, Method::POST] {
        let request = Request::builder().method(method).uri(peer.uri("/"));
        let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(client.pool().status().leased, 0, "{}", response.status());
        assert!(response.body().is_end_stream());
    }
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn the_connection_is_back_with_the_last_byte_and_not_before() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
        wire.head().await.unwrap();
        panic!("a second request came on a connection that is in use");
    })
    .await;
    let client = client(|policy| policy.max_open_per_key = Some(1));
    let mut response = client.request(get(&peer, "/")).await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "ab");
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert_eq!(client.pool().status().leased, 1);

    let mut second = Box::pin(client.request(get(&peer, "/")));
    let mut body = Pin::new(response.body_mut());
    poll_fn(|cx| {
        assert!(second.as_mut().poll(cx).is_pending());
        assert!(body.as_mut().poll_frame(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    assert_eq!(client.pool().status().waiting, 1);
}

#[tokio::test]
async fn a_waiter_gets_the_connection_when_the_body_ends() {
    let peer = Peer::echo().await;
    let client = client(|policy| policy.max_open_per_key = Some(1));
    let mut response = client.request(get(&peer, "/first")).await.unwrap();
    let second = fetch(&client, get(&peer, "/second"));
    let first = async {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert!(response.body().is_end_stream());
        frame.into_data().unwrap()
    };
    let (second, first) = tokio::join!(second, first);
    assert_eq!(first, "/first");
    assert_eq!(second.unwrap().1, "/second");
    assert_eq!(peer.accepted(), 1);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn either_side_can_ask_to_close() {
    let peer = Peer::start(|mut wire, number| async move {
        if number > 3 {
            return wire.echo().await;
        }
        wire.head().await.unwrap();
        match number {
            0 => {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na")
                    .await
            }
            1 => wire.send("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nb").await,
            2 => wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await,
            _ => {
                wire.send(
                    "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: Keep-Alive\r\n\r\nd",
                )
                .await;
                let request = wire.head().await.unwrap();
                assert!(request.head.contains("\r\nconnection: close"));
                wire.reply("e").await;
            }
        }
        if number != 2 {
            wire.closed().await;
        }
    })
    .await;
    let client = Client::new();
    for (body, accepted) in [("a", 1), ("b", 2), ("until the end", 3), ("d", 4)] {
        assert_eq!(fetch(&client, get(&peer, "/")).await.unwrap().1, body);
        assert_eq!(peer.accepted(), accepted);
    }
    let last = Request::get(peer.uri("/")).header("connection", "close");
    assert_eq!(fetch(&client, last.body(Body::empty()).unwrap()).await.unwrap().1, "e");
    assert_eq!(peer.accepted(), 4);
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 5);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn chunks_trailers_and_interim_responses_leave_the_connection_usable() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n")
            .await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        wire.send("5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 6\r\n\r\n").await;
        wire.echo().await;
    })
    .await;
    let client = Client::new();
    let response = client.request(get(&peer, "/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().get("link").is_none());
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "6");
    assert_eq!(body.to_bytes(), "hello!");
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn switched_and_tunnelled_connections_never_come_back() {
    let peer = Peer::start(|mut wire, number| async move {
        wire.head().await.unwrap();
        match number {
            0 => wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nraw").await,
            1 => wire.send("HTTP/1.1 200 Connected\r\n\r\nraw").await,
            2 => {
                wire.send("HTTP/1.1 407 No\r\ncontent-length: 3\r\n\r\nraw").await;
                wire.closed().await;
            }
            _ => {
                wire.reply("/own/0").await;
                wire.echo().await;
            }
        }
    })
    .await;
    let client = Client::new();
    let upgrade = Request::get(peer.uri("/")).header("connection", "upgrade");
    let connect = || Request::connect(peer.addr.to_string());
    for (request, status) in [(upgrade, 101), (connect(), 200), (connect(), 407)] {
        let (response, body) = fetch(&client, request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), body.as_str()), (status, "raw"));
        assert_eq!(client.pool().status().idle, 0);
    }
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 4);
}

#[tokio::test]
async fn keys_keep_peers_apart() {
    let (one, two) = (Peer::echo().await, Peer::echo().await);
    let client = Client::new();
    for _ in 0..3 {
        answers_are_own(&client, &one).await;
        answers_are_own(&client, &two).await;
    }
    assert_eq!((one.accepted(), two.accepted()), (1, 1));
    settled(&client).await;
    assert_eq!(client.pool().status().idle, 2);
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_dials_nothing() {
    let peer = Peer::echo().await;
    let client = Client::new();
    let unknown = Request::get(format!("ftp://{}/", peer.addr)).body(Body::empty()).unwrap();
    let error = client.request(unknown).await.unwrap_err();
    let Error::InvalidRequest(InvalidRequest::Uri(error)) = error else { panic!("{error}") };
    assert_eq!(error, InvalidUri::UnsupportedScheme("ftp".to_owned()));
    let secret = format!("http://user:hunter2@{}/", peer.addr);
    let error = client.get(secret.parse().unwrap()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(client.pool().stats(), pool_common::Stats::default());
    assert_eq!(peer.accepted(), 0);
}

#[tokio::test]
async fn a_body_that_is_not_read_tells_the_line_that_asked_for_it() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
        std::future::pending::<()>().await;
    })
    .await;
    let client = Client::builder().leak_detection(Duration::MAX).build().unwrap();
    let uri: http::Uri = peer.uri("/").parse().unwrap();
    let (one, first) = (client.get(uri.clone()).await.unwrap(), line!());
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let (two, second) = (client.request(request).await.unwrap(), line!());
    let leases = client.pool().leases();
    assert!(leases.iter().all(|lease| lease.taken_at.file() == file!()));
    let mut lines: Vec<_> = leases.iter().map(|lease| lease.taken_at.line()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [first, second]);
    drop((one, two));
}

/// The peer answers any request with a reset once the time that it announced has passed. A POST
/// cannot be repeated, so the connection must not be lent by then, under any profile.
#[tokio::test]
async fn a_connection_ends_before_the_keep_alive_time_that_its_peer_announced() {
    for profile in Profile::all() {
        let peer = Peer::start(|mut wire, _| async move {
            while let Some(request) = wire.head().await {
                let length = request.target.len();
                let head = format!("content-length: {length}\r\nkeep-alive: timeout=1, max=9");
                wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{}", request.target)).await;
            }
        })
        .await;
        let (clock, hands) = Clock::manual();
        let client = Client::builder().profile(&profile).clock(clock).build().unwrap();
        let post = |path: &str| Request::post(peer.uri(path)).body(Body::empty()).unwrap();
        for (pause, dials) in [(0, 1), (700, 0), (740, 0), (760, 1), (0, 0), (1200, 1)] {
            hands.advance(Duration::from_millis(pause));
            let before = peer.accepted();
            let path = format!("/{pause}");
            assert_eq!(fetch(&client, post(&path)).await.unwrap().1, path);
            settled(&client).await;
            // A floor dials more than the requests need.
            if profile.policy.min_idle == 0 {
                let dialed = peer.accepted() - before;
                assert_eq!(dialed, dials, "{}: after {pause} ms", profile.name);
            }
        }
        finished(&client, &peer).await;
    }
}
