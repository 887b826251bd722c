//! bb8-redis: a pool of redis-rs connections, a lease for each command. As shipped.
//!
//! Settings, and why:
//! - `max_size` is the number of connections of the budget; with its own budget the default, 10.
//! - All other settings have their defaults: a PING before every lease, 30 seconds to get a connection, dials
//!   that fail are tried again until then, idle connections end after 10 minutes. The connections are
//!   those of redis-rs, so a reply has to come within 500 ms.
//!
//! What would make this rival faster: `test_on_check_out(false)` saves the PING, which is a round trip
//! for every command, and with it the only way in which the pool finds a broken connection.

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::{Pool, RunError};
use redis::RedisError;

use super::super::{CallError, Contestant, Counts, ErrorKind, PoolStatus, Reply, Request};
use super::redis_exchange::{dial_failed, exchange, info};
use super::{Category, Facts};
use crate::policies::Safety;
use crate::target::Target;

pub(super) const FACTS: Facts = Facts {
    name: "bb8-redis",
    category: Category::AsShipped,
    does_not: &[
        "notice a broken connection when it comes back, only at the next lease",
        "reset a session before it is lent again",
        "stop dialing when a caller leaves",
    ],
    single: false,
    safety: Safety {
        check: Some(true),
        deadline: Some(true),
        reset: Some(false),
        bounded: Some(true),
    },
};

/// One pool for all callers.
pub(super) struct Rival {
    pool: Pool<RedisConnectionManager>,
}

impl Rival {
    pub(super) fn new(target: &Target, connections: Option<usize>) -> Result<Self, String> {
        let manager = RedisConnectionManager::new(info(target)?);
        let mut builder = Pool::builder();
        if let Some(connections) = connections {
            builder = builder.max_size(u32::try_from(connections).unwrap_or(u32::MAX));
        }
        Ok(Self { pool: builder.build_unchecked(manager.map_err(|error| error.to_string())?) })
    }
}

fn get_failed(error: RunError<RedisError>) -> CallError {
    match error {
        RunError::User(error) => dial_failed(error),
        error @ RunError::TimedOut => CallError::new(ErrorKind::Timeout, error),
    }
}

impl Contestant for Rival {
    type Caller = Pool<RedisConnectionManager>;

    async fn caller(&self) -> Result<Self::Caller, String> {
        Ok(self.pool.clone())
    }

    async fn call(pool: &mut Self::Caller, request: &Request) -> Result<Reply, CallError> {
        let mut lease = pool.get().await.map_err(get_failed)?;
        let acquire = request.started.elapsed();
        Ok(Reply::new(exchange(&mut *lease, request).await?).acquired(acquire))
    }

    fn counts(&self) -> Counts {
        let counted = self.pool.state().statistics;
        let waits = counted.get_waited + counted.get_timed_out;
        Counts { opened: Some(counted.connections_created), waits: Some(waits), dials: None }
    }

    // The pool counts neither dials nor waiting callers, so there are no gauges.
    fn status(&self) -> Option<PoolStatus> {
        None
    }
}
