//! What all contestants over the project's pool have in common.

use std::error::Error as StdError;

use pool_common::{Error, Manager, Pool, Status};

use super::{CallError, Counts, PoolStatus};

/// Why an acquire failed, sorted as the tables have it.
pub(super) fn acquire_failed<E: StdError + 'static>(error: Error<E>) -> CallError {
    let text = error.to_string();
    match error {
        Error::Exhausted { .. } | Error::TooManyWaiters { .. } | Error::BackingOff { .. } => {
            CallError::Refused(text)
        }
        error if error.is_timeout() => CallError::Timeout(text),
        _ => CallError::Failed(text),
    }
}

/// What the pool counted.
pub(super) fn counts<M: Manager>(pool: &Pool<M>) -> Counts {
    let stats = pool.stats();
    Counts { opened: Some(stats.opened), waits: Some(stats.waited) }
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
        waiting: status.waiting,
    }
}
