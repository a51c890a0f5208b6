//! State per registry: base URL, authentication, rate limits, and what is known of its features.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::Method;
use bp_artifact::{Registry, Repository, sync::lock};
use tokio::{sync::OnceCell, time::Instant};
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
    /// Whether a challenge was found at `/v2/`, after an anonymous request was rejected.
    pub(super) concealed_challenge: OnceCell<bool>,
    /// Whether a repository has the referrers API, if this is known. A proxy may have it for some repositories only.
    referrers: Mutex<HashMap<Repository, bool>>,
    /// Whether HEAD requests for manifests are answered wrongly.
    head_is_wrong: AtomicBool,
    /// Whether a HEAD request has found a manifest.
    head_has_found: AtomicBool,
    /// The maximum size of an upload request, if the registry or a proxy has rejected larger ones.
    chunk: Mutex<Option<u64>>,
    /// Whether the registry is known to reject manifests with missing content.
    pub(super) validates_references: bool,
}

impl Host {
    /// The sizes of upload requests that are tried in turn. Proxies often limit them to 100 MB or 1 MiB.
    const CHUNKS: [u64; 5] = [64 << 20, 16 << 20, 4 << 20, 1 << 20, Self::LEAST_CHUNK];
    /// No smaller requests are made, whatever a registry states: a blob would take too many.
    pub(super) const LEAST_CHUNK: u64 = 256 << 10;
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
            concealed_challenge: OnceCell::new(),
            referrers: Mutex::default(),
            head_is_wrong: AtomicBool::default(),
            head_has_found: AtomicBool::default(),
            chunk: Mutex::default(),
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

    pub(super) fn has_referrers(&self, repository: &Repository) -> Option<bool> {
        lock(&self.referrers).get(repository).copied()
    }

    /// Records whether the repository has the referrers API. A response without a list does not refute an earlier list.
    pub(super) fn note_referrers(&self, repository: &Repository, has: bool) {
        *lock(&self.referrers).entry(repository.clone()).or_insert(has) |= has;
    }

    pub(super) fn answers_head(&self) -> bool {
        !self.head_is_wrong.load(Ordering::Relaxed)
    }

    /// Whether it is not known yet that HEAD requests find what exists.
    pub(super) fn is_head_unproven(&self) -> bool {
        self.answers_head() && !self.head_has_found.load(Ordering::Relaxed)
    }

    pub(super) fn note_head_found(&self) {
        self.head_has_found.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_wrong_head(&self) {
        self.head_is_wrong.store(true, Ordering::Relaxed);
    }

    /// The maximum size of an upload request, if there is one.
    pub(super) fn chunk(&self) -> Option<u64> {
        *lock(&self.chunk)
    }

    /// Records that an upload request of `sent` bytes was too large. Returns the size to try next: at least `least`, which
    /// the registry requires; `None` if there is none.
    pub(super) fn reduce_chunk(&self, sent: u64, least: u64) -> Option<u64> {
        let mut chunk = lock(&self.chunk);
        // Another upload may have reduced it already.
        let known = chunk.filter(|known| *known < sent);
        let smaller = || Self::CHUNKS.into_iter().map(|size| size.max(least)).find(|size| *size < sent);
        let next = known.or_else(smaller)?;
        *chunk = Some(next);
        Some(next)
    }

    /// Records that the request that completes an upload must not contain the blob. Returns the size of the requests
    /// before it.
    pub(super) fn require_chunks(&self, least: u64) -> u64 {
        *lock(&self.chunk).get_or_insert(Self::CHUNKS[0].max(least))
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
