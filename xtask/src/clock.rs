//! The chores' only look at a clock.

use std::time::{Duration, Instant};

/// Runs `work` and says how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = now();
    let value = work();
    (value, start.elapsed())
}

#[allow(clippy::disallowed_methods, reason = "a chore measures real time and has no paused clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
