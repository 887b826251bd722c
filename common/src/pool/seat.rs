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
}

impl<M: Manager> Seat<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inside { waker: None, given: None, left: false })))
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

    /// Takes what was given; else `waker` is woken when it is.
    #[inline]
    pub(super) fn take_or_wait(&self, waker: Waker) -> Option<Step<'static, M>> {
        let mut inside = self.lock();
        let given = inside.given.take();
        let unused = if given.is_none() { inside.waker.replace(waker) } else { Some(waker) };
        drop(inside);
        drop(unused);
        given
    }

    /// As [`take_or_wait`](Seat::take_or_wait), for one who may have said already whom to wake.
    #[inline]
    pub(super) fn look(&self, context: &Context<'_>) -> Option<Step<'static, M>> {
        let mut inside = self.lock();
        let given = inside.given.take();
        let is_known = inside.waker.as_ref().is_some_and(|known| known.will_wake(context.waker()));
        drop(inside);
        if given.is_some() || is_known {
            return given;
        }
        // Cloned without the lock, as it may run anything.
        self.take_or_wait(context.waker().clone())
    }

    /// The waiter leaves; returns what it was given and has not taken.
    pub(super) fn leave(&self) -> Option<Step<'static, M>> {
        let mut inside = self.lock();
        inside.left = true;
        let (given, unused) = (inside.given.take(), inside.waker.take());
        drop(inside);
        drop(unused);
        given
    }

    /// The waiter is to look how things are.
    pub(super) fn waker(&self) -> Option<Waker> {
        self.lock().waker.take()
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
