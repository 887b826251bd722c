//! A request dropped at its k-th poll, for every k until it completes, loses nothing.

use std::future::{Future, poll_fn};
use std::task::Poll;

use crate::support::echo::EchoServer;
use crate::support::raw::{DATA, HEADERS, PING, RST_STREAM, RawServer};
use crate::support::{
    assert_clean, assert_echoes, client, eventually, get, plain_client, read, send,
};
use bytes::Bytes;
use h2_shared::Client;
use http::Request;
use http_body_util::{BodyExt, Full};

/// Polls at most `polls` times, then drops. `Some` when it completed before.
async fn limited<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll is not waited for: the drop comes before the wake.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn whole_request(client: Client, uri: String, body: Bytes) -> usize {
    let request = Request::post(uri).body(Full::new(body)).unwrap();
    let response = client.request(request).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes().len()
}

async fn drop_at_every_poll(path: &str, body: Bytes) {
    let server = EchoServer::with_limit(2).await;
    let mut completed = 0;
    for polls in 1.. {
        // A new client each time: the dial is one of the places to be dropped at.
        let client = client(|p| p.max_open_per_key = Some(1), |c| c.stream_window = 65_535);
        let uri = format!("http://{}{path}", server.addr);
        let done = limited(whole_request(client.clone(), uri, body.clone()), polls).await;
        assert_echoes(&client, server.addr, 3).await;
        assert_clean(&client).await;
        completed += usize::from(done.is_some());
        if completed == 3 {
            assert!(polls > 3, "there were several polls to be dropped at");
            break;
        }
    }
    eventually("no stream is left at the server", || server.seen.active() == 0).await;
    eventually("no connection is left", || server.seen.open() == 0).await;
}

/// The streams that are open are counted by values, so the count falls however they end.
#[tokio::test]
async fn no_stream_is_counted_once_it_has_ended() {
    let server = EchoServer::with_limit(2).await;
    let client = client(|p| p.max_open_per_key = Some(1), |_| {});
    let uri = format!("http://{}/echo", server.addr);
    let key = h2_shared::Key::from_uri(&uri.parse().unwrap()).unwrap();
    whole_request(client.clone(), uri.clone(), Bytes::from_static(b"x")).await;
    for polls in 1..4 {
        limited(whole_request(client.clone(), uri.clone(), Bytes::from_static(b"x")), polls).await;
    }
    let lease = client.pool().acquire(&key).await.unwrap();
    assert!(lease.opened() >= 1);
    eventually("every stream has ended", || lease.in_flight() == 0).await;
}

#[tokio::test]
async fn a_small_request() {
    drop_at_every_poll("/echo", Bytes::from_static(b"small")).await;
}

#[tokio::test]
async fn a_large_request_body() {
    drop_at_every_poll("/sink", Bytes::from(vec![1; 300_000])).await;
}

#[tokio::test]
async fn large_bodies_both_ways() {
    drop_at_every_poll("/echo", Bytes::from(vec![1; 300_000])).await;
}

fn code(reason: h2_shared::Reason) -> Vec<u8> {
    u32::from(reason).to_be_bytes().to_vec()
}

/// A request that takes the last stream of a connection is cancelled as any other: the peer hears
/// of it at once, not with the next request.
#[tokio::test]
async fn dropping_a_request_that_took_the_last_stream_resets_it() {
    for limit in [1, 2] {
        let server = RawServer::start().await;
        let client = plain_client();
        let request = || {
            let (client, addr) = (client.clone(), server.addr);
            tokio::spawn(async move { send(&client, get(addr, "/")).await })
        };
        let first = request();
        let mut peer = server.accept(Some(limit)).await;
        peer.wait_for(HEADERS).await;
        let last = match limit {
            1 => first,
            _ => {
                let second = request();
                peer.wait_for(HEADERS).await;
                second
            }
        };
        last.abort();
        let reset = peer.wait_for(RST_STREAM).await;
        assert_eq!(reset.stream, 2 * limit - 1);
        assert_eq!(reset.payload, code(h2_shared::Reason::CANCEL));
    }
}

#[tokio::test]
async fn dropping_a_half_read_body_that_holds_the_last_stream_resets_it() {
    let server = RawServer::start().await;
    let client = plain_client();
    let request = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, get(addr, "/")).await.unwrap().into_body() }
    });
    let mut peer = server.accept(Some(1)).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.head(stream).await;
    peer.write(DATA, 0, stream, b"half").await;
    let mut body = request.await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    drop(body);
    let reset = peer.wait_for(RST_STREAM).await;
    assert_eq!((reset.stream, reset.payload), (stream, code(h2_shared::Reason::CANCEL)));
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 10).await;
    assert_clean(&client).await;
}

/// A peer that answers streams which were cancelled is not at fault, however many they are: its
/// frames were on their way.
#[tokio::test]
async fn ten_thousand_cancelled_requests_do_not_end_the_connection() {
    const BATCH: u32 = 500;
    let server = RawServer::start().await;
    let client = plain_client();
    let ask = || {
        let (client, addr) = (client.clone(), server.addr);
        tokio::spawn(async move { send(&client, get(addr, "/")).await })
    };
    let first = ask();
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"1").await;
    read(first.await.unwrap().unwrap().into_body()).await.unwrap();

    for _ in 0..10_000 / BATCH {
        let batch: Vec<_> = (0..BATCH).map(|_| ask()).collect();
        let mut streams = Vec::new();
        for _ in 0..BATCH {
            streams.push(peer.wait_for(HEADERS).await.stream);
        }
        // The client hears from the peer: cancelling after a long silence would cast doubt on it.
        peer.write(PING, 0, 0, &[7; 8]).await;
        peer.wait_for(PING).await;
        batch.iter().for_each(tokio::task::JoinHandle::abort);
        for _ in 0..BATCH {
            peer.wait_for(RST_STREAM).await;
        }
        for stream in streams {
            peer.head(stream).await;
            for _ in 0..2 {
                peer.write(DATA, 0, stream, b"late").await;
            }
        }
        for _ in 0..5 {
            let other = ask();
            let stream = peer.wait_for(HEADERS).await.stream;
            peer.respond(stream, b"mine").await;
            let response = other.await.unwrap().unwrap();
            assert_eq!(read(response.into_body()).await.unwrap(), "mine");
        }
    }
    assert_eq!(client.pool().stats().opened, 1);
    tokio::spawn(peer.echo());
    assert_clean(&client).await;
}
