//! A lock that outlives what it guards.
//!
//! What is locked through a reference to an [`Arc`](std::sync::Arc) cannot take that very `Arc` in:
//! the reference lasts until the unlocking. A lease that ends has to leave its hold on the pool
//! behind the lock, though, where the next lease takes it up. Otherwise each lease would count the
//! pool's references up and down: two atomic operations, on a line of memory that all threads write
//! to. So the lock itself is not counted: it is never freed, and serves the next pool of its kind
//! when its own is gone (decision 10).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::mem;
use std::sync::{LazyLock, PoisonError};
#[cfg(not(shuttle))]
use std::{hint, sync::TryLockError};

use super::{Mutex, MutexGuard};

/// How often a thread tries a lock that is taken, for about a microsecond, before it waits in the mutex.
/// In the mutex a thread sleeps as soon as another thread does, and a thread that takes the mutex after a
/// sleep sends the next one to sleep (decision 9).
#[cfg(not(shuttle))]
const TRIES: u32 = 100;

/// A lock that guards one value at a time; [`Default`] is what it guards while it is unused.
pub(crate) struct Lock<T: 'static>(&'static Mutex<T>);

impl<T> Clone for Lock<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lock<T> {}

/// Locks by the type of what they guard.
type Locks = HashMap<TypeId, Vec<Box<dyn Any + Send>>>;

static UNUSED: LazyLock<std::sync::Mutex<Locks>> = LazyLock::new(Default::default);

impl<T: Default + Send> Lock<T> {
    /// A lock that was used before, or else a new one.
    pub(crate) fn new(value: T) -> Self {
        let lock =
            Self::unused().unwrap_or_else(|| Self(Box::leak(Box::new(Mutex::new(T::default())))));
        *lock.lock() = value;
        lock
    }

    fn unused() -> Option<Self> {
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = unused.get_mut(&TypeId::of::<T>())?.pop()?;
        lock.downcast().ok().map(|lock| Self(*lock))
    }

    /// Returns what the lock guarded, and keeps the lock for the next value of this type.
    pub(crate) fn retire(self) -> T {
        let value = mem::take(&mut *self.lock());
        // A lock of shuttle's belongs to the run of the model it was made in.
        if !cfg!(shuttle) {
            let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
            unused.entry(TypeId::of::<T>()).or_default().push(Box::new(self.0));
        }
        value
    }
}

impl<T> Lock<T> {
    /// Tells this lock from every other.
    #[inline]
    pub(crate) fn address(self) -> *const () {
        std::ptr::from_ref(self.0).cast()
    }

    #[cfg(not(shuttle))]
    #[inline]
    pub(crate) fn lock(self) -> MutexGuard<'static, T> {
        self.try_lock().unwrap_or_else(|| self.lock_taken())
    }

    /// Under shuttle no time passes between two tries.
    #[cfg(shuttle)]
    pub(crate) fn lock(self) -> MutexGuard<'static, T> {
        self.0.lock().unwrap_or_else(|poisoned| self.heal(poisoned))
    }

    #[cfg(not(shuttle))]
    #[inline]
    fn try_lock(self) -> Option<MutexGuard<'static, T>> {
        match self.0.try_lock() {
            Ok(value) => Some(value),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => Some(self.heal(poisoned)),
        }
    }

    /// Another thread has the lock, most likely for a fraction of a microsecond.
    #[cfg(not(shuttle))]
    #[cold]
    fn lock_taken(self) -> MutexGuard<'static, T> {
        for _ in 0..TRIES {
            hint::spin_loop();
            if let Some(value) = self.try_lock() {
                return value;
            }
        }
        self.0.lock().unwrap_or_else(|poisoned| self.heal(poisoned))
    }

    /// Clears the poison of a panic under the lock. The value is in the state it had at the panic.
    #[cold]
    fn heal(self, poisoned: PoisonError<MutexGuard<'static, T>>) -> MutexGuard<'static, T> {
        self.0.clear_poison();
        poisoned.into_inner()
    }
}
