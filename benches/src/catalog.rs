//! The contestants by name, and the protocols of each.

use crate::contestants::Facts;
use crate::error::BenchError;
use crate::names::{self, Protocol};

/// The kind of a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Raw sockets that are open before the turn.
    Limit,
    /// A dial for each request.
    NoPool,
    /// The default policy of our own clients, over the project's pool.
    Default,
    /// The profile of this name over the project's pool.
    Profile(&'static str),
    /// The rival of this name: another client, built with the cargo feature `peers`.
    Peer(&'static str),
}

/// One contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contestant {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The protocols on which it takes part.
    pub protocols: &'static [Protocol],
    /// A description in one line.
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
        about: "raw sockets opened in advance, no pool, no parsing (http2: the h2 crate on 1, 2 and 4 connections)",
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

const HTTP: &[Protocol] = &[Protocol::Http1, Protocol::Http2];
const RESP: &[Protocol] = &[Protocol::Resp];

/// The rivals, in the order in which tables show them. Their names are known without the cargo feature
/// `peers`, so that the error for such a name can tell how to build the rival.
pub const PEERS: [Contestant; 9] = [
    peer("hyper-util", HTTP, "hyper-util's legacy client: keeps idle connections, no limit"),
    peer("reqwest", HTTP, "reqwest's client, over hyper-util"),
    peer("tonic", MULTIPLEXED, "tonic's Channel as a service of HTTP requests: one connection"),
    peer("redis-rs", RESP, "redis-rs: one MultiplexedConnection, never dialed again"),
    peer("redis-rs-manager", RESP, "redis-rs: one ConnectionManager, dials again with pauses"),
    peer("bb8-redis", RESP, "bb8 over redis-rs: a PING before every lease"),
    peer("deadpool-redis", RESP, "deadpool over redis-rs: UNWATCH and PING before every lease"),
    peer("fred", RESP, "fred: a fixed number of multiplexed clients, used in turn"),
    peer("rustis", RESP, "rustis: one multiplexed client, dials again"),
];

const fn peer(
    name: &'static str,
    protocols: &'static [Protocol],
    about: &'static str,
) -> Contestant {
    Contestant { name, kind: Kind::Peer(name), protocols, about }
}

/// The command that builds and runs the rivals.
pub const BUILD_PEERS: &str = "cargo run --release -p poolbench --features peers -- run --peers";

/// Every contestant of this build, the rivals last and only with the cargo feature `peers`.
pub fn contestants() -> impl Iterator<Item = Contestant> {
    let peers = PEERS.into_iter().filter(|_| cfg!(feature = "peers"));
    CONTESTANTS.into_iter().chain(peers)
}

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
    /// [`BenchError::Usage`] for any other name, and for a rival that is not part of this build.
    pub fn find(name: &str) -> Result<Self, BenchError> {
        Self::find_among(&contestants().collect::<Vec<_>>(), name)
    }

    /// The contestant of this name in a build with the contestants `built`.
    fn find_among(built: &[Self], name: &str) -> Result<Self, BenchError> {
        if let Some(found) = built.iter().find(|contestant| contestant.name == name) {
            return Ok(*found);
        }
        if PEERS.iter().any(|peer| peer.name == name) {
            return Err(BenchError::usage(format!(
                "contestant '{name}' is not part of this build; build the rivals: {BUILD_PEERS}"
            )));
        }
        let known: Vec<&str> = built.iter().map(|contestant| contestant.name).collect();
        Err(names::unknown("contestant", name, &known))
    }

    /// Whether it is a rival.
    pub fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Peer(_))
    }

    /// What results say about a rival besides its figures; `None` for other contestants.
    pub fn facts(&self) -> Option<&'static Facts> {
        match self.kind {
            Kind::Peer(name) => Facts::of(name),
            _ => None,
        }
    }

    /// The profile it runs, if it runs one.
    pub fn profile(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Profile(name) => Some(name),
            Kind::Limit | Kind::NoPool | Kind::Default | Kind::Peer(_) => None,
        }
    }

    /// What results call its kind.
    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            Kind::Default | Kind::Profile(_) => "ours",
            // `no-pool` is the other end of the scale that `limit` begins.
            Kind::Limit | Kind::NoPool => "limit",
            Kind::Peer(_) => "peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In every build, so that one with the rivals tests it as well.
    #[test]
    fn rival_that_is_not_built_is_bad_usage_that_says_how_to_build_it() {
        let error = Contestant::find_among(&CONTESTANTS, "reqwest").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("-p poolbench --features peers"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
