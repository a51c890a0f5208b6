//! Wall-clock time for all tasks: timing, polling, sleeping.
#![allow(clippy::disallowed_methods, reason = "tasks run in real time and have no paused clock")]

use std::time::{Duration, Instant};

/// Runs `work` and returns its result and duration.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

/// Calls `ready` until it returns a value, at most for `limit`. Returns `None` on timeout.
pub(crate) fn poll<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Sleeps.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A point in time to wait for.
#[derive(Clone, Copy)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// The given duration from now.
    pub(crate) fn after(time: Duration) -> Self {
        Moment(Instant::now() + time)
    }

    /// Sleeps until this time, unless it has passed.
    pub(crate) fn wait(self) {
        std::thread::sleep(self.0.saturating_duration_since(Instant::now()));
    }
}
