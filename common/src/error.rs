//! Errors of a pool. Each names the stage in which an acquire failed, and the load of the pool then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::stats::Status;

/// A policy that cannot work: one field has an impossible value, or two fields contradict each other.
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
/// Its `source` is the manager's own error, so that a caller can downcast to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError<E: std::error::Error> {
    /// The manager's `connect` failed. Several waiters may share one failure.
    Failed(Arc<E>),
    /// [`dial_timeout`](crate::Policy::dial_timeout) passed.
    TimedOut(Duration),
    /// The caller dialed in its own task, and its deadline passed this long after the dial began. That
    /// is longer than dials of the key usually take.
    GivenUp(Duration),
    /// The task that dialed ended early: `connect` panicked, or its runtime shut down.
    Abandoned,
    /// The connection reported that it is [broken](crate::Notifier::broken) before its `connect` had
    /// returned, so it was not lent.
    Broken,
}

impl<E: std::error::Error> fmt::Display for DialError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut(limit) => write!(f, "the dial took too long (limit {limit:?})"),
            Self::GivenUp(dialing) => write!(
                f,
                "the caller's deadline passed during a dial that took longer than usual (after {dialing:?})"
            ),
            Self::Abandoned => {
                f.write_str("the dial was abandoned (connect panicked, or the runtime shut down)")
            }
            Self::Broken => f.write_str("the connection broke before its handshake was over"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for DialError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::TimedOut(_) | Self::GivenUp(_) | Self::Abandoned | Self::Broken => None,
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
            Self::Broken => Self::Broken,
        }
    }
}

/// The stage of an acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for a connection to come back, for room, or for a background dial.
    Queue,
    /// Dialing in the caller's task.
    Dial,
    /// Checking an idle connection.
    Check,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "waiting for a connection",
            Self::Dial => "dialing",
            Self::Check => "checking an idle connection",
        })
    }
}

/// Why an acquire gave no lease.
///
/// No request was sent yet, so after any of these errors the caller can try the request again, elsewhere
/// or later. The text is complete and includes the failure of a dial; `source` is the manager's own
/// error if a failed dial is the reason. Texts of one kind begin with the same words, up to the first
/// number or key, so that logs can be grouped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E: std::error::Error> {
    /// The pool is closed.
    Closed {
        /// The requested key, as its `Debug` writes it.
        key: Arc<str>,
    },
    /// [`acquire_timeout`](crate::Policy::acquire_timeout) passed, which counts from the first poll. In
    /// [`Stage::Queue`] with all connections leased there are three possible causes: too few connections
    /// for the load, leases held for long, or a leak
    /// ([`leak_detection`](crate::Builder::leak_detection) finds it).
    Timeout {
        /// The requested key, as its `Debug` writes it.
        key: Arc<str>,
        /// The stage in which the acquire was.
        stage: Stage,
        /// The limit: `acquire_timeout`.
        limit: Duration,
        /// How long the acquire had taken, all stages together, to the precision of timers; never less
        /// than the limit.
        waited: Duration,
        /// The state of the pool over all keys, without this caller.
        status: Status,
        /// The last dial of this key that failed since one succeeded, if any.
        last_dial_error: Option<DialError<E>>,
    },
    /// The dial that this acquire depended on failed.
    Dial {
        /// Why the dial failed.
        source: DialError<E>,
    },
    /// Every connection is in use, and the policy has
    /// [`AtLimit::Fail`](crate::policy::AtLimit::Fail).
    Exhausted {
        /// The state of the pool at that moment.
        status: Status,
    },
    /// [`max_waiters`](crate::Policy::max_waiters) callers wait already.
    TooManyWaiters {
        /// The bound.
        limit: u32,
        /// The state of the pool at that moment.
        status: Status,
    },
    /// Dials have failed, and none is tried until a pause is over. With
    /// [`wait_for_ready`](crate::Policy::wait_for_ready) acquires wait until then.
    BackingOff {
        /// The rest of the pause.
        retry_in: Duration,
        /// The last failed dial.
        last: DialError<E>,
    },
}

/// A duration for a reader: in whole milliseconds, unless it is shorter than one.
pub(crate) fn legible(duration: Duration) -> Duration {
    let rounded = duration.saturating_add(Duration::from_micros(500));
    let millis = Duration::new(rounded.as_secs(), rounded.subsec_millis() * 1_000_000);
    if millis.is_zero() { duration } else { millis }
}

impl<E: std::error::Error> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { key } => write!(f, "the pool is closed; key: {key}"),
            Self::Timeout { key, stage, limit, status, last_dial_error, .. } => {
                write!(
                    f,
                    "timed out after {limit:?} while {stage} ({}); key: {key}",
                    Load(status)
                )?;
                match last_dial_error {
                    Some(error) => write!(f, "; the last dial failed: {error}"),
                    None => Ok(()),
                }
            }
            Self::Dial { source } => write!(f, "could not connect: {source}"),
            Self::Exhausted { status } => {
                write!(f, "all connections are in use, and at_limit is fail ({})", Load(status))
            }
            Self::TooManyWaiters { limit, status } => {
                write!(f, "too many callers are waiting (max_waiters = {limit}); {}", Load(status))
            }
            Self::BackingOff { retry_in, last } => {
                let retry_in = legible(*retry_in);
                write!(
                    f,
                    "dials are paused after failures, the last: {last}; next dial in {retry_in:?}"
                )
            }
        }
    }
}

/// The load of the pool in the text of an error: always open, idle and waiting; other counts unless zero.
struct Load<'a>(&'a Status);

impl fmt::Display for Load<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { open, idle, leased, dialing, closing, draining, leases, waiting } = *self.0;
        write!(f, "open {open}, idle {idle}")?;
        let leases = if leases == leased { 0 } else { leases };
        let more = [
            ("dialing", dialing),
            ("closing", closing),
            ("draining", draining),
            ("leases", leases),
        ];
        for (name, count) in more.iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {name} {count}")?;
        }
        write!(f, ", waiting {waiting}")
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Our text contains the text of the dial error, and that contains the text of the manager's
            // error. With the dial error as the source, a printed chain would repeat it three times.
            Self::Dial { source: error } | Self::BackingOff { last: error, .. } => error.source(),
            Self::Timeout { last_dial_error, .. } => last_dial_error.as_ref()?.source(),
            Self::Closed { .. } | Self::Exhausted { .. } | Self::TooManyWaiters { .. } => None,
        }
    }
}

impl<E: std::error::Error> Error<E> {
    /// The failed dial that led to this error: of [`Dial`](Error::Dial), [`BackingOff`](Error::BackingOff)
    /// and, if a dial failed meanwhile, [`Timeout`](Error::Timeout).
    pub fn dial_error(&self) -> Option<&DialError<E>> {
        match self {
            Self::Dial { source: error } | Self::BackingOff { last: error, .. } => Some(error),
            Self::Timeout { last_dial_error, .. } => last_dial_error.as_ref(),
            Self::Closed { .. } | Self::Exhausted { .. } | Self::TooManyWaiters { .. } => None,
        }
    }

    /// Whether a time limit passed, that of the acquire or of the dial.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Dial { source: DialError::TimedOut(_) })
    }

    /// Whether the pool was closed, so that trying again is pointless.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// The stage in which the acquire ended, if it is known.
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
            Self::Closed { key } => Self::Closed { key: Arc::clone(key) },
            Self::Timeout { key, stage, limit, waited, status, last_dial_error } => Self::Timeout {
                key: Arc::clone(key),
                stage: *stage,
                limit: *limit,
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
