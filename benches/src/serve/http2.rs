//! The HTTP/2 server (prior knowledge, no TLS): answers every request with its `x-nonce` header as
//! the body, in the task of the connection.

use std::future::poll_fn;
use std::sync::Arc;

use super::faults::Faults;
use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::{OpenSocket, Oracle};
use bytes::Bytes;
use futures_util::FutureExt;
use h2::server::SendResponse;
use http::{Method, Request, Response};

/// Accepts connections for ever and starts a task for each.
pub(super) async fn serve(
    mut listener: Listener,
    oracle: Arc<Oracle>,
    faults: Arc<Faults>,
    max_streams: u32,
) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(serve_connection(stream, open, Arc::clone(&faults), max_streams));
    }
}

async fn serve_connection(stream: Faulty, open: OpenSocket, faults: Arc<Faults>, max_streams: u32) {
    // An error means that the client is gone or broke the protocol; h2 has sent what can be said.
    drop(exchange(stream, &open, &faults, max_streams).await);
    drop(open);
}

async fn exchange(
    stream: Faulty,
    open: &OpenSocket,
    faults: &Faults,
    max_streams: u32,
) -> Result<(), h2::Error> {
    let agreed = stream.max_streams();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(agreed.unwrap_or(max_streams));
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut batch = Vec::new();
    let mut seen = faults.version();
    loop {
        // Faults that change wake this task. The h2 crate cannot change the limit of streams of a
        // connection: one with another limit has to take its place.
        let next = poll_fn(|cx| {
            let version = faults.version();
            if std::mem::replace(&mut seen, version) != version
                && (open.connection().take_announcement()
                    || faults.plan(open.connection()).max_streams != agreed)
            {
                connection.graceful_shutdown();
            }
            connection.poll_accept(cx)
        });
        let Some(first) = next.await else {
            return Ok(());
        };
        batch.push(first?);
        // Everything that has arrived, so that the answers leave in one write. Polling without a
        // waker is fine: the loop polls with one before it waits.
        while let Some(Some(next)) = connection.accept().now_or_never() {
            batch.push(next?);
        }
        for (request, reply) in batch.drain(..) {
            if answer(request, reply, open) {
                connection.graceful_shutdown();
            }
        }
    }
}

/// Answers one request, and says whether the connection is to be closed after it.
fn answer(
    request: Request<h2::RecvStream>,
    mut reply: SendResponse<Bytes>,
    open: &OpenSocket,
) -> bool {
    let nonce = request
        .headers()
        .get("x-nonce")
        .map(|value| Bytes::copy_from_slice(value.as_bytes()))
        .unwrap_or_default();
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let close = open.executed(&nonce, writes);
    discard_body(request);
    let head = Response::builder()
        .header(http::header::CONTENT_LENGTH, nonce.len())
        .body(())
        .expect("a constant head is valid");
    // An error here means that the client took the request back; the connection goes on.
    if let Ok(mut body) = reply.send_response(head, nonce.is_empty())
        && !nonce.is_empty()
    {
        drop(body.send_data(nonce, true));
    }
    close
}

/// Reads a request's body to its end, if there is one, and gives its window back.
fn discard_body(request: Request<h2::RecvStream>) {
    let mut body = request.into_body();
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        while let Some(Ok(data)) = body.data().await {
            if body.flow_control().release_capacity(data.len()).is_err() {
                return;
            }
        }
    });
}
