//! Scripted peers, and a listener for log lines.

// Each test file uses its own part of it.
#![allow(dead_code)]

use std::{
    fmt::{Debug, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use resp_pool::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
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

/// Keeps the log lines of this crate at one level, each as its fields in text.
#[derive(Clone)]
pub struct Lines(Level, Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Listens until the guard is dropped, on this thread only.
    pub fn listen(level: Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self(level, Arc::default());
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    pub fn all(&self) -> Vec<String> {
        self.1.lock().expect("no panic").clone()
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == self.0 && metadata.target() == "resp_pool"
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                let _ = write!(self.0, "{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.1.lock().expect("no panic").push(text.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
