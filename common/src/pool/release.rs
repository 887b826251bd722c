//! A lent connection on its way back: it is given to the state, which decides where it goes, and a waiter is woken.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::inner::{Core, Granted, Guard, Held, Inner, Node, StateOf};
use super::leaks::LeaseNumber;
use crate::clock::Timestamp;
use crate::event::CloseCause;
use crate::lending::{Lend, Lending};
use crate::manager::Manager;
use crate::state::{Answer, Fitness, Lent, Released};
use crate::sync::lock::Lock;
use crate::sync::thread_local;
use crate::sync::wait_cell::wake;

/// How many unused nodes of shared connections are kept at most.
const KEPT_NODES: usize = 1024;

/// A lent connection, which counts as leased until it is released, whatever happens before.
pub(crate) struct Slot<M: Manager>(Option<Box<Node<M>>>);

impl<M: Manager> Slot<M> {
    /// A slot for a connection that the state has lent; `node` is for a shared connection.
    #[inline]
    pub(super) fn new(lent: Lent<Held<M>>, node: impl FnOnce() -> Box<Node<M>>) -> Self {
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
        node.since = Default::default();
        Self(Some(node))
    }

    /// Moves the connection into a new slot; `None` after the release.
    pub(super) fn take(&mut self) -> Option<Self> {
        self.0.take().map(|node| Self(Some(node)))
    }

    #[inline]
    pub(super) fn is_released(&self) -> bool {
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
    pub(super) fn inner(&self) -> &Arc<Inner<M>> {
        &self.node().inner
    }

    #[inline]
    pub(super) fn handle(&self) -> &M::Lending {
        self.node().handle.as_ref().expect("the handle is here until the release")
    }

    #[inline]
    pub(super) fn handle_mut(&mut self) -> &mut M::Lending {
        self.node_mut().handle.as_mut().expect("the handle is here until the release")
    }

    /// The manager, and the connection to ask it about.
    #[inline]
    fn parts(&mut self) -> (&M, &mut M::Lending) {
        let Node { inner, handle: Some(handle), .. } = self.node_mut() else {
            unreachable!("a node in use has its handle");
        };
        (&inner.manager, handle)
    }

    #[inline]
    pub(super) fn is_broken(&mut self) -> bool {
        let (manager, handle) = self.parts();
        manager.is_broken(handle)
    }

    #[inline]
    pub(super) fn needs_reset(&mut self) -> bool {
        let (manager, handle) = self.parts();
        manager.needs_reset(handle)
    }

    #[inline]
    pub(super) fn is_stale(&mut self) -> bool {
        let idle_for = Duration::from_nanos(self.node().idle_nanos);
        let (manager, handle) = self.parts();
        manager.is_stale(handle, idle_for)
    }

    /// Gives the connection back; a second time does nothing.
    #[inline]
    pub(super) fn release(&mut self, fitness: Fitness) {
        if let Some(node) = self.0.take() {
            give_back(node, fitness);
        }
    }

    /// Ends a lease that no caller has had, of a connection that was idle.
    pub(super) fn take_back(&mut self) {
        self.undo(|state, lent, now| state.take_back(lent, now));
    }

    /// Ends a look at an idle connection; `gone` is what the look has found.
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

    #[cold]
    #[inline(never)]
    fn release_lost(&mut self) {
        self.release(Fitness::Unfit(CloseCause::Lost));
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

/// What goes back to the state when a lease ends, and what is left of the lease: the node of an exclusive
/// connection goes with the connection.
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
        untrack(&node.inner, lease);
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
        Released::HandedOver(_, lent, cell) => {
            let inner = if core.is_settled() { None } else { core.pool.upgrade() };
            drop(core);
            // It comes straight from another borrower, so there is nothing to peek at. The lease of the
            // waiter takes over the node of this one.
            let lent = Lent { was_idle: false, ..lent };
            let granted = Granted { answer: Answer::Lend(lent), node };
            let given = match cell {
                Some(cell) => cell.give(granted),
                // The waiter's caller panicked before it had a cell.
                None => Err(granted),
            };
            match given {
                Ok(waker) => waker.into_iter().for_each(wake),
                Err(granted) => pass_on(granted),
            }
            finish(lock, following, inner);
        }
    }
}

/// The waiter has left: its connection goes to the next one. The manager is not asked, since no caller
/// has had the connection.
#[cold]
fn pass_on<M: Manager>(Granted { answer, node }: Granted<M>) {
    let Answer::Lend(lent) = answer else { unreachable!("a connection was handed over") };
    Slot::new(lent, || node.expect("a shared connection leaves the node")).release(Fitness::Fit);
}

/// Does what the state asks for.
#[inline(never)]
fn unlock_with_work<M: Manager>(core: Guard<M>) {
    // The connection that came back holds the pool, in the state or on its way out of there.
    if let Some(inner) = core.pool.upgrade() {
        inner.follow_up(core);
    }
}

/// Further work that the wake-up causes is left to this call, so that hand-overs do not nest where a waker
/// runs the task that it wakes. `inner` is there when there was other work.
#[inline]
fn finish<M: Manager>(
    lock: Lock<Core<M>>,
    following: Option<Following>,
    inner: Option<Arc<Inner<M>>>,
) {
    let was_left_work = following.as_ref().is_some_and(Following::was_left_work);
    drop(following);
    if was_left_work || inner.is_some() {
        let mut core = lock.lock();
        if let Some(inner) = core.left_by.take().or(inner) {
            inner.follow_up(core);
        }
    }
}

thread_local! {
    /// The lock of the pool whose work this thread is doing, and whether more work of that pool was left
    /// to that call meanwhile.
    static FOLLOWED: Cell<(*const (), bool)> = const { Cell::new((ptr::null(), false)) };
}

/// Marks that this thread does the work of a pool, until it is dropped.
pub(super) struct Following((*const (), bool));

impl Following {
    /// `None` when a call further up on this thread does the work of this pool already. The work is left
    /// to that call, and the pool in [`left_by`](Core::left_by).
    #[inline]
    pub(super) fn start<M: Manager>(lock: Lock<Core<M>>) -> Option<Self> {
        let pool = lock.address();
        let before = FOLLOWED.get();
        let is_first = before.0 != pool;
        FOLLOWED.set((pool, !is_first));
        // Not `then_some`: its argument would be dropped where it is not needed.
        if is_first { Some(Self(before)) } else { None }
    }

    /// Whether work was left to this call.
    #[inline]
    pub(super) fn was_left_work(&self) -> bool {
        FOLLOWED.get().1
    }
}

impl Drop for Following {
    #[inline]
    fn drop(&mut self) {
        FOLLOWED.set(self.0);
    }
}

impl<M: Manager> Core<M> {
    /// Keeps a node for the next lease. Returns a node that is not needed, to be dropped without the
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

/// A lease has ended, however it ended.
#[cold]
fn untrack<M: Manager>(inner: &Inner<M>, lease: LeaseNumber) {
    let none_is_out = inner.leaks.as_ref().is_some_and(|leaks| leaks.end(lease));
    if none_is_out && inner.is_shut_down() {
        // Nothing is left to watch: the maintenance task ends.
        let keeper = inner.lock().end_of_watch();
        keeper.iter().for_each(|keeper| keeper.notify_one());
    }
}
