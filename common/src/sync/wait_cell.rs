//! The cell in which a waiter finds what it was granted, without the pool's lock.
//!
//! The thread that ends a wait takes the grant out of the state and leaves it here, and the waiter
//! finds it here: the waiter takes the pool's lock once, to join the queue, and never again. A cell
//! is used again by the next waiter.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Mutex, MutexGuard};

/// How many unused cells a thread keeps at most.
const KEPT: usize = 256;

/// How many of them are searched for a cell of the right type.
const SEARCHED: usize = 8;

type Unused = RefCell<Vec<Arc<dyn Any + Send + Sync>>>;

#[cfg(not(shuttle))]
std::thread_local! {
    /// Cells whose last waiters left them on this thread, for the next waiters here. The list holds cells
    /// of all pools: a list in each pool would be one more thing that threads take from each other.
    ///
    /// Without it a wait and the hand-over that ends it execute 3 % more instructions (callgrind), and a wait
    /// makes an allocation, which the thread that hands over may have to free.
    static UNUSED: Unused = const { RefCell::new(Vec::new()) };
}

#[cfg(shuttle)]
shuttle::thread_local! {
    static UNUSED: Unused = RefCell::new(Vec::new());
}

/// The cell of one waiter.
pub(crate) struct WaitCell<T>(Mutex<Inside<T>>);

struct Inside<T> {
    /// The waiter's task.
    waker: Option<Waker>,
    /// What was given and not taken yet.
    given: Option<T>,
    /// Whether the waiter has left.
    left: bool,
    /// Whether the waiter was called, and has not looked since.
    called: bool,
}

impl<T: Send + 'static> WaitCell<T> {
    fn new() -> Arc<Self> {
        let inside = Inside { waker: None, given: None, left: false, called: false };
        Arc::new(Self(Mutex::new(inside)))
    }

    /// An unused cell.
    #[inline]
    pub(crate) fn spare() -> Arc<Self> {
        Self::unused().unwrap_or_else(Self::new)
    }

    /// An unused cell of this type that this thread keeps.
    #[inline]
    fn unused() -> Option<Arc<Self>> {
        let taken = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            let mut last = unused.iter().enumerate().rev().take(SEARCHED);
            let (at, _) = last.find(|(_, cell)| cell.is::<Self>())?;
            Some(unused.swap_remove(at))
        });
        taken.ok()??.downcast().ok()
    }

    /// Keeps the cell for the next waiter. Its last waiter has taken what it was given.
    #[inline]
    pub(crate) fn keep(self: Arc<Self>) {
        // A thread that ends keeps no cells.
        let _ = UNUSED.try_with(|unused| {
            let mut unused = unused.borrow_mut();
            if unused.len() == KEPT {
                // The next waiter here is more likely to want a cell of this type.
                unused.pop();
            }
            unused.push(self);
        });
    }
}

impl<T> WaitCell<T> {
    /// No user code runs under this lock.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the waiter the end of its wait, once, and returns the waker of its task. A waiter that has
    /// left does not take it.
    #[inline]
    pub(crate) fn give(&self, end: T) -> Result<Option<Waker>, T> {
        let mut inside = self.lock();
        if inside.left {
            return Err(end);
        }
        inside.given = Some(end);
        Ok(inside.waker.take())
    }

    /// The first look of a waiter: takes what was given. Ready with `None` when the waiter was called.
    /// Otherwise the task is woken when something is given, or when the waiter is called.
    #[inline]
    pub(crate) fn poll_first(&self, context: &Context<'_>) -> Poll<Option<T>> {
        // Cloned and dropped without the lock, as it may run anything.
        let waker = context.waker().clone();
        let mut inside = self.lock();
        let found = inside.find();
        let unused = if found.is_pending() { inside.waker.replace(waker) } else { Some(waker) };
        drop(inside);
        drop(unused);
        found
    }

    /// As [`poll_first`](WaitCell::poll_first), for a waiter whose waker may be here already.
    #[inline]
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut inside = self.lock();
        let found = inside.find();
        let is_known = inside.waker.as_ref().is_some_and(|known| known.will_wake(context.waker()));
        drop(inside);
        if is_known || found.is_ready() { found } else { self.poll_first(context) }
    }

    /// The waiter leaves, and something is on its way to it; returns that if it has arrived. From here
    /// on the thread that brings it passes it on.
    pub(crate) fn leave(&self) -> Option<T> {
        let mut inside = self.lock();
        inside.left = true;
        inside.given.take()
    }

    /// Forgets the waker, and that the waiter was called.
    pub(crate) fn clear(&self) -> Option<Waker> {
        let mut inside = self.lock();
        inside.called = false;
        inside.waker.take()
    }

    /// Calls the waiter: it has to check whether a task still watches its deadline.
    pub(crate) fn call(&self) {
        let mut inside = self.lock();
        inside.called = true;
        let waker = inside.waker.take();
        drop(inside);
        waker.into_iter().for_each(wake);
    }
}

impl<T> Inside<T> {
    #[inline]
    fn find(&mut self) -> Poll<Option<T>> {
        let called = std::mem::take(&mut self.called);
        match self.given.take() {
            Some(given) => Poll::Ready(Some(given)),
            None if called => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Wakes a task. A waker that panics is reported and otherwise ignored: it must not cost other waiters
/// their wake-ups, nor this call its other work.
#[inline]
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        // So may a subscriber.
        let tell = || tracing::error!(target: "pool_common", "the waker of a waiter panicked");
        let _ = catch_unwind(AssertUnwindSafe(tell));
    }
}
