//! The data of a lease. It lives on the heap and is used again, so that a lease is one pointer
//! wherever it is moved, and none of this is copied on the way to the borrower.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::inner::{Core, StateOf};
use super::leaks::LeaseNumber;
use super::lock::{Guard, Lock};
use super::perform::Following;
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lease::Lease;
use crate::lending::{Lend, Lending};
use crate::manager::Manager;
use crate::metrics::Since;
use crate::state::{ConnectionId, Fitness, Lent, Released};

/// How many unused nodes of shared connections are kept at most.
const KEPT_NODES: usize = 1024;

/// The inside of a slot. That of an exclusive connection is made once, and waits in the state with it;
/// those of shared ones wait in [`Core`] when they are unused. Its own part is a line of memory.
pub(crate) struct Node<M: Manager> {
    /// Kept between leases, so that none has to count it.
    inner: Arc<Inner<M>>,
    /// Empty while unused, which that of an exclusive connection never is.
    handle: Option<M::Lending>,
    pub(crate) id: ConnectionId,
    pub(crate) idle_nanos: u64,
    pub(crate) reused: bool,
    /// Set when the connection must not be lent again.
    pub(crate) verdict: Option<CloseCause>,
    pub(crate) since: Since,
    /// Its lease in the table of leases; with leak detection only.
    pub(super) tracked: Option<LeaseNumber>,
}

impl<M: Manager> Node<M> {
    #[cold]
    pub(crate) fn new(inner: &Arc<Inner<M>>, handle: Option<M::Lending>) -> Box<Self> {
        Box::new(Self {
            inner: Arc::clone(inner),
            handle,
            id: ConnectionId::default(),
            idle_nanos: 0,
            reused: false,
            verdict: None,
            since: Since::default(),
            tracked: None,
        })
    }
}

/// A connection that is not lent, as the state keeps it.
pub(crate) enum Held<M: Manager> {
    /// An exclusive one, in the node that all its leases are made of: lending it moves a pointer.
    Node(Box<Node<M>>),
    /// A handle of a shared one.
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

impl<M: Manager> Core<M> {
    /// A node for a lease of a shared connection, if there is one that was used before.
    #[inline]
    pub(super) fn take_node(&mut self) -> Option<Box<Node<M>>> {
        if M::Lending::SHARED { self.nodes.pop() } else { None }
    }

    /// Keeps a node for the next lease. Returns one that is not needed, to be dropped without the
    /// lock: it may hold the last reference to the pool.
    #[inline]
    fn keep_node(&mut self, node: Box<Node<M>>) -> Option<Box<Node<M>>> {
        if self.nodes.len() < KEPT_NODES && !self.state.is_closed() {
            self.nodes.push(node);
            None
        } else {
            Some(node)
        }
    }
}

impl<M: Manager> Inner<M> {
    /// A node for a lease of a shared connection, if there is one that was used before.
    pub(super) fn spare_node(&self) -> Option<Box<Node<M>>> {
        if M::Lending::SHARED { self.lock().take_node() } else { None }
    }

    /// A lease of what was lent.
    pub(super) fn lease(self: &Arc<Self>, lent: Lent<Held<M>>) -> Lease<M> {
        Lease::new(self, self.spare_node(), lent)
    }
}

/// A lent connection: counted out whatever happens before it is released.
pub(crate) struct Slot<M: Manager>(Option<Box<Node<M>>>);

impl<M: Manager> Slot<M> {
    /// What was lent; `node` is for a shared connection.
    #[inline(always)]
    pub(crate) fn new(lent: Lent<Held<M>>, node: impl FnOnce() -> Box<Node<M>>) -> Self {
        let mut node = match lent.handle {
            Held::Node(node) => node,
            Held::Handle(handle) => {
                let mut node = node();
                node.handle = Some(M::Lending::from_handle(handle));
                node
            }
        };
        node.id = lent.id;
        node.idle_nanos = lent.idle_nanos;
        node.reused = lent.reused;
        node.verdict = None;
        node.since = Since::default();
        Self(Some(node))
    }

    /// Moves the rest of the work into a new slot; `None` after a release.
    pub(crate) fn take(&mut self) -> Option<Self> {
        self.0.take().map(|node| Self(Some(node)))
    }

    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn node(&self) -> &Node<M> {
        self.0.as_ref().expect("the connection is here until the release")
    }

    #[inline]
    pub(crate) fn node_mut(&mut self) -> &mut Node<M> {
        self.0.as_mut().expect("the connection is here until the release")
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Arc<Inner<M>> {
        &self.node().inner
    }

    #[inline]
    pub(crate) fn handle(&self) -> &M::Lending {
        self.node().handle.as_ref().expect("the handle is here until the release")
    }

    #[inline]
    pub(crate) fn handle_mut(&mut self) -> &mut M::Lending {
        self.node_mut().handle.as_mut().expect("the handle is here until the release")
    }

    /// The pool and the connection, for what the lease does.
    #[inline]
    fn parts(&mut self) -> (&Inner<M>, &mut M::Lending) {
        let Node { inner, handle: Some(handle), .. } = self.node_mut() else {
            unreachable!("a node in use has its handle");
        };
        (inner, handle)
    }

    #[inline]
    pub(crate) fn is_broken(&mut self) -> bool {
        let (inner, handle) = self.parts();
        inner.manager.is_broken(handle)
    }

    #[inline]
    pub(crate) fn needs_reset(&mut self) -> bool {
        let (inner, handle) = self.parts();
        inner.manager.needs_reset(handle)
    }

    #[inline]
    pub(crate) fn is_stale(&mut self) -> bool {
        let idle_for = Duration::from_nanos(self.node().idle_nanos);
        let (inner, handle) = self.parts();
        inner.manager.is_stale(handle, idle_for)
    }

    /// Tells the state; a second time does nothing.
    #[inline]
    pub(crate) fn release(&mut self, fitness: Fitness) {
        if let Some(node) = self.0.take() {
            give_back(node, fitness);
        }
    }
}

impl<M: Manager> Slot<M> {
    /// Ends a lease that no caller has had, of a connection that was idle.
    pub(crate) fn take_back(&mut self) {
        self.undo(|state, lent, now| state.take_back(lent, now));
    }

    /// Ends a look at an idle connection; `gone` says what was seen.
    pub(super) fn put_back(&mut self, gone: bool) {
        self.undo(|state, lent, now| state.put_back(lent, gone, now));
    }

    fn undo(
        &mut self,
        tell: impl FnOnce(&mut StateOf<M>, Lent<Held<M>>, Timestamp) -> Option<Held<M>>,
    ) {
        let Some(node) = self.0.take() else { return };
        let Node { id, idle_nanos, reused, .. } = *node;
        let inner = Arc::clone(&node.inner);
        let (handle, unused) = put_down(node);
        let Some(handle) = handle else { return };
        let lent = Lent { id, handle, reused, idle_nanos, was_idle: true };
        let leftover = inner.with(|state, now| tell(state, lent, now));
        drop((leftover, unused));
    }
}

/// What goes back to the state of a lease that ends, and what is left of it: the node of an exclusive
/// connection goes with it.
#[inline]
fn put_down<M: Manager>(mut node: Box<Node<M>>) -> (Option<Held<M>>, Option<Box<Node<M>>>) {
    if M::Lending::SHARED {
        let handle = node.handle.take().and_then(|handle| handle.into_handle().ok());
        (handle.map(Held::Handle), Some(node))
    } else {
        (Some(Held::Node(node)), None)
    }
}

#[inline]
fn give_back<M: Manager>(mut node: Box<Node<M>>, fitness: Fitness) {
    node.inner.meter.used(std::mem::take(&mut node.since));
    if let Some(lease) = node.tracked.take() {
        node.inner.untrack(lease);
    }
    let now = node.inner.clock.now();
    let (id, lock) = (node.id, node.inner.lock);
    let (mut held, node) = put_down(node);
    if M::Lending::SHARED {
        // The handle of a shared connection goes first, so that a close which follows holds the
        // last one.
        held = None;
    }
    let mut core = lock.lock();
    let mut following = None;
    let may_hand_over = || {
        following = Following::start(lock);
        following.is_some()
    };
    match core.state.release_or_hand_over(id, held, fitness, now, may_hand_over) {
        Released::Done(leftover) => {
            let unkept = node.and_then(|node| core.keep_node(node));
            if core.is_settled() {
                drop(core);
            } else {
                unlock_with_work(core);
            }
            drop((leftover, unkept));
        }
        Released::HandedOver(_, lent, seat) => {
            let inner = if core.is_settled() { None } else { core.pool.upgrade() };
            drop(core);
            // The lease that begins takes over from the one that ends.
            let lease = Lease::again(lent, node);
            match seat {
                Some(seat) => seat.hand_over(lease),
                // The caller panicked before a waiter was attached.
                None => lease.pass_on(false),
            }
            finish(lock, following, inner);
        }
    }
}

/// Does what the state asks for.
#[inline(never)]
fn unlock_with_work<M: Manager>(core: Guard<M>) {
    // The connection that came back holds it, in the state or on its way out of there.
    if let Some(inner) = core.pool.upgrade() {
        inner.follow_up(core);
    }
}

/// Further work that the wake-up causes is left to this call, so that hand-overs do not nest where a waker
/// runs the task that it wakes. `inner` is there when something else was to be done.
#[inline]
fn finish<M: Manager>(lock: Lock<M>, following: Option<Following>, inner: Option<Arc<Inner<M>>>) {
    let was_left_work = following.as_ref().is_some_and(Following::was_left_work);
    drop(following);
    if was_left_work || inner.is_some() {
        let mut core = lock.lock();
        if let Some(inner) = core.left_by.take().or(inner) {
            inner.follow_up(core);
        }
    }
}

impl<M: Manager> Drop for Slot<M> {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.release_lost();
        }
    }
}

impl<M: Manager> Slot<M> {
    #[cold]
    #[inline(never)]
    fn release_lost(&mut self) {
        self.release(Fitness::Unfit(CloseCause::Lost));
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
