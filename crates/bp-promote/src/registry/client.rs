//! The client for OCI registries: sending requests with authentication, retries and rate limits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use ::http::{Method, Response, StatusCode};
use bp_artifact::{Registry, sync::lock};
use bytes::Bytes;
use futures_core::future::BoxFuture;

#[cfg(feature = "ecr")]
use super::ecr::EcrClients;
use super::{
    auth::Scope,
    body::Body,
    credentials::CredentialSource,
    error::RegistryError,
    host::Host,
    http::{Call, Http},
    providers::profile_of,
};
use crate::{
    journal::Journal,
    retry::{Observer, RetryPolicy},
    store::RequestCounter,
};

/// A client for any number of registries. Cheap to clone; clones share connections, logins and tokens.
///
/// ```no_run
/// use bp_promote::{RegistryClient, registry::{Chain, DockerConfig}};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RegistryClient::builder().credentials(DockerConfig).build()?;
/// let repository = client.repository(&"registry.example.com/shop/web".parse()?);
/// let manifest = repository.manifest(&"1.4.2".parse::<bp_artifact::Tag>()?.into()).await?;
/// assert_eq!(manifest.media_type, "application/vnd.oci.image.index.v1+json");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegistryClient(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) http: Http,
    pub(super) credentials: Arc<dyn CredentialSource>,
    pub(super) retry: RetryPolicy,
    pub(super) hosts: Mutex<HashMap<Registry, Arc<Host>>>,
    pub(super) journal: Option<Journal>,
    #[cfg(feature = "ecr")]
    pub(super) ecr: EcrClients,
    #[cfg(feature = "ecr")]
    pub(super) ecr_parts: bool,
    /// Registries that reject manifests with missing content, according to the caller.
    pub(super) validates_references: HashSet<Registry>,
}

impl RegistryClient {
    /// The Amazon ECR client of a registry.
    #[cfg(feature = "ecr")]
    pub(crate) fn ecr_client(&self, registry: &Registry) -> Option<&aws_sdk_ecr::Client> {
        self.0.ecr.of(registry)
    }

    pub(super) fn host(&self, registry: &Registry) -> Arc<Host> {
        let mut hosts = lock(&self.0.hosts);
        let shared = &self.0;
        let host = hosts.entry(registry.clone()).or_insert_with(|| {
            let base = shared.http.endpoints.base(registry);
            let mut profile = profile_of(registry);
            profile.validates_references |= shared.validates_references.contains(registry);
            Arc::new(Host::new(registry.clone(), base, Arc::clone(&shared.credentials), profile))
        });
        Arc::clone(host)
    }

    /// Sends a request, with retries, until it returns one of the `expected` statuses or a permanent error.
    pub(super) fn send<'a>(
        &'a self,
        context: RequestContext<'a>,
        call: &'a Call,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        let attempt = move || self.attempt(context, call, Bytes::new(), expected);
        Box::pin(self.0.retry.run(context.observer, attempt))
    }

    /// Sends a request once, and a second time with renewed credentials if the first ones are rejected.
    pub(super) fn attempt<'a>(
        &'a self,
        context: RequestContext<'a>,
        call: &'a Call,
        body: Bytes,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        Box::pin(async move {
            let RequestContext { host, scope, .. } = context;
            let http = &self.0.http;
            let (mut renewed, mut discovered) = (false, false);
            loop {
                host.wait_for_pause().await;
                let discovery = host.auth.discovery_guard().await;
                let was_challenged = host.auth.is_challenged();
                let authorization = host.authorization(http, scope, call).await?;
                let header = authorization.as_ref().map(|authorization| &authorization.value);
                let slot = host.pace.acquire(&call.at.method, &call.at.path).await;
                context.count();
                let answer = host.check_reachable(http.exchange(call, header, body.clone()).await)?;
                drop(slot);
                let status = answer.response.status();
                let learned = host.auth.learn(&answer, scope);
                drop(discovery);
                if expected.contains(&status.as_u16()) {
                    host.pace.succeeded();
                    return Ok(answer.response);
                }
                // A response of another host is unrelated to the registry's credentials.
                if matches!(status.as_u16(), 401 | 403) && answer.elsewhere.is_none() && !renewed {
                    // This response was the challenge: the request was sent before the scheme was known.
                    let first_challenge = learned && authorization.is_none() && host.auth.is_challenged();
                    if first_challenge || host.auth.renew(http, scope, authorization.as_ref()).await? {
                        renewed = !first_challenge;
                        continue;
                    }
                }
                let is_anonymous = !was_challenged && call.is_same_origin() && answer.elsewhere.is_none();
                if is_anonymous
                    && matches!(status.as_u16(), 401 | 403 | 404)
                    && !std::mem::replace(&mut discovered, true)
                    && self.discover_challenge(context).await?
                {
                    continue;
                }
                let error = http.refusal(&call.at, answer).await;
                host.note(&error, &self.0.retry);
                return Err(host.auth.explain(error).await);
            }
        })
    }

    /// Checks the login for `registry` at its `/v2/` URL. Returns `false` if the registry does not require a login there,
    /// so that the login is not checked.
    ///
    /// # Errors
    /// When the registry refuses the login, or cannot be reached.
    ///
    /// # Permissions
    /// None beyond the login.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn check_login(&self, registry: &Registry) -> Result<bool, RegistryError> {
        let (host, scope, requests) = (self.host(registry), Scope::registry(), RequestCounter::default());
        let context = RequestContext { host: &host, scope: &scope, requests: &requests, observer: None };
        self.send(context, &host.call(Method::GET, "/v2/"), &[200]).await?;
        Ok(host.auth.is_challenged())
    }

    /// Asks `/v2/` for the challenge of a registry that has rejected an anonymous request without one, if there is a
    /// login for it: some registries conceal from strangers what exists. Asked once; returns whether there is a
    /// challenge.
    async fn discover_challenge(&self, context: RequestContext<'_>) -> Result<bool, RegistryError> {
        let (host, http) = (context.host, &self.0.http);
        let ask = || async {
            if !host.auth.has_login(http).await {
                return Ok(false);
            }
            let call = host.call(Method::GET, "/v2/");
            let _slot = host.pace.acquire(&call.at.method, &call.at.path).await;
            context.count();
            let answer = host.check_reachable(http.exchange(&call, None, Bytes::new()).await)?;
            let status = answer.response.status();
            // A failure does not say that there is no challenge: what the registry conceals would seem not to exist.
            let is_failure = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
            if is_failure || status == StatusCode::TOO_MANY_REQUESTS {
                let error = http.refusal(&call.at, answer).await;
                host.note(&error, &self.0.retry);
                return Err(error);
            }
            Ok(host.auth.learn(&answer, &Scope::registry()))
        };
        let found = host.concealed_challenge.get_or_try_init(ask).await?;
        Ok(*found || host.auth.is_challenged())
    }

    /// Sends a request with a body that can be sent only once.
    pub(super) fn stream<'a>(
        &'a self,
        context: RequestContext<'a>,
        call: &'a Call,
        body: Body,
        expected: &'static [u16],
    ) -> BoxFuture<'a, Result<Response<Body>, RegistryError>> {
        Box::pin(async move {
            let RequestContext { host, scope, .. } = context;
            let http = &self.0.http;
            host.wait_for_pause().await;
            let authorization = host.authorization(http, scope, call).await?;
            let _slot = host.pace.acquire(&call.at.method, &call.at.path).await;
            context.count();
            let header = authorization.as_ref().map(|authorization| &authorization.value);
            let answer = http.upload(call, header, body).await?;
            if expected.contains(&answer.response.status().as_u16()) {
                host.pace.succeeded();
                return Ok(answer.response);
            }
            host.auth.learn(&answer, scope);
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

/// The registry, token scope, request counter and retry observer of a request.
#[derive(Clone, Copy)]
pub(super) struct RequestContext<'a> {
    pub(super) host: &'a Host,
    pub(super) scope: &'a Scope,
    pub(super) requests: &'a RequestCounter,
    pub(super) observer: Option<&'a Observer>,
}

impl RequestContext<'_> {
    pub(super) fn count(&self) {
        self.requests.add();
    }
}

impl std::fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryClient").field("retry", &self.0.retry).finish_non_exhaustive()
    }
}
