//! Cache options: time to live, maximum age of stale values, negative caching, size limits.
use std::time::Duration;

/// Options of a [`Cache`](crate::Cache): time to live, maximum age of stale values, negative caching, size limits.
///
/// ```
/// use std::time::Duration;
/// use bp_secrets::cache::CacheOptions;
///
/// let options = CacheOptions::new(Duration::from_secs(60), Duration::from_secs(600))?;
/// assert!(CacheOptions::new(Duration::from_secs(60), Duration::from_secs(10)).is_err());
/// # Ok::<(), bp_secrets::cache::CacheOptionsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    pub(super) fresh_for: Duration,
    pub(super) max_age: Duration,
    pub(super) absent_for: Duration,
    pub(super) max_bytes: usize,
    pub(super) max_entries: usize,
}

/// Longer durations are reduced to this, so that adding one to an `Instant` does not overflow.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Invalid or contradictory cache options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheOptionsError {
    /// The time to live is zero: nothing would ever be cached.
    #[error("the time for which values are fresh is zero: set it, or use the store without a cache")]
    NeverFresh,
    /// The maximum age is below the time to live.
    #[error("the maximum age is below the time for which values are fresh: raise the one or lower the other")]
    MaxAgeTooLow,
    /// A size limit is zero: nothing would fit.
    #[error("a size limit of the cache is zero: allow at least one byte and one entry")]
    ZeroLimit,
}

impl CacheOptions {
    /// Values are fresh for `fresh_for` (reduced by up to a fifth at random, so that they do not all expire together),
    /// and are served while the service is unreachable until they are `max_age` old.
    ///
    /// # Errors
    /// When `fresh_for` is zero, or `max_age` is below it.
    pub fn new(fresh_for: Duration, max_age: Duration) -> Result<Self, CacheOptionsError> {
        if fresh_for.is_zero() {
            return Err(CacheOptionsError::NeverFresh);
        }
        if max_age < fresh_for {
            return Err(CacheOptionsError::MaxAgeTooLow);
        }
        let (fresh_for, max_age) = (fresh_for.min(LONGEST), max_age.min(LONGEST));
        Ok(CacheOptions { fresh_for, max_age, ..CacheOptions::default() })
    }

    /// How long a missing, deleted or denied secret is cached as such (negative caching). Zero disables it.
    pub fn absent_for(mut self, time: Duration) -> Self {
        self.absent_for = time.min(LONGEST);
        self
    }

    /// The maximum number of bytes of values, and of cached references.
    ///
    /// # Errors
    /// When either is zero.
    pub fn limits(mut self, max_bytes: usize, max_entries: usize) -> Result<Self, CacheOptionsError> {
        if max_bytes == 0 || max_entries == 0 {
            return Err(CacheOptionsError::ZeroLimit);
        }
        (self.max_bytes, self.max_entries) = (max_bytes, max_entries);
        Ok(self)
    }
}

/// Fresh for five minutes, served stale up to an hour; absence for ten seconds; 8 MiB and 10,000 entries.
impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions {
            fresh_for: Duration::from_secs(300),
            max_age: Duration::from_secs(3600),
            absent_for: Duration::from_secs(10),
            max_bytes: 8 << 20,
            max_entries: 10_000,
        }
    }
}
