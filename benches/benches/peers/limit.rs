//! The reference: the cheapest possible pool.
//!
//! A tokio semaphore and a deque behind a mutex: a permit, a lock, a pop; a lock and a push. It has
//! no key, no time limits and no statistics, does not notice a dead connection, and never closes one.
//!
//! It tries to get a permit before it waits for one. Inlining is forced, since nested futures cost it
//! 40 or 60 ns, depending on the build.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Peer;

/// What reports call it.
pub const LIMIT: &str = "limit: semaphore and deque";

/// A semaphore and a deque.
#[derive(Clone)]
pub struct Limit {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<VecDeque<u64>>>,
}

/// A connection of a [`Limit`], given back when dropped.
pub struct LimitLease {
    pool: Limit,
    connection: u64,
    _permit: OwnedSemaphorePermit,
}

impl Limit {
    /// A limit with this many connections.
    pub fn new(connections: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(connections as usize)), idle: Arc::default() }
    }
}

impl LimitLease {
    #[inline(always)]
    fn new(pool: &Limit, permit: OwnedSemaphorePermit) -> Self {
        let connection = pool.idle.lock().expect("never poisoned").pop_back().unwrap_or(0);
        Self { pool: pool.clone(), connection, _permit: permit }
    }
}

impl Peer for Limit {
    type Lease<'pool> = LimitLease;

    /// An idle connection, or a new one; waits while all are leased, in order of arrival.
    ///
    /// The semaphore hands a permit to the next waiter directly, so trying first overtakes no waiter.
    async fn acquire(&mut self) -> LimitLease {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return LimitLease::new(self, permit);
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        LimitLease::new(self, permit)
    }
}

impl Drop for LimitLease {
    // The reference must not depend on the compiler's choice of what to inline.
    #[inline(always)]
    fn drop(&mut self) {
        // The permit goes back after this, with the fields.
        self.pool.idle.lock().expect("never poisoned").push_back(self.connection);
    }
}
