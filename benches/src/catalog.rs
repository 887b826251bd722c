//! The contestants by name, and on which protocols each makes sense.

use crate::error::BenchError;
use crate::names::{self, Protocol};

/// What a contestant is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Raw sockets that are open before the turn.
    Limit,
    /// A dial for each request.
    NoPool,
    /// What our own clients do when nothing is chosen, over the project's pool.
    Default,
    /// The profile of this name over the project's pool.
    Profile(&'static str),
}

/// One contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contestant {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it is made of.
    pub kind: Kind,
    /// Where it takes part.
    pub protocols: &'static [Protocol],
    /// One line for people.
    pub about: &'static str,
}

const EXCLUSIVE: &[Protocol] = &[Protocol::Http1, Protocol::Resp, Protocol::Framed];
const EVERYWHERE: &[Protocol] = &Protocol::ALL;
const MULTIPLEXED: &[Protocol] = &[Protocol::Http2];

/// Every contestant, in the order in which tables show them.
pub const CONTESTANTS: [Contestant; 12] = [
    Contestant {
        name: "limit",
        kind: Kind::Limit,
        protocols: EVERYWHERE,
        about: "raw sockets opened in advance, no pool, no parsing (http2: the h2 crate on one connection)",
    },
    Contestant {
        name: "no-pool",
        kind: Kind::NoPool,
        protocols: EVERYWHERE,
        about: "dials a raw socket for each request",
    },
    Contestant {
        name: "default",
        kind: Kind::Default,
        protocols: EVERYWHERE,
        about: "our own default: bounded, newest first, a damped start, a peek, pauses after failures",
    },
    profile(
        "net-http",
        EVERYWHERE,
        "Go net/http Transport: newest first, a dial races a connection that comes back",
    ),
    profile(
        "fasthttp",
        EXCLUSIVE,
        "fasthttp HostClient: bounded, swept, retries idempotent requests",
    ),
    profile(
        "redigo",
        EXCLUSIVE,
        "redigo Pool: newest first, the caller dials, fails at the limit unless told to wait",
    ),
    profile(
        "go-redis",
        EXCLUSIVE,
        "go-redis v9: detached dials, waits PoolTimeout, peeks before lending",
    ),
    profile(
        "database-sql",
        EXCLUSIVE,
        "Go database/sql: newest first, random waiters, an opener for them",
    ),
    profile(
        "silenceper",
        EXCLUSIVE,
        "silenceper/pool: a channel of idle connections, oldest first",
    ),
    profile("thrift", EXCLUSIVE, "Apache Thrift client: one connection, one call at a time"),
    profile(
        "net-http-h2",
        MULTIPLEXED,
        "Go net/http over HTTP/2: first connection with a free stream",
    ),
    profile("grpc", MULTIPLEXED, "gRPC channel: one connection for each address, back-off"),
];

const fn profile(
    name: &'static str,
    protocols: &'static [Protocol],
    about: &'static str,
) -> Contestant {
    Contestant { name, kind: Kind::Profile(name), protocols, about }
}

impl Contestant {
    /// The contestant of this name.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for any other name.
    pub fn find(name: &str) -> Result<Self, BenchError> {
        CONTESTANTS.into_iter().find(|contestant| contestant.name == name).ok_or_else(|| {
            names::unknown("contestant", name, &CONTESTANTS.map(|contestant| contestant.name))
        })
    }

    /// The profile it runs, if it runs one.
    pub fn profile(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Profile(name) => Some(name),
            Kind::Limit | Kind::NoPool | Kind::Default => None,
        }
    }

    /// What results call its kind.
    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            Kind::Default | Kind::Profile(_) => "ours",
            // `no-pool` is the other end of the scale that `limit` begins.
            Kind::Limit | Kind::NoPool => "limit",
        }
    }
}
