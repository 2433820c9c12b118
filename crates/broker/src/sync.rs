//! Small pieces for waiting and for locks that a panic elsewhere doesn't take down with it.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Waker;

/// [`Mutex::lock`] without poisoning: every holder leaves the data consistent wherever it could panic.
pub(crate) trait Hold<T> {
    fn hold(&self) -> MutexGuard<'_, T>;
}

impl<T> Hold<T> for Mutex<T> {
    fn hold(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for [`RwLock`].
pub(crate) trait Share<T> {
    fn shared(&self) -> RwLockReadGuard<'_, T>;
    fn exclusive(&self) -> RwLockWriteGuard<'_, T>;
}

impl<T> Share<T> for RwLock<T> {
    fn shared(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of the one task that waits for something.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    /// Remembers whom to wake. The caller looks at its condition again afterwards.
    pub(crate) fn set(&self, waker: &Waker) {
        let mut slot = self.0.hold();
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Takes whom to wake.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.hold().take()
    }
}
