//! The chores' only look at a clock.
#![allow(clippy::disallowed_methods, reason = "a chore lives in real time and has no paused clock")]

use std::time::{Duration, Instant};

/// Runs `work` and says how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

/// Asks `ready` until it answers, at most for `limit`. `None` when the time is over.
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

/// Waits.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A moment that can be waited for.
#[derive(Clone, Copy)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// So long from now.
    pub(crate) fn after(time: Duration) -> Self {
        Moment(Instant::now() + time)
    }

    /// Waits for it, unless it is over.
    pub(crate) fn wait(self) {
        std::thread::sleep(self.0.saturating_duration_since(Instant::now()));
    }
}
