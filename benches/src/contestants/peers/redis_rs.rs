//! redis-rs, one `MultiplexedConnection` for all callers. As shipped.
//!
//! Settings, and why:
//! - The defaults of the client: a reply has to come within 500 ms, a dial within one second.
//! - The connection is dialed with the first request, so that its dial is inside the turn as for the
//!   others, and shared by cloning, as its documentation says.
//! - RESP2, its default.
//!
//! What would make this rival faster: a second connection, with callers spread over both; RESP3 makes
//! no difference to these commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::Client;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

use super::super::{CallError, Contestant, Counts, Reply, Request};
use super::redis_exchange::{self, dial_failed, exchange};
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "redis-rs",
    category: Category::AsShipped,
    does_not: &[
        "dial again after its connection broke",
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

/// One connection for all callers.
pub(super) struct Rival {
    shared: Arc<Shared>,
}

/// The data with which a caller dials, until one has connected.
pub(super) struct Shared {
    client: Client,
    connection: OnceCell<MultiplexedConnection>,
    dials: AtomicU64,
}

/// One caller, with its handle on the connection once there is one.
pub(super) struct Caller {
    shared: Arc<Shared>,
    connection: Option<MultiplexedConnection>,
}

impl Rival {
    pub(super) fn new(target: &Target) -> Result<Self, String> {
        let client = redis_exchange::client(target)?;
        let (connection, dials) = (OnceCell::new(), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Shared { client, connection, dials }) })
    }
}

impl Shared {
    async fn connection(&self) -> Result<MultiplexedConnection, CallError> {
        let dial = || {
            self.dials.fetch_add(1, Ordering::Relaxed);
            self.client.get_multiplexed_async_connection()
        };
        self.connection.get_or_try_init(dial).await.cloned().map_err(dial_failed)
    }
}

impl Contestant for Rival {
    type Caller = Caller;

    async fn caller(&self) -> Result<Caller, String> {
        Ok(Caller { shared: Arc::clone(&self.shared), connection: None })
    }

    async fn call(caller: &mut Caller, request: &Request) -> Result<Reply, CallError> {
        let connection = match &mut caller.connection {
            Some(connection) => connection,
            none => none.insert(caller.shared.connection().await?),
        };
        Ok(Reply::new(exchange(connection, request).await?))
    }

    fn counts(&self) -> Counts {
        let opened = u64::from(self.shared.connection.initialized());
        let dials = self.shared.dials.load(Ordering::Relaxed);
        Counts { opened: Some(opened), waits: None, dials: Some(dials) }
    }
}
