//! The control connection: JSON lines over TCP, on which a client starts runs and reads counts.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LinesCodec};

use super::oracle::{Counters, Oracle};
use crate::names::Protocol;

/// A longer line ends the control connection.
pub const MAX_LINE: usize = 4096;

/// What a client may ask.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Starts a run on one protocol; answers with its fresh counters.
    Start {
        /// Which protocol.
        protocol: Protocol,
        /// The run that nonces will carry.
        run: u32,
        /// Close every connection after its first reply.
        #[serde(default)]
        close_after: bool,
    },
    /// Asks for the counters of one protocol.
    Counters {
        /// Which protocol.
        protocol: Protocol,
    },
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The counters that were asked for.
    Counters(Counters),
    /// The line was no command.
    Error(String),
}

/// One oracle for each protocol.
#[derive(Debug, Default)]
pub(super) struct Oracles {
    http1: Arc<Oracle>,
    http2: Arc<Oracle>,
    resp: Arc<Oracle>,
    framed: Arc<Oracle>,
}

impl Oracles {
    pub(super) fn of(&self, protocol: Protocol) -> &Arc<Oracle> {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
            Protocol::Resp => &self.resp,
            Protocol::Framed => &self.framed,
        }
    }
}

/// Accepts control connections for ever.
pub(super) async fn serve(listener: TcpListener, oracles: Arc<Oracles>) {
    loop {
        let stream = super::accept(&listener).await;
        let oracles = Arc::clone(&oracles);
        tokio::spawn(async move {
            // An error means that the client is gone.
            drop(answer(stream, &oracles).await);
        });
    }
}

async fn answer(stream: TcpStream, oracles: &Oracles) -> io::Result<()> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let line = line.map_err(io::Error::other)?;
        let answer = match serde_json::from_str(&line) {
            Ok(Command::Start { protocol, run, close_after }) => {
                Answer::Counters(oracles.of(protocol).start(run, close_after))
            }
            Ok(Command::Counters { protocol }) => Answer::Counters(oracles.of(protocol).counters()),
            Err(error) => Answer::Error(error.to_string()),
        };
        let text = serde_json::to_string(&answer).expect("counters are valid JSON");
        lines.send(text).await.map_err(io::Error::other)?;
    }
    Ok(())
}
