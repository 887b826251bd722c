//! How a connection reports changes to its pool, from any task, at any time.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use crate::event::CloseCause;
use crate::state::ConnectionId;

/// What a pool hears from its connections.
pub(crate) trait Listener: Send + Sync {
    fn retire(&self, id: ConnectionId, cause: CloseCause);
    fn set_capacity(&self, id: ConnectionId, capacity: u32);
    fn set_idle_limit(&self, id: ConnectionId, limit: Duration);
}

/// The line from one connection to its pool, given to [`Manager::connect`](crate::Manager::connect).
///
/// Cheap to clone. It does not keep the pool alive; word of a connection that has ended, or to a
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

    /// Lend me no more, I end with the leases that are out (a GOAWAY).
    pub fn retire(&self) {
        self.tell(CloseCause::Retired);
    }

    /// I am gone (the socket closed, a protocol error): lend me no more. Leases that are out find
    /// out by themselves.
    pub fn broken(&self) {
        self.tell(CloseCause::Gone);
    }

    /// From now on I serve `capacity` leases at a time. Leases beyond a lowered capacity stay, new
    /// ones wait; 0 lends nothing until it is raised. Means nothing to an exclusive connection.
    pub fn set_capacity(&self, capacity: u32) {
        if let Some(pool) = self.pool.upgrade() {
            pool.set_capacity(self.id, capacity);
        }
    }

    /// From now on I may be idle, without a lease, for `limit` at most: my peer closes idle
    /// connections. The policy's [`idle_timeout`](crate::Policy::idle_timeout) holds where it is
    /// shorter. The last call counts; [`Duration::MAX`] takes back an earlier limit, zero closes
    /// the connection as soon as it would become idle. Leave a margin for what is under way: a
    /// connection can be lent until its limit ends.
    ///
    /// Takes the pool's lock. From a lease, [`Lease::set_idle_limit`](crate::Lease::set_idle_limit)
    /// is cheaper.
    pub fn set_idle_limit(&self, limit: Duration) {
        if let Some(pool) = self.pool.upgrade() {
            pool.set_idle_limit(self.id, limit);
        }
    }

    /// Which connection this is.
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
