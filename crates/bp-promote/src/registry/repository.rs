//! One repository: its manifests.

use std::{collections::HashSet, fmt, sync::Arc};

use ::http::{HeaderMap, HeaderName, Method, Response, header};
use bp_artifact::{Digest, ImageRef, Repository, Tag, error::Classified as _, resolve::ManifestError};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::{Mutex, OnceCell};

use super::{
    auth::Scope,
    client::{RegistryClient, RequestContext},
    error::RegistryError,
    host::Host,
    http::{Body, Call, MAX_ANSWER},
};
use crate::{
    content::{ACCEPT, Descriptor, Manifest, Reference},
    retry::{Observer, telling},
    store::{ImageAt, RequestCounter, RunContext},
};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The client for one repository. Cheap to clone; clones count their requests together.
#[derive(Clone)]
pub struct RepositoryClient {
    pub(super) client: RegistryClient,
    pub(super) host: Arc<Host>,
    pub(super) repository: Repository,
    pub(super) pull: Scope,
    pub(super) push: Scope,
    pub(super) requests: RequestCounter,
    /// Which blobs are here, as Amazon ECR's own API tells.
    #[cfg(feature = "ecr")]
    pub(super) layers: Option<Arc<super::ecr::LayerChecks>>,
    /// All tags, once they have been listed; `None` when that is not allowed.
    pub(super) known_tags: Arc<OnceCell<Option<HashSet<Tag>>>>,
    /// The lists of referrers under fallback tags that this client and its clones have written. Held while one changes.
    pub(super) lists: Arc<Mutex<HashSet<Digest>>>,
    /// Whether lists that others have written stay as they are.
    pub(super) keeps_lists: bool,
    pub(super) observer: Option<Observer>,
}

impl RegistryClient {
    /// The client for one repository.
    pub fn repository(&self, repository: &Repository) -> RepositoryClient {
        RepositoryClient::new(self.clone(), repository.clone())
    }

    /// The image that `image` names, as a side of a [`copy`](crate::copy()).
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
            lists: Arc::default(),
            keeps_lists: false,
            observer: None,
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The image `reference` here, as a side of a [`copy`](crate::copy()).
    pub fn at(&self, reference: impl Into<Reference>) -> ImageAt<Self> {
        ImageAt::new(self.clone(), reference)
    }

    /// How many requests this client and its clones have sent, those for tokens left out.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// The same client for one run, which counts its requests and is notified of its retries.
    pub(super) fn in_run(&self, run: &RunContext) -> Self {
        RepositoryClient {
            requests: run.requests().clone(),
            known_tags: Arc::default(),
            keeps_lists: run.keeps_tags(),
            observer: Some(Arc::clone(run.observer())),
            ..self.clone()
        }
    }

    pub(super) fn context<'a>(&'a self, scope: &'a Scope) -> RequestContext<'a> {
        RequestContext { host: &self.host, scope, requests: &self.requests, observer: self.observer.as_ref() }
    }

    pub(super) fn path(&self, rest: impl fmt::Display) -> String {
        format!("/v2/{}/{rest}", self.repository.path())
    }

    pub(super) async fn send(
        &self,
        scope: &Scope,
        call: &Call,
        expected: &'static [u16],
    ) -> Result<Response<Body>, RegistryError> {
        self.client.send(self.context(scope), call, expected).await
    }

    /// What `reference` names now, without reading it. `None` when it names nothing.
    ///
    /// # Errors
    /// When the registry cannot be asked, or does not allow it.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        let call = self.host.call(Method::HEAD, self.path(format_args!("manifests/{reference}")));
        let call = call.header(header::ACCEPT, &ACCEPT);
        let headers = match self.send(&self.pull, &call, &[200]).await {
            Ok(response) => response.headers().clone(),
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let told = text(&headers, CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let digest = match (reference, told) {
            (Reference::Digest(asked), _) => asked.clone(),
            (Reference::Tag(_), Some(told)) => told,
            // The header is optional: then only the bytes tell.
            (Reference::Tag(_), None) => match self.manifest(reference).await {
                Ok(manifest) => return Ok(Some(manifest.descriptor())),
                Err(RegistryError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let media_type = text(&headers, header::CONTENT_TYPE).unwrap_or_default();
        let size = text(&headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Ok(Some(Descriptor::of(media_type, digest, size.unwrap_or_default())))
    }

    /// Reads the manifest or index that `reference` names. Its bytes are hashed.
    ///
    /// # Errors
    /// When it is not there, the registry cannot be asked or does not allow it, or the bytes are not those that were
    /// asked for.
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
        self.client.0.retry.run(self.observer.as_ref(), read).await
    }

    fn read_manifest<'a>(
        &'a self,
        call: &'a Call,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Manifest, RegistryError>> {
        Box::pin(async move {
            let answer = self.client.attempt(self.context(&self.pull), call, Bytes::new(), &[200]);
            let (parts, body) = answer.await?.into_parts();
            if let (Reference::Tag(_), Some(age)) = (reference, age(&parts.headers)) {
                return Err(RegistryError::Cached { at: call.at.clone(), age });
            }
            let bytes = self.client.0.http.collect(&call.at, body, MAX_ANSWER).await?;
            // A tag's bytes are held against what the registry says of them.
            let told = text(&parts.headers, CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
            let expected = match reference {
                Reference::Digest(digest) => Some(digest.clone()),
                Reference::Tag(_) => told,
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

    /// Stores a manifest under its digest or a tag, byte for byte. What it refers to must be there.
    ///
    /// # Errors
    /// When the registry refuses it, cannot be asked or does not allow it.
    ///
    /// # Permissions
    /// Push. On Amazon ECR: `ecr:PutImage`.
    ///
    /// # Cancel safety
    /// It may be stored or not; storing it again changes nothing.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        self.put(reference, manifest).await.map(|_| ())
    }

    /// Stores a manifest and gives the headers of the answer.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<HeaderMap, RegistryError> {
        // A registry may not see blobs yet that it has just taken.
        let worth = |error: &RegistryError| error.is_retryable() || error.is_missing_content();
        self.put_while(worth, reference, manifest).await
    }

    async fn put_while(
        &self,
        worth: impl Fn(&RegistryError) -> bool,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<HeaderMap, RegistryError> {
        let call = self.host.call(Method::PUT, self.path(format_args!("manifests/{reference}")));
        let call = call.header(header::CONTENT_TYPE, &manifest.media_type);
        let put = || {
            let bytes = manifest.bytes.clone();
            self.client.attempt(self.context(&self.push), &call, bytes, &[200, 201, 202])
        };
        let response = self.client.0.retry.run_when(worth, telling(self.observer.as_ref()), put).await?;
        let told = text(response.headers(), CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        match told {
            Some(told) if told.algorithm() == manifest.digest.algorithm() && told != manifest.digest => {
                Err(RegistryError::Corrupt { at: call.at, expected: manifest.digest.clone(), found: told })
            }
            _ => Ok(response.headers().clone()),
        }
    }

    /// Stores a manifest under a tag if all that it refers to is there.
    pub(super) async fn put_if_complete(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        if !self.host.validates_references {
            return Ok(false);
        }
        match self.put_while(RegistryError::is_retryable, reference, manifest).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_immutable_tag() => Err(error),
            // Refused for what it misses; another reason will be met, and told, when nothing is missing.
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

/// How old an answer is that a cache gave without asking (RFC 9111, section 5.1).
fn age(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::AGE)?.parse().ok().filter(|age| *age > 0)
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
