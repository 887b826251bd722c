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
///
/// Its `source` is the manager's own error, so that one can be downcast to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError<E: std::error::Error> {
    /// The manager's `connect` failed. Several waiters may share one failure.
    Failed(Arc<E>),
    /// [`dial_timeout`](crate::Policy::dial_timeout) passed.
    TimedOut(Duration),
    /// The deadline of the caller that dialed in its own task came first, this long after the dial
    /// began, which is longer than dials of the key usually take.
    GivenUp(Duration),
    /// The task that dialed ended early: `connect` panicked, or its runtime shut down.
    Abandoned,
}

impl<E: std::error::Error> fmt::Display for DialError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut(limit) => write!(f, "no connection within dial_timeout, {limit:?}"),
            Self::GivenUp(dialing) => {
                write!(
                    f,
                    "no connection by the caller's deadline, {dialing:?} after the dial began"
                )
            }
            Self::Abandoned => {
                f.write_str("the dial was abandoned (connect panicked, or the runtime shut down)")
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for DialError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::TimedOut(_) | Self::GivenUp(_) | Self::Abandoned => None,
        }
    }
}

impl<E: std::error::Error> Clone for DialError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(source) => Self::Failed(Arc::clone(source)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::GivenUp(dialing) => Self::GivenUp(*dialing),
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
///
/// Nothing of the caller's was sent, so whatever it is, the request can be tried again elsewhere or
/// later. The text says all of it, the dial's failure included; `source` is the manager's own error
/// where a failed dial is the reason.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E: std::error::Error> {
    /// The pool is closed.
    Closed,
    /// [`acquire_timeout`](crate::Policy::acquire_timeout) passed. In [`Stage::Queue`] with all
    /// connections leased: too few for the load, borrowers that keep them for long, or a leak
    /// ([`leak_detection`](crate::Builder::leak_detection) finds it).
    Timeout {
        /// The stage it was in.
        stage: Stage,
        /// How long the acquire had taken, all stages together.
        waited: Duration,
        /// What the pool was doing, over all keys; this caller no longer waits in it.
        status: Status,
        /// The last dial of this key that failed since one succeeded, if any.
        last_dial_error: Option<DialError<E>>,
    },
    /// The dial this acquire depended on failed.
    Dial {
        /// Why.
        source: DialError<E>,
    },
    /// Every connection is in use, and the policy says to fail
    /// ([`AtLimit::Fail`](crate::policy::AtLimit::Fail)).
    Exhausted {
        /// What the pool was doing.
        status: Status,
    },
    /// [`max_waiters`](crate::Policy::max_waiters) callers wait already.
    TooManyWaiters {
        /// The bound.
        limit: u32,
        /// What the pool was doing.
        status: Status,
    },
    /// Dials have failed, and none is tried until the pause is over. Acquires wait through it with
    /// [`wait_for_ready`](crate::Policy::wait_for_ready).
    BackingOff {
        /// How long the pause still lasts.
        retry_in: Duration,
        /// The last failure.
        last: DialError<E>,
    },
}

/// A duration as people read it: whole milliseconds, where there are any.
pub(crate) fn legible(duration: Duration) -> Duration {
    let rounded = duration.saturating_add(Duration::from_micros(500));
    let millis = Duration::new(rounded.as_secs(), rounded.subsec_millis() * 1_000_000);
    if millis.is_zero() { duration } else { millis }
}

impl<E: std::error::Error> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pool is closed"),
            Self::Timeout { stage, waited, status, last_dial_error } => {
                let waited = legible(*waited);
                write!(f, "no connection within {waited:?}, the time was up while {stage}; ")?;
                write!(f, "{status}")?;
                match last_dial_error {
                    Some(error) => write!(f, "; the last dial failed: {error}"),
                    None => Ok(()),
                }
            }
            Self::Dial { source } => write!(f, "could not connect: {source}"),
            Self::Exhausted { status } => write!(
                f,
                "all connections are in use and the policy is to fail at the limit; {status}"
            ),
            Self::TooManyWaiters { limit, status } => {
                write!(f, "as many callers wait already as max_waiters allows, {limit}; {status}")
            }
            Self::BackingOff { retry_in, last } => {
                let retry_in = legible(*retry_in);
                write!(f, "dials are paused for {retry_in:?} more after failures; the last: {last}")
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The text says the dial error's own; a chain that repeated it would say it thrice.
            Self::Dial { source: error } | Self::BackingOff { last: error, .. } => error.source(),
            Self::Timeout { last_dial_error, .. } => last_dial_error.as_ref()?.source(),
            Self::Closed | Self::Exhausted { .. } | Self::TooManyWaiters { .. } => None,
        }
    }
}

impl<E: std::error::Error> Error<E> {
    /// The failed dial behind it: of [`Dial`](Error::Dial), [`BackingOff`](Error::BackingOff) and,
    /// where one failed meanwhile, [`Timeout`](Error::Timeout).
    pub fn dial_error(&self) -> Option<&DialError<E>> {
        match self {
            Self::Dial { source: error } | Self::BackingOff { last: error, .. } => Some(error),
            Self::Timeout { last_dial_error, .. } => last_dial_error.as_ref(),
            Self::Closed | Self::Exhausted { .. } | Self::TooManyWaiters { .. } => None,
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
