//! Durations and deadlines, polling at an interval with jitter, and an injectable clock.

use std::{fmt, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::parse::ParseError;

/// The longest duration that flags and `bp.toml` accept.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// How far away a deadline is that would overflow the clock, as in tokio.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Parses a duration of a flag or of `bp.toml`: `90s`, `15m`, `1h30m`, `500ms`. It must be positive and at most 365
/// days.
///
/// ```
/// use std::time::Duration;
/// use bp_artifact::time;
///
/// assert_eq!(time::parse_duration("1h30m")?, Duration::from_secs(5400));
/// assert!(time::parse_duration("0s").is_err());
/// assert!(time::parse_duration("9999h").is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
///
/// # Errors
/// When the text is not a duration, or is out of bounds.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let wrong = |reason: &'static str| ParseError::new("a duration", text, reason);
    let too_long = || wrong("it is longer than 365 days (8760h)");
    let Ok(signed) = text.parse::<SignedDuration>() else {
        return Err(if is_too_large(text) { too_long() } else { wrong(EXPECTED) });
    };
    match Duration::try_from(signed) {
        Err(_) => Err(wrong(EXPECTED)),
        Ok(duration) if duration.is_zero() => Err(wrong("it is zero")),
        Ok(duration) if duration > LONGEST => Err(too_long()),
        Ok(duration) => Ok(duration),
    }
}

const EXPECTED: &str = "expected a duration such as 90s, 15m or 1h30m";

/// Whether the text would be a duration if its numbers were smaller.
fn is_too_large(text: &str) -> bool {
    let mut small = String::new();
    for character in text.chars() {
        match character {
            digit if !digit.is_ascii_digit() => small.push(digit),
            _ if small.ends_with('1') => {}
            _ => small.push('1'),
        }
    }
    small.parse::<SignedDuration>().is_ok_and(|duration| duration.is_positive())
}

/// The instant `time` from now. One that would overflow the clock is 30 years away.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
///
/// let never = bp_artifact::time::deadline(Duration::MAX);
/// assert!(never > bp_artifact::time::deadline(Duration::from_secs(365 * 24 * 3600)));
/// # });
/// ```
pub fn deadline(time: Duration) -> Instant {
    after(Instant::now(), time)
}

/// The instant `time` after `start`, with overflow handled as in [`deadline`].
pub fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).or_else(|| start.checked_add(FAR)).unwrap_or(start)
}

/// The current time, injected wherever expiry or a timestamp depends on it.
///
/// ```
/// use bp_artifact::time::TimeSource;
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

    /// A custom clock, for tests.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        TimeSource(Arc::new(now))
    }

    /// The current time.
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

/// How long to wait and how often to poll: a deadline, and an interval with jitter so that waiters do not synchronize.
///
/// ```
/// use std::time::Duration;
/// use bp_artifact::time::Wait;
///
/// let wait = Wait::new(Duration::from_secs(600), Duration::from_secs(2))?;
/// assert!(wait.pause() >= Duration::from_millis(1600) && wait.pause() <= Duration::from_millis(2400));
/// assert!(Wait::new(Duration::ZERO, Duration::from_secs(2)).is_err());
/// # Ok::<(), bp_artifact::time::WaitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    deadline: Duration,
    poll_interval: Duration,
}

/// Why a [`Wait`] is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline is zero.
    #[error("the deadline is zero: it must be positive")]
    NoDeadline,
    /// The poll interval is too short.
    #[error("the poll interval is too short: it must be at least 1 ms")]
    NoCadence,
}

impl crate::error::Classified for WaitError {
    fn class(&self) -> crate::error::ErrorClass {
        crate::error::ErrorClass::BadInput
    }
}

impl Wait {
    /// The fraction of the interval by which a pause may be shorter or longer.
    const JITTER: f64 = 0.2;

    /// Waits for at most `deadline`, polling about every `poll_interval`.
    ///
    /// # Errors
    /// When the deadline is zero, or the interval is shorter than a millisecond.
    pub fn new(deadline: Duration, poll_interval: Duration) -> Result<Self, WaitError> {
        if deadline.is_zero() {
            return Err(WaitError::NoDeadline);
        }
        if poll_interval < Duration::from_millis(1) {
            return Err(WaitError::NoCadence);
        }
        Ok(Wait { deadline, poll_interval })
    }

    /// The maximum duration of the wait.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The average pause between two polls.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// The next pause: the interval with jitter.
    pub fn pause(&self) -> Duration {
        let factor = 1.0 - Self::JITTER + 2.0 * Self::JITTER * fastrand::f64();
        Duration::try_from_secs_f64(self.poll_interval.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations_within_bounds() {
        for (text, millis) in [
            ("15m", 900_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("PT90S", 90_000),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, reason) in [
            ("", EXPECTED),
            ("15", EXPECTED),
            ("m", EXPECTED),
            ("-1s", EXPECTED),
            ("1d", EXPECTED),
            ("-99999999999999999999h", EXPECTED),
            ("99999999999999999999 parsecs", EXPECTED),
            ("0s", "it is zero"),
            ("8760h1ns", "it is longer than 365 days (8760h)"),
            ("9223372036854775807s", "it is longer than 365 days (8760h)"),
            ("9999999999999999h", "it is longer than 365 days (8760h)"),
            ("99999999999999999999h 99m", "it is longer than 365 days (8760h)"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().reason(), reason, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accepts_any_duration_as_a_deadline() {
        assert_eq!(deadline(Duration::from_secs(5)), Instant::now() + Duration::from_secs(5));
        let longest = Wait::new(Duration::MAX, Duration::MAX).unwrap();
        for time in [longest.deadline(), longest.pause(), Duration::from_secs(u64::MAX)] {
            assert!(deadline(time) >= Instant::now() + FAR);
        }
    }
}
