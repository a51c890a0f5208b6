//! Credentials that are fetched once and kept until shortly before they expire.

use std::{fmt, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, future},
};
use bp_artifact::time::TimeSource;
use jiff::Timestamp;
use tokio::sync::Mutex;

/// How long before they expire credentials are fetched again. Longer than the SDK's own margin of some seconds, which asks
/// for new ones at that time.
const MARGIN: Duration = Duration::from_secs(120);

/// A provider whose credentials are fetched once, by whoever needs them first, and again shortly before they expire.
pub(super) struct Kept {
    provider: SharedCredentialsProvider,
    time: TimeSource,
    credentials: Mutex<Option<Credentials>>,
}

impl Kept {
    pub(super) fn new(provider: SharedCredentialsProvider, time: TimeSource) -> Self {
        Kept { provider, time, credentials: Mutex::default() }
    }

    async fn get(&self) -> provider::Result {
        // Held while they are fetched: those who wait get the same ones.
        let mut kept = self.credentials.lock().await;
        if let Some(credentials) = kept.as_ref().filter(|credentials| self.holds(credentials)) {
            return Ok(credentials.clone());
        }
        let fetched = self.provider.provide_credentials().await?;
        *kept = Some(fetched.clone());
        Ok(fetched)
    }

    fn holds(&self, credentials: &Credentials) -> bool {
        let Some(expiry) = credentials.expiry() else { return true };
        Timestamp::try_from(expiry)
            .is_ok_and(|expiry| self.time.now().checked_add(MARGIN).is_ok_and(|renewal| renewal < expiry))
    }
}

impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("provider", &self.provider).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::SeqCst},
    };

    use super::*;

    /// Numbers its credentials; each set lives for an hour of `clock`.
    #[derive(Debug, Clone, Default)]
    struct Numbered {
        clock: Arc<AtomicI64>,
        fetched: Arc<AtomicU32>,
    }

    impl ProvideCredentials for Numbered {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.fetched.fetch_add(1, SeqCst) + 1;
            let expiry = Timestamp::from_second(self.clock.load(SeqCst) + 3600).unwrap();
            let credentials = Credentials::new(number.to_string(), "s", None, Some(expiry.into()), "test");
            future::ProvideCredentials::ready(Ok(credentials))
        }
    }

    #[tokio::test]
    async fn fetches_once_and_again_before_they_expire() {
        let source = Numbered::default();
        let clock = source.clock.clone();
        let time = TimeSource::from_fn(move || Timestamp::from_second(clock.load(SeqCst)).unwrap());
        let kept = Kept::new(SharedCredentialsProvider::new(source.clone()), time);
        let get = async || kept.provide_credentials().await.unwrap().access_key_id().to_owned();
        assert_eq!((get().await, get().await), ("1".into(), "1".into()));
        source.clock.store(3600 - 121, SeqCst);
        assert_eq!(get().await, "1");
        source.clock.store(3600 - 120, SeqCst);
        assert_eq!((get().await, get().await), ("2".into(), "2".into()));
        assert_eq!(source.fetched.load(SeqCst), 2);
    }
}
