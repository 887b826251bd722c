//! The HTTP/1 server: answers every request with its `x-nonce` header as the body.
//!
//! Two models: `tasks` starts a task for each connection, as net/http does; `workers` hands
//! connections to a pool of parked workers, the most recently parked first, and refuses with 503
//! beyond its limit, as fasthttp does (see [`workers`](super::workers)).

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::faulty::Faulty;
use super::listener::Listener;
use super::oracle::{OpenSocket, Oracle};
use super::workers::{Job, Workers};

/// A request head longer than this is answered with 431.
const MAX_HEAD: usize = 16 * 1024;
/// A request body longer than this is answered with 413.
const MAX_BODY: usize = 1024 * 1024;
const MAX_HEADERS: usize = 64;

const REFUSED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Accepts connections forever and starts a task for each.
pub(super) async fn serve_tasks(mut listener: Listener, oracle: Arc<Oracle>) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(serve_connection(stream, open));
    }
}

/// Accepts connections forever and hands them to at most `limit` workers.
pub(super) async fn serve_workers(mut listener: Listener, oracle: Arc<Oracle>, limit: usize) {
    let workers = Workers::start(limit, |Job { stream, open }| serve_connection(stream, open));
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        if let Err(job) = workers.serve(Job { stream, open }) {
            let Job { stream, open } = *job;
            tokio::spawn(refuse(stream, open));
        }
    }
}

/// Answers 503, then waits briefly for the client to have read it: closing with bytes unread would
/// reset the connection and might destroy the answer.
async fn refuse(mut stream: Faulty, open: OpenSocket) {
    let answer = async {
        stream.write_all(REFUSED).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // The connection is over, whether the client got the answer or left before.
    drop(tokio::time::timeout(super::LINGER, answer).await);
    drop(stream);
    drop(open);
}

/// Serves the requests of one connection, one after the other, until either side closes it.
async fn serve_connection(mut stream: Faulty, open: OpenSocket) {
    // An error means that the client is gone, so it cannot be told.
    drop(exchange(&mut stream, &open).await);
    drop(stream);
    drop(open);
}

async fn exchange(stream: &mut Faulty, open: &OpenSocket) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(4096);
    let mut output = Vec::with_capacity(1024);
    loop {
        let mut close = false;
        while !close && !input.is_empty() {
            match parse(&input) {
                Parsed::Partial => break,
                Parsed::Request(request) => {
                    close = open.executed(request.nonce, request.writes) || request.close;
                    write_reply(&mut output, &request, close);
                    let length = request.length;
                    input.advance(length);
                }
                Parsed::Bad(status) => {
                    output.extend_from_slice(b"HTTP/1.1 ");
                    output.extend_from_slice(status.as_bytes());
                    output.extend_from_slice(b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                    close = true;
                }
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if close {
            // The shutdown waits until delayed replies have left.
            return stream.shutdown().await;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// The result of parsing the bytes received so far.
enum Parsed<'a> {
    Partial,
    Request(Request<'a>),
    Bad(&'static str),
}

struct Request<'a> {
    /// Bytes of head and body together.
    length: usize,
    /// The value of `x-nonce`; empty without that header.
    nonce: &'a [u8],
    /// It must not run twice: neither GET nor HEAD.
    writes: bool,
    /// Without a body in the reply, as HEAD asks.
    head_only: bool,
    /// The client asked to close the connection.
    close: bool,
}

fn parse(input: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(head)) if head <= MAX_HEAD => head,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Parsed::Partial,
        Ok(_) => return Parsed::Bad("431 Request Header Fields Too Large"),
        Err(_) => return Parsed::Bad("400 Bad Request"),
    };
    let head_only = request.method == Some("HEAD");
    let writes = !head_only && request.method != Some("GET");
    let mut close = request.version == Some(0);
    let mut nonce: &[u8] = b"";
    let mut body = 0;
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("x-nonce") {
            nonce = header.value;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            match std::str::from_utf8(header.value).map(str::parse::<usize>) {
                Ok(Ok(length)) if length <= MAX_BODY => body = length,
                Ok(Ok(_)) => return Parsed::Bad("413 Content Too Large"),
                _ => return Parsed::Bad("400 Bad Request"),
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Bad("501 Not Implemented");
        } else if header.name.eq_ignore_ascii_case("connection") {
            close = close || header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if input.len() < head + body {
        return Parsed::Partial;
    }
    Parsed::Request(Request { length: head + body, nonce, writes, head_only, close })
}

fn write_reply(output: &mut Vec<u8>, request: &Request<'_>, close: bool) {
    output.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    if close {
        output.extend_from_slice(b"connection: close\r\n");
    }
    output.extend_from_slice(b"content-length: ");
    output.extend_from_slice(itoa::Buffer::new().format(request.nonce.len()).as_bytes());
    output.extend_from_slice(b"\r\n\r\n");
    if !request.head_only {
        output.extend_from_slice(request.nonce);
    }
}
