//! What goes in and out of the state: what is wanted, what it answers, and what is to be done.

use super::{ConnectionId, WaiterId};
use crate::clock::Timestamp;
use crate::event::CloseCause;

/// How an acquire wants to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Insists on a connection that was just dialed, where the limits allow one.
    pub fresh: bool,
    /// It was told to try again, so `max_waiters` does not apply to it.
    pub again: bool,
}

/// What the state answers to a caller: at once, to [`State::acquire`](super::State::acquire), or what it
/// grants to a waiter later, by [`State::take_grant`](super::State::take_grant).
#[derive(Debug)]
pub enum Answer<L, E> {
    /// Here is a connection.
    Lend(Lent<L>),
    /// Dial, then say [`State::dialed`](super::State::dialed) or [`State::dial_failed`](super::State::dial_failed).
    Dial(ConnectionId),
    /// Wait for [`Action::Wake`], then collect with [`State::take_grant`](super::State::take_grant). Never
    /// granted to a waiter.
    Wait(WaiterId),
    /// Something changed: acquire again. Only for waiters, as the next two.
    Retry,
    /// The dial that the waiter depended on failed.
    DialFailed(E),
    /// The waiter's deadline passed.
    TimedOut,
    /// Refused.
    Refuse(Refusal<E>),
}

/// A connection on its way out.
#[derive(Debug)]
pub struct Lent<L> {
    /// Which one.
    pub id: ConnectionId,
    /// The connection, or a handle of it.
    pub handle: L,
    /// Whether it had been lent before.
    pub reused: bool,
    /// How long it had been idle, in nanoseconds; zero when it came from a dial or another borrower.
    pub idle_nanos: u64,
    /// Whether it came out of the idle list, so that a peek and a check make sense.
    pub was_idle: bool,
}

/// Why an acquire was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<E> {
    /// The pool is closed.
    Closed,
    /// At the limit, and the policy is to fail.
    Exhausted,
    /// `max_waiters` callers wait already.
    TooManyWaiters {
        /// How many that is: `max_waiters` at that moment.
        limit: u32,
    },
    /// Dials are paused after failures.
    BackingOff {
        /// When the next may start.
        until: Timestamp,
        /// The last failure.
        last: E,
    },
}

/// Work for the shell.
#[derive(Debug)]
pub enum Action<K, L> {
    /// Dial `key` in the background, then say [`State::dialed`](super::State::dialed) or [`State::dial_failed`](super::State::dial_failed).
    Dial {
        /// The connection to be.
        id: ConnectionId,
        /// Where to.
        key: K,
    },
    /// Stop this dial, which serves no caller any more, then say [`State::dial_failed`](super::State::dial_failed) without an error;
    /// or, if it ended meanwhile, what it came to.
    StopDial(ConnectionId),
    /// Wake this waiter: it has a grant.
    Wake(WaiterId),
    /// Close this connection, then say [`State::closed`](super::State::closed).
    Close {
        /// Which one.
        id: ConnectionId,
        /// The pool's own handle of it.
        handle: L,
        /// Why.
        cause: CloseCause,
    },
}

/// What the holder of a lease reports of its connection when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It can be lent again.
    Fit,
    /// It must not be lent again.
    Unfit(CloseCause),
}

/// What became of a connection that came back.
#[derive(Debug)]
pub enum Released<L, W = ()> {
    /// All is done; a handle to drop, outside any lock.
    Done(Option<L>),
    /// It was lent to this waiter, whose wait is over: nothing is left to collect. With it comes what
    /// was [attached](super::State::attach).
    HandedOver(WaiterId, Lent<L>, Option<W>),
}
