//! GOAWAY, refused streams, lost connections, peers that are no peers.

use std::time::Duration;

use crate::support::raw::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawServer, SETTINGS,
};
use crate::support::{
    assert_clean, assert_echoes, client, eventually, plain_client, post, read, send,
};
use h2_shared::{Error, InvalidRequest, Reason};
use pool_common::policy::Retry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Sends `text` in a task; gives the response body.
fn call(
    client: &h2_shared::Client,
    server: &RawServer,
    text: &'static str,
) -> JoinHandle<Result<bytes::Bytes, Error>> {
    let (client, addr) = (client.clone(), server.addr);
    tokio::spawn(async move {
        let response = send(&client, post(addr, "/", text)).await?;
        read(response.into_body()).await
    })
}

/// 100 requests with nonces over a new connection, then nothing is left.
async fn assert_recovers(client: &h2_shared::Client, server: &RawServer) {
    let echo = async {
        let peer = server.accept(None).await;
        peer.echo().await;
    };
    let check = async {
        assert_echoes(client, server.addr, 100).await;
        assert_clean(client).await;
    };
    tokio::join!(echo, check);
}

#[tokio::test]
async fn go_away_on_an_idle_connection_takes_it_out_of_use() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");

    peer.go_away(stream, Reason::NO_ERROR).await;
    eventually("the connection is gone", || client.pool().status().open == 0).await;
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn go_away_lets_running_streams_finish_and_sends_new_ones_elsewhere() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut old = server.accept(None).await;
    let (stream, _) = old.request().await.unwrap();
    // A warning with the highest id first, as graceful servers send it, then the real one.
    old.go_away(i32::MAX as u32, Reason::NO_ERROR).await;
    let key = h2_shared::Key::from_authority(&server.addr.to_string().parse().unwrap()).unwrap();
    eventually("the connection takes no more", || client.pool().try_acquire(&key).is_none()).await;

    let second = call(&client, &server, "second");
    let mut new = server.accept(None).await;
    let (second_stream, body) = new.request().await.unwrap();
    assert_eq!(body, b"second");
    new.respond(second_stream, b"2").await;
    assert_eq!(second.await.unwrap().unwrap(), "2");

    old.go_away(stream, Reason::NO_ERROR).await;
    old.respond(stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");
    old.drain().await;
    tokio::spawn(new.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn requests_that_a_go_away_leaves_unprocessed_are_sent_again_elsewhere() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut old = server.accept(None).await;
    let (first_stream, _) = old.request().await.unwrap();
    let second = call(&client, &server, "second");
    old.request().await.unwrap();

    old.go_away(first_stream, Reason::NO_ERROR).await;
    let mut new = server.accept(None).await;
    let (stream, body) = new.request().await.unwrap();
    assert_eq!(body, b"second", "its body is sent again");
    new.respond(stream, b"2").await;
    assert_eq!(second.await.unwrap().unwrap(), "2");
    old.respond(first_stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");
    tokio::spawn(new.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn without_the_rule_an_unprocessed_request_is_an_unprocessed_error() {
    let server = RawServer::start().await;
    let client = client(|p| p.retry = Retry::Never, |_| {});
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    peer.request().await.unwrap();
    peer.go_away(0, Reason::NO_ERROR).await;
    let error = first.await.unwrap().unwrap_err();
    assert!(!error.may_have_executed(), "{error}");
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_body_beyond_the_replay_limit_is_sent_once() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.replay_limit = 3);
    let first = call(&client, &server, "four");
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.reset(stream, Reason::REFUSED_STREAM).await;
    let error = first.await.unwrap().unwrap_err();
    assert!(!error.may_have_executed(), "{error}");
    let second = call(&client, &server, "sml");
    let (stream, _) = peer.request().await.unwrap();
    peer.reset(stream, Reason::REFUSED_STREAM).await;
    let (stream, body) = peer.request().await.unwrap();
    assert_eq!(body, b"sml");
    peer.respond(stream, b"ok").await;
    assert_eq!(second.await.unwrap().unwrap(), "ok");
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn enhance_your_calm_is_obeyed() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    peer.request().await.unwrap();
    peer.go_away(0, Reason::ENHANCE_YOUR_CALM).await;
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    assert!(!error.may_have_executed());
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_and_then_on_another_connection() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut old = server.accept(None).await;
    for _ in 0..2 {
        let (stream, body) = old.request().await.unwrap();
        assert_eq!(body, b"first");
        old.reset(stream, Reason::REFUSED_STREAM).await;
    }
    let mut new = server.accept(None).await;
    let (stream, body) = new.request().await.unwrap();
    assert_eq!(body, b"first");
    new.respond(stream, b"1").await;
    assert_eq!(first.await.unwrap().unwrap(), "1");
    tokio::spawn(new.echo());
    tokio::spawn(old.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_peer_that_always_refuses_is_asked_a_bounded_number_of_times() {
    let server = RawServer::start().await;
    let client = client(|p| p.max_open_per_key = Some(1), |_| {});
    let first = call(&client, &server, "first");
    let attempts = client.pool().policy().retry_attempts;
    let refuse = async {
        let mut refused = 0;
        let mut peer = server.accept(None).await;
        while refused < attempts {
            match peer.request().await {
                Some((stream, _)) => {
                    refused += 1;
                    peer.reset(stream, Reason::REFUSED_STREAM).await;
                }
                // The next attempt insists on a new connection.
                None => peer = server.accept(None).await,
            }
        }
        peer
    };
    let peer = refuse.await;
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_reset_stream_fails_alone() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    let (first_stream, _) = peer.request().await.unwrap();
    let second = call(&client, &server, "second");
    let (second_stream, _) = peer.request().await.unwrap();
    peer.reset(first_stream, Reason::INTERNAL_ERROR).await;
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Reset { reason: Reason::INTERNAL_ERROR, .. }), "{error}");
    assert!(error.may_have_executed());
    peer.respond(second_stream, b"2").await;
    assert_eq!(second.await.unwrap().unwrap(), "2");
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_peer_that_calls_us_wrong_gets_no_more_streams_on_that_connection() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.reset(stream, Reason::PROTOCOL_ERROR).await;
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    eventually("the connection is gone", || client.pool().status().open == 0).await;
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_connection_cut_before_the_response_is_not_repeated() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    peer.request().await.unwrap();
    drop(peer);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
    assert!(error.may_have_executed());
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_connection_cut_in_a_body_is_an_error_not_a_short_body() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.head(stream).await;
    peer.write(DATA, 0, stream, b"half").await;
    drop(peer);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_go_away_with_a_fault_names_it_to_the_callers_it_cut() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.head(stream).await;
    peer.go_away(stream, Reason::INTERNAL_ERROR).await;
    drop(peer);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection_only() {
    for (kind, flags, stream, payload) in [
        (SETTINGS, 0, 1, &[][..]),
        (DATA, END_STREAM, 0, b"x"),
        (DATA, 0, 99, b"x"),
        (0x7, 0, 0, b"short"),
        (0x8, 0, 0, &[0, 0, 0, 0]),
        (0x5, 4, 1, &[0, 0, 0, 2, 0x88]),
    ] {
        let server = RawServer::start().await;
        let client = plain_client();
        let first = call(&client, &server, "first");
        let mut peer = server.accept(None).await;
        peer.request().await.unwrap();
        peer.write(kind, flags, stream, payload).await;
        let error = first.await.unwrap().unwrap_err();
        assert!(error.may_have_executed(), "{error}");
        drop(peer);
        assert_recovers(&client, &server).await;
    }
}

#[tokio::test]
async fn a_peer_that_makes_us_reset_too_many_streams_loses_its_connection() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.max_error_resets = 3);
    let mut bad = call(&client, &server, "first");
    let mut peer = server.accept(None).await;
    for reset in 0..=3 {
        let (stream, _) = peer.request().await.unwrap();
        // `:status 200`, and content-length 5 by its index in the static table of HPACK.
        peer.write(HEADERS, END_HEADERS, stream, &[0x88, 0x0f, 0x0d, 1, b'5']).await;
        peer.write(DATA, END_STREAM, stream, b"four").await;
        let error = bad.await.unwrap().unwrap_err();
        if reset == 3 {
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
            assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
            break;
        }
        assert!(matches!(error, Error::Reset { reason: Reason::PROTOCOL_ERROR, .. }), "{error}");
        let frame = peer.read().await.unwrap();
        assert_eq!((frame.kind, frame.stream), (RST_STREAM, stream));
        bad = call(&client, &server, "next");
    }
    let frame = peer.read().await.unwrap();
    assert_eq!(frame.kind, GOAWAY);
    assert_eq!(frame.payload[4..8], u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    eventually("the connection is gone", || client.pool().status().open == 0).await;
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_peer_without_settings_is_a_failed_dial() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.settings_timeout = Duration::from_millis(50));
    let first = call(&client, &server, "first");
    let peer = server.accept_silent().await;
    let error = first.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no SETTINGS"), "{error}");
    drop(peer);
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_peer_that_speaks_http1_is_a_failed_dial() {
    let server = RawServer::start().await;
    let client = plain_client();
    let first = call(&client, &server, "first");
    let mut peer = server.accept_silent().await;
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    peer.socket.write_all(answer).await.unwrap();
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Acquire(_)), "{error}");
    let mut rest = Vec::new();
    // How the client hangs up does not matter here.
    let _ = peer.socket.read_to_end(&mut rest).await;
    assert_recovers(&client, &server).await;
}

#[tokio::test]
async fn a_request_that_http2_cannot_express_costs_no_connection() {
    let server = RawServer::start().await;
    let client = plain_client();
    let mut request = post(server.addr, "/", "x");
    *request.method_mut() = http::Method::CONNECT;
    let error = send(&client, request).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest(InvalidRequest::Connect)), "{error}");
    assert_eq!(client.pool().status().open, 0);
}

#[tokio::test]
async fn a_closed_port_is_a_failed_dial() {
    let server = RawServer::start().await;
    let addr = server.addr;
    drop(server);
    let error = send(&plain_client(), post(addr, "/", "x")).await.unwrap_err();
    assert!(matches!(error, Error::Acquire(_)) && !error.may_have_executed(), "{error}");
}

#[tokio::test]
async fn an_answer_before_the_connection_is_reset_is_still_read() {
    for _ in 0..20 {
        let server = RawServer::start().await;
        let client = plain_client();
        let call = tokio::spawn({
            let (client, addr) = (client.clone(), server.addr);
            async move {
                let response = send(&client, post(addr, "/", vec![1; 1 << 20])).await?;
                read(response.into_body()).await
            }
        });
        let mut peer = server.accept(None).await;
        let stream = peer.read().await.unwrap().stream;
        // `:status 200`, and content-length 9 by its index in the static table of HPACK.
        peer.write(HEADERS, END_HEADERS, stream, &[0x88, 0x0f, 0x0d, 1, b'9']).await;
        peer.write(DATA, END_STREAM, stream, b"too large").await;
        // Closing with unread bytes resets the connection.
        drop(peer);
        assert_eq!(call.await.unwrap().unwrap(), "too large");
    }
}
