//! What can go wrong, grouped by whose fault it is, saying the stage and what the pool was doing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::stats::Status;

/// A policy that makes no sense. Says which field, or which two contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", self.fields())]
pub struct InvalidPolicy {
    field: &'static str,
    other: Option<&'static str>,
    reason: &'static str,
}

impl InvalidPolicy {
    pub(crate) fn one(field: &'static str, reason: &'static str) -> Self {
        Self { field, other: None, reason }
    }

    pub(crate) fn pair(field: &'static str, other: &'static str, reason: &'static str) -> Self {
        Self { field, other: Some(other), reason }
    }

    /// The field, or the two fields that contradict each other.
    pub fn names(&self) -> (&'static str, Option<&'static str>) {
        (self.field, self.other)
    }

    fn fields(&self) -> String {
        match self.other {
            Some(other) => format!("{} contradicts {other}", self.field),
            None => self.field.to_owned(),
        }
    }
}

/// Why a dial gave no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError<E: std::error::Error> {
    /// The manager's `connect` failed. Several waiters may share one failure.
    #[error("{0}")]
    Failed(#[source] Arc<E>),
    /// `dial_timeout` passed.
    #[error("no connection within the dial timeout of {0:?}")]
    TimedOut(Duration),
    /// The task that dialed ended early: `connect` panicked, or its runtime shut down.
    #[error("the dial was abandoned (connect panicked, or the runtime shut down)")]
    Abandoned,
}

impl<E: std::error::Error> Clone for DialError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(source) => Self::Failed(Arc::clone(source)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// Where in an acquire the time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for a connection to come back, for room, or for a dial of the pool's own.
    Queue,
    /// Dialing in the caller's task.
    Dial,
    /// Checking an idle connection.
    Check,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "waiting",
            Self::Dial => "dialing",
            Self::Check => "checking an idle connection",
        })
    }
}

/// Why an acquire gave no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: std::error::Error> {
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
    /// `acquire_timeout` passed.
    #[error("no connection within {waited:?}, the time was up while {stage}; {status}{}",
            self.last_dial_words())]
    Timeout {
        /// The stage it was in.
        stage: Stage,
        /// How long the acquire had taken, all stages together.
        waited: Duration,
        /// What the pool was doing.
        status: Status,
        /// The last dial of this key that failed since one succeeded, if any.
        last_dial_error: Option<DialError<E>>,
    },
    /// The dial this acquire depended on failed.
    #[error("could not connect: {source}")]
    Dial {
        /// Why.
        source: DialError<E>,
    },
    /// Every connection is in use, and the policy says to fail (`at_limit=fail`).
    #[error("all connections are in use and the policy is to fail at the limit; {status}")]
    Exhausted {
        /// What the pool was doing.
        status: Status,
    },
    /// `max_waiters` callers wait already.
    #[error("{limit} callers are waiting already, which is max_waiters; {status}")]
    TooManyWaiters {
        /// The bound.
        limit: u32,
        /// What the pool was doing.
        status: Status,
    },
    /// Dials have failed, and none is tried until the pause is over.
    #[error("dials are paused for {retry_in:?} more after failures; the last: {last}")]
    BackingOff {
        /// How long the pause still lasts.
        retry_in: Duration,
        /// The last failure.
        last: DialError<E>,
    },
}

impl<E: std::error::Error> Error<E> {
    fn last_dial_words(&self) -> String {
        match self {
            Self::Timeout { last_dial_error: Some(error), .. } => {
                format!("; the last dial failed: {error}")
            }
            _ => String::new(),
        }
    }

    /// Whether a time limit passed: the acquire's, or the dial's.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Dial { source: DialError::TimedOut(_) })
    }

    /// Whether the pool was closed, so that trying again is pointless.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// The stage in which the acquire ended, where that is known.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Timeout { stage, .. } => Some(*stage),
            Self::Dial { .. } => Some(Stage::Dial),
            _ => None,
        }
    }
}

impl<E: std::error::Error> Clone for Error<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Timeout { stage, waited, status, last_dial_error } => Self::Timeout {
                stage: *stage,
                waited: *waited,
                status: *status,
                last_dial_error: last_dial_error.clone(),
            },
            Self::Dial { source } => Self::Dial { source: source.clone() },
            Self::Exhausted { status } => Self::Exhausted { status: *status },
            Self::TooManyWaiters { limit, status } => {
                Self::TooManyWaiters { limit: *limit, status: *status }
            }
            Self::BackingOff { retry_in, last } => {
                Self::BackingOff { retry_in: *retry_in, last: last.clone() }
            }
        }
    }
}
