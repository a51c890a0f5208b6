//! State per registry: base URL, authentication, rate limits, and what is known of its features.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::Method;
use bp_artifact::{Registry, sync::lock};
use tokio::time::Instant;
use url::Url;

use super::{
    auth::{Authenticator, Authorization, Scope},
    credentials::CredentialSource,
    error::{RegistryError, RequestLine},
    http::{Answer, Call, Http, cannot_connect},
    origin::Origin,
    pace::Pace,
    profile::RegistryProfile,
};
use crate::retry::RetryPolicy;

/// One registry.
pub(super) struct Host {
    registry: Registry,
    base: Url,
    /// The origin that credentials are sent to.
    pub(super) origin: Origin,
    pub(super) auth: Authenticator,
    pub(super) pace: Pace,
    /// Whether the registry has responded before; if not, since when connections fail.
    answered: AtomicBool,
    unreachable_since: Mutex<Option<Instant>>,
    /// Until when all requests wait, because the registry throttled one.
    pause: Mutex<Option<Instant>>,
    /// Whether the registry has the referrers API, if this is known.
    referrers: Mutex<Option<bool>>,
    /// Whether the registry is known to reject manifests with missing content.
    pub(super) validates_references: bool,
}

impl Host {
    /// How long connections to a registry that never responded are retried.
    const UNREACHABLE_AFTER: Duration = Duration::from_millis(1_500);

    pub(super) fn new(
        registry: Registry,
        base: Url,
        credentials: Arc<dyn CredentialSource>,
        profile: RegistryProfile,
    ) -> Self {
        let RegistryProfile { challenge, quotas, validates_references } = profile;
        let origin = Origin::of(&base);
        Host {
            auth: Authenticator::new(registry.clone(), origin.clone(), credentials, challenge),
            pace: Pace::new(quotas),
            registry,
            base,
            origin,
            answered: AtomicBool::default(),
            unreachable_since: Mutex::default(),
            pause: Mutex::default(),
            referrers: Mutex::default(),
            validates_references,
        }
    }

    pub(super) fn call(&self, method: Method, path: impl Into<String>) -> Call {
        let path = path.into();
        let url = self.base.join(&path).expect("a checked repository path makes a URL");
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let at = RequestLine { method, registry: self.registry.clone(), path };
        Call::new(at, url, self.origin.clone())
    }

    /// The Authorization header for a request of this scope. None is fetched for a request to another origin: an upload
    /// may continue at another host.
    pub(super) async fn authorization(
        &self,
        http: &Http,
        scope: &Scope,
        call: &Call,
    ) -> Result<Option<Authorization>, RegistryError> {
        if call.is_same_origin() { self.auth.authorization(http, scope).await } else { Ok(None) }
    }

    pub(super) async fn wait_for_pause(&self) {
        let until = *lock(&self.pause);
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    pub(super) fn has_referrers(&self) -> Option<bool> {
        *lock(&self.referrers)
    }

    pub(super) fn note_referrers(&self, has: bool) {
        *lock(&self.referrers) = Some(has);
    }

    /// Records throttling: all requests to the registry slow down, and wait for the requested delay.
    pub(super) fn note(&self, error: &RegistryError, policy: &RetryPolicy) {
        let RegistryError::RateLimited { retry_after, .. } = error else { return };
        self.pace.throttled();
        if let Some(after) = retry_after {
            let mut pause = lock(&self.pause);
            *pause = (*pause).max(Some(bp_artifact::time::deadline(policy.bounded(*after))));
        }
    }

    /// Stops retrying soon if the registry never responded: the host name may be wrong.
    pub(super) fn check_reachable(
        &self,
        answer: Result<Answer, RegistryError>,
    ) -> Result<Answer, RegistryError> {
        match answer {
            Ok(answer) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(RegistryError::Transport { at, source })
                if !self.answered.load(Ordering::Relaxed) && cannot_connect(&*source) =>
            {
                let now = Instant::now();
                let mut since = lock(&self.unreachable_since);
                if now.duration_since(*since.get_or_insert(now)) >= Self::UNREACHABLE_AFTER {
                    Err(RegistryError::Unreachable { at, source })
                } else {
                    Err(RegistryError::Transport { at, source })
                }
            }
            Err(error) => Err(error),
        }
    }
}
