//! Cache credentials until shortly before they expire.

use std::{fmt, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, future},
};
use bp_artifact::time::TimeSource;
use jiff::Timestamp;
use tokio::sync::Mutex;

/// How long before their expiry credentials are fetched again. Longer than the SDK's own margin of a few seconds, at
/// which the SDK requests new ones.
const RENEWAL_MARGIN: Duration = Duration::from_secs(120);

/// A provider that fetches credentials on first use, and again shortly before they expire.
pub(super) struct CachedProvider {
    provider: SharedCredentialsProvider,
    time: TimeSource,
    credentials: Mutex<Option<Credentials>>,
}

impl CachedProvider {
    pub(super) fn new(provider: SharedCredentialsProvider, time: TimeSource) -> Self {
        CachedProvider { provider, time, credentials: Mutex::default() }
    }

    async fn get(&self) -> provider::Result {
        // The lock is held during the fetch, so that concurrent callers get the same credentials.
        let mut cached = self.credentials.lock().await;
        if let Some(credentials) = cached.as_ref().filter(|credentials| self.is_valid(credentials)) {
            return Ok(credentials.clone());
        }
        let fetched = self.provider.provide_credentials().await?;
        *cached = Some(fetched.clone());
        Ok(fetched)
    }

    fn is_valid(&self, credentials: &Credentials) -> bool {
        let Some(expiry) = credentials.expiry() else { return true };
        Timestamp::try_from(expiry).is_ok_and(|expiry| {
            self.time.now().checked_add(RENEWAL_MARGIN).is_ok_and(|renewal| renewal < expiry)
        })
    }
}

impl ProvideCredentials for CachedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

impl fmt::Debug for CachedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedProvider").field("provider", &self.provider).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::SeqCst},
    };

    use super::*;

    /// Numbers its credentials; each set is valid for an hour of `clock`.
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
    async fn fetches_once_and_renews_before_expiry() {
        let source = Numbered::default();
        let clock = source.clock.clone();
        let time = TimeSource::from_fn(move || Timestamp::from_second(clock.load(SeqCst)).unwrap());
        let cached = CachedProvider::new(SharedCredentialsProvider::new(source.clone()), time);
        let get = async || cached.provide_credentials().await.unwrap().access_key_id().to_owned();
        assert_eq!((get().await, get().await), ("1".into(), "1".into()));
        source.clock.store(3600 - 121, SeqCst);
        assert_eq!(get().await, "1");
        source.clock.store(3600 - 120, SeqCst);
        assert_eq!((get().await, get().await), ("2".into(), "2".into()));
        assert_eq!(source.fetched.load(SeqCst), 2);
    }
}
