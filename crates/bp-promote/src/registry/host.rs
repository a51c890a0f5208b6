//! One registry: where it is, what is known of it, and how fast it is asked.

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
    /// Whose credentials go where.
    pub(super) origin: Origin,
    pub(super) auth: Authenticator,
    pub(super) pace: Pace,
    /// Whether it ever answered, and since when it cannot be reached.
    answered: AtomicBool,
    silent_since: Mutex<Option<Instant>>,
    /// Until when a throttling registry asked everybody to wait.
    pause: Mutex<Option<Instant>>,
    /// Whether it has the referrers API, once that is known.
    referrers: Mutex<Option<bool>>,
    /// Whether it is known to reject manifests whose content is missing.
    pub(super) validates_references: bool,
}

impl Host {
    /// For how long a registry that never answered is tried.
    const PATIENCE: Duration = Duration::from_millis(1_500);

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
            silent_since: Mutex::default(),
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

    /// The header for a request of this scope. None is fetched for one that may not carry it: an upload may go on at
    /// another host.
    pub(super) async fn authorization(
        &self,
        http: &Http,
        scope: &Scope,
        call: &Call,
    ) -> Result<Option<Authorization>, RegistryError> {
        if call.is_at_home() { self.auth.authorization(http, scope).await } else { Ok(None) }
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

    /// When the registry throttles one request, all others slow down, and wait as long as it asks for.
    pub(super) fn note(&self, error: &RegistryError, policy: &RetryPolicy) {
        let RegistryError::RateLimited { retry_after, .. } = error else { return };
        self.pace.throttled();
        if let Some(after) = retry_after {
            let mut pause = lock(&self.pause);
            *pause = (*pause).max(Some(bp_artifact::time::deadline(policy.bounded(*after))));
        }
    }

    /// A registry that never answered is soon given up: its name is wrong, or it is not there.
    pub(super) fn judge(&self, answer: Result<Answer, RegistryError>) -> Result<Answer, RegistryError> {
        match answer {
            Ok(answer) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(RegistryError::Transport { at, source })
                if !self.answered.load(Ordering::Relaxed) && cannot_connect(&*source) =>
            {
                let now = Instant::now();
                let mut silent = lock(&self.silent_since);
                match now.duration_since(*silent.get_or_insert(now)) >= Self::PATIENCE {
                    true => Err(RegistryError::Unreachable { at, source }),
                    false => Err(RegistryError::Transport { at, source }),
                }
            }
            Err(error) => Err(error),
        }
    }
}
