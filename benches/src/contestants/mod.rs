//! The contestants: ways to get a request to the server and its reply back.
//!
//! `limit` and `no-pool` bracket the others: the same bytes over sockets that are open before the
//! turn starts, and over a socket that is dialed for each request. Between them stands every
//! profile that fits the protocol, over the project's own pool.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::nonce::Nonce;

mod dispatch;
mod framed;
mod http1;
mod http2;
mod http2_raw;
mod limit;
mod no_pool;
mod pooled;
mod raw;
mod resp;

pub use dispatch::{Setup, take_turn};
pub use raw::{Template, probe};

/// A way to carry out requests, set up for one turn.
pub trait Contestant: Send + Sync + 'static {
    /// What one caller keeps between its requests.
    type Caller: Send + 'static;

    /// Prepares one caller; whatever it opens in advance is not measured.
    ///
    /// # Errors
    /// What went wrong: the contestant cannot take its turn.
    fn caller(&self) -> impl Future<Output = Result<Self::Caller, String>> + Send;

    /// Carries out one request. `started` is when the caller wanted it.
    ///
    /// # Errors
    /// Why there is no reply.
    fn call(
        caller: &mut Self::Caller,
        nonce: Nonce,
        started: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send;

    /// What the contestant knows about its connections.
    fn counts(&self) -> Counts {
        Counts::default()
    }

    /// How the pool stands now; `None` when there is no pool.
    fn status(&self) -> Option<PoolStatus> {
        None
    }

    /// Closes everything. After it the server must count no open socket.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A reply that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    /// Whether it carried the nonce of its request.
    pub echo: Echo,
    /// How long it took to get a connection (or a stream of one), where that was looked at.
    pub acquire: Option<Duration>,
    /// When the request really began, if something else came before it.
    pub began: Option<Instant>,
}

impl Reply {
    /// A reply of which nothing more is known.
    pub fn new(echo: Echo) -> Self {
        Self { echo, acquire: None, began: None }
    }

    /// And getting the connection took this long.
    #[must_use]
    pub fn acquired(self, acquire: Duration) -> Self {
        Self { acquire: Some(acquire), ..self }
    }
}

/// What became of the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// It came back.
    Returned,
    /// Something else came back: the reply is not this request's.
    Wrong,
    /// The server does not echo.
    NotAsked,
}

impl Echo {
    /// Compares what came back with what was sent, if the server `echoes` at all.
    pub fn check(echoes: bool, nonce: Nonce, returned: &[u8]) -> Self {
        if !echoes {
            Self::NotAsked
        } else if returned == nonce.as_bytes() {
            Self::Returned
        } else {
            Self::Wrong
        }
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// A deadline passed.
    Timeout(String),
    /// The pool had no room, and said so at once.
    Refused(String),
    /// Anything else.
    Failed(String),
}

impl CallError {
    /// A failure in words of its source.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// What happened, for people.
    pub fn text(&self) -> &str {
        let (Self::Timeout(text) | Self::Refused(text) | Self::Failed(text)) = self;
        text
    }
}

/// What a contestant knows about its own connections; `None` where it cannot know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections opened.
    pub opened: Option<u64>,
    /// Acquires that had to wait.
    pub waits: Option<u64>,
}

/// The gauges of a pool at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// Connections that exist or are being dialed.
    pub open: u32,
    /// Connections that nobody uses.
    pub idle: u32,
    /// Connections that are in use.
    pub leased: u32,
    /// Connections being dialed.
    pub dialing: u32,
    /// Callers that wait.
    pub waiting: u32,
}
