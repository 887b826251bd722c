//! redis-rs, one `ConnectionManager` for all callers: a multiplexed connection that is dialed again
//! when it breaks. As shipped.
//!
//! Settings, and why:
//! - The defaults of the manager: six further tries with exponential pauses from 100 ms on, a reply
//!   within 500 ms, a dial within one second.
//! - Lazy: the manager dials with the first request, so that its dial is inside the turn as for the
//!   others.
//!
//! What would make this rival faster: after a restart, shorter pauses (`set_max_delay`); without faults, a
//! second manager, with callers spread over both.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::super::{CallError, Contestant, Reply, Request};
use super::redis_exchange::{self, exchange};
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "redis-rs-manager",
    category: Category::AsShipped,
    does_not: &[
        "repeat the command that found the connection broken",
        "give a caller a session of its own",
        "open a second connection",
        "check a connection",
    ],
    single: true,
    safety: Safety {
        check: Some(false),
        deadline: Some(true),
        reset: Some(false),
        bounded: Some(true),
    },
};

/// One manager for all callers.
pub(super) struct Rival {
    manager: ConnectionManager,
}

impl Rival {
    pub(super) fn new(target: &Target) -> Result<Self, String> {
        let client = redis_exchange::client(target)?;
        let manager = client.get_connection_manager_lazy(ConnectionManagerConfig::new());
        Ok(Self { manager: manager.map_err(|error| error.to_string())? })
    }
}

impl Contestant for Rival {
    type Caller = ConnectionManager;

    async fn caller(&self) -> Result<ConnectionManager, String> {
        Ok(self.manager.clone())
    }

    async fn call(manager: &mut ConnectionManager, request: &Request) -> Result<Reply, CallError> {
        Ok(Reply::new(exchange(manager, request).await?))
    }
}
