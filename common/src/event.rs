//! Events in the lives of connections, as an observer gets them.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::state::ConnectionId;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum CloseCause {
    /// It was idle longer than `idle_timeout`.
    IdleTimeout,
    /// It was older than its lifetime.
    Lifetime,
    /// It was lent `max_uses` times.
    Uses,
    /// The idle list of its key was full.
    IdleLimit,
    /// The idle list of the pool was full and it was idle longest.
    Evicted,
    /// It was closed to make room for a connection of another key, or for a fresh one.
    MakeRoom,
    /// A limit was lowered while the pool ran, and more connections were open than it allows.
    OverLimit,
    /// `is_broken` returned true when it came back.
    Broken,
    /// `is_stale` or `is_broken` returned true while it was idle.
    PeekFailed,
    /// Its check failed or timed out.
    CheckFailed,
    /// It was idle when the check of another connection of its key began; that check failed, and the
    /// policy then closes such connections ([`AfterFailedCheck`](crate::policy::AfterFailedCheck)).
    Suspect,
    /// Its reset failed or timed out.
    ResetFailed,
    /// Its borrower discarded it.
    Discarded,
    /// Its lease ended without giving it back: a panic, a future dropped in its check, or a caller whose
    /// deadline cut the check short.
    Lost,
    /// It retired itself or was retired: GOAWAY, `retire_all`, `retire_all_now`.
    Retired,
    /// It reported that it is broken ([`Notifier::broken`](crate::Notifier::broken)).
    Gone,
    /// Its dial had lost its waiter, and the policy drops such connections.
    Orphan,
    /// The pool was closed.
    PoolClosed,
}

impl CloseCause {
    /// How many causes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every cause.
    pub const ALL: [Self; 18] = [
        Self::IdleTimeout,
        Self::Lifetime,
        Self::Uses,
        Self::IdleLimit,
        Self::Evicted,
        Self::MakeRoom,
        Self::OverLimit,
        Self::Broken,
        Self::PeekFailed,
        Self::CheckFailed,
        Self::Suspect,
        Self::ResetFailed,
        Self::Discarded,
        Self::Lost,
        Self::Retired,
        Self::Gone,
        Self::Orphan,
        Self::PoolClosed,
    ];

    /// The word that reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle-timeout",
            Self::Lifetime => "lifetime",
            Self::Uses => "max-uses",
            Self::IdleLimit => "idle-limit",
            Self::Evicted => "evicted",
            Self::MakeRoom => "make-room",
            Self::OverLimit => "over-limit",
            Self::Broken => "broken",
            Self::PeekFailed => "peek-failed",
            Self::CheckFailed => "check-failed",
            Self::Suspect => "suspect",
            Self::ResetFailed => "reset-failed",
            Self::Discarded => "discarded",
            Self::Lost => "lost",
            Self::Retired => "retired",
            Self::Gone => "gone",
            Self::Orphan => "orphan",
            Self::PoolClosed => "pool-closed",
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An event in the life of one connection. All events with the same `connection` are the life
/// of that connection, in order: a dial, leases and returns, a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<K> {
    /// The time of the event, on the pool's clock.
    pub at: Timestamp,
    /// The key of the connection.
    pub key: K,
    /// The connection. The pool never uses this id for another connection.
    pub connection: ConnectionId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Its dial started.
    Dialing,
    /// Its dial failed, was given up, or was stopped: the end of its life.
    DialFailed,
    /// Its dial succeeded after this long.
    Opened(Duration),
    /// It was lent.
    Leased {
        /// Whether it had been lent before.
        reused: bool,
        /// How long it had been idle; zero when it came directly from a dial or another lease.
        idle_for: Duration,
    },
    /// The check of a connection that was just lent begins. [`Checked`](Self::Checked) follows when
    /// it passes; otherwise the lease comes back, and the connection closes.
    Checking,
    /// The check passed; the caller now has the lease.
    Checked,
    /// A lease of it came back.
    Returned,
    /// It has no lease any more and waits to be lent.
    Idle,
    /// It takes no new leases.
    Retired,
    /// Its close begins, for this cause.
    Closing(CloseCause),
    /// It is closed, and its slot in the limits is free: the end of its life.
    Closed,
}

/// Is told of every event of a pool.
pub trait Observer<K>: Send + Sync + 'static {
    /// Called in the task that caused the event, outside the pool's lock. It must not block: the task
    /// may be the pool's maintenance task, which watches the deadlines of waiters. Events of one
    /// connection may arrive out of order when two tasks race; `at` and the kind give the order.
    fn event(&self, event: &Event<K>);
}

impl<K, F: Fn(&Event<K>) + Send + Sync + 'static> Observer<K> for F {
    fn event(&self, event: &Event<K>) {
        self(event);
    }
}
