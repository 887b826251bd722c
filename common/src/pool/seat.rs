//! The cell in which a waiter is given its grant, without the pool's lock.
//!
//! The thread that ends a wait takes the grant out of the state and leaves it here, and the waiter
//! finds it here: it takes the pool's lock once, to join the queue, and never again. A seat is used again by
//! the next who waits.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Waker};

use super::acquire::Step;
use super::inner::Core;
use super::perform::wake;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::sync::{Mutex, MutexGuard};

/// How many unused seats a thread keeps at most.
const KEPT_SEATS: usize = 256;

/// How many of them are looked at for one of the right kind.
const LOOKED_AT: usize = 8;

type Unused = RefCell<Vec<Arc<dyn Any + Send + Sync>>>;

#[cfg(not(shuttle))]
std::thread_local! {
    /// Seats that the last who had them left on this thread, for the next who wait there. Those of
    /// all pools: the pool's own would be one more thing that its threads take from each other.
    static UNUSED: Unused = const { RefCell::new(Vec::new()) };
}

#[cfg(shuttle)]
shuttle::thread_local! {
    static UNUSED: Unused = RefCell::new(Vec::new());
}

/// The cell of a waiter.
pub(crate) struct Seat<M: Manager>(Mutex<Inside<M>>);

struct Inside<M: Manager> {
    /// Whom to wake.
    waker: Option<Waker>,
    /// What was given and not taken yet.
    given: Option<Step<'static, M>>,
    /// Whether the waiter has left.
    left: bool,
    /// Whether it was called, and has not looked since.
    called: bool,
}

/// What a waiter finds in its seat.
pub(super) enum Looked<M: Manager> {
    Given(Step<'static, M>),
    /// Nothing, but the waiter has to check: the task that watched its deadline may have ended.
    Called,
    Nothing,
}

impl<M: Manager> Seat<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inside { waker: None, given: None, left: false, called: false })))
    }

    /// An unused one.
    #[inline]
    pub(super) fn spare() -> Arc<Self> {
        Self::unused().unwrap_or_else(Self::new)
    }

    /// One of this kind of pool that the thread has left.
    #[inline]
    fn unused() -> Option<Arc<Self>> {
        let taken = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            let mut last = unused.iter().enumerate().rev().take(LOOKED_AT);
            let (at, _) = last.find(|(_, seat)| seat.is::<Self>())?;
            Some(unused.swap_remove(at))
        });
        taken.ok()??.downcast().ok()
    }

    /// Keeps it for the next who waits; the last who had it has taken what it was given.
    #[inline]
    pub(super) fn keep(self: Arc<Self>) {
        // A thread that ends keeps none.
        let _ = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            if unused.len() == KEPT_SEATS {
                // The next who waits here is more likely to want one of this kind.
                unused.pop();
            }
            unused.push(self);
        });
    }

    /// Nothing of the user's runs under it.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inside<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the waiter the end of its wait, once; returns its waker. A waiter that has left does not
    /// take it.
    #[inline]
    pub(super) fn give(&self, step: Step<'static, M>) -> Result<Option<Waker>, Step<'static, M>> {
        let mut inside = self.lock();
        if inside.left {
            return Err(step);
        }
        inside.given = Some(step);
        Ok(inside.waker.take())
    }

    /// Gives it a connection that had another borrower just now.
    #[inline]
    pub(super) fn hand_over(&self, lease: Lease<M>) {
        match self.give(Step::Ready(lease)) {
            Ok(Some(waker)) => wake(waker),
            Ok(None) => {}
            Err(Step::Ready(lease)) => lease.pass_on(false),
            Err(_) => unreachable!("a connection was given"),
        }
    }

    /// Takes what was given; else `waker` is woken when it is, or when the waiter is called.
    #[inline]
    pub(super) fn take_or_wait(&self, waker: Waker) -> Looked<M> {
        let mut inside = self.lock();
        let found = inside.find();
        let unused = match found {
            Looked::Nothing => inside.waker.replace(waker),
            _ => Some(waker),
        };
        drop(inside);
        drop(unused);
        found
    }

    /// As [`take_or_wait`](Seat::take_or_wait), for a waiter whose waker may be here already.
    #[inline]
    pub(super) fn look(&self, context: &Context<'_>) -> Looked<M> {
        let mut inside = self.lock();
        let found = inside.find();
        let is_known = inside.waker.as_ref().is_some_and(|known| known.will_wake(context.waker()));
        drop(inside);
        if is_known || !matches!(found, Looked::Nothing) {
            return found;
        }
        // Cloned without the lock, as it may run anything.
        self.take_or_wait(context.waker().clone())
    }

    /// The waiter leaves, and something is on its way to it; returns that if it has arrived.
    pub(super) fn leave(&self) -> Option<Step<'static, M>> {
        let mut inside = self.lock();
        inside.left = true;
        inside.given.take()
    }

    /// Forgets whom to wake, and that it was called.
    pub(super) fn clear(&self) -> Option<Waker> {
        let mut inside = self.lock();
        inside.called = false;
        inside.waker.take()
    }

    /// The waiter is to look how things are; returns whom to wake.
    pub(super) fn call(&self) -> Option<Waker> {
        let mut inside = self.lock();
        inside.called = true;
        inside.waker.take()
    }
}

impl<M: Manager> Inside<M> {
    #[inline]
    fn find(&mut self) -> Looked<M> {
        let called = std::mem::take(&mut self.called);
        match self.given.take() {
            Some(given) => Looked::Given(given),
            None if called => Looked::Called,
            None => Looked::Nothing,
        }
    }
}

impl<M: Manager> Core<M> {
    /// The seats of all waiters, to tell them to check again.
    pub(super) fn all_seats(&self) -> Vec<Arc<Seat<M>>> {
        self.state.attachments().cloned().collect()
    }
}
