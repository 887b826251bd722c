//! How responses end: what is complete, what is an error, and what the error says.

use crate::support::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RawServer};
use crate::support::{
    HANG, assert_clean, assert_echoes, client, eventually, fed, get, plain_client, post, read, send,
};
use h2_shared::{Client, Error, Reason};
use http_body_util::BodyExt;
use pool_common::policy::Retry;
use tokio::io::AsyncWriteExt;

/// `:status 200`, and content-length 5 by its index in the static table of HPACK.
const FIVE: &[u8] = &[0x88, 0x0f, 0x0d, 1, b'5'];

type Answer = tokio::task::JoinHandle<Result<bytes::Bytes, Error>>;

fn call(client: &Client, server: &RawServer) -> Answer {
    let (client, addr) = (client.clone(), server.addr);
    tokio::spawn(async move { read(send(&client, get(addr, "/")).await?.into_body()).await })
}

/// The frames after the five bytes that were announced.
#[derive(Clone, Copy, Debug)]
enum After {
    MoreData,
    Reset(Reason),
    Close,
    GoAwayAndClose,
}

#[tokio::test]
async fn enough_bytes_are_no_complete_response() {
    for after in [
        After::MoreData,
        After::Reset(Reason::INTERNAL_ERROR),
        After::Reset(Reason::NO_ERROR),
        After::Close,
        After::GoAwayAndClose,
    ] {
        let server = RawServer::start().await;
        let client = plain_client();
        let answer = call(&client, &server);
        let mut peer = server.accept(None).await;
        let (stream, _) = peer.request().await.unwrap();
        peer.write(HEADERS, END_HEADERS, stream, FIVE).await;
        peer.write(DATA, 0, stream, b"12345").await;
        let expected = match after {
            After::MoreData => {
                peer.write(DATA, END_STREAM, stream, b"678").await;
                Some(Reason::PROTOCOL_ERROR)
            }
            After::Reset(reason) => {
                peer.reset(stream, reason).await;
                Some(reason)
            }
            After::Close => {
                drop(peer);
                None
            }
            After::GoAwayAndClose => {
                peer.go_away(stream, Reason::INTERNAL_ERROR).await;
                drop(peer);
                Some(Reason::INTERNAL_ERROR)
            }
        };
        let error = answer.await.unwrap().expect_err("this is no complete response");
        assert_eq!(error.reason(), expected, "{after:?}: {error}");
        assert!(error.may_have_executed(), "{after:?}: {error}");
    }
}

/// Until the last byte of the last frame has come, a response is not complete, even if the head of
/// that frame says END_STREAM.
#[tokio::test]
async fn a_frame_cut_off_by_a_close_is_no_complete_response() {
    const SIXTEEN: u8 = 16;
    let data = [&[0, 0, SIXTEEN, DATA, END_STREAM, 0, 0, 0, 1][..], b"only half"].concat();
    let block = [&[0, 0, SIXTEEN, HEADERS, END_STREAM, 0, 0, 0, 1][..], &[0, 9]].concat();
    let open_block = [&[0, 0, 5, HEADERS, END_STREAM, 0, 0, 0, 1][..], b"\x00\x01x\x01y"].concat();
    for cut in [&data[..], &data[..9], &block, &block[..9], &open_block] {
        for announced in [&FIVE[..1], FIVE] {
            let server = RawServer::start().await;
            let client = plain_client();
            let (feed, body) = fed();
            let request = http::Request::post(format!("http://{}/", server.addr));
            let request = request.body(body).unwrap();
            let answer =
                tokio::spawn(async move { read(client.request(request).await?.into_body()).await });
            let mut peer = server.accept(None).await;
            let stream = peer.wait_for(HEADERS).await.stream;
            assert_eq!(stream, 1);
            peer.write(HEADERS, END_HEADERS, stream, announced).await;
            peer.socket.write_all(cut).await.unwrap();
            drop(peer);
            let error = answer.await.unwrap().expect_err("this is no complete response");
            assert!(matches!(error, Error::ConnectionLost { .. }), "{cut:?}: {error}");
            drop(feed);
        }
    }
}

/// A failure does not take back the data before it.
#[tokio::test]
async fn a_reader_gets_all_that_came_and_then_the_error() {
    let server = RawServer::start().await;
    let client = plain_client();
    let response = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, get(addr, "/")).await.unwrap().into_body() }
    });
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.write(HEADERS, END_HEADERS, stream, FIVE).await;
    peer.write(DATA, 0, stream, b"12345").await;
    let mut body = response.await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "12345");
    peer.reset(stream, Reason::INTERNAL_ERROR).await;
    let error = body.frame().await.expect("the body has not ended").unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
    assert!(body.frame().await.is_none());
    tokio::spawn(peer.echo());
    assert_echoes(&client, server.addr, 10).await;
    assert_clean(&client).await;
}

/// The stream fails on one thread while the task of the connection still runs on another: the cause
/// is known in any case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fault_and_the_words_of_a_go_away_reach_every_request_that_it_ends() {
    for _ in 0..100 {
        let server = RawServer::start().await;
        let client = client(|p| p.retry = Retry::Idempotent, |_| {});
        let answers = [call(&client, &server), call(&client, &server)];
        let mut peer = server.accept(None).await;
        peer.request().await.unwrap();
        let (last, _) = peer.request().await.unwrap();
        let words = b"too_many_pings\r\n\x1b[31m";
        peer.go_away_because(last, Reason::ENHANCE_YOUR_CALM, words).await;
        drop(peer);
        for answer in answers {
            let error = answer.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
            let text = error.to_string();
            assert!(text.contains(r"too_many_pings\r\n\u{1b}"), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        let dials = client.pool().stats().dials;
        assert_eq!(dials, 1, "a demand for calm is not answered by a repeat");
    }
}

#[tokio::test]
async fn the_words_of_a_go_away_reach_the_request_that_it_leaves_undone() {
    let server = RawServer::start().await;
    let client = plain_client();
    let answer = call(&client, &server);
    let mut peer = server.accept(None).await;
    peer.request().await.unwrap();
    peer.go_away_because(0, Reason::ENHANCE_YOUR_CALM, b"too_many_pings").await;
    let error = answer.await.unwrap().unwrap_err();
    assert!(!error.may_have_executed(), "{error}");
    assert!(error.to_string().contains("ENHANCE_YOUR_CALM: too_many_pings"), "{error}");
}

/// Closed with the second request in its buffer: an idle connection whose end raced with a request.
#[tokio::test]
async fn a_get_whose_reused_connection_was_lost_is_sent_again_once() {
    let server = RawServer::start().await;
    let client = plain_client();
    let mut sent = 0;
    let mut served = 0;
    for _ in 0..2 {
        let answer = call(&client, &server);
        let mut peer = server.accept(None).await;
        let (stream, _) = peer.request().await.unwrap();
        sent += 1;
        peer.respond(stream, b"ok").await;
        assert_eq!(answer.await.unwrap().unwrap(), "ok");
        served += 1;

        let answer = call(&client, &server);
        peer.request().await.unwrap();
        sent += 1;
        drop(peer);
        let mut peer = server.accept(None).await;
        let (stream, _) = peer.request().await.unwrap();
        sent += 1;
        peer.respond(stream, b"again").await;
        assert_eq!(answer.await.unwrap().unwrap(), "again");
        served += 1;
        drop(peer);
        eventually("the connection is gone", || client.pool().status().open == 0).await;
    }
    assert_eq!((sent, served), (6, 4));

    // What may have run and must not run twice is not repeated.
    let first = call(&client, &server);
    let mut peer = server.accept(None).await;
    let (stream, _) = peer.request().await.unwrap();
    peer.respond(stream, b"ok").await;
    first.await.unwrap().unwrap();
    let answer = tokio::spawn({
        let (client, addr) = (client.clone(), server.addr);
        async move { send(&client, post(addr, "/", "x")).await }
    });
    peer.request().await.unwrap();
    drop(peer);
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
}

#[tokio::test]
async fn a_peer_that_ends_each_connection_at_its_second_request_gets_a_get_twice() {
    let server = RawServer::start().await;
    let client = plain_client();
    // Two connections that have served a request, both open.
    let answers = [call(&client, &server), call(&client, &server)];
    let mut one = server.accept(Some(1)).await;
    let (stream, _) = one.request().await.unwrap();
    let mut two = server.accept(Some(1)).await;
    let (other, _) = two.request().await.unwrap();
    one.respond(stream, b"1").await;
    two.respond(other, b"2").await;
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let answer = call(&client, &server);
    one.request().await.unwrap();
    drop(one);
    two.request().await.unwrap();
    drop(two);
    let error = tokio::time::timeout(HANG, answer).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
}
