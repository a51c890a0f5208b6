//! Retries: how often, with which delays, and who is notified.

use std::{future::Future, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder, Retryable as _};
use bp_artifact::{
    error::{Classified, chain},
    text::SingleLine,
};

/// How often a failed operation is retried, and with which delays: exponential with jitter, or as long as the registry
/// requests with `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    retries: usize,
    first: Duration,
    longest: Duration,
    max_retry_after: Duration,
}

impl RetryPolicy {
    /// Up to `retries` attempts after the first one; 0 disables retries.
    pub fn new(retries: usize) -> Self {
        RetryPolicy { retries, ..Self::default() }
    }

    /// The first delay, and the maximum that delays grow to. A first delay above the maximum is reduced to it.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first.min(longest);
        self.longest = longest;
        self
    }

    /// The longest `Retry-After` that is waited for, default 300 seconds; a longer one fails immediately.
    pub fn max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }
}

impl Default for RetryPolicy {
    /// Seven retries, with delays from 250 milliseconds to 10 seconds.
    fn default() -> Self {
        RetryPolicy {
            retries: 7,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(300),
        }
    }
}

/// A retry of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The error with its causes, in one line.
    pub reason: String,
    /// The delay before the next attempt.
    pub pause: Duration,
}

/// Called for each retry.
pub type Observer = Arc<dyn Fn(Retry) + Send + Sync>;

/// How often an operation is retried after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retries {
    /// Not at all: it would fail again.
    Never,
    /// At most this number of times in succession: the cause may be permanent.
    AtMost(u32),
    /// As often as the policy allows.
    ByPolicy,
}

/// An error that states whether, how often and when to retry.
pub(crate) trait Transient: Classified {
    fn retries(&self) -> Retries;

    fn retry_after(&self) -> Option<Duration>;
}

impl RetryPolicy {
    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_max_times(self.retries)
    }

    /// The delays before the retries, one each.
    pub(crate) fn delays(&self) -> ExponentialBackoff {
        self.backoff().build()
    }

    /// The delay that a registry requests, limited to the longest that is waited for.
    pub(crate) fn bounded(&self, asked: Duration) -> Duration {
        asked.min(self.max_retry_after)
    }

    /// Runs `attempt` until it succeeds, fails permanently, or the retries are exhausted.
    pub(crate) async fn run<T, E, F>(
        &self,
        observer: Option<&Observer>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Transient,
        F: Future<Output = Result<T, E>>,
    {
        self.run_when(E::retries, notify_observer(observer), attempt).await
    }

    /// As [`run`](Self::run), with other limits for retries and another notification.
    pub(crate) async fn run_when<T, E, F>(
        &self,
        mut retries: impl FnMut(&E) -> Retries,
        notify: impl Fn(&E, Duration),
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Transient,
        F: Future<Output = Result<T, E>>,
    {
        let mut limited = 0_u32;
        attempt
            .retry(self.backoff())
            .when(|error: &E| {
                let is_allowed = match retries(error) {
                    Retries::Never => false,
                    Retries::AtMost(most) => {
                        limited = limited.saturating_add(1);
                        limited <= most
                    }
                    Retries::ByPolicy => {
                        limited = 0;
                        true
                    }
                };
                is_allowed && error.retry_after().is_none_or(|after| after <= self.max_retry_after)
            })
            .adjust(|error: &E, pause| pause.map(|pause| pause.max(error.retry_after().unwrap_or_default())))
            .notify(|error: &E, pause| {
                tracing::debug!(error = %SingleLine(error), ?pause, "attempt failed, retrying");
                notify(error, pause);
            })
            .await
    }
}

/// Returns a function that notifies an observer of a retry.
pub(crate) fn notify_observer<E: Transient>(observer: Option<&Observer>) -> impl Fn(&E, Duration) {
    move |error, pause| {
        if let Some(observer) = observer {
            observer(Retry { reason: chain(error), pause });
        }
    }
}
