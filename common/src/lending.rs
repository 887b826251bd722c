//! How a connection is lent: moved out (exclusive) or handed out as a handle (shared).
//!
//! This is the smallest difference between an HTTP/1 pool and an HTTP/2 pool. An exclusive
//! connection leaves the idle list when it is lent; a shared one stays there until as many
//! leases are out as it has capacity for. Everything else is the same code.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What the pool keeps for each connection, and what a lease holds.
///
/// Implemented by [`Exclusive`] and [`Shared`]; a [`Manager`](crate::Manager) names one of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is lent",
    label = "not `Exclusive<_>` or `Shared<_>`",
    note = "use `Exclusive<{Self}>` for one borrower at a time, `Shared<{Self}>` for many"
)]
pub trait Lending: Sized + Send + 'static {
    /// The connection inside.
    type Connection: Send + 'static;

    /// Whether several leases of one connection can be out at a time.
    const SHARED: bool;

    /// Wraps a connection that was just dialed.
    fn new(connection: Self::Connection) -> Self;

    /// The connection, to look at.
    fn get(&self) -> &Self::Connection;

    /// Takes what a lease holds out of the pool's slot: the connection itself when exclusive
    /// (the slot is empty afterwards), another handle when shared (the slot keeps its own).
    fn lend(slot: &mut Option<Self>) -> Option<Self>;
}

/// One lease at a time: the lease owns the connection, and gives `&mut` access to it.
pub struct Exclusive<C>(C);

impl<C> Exclusive<C> {
    /// Gives up the wrapper.
    pub fn into_inner(self) -> C {
        self.0
    }
}

impl<C: Send + 'static> Lending for Exclusive<C> {
    type Connection = C;
    const SHARED: bool = false;

    fn new(connection: C) -> Self {
        Self(connection)
    }

    fn get(&self) -> &C {
        &self.0
    }

    #[inline]
    fn lend(slot: &mut Option<Self>) -> Option<Self> {
        slot.take()
    }
}

impl<C> Deref for Exclusive<C> {
    type Target = C;
    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> DerefMut for Exclusive<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: fmt::Debug> fmt::Debug for Exclusive<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Many leases at a time: each lease holds an [`Arc`] of the connection, and gives `&` access.
pub struct Shared<C>(Arc<C>);

impl<C> Shared<C> {
    /// The handle itself, for a task that outlives the lease. The pool does not count it.
    pub fn into_arc(self) -> Arc<C> {
        self.0
    }
}

impl<C: Send + Sync + 'static> Lending for Shared<C> {
    type Connection = C;
    const SHARED: bool = true;

    fn new(connection: C) -> Self {
        Self(Arc::new(connection))
    }

    fn get(&self) -> &C {
        &self.0
    }

    #[inline]
    fn lend(slot: &mut Option<Self>) -> Option<Self> {
        slot.as_ref().map(|handle| Self(Arc::clone(&handle.0)))
    }
}

/// Another handle of the same connection, which the pool does not count: keep the lease for as
/// long as it is used.
impl<C> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Deref for Shared<C> {
    type Target = C;
    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: fmt::Debug> fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
