//! A peer that falls silent without closing, and no keep-alive PINGs.

mod support;

use std::time::Duration;

use h2_shared::{Client, Error};
use pool_common::profile::grpc;
use support::raw::{HEADERS, PING, RawPeer, RawServer};
use support::{assert_clean, assert_echoes, client, get, plain_client, post, read, send};
use tokio::time::{Instant, pause};

type Answer = tokio::task::JoinHandle<Result<bytes::Bytes, Error>>;

fn call(client: &Client, server: &RawServer) -> Answer {
    let (client, addr) = (client.clone(), server.addr);
    tokio::spawn(async move { read(send(&client, get(addr, "/")).await?.into_body()).await })
}

/// Answers a request, and never reads again.
async fn serve_once_then_freeze(client: &Client, server: &RawServer) -> RawPeer {
    let first = call(client, server);
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");
    peer
}

async fn assert_served_elsewhere(client: &Client, server: &RawServer) {
    let answer = call(client, server);
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"2").await;
    assert_eq!(answer.await.unwrap().unwrap(), "2");
    tokio::spawn(peer.echo());
    assert_echoes(client, server.addr, 10).await;
}

#[tokio::test]
async fn a_missed_response_timeout_takes_a_silent_connection_out_of_use() {
    for policy in [Client::default_policy(), grpc().policy] {
        let server = RawServer::start().await;
        let client =
            client(|p| *p = policy, |c| c.response_timeout = Some(Duration::from_millis(100)));
        let frozen = serve_once_then_freeze(&client, &server).await;
        let error = call(&client, &server).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
        assert_served_elsewhere(&client, &server).await;
        drop(frozen);
        assert_clean(&client).await;
    }
}

#[tokio::test]
async fn a_missed_body_timeout_takes_a_silent_connection_out_of_use() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.body_timeout = Some(Duration::from_millis(100)));
    let mut frozen = serve_once_then_freeze(&client, &server).await;
    let answer = call(&client, &server);
    let stream = frozen.wait_for(HEADERS).await.stream;
    frozen.head(stream).await;
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::BodyTimeout(_)), "{error}");
    assert_served_elsewhere(&client, &server).await;
}

/// A deadline of the caller's own drops the request. Without a timeout of ours nothing else would
/// ever tell.
#[tokio::test]
async fn the_request_after_one_that_was_given_up_on_a_silent_peer_goes_elsewhere() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.response_timeout = None);
    let frozen = serve_once_then_freeze(&client, &server).await;
    let patience = Duration::from_millis(200);
    let request = client.request(get(server.addr, "/"));
    assert!(tokio::time::timeout(patience, request).await.is_err());
    assert_served_elsewhere(&client, &server).await;
    drop(frozen);
}

/// One request that is not answered says nothing against a peer that answers a PING.
#[tokio::test]
async fn a_peer_that_answers_the_ping_keeps_its_connection() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.response_timeout = Some(Duration::from_millis(800)));
    let mut peer = serve_once_then_freeze(&client, &server).await;
    let answer = call(&client, &server);
    let ping = peer.wait_for(PING).await;
    peer.write(PING, support::raw::ACK, 0, &ping.payload).await;
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 10).await;
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

/// The clock is not set back when the body has been sent: what was sent stays sent.
#[tokio::test]
async fn a_request_with_a_body_waits_no_longer_than_its_limit() {
    let limit = Duration::from_secs(8);
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.response_timeout = Some(limit));
    let start = Instant::now();
    let answer = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, post(addr, "/", "x")).await.map(drop) }
    });
    let mut peer = server.accept(None).await;
    peer.request().await.unwrap();
    pause();
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
    let elapsed = start.elapsed();
    assert!(elapsed >= limit && elapsed < limit * 3 / 2, "{elapsed:?}");
}

/// Callers that cancel do not cost a connection each.
#[tokio::test]
async fn callers_that_give_up_again_and_again_cost_one_connection() {
    let server = RawServer::start().await;
    let client = plain_client();
    let _first = serve_once_then_freeze(&client, &server).await;
    let patience = Duration::from_millis(150);
    let give_up = async || {
        let request = client.request(get(server.addr, "/"));
        assert!(tokio::time::timeout(patience, request).await.is_err());
    };
    give_up().await;
    let mut second = tokio::join!(give_up(), server.accept(None)).1;
    give_up().await;
    let last = call(&client, &server);
    for _ in 0..3 {
        let stream = second.wait_for(HEADERS).await.stream;
        second.respond(stream, b"last").await;
    }
    assert_eq!(last.await.unwrap().unwrap(), "last");
    assert_eq!(client.pool().stats().opened, 2);
}
