//! Retry calls while the API server fails or is unreachable.

use std::time::Duration;

use backon::BackoffBuilder;
use bp_artifact::{deploy::Reporter, error::Classified};
use tokio::time::{Instant, sleep};

use super::watch;
use crate::error::Error;

/// The time limits of retries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryLimit {
    /// For transient failures.
    pub(crate) until: Instant,
    /// For rejected credentials and denied verbs, after the same calls have succeeded before.
    pub(crate) refused_until: Option<Instant>,
}

impl RetryLimit {
    /// For a call before any change: a denial is final.
    pub(crate) fn until(until: Instant) -> Self {
        RetryLimit { until, refused_until: None }
    }

    /// For a call after a change: denials, too, are retried for `grace`.
    pub(crate) fn after_change(until: Instant, grace: Duration) -> Self {
        RetryLimit { until, refused_until: Some(until.min(bp_artifact::time::deadline(grace))) }
    }

    fn end(&self, error: &Error) -> Option<Instant> {
        if error.is_refusal() {
            return self.refused_until;
        }
        error.is_retryable().then_some(self.until)
    }
}

/// An error that may be an error of the Kubernetes API.
pub(crate) trait AsApiError {
    /// The error of the Kubernetes API, if it is one.
    fn as_api_error(&self) -> Option<&Error>;
}

impl AsApiError for Error {
    fn as_api_error(&self) -> Option<&Error> {
        Some(self)
    }
}

/// Retries `call` until it succeeds, fails permanently, or the time limit has passed. Reports the first failure as a
/// notice.
///
/// # Errors
/// The last failure; also when the operation is cancelled.
pub(crate) async fn with_retries<T, E, F>(
    limit: RetryLimit,
    reporter: &Reporter,
    mut call: impl FnMut() -> F,
) -> Result<T, E>
where
    E: AsApiError,
    F: Future<Output = Result<T, E>>,
{
    let mut pauses = watch::pauses().build();
    let mut reported = false;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let end = error.as_api_error().and_then(|error| limit.end(error));
        let left = end.and_then(|end| end.checked_duration_since(Instant::now()));
        let Some((left, pause)) = left.filter(|left| !left.is_zero()).zip(pauses.next()) else {
            return Err(error);
        };
        if !std::mem::replace(&mut reported, true) {
            let why = error.as_api_error().map(Error::without_advice).unwrap_or_default();
            reporter.notice(format!("retrying: {why}"));
        }
        tokio::select! {
            () = sleep(pause.min(left)) => {}
            () = reporter.cancelled() => return Err(error),
        }
    }
}
