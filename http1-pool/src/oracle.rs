//! Differential test: the same bytes for us and for hyper's client.
//!
//! Where both accept, status, headers, body and trailers have to be the same. We may refuse what
//! hyper takes, for the reasons listed in [`stricter_than_hyper`] and no other. We may never
//! accept what hyper refuses, with three exceptions that the messages here do not contain: a folded
//! line in trailers, more than 16 KiB of chunk extensions in a long body (we bound them against the
//! data), and folded header lines without the option that is set here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use std::future::poll_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ProtocolError};
use crate::request::{Payload, RequestHead};

#[derive(Debug, PartialEq)]
struct Outcome {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Answers one request with `bytes`, in the given pieces, and closes.
async fn peer(mut io: impl AsyncRead + AsyncWrite + Unpin, bytes: Vec<u8>, cuts: Vec<usize>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if io.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let mut start = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        // The client may have given up on us.
        if io.write_all(&bytes[start..cut]).await.is_err() {
            return;
        }
        start = cut;
        tokio::task::yield_now().await;
    }
    let _ = io.shutdown().await;
    let _ = io.read_to_end(&mut request).await;
}

async fn ours(method: &Method, bytes: &[u8], cuts: &[usize]) -> Result<Outcome, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stream, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let peer = tokio::spawn(peer(accepted.unwrap().0, bytes.to_vec(), cuts.to_vec()));
    let request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
    let parts = request.into_parts().0;
    let mut payload = Payload::None;
    let (head, key) =
        RequestHead::new(&parts, &mut payload, &pool_common::connect::Connector::default())
            .unwrap();
    let mut connection = Connection::new(stream.unwrap().into(), key, Arc::new(Config::default()));
    connection.begin(head, &mut payload).map_err(|failure| failure.error)?;
    let head = poll_fn(|cx| connection.poll_response(cx)).await.map_err(|failure| failure.error)?;
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = poll_fn(|cx| connection.poll_body(cx)).await {
        match frame?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    drop(connection);
    peer.await.unwrap();
    let (status, version, headers) = (head.status, head.version, head.headers);
    Ok(Outcome { status, version, headers, body, trailers })
}

async fn hypers(method: &Method, bytes: &[u8]) -> Result<Outcome, hyper::Error> {
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(peer(far, bytes.to_vec(), Vec::new()));
    // Off by default in hyper. This crate always does what RFC 9112 section 5.2 asks of a user agent.
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(near))
        .await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri("/").header("host", "a");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    Ok(Outcome {
        status: parts.status,
        version: parts.version,
        headers: parts.headers,
        body: body.to_bytes().to_vec(),
        trailers,
    })
}

/// Errors for messages that hyper accepts, with the reasons.
fn stricter_than_hyper(error: &Error) -> bool {
    let Error::Protocol { source: error, .. } = error else {
        return false;
    };
    matches!(
        error,
        // RFC 9112 section 2.2 allows to take a bare LF for a line end; a proxy that does not
        // would see another message.
        ProtocolError::BareLineFeed
        // Section 6.3: "ought to be handled as an error". Hyper ignores the length.
        | ProtocolError::LengthAndTransferEncoding
        // Codings that the request did not ask for. Hyper hands out the coded bytes, or reads until close.
        | ProtocolError::TransferEncoding
        // Hyper does not look at the lengths of bodiless answers.
        | ProtocolError::ContentLength
        // Hyper lets any byte but CR and LF be a chunk extension.
        | ProtocolError::InvalidChunkSize
        // Hyper hands the connection over as an upgrade, asked for or not.
        | ProtocolError::UnaskedUpgrade
    )
}

fn compare(method: &Method, bytes: &[u8], cuts: &[usize]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let theirs = hypers(method, bytes).await;
        let ours = ours(method, bytes, cuts).await;
        let shown = bytes.escape_ascii();
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{method}: {shown}"),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(theirs)) => panic!(
                "{method}: we accept what hyper refuses: {shown}\nwe: {ours:?}\nhyper: {theirs:?}"
            ),
            (Err(error), Ok(theirs)) => assert!(
                stricter_than_hyper(&error),
                "{method}: hyper accepts, we say {error}: {shown}\nhyper: {theirs:?}"
            ),
        }
    });
}

/// A response that is valid, or nearly.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let interim = prop::sample::select(vec![
        "",
        "",
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 \r\n\r\n",
    ]);
    let version =
        prop::sample::select(vec!["1.1", "1.1", "1.1", "1.1", "1.1", "1.0", "1.0", "2.0"]);
    let status = prop::sample::select(vec![
        "200 OK",
        "200 OK",
        "200 OK",
        "204 No Content",
        "304 Not Modified",
        "404 ",
        "500",
        "203 \t x",
        "101 Switching Protocols",
        "099 x",
        "2000 y",
    ]);
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            "content-type: text/plain",
            "X-Empty:",
            "x-odd:  two  spaces \t",
            "x-bytes: \u{e4}\u{f6}",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "connection: close",
            "Connection: keep-alive",
            "content-length: 5",
            "content-length: +5",
            "transfer-encoding: gzip",
            "bad name: 1",
            " folded",
            "x-folded: 1\r\n  2\r\n\t3",
            "x-folded:\r\n 1",
            "x-bare: 1\nx-next: 2",
        ]),
        0..3,
    );
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..4);
    let framing = 0..5_u8;
    let junk = prop::collection::vec(any::<u8>(), 0..4);
    (interim, version, status, fields, chunks, framing, junk).prop_map(
        |(interim, version, status, fields, chunks, framing, junk)| {
            let mut out = format!("{interim}HTTP/{version} {status}\r\n").into_bytes();
            for field in fields {
                out.extend(field.as_bytes());
                out.extend(b"\r\n");
            }
            let body = chunks.concat();
            match framing {
                0 | 1 => {
                    out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                    out.extend(body);
                }
                2 | 3 => {
                    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    for (index, chunk) in chunks.iter().enumerate() {
                        let extension = [";a=b", "", ";x=\"y z\"", " "][index % 4];
                        out.extend(format!("{:X}{extension}\r\n", chunk.len()).into_bytes());
                        out.extend(chunk);
                        out.extend(b"\r\n");
                    }
                    out.extend(
                        if framing == 2 { "0\r\n\r\n" } else { "0\r\nt: v\r\n\r\n" }.bytes(),
                    );
                }
                _ => {
                    out.extend(b"\r\n");
                    out.extend(body);
                }
            }
            out.extend(junk);
            out
        },
    )
}

#[derive(Clone, Debug)]
enum Damage {
    None,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let byte = || prop::sample::select(&b"\r\n \t:;0159afx,+-\0\xff"[..]);
    prop_oneof![
        3 => Just(Damage::None),
        1 => (index(), byte()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        1 => index().prop_map(Damage::Cut),
        1 => (index(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => index().prop_map(Damage::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn same_answer_as_hyper_or_stricter(
        mut bytes in message(),
        damage in damage(),
        head in prop::bool::weighted(0.1),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        match damage {
            Damage::None => {}
            Damage::Flip(at, byte) => { let at = at.index(bytes.len()); bytes[at] = byte; }
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len()), byte),
            Damage::Remove(at) => { bytes.remove(at.index(bytes.len())); }
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        compare(if head { &Method::HEAD } else { &Method::GET }, &bytes, &cuts);
    }
}
