//! Trying again: how often, with which pauses, and who is told.

use std::{future::Future, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder, Retryable as _};
use bp_artifact::error::Classified;

/// How often something is tried again, and with which pauses: growing ones with jitter, or as long as the registry
/// asks for with `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    retries: usize,
    first: Duration,
    longest: Duration,
    patience: Duration,
}

impl RetryPolicy {
    /// `retries` times after the first attempt. None is possible.
    pub fn new(retries: usize) -> Self {
        RetryPolicy { retries, ..Self::default() }
    }

    /// The first pause, and the longest that pauses grow to. A first one above the longest is cut to it.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first.min(longest);
        self.longest = longest;
        self
    }

    /// The longest `Retry-After` that is waited for; what asks for more fails at once.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl Default for RetryPolicy {
    /// Seven retries, from a quarter of a second to ten.
    fn default() -> Self {
        RetryPolicy {
            retries: 7,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(10),
            patience: Duration::from_secs(300),
        }
    }
}

/// Something failed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Why, in one line.
    pub reason: String,
    /// After this pause.
    pub pause: Duration,
}

/// Who is told of retries.
pub type Observer = Arc<dyn Fn(Retry) + Send + Sync>;

/// An error that may say when to come back.
pub(crate) trait Transient: Classified {
    fn retry_after(&self) -> Option<Duration>;
}

impl Transient for crate::registry::RegistryError {
    fn retry_after(&self) -> Option<Duration> {
        crate::registry::RegistryError::retry_after(self)
    }
}

impl RetryPolicy {
    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_max_times(self.retries)
    }

    /// The pauses before the retries, of which there are as many.
    pub(crate) fn delays(&self) -> ExponentialBackoff {
        self.backoff().build()
    }

    /// A pause that a registry asks for, as far as it is waited for.
    pub(crate) fn bounded(&self, asked: Duration) -> Duration {
        asked.min(self.patience)
    }

    /// Runs `attempt` until it succeeds, fails for good, or the retries are used up.
    pub(crate) async fn run<T, E, F>(
        &self,
        observer: Option<&Observer>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Transient,
        F: Future<Output = Result<T, E>>,
    {
        self.run_when(E::is_retryable, telling(observer), attempt).await
    }

    /// The same, with another opinion on what is worth another attempt.
    pub(crate) async fn run_when<T, E, F>(
        &self,
        worth: impl Fn(&E) -> bool,
        told: impl Fn(&E, Duration),
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Transient,
        F: Future<Output = Result<T, E>>,
    {
        attempt
            .retry(self.backoff())
            .when(|error: &E| worth(error) && error.retry_after().is_none_or(|after| after <= self.patience))
            .adjust(|error: &E, pause| pause.map(|pause| pause.max(error.retry_after().unwrap_or_default())))
            .notify(|error: &E, pause| {
                tracing::debug!(%error, ?pause, "trying again");
                told(error, pause);
            })
            .await
    }
}

/// Tells an observer of another attempt.
pub(crate) fn telling<E: Transient>(observer: Option<&Observer>) -> impl Fn(&E, Duration) {
    move |error, pause| {
        if let Some(observer) = observer {
            observer(Retry { reason: error.to_string(), pause });
        }
    }
}
