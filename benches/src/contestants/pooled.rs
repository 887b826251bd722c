//! Shared code of all contestants over the project's pool.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use pool_common::event::Event;
use pool_common::{Builder, Error, Manager, Policy, Pool, Status};

use super::{CallError, Counts, Echo, ErrorKind, PoolStatus, Reply};
use crate::run::lives::Lives;

/// Classifies a failed acquire for the tables.
pub(super) fn acquire_failed<E: StdError + 'static>(error: Error<E>) -> CallError {
    let text = error.to_string();
    match error {
        Error::Exhausted { .. } | Error::TooManyWaiters { .. } | Error::BackingOff { .. } => {
            CallError::new(ErrorKind::Refused, text)
        }
        // A dial that took too long is a dial that failed.
        Error::Dial { .. } => CallError::dial(text),
        error if error.is_timeout() => CallError::new(ErrorKind::Timeout, text),
        _ => CallError::broken(text),
    }
}

/// The observer of a contestant's pool, if the lives of its connections are recorded.
pub(super) type Listener = Option<Arc<Lives>>;

/// A pool with this policy. Without a listener it is built as a user would build it.
pub(super) fn build<M: Manager>(
    manager: M,
    policy: Policy,
    listener: Listener,
) -> Result<Pool<M>, String> {
    let builder: Builder<M> = Pool::builder(manager).policy(policy);
    let builder = match listener {
        Some(lives) => {
            builder.observer(move |event: &Event<M::Key>| lives.hear(event.connection, event.kind))
        }
        None => builder,
    };
    builder.build().map_err(|error| error.to_string())
}

/// What the pool counted.
pub(super) fn counts<M: Manager>(pool: &Pool<M>) -> Counts {
    let stats = pool.stats();
    Counts { opened: Some(stats.opened), waits: Some(stats.waited), dials: Some(stats.dials) }
}

/// The gauges of the pool.
pub(super) fn status<M: Manager>(pool: &Pool<M>) -> PoolStatus {
    gauges(pool.status())
}

/// The gauges that a timeline shows.
pub(super) fn gauges(status: Status) -> PoolStatus {
    PoolStatus {
        open: status.open,
        idle: status.idle,
        leased: status.leased,
        dialing: status.dialing,
        draining: status.draining,
        waiting: status.waiting,
    }
}

/// One request in this many is preceded by an acquire that is timed.
const SAMPLED: u32 = 64;

/// Times some acquires of a client that acquires by itself, so that its acquires cannot be timed from
/// outside: before some requests it acquires one more connection, and gives it back at once.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    requests: u32,
}

impl Sampler {
    /// A sampler for one of several callers, which take their samples at different times.
    pub(super) fn numbered(callers: &AtomicU32) -> Self {
        Self { requests: callers.fetch_add(7, Ordering::Relaxed) }
    }

    /// Carries out a request, after a sample if one is due. A sample that fails is not recorded.
    pub(super) async fn around<M: Manager>(
        &mut self,
        pool: &Pool<M>,
        key: &M::Key,
        request: impl Future<Output = Result<Echo, CallError>>,
    ) -> Result<Reply, CallError> {
        self.requests = self.requests.wrapping_add(1);
        if !self.requests.is_multiple_of(SAMPLED) {
            return Ok(Reply::new(request.await?));
        }
        let asked = Instant::now();
        let acquire = match pool.acquire(key).await {
            Ok(lease) => {
                let acquire = asked.elapsed();
                drop(lease);
                Some(acquire)
            }
            Err(_) => None,
        };
        let began = Some(Instant::now());
        let echo = request.await?;
        Ok(Reply { echo, acquire, began })
    }
}
