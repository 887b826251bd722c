//! How a connection speaks up to its pool, from any task, at any time.

use std::fmt;
use std::sync::Weak;

use crate::event::CloseCause;
use crate::state::ConnectionId;

/// What a pool hears from its connections.
pub(crate) trait Listener: Send + Sync {
    fn retire(&self, id: ConnectionId, cause: CloseCause);
    fn set_capacity(&self, id: ConnectionId, capacity: u32);
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
