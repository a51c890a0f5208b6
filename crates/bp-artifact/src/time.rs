//! Waiting: a deadline that the caller gives, and a cadence with jitter. And the injected time of day.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

/// The time of day, injected wherever expiry or a time stamp matters.
///
/// ```
/// use bp_artifact::TimeSource;
///
/// let noon: jiff::Timestamp = "2026-01-01T12:00:00Z".parse()?;
/// assert_eq!(TimeSource::from_fn(move || noon).now(), noon);
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Clone)]
pub struct TimeSource(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl TimeSource {
    /// The system's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn system() -> Self {
        TimeSource(Arc::new(Timestamp::now))
    }

    /// A clock of the caller's, for tests.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        TimeSource(Arc::new(now))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for TimeSource {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeSource({})", self.now())
    }
}

/// How long to wait and how often to look: every wait has a deadline, and no two waiters look in step.
///
/// ```
/// use std::time::Duration;
/// use bp_artifact::Wait;
///
/// let wait = Wait::new(Duration::from_secs(600), Duration::from_secs(2))?;
/// assert!(wait.pause() >= Duration::from_millis(1600) && wait.pause() <= Duration::from_millis(2400));
/// assert!(Wait::new(Duration::ZERO, Duration::from_secs(2)).is_err());
/// # Ok::<(), bp_artifact::WaitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    deadline: Duration,
    cadence: Duration,
}

/// A [`Wait`] that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// A deadline of zero.
    #[error("the deadline is zero: give the wait some time")]
    NoDeadline,
    /// A cadence of zero would be a busy loop.
    #[error("the cadence is zero: at least a millisecond lies between two looks")]
    NoCadence,
}

impl crate::error::Classified for WaitError {
    fn class(&self) -> crate::error::ErrorClass {
        crate::error::ErrorClass::BadInput
    }
}

impl Wait {
    /// The part of the cadence by which a pause may be shorter or longer.
    const JITTER: f64 = 0.2;

    /// Waits for at most `deadline`, looking about every `cadence`.
    ///
    /// # Errors
    /// When either is zero.
    pub fn new(deadline: Duration, cadence: Duration) -> Result<Self, WaitError> {
        if deadline.is_zero() {
            return Err(WaitError::NoDeadline);
        }
        if cadence < Duration::from_millis(1) {
            return Err(WaitError::NoCadence);
        }
        Ok(Wait { deadline, cadence })
    }

    /// How long the whole wait may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// About how long to pause between two looks.
    pub fn cadence(&self) -> Duration {
        self.cadence
    }

    /// The next pause: the cadence with jitter.
    pub fn pause(&self) -> Duration {
        self.cadence.mul_f64(1.0 - Self::JITTER + 2.0 * Self::JITTER * fastrand::f64())
    }
}
