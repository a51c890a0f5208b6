//! How long the cache trusts, remembers and holds.

use std::time::Duration;

/// How a [`Cache`](crate::Cache) trusts, remembers and holds.
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
    pub(super) most_age: Duration,
    pub(super) absent_for: Duration,
    pub(super) most_bytes: usize,
    pub(super) most_places: usize,
}

/// What is longer is taken for this, which no process lives to see; clocks end somewhere.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Options that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheOptionsError {
    /// Nothing would ever be cached.
    #[error("values that are fresh for no time cannot be cached: use the store without a cache")]
    NeverFresh,
    /// A value would be too old while it is fresh.
    #[error("the hard age is below the time for which values are fresh: raise the one or lower the other")]
    TooOldWhileFresh,
    /// Nothing would fit.
    #[error("a cache without room for a value cannot hold one")]
    NoRoom,
}

impl CacheOptions {
    /// Values are fresh for `fresh_for` (a fifth less at random, so that they do not all grow old together), and are
    /// served while the service is unreachable until they are `most_age` old.
    ///
    /// # Errors
    /// When values are never fresh, or too old while they are fresh.
    pub fn new(fresh_for: Duration, most_age: Duration) -> Result<Self, CacheOptionsError> {
        if fresh_for.is_zero() {
            return Err(CacheOptionsError::NeverFresh);
        }
        if most_age < fresh_for {
            return Err(CacheOptionsError::TooOldWhileFresh);
        }
        let (fresh_for, most_age) = (fresh_for.min(LONGEST), most_age.min(LONGEST));
        Ok(CacheOptions { fresh_for, most_age, ..CacheOptions::default() })
    }

    /// How long absence and denial are remembered. Zero: not at all.
    pub fn absent_for(mut self, time: Duration) -> Self {
        self.absent_for = time.min(LONGEST);
        self
    }

    /// The most bytes of values, and the most places that are known.
    ///
    /// # Errors
    /// When either is zero.
    pub fn hold(mut self, most_bytes: usize, most_places: usize) -> Result<Self, CacheOptionsError> {
        if most_bytes == 0 || most_places == 0 {
            return Err(CacheOptionsError::NoRoom);
        }
        (self.most_bytes, self.most_places) = (most_bytes, most_places);
        Ok(self)
    }
}

/// Fresh for five minutes, served for at most an hour; absence for ten seconds; 8 MiB and 10,000 places.
impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions {
            fresh_for: Duration::from_secs(300),
            most_age: Duration::from_secs(3600),
            absent_for: Duration::from_secs(10),
            most_bytes: 8 << 20,
            most_places: 10_000,
        }
    }
}
