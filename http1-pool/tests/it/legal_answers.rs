//! Unusual answers and requests that are legal, and work.

use crate::support::{Peer, answers_are_own, fetch, finished, get};
use http::Request;
use http1_pool::{Body, Client, Error, ProtocolError};

/// A peer that answers its first request with `answer` and then each with its path.
async fn peer_answering(answer: Vec<u8>) -> Peer {
    Peer::start(move |mut wire, number| {
        let answer = answer.clone();
        async move {
            if number == 0 {
                wire.head().await.unwrap();
                wire.send(answer).await;
            }
            wire.echo().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_folded_header_line_is_joined_and_the_connection_stays() {
    let answer = "HTTP/1.1 200 OK\r\nx-a: one\r\n two\r\ncontent-length: 0\r\n\r\n";
    let peer = peer_answering(answer.into()).await;
    let client = Client::new();
    let (response, _) = fetch(&client, get(&peer, "/")).await.unwrap();
    assert_eq!(response.headers()["x-a"], "one two");
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 1);
    finished(&client, &peer).await;
}

/// `count` chunks of 100 bytes, whose size lines are all `line`.
fn chunked(line: &str, count: usize) -> Vec<u8> {
    let chunk = format!("{line}\r\n{}\r\n", "x".repeat(100));
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(count))
        .into_bytes()
}

#[tokio::test]
async fn many_chunks_may_each_have_a_short_extension() {
    for (line, count) in [("64;a=b", 8_000), ("64  ", 20_000)] {
        let peer = peer_answering(chunked(line, count)).await;
        let client = Client::new();
        let (_, body) = fetch(&client, get(&peer, "/")).await.unwrap();
        assert_eq!(body.len(), 100 * count);
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 1);
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn an_endless_extension_is_an_error() {
    let line = format!("64;{}", "x".repeat(1 << 20));
    let peer = peer_answering(chunked(&line, 1)).await;
    let client = Client::new();
    let error = fetch(&client, get(&peer, "/")).await.unwrap_err();
    let Error::Protocol { source, .. } = &error else { panic!("{error}") };
    assert_eq!(*source, ProtocolError::ChunkExtensionsTooLarge(16 * 1024));
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 2);
}

#[tokio::test]
async fn a_path_above_ascii_is_sent_percent_encoded() {
    let peer = Peer::echo().await;
    let client = Client::new();
    for (path, sent) in [("/\u{e9}", "/%C3%A9"), ("/a?q=\u{20ac}", "/a?q=%E2%82%AC")] {
        let request = Request::get(peer.uri(path)).body(Body::empty()).unwrap();
        assert_eq!(fetch(&client, request).await.unwrap().1, sent);
        // The short way has its own code up to the request's head.
        let response = client.get(peer.uri(path).parse().unwrap()).await.unwrap();
        assert_eq!(response.into_body().read_all(100).await.unwrap(), sent);
    }
    assert_eq!(peer.accepted(), 1);
    finished(&client, &peer).await;
}
