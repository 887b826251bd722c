//! Idle connections whose peer closes its end do not stay until the next request.

use crate::support::{Peer, Wire, client, get, until};
use http1_pool::Client;

/// Answers one request on each connection and closes it a moment later, unannounced.
async fn serve_once(mut wire: Wire, _: usize) {
    if wire.head().await.is_some() {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn fetch_at_once(client: &Client, peer: &Peer, count: usize) {
    let fetches: Vec<_> = (0..count)
        .map(|_| {
            let (client, request) = (client.clone(), get(peer, "/"));
            tokio::spawn(async move { client.request(request).await.expect("an answer") })
        })
        .collect();
    for response in fetches {
        let body = response.await.expect("no panic").into_body();
        assert_eq!(body.read_all(10).await.expect("a body"), "ok");
    }
}

#[tokio::test]
async fn connections_closed_by_the_peer_leave_the_pool_without_another_request() {
    let peer = Peer::start(serve_once).await;
    let client = client(|_| ());
    fetch_at_once(&client, &peer, 6).await;
    until(|| client.pool().status().open == 0).await;
}

#[tokio::test]
async fn a_floor_is_refilled_without_another_request_when_the_peer_closes_it() {
    let peer = Peer::start(serve_once).await;
    let client = client(|policy| policy.min_idle = 2);
    fetch_at_once(&client, &peer, 2).await;
    until(|| peer.accepted() >= 4 && client.pool().status().idle == 2).await;
}
