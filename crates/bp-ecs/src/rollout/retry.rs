//! Retry budget of polls that fail.

use std::time::Duration;

use bp_artifact::error::Classified;
use tokio::time::Instant;

use crate::error::Error;

/// How long credentials or permissions may be missing after a change was applied: they may be refreshed or propagate.
const GRACE: Duration = Duration::from_secs(20);

/// Decides when to stop retrying: at the deadline while the API is overloaded or unreachable, after [`GRACE`] for other
/// errors, such as missing credentials.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    /// When the first of consecutive non-retryable errors occurred.
    failing_since: Option<Instant>,
}

impl RetryBudget {
    /// Records a successful call.
    pub(crate) fn succeeded(&mut self) {
        self.failing_since = None;
    }

    /// Records a failed call, and returns whether to stop retrying.
    pub(crate) fn is_exhausted(&mut self, error: &Error, deadline: Instant) -> bool {
        let now = Instant::now();
        let grace_is_over = !error.is_retryable() && now - *self.failing_since.get_or_insert(now) >= GRACE;
        now >= deadline || grace_is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttled() -> Error {
        Error::Unavailable { operation: "ecs:Test", request_id: None, source: "throttled".into() }
    }

    fn expired() -> Error {
        Error::NoCredentials { source: "expired".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_an_overload_until_the_deadline_and_missing_credentials_for_20_s() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut overload, mut lost) = (RetryBudget::default(), RetryBudget::default());
        for second in 0..60 {
            assert!(!overload.is_exhausted(&throttled(), deadline), "{second}");
            assert_eq!(lost.is_exhausted(&expired(), deadline), second >= 20, "{second}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(
            overload.is_exhausted(&throttled(), deadline)
                && RetryBudget::default().is_exhausted(&expired(), deadline)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_restarts_the_grace_period_and_an_overload_does_not() {
        let deadline = Instant::now() + Duration::from_secs(600);
        let mut retries = RetryBudget::default();
        assert!(!retries.is_exhausted(&expired(), deadline));
        tokio::time::sleep(Duration::from_secs(15)).await;
        retries.succeeded();
        assert!(!retries.is_exhausted(&expired(), deadline));
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(!retries.is_exhausted(&throttled(), deadline));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(retries.is_exhausted(&expired(), deadline));
    }
}
