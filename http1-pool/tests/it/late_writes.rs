//! What comes between the look at the socket and the first byte of a request is not its answer,
//! however late that byte is written.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::{Peer, client, fetch, finished, get, within};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http1_pool::{Body, Error, ProtocolError};
use tokio::sync::Notify;
use tokio::task::coop;

const STRAY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";

/// Polls a future once in a task whose turn is used up, so that its socket takes nothing.
async fn poll_at_the_end_of_a_turn<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| {
        while let Poll::Ready(step) = coop::poll_proceed(cx) {
            step.made_progress();
        }
        Poll::Ready(future.as_mut().poll(cx))
    })
    .await
}

#[tokio::test]
async fn a_stray_response_is_not_taken_by_a_request_whose_task_had_used_up_its_turn() {
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (going, told) = (Arc::clone(&go), Arc::clone(&gone));
    let peer = Peer::start(move |mut wire, number| {
        let (going, told) = (Arc::clone(&going), Arc::clone(&told));
        async move {
            if number == 0 {
                wire.head().await.unwrap();
                wire.reply("/first").await;
                going.notified().await;
                wire.send(STRAY).await;
                told.notify_one();
            }
            wire.echo().await;
        }
    })
    .await;
    let client = client(|_| {});
    fetch(&client, get(&peer, "/first")).await.unwrap();
    {
        let mut second = pin!(fetch(&client, get(&peer, "/second")));
        assert!(poll_at_the_end_of_a_turn(second.as_mut()).await.is_pending());
        go.notify_one();
        within(gone.notified()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        // Nothing of it was sent, so it is sent again on another connection.
        let (_, body) = second.await.unwrap();
        assert_eq!(body, "/second");
    }
    assert_eq!(peer.accepted(), 2);
    finished(&client, &peer).await;
}

/// A body that takes its time to make its one frame; meanwhile the server answers unasked.
struct Slow {
    server: std::net::TcpStream,
    polls: u32,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.polls += 1;
        match self.polls {
            // That was to see whether the body is all there at once.
            1 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            2 => {
                self.server.write_all(STRAY).expect("connected");
                std::thread::sleep(Duration::from_millis(3));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"frame")))))
            }
            _ => Poll::Ready(None),
        }
    }
}

/// Reads until the request or the piece of it that ends with `end` is there.
fn read_to(server: &mut std::net::TcpStream, end: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        server.read_exact(&mut byte).expect("a request");
        read.extend(byte);
    }
}

#[tokio::test]
async fn a_stray_response_is_not_taken_by_a_request_whose_body_took_its_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        read_to(&mut server, b"\r\n\r\n");
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").unwrap();
        server
    });
    let client = client(|_| {});
    let first = Request::get(&uri).body(Body::empty()).unwrap();
    assert_eq!(fetch(&client, first).await.unwrap().1, "first");
    let mut server = answering.join().unwrap();
    let body = Slow { server: server.try_clone().unwrap(), polls: 0 };
    let second = Request::post(&uri).body(body).unwrap();
    let error = within(client.request(second)).await.expect_err("nothing was asked");
    let unasked = matches!(error, Error::Protocol { source: ProtocolError::Unsolicited, .. });
    assert!(unasked, "{error}");
    // Nothing of the second request was written.
    let mut rest = Vec::new();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = server.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    within(client.close()).await;
}
