//! The locks and thread-local cells of the pool: those of the standard library or, with `--cfg shuttle`,
//! types with the same names on shuttle's scheduler, which tries one order of events after another.
//!
//! Shuttle has to control every operation at which a thread can wait or be interrupted, so the pool takes
//! these types from here.

pub(crate) mod lock;
pub(crate) mod wait_cell;

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard},
    thread_local,
};

#[cfg(shuttle)]
pub(crate) use model::{LocalCell, Mutex, MutexGuard, thread_local};

#[cfg(shuttle)]
mod model {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, PoisonError};

    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use shuttle::thread::LocalKey;

    /// A lock with one more point at which shuttle may switch threads: after the unlock. Shuttle's own
    /// lock has such points before the lock and before the unlock. Without the third one, the unlock and
    /// the code after it, a waker or a [`Notify`](tokio::sync::Notify) that shuttle does not control,
    /// would be one step.
    pub(crate) struct Mutex<T> {
        inner: shuttle::sync::Mutex<T>,
        unlocked: AtomicBool,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { inner: shuttle::sync::Mutex::new(value), unlocked: AtomicBool::new(true) }
        }

        /// Does nothing: shuttle ends a run that panics.
        pub(crate) fn clear_poison(&self) {}

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let unlocked = &self.unlocked;
            match self.inner.lock() {
                Ok(inner) => Ok(MutexGuard { inner: Some(inner), unlocked }),
                Err(poisoned) => {
                    let inner = Some(poisoned.into_inner());
                    Err(PoisonError::new(MutexGuard { inner, unlocked }))
                }
            }
        }
    }

    pub(crate) struct MutexGuard<'a, T> {
        inner: Option<shuttle::sync::MutexGuard<'a, T>>,
        unlocked: &'a AtomicBool,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.inner.as_ref().expect("held until it is dropped")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_mut().expect("held until it is dropped")
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.inner = None;
            // Shuttle may switch threads at a read of an atomic.
            if !std::thread::panicking() {
                self.unlocked.load(Ordering::SeqCst);
            }
        }
    }

    /// A thread-local cell with the methods of the standard library's.
    pub(crate) struct LocalCell<T: 'static>(pub(crate) &'static LocalKey<Cell<T>>);

    impl<T: Copy> LocalCell<T> {
        pub(crate) fn get(&self) -> T {
            self.0.with(Cell::get)
        }

        pub(crate) fn set(&self, value: T) {
            self.0.with(|cell| cell.set(value));
        }
    }

    macro_rules! local_cell {
        ($(#[$about:meta])* static $name:ident: Cell<$of:ty> = const { $start:expr };) => {
            $(#[$about])*
            static $name: $crate::sync::LocalCell<$of> = {
                shuttle::thread_local! { static KEY: Cell<$of> = $start; }
                $crate::sync::LocalCell(&KEY)
            };
        };
    }
    pub(crate) use local_cell as thread_local;
}
