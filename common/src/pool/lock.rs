//! The lock of a pool, which outlives it.
//!
//! What is locked through a reference to an [`Arc`](std::sync::Arc) cannot take that very `Arc` in:
//! the reference lasts until the unlocking. A lease that ends has to leave its hold on the pool
//! somewhere, though, for the next lease to take up, or each would count the pool's references up
//! and down: two atomic operations, on a line of memory that all threads write to. So the lock
//! itself is not counted: it is never freed, and serves the next pool of its kind when its own is
//! gone (decision 10).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::mem;
use std::sync::{LazyLock, PoisonError};
#[cfg(not(shuttle))]
use std::{hint, sync::TryLockError};

use super::inner::Core;
use crate::manager::Manager;
use crate::sync::{Mutex, MutexGuard};

/// What is read and changed with the lock held.
pub(crate) type Guard<M> = MutexGuard<'static, Core<M>>;

/// How often a thread tries a lock that is taken, for about a microsecond, before it waits in the mutex.
/// In the mutex a thread sleeps as soon as another thread does, and a thread that takes the mutex after a
/// sleep sends the next one to sleep (decision 9).
#[cfg(not(shuttle))]
const TRIES: u32 = 100;

/// The lock of one pool at a time.
pub(super) struct Lock<M: Manager>(&'static Mutex<Core<M>>);

impl<M: Manager> Clone for Lock<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Manager> Copy for Lock<M> {}

/// By the type of their pools' managers.
type Locks = HashMap<TypeId, Vec<Box<dyn Any + Send>>>;

/// Those whose pools are gone.
static UNUSED: LazyLock<std::sync::Mutex<Locks>> = LazyLock::new(Default::default);

impl<M: Manager> Lock<M> {
    /// A lock that was used before, or else a new one.
    pub(super) fn new(core: Core<M>) -> Self {
        let lock =
            Self::unused().unwrap_or_else(|| Self(Box::leak(Box::new(Mutex::new(Core::vacant())))));
        *lock.lock() = core;
        lock
    }

    fn unused() -> Option<Self> {
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = unused.get_mut(&TypeId::of::<M>())?.pop()?;
        lock.downcast().ok().map(|lock| Self(*lock))
    }

    /// The pool is gone: what the lock guarded, and the lock for the next.
    pub(super) fn retire(self) -> Core<M> {
        let core = mem::replace(&mut *self.lock(), Core::vacant());
        // A lock of shuttle's belongs to the run of the model it was made in.
        if !cfg!(shuttle) {
            let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
            unused.entry(TypeId::of::<M>()).or_default().push(Box::new(self.0));
        }
        core
    }

    /// Tells it from every other lock.
    #[inline]
    pub(super) fn address(self) -> *const () {
        std::ptr::from_ref(self.0).cast()
    }

    /// Nothing of the user's runs under it but the `Hash`, `Eq`, `Clone` and `Drop` of keys, and
    /// the `Drop` of the last dial error; none of them should panic.
    #[cfg(not(shuttle))]
    #[inline]
    pub(super) fn lock(self) -> Guard<M> {
        self.try_lock().unwrap_or_else(|| self.lock_taken())
    }

    /// As the other, with no time to pass.
    #[cfg(shuttle)]
    pub(super) fn lock(self) -> Guard<M> {
        self.0.lock().unwrap_or_else(|poisoned| self.heal(poisoned))
    }

    #[cfg(not(shuttle))]
    #[inline]
    fn try_lock(self) -> Option<Guard<M>> {
        match self.0.try_lock() {
            Ok(core) => Some(core),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => Some(self.heal(poisoned)),
        }
    }

    /// Another thread has it, most likely for a fraction of a microsecond.
    #[cfg(not(shuttle))]
    #[cold]
    fn lock_taken(self) -> Guard<M> {
        for _ in 0..TRIES {
            hint::spin_loop();
            if let Some(core) = self.try_lock() {
                return core;
            }
        }
        self.0.lock().unwrap_or_else(|poisoned| self.heal(poisoned))
    }

    /// Clears the poison of a panic under the lock. The pool is in the state it had at the panic.
    #[cold]
    fn heal(self, poisoned: PoisonError<Guard<M>>) -> Guard<M> {
        self.0.clear_poison();
        poisoned.into_inner()
    }
}
