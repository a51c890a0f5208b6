//! Mutexes whose content is whole after every statement: a panic elsewhere leaves nothing to distrust.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also one that was held when a thread panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
