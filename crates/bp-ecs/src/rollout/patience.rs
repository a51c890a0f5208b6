//! For how long something that cannot be observed is tried again.

use std::time::Duration;

use bp_artifact::error::Classified;
use tokio::time::Instant;

use crate::error::Error;

/// How long credentials and permissions may be missing once a change was applied: they may be refreshed or propagate.
const GRACE: Duration = Duration::from_secs(20);

/// An API that is overloaded or cannot be reached is tried again until the deadline; what waiting alone does not
/// remove, such as missing credentials, for a moment.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Since when it fails for such a reason, without a success between.
    refused: Option<Instant>,
}

impl Patience {
    /// A call was answered.
    pub(crate) fn answered(&mut self) {
        self.refused = None;
    }

    /// A call failed: whether to give up now.
    pub(crate) fn is_over(&mut self, error: &Error, deadline: Instant) -> bool {
        let now = Instant::now();
        let refused = !error.is_retryable() && now - *self.refused.get_or_insert(now) >= GRACE;
        now >= deadline || refused
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
    async fn an_overload_lasts_to_the_deadline_and_missing_credentials_a_moment() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut overload, mut lost) = (Patience::default(), Patience::default());
        for second in 0..60 {
            assert!(!overload.is_over(&throttled(), deadline), "{second}");
            assert_eq!(lost.is_over(&expired(), deadline), second >= 20, "{second}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(
            overload.is_over(&throttled(), deadline) && Patience::default().is_over(&expired(), deadline)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_between_starts_the_moment_anew_and_an_overload_does_not() {
        let deadline = Instant::now() + Duration::from_secs(600);
        let mut patience = Patience::default();
        assert!(!patience.is_over(&expired(), deadline));
        tokio::time::sleep(Duration::from_secs(15)).await;
        patience.answered();
        assert!(!patience.is_over(&expired(), deadline));
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(!patience.is_over(&throttled(), deadline));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(patience.is_over(&expired(), deadline));
    }
}
