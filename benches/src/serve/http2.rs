//! The HTTP/2 server (prior knowledge, no TLS): answers every request with its `x-nonce` header as
//! the body, in the task of the connection.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};

use super::oracle::{OpenSocket, Oracle};

/// Accepts connections for ever and starts a task for each.
pub(super) async fn serve(listener: TcpListener, oracle: Arc<Oracle>, max_streams: u32) {
    loop {
        let stream = super::accept(&listener).await;
        let open = oracle.accepted();
        tokio::spawn(serve_connection(stream, open, max_streams));
    }
}

async fn serve_connection(stream: TcpStream, open: OpenSocket, max_streams: u32) {
    // An error means that the client is gone or broke the protocol; h2 has sent what can be said.
    drop(exchange(stream, &open, max_streams).await);
    drop(open);
}

async fn exchange(stream: TcpStream, open: &OpenSocket, max_streams: u32) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(max_streams);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut batch = Vec::new();
    while let Some(first) = connection.accept().await {
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
    Ok(())
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
    let close = open.oracle().executed(&nonce);
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
