//! A peer that follows a script, and a client of it with a single connection.

use std::sync::Arc;

use pool_common::Policy;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};
use resp_pool::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The reaction of a scripted peer to a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers as a server would: `PING` and `ECHO` with their word, the rest with `OK`.
    Honestly,
    /// Answers with these bytes.
    With(Vec<u8>),
    /// Answers with these bytes, then closes.
    AndClose(Vec<u8>),
    /// Answers honestly, then adds these bytes.
    Adding(Vec<u8>),
    /// Says nothing.
    Not,
}

/// A peer that follows `script`: what to do with request number `n` (over all connections).
pub(crate) async fn peer(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let script = Arc::new(script);
    let requests = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
            tokio::spawn(async move {
                let next = || script(requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                let _ = converse(stream, next).await;
            });
        }
    });
    config
}

async fn converse(mut stream: TcpStream, next: impl Fn() -> Act) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    while stream.read_buf(&mut input).await? > 0 {
        while let Ok(Some((request, used))) = redis_protocol::resp2::decode::decode(&input) {
            input.drain(..used);
            let honest = match request {
                OwnedFrame::Array(parts) if parts.len() == 2 => {
                    let word = parts[1].as_bytes().unwrap_or_default();
                    let mut reply = format!("${}\r\n", word.len()).into_bytes();
                    reply.extend_from_slice(word);
                    reply.extend_from_slice(b"\r\n");
                    reply
                }
                _ => b"+OK\r\n".to_vec(),
            };
            match next() {
                Act::Honestly => stream.write_all(&honest).await?,
                Act::With(bytes) => stream.write_all(&bytes).await?,
                Act::AndClose(bytes) => return stream.write_all(&bytes).await,
                Act::Adding(bytes) => stream.write_all(&[honest, bytes].concat()).await?,
                Act::Not => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn one(config: Config) -> Client {
    let policy = Policy { max_open_per_key: Some(1), ..Policy::default() };
    Client::builder().config(config).policy(policy).build().expect("a client")
}
