//! The record of an exchange.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::legible;
use crate::manager::Manager;
use crate::pool::{AcquireTimes, Lease};
use crate::state::ConnectionId;

/// Extension of a request: the response shall have an [`ExchangeRecord`] among its extensions.
///
/// Default off, as the record costs some allocations and readings of the clock for each response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordExchange;

/// Extension of a response, if the request asked for it with [`RecordExchange`]: how the exchange
/// went, up to the response head.
///
/// As text, one line with all of it: `connection 4294967297 to 127.0.0.1:80, reused, attempts 1,
/// queued 0ns, dialed 0ns, checked 0ns`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeRecord {
    /// The address of the peer that answered: the server, or a proxy on the way to it. `None` when
    /// the connection is not TCP.
    pub peer: Option<SocketAddr>,
    /// The connection that carried the response; the pool's events have the same id.
    pub connection: ConnectionId,
    /// Whether that connection had been lent before.
    pub reused: bool,
    /// How often the request was sent, or was about to be: 1 when it succeeded at once.
    pub attempts: u32,
    /// Time in the pool's queue, waiting for a connection to come back, in all attempts together.
    pub queued: Duration,
    /// Time that was spent waiting for a dial, in all attempts together: of the request's own, or of
    /// one that the pool ran meanwhile and that made the connection. TLS and handshakes are part of
    /// it.
    pub dialed: Duration,
    /// Time of the checks before lending, in all attempts together.
    pub checked: Duration,
}

impl ExchangeRecord {
    /// The record of an exchange on this lease after that many attempts; `times` of all of them. For
    /// protocol crates.
    pub fn new<M: Manager>(
        lease: &Lease<M>,
        peer: Option<SocketAddr>,
        attempts: u32,
        times: AcquireTimes,
    ) -> Self {
        let AcquireTimes { queued, dialed, checked } = times;
        let (connection, reused) = (lease.connection_id(), lease.is_reused());
        Self { peer, connection, reused, attempts, queued, dialed, checked }
    }
}

impl fmt::Display for ExchangeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, connection, reused, attempts, queued, dialed, checked } = self;
        write!(f, "connection {connection}")?;
        peer.map_or(Ok(()), |peer| write!(f, " to {peer}"))?;
        let reused = if *reused { "reused" } else { "new" };
        let [queued, dialed, checked] = [queued, dialed, checked].map(|&time| legible(time));
        write!(f, ", {reused}, attempts {attempts}, queued {queued:?}, dialed {dialed:?}, ")?;
        write!(f, "checked {checked:?}")
    }
}
