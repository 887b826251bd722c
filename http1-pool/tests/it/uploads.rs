//! Request bodies: in memory, streamed, answered early.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::support::{
    Peer, answers_are_own, fed, fetch, finished, look_at_sockets, settled, within,
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use http1_pool::{Body, Client, Error};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// Answers each request with what came after its head, `length` bytes of it.
async fn mirror(length: usize) -> Peer {
    Peer::start(move |mut wire, number| async move {
        if number == 0 {
            let head = wire.head().await.unwrap().head;
            let body = String::from_utf8(wire.bytes(length).await).unwrap();
            wire.reply(&format!("{head}\r\n\r\n{body}")).await;
        }
        wire.echo().await;
    })
    .await
}

async fn mirrored<B>(client: &Client, peer: &Peer, body: B) -> String
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<http1_pool::BoxError>,
{
    let request = Request::post(peer.uri("/")).body(body).unwrap();
    let response = within(client.request(request)).await.unwrap();
    let text = within(response.into_body().read_all(16 << 20)).await.unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test]
async fn bodies_in_memory_are_sent_with_their_length() {
    for length in [0, 1, 4096, 4097, 3 << 20] {
        let text = "x".repeat(length);
        let peer = mirror(length).await;
        let client = Client::new();
        let full = Full::new(Bytes::from(text.clone()));
        let seen = mirrored(&client, &peer, full).await;
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("\r\ncontent-length: {length}")), "{head}");
        assert!(body == text);
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 1);
    }
}

#[tokio::test]
async fn any_body_type_is_taken() {
    let client = Client::new();
    let peer = mirror(2).await;
    assert!(mirrored(&client, &peer, String::from("ab")).await.ends_with("\r\n\r\nab"));
    let peer = mirror(0).await;
    assert!(mirrored(&client, &peer, Empty::<Bytes>::new()).await.ends_with("length: 0\r\n\r\n"));
    let peer = mirror(2).await;
    assert!(mirrored(&client, &peer, Body::from("ab")).await.ends_with("\r\n\r\nab"));
    let boxed = Full::new(Bytes::from("ab")).map_err(|_| Error::BodyTooLarge { limit: 0 });
    let peer = mirror(2).await;
    assert!(mirrored(&client, &peer, boxed.boxed()).await.ends_with("\r\n\r\nab"));
}

#[tokio::test]
async fn a_stream_is_sent_in_chunks_with_trailers() {
    let expected = "2\r\nab\r\n3\r\ncde\r\n0\r\nx-sum: 5\r\n\r\n";
    let peer = mirror(expected.len()).await;
    let client = Client::new();
    let (sender, body) = fed(None);
    let feeding = async {
        for text in ["ab", "", "cde"] {
            sender.send(data(text)).unwrap();
            look_at_sockets().await;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "5".parse().unwrap());
        sender.send(Frame::trailers(trailers)).unwrap();
    };
    let (seen, ()) = tokio::join!(mirrored(&client, &peer, body), feeding);
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with("\r\ntransfer-encoding: chunked"), "{head}");
    assert_eq!(body, expected);
    answers_are_own(&client, &peer).await;
    assert_eq!(peer.accepted(), 1);
    finished(&client, &peer).await;
}

#[tokio::test]
async fn a_stream_of_known_length_is_held_to_it() {
    for (length, frames, fits) in [
        (4, &["ab", "cd"][..], true),
        (4, &["ab", "cde"], false),
        (4, &["ab", "c"], false),
        (4, &["abcde", "f"], false),
        (4, &["ab", "cd", "e"], false),
        (4, &["ab", "cd", ""], true),
        (0, &[], true),
        (0, &["a"], false),
    ] {
        let peer = mirror(if fits { frames.concat().len() } else { 4 }).await;
        let client = Client::new();
        let (sender, body) = fed(Some(length));
        for text in frames {
            sender.send(data(text)).unwrap();
        }
        drop(sender);
        let request = Request::put(peer.uri("/")).body(body).unwrap();
        let result = within(client.request(request)).await;
        if fits {
            let text = result.unwrap().into_body().read_all(1000).await.unwrap();
            let end = format!("content-length: {length}\r\n\r\n{}", frames.concat());
            assert!(text.ends_with(end.as_bytes()));
        } else {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::RequestBody(_)), "{error}");
            settled(&client).await;
            assert_eq!(client.pool().status().open, 0);
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_returned_and_ends_the_connection() {
    for (answer, bodiless) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
    ] {
        let peer = Peer::start(move |mut wire, number| async move {
            if number > 0 {
                return wire.echo().await;
            }
            wire.head().await.unwrap();
            wire.send(answer).await;
            wire.closed().await;
        })
        .await;
        let client = Client::new();
        let (sender, body) = fed(None);
        sender.send(data("some")).unwrap();
        let request = Request::post(peer.uri("/")).body(body).unwrap();
        let response = within(client.request(request)).await.unwrap();
        let text = within(response.into_body().read_all(100)).await.unwrap();
        assert_eq!(text.is_empty(), bodiless);
        assert!(sender.is_closed(), "the rest of the request is still held");
        assert_eq!(client.pool().status().idle, 0);
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 2);
        finished(&client, &peer).await;
    }
}

/// A server that answers with the request's own body as it arrives.
async fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                Ok::<_, Infallible>(http::Response::new(request.into_body()))
            });
            tokio::spawn(async move {
                // The client may leave in the middle.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    addr
}

#[tokio::test]
async fn both_directions_can_stream_at_once() {
    let addr = echo_server().await;
    let client = Client::new();
    let (sender, body) = fed(None);
    sender.send(data("first")).unwrap();
    let request = Request::post(format!("http://{addr}/")).body(body).unwrap();
    let mut body = within(client.request(request)).await.unwrap().into_body();
    for text in ["first", "second", "third"] {
        let frame = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
        match text {
            "first" => sender.send(data("second")).unwrap(),
            "second" => sender.send(data("third")).unwrap(),
            _ => {}
        }
    }
    drop(sender);
    assert!(within(body.frame()).await.is_none());
    settled(&client).await;
    assert_eq!(client.pool().status().idle, 0, "the answer came before the request's end");
}

#[tokio::test]
async fn a_hyper_server_gets_every_kind_of_body() {
    let addr = echo_server().await;
    let client = Client::new();
    for length in [0, 1, 5000, 1 << 20] {
        let text = Bytes::from(vec![b'x'; length]);
        let full = Full::new(text.clone());
        let request = Request::post(format!("http://{addr}/")).body(full).unwrap();
        let response = within(client.request(request)).await.unwrap();
        assert!(within(response.into_body().read_all(1 << 20)).await.unwrap() == text);

        let (sender, body) = fed(None);
        for piece in text.chunks(70_000) {
            sender.send(Frame::data(Bytes::copy_from_slice(piece))).unwrap();
        }
        drop(sender);
        let request = Request::post(format!("http://{addr}/")).body(body).unwrap();
        let response = within(client.request(request)).await.unwrap();
        assert!(within(response.into_body().read_all(1 << 20)).await.unwrap() == text);
    }
}

#[tokio::test]
async fn expecting_to_continue_never_hangs() {
    let peer = Peer::start(|mut wire, number| async move {
        let request = wire.head().await.unwrap();
        assert!(request.head.contains("\r\nexpect: 100-continue"));
        if number == 0 {
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = String::from_utf8(wire.bytes(2).await).unwrap();
            wire.reply(&body).await;
        } else {
            wire.send("HTTP/1.1 417 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno").await;
        }
        wire.closed().await;
    })
    .await;
    for expected in ["ab", "no"] {
        let client = Client::new();
        let request = Request::post(peer.uri("/")).header("expect", "100-continue");
        let response = within(client.request(request.body(Body::from("ab")).unwrap())).await;
        assert_eq!(within(response.unwrap().into_body().read_all(10)).await.unwrap(), expected);
    }
}

/// A peer that refuses a body need not read it, and may take it for the next request.
#[tokio::test]
async fn a_refused_expectation_ends_the_connection() {
    for (expect, interim, accepted) in [
        (true, "", 2),
        (true, "HTTP/1.1 103 Early Hints\r\n\r\n", 2),
        (true, "HTTP/1.1 100 Continue\r\n\r\n", 1),
        (false, "", 1),
    ] {
        let peer = Peer::start(move |mut wire, number| async move {
            if number == 0 {
                wire.head().await.unwrap();
                wire.bytes(2).await;
                wire.send(interim).await;
                wire.reply("first").await;
            }
            wire.echo().await;
        })
        .await;
        let client = Client::new();
        let mut request = Request::post(peer.uri("/"));
        if expect {
            request = request.header("expect", "100-continue");
        }
        let (_, text) = fetch(&client, request.body(Body::from("ab")).unwrap()).await.unwrap();
        assert_eq!(text, "first");
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), accepted, "{interim}");
        finished(&client, &peer).await;
    }
}

/// The announced length is the end, so the connection is back although the stream is not over.
#[tokio::test]
async fn an_upload_ends_with_its_announced_length() {
    for in_header in [false, true] {
        let peer = mirror(4).await;
        let client = Client::new();
        let (sender, body) = fed((!in_header).then_some(4));
        for text in ["ab", "cd"] {
            sender.send(data(text)).unwrap();
        }
        let mut request = Request::post(peer.uri("/"));
        if in_header {
            request = request.header("content-length", "4");
        }
        let response = within(client.request(request.body(body).unwrap())).await.unwrap();
        let text = within(response.into_body().read_all(1000)).await.unwrap();
        assert!(text.ends_with(b"content-length: 4\r\n\r\nabcd"));
        assert!(sender.is_closed(), "the stream is still held");
        answers_are_own(&client, &peer).await;
        assert_eq!(peer.accepted(), 1);
        finished(&client, &peer).await;
    }
}

#[tokio::test]
async fn a_body_that_ends_at_once_is_held_to_what_it_announced() {
    let peer = Peer::echo().await;
    let client = Client::new();
    for (length, frames) in [(2, &[][..]), (2, &["a"]), (1, &["ab"])] {
        let (sender, body) = fed(Some(length));
        for text in frames {
            sender.send(data(text)).unwrap();
        }
        drop(sender);
        let request = Request::post(peer.uri("/")).body(body).unwrap();
        let error = within(client.request(request)).await.unwrap_err();
        assert!(matches!(error, Error::RequestBody(_)), "{error}");
    }
    settled(&client).await;
    assert_eq!(client.pool().status().open, 0);
}

#[tokio::test]
async fn a_peer_that_leaves_ends_a_request_whose_body_waits() {
    let peer = Peer::start(|mut wire, _| async move {
        wire.head().await.unwrap();
    })
    .await;
    let client = Client::new();
    let (_sender, body) = fed(None);
    let request = Request::post(peer.uri("/")).body(body).unwrap();
    let error = within(client.request(request)).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. } | Error::Io { .. }), "{error}");
    settled(&client).await;
}

#[tokio::test]
async fn a_failing_body_fails_the_request() {
    struct Broken;
    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(Some(Err(std::io::Error::other("the disk is on fire"))))
        }
    }
    let peer = Peer::echo().await;
    let client = Client::new();
    let request = Request::post(peer.uri("/")).body(Broken).unwrap();
    let error = client.request(request).await.unwrap_err();
    assert_eq!(error.to_string(), "the request body failed: the disk is on fire");
    assert_eq!(peer.accepted(), 0);
}
