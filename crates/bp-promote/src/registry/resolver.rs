//! Resolves tags to digests, in any registry.

use bp_artifact::{
    DigestRef, ImageRef, ResolvedImage,
    resolve::{ManifestError, Resolve, ResolveError},
};
use futures_core::future::BoxFuture;

use super::{RegistryClient, RegistryError};
use crate::content::Reference;

/// Resolves images of any registry with one request. The manifest's bytes are hashed.
///
/// A tag is refused if it was answered by a pull-through cache, recognised by its host name or by the `Age` header: it
/// may be outdated. Other caches cannot be detected; use a digest, or resolve in the registry that the image was pushed
/// to.
///
/// # Permissions
/// Pull. On Amazon ECR: `ecr:GetAuthorizationToken`, `ecr:BatchGetImage`.
#[derive(Debug, Clone)]
pub struct RegistryResolver {
    client: RegistryClient,
}

impl RegistryResolver {
    /// A resolver that uses `client`.
    pub fn new(client: RegistryClient) -> Self {
        RegistryResolver { client }
    }

    #[tracing::instrument(name = "resolve", skip_all, fields(%image))]
    async fn resolve_image(&self, image: &ImageRef) -> Result<ResolvedImage, ResolveError> {
        let repository = image.repository();
        if let (Some(upstream), None) = (repository.cache_of(), image.digest()) {
            return Err(ResolveError::Cached { image: image.clone(), upstream: upstream.to_owned() });
        }
        let reference = Reference::from_image(image);
        let manifest = self
            .client
            .repository(repository)
            .manifest(&reference)
            .await
            .map_err(|error| failed(image, error))?;
        let found = repository.at(manifest.digest.clone());
        ResolvedImage::from_manifest(found, Some(&manifest.media_type), &manifest.bytes)
            .map_err(|source| ResolveError::BadManifest { image: image.clone(), source: Box::new(source) })
    }
}

impl Resolve for RegistryResolver {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(self.resolve_image(image))
    }

    /// By `HEAD`.
    fn confirm<'a>(&'a self, image: &'a DigestRef) -> BoxFuture<'a, Result<(), ResolveError>> {
        Box::pin(async move {
            let repository = self.client.repository(image.repository());
            let image: ImageRef = image.clone().into();
            match repository.head(&Reference::from_image(&image)).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(ResolveError::ImageNotFound { image, request_id: None }),
                Err(error) => Err(failed(&image, error)),
            }
        })
    }
}

fn failed(image: &ImageRef, error: RegistryError) -> ResolveError {
    let repository = image.repository().clone();
    let bad = |source| ResolveError::BadManifest { image: image.clone(), source: Box::new(source) };
    match error {
        RegistryError::NotFound { errors, .. } if errors.has("NAME_UNKNOWN") => {
            ResolveError::RepositoryNotFound { repository, request_id: None }
        }
        RegistryError::NotFound { .. } => {
            ResolveError::ImageNotFound { image: image.clone(), request_id: None }
        }
        RegistryError::Denied { .. } => ResolveError::AccessDenied {
            permission: format!("pull from {repository}"),
            repository,
            request_id: None,
            source: Some(error.into()),
        },
        RegistryError::Unauthorized { .. } => {
            ResolveError::NoCredentials { repository, source: error.into() }
        }
        RegistryError::Credentials { ref source, .. } if !source.is_retryable() => {
            ResolveError::NoCredentials { repository, source: error.into() }
        }
        RegistryError::Corrupt { expected, found, .. } => bad(ManifestError::Digest { expected, found }),
        RegistryError::Manifest { source, .. } => bad(source),
        RegistryError::Cached { .. } => {
            ResolveError::Cached { image: image.clone(), upstream: "the registry behind it".to_owned() }
        }
        _ => ResolveError::Unavailable { repository, request_id: None, source: error.into() },
    }
}
