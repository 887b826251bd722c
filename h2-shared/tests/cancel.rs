//! A request dropped at its k-th poll, for every k until it completes, loses nothing.

mod support;

use std::future::{Future, poll_fn};
use std::task::Poll;

use bytes::Bytes;
use h2_shared::Client;
use http::Request;
use http_body_util::{BodyExt, Full};
use support::echo::EchoServer;
use support::{assert_clean, assert_echoes, client, eventually};

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
