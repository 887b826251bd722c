//! HTTP/1 over a bare socket: the probe, and the last reply of a connection.

use std::io;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CallError, Exchange, MAX_REPLY, RequestKind, Template, dial};
use crate::nonce::{NONCE_LEN, Nonce};
use crate::target::Target;

/// Sends one request and learns from its reply.
pub(super) async fn probe(target: &Target) -> Result<Template, String> {
    let (request, nonce_at) = request_of(target, RequestKind::Read);
    let failed = |error: io::Error| error.to_string();
    let mut stream = dial(target).await.map_err(failed)?;
    stream.write_all(&request).await.map_err(failed)?;
    let mut reply = Vec::new();
    let shape = loop {
        if let Some(shape) = shape_of(&reply, target.ask.head_only(RequestKind::Read))? {
            break shape;
        }
        if reply.len() > MAX_REPLY {
            return Err(format!("its reply is longer than {MAX_REPLY} bytes"));
        }
        if stream.read_buf(&mut reply).await.map_err(failed)? == 0 {
            return Err("it closed the connection in the middle of a reply".to_owned());
        }
    };
    if reply.len() > shape.length {
        return Err("it sent more than its reply".to_owned());
    }
    // The embedded server counts requests by their nonce, even if it does not return it.
    let counts = target.echoes || target.embedded;
    let read = Exchange {
        nonce_at: counts.then_some(nonce_at),
        request,
        reply_len: shape.length,
        reply_start: reply[..shape.status_line].to_vec(),
        head_len: Some(shape.head),
        reply_nonce_at: target.echoes.then(|| shape.length - NONCE_LEN),
        head_only: target.ask.head_only(RequestKind::Read),
        parsed: false,
    };
    let (request, nonce_at) = request_of(target, RequestKind::Write);
    // The same handler answers both, with replies of one length.
    let write = Exchange { nonce_at: counts.then_some(nonce_at), request, ..read.clone() };
    Ok(Template { handshake: Vec::new(), handshake_reply: Vec::new(), read, write })
}

/// A request, and where its nonce stands.
fn request_of(target: &Target, kind: RequestKind) -> (Vec<u8>, usize) {
    let (method, body) = target.ask.http(kind);
    let (path, host) = (&target.path, &target.authority);
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nx-nonce: ").into_bytes();
    let nonce_at = request.len();
    request.extend_from_slice(Nonce::new(0, 0).as_bytes());
    if !body.is_empty() || !matches!(method, Method::GET | Method::HEAD) {
        request.extend_from_slice(format!("\r\ncontent-length: {}", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n\r\n");
    request.extend_from_slice(&body);
    (request, nonce_at)
}

struct Shape {
    head: usize,
    length: usize,
    /// Bytes up to the end of the status code.
    status_line: usize,
    /// It announces the end of the connection.
    closes: bool,
}

/// The length of the whole reply, once it is there; `None` before.
fn shape_of(reply: &[u8], head_only: bool) -> Result<Option<Shape>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(reply) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("its reply is not HTTP/1: {error}")),
    };
    let value = |name: &str| {
        response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length = if head_only || matches!(response.code, Some(204 | 304)) {
        Some(head)
    } else if let Some(length) = value("content-length") {
        let body: usize = length
            .trim()
            .parse()
            .ok()
            .filter(|length| *length <= MAX_REPLY)
            .ok_or("its content-length is no length, or too long")?;
        (reply.len() >= head + body).then_some(head + body)
    } else if value("transfer-encoding").is_some() {
        reply[head..].ends_with(b"0\r\n\r\n").then_some(reply.len())
    } else {
        return Err("its reply has no length, so connections cannot be reused".to_owned());
    };
    let closes = value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(length.map(|length| Shape { head, length, status_line: "HTTP/1.1 200".len(), closes }))
}

/// The length of a reply that announces the end of the connection, of which `filled` bytes have arrived.
/// The announcement makes its head, and its length, differ from the probe's.
///
/// # Errors
/// When the rest does not come, or it is another kind of reply.
pub(super) async fn last_reply(
    stream: &mut TcpStream,
    exchange: &Exchange,
    reply: &mut [u8],
    mut filled: usize,
) -> Result<usize, CallError> {
    let ended = || CallError::broken("the server closed the connection");
    let other = || CallError::wrong("the reply is not the one of the probe");
    if exchange.head_len.is_none() {
        return Err(if filled < exchange.reply_len { ended() } else { other() });
    }
    loop {
        let so_far = &reply[..filled];
        let begins = exchange.reply_start.len().min(filled);
        if so_far[..begins] != exchange.reply_start[..begins] {
            return Err(other());
        }
        match shape_of(so_far, exchange.head_only) {
            Ok(Some(shape)) if shape.length == filled && shape.closes => return Ok(filled),
            Ok(None) if filled < reply.len() => {}
            Ok(_) | Err(_) => return Err(other()),
        }
        match stream.read(&mut reply[filled..]).await.map_err(CallError::broken)? {
            0 => return Err(ended()),
            read => filled += read,
        }
    }
}
