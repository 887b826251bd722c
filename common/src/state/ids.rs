//! The names that the state gives to connections, waiters and keys.
//!
//! An id carries the version of its place, so the id of something that is gone never names its successor.

use std::fmt;

use crate::collections::slot_map::{Id, ids};

ids! {
    /// Names one connection from the start of its dial to its end, and no other one ever.
    pub struct ConnectionId;
    /// Names one waiting acquire.
    pub struct WaiterId;
    /// Names the entry of one key, until the pool forgets that key.
    pub(super) struct KeyId;
}

impl ConnectionId {
    /// A number for logs and reports; different for every connection of a pool.
    pub fn as_u64(self) -> u64 {
        u64::from(self.version().get()) << 32 | u64::from(self.index())
    }
}

/// The number that log lines say: [`as_u64`](ConnectionId::as_u64).
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u64().fmt(f)
    }
}
