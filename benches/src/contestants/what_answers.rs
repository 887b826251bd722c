//! Finds the protocol of a server that gave no reply in the expected protocol.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::dial;
use crate::names::Protocol;
use crate::target::Target;

/// How long a server may take to reply in a protocol.
const PATIENCE: Duration = Duration::from_secs(1);
/// The preface of HTTP/2 and an empty frame of settings.
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// The type of the first frame of a server, which stands after its length.
const SETTINGS: u8 = 4;

/// The error of a probe, with a remedy if the server speaks another protocol.
pub(super) async fn with_protocol(target: &Target, error: String) -> String {
    let others = [Protocol::Http1, Protocol::Resp, Protocol::Http2];
    for protocol in others.into_iter().filter(|other| *other != target.protocol) {
        let speaks = tokio::time::timeout(PATIENCE, speaks(target, protocol));
        if matches!(speaks.await, Ok(Ok(true))) {
            let Target { authority, path, .. } = target;
            let (own, name) = (words(target.protocol), words(protocol));
            let meant = match protocol {
                Protocol::Http1 => format!("http://{authority}{path}"),
                Protocol::Http2 => format!("h2c://{authority}{path}"),
                Protocol::Resp | Protocol::Framed => format!("redis://{authority}"),
            };
            return format!("it speaks {name} here, and not {own}; try --target {meant}");
        }
    }
    error
}

fn words(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1",
        Protocol::Http2 => "HTTP/2 with prior knowledge",
        Protocol::Resp => "the protocol of Redis",
        Protocol::Framed => "frames",
    }
}

/// Whether the server answers a short request of this protocol in this protocol.
async fn speaks(target: &Target, protocol: Protocol) -> io::Result<bool> {
    let hello = match protocol {
        Protocol::Http1 => {
            format!("HEAD / HTTP/1.1\r\nhost: {}\r\n\r\n", target.authority).into_bytes()
        }
        Protocol::Http2 => HTTP2_HELLO.to_vec(),
        Protocol::Resp => b"PING\r\n".to_vec(),
        Protocol::Framed => return Ok(false),
    };
    let mut stream = dial(target).await?;
    stream.write_all(&hello).await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(match protocol {
        Protocol::Http1 => &answer == b"HTTP/",
        Protocol::Http2 => answer[3] == SETTINGS && answer[..2] == [0, 0],
        // A server that asks for a password first answers with an error.
        Protocol::Resp => answer.starts_with(b"+PONG") || answer.starts_with(b"-"),
        Protocol::Framed => false,
    })
}
