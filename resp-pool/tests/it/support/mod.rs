//! Scripted peers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use resp_pool::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A request that came: the number of its connection, from 0 on, and its words.
pub struct Asked {
    pub connection: usize,
    pub words: Vec<String>,
}

impl Asked {
    pub fn is(&self, name: &str) -> bool {
        self.words.first().is_some_and(|word| word.eq_ignore_ascii_case(name))
    }
}

/// A peer that sends what `answer` returns; nothing for `None`. Pipelines are answered word for word.
pub async fn peer(answer: impl Fn(&Asked) -> Option<String> + Send + Sync + 'static) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let config = Config { port: listener.local_addr().expect("bound").port(), ..Config::default() };
    let answer = Arc::new(answer);
    let connections = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let connection = connections.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut input = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut input).await {
                    while let Some((words, used)) = request(&input) {
                        input.drain(..used);
                        if let Some(reply) = answer(&Asked { connection, words })
                            && stream.write_all(reply.as_bytes()).await.is_err()
                        {
                            return;
                        }
                    }
                }
            });
        }
    });
    config
}

fn request(input: &[u8]) -> Option<(Vec<String>, usize)> {
    use redis_protocol::resp2::{decode::decode, types::Resp2Frame};
    let (frame, used) = decode(input).ok()??;
    let redis_protocol::resp2::types::OwnedFrame::Array(parts) = frame else { return None };
    let words = parts
        .iter()
        .map(|part| String::from_utf8_lossy(part.as_bytes().unwrap_or_default()).into_owned());
    Some((words.collect(), used))
}

/// The reply to `PING` or `ECHO` with a word, `OK` to everything else.
pub fn honest(asked: &Asked) -> String {
    match &asked.words[..] {
        [name, word] if ["PING", "ECHO"].contains(&&name[..]) => {
            format!("${}\r\n{word}\r\n", word.len())
        }
        _ => "+OK\r\n".to_owned(),
    }
}
