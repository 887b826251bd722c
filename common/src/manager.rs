//! What a protocol brings to the pool: how to dial, and what "healthy" and "reset" mean.

use std::fmt;
use std::future::{Future, ready};
use std::hash::Hash;
use std::time::Duration;

use crate::lending::Lending;
use crate::notifier::Notifier;

/// The connection inside a manager's [`Lending`].
pub type Connection<M> = <<M as Manager>::Lending as Lending>::Connection;

/// What a failed dial shows about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialFailure {
    /// The peer could not be reached, or ended the handshake: it may be back at any moment, and the pool
    /// dials again by itself.
    Unreachable,
    /// The peer answered and refused this client, for example because of a wrong password. The
    /// next dial would end the same way, and peers lock accounts that fail to log in too often. So
    /// the pool dials only when a caller asks, until a dial succeeds.
    Denied,
}

/// The protocol's side of a pool.
///
/// Only [`connect`](Manager::connect) has to be written; every other method has a default that
/// suits a connection which is always ready. The pool calls none of them under its lock, bounds
/// each future by the matching timeout of the [`Policy`](crate::Policy), and survives a panic in
/// any of them: the connection is discarded and its slot comes back.
pub trait Manager: Send + Sync + 'static {
    /// What separates connections: everything that shaped one (host, port, TLS settings,
    /// credentials, database). Two requests share connections exactly when their keys are equal.
    /// Its `Debug` appears in log lines, leak reports and errors, so redact secrets there.
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// [`Exclusive<C>`](crate::Exclusive) or [`Shared<C>`](crate::Shared). Lending and returning move a
    /// pointer, whatever the size of a connection.
    type Lending: Lending;

    /// Why a dial, check or reset failed: `std::io::Error`, or another error type.
    /// `Box<dyn Error>` and `anyhow::Error` do not implement [`Error`](std::error::Error), so wrap
    /// them in one that does.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Dials `key` and shakes hands, until the connection is ready for its first request.
    ///
    /// Bounded by `dial_timeout`, and for a caller that dials itself by the deadline of its
    /// acquire. With `notifier` the connection can report later, from any task, that it has to be
    /// retired, is broken, or has another capacity. A report before this has returned counts too.
    ///
    /// # Cancel safety
    /// May be dropped at any await; the drop has to close whatever was opened.
    fn connect(
        &self,
        key: &Self::Key,
        notifier: Notifier,
    ) -> impl Future<Output = Result<Connection<Self>, Self::Error>> + Send
    where
        Self: Sized;

    /// What a failure of [`connect`](Manager::connect) shows about the peer. Must be cheap and not wait.
    /// Default [`DialFailure::Unreachable`].
    fn dial_failure(&self, error: &Self::Error) -> DialFailure {
        let _ = error;
        DialFailure::Unreachable
    }

    /// How many leases one connection serves at a time; asked once, after `connect`. The connection
    /// reports changes through its notifier; a change reported before this call wins over its result.
    /// Default 1. An exclusive connection always serves one.
    fn capacity(&self, connection: &Connection<Self>) -> u32
    where
        Self: Sized,
    {
        let _ = connection;
        1
    }

    /// Whether the connection must not be lent again. Must be cheap and not wait. Asked when a lease
    /// comes back, before and after its reset, and by [`is_stale`](Manager::is_stale). Unread bytes,
    /// an end of stream, or a request still in flight all mean `true`. Default `false`.
    fn is_broken(&self, connection: &mut Self::Lending) -> bool {
        let _ = connection;
        false
    }

    /// Whether an idle connection must not be lent; asked before lending, with
    /// [`Policy::peek`](crate::Policy::peek). Must be cheap and not wait. `idle_for` is how long it has
    /// been idle by the pool's clock. The default clock, [`Clock::coarse`](crate::clock::Clock::coarse),
    /// is exact only to a tick (4 ms on most systems), so `idle_for` can be zero for a connection that was
    /// idle for milliseconds. Do not use it to decide whether the socket has to be asked; a
    /// [`Socket`](crate::connect::Socket) decides that by a precise clock. Default:
    /// [`is_broken`](Manager::is_broken).
    fn is_stale(&self, connection: &mut Self::Lending, idle_for: Duration) -> bool {
        let _ = idle_for;
        self.is_broken(connection)
    }

    /// How often the pool asks [`is_broken`](Manager::is_broken) of each idle connection, between
    /// leases. The pool closes a broken one, so that a peer which has closed its end keeps neither a
    /// socket nor a slot in the limits. With [`peek`](crate::Policy::peek) only: a policy that lends
    /// connections without a look does not look at them between leases either. Asked once, when the
    /// pool is built. The pool's maintenance
    /// task does this while any connection is open, for at most 64 connections in a turn. For
    /// exclusive lending only; a shared connection has its [`Notifier`].
    ///
    /// Default `None`: the pool looks at a connection only when it lends it. The protocols of this
    /// workspace use [`IDLE_LOOK`](crate::connect::IDLE_LOOK). Source: pingora and hyper-util, which keep
    /// a task for each idle connection, and net/http, which keeps a goroutine.
    fn idle_look_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether the session has to be [`reset`](Manager::reset) before the next lease. Must be cheap. Asked
    /// when an unbroken connection comes back. Default `false`.
    fn needs_reset(&self, connection: &Self::Lending) -> bool {
        let _ = connection;
        false
    }

    /// Asks the peer whether the connection still works; `idle_for` is how long it has been idle.
    /// Called before lending when [`Policy::check`](crate::Policy::check) asks for it, never for a
    /// connection that was just dialed. A shared connection can be lent to other callers while it is being
    /// checked. Bounded by `check_timeout`. By default every check passes.
    ///
    /// # Cancel safety
    /// May be dropped at any await; the pool then discards the connection.
    fn check(
        &self,
        connection: &mut Self::Lending,
        idle_for: Duration,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (connection, idle_for);
        ready(Ok(()))
    }

    /// Brings the session back to a neutral state. An error discards the connection. Bounded by
    /// `reset_timeout`. By default this does nothing.
    ///
    /// # Cancel safety
    /// May be dropped at any await; the pool then discards the connection.
    fn reset(
        &self,
        connection: &mut Self::Lending,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        ready(Ok(()))
    }

    /// Closes an open connection, whatever the reason for its end; a shared one when its last lease has
    /// ended. The connection keeps its slot in the pool's limits until this returns or
    /// `close_timeout` has passed.
    ///
    /// **A broken connection comes here too.** Drop it, and do not wait for an answer: with a request
    /// in flight, or a peer that is gone, the answer never comes, and the connection would keep its slot
    /// for all of `close_timeout` while callers wait for room.
    ///
    /// Outside a runtime the connection is dropped instead. By default this drops it.
    ///
    /// # Cancel safety
    /// The future is dropped when `close_timeout` has passed; the drop has to close whatever is still open.
    fn close(&self, connection: Self::Lending) -> impl Future<Output = ()> + Send {
        drop(connection);
        ready(())
    }
}
