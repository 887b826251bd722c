//! A peer that falls silent without closing.

use std::time::Duration;

use crate::support::raw::{ACK, HEADERS, PING, RawPeer, RawServer};
use crate::support::{
    HANG, assert_clean, assert_echoes, client, eventually, fed, get, plain_client, post, read, send,
};
use bytes::Bytes;
use h2_shared::{Body, Client, Error, Key, Reason};
use http::Request;
use http_body_util::Full;
use pool_common::Policy;
use pool_common::profile::grpc;
use tokio::time::{Instant, pause, resume, sleep};

type Answer = tokio::task::JoinHandle<Result<Bytes, Error>>;

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
    let dialed = tokio::time::timeout(HANG, server.accept(None)).await;
    let mut peer = dialed.expect("no other connection is dialed");
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"2").await;
    assert_eq!(answer.await.unwrap().unwrap(), "2");
    tokio::spawn(peer.echo());
    assert_echoes(client, server.addr, 10).await;
}

/// Lets nothing but time pass until `done` is ready.
async fn pass_time<T>(done: impl Future<Output = T>) -> T {
    pause();
    let result = done.await;
    resume();
    result
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_missed_response_timeout_takes_a_silent_connection_out_of_use() {
    for policy in [Client::default_policy(), grpc().policy] {
        let server = RawServer::start().await;
        let client = client(|p| *p = policy, |c| c.response_timeout = Some(LIMIT));
        let frozen = serve_once_then_freeze(&client, &server).await;
        let error = pass_time(call(&client, &server)).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
        assert_served_elsewhere(&client, &server).await;
        drop(frozen);
        assert_clean(&client).await;
    }
}

/// Starts a request with this body. The peer answers with a head and then falls silent.
async fn head_then_silence<B>(
    client: &Client,
    server: &RawServer,
    frozen: &mut RawPeer,
    body: B,
) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let request = Request::post(format!("http://{}/", server.addr)).body(body).unwrap();
    let client = client.clone();
    let response = tokio::spawn(async move { client.request(request).await.unwrap() });
    let stream = frozen.wait_for(HEADERS).await.stream;
    frozen.head(stream).await;
    response.await.unwrap().into_body()
}

/// Each time: callers that give up may cost a connection rarely, missed deadlines whenever the peer
/// is silent.
#[tokio::test]
async fn missed_body_timeouts_take_silent_connections_out_of_use() {
    for uploading in [false, true] {
        let server = RawServer::start().await;
        let client = client(|_| {}, |c| c.body_timeout = Some(LIMIT));
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut frozen = serve_once_then_freeze(&client, &server).await;
            let (feed, endless) = fed();
            let body = match uploading {
                true => head_then_silence(&client, &server, &mut frozen, endless).await,
                false => {
                    let body = Full::new(Bytes::from_static(b"x"));
                    head_then_silence(&client, &server, &mut frozen, body).await
                }
            };
            let error = pass_time(read(body)).await.unwrap_err();
            assert!(matches!(error, Error::BodyTimeout(_)), "{error}");
            kept.push((feed, frozen));
        }
        assert_served_elsewhere(&client, &server).await;
    }
}

/// The response timeout holds for the rest of a request body whose response has begun.
#[tokio::test]
async fn a_silent_peer_that_takes_no_more_of_the_body_is_taken_out_of_use() {
    let server = RawServer::start().await;
    let client = client(
        |_| {},
        |c| {
            c.response_timeout = Some(LIMIT);
            c.body_timeout = None;
        },
    );
    let mut frozen = serve_once_then_freeze(&client, &server).await;
    // More than the window of 65,535 bytes.
    let body = Full::new(Bytes::from(vec![7; 1 << 20]));
    let body = head_then_silence(&client, &server, &mut frozen, body).await;
    let error = pass_time(read(body)).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
    assert_served_elsewhere(&client, &server).await;
    drop(frozen);
}

/// A response timeout of 50 ms leaves 12 ms for the answer to the PING: too little to judge a peer.
#[tokio::test]
async fn a_short_timeout_leaves_the_peer_time_to_answer_the_ping() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.response_timeout = Some(Duration::from_millis(50)));
    let frozen = serve_once_then_freeze(&client, &server).await;
    let key = Key::from_authority(&server.addr.to_string().parse().unwrap()).unwrap();
    let error = pass_time(call(&client, &server)).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
    assert!(client.pool().try_acquire(&key).is_some(), "it stays in use for now");
    pass_time(sleep(Duration::from_millis(200))).await;
    assert!(client.pool().try_acquire(&key).is_none(), "there was no answer");
    assert_served_elsewhere(&client, &server).await;
    drop(frozen);
}

/// PINGs on. The PING is overdue after 11 s, the connection would be given up after 41 s.
fn pinging(policy: Policy) -> Client {
    client(
        |p| *p = policy,
        |c| {
            c.keep_alive_interval = Some(Duration::from_secs(1));
            c.keep_alive_timeout = Duration::from_secs(40);
        },
    )
}

const OVERDUE: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_connection_whose_ping_is_overdue_finishes_its_streams_and_gets_no_new_ones() {
    for policy in [Client::default_policy(), grpc().policy] {
        let server = RawServer::start().await;
        let client = pinging(policy);
        let mut frozen = serve_once_then_freeze(&client, &server).await;
        let answer = call(&client, &server);
        let stream = frozen.wait_for(HEADERS).await.stream;
        pass_time(sleep(OVERDUE)).await;
        assert_served_elsewhere(&client, &server).await;
        frozen.respond(stream, b"late").await;
        assert_eq!(answer.await.unwrap().unwrap(), "late");
        eventually("it is closed", || client.pool().status().open == 1).await;
        assert_echoes(&client, server.addr, 10).await;
        assert_eq!(client.pool().stats().opened, 2);
    }
}

#[tokio::test]
async fn an_idle_connection_whose_ping_is_overdue_is_replaced_at_once() {
    for policy in [Client::default_policy(), grpc().policy] {
        let server = RawServer::start().await;
        let client = pinging(policy);
        let frozen = serve_once_then_freeze(&client, &server).await;
        pass_time(sleep(OVERDUE)).await;
        // Well before the connection would be given up.
        assert_served_elsewhere(&client, &server).await;
        assert_eq!(client.pool().stats().opened, 2);
        drop(frozen);
    }
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
    peer.write(PING, ACK, 0, &ping.payload).await;
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
    let error = pass_time(answer).await.unwrap().unwrap_err();
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
