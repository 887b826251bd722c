//! Where one who waits is given what it waits for, without the pool's lock.
//!
//! Whoever ends a wait takes the grant out of the state and leaves it here, and the waiter finds it
//! here: it takes the pool's lock once, to join the queue, and never again. A seat is used again by
//! the next who waits.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Waker};

use super::acquire::Step;
use super::inner::Core;
use super::perform::wake;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::state::WaiterId;
use crate::sync::{Mutex, MutexGuard};

/// How many unused seats are kept at most.
const KEPT_SEATS: usize = 1024;

/// The place of one who waits.
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
    /// Nothing, but it is to look how things are: who watched its deadline may not do so any more.
    Called,
    Nothing,
}

impl<M: Manager> Seat<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inside { waker: None, given: None, left: false, called: false })))
    }

    /// Nothing of the user's runs under it.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inside<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the waiter the end of its wait, once; returns whom to wake. One that has left does not
    /// want it any more.
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

    /// As [`take_or_wait`](Seat::take_or_wait), for one who may have said already whom to wake.
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
    /// A seat for a new waiter.
    #[inline]
    pub(super) fn take_seat(&mut self, waiter: WaiterId) -> Arc<Seat<M>> {
        let seat = self.unused_seats.pop().unwrap_or_else(Seat::new);
        self.state.attach(waiter, Arc::clone(&seat));
        seat
    }

    /// Keeps a seat for the next who waits; the last who had it has taken what it was given.
    #[inline]
    pub(super) fn keep_seat(&mut self, seat: Arc<Seat<M>>) {
        if self.unused_seats.len() < KEPT_SEATS {
            self.unused_seats.push(seat);
        }
    }

    /// Those who wait, to be told to look how things are.
    pub(super) fn all_seats(&self) -> Vec<Arc<Seat<M>>> {
        self.state.attachments().cloned().collect()
    }
}
