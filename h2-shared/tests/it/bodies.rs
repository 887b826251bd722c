//! Bodies both ways: flow control, ends, drops and cancels.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::echo::EchoServer;
use crate::support::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawServer};
use crate::support::{
    HANG, assert_clean, assert_echoes, client, eventually, fed, get, plain_client, post, read, send,
};
use bytes::Bytes;
use h2_shared::{Client, Error, Reason};
use http::{HeaderMap, Request};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

const MIB: usize = 1 << 20;

/// Bytes that differ from one another, so that lost or swapped pieces show.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i / 251 + i) as u8).collect::<Vec<_>>().into()
}

/// One connection, windows of 64 KiB: flow control is felt.
fn narrow() -> Client {
    client(
        |p| p.max_open_per_key = Some(1),
        |c| {
            c.stream_window = 65_535;
            c.connection_window = 65_535;
        },
    )
}

#[tokio::test]
async fn large_bodies_pass_both_ways_under_flow_control() {
    let server = EchoServer::plain().await;
    let client = narrow();
    let body = pattern(8 * MIB);
    let response = send(&client, post(server.addr, "/echo", body.clone())).await.unwrap();
    assert!(read(response.into_body()).await.unwrap() == body);
    let response = send(&client, post(server.addr, "/sink", body)).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), (8 * MIB).to_string());
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn many_large_bodies_share_a_narrow_window() {
    let server = EchoServer::plain().await;
    let client = narrow();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, addr) = (client.clone(), server.addr);
            tokio::spawn(async move {
                let response = send(&client, get(addr, "/bytes/1000000")).await.unwrap();
                read(response.into_body()).await.unwrap().len()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1_000_000);
    }
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_dropped_body_resets_its_stream_and_leaves_the_connection_usable() {
    let server = EchoServer::plain().await;
    let client = narrow();
    let response = send(&client, get(server.addr, "/bytes/1000000")).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty());
    drop(body);
    eventually("the server sees the reset", || server.seen.resets.load(Ordering::SeqCst) == 1)
        .await;
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

/// A caller that gives up when the first bytes have come, or before, or reads to the end.
async fn give_up(client: Client, addr: std::net::SocketAddr, how: u32) {
    match how % 4 {
        0 => drop(send(&client, get(addr, "/stall/3000")).await.unwrap()),
        1 => {
            let mut body = send(&client, get(addr, "/stall/3000")).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
        }
        2 => {
            let mut request = Box::pin(client.request(get(addr, "/bytes/3000")));
            let once = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(request.as_mut().poll(cx).is_pending())
            });
            assert!(once.await, "no response can be there yet");
        }
        _ => {
            let request = client.request(get(addr, "/bytes/3000"));
            // Whether the answer or the end of patience comes first does not matter.
            let _ = tokio::time::timeout(Duration::from_millis(2), request).await;
        }
    }
}

#[tokio::test]
async fn ten_thousand_cancelled_streams_leave_the_window_whole() {
    let server = EchoServer::with_limit(100).await;
    let client = narrow();
    assert_echoes(&client, server.addr, 1).await;
    for round in 0..200 {
        let callers: Vec<_> = (0..50)
            .map(|n| tokio::spawn(give_up(client.clone(), server.addr, round + n)))
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let response = send(&client, get(server.addr, "/bytes/8000000")).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().len(), 8_000_000);
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1, "the connection has survived");
    assert_clean(&client).await;
    eventually("no stream is left at the server", || server.seen.active() == 0).await;
}

#[tokio::test]
async fn a_dropped_request_gives_its_slot_back() {
    let server = EchoServer::with_limit(1).await;
    let client = narrow();
    let request = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, get(addr, "/silent")).await }
    });
    eventually("the request is at the server", || server.seen.active() == 1).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let (feed, body) = fed();
    let request = Request::post(format!("http://{}/trailers", server.addr)).body(body).unwrap();
    let feeding = async move {
        feed.send(Ok(Frame::data(Bytes::from_static(b"four")))).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "4".parse().unwrap());
        feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
    };
    let (response, ()) = tokio::join!(client.request(request), feeding);
    let collected = response.unwrap().into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers["x-sum"], "4");
    assert_eq!(trailers["x-end"], "yes");
    assert_eq!(collected.to_bytes(), "4");
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_response_may_overtake_its_request() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let (feed, body) = fed();
    let request = Request::post(format!("http://{}/early", server.addr)).body(body).unwrap();
    let mut response = client.request(request).await.unwrap().into_body();
    for text in ["one", "two", "three"] {
        feed.send(Ok(Frame::data(text.into()))).await.unwrap();
        let frame = tokio::time::timeout(HANG, response.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), text);
    }
    assert_eq!(client.pool().status().leased, 1);
    drop(feed);
    let end = tokio::time::timeout(HANG, response.frame()).await.unwrap();
    assert!(end.is_none() && response.is_end_stream());
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_dropped_response_ends_the_request_body_that_is_still_on_its_way() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let (feed, body) = fed();
    let request = Request::post(format!("http://{}/early", server.addr)).body(body).unwrap();
    drop(client.request(request).await.unwrap());
    tokio::time::timeout(HANG, feed.closed()).await.unwrap();
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn an_answer_without_reading_the_request_is_an_answer() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    for _ in 0..20 {
        let request = post(server.addr, "/final", pattern(MIB));
        let response = send(&client, request).await.unwrap();
        assert_eq!(read(response.into_body()).await.unwrap(), "final");
    }
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_failing_request_body_resets_its_stream_only() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    let (feed, body) = fed();
    let request = Request::post(format!("http://{}/sink", server.addr)).body(body).unwrap();
    let feeding = async move {
        feed.send(Ok(Frame::data(Bytes::from_static(b"begin")))).await.unwrap();
        feed.send(Err(std::io::Error::other("out of paper"))).await.unwrap();
    };
    let (response, ()) = tokio::join!(client.request(request), feeding);
    let error = response.unwrap_err();
    assert!(matches!(error, Error::RequestBody(_)), "{error}");
    assert!(error.to_string().contains("out of paper"));
    eventually("the server sees the reset", || server.seen.resets.load(Ordering::SeqCst) == 1)
        .await;
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_request_body_keeps_to_its_declared_length() {
    let server = EchoServer::plain().await;
    let client = plain_client();
    for declared in [3, 5] {
        let (feed, body) = fed();
        let request = Request::post(format!("http://{}/sink", server.addr))
            .header("content-length", declared)
            .body(body)
            .unwrap();
        let feeding = async move { feed.send(Ok(Frame::data("four".into()))).await };
        let (response, _) = tokio::join!(client.request(request), feeding);
        let error = response.unwrap_err();
        assert!(matches!(error, Error::RequestBody(_)), "{error}");
    }
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_response_of_the_wrong_length_is_an_error() {
    let server = RawServer::start().await;
    let client = plain_client();
    for body in [&b"four"[..], b"sixsix"] {
        let call = tokio::spawn({
            let (client, addr) = (client.clone(), server.addr);
            async move { read(send(&client, get(addr, "/")).await?.into_body()).await }
        });
        let mut peer = server.accept(None).await;
        let (stream, _) = peer.request().await.unwrap();
        // `:status 200`, and content-length 5 by its index in the static table of HPACK.
        let head = [0x88, 0x0f, 0x0d, 1, b'5'];
        peer.write(HEADERS, END_HEADERS, stream, &head).await;
        peer.write(DATA, END_STREAM, stream, body).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{error}");
        peer.go_away(stream, Reason::NO_ERROR).await;
        peer.drain().await;
    }
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_response_head_beyond_the_limit_fails_its_stream_only() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.max_header_list_size = 1_000);
    let call = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, get(addr, "/")).await.map(drop) }
    });
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    // `server` by its index, with a value of 127 + 1,873 bytes.
    let mut head = vec![0x88, 0x0f, 0x27, 0x7f, 0xd1, 0x0e];
    head.resize(head.len() + 2_000, b'x');
    peer.write(HEADERS, END_HEADERS, stream, &head).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Reset { .. }), "{error}");
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 100).await;
    assert_clean(&client).await;
}

#[tokio::test]
async fn pseudo_header_fields_of_requests_and_in_trailers_are_no_response() {
    const PATH: &[u8] = &[0x84]; // `:path: /`
    const STATUS: &[u8] = &[0x88];
    let field = b"\x00\x01x\x01y";
    for (head, trailers) in [
        ([STATUS, PATH].concat(), None),
        ([PATH, STATUS].concat(), None),
        (STATUS.to_vec(), Some([PATH, field].concat())),
        (STATUS.to_vec(), Some([STATUS, field].concat())),
    ] {
        let server = RawServer::start().await;
        let client = plain_client();
        let call = tokio::spawn({
            let (client, addr) = (client.clone(), server.addr);
            async move { read(send(&client, get(addr, "/")).await?.into_body()).await }
        });
        let mut peer = server.accept(None).await;
        let (stream, _) = peer.request().await.unwrap();
        peer.write(HEADERS, END_HEADERS, stream, &head).await;
        peer.write(DATA, 0, stream, b"x").await;
        if let Some(trailers) = trailers {
            peer.write(HEADERS, END_HEADERS | END_STREAM, stream, &trailers).await;
        }
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{error}");
        assert!(error.to_string().contains("pseudo-header fields"), "{error}");
        tokio::spawn(peer.echo());
        assert_echoes(&client, server.addr, 10).await;
        assert_clean(&client).await;
    }
}

/// `server` by its index in the static table, with a value of this length, in frames of 16 KiB.
fn large_head(length: usize) -> Vec<Vec<u8>> {
    let mut head = vec![0x88, 0x0f, 0x27, 0x7f];
    let mut rest = length - 127;
    while rest >= 128 {
        head.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    head.push(u8::try_from(rest).unwrap());
    head.resize(head.len() + length, b'x');
    head.chunks(16_384).map(<[u8]>::to_vec).collect()
}

#[tokio::test]
async fn a_huge_response_head_fails_its_stream_and_three_others_go_on() {
    const CONTINUATION: u8 = 9;
    let server = RawServer::start().await;
    let client = plain_client();
    let call = || {
        let (client, addr) = (client.clone(), server.addr);
        tokio::spawn(async move { read(send(&client, get(addr, "/")).await?.into_body()).await })
    };
    let calls = [call(), call(), call(), call()];
    let mut peer = server.accept(None).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(peer.wait_for(HEADERS).await.stream);
    }
    let frames = large_head(200 << 10);
    for (number, frame) in frames.iter().enumerate() {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let flags = if number + 1 == frames.len() { END_HEADERS } else { 0 };
        peer.write(kind, flags, streams[0], frame).await;
    }
    assert_eq!(peer.wait_for(RST_STREAM).await.stream, streams[0]);
    for stream in &streams[1..] {
        peer.respond(*stream, b"fine").await;
    }
    let mut failed = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(body) => assert_eq!(body, "fine"),
            Err(error) => {
                failed += 1;
                assert!(matches!(error, Error::Reset { .. }), "{error}");
                assert!(error.to_string().contains("max_header_list_size"), "{error}");
            }
        }
    }
    assert_eq!(failed, 1);
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 10).await;
    assert_eq!(client.pool().stats().opened, 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_body_of_which_little_was_sent_is_sent_again_whatever_its_length() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.replay_limit = 65_536);
    let body = pattern(200_000);
    let call = tokio::spawn({
        let (client, addr, body) = (client.clone(), server.addr, body.clone());
        async move { read(send(&client, post(addr, "/", body)).await?.into_body()).await }
    });
    let mut peer = server.accept(None).await;
    let stream = peer.wait_for(HEADERS).await.stream;
    // The window of 65,535 bytes has to be used up before the stream is refused.
    let mut received = 0;
    while received < 65_535 {
        received += peer.wait_for(DATA).await.payload.len();
    }
    peer.reset(stream, Reason::REFUSED_STREAM).await;
    let stream = peer.wait_for(HEADERS).await.stream;
    peer.grant(stream, 1 << 20).await;
    let (again, received) = peer.request().await.unwrap();
    assert_eq!(again, stream);
    assert!(received == body, "all of it, from the beginning");
    peer.respond(stream, b"ok").await;
    assert_eq!(call.await.unwrap().unwrap(), "ok");
    assert_clean(&client).await;
}

#[tokio::test]
async fn no_response_within_the_timeout_resets_the_stream_only() {
    let server = EchoServer::plain().await;
    let timeout = Duration::from_millis(50);
    let client = client(|_| {}, |c| c.response_timeout = Some(timeout));
    let error = send(&client, get(server.addr, "/silent")).await.unwrap_err();
    assert!(matches!(error, Error::ResponseTimeout(limit) if limit == timeout), "{error}");
    eventually("the server sees the reset", || server.seen.resets.load(Ordering::SeqCst) == 1)
        .await;
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_peer_that_takes_no_more_of_the_body_runs_into_the_timeout() {
    let server = RawServer::start().await;
    let client = client(|_| {}, |c| c.response_timeout = Some(Duration::from_millis(50)));
    let call = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, post(addr, "/", pattern(MIB))).await.map(drop) }
    });
    let mut peer = server.accept(None).await;
    let mut received = 0;
    loop {
        // The window of 65,535 bytes is never renewed.
        let frame = peer.read().await.unwrap();
        match frame.kind {
            DATA => received += frame.payload.len(),
            RST_STREAM => break,
            _ => {}
        }
    }
    assert_eq!(received, 65_535);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ResponseTimeout(_)), "{error}");
    assert_clean(&client).await;
}

#[tokio::test]
async fn the_clock_stands_still_while_the_caller_has_nothing_to_send() {
    let server = EchoServer::plain().await;
    let timeout = Duration::from_millis(20);
    let client = client(|_| {}, |c| c.response_timeout = Some(timeout));
    let (feed, body) = fed();
    let request = Request::post(format!("http://{}/sink", server.addr)).body(body).unwrap();
    let feeding = async move {
        feed.send(Ok(Frame::data("slow".into()))).await.unwrap();
        tokio::time::sleep(10 * timeout).await;
        drop(feed);
    };
    let (response, ()) = tokio::join!(client.request(request), feeding);
    assert_eq!(read(response.unwrap().into_body()).await.unwrap(), "4");
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_pause_in_the_response_body_runs_into_the_timeout() {
    let server = EchoServer::plain().await;
    let client = client(|_| {}, |c| c.body_timeout = Some(Duration::from_millis(50)));
    let response = send(&client, get(server.addr, "/stall/10")).await.unwrap();
    let error = read(response.into_body()).await.unwrap_err();
    assert!(matches!(error, Error::BodyTimeout(_)) && error.is_timeout(), "{error}");
    assert_echoes(&client, server.addr, 100).await;
    assert_eq!(server.seen.connections(), 1);
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_request_without_a_body_is_one_frame() {
    let server = RawServer::start().await;
    let client = plain_client();
    let call = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, get(addr, "/")).await }
    });
    let mut peer = server.accept(None).await;
    let frame = peer.read().await.unwrap();
    assert_eq!((frame.kind, frame.flags), (HEADERS, END_HEADERS | END_STREAM));
    peer.write(HEADERS, END_HEADERS | END_STREAM, frame.stream, &[0x88]).await;
    let body = call.await.unwrap().unwrap().into_body();
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert_eq!(client.pool().status().leased, 0, "the slot is free before the body is dropped");
    assert_clean(&client).await;
}
