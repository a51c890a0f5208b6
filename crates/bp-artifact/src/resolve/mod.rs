//! Resolve image tags to digests: the [`Resolve`] trait, a resolver for Amazon ECR, and waiting until an image exists.

mod availability;
#[cfg(feature = "ecr")]
pub(crate) mod ecr;
mod error;
mod manifest;
mod wait;

use futures_core::future::BoxFuture;

pub use availability::{Availability, Retention, Storage};
#[cfg(feature = "ecr")]
pub use ecr::EcrResolver;
pub use error::ResolveError;
pub use manifest::ManifestError;
pub use wait::{Missed, wait_for, wait_for_with};

pub use crate::image::PlatformImage;
use crate::{
    image::ResolvedImage,
    reference::{DigestRef, ImageRef},
};

/// Resolves an image reference to the digest that it points to now.
///
/// `EcrResolver` (feature `ecr`) calls the Amazon ECR API; `bp-promote` has a resolver for any registry.
///
/// ```
/// use bp_artifact::{Digest, ImageRef, ResolvedImage, resolve::{Resolve, ResolveError}};
/// use futures_core::future::BoxFuture;
///
/// /// A resolver for tests that always returns the same digest.
/// struct Always(Digest);
///
/// impl Resolve for Always {
///     fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
///         Box::pin(async { Ok(image.repository().at(self.0.clone()).into()) })
///     }
/// }
/// ```
pub trait Resolve: Send + Sync {
    /// Resolves `image` with a single attempt. The returned digest is computed from the bytes that the registry sent.
    ///
    /// # Cancel safety
    /// Reads only.
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>>;

    /// Checks that the registry has the image, with a single request and without reading the manifest, for an image
    /// whose platforms are already known. By default the image is resolved.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    ///
    /// # Permissions
    /// As [`resolve`](Self::resolve).
    ///
    /// # Cancel safety
    /// Reads only.
    fn confirm<'a>(&'a self, image: &'a DigestRef) -> BoxFuture<'a, Result<(), ResolveError>> {
        Box::pin(async move { self.resolve(&image.clone().into()).await.map(drop) })
    }

    /// Checks that the registry has the image, that it can be pulled, and whether a retention rule selects it. By
    /// default the image is [confirmed](Self::confirm), or resolved if it has no digest.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve): when the image does not exist, or it is unknown whether it does.
    ///
    /// # Permissions
    /// As [`resolve`](Self::resolve).
    ///
    /// # Cancel safety
    /// Reads only.
    fn availability<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Availability, ResolveError>> {
        Box::pin(async move {
            match DigestRef::try_from(image.clone()) {
                Ok(image) => self.confirm(&image).await?,
                Err(_) => self.resolve(image).await.map(drop)?,
            }
            Ok(Availability::default())
        })
    }
}
