//! Resolve images through the Amazon ECR API: no registry login, no token.

mod availability;
mod caches;
mod failure;
mod image_id;
mod lifecycle;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_sdk_ecr::{
    Client,
    operation::RequestId,
    types::{Image, ImageFailureCode, ImageIdentifier},
};
use futures_core::future::BoxFuture;

use self::{
    caches::Caches,
    failure::{failed, unavailable},
    image_id::identifier,
};
use super::{Availability, ManifestError, Resolve, ResolveError, Retention, Storage};
use crate::{
    digest::Digest,
    image::ResolvedImage,
    media_type,
    reference::{DigestRef, ImageRef, Repository},
    sync::lock,
    time::Wait,
};

/// Resolves images in Amazon ECR with one call of `BatchGetImage`.
///
/// The manifest is hashed and compared with the digest that the service returns. The client must be configured for
/// the registry's region; its retries, timeouts and credentials apply.
///
/// A tag in a pull-through cache is rejected: it may be stale by a day. The registry's pull-through cache rules are
/// read once, after the first tag was found. If the caller has no permission to read them, tags are rejected, unless
/// [`assume_no_caches`](Self::assume_no_caches) is set.
///
/// ```no_run
/// use std::time::Duration;
/// use bp_artifact::{resolve::{EcrResolver, wait_for}, time::Wait};
///
/// # async fn run(client: aws_sdk_ecr::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = EcrResolver::new(client);
/// let image = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1a2b3c4".parse()?;
/// let wait = Wait::new(Duration::from_secs(300), Duration::from_secs(2))?;
/// let resolved = wait_for(&resolver, &image, wait).await?;
/// assert!(resolved.reference.to_string().contains("/shop/web@sha256:"));
/// # Ok(()) }
/// ```
///
/// # Permissions
/// `ecr:BatchGetImage` on the repository; for tags `ecr:DescribePullThroughCacheRules` on `*`. For
/// [`availability`](Resolve::availability), and to recognise that a missing image is archived, `ecr:DescribeImages`; with [`lifecycle_preview`](Self::lifecycle_preview)
/// `ecr:StartLifecyclePolicyPreview`, `ecr:GetLifecyclePolicyPreview` and `ecr:GetLifecyclePolicy`.
#[derive(Debug, Clone)]
pub struct EcrResolver {
    client: Client,
    caches: Option<Arc<Caches>>,
    preview: Option<Wait>,
    /// The images that were not found and were looked up in the archive, and what was found there.
    archive: Arc<Mutex<BTreeMap<String, Option<Archived>>>>,
}

/// The state of an archived image.
#[derive(Debug, Clone, Copy)]
struct Archived {
    restoring: bool,
}

impl EcrResolver {
    /// Creates a resolver that uses `client`.
    pub fn new(client: Client) -> Self {
        EcrResolver { client, caches: Some(Arc::default()), preview: None, archive: Arc::default() }
    }

    /// Lets [`availability`](Resolve::availability) evaluate the repository's lifecycle policy, by a preview. ECR
    /// evaluates it asynchronously; one that takes longer than `wait` is [unknown](Retention::Unknown). It changes no
    /// image.
    pub fn lifecycle_preview(mut self, wait: Wait) -> Self {
        self.preview = Some(wait);
        self
    }

    /// Skips the pull-through check, for registries without pull-through caches whose rules the caller cannot read,
    /// such as those of another account.
    pub fn assume_no_caches(mut self) -> Self {
        self.caches = None;
        self
    }

    /// The registry's account, if the client is configured for the registry's region.
    fn account<'a>(&self, repository: &'a Repository) -> Result<&'a str, ResolveError> {
        let wrong = |reason| ResolveError::WrongRegistry { repository: repository.clone(), reason };
        let (account, region) = repository
            .registry()
            .ecr()
            .ok_or_else(|| wrong("it is not a private registry of Amazon ECR".into()))?;
        match self.client.config().region() {
            Some(ours) if ours.as_ref() != region => {
                Err(wrong(format!("the registry is in {region} and the client in {ours}")))
            }
            _ => Ok(account),
        }
    }

    #[tracing::instrument(name = "resolve", skip_all, fields(%image))]
    async fn resolve_once(&self, image: &ImageRef) -> Result<ResolvedImage, ResolveError> {
        let account = self.account(image.repository())?;
        let answer = self.get_active(image, account).await?;
        let reported = answer.image_id().and_then(ImageIdentifier::image_digest).unwrap_or_default();
        let manifest = answer.image_manifest().unwrap_or_default();
        let found = verify(image, reported, answer.image_manifest_media_type(), manifest)
            .map_err(|source| ResolveError::BadManifest { image: image.clone(), source: Box::new(source) })?;
        match (&self.caches, image.digest()) {
            (Some(caches), None) => caches.check(&self.client, account, image).await.map(|()| found),
            _ => Ok(found),
        }
    }

    /// As [`get`](Self::get). An image that is not found is looked up in the archive, once: somebody may be waiting for
    /// it to be pushed.
    async fn get_active(&self, image: &ImageRef, account: &str) -> Result<Image, ResolveError> {
        let error = match self.get(image, account).await {
            Err(error @ ResolveError::ImageNotFound { .. }) => error,
            other => return other,
        };
        let known = lock(&self.archive).get(&image.to_string()).copied();
        let found = match known {
            Some(found) => found,
            None => {
                let described = availability::describe(&self.client, account, image).await;
                let found = match described.map(|detail| availability::storage(&detail)) {
                    Ok(Storage::Archived) => Some(Archived { restoring: false }),
                    Ok(Storage::Activating) => Some(Archived { restoring: true }),
                    Ok(Storage::Active | Storage::Unknown { .. }) | Err(_) => None,
                };
                lock(&self.archive).insert(image.to_string(), found);
                found
            }
        };
        match found {
            Some(Archived { restoring }) => Err(ResolveError::Archived { image: image.clone(), restoring }),
            None => Err(error),
        }
    }

    async fn get(&self, image: &ImageRef, account: &str) -> Result<Image, ResolveError> {
        let repository = image.repository();
        let answer = self
            .client
            .batch_get_image()
            .registry_id(account)
            .repository_name(repository.path())
            .image_ids(identifier(image))
            .set_accepted_media_types(Some(media_type::IMAGES.map(str::to_owned).to_vec()))
            .send()
            .await
            .map_err(|error| failed(repository, "ecr:BatchGetImage", error))?;
        let request_id = answer.request_id().map(str::to_owned);
        if let Some(failure) = answer.failures().first() {
            return Err(match failure.failure_code() {
                Some(ImageFailureCode::ImageNotFound) => {
                    ResolveError::ImageNotFound { image: image.clone(), request_id }
                }
                _ => {
                    let reason = failure.failure_reason().unwrap_or("no reason given").to_owned();
                    unavailable(repository, request_id, reason.into())
                }
            });
        }
        let found = answer.images.unwrap_or_default().into_iter().next();
        found.ok_or_else(|| ResolveError::ImageNotFound { image: image.clone(), request_id })
    }
}

impl Resolve for EcrResolver {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(self.resolve_once(image))
    }

    fn confirm<'a>(&'a self, image: &'a DigestRef) -> BoxFuture<'a, Result<(), ResolveError>> {
        Box::pin(async move {
            let account = self.account(image.repository())?;
            self.get_active(&image.clone().into(), account).await.map(drop)
        })
    }

    /// By `DescribeImages`, which also finds archived images. If it is denied, or does not find the image, by
    /// `BatchGetImage`, which imports an image that a pull-through cache does not have yet.
    fn availability<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Availability, ResolveError>> {
        Box::pin(async move {
            let account = self.account(image.repository())?;
            let (storage, digest) = match availability::describe(&self.client, account, image).await {
                Ok(detail) => (availability::storage(&detail), detail.image_digest),
                Err(error @ ResolveError::AccessDenied { .. }) => {
                    self.get(image, account).await?;
                    let reason = format!("whether it is archived is unknown: {error}");
                    (Storage::Unknown { reason }, image.digest().map(ToString::to_string))
                }
                Err(error) if error.is_not_found() => {
                    self.get(image, account).await?;
                    (Storage::Active, image.digest().map(ToString::to_string))
                }
                Err(error) => return Err(error),
            };
            let retention = match (self.preview, digest) {
                (Some(wait), Some(digest)) if storage != Storage::Archived => {
                    lifecycle::retention(&self.client, account, image.repository(), &digest, wait).await
                }
                _ => Retention::NotChecked,
            };
            Ok(Availability::new(storage, retention))
        })
    }
}

/// Checks that the manifest has the digest that the service reports, and that it is the requested digest.
fn verify(
    image: &ImageRef,
    reported: &str,
    media_type: Option<&str>,
    manifest: &str,
) -> Result<ResolvedImage, ManifestError> {
    let reported: Digest = reported
        .parse()
        .map_err(|error: crate::parse::ParseError| ManifestError::Malformed { reason: error.to_string() })?;
    match image.digest() {
        Some(expected) if *expected != reported => {
            Err(ManifestError::Digest { expected: expected.clone(), found: reported })
        }
        _ => ResolvedImage::from_manifest(image.repository().at(reported), media_type, manifest.as_bytes()),
    }
}
