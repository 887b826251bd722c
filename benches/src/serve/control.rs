//! The control connection: JSON lines over TCP, on which a client starts runs and reads counts.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LinesCodec};

use super::faults::Faults;
use super::oracle::{Counters, Oracle, Series, monotonic_ns};
use crate::fault::Fault;
use crate::names::Protocol;

/// A longer line ends the control connection.
pub const MAX_LINE: usize = 1024 * 1024;

/// The commands that a client sends.
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
    /// Puts a fault in force, or lets it happen at once.
    Inject {
        /// Which protocol.
        protocol: Protocol,
        /// What goes wrong.
        fault: Fault,
    },
    /// Ends a fault.
    Lift {
        /// Which protocol.
        protocol: Protocol,
        /// As [`Answer::Injected`] named it.
        id: u32,
    },
    /// Asks for the time series of a run.
    Series {
        /// Which protocol.
        protocol: Protocol,
    },
    /// Asks for the counters of one protocol.
    Counters {
        /// Which protocol.
        protocol: Protocol,
    },
}

/// The answers of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The counters that were asked for.
    Counters(Counters),
    /// A fault is in force, or no longer.
    Injected {
        /// Its number, to lift it with.
        id: u32,
        /// When, in nanoseconds of the machine's monotonic clock.
        at_ns: u64,
    },
    /// The time series.
    Series(Series),
    /// The line was no command.
    Error(String),
}

/// The oracle and the faults of the server of one protocol.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) oracle: Arc<Oracle>,
    pub(super) faults: Arc<Faults>,
}

/// One desk for each protocol.
#[derive(Debug, Default)]
pub(super) struct Desks {
    http1: Desk,
    http2: Desk,
    resp: Desk,
    framed: Desk,
}

impl Desks {
    pub(super) fn of(&self, protocol: Protocol) -> &Desk {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
            Protocol::Resp => &self.resp,
            Protocol::Framed => &self.framed,
        }
    }
}

/// Accepts control connections forever.
pub(super) async fn serve(listener: TcpListener, desks: Arc<Desks>) {
    loop {
        let stream = super::listener::accept(&listener).await;
        let desks = Arc::clone(&desks);
        tokio::spawn(async move {
            // An error means that the client is gone.
            drop(answer(stream, &desks).await);
        });
    }
}

async fn answer(stream: TcpStream, desks: &Desks) -> io::Result<()> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let line = line.map_err(io::Error::other)?;
        let answer = match serde_json::from_str(&line) {
            Ok(Command::Start { protocol, run, close_after }) => {
                let desk = desks.of(protocol);
                desk.faults.start();
                match desk.faults.settled().await {
                    Ok(()) => Answer::Counters(desk.oracle.start(run, close_after)),
                    Err(error) => Answer::Error(error),
                }
            }
            Ok(Command::Counters { protocol }) => {
                Answer::Counters(desks.of(protocol).oracle.counters())
            }
            Ok(Command::Inject { protocol, fault }) => {
                let faults = &desks.of(protocol).faults;
                match faults.can_play(fault) {
                    Ok(()) => {
                        let id = faults.inject(fault);
                        injected(faults, id).await
                    }
                    Err(error) => Answer::Error(error),
                }
            }
            Ok(Command::Lift { protocol, id }) => {
                let faults = &desks.of(protocol).faults;
                faults.lift(id);
                injected(faults, id).await
            }
            Ok(Command::Series { protocol }) => Answer::Series(desks.of(protocol).oracle.series()),
            Err(error) => Answer::Error(error.to_string()),
        };
        let text = serde_json::to_string(&answer).expect("counters are valid JSON");
        lines.send(text).await.map_err(io::Error::other)?;
    }
    Ok(())
}

/// Answers only once the fault is really in force, or has really ended.
async fn injected(faults: &Faults, id: u32) -> Answer {
    match faults.settled().await {
        Ok(()) => Answer::Injected { id, at_ns: monotonic_ns() },
        Err(error) => Answer::Error(error),
    }
}
