//! Futures and bodies that are dropped early leave nothing behind.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::support::{
    Peer, Wire, answers_are_own, client, fetch, finished, get, look_at_sockets, settled, until,
    within,
};
use http::Request;
use http_body_util::BodyExt;
use http1_pool::{Body, Client, Config, Limits};
use tokio::sync::Notify;

/// Polls `future` at most `times` times; `None` if that was not enough.
async fn poll_times<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            // Dropped as soon as it has been polled that often.
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Answers in many small steps, so that there are many polls to be dropped at.
async fn slowly(mut wire: Wire) {
    while let Some(request) = wire.head().await {
        let body = request.target;
        let (start, end) = body.split_at(body.len() / 2);
        for piece in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "transfer-encoding: chunked\r\n\r\n",
            &format!("{:x}\r\n{start}\r\n", start.len()),
            &format!("{:x}\r\n{end}\r\n", end.len()),
            "0\r\n",
            "\r\n",
        ] {
            wire.send(piece).await;
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_request_dropped_at_any_poll_leaves_the_pool_whole() {
    for warm in [false, true] {
        let mut finished_at = None;
        for times in 0..200 {
            let peer = Peer::start(|wire, _| slowly(wire)).await;
            let client = client(|policy| policy.max_open_per_key = Some(2));
            if warm {
                assert_eq!(fetch(&client, get(&peer, "/warm")).await.unwrap().1, "/warm");
            }
            let path = format!("/dropped/{times}");
            let done = poll_times(fetch(&client, get(&peer, &path)), times).await;
            settled(&client).await;
            for nonce in 0..5 {
                let path = format!("/after/{times}/{nonce}");
                assert_eq!(fetch(&client, get(&peer, &path)).await.unwrap().1, path);
            }
            assert!(client.pool().stats().peak_open <= 2);
            finished(&client, &peer).await;
            if let Some(result) = done {
                assert_eq!(result.unwrap().1, path);
                finished_at = Some(times);
                break;
            }
        }
        let polls = finished_at.expect("200 polls are enough");
        assert!(polls >= 3, "only {polls} polls, so there was nothing to drop at");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_cancelled_requests_never_mix_up_answers() {
    let peer = Peer::start(|wire, _| slowly(wire)).await;
    let client = client(|policy| policy.max_open_per_key = Some(4));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let client = client.clone();
            let uri = peer.uri("");
            tokio::spawn(async move {
                for step in 0..40 {
                    let path = format!("/{task}/{step}");
                    let request = Request::get(format!("{uri}{path}")).body(Body::empty()).unwrap();
                    let done =
                        poll_times(fetch(&client, request), (task * 7 + step * 3) % 23).await;
                    if let Some(result) = done {
                        assert_eq!(result.unwrap().1, path);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    settled(&client).await;
    assert!(client.pool().stats().peak_open <= 4);
    answers_are_own(&client, &peer).await;
    finished(&client, &peer).await;
}

#[tokio::test]
async fn a_body_that_has_arrived_is_skipped_at_once() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    ] {
        let peer = Peer::start(move |mut wire, _| async move {
            wire.head().await.unwrap();
            wire.send(answer).await;
            wire.echo().await;
        })
        .await;
        let client = Client::new();
        drop(client.request(get(&peer, "/")).await.unwrap());
        assert_eq!(client.pool().status().idle, 1);
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 1);
    }
}

/// The first answer has a body of `length` bytes, of which `now` come with the head, and the rest
/// when the head's reader has had time to drop it.
async fn large(length: usize, now: usize) -> Peer {
    Peer::start(move |mut wire, number| async move {
        if number > 0 {
            return wire.echo().await;
        }
        wire.head().await.unwrap();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
        wire.send(vec![b'x'; now]).await;
        look_at_sockets().await;
        wire.send(vec![b'x'; length - now]).await;
        wire.echo().await;
    })
    .await
}

/// Gives a rest up by its size only: by its time it would hang.
fn patient() -> Client {
    let limits = Limits { drain_time: Duration::from_secs(60), ..Limits::default() };
    Client::builder().config(Config { limits, ..Config::default() }).build().unwrap()
}

#[tokio::test]
async fn a_short_rest_is_read_to_save_the_connection() {
    for (length, now) in [(1024, 10), (200 * 1024, 0), (256 * 1024, 0), (300 * 1024, 60 * 1024)] {
        let peer = large(length, now).await;
        let client = patient();
        let mut response = client.request(get(&peer, "/")).await.unwrap();
        let mut seen = 0;
        while seen < now {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            seen += frame.into_data().unwrap().len();
        }
        drop(response);
        assert_eq!(client.pool().status().leased, 1, "{length}");
        until(|| client.pool().status().idle == 1).await;
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 1, "{length}");
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn a_long_rest_costs_the_connection() {
    let peer = large(300 * 1024, 0).await;
    let client = patient();
    drop(client.request(get(&peer, "/")).await.unwrap());
    assert_eq!(client.pool().status().leased, 0);
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 2);
    finished(&client, &peer).await;
}

/// An announced length decides at once; without one the bytes are counted as they come.
#[tokio::test]
async fn a_rest_is_read_up_to_the_limit_and_not_a_byte_further() {
    let limit = usize::try_from(Limits::default().drain_bytes).unwrap();
    for (chunked, length, reading, dialed) in [
        (false, limit, 1, 1),
        (false, limit + 1, 0, 2),
        (true, limit, 1, 1),
        (true, limit + 1, 1, 2),
    ] {
        let dropped = Arc::new(Notify::new());
        let go_on = Arc::clone(&dropped);
        let peer = Peer::start(move |mut wire, number| {
            let go_on = Arc::clone(&go_on);
            async move {
                if number > 0 {
                    return wire.echo().await;
                }
                wire.head().await.unwrap();
                let framing = match chunked {
                    true => "transfer-encoding: chunked".to_owned(),
                    false => format!("content-length: {length}"),
                };
                wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
                // None of the body comes with the head, where it would cost nothing to skip.
                go_on.notified().await;
                for chunk in vec![b'x'; length].chunks(10_000) {
                    if chunked {
                        wire.send(format!("{:x}\r\n", chunk.len())).await;
                    }
                    wire.send(chunk).await;
                    if chunked {
                        wire.send("\r\n").await;
                    }
                }
                if chunked {
                    wire.send("0\r\n\r\n").await;
                }
                wire.echo().await;
            }
        })
        .await;
        let client = patient();
        drop(client.request(get(&peer, "/")).await.unwrap());
        assert_eq!(client.pool().status().leased, reading, "{chunked} {length}");
        dropped.notify_one();
        settled(&client).await;
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), dialed, "{chunked} {length}");
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn an_endless_rest_is_given_up_by_size_or_by_time() {
    for silent in [false, true] {
        let peer = Peer::start(move |mut wire, number| async move {
            if number > 0 {
                return wire.echo().await;
            }
            wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            if silent {
                wire.closed().await;
            }
            let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
            while wire.stream.writable().await.is_ok() {
                match wire.stream.try_write(chunk.as_bytes()) {
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                    // A short write breaks the framing, which is all the same by then.
                    _ => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        let client = if silent { Client::new() } else { patient() };
        drop(client.request(get(&peer, "/")).await.unwrap());
        until(|| client.pool().status().leased == 0).await;
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 2);
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn closing_the_pool_waits_for_a_body_that_is_still_read() {
    let peer = large(1024, 10).await;
    let client = Client::new();
    let response = client.request(get(&peer, "/")).await.unwrap();
    let closing = client.close();
    let reading = async { response.into_body().read_all(4096).await.unwrap().len() };
    let ((), length) = within(async { tokio::join!(closing, reading) }).await;
    assert_eq!(length, 1024);
    let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
    assert!(
        matches!(error, http1_pool::Error::Acquire(pool_common::Error::Closed { .. })),
        "{error}"
    );
    finished(&client, &peer).await;
}

/// The response to a request that is answered with exactly `answer`.
async fn answered(answer: &'static str) -> (Client, http::Response<Body>, Peer) {
    let peer = Peer::start(move |mut wire, _| async move {
        wire.head().await.unwrap();
        wire.send(answer).await;
        wire.closed().await;
    })
    .await;
    let client = Client::new();
    let response = client.request(get(&peer, "/")).await.unwrap();
    (client, response, peer)
}

#[test]
fn a_body_can_be_dropped_where_there_is_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (answer, idle) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", Some(0)),
    ] {
        let (client, response, _peer) = runtime.block_on(answered(answer));
        drop(response);
        let status = client.pool().status();
        assert_eq!(status.leased, 0);
        // Whether the first body had arrived with its head is up to the network.
        assert!(idle.is_none_or(|idle| idle == status.idle), "{status}");
        runtime.block_on(settled(&client));
    }
}

#[test]
fn a_body_can_outlive_its_runtime() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (client, response, peer) = runtime.block_on(answered(answer));
        drop(runtime);
        drop(response);
        assert_eq!(client.pool().status().leased, 0);
        drop((client, peer));
    }
}
