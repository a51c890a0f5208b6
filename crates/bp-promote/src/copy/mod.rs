//! Copying an image, byte for byte.

mod attached;
mod engine;
mod error;
mod event;
mod plan;
mod report;
mod tally;

use std::sync::Arc;

use bp_artifact::{Digest, ImageRef, Operation};

use self::engine::Engine;
pub use self::{
    error::CopyError,
    event::{Carried, CopyEvent, Progress, Side},
    plan::{CopyPlan, Planned, apply, plan},
    report::{CopyOutcome, CopyReport, Counts},
};
use crate::{
    content::Reference,
    registry::{RegistryClient, RepositoryClient},
    retry::RetryPolicy,
    store::{Destination, Source},
};

/// An image in a source or destination.
#[derive(Debug, Clone)]
pub struct ImageAt<S> {
    /// Where.
    pub store: S,
    /// Under which name.
    pub reference: Reference,
}

impl<S> ImageAt<S> {
    /// The image `reference` in `store`.
    pub fn new(store: S, reference: impl Into<Reference>) -> Self {
        ImageAt { store, reference: reference.into() }
    }
}

impl RegistryClient {
    /// The image that `image` names, as a side of a [`copy`].
    pub fn image(&self, image: &ImageRef) -> ImageAt<RepositoryClient> {
        ImageAt::new(self.repository(image.repository()), Reference::from_image(image))
    }
}

/// How a copy goes about it.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    concurrency: usize,
    no_clobber: bool,
    referrers: bool,
    trust_destination: bool,
    /// What the destination's name must name, when that was planned.
    expected: Option<Option<Digest>>,
    retry: RetryPolicy,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            concurrency: 16,
            no_clobber: false,
            referrers: false,
            trust_destination: false,
            expected: None,
            retry: RetryPolicy::default(),
        }
    }
}

impl CopyOptions {
    /// At most this many blobs under way at a time, and as many requests for manifests; at least one.
    pub fn concurrency(mut self, blobs: usize) -> Self {
        self.concurrency = blobs.max(1);
        self
    }

    /// Refuses to move a tag that names something else.
    ///
    /// The registries' API cannot do this atomically: only [immutable tags](CopyError::TagTaken) are safe from two
    /// who write at the same time.
    pub fn no_clobber(mut self) -> Self {
        self.no_clobber = true;
        self
    }

    /// Carries what is attached too: signatures, attestations and SBOMs of the image and of each of its platforms, and
    /// what is attached to those; by the referrers API or its fallback tags, and under the tags of cosign.
    pub fn referrers(mut self) -> Self {
        self.referrers = true;
        self
    }

    /// Leaves the hashing of blobs to a destination that does it anyway, and refuses what has another digest. That
    /// saves most of a copy's work; spoilt bytes are found at the end of an upload, and read again.
    ///
    /// The risk: a registry that does *not* check, against the specification, stores spoilt bytes under a good name.
    /// Manifests are hashed in any case, and so are blobs that go to a layout.
    pub fn trust_destination(mut self) -> Self {
        self.trust_destination = true;
        self
    }

    fn expecting(mut self, found: Option<Digest>) -> Self {
        self.expected = Some(found);
        self
    }

    /// How the transfer of a blob is tried again, besides the retries of single requests.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}

/// Copies an image or index with all that it refers to, byte for byte: the digest stays.
///
/// What the destination has is not sent again; children come before their parents and the name comes last, so that
/// nothing can be seen that is not whole. It can be stopped or killed at any time: running it again goes on with what
/// is there.
///
/// ```no_run
/// use bp_promote::{CopyOptions, OciLayout, ImageAt, RegistryClient, copy};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RegistryClient::builder().build()?;
/// let source = client.image(&"registry.example.com/shop/web:1.4.2".parse()?);
/// let layout = OciLayout::create("web.oci").await?;
/// let tag: bp_artifact::Tag = "1.4.2".parse()?;
/// let report = copy(source, ImageAt::new(layout, tag), CopyOptions::default()).await?;
/// assert!(report.digest.as_str().starts_with("sha256:"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// See [`CopyError`]. The destination's name then names what it named before, or the whole image when the answer to
/// the last request was lost.
///
/// # Permissions
/// Pull from the source; pull and push at the destination. On Amazon ECR: `ecr:GetAuthorizationToken`;
/// `ecr:BatchGetImage` and `ecr:GetDownloadUrlForLayer` on the source; `ecr:BatchGetImage`,
/// `ecr:BatchCheckLayerAvailability`, `ecr:ListImages`, `ecr:InitiateLayerUpload`, `ecr:UploadLayerPart`,
/// `ecr:CompleteLayerUpload` and `ecr:PutImage` on the destination.
///
/// # Cancel safety
/// Cancelling, or dropping the handle, stops at once, except for the last request, which is awaited.
pub fn copy<S: Source, D: Destination>(
    source: ImageAt<S>,
    destination: ImageAt<D>,
    options: CopyOptions,
) -> Operation<CopyEvent, Result<CopyReport, CopyError>> {
    Operation::spawn(|events| {
        let engine = Engine::new(source.store, destination.store, options, events);
        Arc::new(engine).run(source.reference, destination.reference)
    })
}
