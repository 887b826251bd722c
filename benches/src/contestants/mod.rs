//! The contestants: ways to get a request to the server and its reply back.
//!
//! `limit` and `no-pool` are the ends of the scale: they send the same bytes over sockets that are open
//! before the turn starts, and over a socket that is dialed for each request. Between them is every
//! profile that fits the protocol, over the project's own pool. With the cargo feature `peers` other
//! clients take part too.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::nonce::Nonce;

mod dispatch;
mod facts;
mod framed;
mod http1;
mod http2;
mod http2_raw;
mod limit;
mod no_pool;
#[cfg(feature = "peers")]
mod peers;
mod pooled;
mod raw;
mod redials;
mod resp;
mod what_answers;
mod writes;

pub use dispatch::{Setup, take_turn};
pub use facts::{Category, Facts};
pub use raw::{COUNTER, Template, WRITE_BODY, probe};
pub use redials::Redials;
pub use writes::{forget_writes, probe_writes};

/// A way to carry out requests, set up for one turn.
pub trait Contestant: Send + Sync + 'static {
    /// What one caller keeps between its requests.
    type Caller: Send + 'static;

    /// Prepares one caller; whatever it opens in advance is not measured.
    ///
    /// # Errors
    /// What went wrong: the contestant cannot take its turn.
    fn caller(&self) -> impl Future<Output = Result<Self::Caller, String>> + Send;

    /// Carries out one request. The driver may drop the future: the caller of the request gave up.
    ///
    /// # Errors
    /// Why there is no reply.
    fn call(
        caller: &mut Self::Caller,
        request: &Request,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send;

    /// What the contestant knows about its connections.
    fn counts(&self) -> Counts {
        Counts::default()
    }

    /// Connections that it opened again outside the measured time.
    fn redials(&self) -> Redials {
        Redials::default()
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

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What the reply must return.
    pub nonce: Nonce,
    /// When the request was handed to the contestant.
    pub started: Instant,
    /// Whether it may run twice.
    pub kind: RequestKind,
}

/// Whether a request may run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// It may: GET, `ECHO`, a frame.
    Read,
    /// It must not: POST, `INCR` of a key that carries the nonce. The server counts how often it ran.
    Write,
}

/// A reply that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Whether it carried the nonce of its request.
    pub echo: Echo,
    /// How long it took to get a connection (or a stream of one), if it was measured.
    pub acquire: Option<Duration>,
    /// When the request really began, if other work came before it.
    pub began: Option<Instant>,
}

impl Reply {
    /// A reply without times.
    pub fn new(echo: Echo) -> Self {
        Self { echo, acquire: None, began: None }
    }

    /// Adds the time that it took to get the connection.
    #[must_use]
    pub fn acquired(self, acquire: Duration) -> Self {
        Self { acquire: Some(acquire), ..self }
    }
}

/// The comparison of the nonce in a reply with that of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// It came back.
    Returned,
    /// Other bytes came back: the reply belongs to another request.
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
pub struct CallError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// Describes what happened.
    pub text: String,
}

/// The kinds of failure that results tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection could be made.
    Dial,
    /// A deadline passed.
    Timeout,
    /// The pool had no room, or pauses after failures, and refused at once.
    Refused,
    /// The connection broke, or the exchange on it failed.
    Broken,
    /// An answer came that does not belong to this request, or has another status.
    Wrong,
}

impl ErrorKind {
    /// All kinds, in the order of [`index`](Self::index).
    pub const ALL: [Self; 5] =
        [Self::Dial, Self::Timeout, Self::Refused, Self::Broken, Self::Wrong];

    /// The word of results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Wrong => "wrong",
        }
    }

    /// The place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }
}

impl CallError {
    /// A failure of this kind, with the text of its source.
    pub fn new(kind: ErrorKind, error: impl std::fmt::Display) -> Self {
        Self { kind, text: error.to_string() }
    }

    /// No connection.
    pub fn dial(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Dial, error)
    }

    /// A failure on a connection.
    pub fn broken(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Broken, error)
    }

    /// An answer to something else.
    pub fn wrong(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Wrong, error)
    }
}

/// What a contestant knows about its own connections; `None` where it cannot know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections opened.
    pub opened: Option<u64>,
    /// Acquires that had to wait.
    pub waits: Option<u64>,
    /// Dials begun, those that failed included.
    pub dials: Option<u64>,
}

/// The gauges of a pool at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// Connections that exist or are being dialed.
    pub open: u32,
    /// Connections without a lease.
    pub idle: u32,
    /// Connections that are in use.
    pub leased: u32,
    /// Connections being dialed.
    pub dialing: u32,
    /// Connections that take no new requests and wait for the end of those they carry.
    pub draining: u32,
    /// Callers that wait.
    pub waiting: u32,
}
