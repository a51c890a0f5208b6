//! The client for one repository: its manifests.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex as SyncMutex},
};

use ::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use bp_artifact::{Digest, ImageRef, Repository, Tag, resolve::ManifestError, sync::lock, text::SingleLine};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use serde::de::IgnoredAny;
use tokio::sync::{Mutex, OnceCell};

use super::{
    auth::Scope,
    body::Body,
    client::{RegistryClient, RequestContext},
    endpoints::request_path,
    error::RegistryError,
    host::Host,
    http::{Call, MAX_ANSWER, is_page},
};
use crate::{
    content::{ACCEPT, Descriptor, Manifest, Reference, object},
    retry::{Observer, Retries, Transient as _, notify_observer},
    store::{ImageAt, RequestCounter, RunContext, WarningObserver},
};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A client for one repository. Cheap to clone; clones share the request counter.
#[derive(Clone)]
pub struct RepositoryClient {
    pub(super) client: RegistryClient,
    pub(super) host: Arc<Host>,
    pub(super) repository: Repository,
    pub(super) pull: Scope,
    pub(super) push: Scope,
    pub(super) requests: RequestCounter,
    /// Layer checks through Amazon ECR's own API.
    #[cfg(feature = "ecr")]
    pub(super) layers: Option<Arc<super::ecr::LayerChecks>>,
    /// All tags, once they have been listed; `None` if they cannot be listed.
    pub(super) known_tags: Arc<OnceCell<Option<HashSet<Tag>>>>,
    /// The tags that were read: a list without one of them is incomplete.
    pub(super) read_tags: Arc<SyncMutex<HashSet<Tag>>>,
    /// The lists under fallback tags that this client and its clones have written. Locked while a list is changed.
    pub(super) lists: Arc<Mutex<HashSet<Digest>>>,
    /// Whether lists by other writers must not be changed.
    pub(super) keeps_lists: bool,
    pub(super) observer: Option<Observer>,
    warnings: Option<WarningObserver>,
}

impl RegistryClient {
    /// The client for one repository.
    pub fn repository(&self, repository: &Repository) -> RepositoryClient {
        RepositoryClient::new(self.clone(), repository.clone())
    }

    /// The image that `image` refers to, as a source or destination of a [`copy`](crate::copy()).
    pub fn image(&self, image: &ImageRef) -> ImageAt<RepositoryClient> {
        ImageAt::new(self.repository(image.repository()), Reference::from_image(image))
    }
}

impl RepositoryClient {
    fn new(client: RegistryClient, repository: Repository) -> Self {
        #[cfg(feature = "ecr")]
        let layers = client.0.ecr.of(repository.registry());
        RepositoryClient {
            #[cfg(feature = "ecr")]
            layers: layers.map(|ecr| super::ecr::LayerChecks::new(ecr.clone(), repository.clone())),
            host: client.host(repository.registry()),
            pull: Scope::pull(&repository),
            push: Scope::push(&repository),
            client,
            repository,
            requests: RequestCounter::default(),
            known_tags: Arc::default(),
            read_tags: Arc::default(),
            lists: Arc::default(),
            keeps_lists: false,
            observer: None,
            warnings: None,
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The image `reference` in this repository, as a source or destination of a [`copy`](crate::copy()).
    pub fn at(&self, reference: impl Into<Reference>) -> ImageAt<Self> {
        ImageAt::new(self.clone(), reference)
    }

    /// The number of requests that this client and its clones have sent, without token requests.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// The same client with the request counter and the retry observer of a run.
    pub(super) fn in_run(&self, run: &RunContext) -> Self {
        RepositoryClient {
            requests: run.requests().clone(),
            known_tags: Arc::default(),
            read_tags: Arc::default(),
            keeps_lists: run.keeps_tags(),
            observer: Some(Arc::clone(run.observer())),
            warnings: Some(Arc::clone(run.warnings())),
            ..self.clone()
        }
    }

    /// The same client for a destination. All of its tokens permit pushes: some registries create a repository when such
    /// a token is requested, and reject the others until then.
    pub(super) fn for_pushes(self) -> Self {
        RepositoryClient { pull: self.push.clone(), ..self }
    }

    /// Reports that an optional feature of the registry is not available.
    pub(super) fn warn(&self, message: String) {
        match &self.warnings {
            Some(observer) => observer(message),
            None => tracing::warn!(reason = %SingleLine(&message), "optional registry feature not available"),
        }
    }

    pub(super) fn context<'a>(&'a self, scope: &'a Scope) -> RequestContext<'a> {
        RequestContext { host: &self.host, scope, requests: &self.requests, observer: self.observer.as_ref() }
    }

    pub(super) fn path(&self, rest: impl fmt::Display) -> String {
        format!("/v2/{}/{rest}", request_path(&self.repository))
    }

    pub(super) async fn send(
        &self,
        scope: &Scope,
        call: &Call,
        expected: &'static [u16],
    ) -> Result<Response<Body>, RegistryError> {
        self.client.send(self.context(scope), call, expected).await
    }

    /// The descriptor that `reference` currently points to, from a HEAD request. `None` if it does not exist. If the
    /// registry rejects HEAD requests, the manifest is read.
    ///
    /// # Errors
    /// When the registry is unavailable, or denies access.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        if !self.host.answers_head() {
            return self.head_by_reading(reference).await;
        }
        let call = self.host.call(Method::HEAD, self.path(format_args!("manifests/{reference}")));
        let call = call.header(header::ACCEPT, &ACCEPT);
        let headers = match self.send(&self.pull, &call, &[200]).await {
            Ok(response) => response.headers().clone(),
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) if error.is_refusal() => {
                return self.head_by_reading(reference).await.inspect(|_| self.host.note_wrong_head());
            }
            Err(error) => return Err(error),
        };
        let reported = text(&headers, CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let contradicts = |asked: &Digest, reported: &Digest| {
            asked.algorithm() == reported.algorithm() && asked != reported
        };
        let digest = match (reference, reported) {
            (Reference::Digest(asked), None) => Some(asked.clone()),
            (Reference::Digest(asked), Some(reported)) => {
                (!contradicts(asked, &reported)).then(|| asked.clone())
            }
            (Reference::Tag(_), reported) => reported,
        };
        // The header is optional: without it, the manifest has to be read, and also if the response is a web page, which
        // some servers return for any path.
        let Some(digest) = digest.filter(|_| !is_page(&headers)) else {
            return self.head_by_reading(reference).await;
        };
        self.host.note_head_found();
        self.note_read(reference);
        let media_type = text(&headers, header::CONTENT_TYPE).unwrap_or_default();
        let size = text(&headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Ok(Some(Descriptor::of(media_type, digest, size.unwrap_or_default())))
    }

    /// As [`head`](Self::head), but reads the manifest: HEAD requests are answered with 404 by some registries that have
    /// it.
    pub(super) async fn confirm_head(
        &self,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let found = self.head_by_reading(reference).await?;
        if found.is_some() {
            self.host.note_wrong_head();
        }
        Ok(found)
    }

    async fn head_by_reading(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        match self.manifest(reference).await {
            Ok(manifest) => Ok(Some(manifest.descriptor())),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the manifest or index that `reference` points to, and hashes its bytes.
    ///
    /// # Errors
    /// When it does not exist, the registry is unavailable or denies access, or the bytes do not match the digest.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        let call = self.host.call(Method::GET, self.path(format_args!("manifests/{reference}")));
        let call = call.header(header::ACCEPT, &ACCEPT);
        let read = || self.read_manifest(&call, reference);
        let manifest = self.client.0.retry.run(self.observer.as_ref(), read).await?;
        self.note_read(reference);
        Ok(manifest)
    }

    /// Records that a reference exists.
    fn note_read(&self, reference: &Reference) {
        if let Reference::Tag(tag) = reference {
            lock(&self.read_tags).insert(tag.clone());
        }
    }

    fn read_manifest<'a>(
        &'a self,
        call: &'a Call,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        Box::pin(async move {
            let context = self.context(&self.pull);
            let mut answer = self.client.attempt(context, call, Bytes::new(), &[200]).await?;
            let is_tag = matches!(reference, Reference::Tag(_));
            if is_tag && age(answer.headers()).is_some() {
                // The tag may have moved since the response was cached: the cache has to ask the registry.
                let fresh = call.clone().header(header::CACHE_CONTROL, "no-cache");
                answer = self.client.attempt(context, &fresh, Bytes::new(), &[200]).await?;
            }
            let (parts, body) = answer.into_parts();
            if let Some(age) = age(&parts.headers).filter(|_| is_tag) {
                return Err(RegistryError::Cached { at: call.at.clone(), age });
            }
            let bytes = self.client.0.http.collect(&call.at, body, MAX_ANSWER).await?;
            if is_page(&parts.headers) && object::<IgnoredAny>(&bytes).is_err() {
                return Err(RegistryError::Protocol {
                    at: call.at.clone(),
                    reason: "it is a web page: check the address, and whether a proxy requires a login"
                        .to_owned(),
                });
            }
            // The bytes of a tag are compared with the digest in the response header.
            let reported = text(&parts.headers, CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
            let expected = match reference {
                Reference::Digest(digest) => Some(digest.clone()),
                Reference::Tag(_) => reported,
            };
            let media_type = text(&parts.headers, header::CONTENT_TYPE);
            Manifest::read(media_type.as_deref(), expected.as_ref(), bytes).map_err(|source| match source {
                ManifestError::Digest { expected, found } => {
                    RegistryError::Corrupt { at: call.at.clone(), expected, found }
                }
                source => RegistryError::Manifest { at: call.at.clone(), source },
            })
        })
    }

    /// Stores the exact bytes of a manifest under its digest or a tag. The content that it refers to must exist.
    ///
    /// # Errors
    /// When the registry rejects it, is unavailable or denies access.
    ///
    /// # Permissions
    /// Push. On Amazon ECR: `ecr:PutImage`.
    ///
    /// # Cancel safety
    /// After cancellation it may be stored or not; storing it again changes nothing.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        self.put(reference, manifest).await.map(|_| ())
    }

    /// Stores a manifest and returns the response headers.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<HeaderMap, RegistryError> {
        let retries = |error: &RegistryError| {
            // A registry may take some time to see blobs that were just uploaded.
            if error.is_missing_content() {
                Retries::ByPolicy
            } else if error.is_concurrent_push(reference) {
                Retries::AtMost(2)
            } else {
                error.retries()
            }
        };
        self.put_while(retries, reference, manifest).await
    }

    async fn put_while(
        &self,
        retries: impl Fn(&RegistryError) -> Retries,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<HeaderMap, RegistryError> {
        let call = self.host.call(Method::PUT, self.path(format_args!("manifests/{reference}")));
        let call = call.header(header::CONTENT_TYPE, &manifest.media_type);
        let put = || {
            let bytes = manifest.bytes.clone();
            self.client.attempt(self.context(&self.push), &call, bytes, STORED)
        };
        let response =
            self.client.0.retry.run_when(retries, notify_observer(self.observer.as_ref()), put).await;
        let response = match response {
            // Another writer has pushed the same manifest.
            Err(error)
                if matches!(reference, Reference::Digest(_))
                    && error.is_concurrent_push(reference)
                    && self.confirm_stored(reference).await?.is_some() =>
            {
                return Ok(HeaderMap::new());
            }
            response => response?,
        };
        let is_reported = check_reported(&call, response.headers(), &manifest.digest)?;
        // Another status than 201 does not say that it is stored.
        if response.status() != StatusCode::CREATED && !is_reported {
            let by_digest = Reference::Digest(manifest.digest.clone());
            if self.confirm_stored(&by_digest).await?.is_none() {
                return Err(not_stored(&call, response.status()));
            }
        }
        Ok(response.headers().clone())
    }

    /// What a reference points to after it was stored.
    async fn confirm_stored(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        match self.head(reference).await? {
            Some(found) => Ok(Some(found)),
            None => self.head_by_reading(reference).await,
        }
    }

    /// Stores a manifest under a tag if all content that it refers to exists.
    pub(super) async fn put_if_complete(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        // A referrer may have to be listed first.
        if !self.host.validates_references || manifest.subject().is_some() {
            return Ok(false);
        }
        match self.put_while(RegistryError::retries, reference, manifest).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Err(error),
            // Content is missing, or there is another reason: the regular push will report that one.
            Err(RegistryError::Refused { .. } | RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for RepositoryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryClient").field("repository", &self.repository).finish_non_exhaustive()
    }
}

/// The statuses of a successful push. Only 201 says that the content is stored.
pub(super) const STORED: &[u16] = &[200, 201, 202, 204];

/// Compares the digest that the registry reports for pushed content; returns whether it reports one.
pub(super) fn check_reported(
    call: &Call,
    headers: &HeaderMap,
    expected: &Digest,
) -> Result<bool, RegistryError> {
    let reported = text(headers, CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
    match reported.filter(|reported| reported.algorithm() == expected.algorithm()) {
        Some(found) if found != *expected => {
            Err(RegistryError::Corrupt { at: call.at.clone(), expected: expected.clone(), found })
        }
        reported => Ok(reported.is_some()),
    }
}

/// The error for content that does not exist after a push that seemed to succeed.
pub(super) fn not_stored(call: &Call, status: StatusCode) -> RegistryError {
    let reason = format!("status {}, but the content does not exist afterwards", status.as_u16());
    RegistryError::Protocol { at: call.at.clone(), reason }
}

/// The age of a response that a cache sent without revalidation (RFC 9111, section 5.1).
fn age(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::AGE)?.parse().ok().filter(|age| *age > 0)
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
