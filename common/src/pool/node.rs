//! Where a connection is kept while it is lent or idle: the node of its lease.

use std::mem::MaybeUninit;
use std::sync::{Arc, PoisonError};

use super::inner::Inner;
use super::leaks::LeaseNumber;
use crate::event::CloseCause;
use crate::lending::{Lend, Lending};
use crate::manager::Manager;
use crate::metrics::Since;
use crate::state::ConnectionId;
use crate::sync::Mutex;

/// How many nodes are made at a time at most: some 8 KiB.
const MOST_AT_A_TIME: usize = 64;

/// A lease without its connection, on the heap, so that a lease is one pointer wherever it is moved. The
/// node of an exclusive connection is made once, and waits in the state with it; nodes of shared
/// connections wait in [`Core`] while they are unused. What is not the connection fills one line of memory.
///
/// A node starts a line, and lies beside those that were made before and after it: see [`NodeRoom`].
#[repr(align(64))]
pub(crate) struct Node<M: Manager> {
    /// Kept between leases, so that no lease has to count it.
    pub(super) inner: Arc<Inner<M>>,
    /// Empty while the node is unused, which that of an exclusive connection never is.
    pub(super) handle: Option<M::Lending>,
    pub(crate) id: ConnectionId,
    pub(crate) idle_nanos: u64,
    pub(crate) reused: bool,
    /// Set when the connection must not be lent again.
    pub(super) verdict: Option<CloseCause>,
    pub(crate) since: Since,
    /// The lease in the table of leases; with leak detection only.
    pub(super) tracked: Option<LeaseNumber>,
}

impl<M: Manager> Node<M> {
    #[cold]
    pub(super) fn new(inner: &Arc<Inner<M>>, handle: Option<M::Lending>) -> Box<Self> {
        let node = Self {
            inner: Arc::clone(inner),
            handle,
            id: ConnectionId::default(),
            idle_nanos: 0,
            reused: false,
            verdict: None,
            since: Since::default(),
            tracked: None,
        };
        Box::write(inner.room.take(), node)
    }
}

/// Memory for the next nodes of a pool, some at a time: as many as there were so far, up to
/// [`MOST_AT_A_TIME`].
///
/// Dials allocate as well. Nodes made one at a time lie in whatever holes those leave, in an order that the
/// processor cannot foresee. With 100,000 idle connections, lent oldest first, a lease and its release then
/// take 2.1 times as long as with one, and 1.25 times so, where most nodes lie at one distance
/// (`cargo bench -p poolbench --bench performance -- flat`).
pub(crate) struct NodeRoom<M: Manager>(Mutex<Rooms<M>>);

struct Rooms<M: Manager> {
    /// The next one last.
    unused: Vec<Box<MaybeUninit<Node<M>>>>,
    /// How many were made so far.
    made: usize,
}

impl<M: Manager> NodeRoom<M> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Rooms { unused: Vec::new(), made: 0 }))
    }

    fn take(&self) -> Box<MaybeUninit<Node<M>>> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.unused.is_empty() {
            let more = rooms.made.clamp(1, MOST_AT_A_TIME);
            rooms.made = rooms.made.saturating_add(more);
            rooms.unused.extend((0..more).map(|_| Box::new_uninit()));
            rooms.unused.reverse();
        }
        rooms.unused.pop().expect("at least one was made")
    }
}

/// A connection that is not lent, as the state keeps it.
pub(crate) enum Held<M: Manager> {
    /// An exclusive connection, in the node of all its leases: lending it moves a pointer.
    Node(Box<Node<M>>),
    /// A handle of a shared connection.
    Handle(<M::Lending as Lending>::Handle),
}

impl<M: Manager> Lend for Held<M> {
    const SHARED: bool = M::Lending::SHARED;

    #[inline]
    fn another(&self) -> Option<Self> {
        match self {
            Self::Node(_) => None,
            Self::Handle(handle) => handle.another().map(Self::Handle),
        }
    }
}

impl<M: Manager> Held<M> {
    /// A connection that was just dialed.
    pub(super) fn new(inner: &Arc<Inner<M>>, handle: M::Lending) -> Self {
        match handle.into_handle() {
            Ok(handle) => Self::Handle(handle),
            Err(connection) => Self::Node(Node::new(inner, Some(connection))),
        }
    }

    pub(super) fn into_handle(self) -> M::Lending {
        match self {
            Self::Node(mut node) => node.handle.take().expect("it is in its node while idle"),
            Self::Handle(handle) => M::Lending::from_handle(handle),
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::lending::{Exclusive, Shared};
    use crate::notifier::Notifier;

    struct Large<L>(std::marker::PhantomData<fn() -> L>);

    impl<L: Lending<Connection = [u64; 100]>> Manager for Large<L> {
        type Key = ();
        type Lending = L;
        type Error = Infallible;

        async fn connect(&self, (): &(), _: Notifier) -> Result<[u64; 100], Infallible> {
            Ok([0; 100])
        }
    }

    #[test]
    fn what_the_state_keeps_of_a_connection_is_small_however_large_that_is() {
        assert_eq!(size_of::<Option<Held<Large<Exclusive<[u64; 100]>>>>>(), 8);
        assert_eq!(size_of::<Option<Held<Large<Shared<[u64; 100]>>>>>(), 16);
    }
}
