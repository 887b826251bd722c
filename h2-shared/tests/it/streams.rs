//! Stream slots: how many requests share a connection, and when another one is opened.

use std::time::Duration;

use crate::support::echo::EchoServer;
use crate::support::raw::RawServer;
use crate::support::{
    assert_clean, assert_echoes, client, eventually, get, plain_client, post, read, send,
};
use h2_shared::Client;

#[tokio::test]
async fn requests_one_after_the_other_use_one_connection() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
    eventually("the server sees the close", || server.seen.open() == 0).await;
}

#[tokio::test]
async fn a_cold_herd_dials_once_and_shares_the_connection() {
    let server = EchoServer::with_limit(200).await;
    let client = plain_client();
    let herd = (0..100).map(|_| {
        let (client, addr) = (client.clone(), server.addr);
        tokio::spawn(async move { assert_echoes(&client, addr, 3).await })
    });
    for caller in herd.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

/// The number of the connection that served a request to `path`.
async fn connection_of(client: &h2_shared::Client, server: &EchoServer, path: &str) -> String {
    let response = send(client, post(server.addr, path, "x")).await.unwrap();
    let number = response.headers()["x-connection"].to_str().unwrap().to_owned();
    read(response.into_body()).await.unwrap();
    number
}

#[tokio::test]
async fn limit_two_with_three_overlapping_opens_a_second_and_later_fills_the_first() {
    let server = EchoServer::with_limit(2).await;
    let client = plain_client();
    let held: Vec<_> = (0..3)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr);
            tokio::spawn(async move { send(&client, post(addr, "/hold", "x")).await })
        })
        .collect();
    eventually("three requests at the server", || server.seen.active() == 3).await;
    assert_eq!(server.seen.connections(), 2);
    server.release();
    for held in held {
        read(held.await.unwrap().unwrap().into_body()).await.unwrap();
    }
    assert_eq!(connection_of(&client, &server, "/echo").await, "1");

    // One long request leaves room on the first for exactly one more.
    server.hold();
    let addr = server.addr;
    let long = tokio::spawn({
        let client = client.clone();
        async move { send(&client, post(addr, "/hold", "x")).await }
    });
    eventually("the long request at the server", || server.seen.active() == 1).await;
    assert_eq!(connection_of(&client, &server, "/echo").await, "1");
    server.release();
    read(long.await.unwrap().unwrap().into_body()).await.unwrap();
    assert_eq!(server.seen.connections(), 2);
    assert_clean(&client).await;
}

#[tokio::test]
async fn at_the_limit_of_connections_requests_wait_for_a_slot() {
    let server = EchoServer::with_limit(2).await;
    let client = client(|p| p.max_open_per_key = Some(1), |_| {});
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr);
            tokio::spawn(async move { assert_echoes(&client, addr, 5).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(server.seen.connections(), 1);
    assert!(server.seen.most_active.load(std::sync::atomic::Ordering::SeqCst) <= 2);
    assert_clean(&client).await;
}

#[tokio::test]
async fn our_own_cap_counts_below_the_limit_of_the_peer() {
    let server = EchoServer::with_limit(100).await;
    let client = client(|p| p.max_leases_per_connection = Some(1), |_| {});
    let first = send(&client, get(server.addr, "/stall/1")).await.unwrap();
    let second = send(&client, get(server.addr, "/stall/1")).await.unwrap();
    assert_eq!(server.seen.connections(), 2);
    drop((first, second));
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_slot_is_held_until_the_response_body_has_ended() {
    let server = EchoServer::with_limit(1).await;
    let client = client(
        |p| {
            p.max_open_per_key = Some(1);
            p.acquire_timeout = Some(Duration::from_millis(100));
        },
        |_| {},
    );
    let response = send(&client, get(server.addr, "/stall/1")).await.unwrap();
    let error = send(&client, get(server.addr, "/echo")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().starts_with("all streams are taken"), "{error}");
    drop(response);
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn before_settings_one_hundred_streams_are_assumed() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.wait_for_settings = false);
    let addr = server.addr;
    let key = h2_shared::Key::from_authority(&addr.to_string().parse().unwrap()).unwrap();
    let (lease, mut peer) = tokio::join!(client.pool().acquire(&key), server.accept_silent());
    let lease = lease.unwrap();
    assert_eq!((lease.slots(), lease.peer_limit()), (100, None));

    peer.read_preface().await;
    peer.settings(None).await;
    eventually("SETTINGS without a limit", || lease.peer_limit() == Some(u32::MAX)).await;
    peer.settings(Some(7)).await;
    eventually("a limit later", || lease.slots() == 7).await;
    drop(lease);
    tokio::spawn(peer.echo());
    assert_echoes(&client, addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_limit_that_arrives_late_is_kept_from_then_on() {
    let server = RawServer::start().await;
    let client = client(|p| p.max_open_per_key = Some(1), |c| c.wait_for_settings = false);
    let addr = server.addr;
    let first = tokio::spawn({
        let client = client.clone();
        async move { send(&client, post(addr, "/", "first")).await }
    });
    let mut peer = server.accept_silent().await;
    peer.read_preface().await;
    let (stream, body) = peer.request().await.unwrap();
    assert_eq!(body, b"first");
    peer.settings(Some(1)).await;
    eventually("the limit is known", || {
        let key = h2_shared::Key::from_authority(&addr.to_string().parse().unwrap()).unwrap();
        client.pool().try_acquire(&key).is_none()
    })
    .await;
    let second = tokio::spawn({
        let client = client.clone();
        async move { send(&client, post(addr, "/", "second")).await }
    });
    eventually("the second waits", || client.pool().status().waiting == 1).await;
    peer.respond(stream, b"1").await;
    assert_eq!(read(first.await.unwrap().unwrap().into_body()).await.unwrap(), "1");
    let (stream, body) = peer.request().await.unwrap();
    assert_eq!(body, b"second");
    peer.respond(stream, b"2").await;
    assert_eq!(read(second.await.unwrap().unwrap().into_body()).await.unwrap(), "2");
    tokio::spawn(peer.echo());
    assert_echoes(&client, addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_lowered_limit_hurts_no_stream_and_holds_new_ones_back() {
    let server = RawServer::start().await;
    let client = client(|p| p.max_open_per_key = Some(1), |_| {});
    let addr = server.addr;
    let call = |text: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            let response = send(&client, post(addr, "/", text)).await?;
            read(response.into_body()).await
        })
    };
    let first = call("first");
    let mut peer = server.accept(Some(3)).await;
    let (first_stream, _) = peer.request().await.unwrap();
    let second = call("second");
    let (second_stream, _) = peer.request().await.unwrap();

    peer.settings(Some(1)).await;
    eventually("the limit is known", || {
        let key = h2_shared::Key::from_authority(&addr.to_string().parse().unwrap()).unwrap();
        client.pool().try_acquire(&key).is_none()
    })
    .await;
    let third = call("third");
    eventually("the third waits", || client.pool().status().waiting == 1).await;

    peer.respond(first_stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");
    // One stream is still open, which is all that is allowed now.
    assert_eq!(client.pool().status().waiting, 1);
    peer.respond(second_stream, b"2").await;
    assert_eq!(second.await.unwrap().unwrap(), "2");

    let (stream, body) = peer.request().await.unwrap();
    assert_eq!(body, b"third");
    peer.respond(stream, b"3").await;
    assert_eq!(third.await.unwrap().unwrap(), "3");
    tokio::spawn(peer.echo());
    assert_echoes(&client, addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_limit_of_zero_ends_at_the_deadline_and_a_raise_lets_requests_through() {
    let server = RawServer::start().await;
    let client = client(
        |p| {
            p.max_open_per_key = Some(1);
            p.acquire_timeout = Some(Duration::from_millis(200));
            // Else the next caller would replace the dial that waits for the raise.
            p.dial_hedge = None;
        },
        |_| {},
    );
    let addr = server.addr;
    let call = tokio::spawn({
        let client = client.clone();
        async move { send(&client, post(addr, "/", "x")).await }
    });
    let mut peer = server.accept(Some(0)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is_timeout() && !error.may_have_executed(), "{error}");

    peer.settings(Some(5)).await;
    tokio::spawn(peer.echo());
    assert_echoes(&client, addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_server_that_allows_no_stream_is_not_dialed_again_and_again() {
    let server = RawServer::start().await;
    let client = client(
        |p| {
            p.max_open_per_key = None;
            p.after_failed_dial = pool_common::policy::AfterFailedDial::Tell;
            // A hedge would be a second dial, once.
            p.dial_hedge = None;
        },
        |c| c.settings_timeout = Duration::from_millis(100),
    );
    let addr = server.addr;
    let call = tokio::spawn({
        let client = client.clone();
        async move { send(&client, post(addr, "/", "x")).await }
    });
    let mut peer = server.accept(Some(0)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("MAX_CONCURRENT_STREAMS"), "{error}");
    peer.drain().await;
    assert_eq!(client.pool().stats().dials, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn every_open_stream_tells_the_line_that_asked_for_it() {
    let server = EchoServer::plain().await;
    let client = Client::builder().leak_detection(Duration::MAX).build().unwrap();
    let ask = || post(server.addr, "/", "x");
    let (one, first) = (client.request(ask()).await.unwrap(), line!());
    let (two, second) = (client.request(ask()).await.unwrap(), line!());
    let leases = client.pool().leases();
    assert!(leases.iter().all(|lease| lease.taken_at.file() == file!()));
    let mut lines: Vec<_> = leases.iter().map(|lease| lease.taken_at.line()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [first, second]);
    drop((one, two));
    eventually("both have ended", || client.pool().leases().is_empty()).await;
    assert_clean(&client).await;
}
