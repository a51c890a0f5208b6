//! A client for OCI registries.

mod auth;
mod blob;
mod builder;
mod challenge;
mod credentials;
#[cfg(feature = "ecr")]
mod ecr;
mod endpoints;
mod error;
#[cfg(any(fuzzing, test))]
#[cfg_attr(test, allow(unreachable_pub, reason = "only the build of the fuzz targets shows it"))]
pub mod fuzzing;
mod helper;
mod http;
#[cfg(feature = "ecr")]
mod layers;
mod lists;
mod origin;
mod pace;
#[cfg(feature = "ecr")]
mod parts;
mod platform;
mod referrers;
mod repository;
mod resolver;
mod session;
mod upload;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::{Method, Response};
use bp_artifact::{Registry, Repository};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::time::Instant;
use url::Url;

#[cfg(feature = "ecr")]
pub use self::ecr::EcrClients;
use self::{
    auth::{Authenticator, Authorization, Scope},
    http::{Answer, Call, Http, cannot_connect, full},
    origin::Origin,
    pace::Pace,
};
pub use self::{
    builder::{BuildError, RegistryClientBuilder},
    credentials::{Anonymous, Chain, CredentialError, CredentialSource, DockerConfig, Login, Logins},
    error::{ApiError, ApiErrors, RegistryError, RequestLine},
    http::{Body, Transport, transport},
    repository::RepositoryClient,
    resolver::RegistryResolver,
};
use crate::{
    journal::Journal,
    retry::{Observer, RetryPolicy},
};

/// A client for all registries that a delivery talks to. Cheap to clone; clones share connections, logins and tokens.
///
/// ```no_run
/// use bp_promote::{Chain, DockerConfig, RegistryClient};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RegistryClient::builder().credentials(DockerConfig).build()?;
/// let repository = client.repository(&"registry.example.com/shop/web".parse()?);
/// let manifest = repository.manifest(&"1.4.2".parse::<bp_artifact::Tag>()?.into()).await?;
/// assert_eq!(manifest.media_type, "application/vnd.oci.image.index.v1+json");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegistryClient(Arc<Shared>);

struct Shared {
    http: Http,
    credentials: Arc<dyn CredentialSource>,
    retry: RetryPolicy,
    hosts: Mutex<HashMap<Registry, Arc<Host>>>,
    journal: Option<Journal>,
    #[cfg(feature = "ecr")]
    ecr: EcrClients,
    #[cfg(feature = "ecr")]
    ecr_parts: bool,
    /// Registries that the caller knows to refuse manifests whose content is missing.
    refuse_gaps: HashSet<Registry>,
}

/// One registry.
struct Host {
    registry: Registry,
    base: Url,
    /// Whose credentials go where.
    origin: Origin,
    auth: Authenticator,
    pace: Pace,
    /// Whether it ever answered, and since when it cannot be reached.
    answered: AtomicBool,
    silent_since: Mutex<Option<Instant>>,
    /// Until when a throttling registry asked everybody to wait.
    pause: Mutex<Option<Instant>>,
    /// Whether it has the referrers API, once that is known.
    referrers: Mutex<Option<bool>>,
    /// Whether it is known to refuse manifests whose content is missing.
    refuses_gaps: bool,
}

impl Host {
    /// For how long a registry that never answered is tried.
    const PATIENCE: Duration = Duration::from_millis(1_500);

    fn call(&self, method: Method, path: impl Into<String>) -> Call {
        let path = path.into();
        let url = self.base.join(&path).expect("a checked repository path makes a URL");
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let at = RequestLine { method, registry: self.registry.clone(), path };
        Call::new(at, url, self.origin.clone())
    }

    /// The header for a request of this scope. None is fetched for one that may not carry it: an upload may go on at
    /// another host.
    async fn authorization(
        &self,
        http: &Http,
        scope: &Scope,
        call: &Call,
    ) -> Result<Option<Authorization>, RegistryError> {
        if call.is_at_home() { self.auth.authorization(http, scope).await } else { Ok(None) }
    }

    async fn wait_for_pause(&self) {
        let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn has_referrers(&self) -> Option<bool> {
        *self.referrers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_referrers(&self, has: bool) {
        *self.referrers.lock().unwrap_or_else(PoisonError::into_inner) = Some(has);
    }

    /// When the registry throttles one request, all others slow down, and wait as long as it asks for.
    fn note(&self, error: &RegistryError, policy: &RetryPolicy) {
        let RegistryError::RateLimited { retry_after, .. } = error else { return };
        self.pace.throttled();
        if let Some(after) = retry_after {
            let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            *pause = (*pause).max(Some(bp_artifact::time::deadline(policy.bounded(*after))));
        }
    }

    /// A registry that never answered is soon given up: its name is wrong, or it is not there.
    fn judge(&self, answer: Result<Answer, RegistryError>) -> Result<Answer, RegistryError> {
        match answer {
            Ok(answer) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(RegistryError::Transport { at, source })
                if !self.answered.load(Ordering::Relaxed) && cannot_connect(&*source) =>
            {
                let now = Instant::now();
                let mut silent = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
                match now.duration_since(*silent.get_or_insert(now)) >= Self::PATIENCE {
                    true => Err(RegistryError::Unreachable { at, source }),
                    false => Err(RegistryError::Transport { at, source }),
                }
            }
            Err(error) => Err(error),
        }
    }
}

impl RegistryClient {
    /// Starts to describe a client.
    pub fn builder() -> RegistryClientBuilder {
        RegistryClientBuilder::default()
    }

    /// The client for one repository.
    pub fn repository(&self, repository: &Repository) -> RepositoryClient {
        RepositoryClient::new(self.clone(), repository.clone())
    }

    fn host(&self, registry: &Registry) -> Arc<Host> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(registry.clone()).or_insert_with(|| {
            let base = self.0.http.endpoints.base(registry);
            let origin = Origin::of(&base);
            Arc::new(Host {
                registry: registry.clone(),
                base,
                auth: Authenticator::new(registry.clone(), origin.clone(), Arc::clone(&self.0.credentials)),
                origin,
                pace: Pace::new(registry.ecr().is_some()),
                answered: AtomicBool::default(),
                silent_since: Mutex::default(),
                pause: Mutex::default(),
                referrers: Mutex::default(),
                refuses_gaps: registry.ecr().is_some() || self.0.refuse_gaps.contains(registry),
            })
        });
        Arc::clone(host)
    }

    /// Sends a request until it gets one of the `expected` statuses, or an error that trying again does not mend.
    fn send<'a>(
        &'a self,
        errand: Errand<'a>,
        call: &'a Call,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        let attempt = move || self.attempt(errand, call, Bytes::new(), expected);
        Box::pin(self.0.retry.run(errand.observer, attempt))
    }

    /// Sends a request once, and once more with other credentials if these are not taken.
    fn attempt<'a>(
        &'a self,
        errand: Errand<'a>,
        call: &'a Call,
        body: Bytes,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        Box::pin(async move {
            let Errand { host, scope, .. } = errand;
            let http = &self.0.http;
            let mut renewed = false;
            loop {
                host.wait_for_pause().await;
                let ahead = host.auth.go_ahead().await;
                let authorization = host.authorization(http, scope, call).await?;
                let header = authorization.as_ref().map(|authorization| &authorization.value);
                let slot = host.pace.turn(&call.at.method, &call.at.path).await;
                errand.count();
                let answer = host.judge(http.exchange(call, header, full(body.clone())).await)?;
                drop(slot);
                let status = answer.response.status();
                let learned = host.auth.learn(&answer);
                drop(ahead);
                if expected.contains(&status.as_u16()) {
                    host.pace.taken();
                    return Ok(answer.response);
                }
                // Another host that refuses the request tells nothing about the registry's credentials.
                if matches!(status.as_u16(), 401 | 403) && answer.elsewhere.is_none() && !renewed {
                    // Learned just now: what the registry wants was not known when this request was made.
                    let knows_better = learned && authorization.is_none();
                    if knows_better || host.auth.renew(http, scope, authorization.as_ref()).await? {
                        renewed = !knows_better;
                        continue;
                    }
                }
                let error = http.refusal(&call.at, answer).await;
                host.note(&error, &self.0.retry);
                return Err(error);
            }
        })
    }

    /// Sends a request with a body that can be sent only once.
    fn stream<'a>(
        &'a self,
        errand: Errand<'a>,
        call: &'a Call,
        body: Body,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        Box::pin(async move {
            let Errand { host, scope, .. } = errand;
            let http = &self.0.http;
            host.wait_for_pause().await;
            let authorization = host.authorization(http, scope, call).await?;
            let _slot = host.pace.turn(&call.at.method, &call.at.path).await;
            errand.count();
            let header = authorization.as_ref().map(|authorization| &authorization.value);
            let answer = http.upload(call, header, body).await?;
            if expected.contains(&answer.response.status().as_u16()) {
                host.pace.taken();
                return Ok(answer.response);
            }
            let mut error = http.refusal(&call.at, answer).await;
            host.note(&error, &self.0.retry);
            if let RegistryError::Unauthorized { renewed, .. } | RegistryError::Denied { renewed, .. } =
                &mut error
            {
                *renewed = host.auth.renew(http, scope, authorization.as_ref()).await?;
            }
            Err(error)
        })
    }
}

/// On whose behalf a request is sent.
#[derive(Clone, Copy)]
struct Errand<'a> {
    host: &'a Host,
    scope: &'a Scope,
    requests: &'a AtomicU64,
    observer: Option<&'a Observer>,
}

impl Errand<'_> {
    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryClient").field("retry", &self.0.retry).finish_non_exhaustive()
    }
}
