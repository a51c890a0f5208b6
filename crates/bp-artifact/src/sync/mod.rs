//! Locking, and joining concurrent requests.

mod batch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::batch::{Batch, JointAnswer};

/// Locks a mutex, even if a thread panicked while holding it: for data that is consistent after every statement.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
