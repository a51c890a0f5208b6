//! From a tag to a digest, once, at the edge.

#[cfg(feature = "ecr")]
pub(crate) mod ecr;
mod error;
mod manifest;
mod wait;

use futures_core::future::BoxFuture;

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

/// Finds the digest that an image reference means now.
///
/// `EcrResolver` (feature `ecr`) asks the API of Amazon ECR; `bp-promote` has one for any registry.
///
/// ```
/// use bp_artifact::{Digest, ImageRef, ResolvedImage, resolve::{Resolve, ResolveError}};
/// use futures_core::future::BoxFuture;
///
/// /// A resolver for tests, which knows one image.
/// struct Always(Digest);
///
/// impl Resolve for Always {
///     fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
///         Box::pin(async { Ok(image.repository().at(self.0.clone()).into()) })
///     }
/// }
/// ```
pub trait Resolve: Send + Sync {
    /// Looks once. What the registry answers is hashed: the result's digest is of bytes that were seen.
    ///
    /// # Cancel safety
    /// Reads only.
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>>;

    /// Whether the registry has an image whose platforms are known already, in one request and without reading it: its
    /// digest says what it is. By default the image is resolved.
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
}
