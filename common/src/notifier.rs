//! How a connection reports changes to its pool, from any task, at any time.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use crate::event::CloseCause;
use crate::state::ConnectionId;

/// The reports that a pool gets from its connections.
pub(crate) trait Listener: Send + Sync {
    fn retire(&self, id: ConnectionId, cause: CloseCause);
    fn set_capacity(&self, id: ConnectionId, capacity: u32);
    fn set_idle_limit(&self, id: ConnectionId, limit: Duration);
}

/// Reports changes of one connection to its pool. [`Manager::connect`](crate::Manager::connect) gets one.
///
/// Cheap to clone. It does not keep the pool alive. A report about a connection that has ended, or to a
/// pool that is gone, changes nothing.
#[derive(Clone)]
pub struct Notifier {
    pool: Weak<dyn Listener>,
    id: ConnectionId,
}

impl Notifier {
    pub(crate) fn new(pool: Weak<dyn Listener>, id: ConnectionId) -> Self {
        Self { pool, id }
    }

    /// The connection must not be lent again; its leases go on, and it closes when the last one has
    /// ended (a GOAWAY).
    pub fn retire(&self) {
        self.tell(CloseCause::Retired);
    }

    /// The connection is broken (the socket closed, a protocol error) and must not be lent again. The
    /// holders of its leases are not told; their next use of the connection fails.
    pub fn broken(&self) {
        self.tell(CloseCause::Gone);
    }

    /// From now on the connection serves `capacity` leases at a time. Leases beyond a lowered capacity
    /// go on, and new ones wait; with 0 the connection is not lent until the capacity is raised. Has no
    /// effect on an exclusive connection.
    pub fn set_capacity(&self, capacity: u32) {
        if let Some(pool) = self.pool.upgrade() {
            pool.set_capacity(self.id, capacity);
        }
    }

    /// From now on the connection may be idle, without a lease, for at most `limit`, because its peer
    /// closes idle connections. The policy's [`idle_timeout`](crate::Policy::idle_timeout) applies if it
    /// is shorter. The last call counts; [`Duration::MAX`] removes an earlier limit, zero closes
    /// the connection instead of letting it become idle. Leave a margin for the time to reach the peer:
    /// the connection can be lent until the limit ends.
    ///
    /// Takes the pool's lock. From a lease, [`Lease::set_idle_limit`](crate::Lease::set_idle_limit)
    /// is cheaper.
    pub fn set_idle_limit(&self, limit: Duration) {
        if let Some(pool) = self.pool.upgrade() {
            pool.set_idle_limit(self.id, limit);
        }
    }

    /// The id of the connection.
    pub fn connection_id(&self) -> ConnectionId {
        self.id
    }

    fn tell(&self, cause: CloseCause) {
        if let Some(pool) = self.pool.upgrade() {
            pool.retire(self.id, cause);
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("id", &self.id).finish_non_exhaustive()
    }
}
