//! deadpool-redis: a pool of redis-rs connections, a lease for each command. As shipped.
//!
//! Settings, and why:
//! - `max_size` is the number of connections of the budget; with its own budget the default, which
//!   depends on the number of processors.
//! - All other settings have their defaults: UNWATCH and PING before a connection is lent again, no deadline
//!   for getting one, its default order. The connections are those of redis-rs, so a reply has to come
//!   within 500 ms.
//!
//! What would make this rival faster: `Manager` always sends UNWATCH and PING, which is a round trip
//! for every command. Another manager could leave the check out, at the risk of lending a broken
//! connection.

use deadpool_redis::{Manager, Pool, PoolError, Runtime, TimeoutType};

use super::super::{CallError, Contestant, ErrorKind, Reply, Request};
use super::redis_exchange::{dial_failed, exchange, info};
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "deadpool-redis",
    category: Category::AsShipped,
    does_not: &[
        "have a deadline for getting a connection unless told to",
        "pause after failed dials",
        "close idle connections",
        "reset a session beyond UNWATCH",
    ],
    single: false,
    safety: Safety {
        check: Some(true),
        deadline: Some(false),
        reset: Some(false),
        bounded: Some(true),
    },
};

/// One pool for all callers.
pub(super) struct Rival {
    pool: Pool,
}

impl Rival {
    pub(super) fn new(target: &Target, connections: Option<usize>) -> Result<Self, String> {
        let manager = Manager::new(info(target)?).map_err(|error| error.to_string())?;
        let mut builder = Pool::builder(manager).runtime(Runtime::Tokio1);
        if let Some(connections) = connections {
            builder = builder.max_size(connections);
        }
        Ok(Self { pool: builder.build().map_err(|error| error.to_string())? })
    }
}

fn get_failed(error: PoolError) -> CallError {
    match error {
        PoolError::Backend(error) => dial_failed(error),
        PoolError::Timeout(TimeoutType::Create) => CallError::dial(error),
        PoolError::Timeout(_) => CallError::new(ErrorKind::Timeout, error),
        error => CallError::broken(error),
    }
}

impl Contestant for Rival {
    type Caller = Pool;

    async fn caller(&self) -> Result<Pool, String> {
        Ok(self.pool.clone())
    }

    async fn call(pool: &mut Pool, request: &Request) -> Result<Reply, CallError> {
        let mut lease = pool.get().await.map_err(get_failed)?;
        let acquire = request.started.elapsed();
        Ok(Reply::new(exchange(&mut lease, request).await?).acquired(acquire))
    }

    async fn close(&self) {
        self.pool.close();
    }
}
