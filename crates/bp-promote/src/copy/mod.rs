//! Copy images between registries and OCI layouts, byte for byte: copy, plan, apply.

mod attached;
mod batch;
mod blobs;
mod counted;
mod engine;
mod error;
mod event;
mod intent;
mod options;
mod plan;
mod publish;
mod report;
mod run;
mod signatures;
mod subset;
mod survey;
mod tally;
mod walk;

use bp_artifact::Operation;

pub use self::{
    error::CopyError,
    event::{CopyEvent, Progress, Side, Transfer},
    intent::{PublishObserver, TagChange},
    options::CopyOptions,
    plan::{CopyPlan, Planned, PlannedReferrer, Requests, RunPlan, apply, apply_all, plan, plan_all},
    report::{CopyOutcome, CopyReport, Counts, ImageReport, KeptTag, RunReport, SkippedReferrer},
};
use crate::store::{Destination, ImageAt, Source};

/// Copies an image or index with everything that it refers to, byte for byte: the digest is unchanged.
///
/// Content that the destination already has is not uploaded again. Children are stored before their parents and the
/// reference is published last, so that an incomplete image is never visible. A copy can be stopped or killed at any
/// time: a rerun continues with what was copied.
///
/// ```no_run
/// use bp_promote::{CopyOptions, OciLayout, RegistryClient, copy, store::ImageAt};
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
/// See [`CopyError`]. The destination's reference then points to what it pointed to before, or to the complete image
/// if the response to the last request was lost.
///
/// # Permissions
/// Pull from the source; pull and push at the destination. On Amazon ECR: `ecr:GetAuthorizationToken`;
/// `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer` and, for referrers, `ecr:ListImages` on the source;
/// `ecr:BatchGetImage`, `ecr:BatchCheckLayerAvailability`, `ecr:ListImages`, `ecr:InitiateLayerUpload`,
/// `ecr:UploadLayerPart`, `ecr:CompleteLayerUpload` and `ecr:PutImage` on the destination.
///
/// # Cancel safety
/// Cancelling, or dropping the handle, stops immediately, except that a publishing request in progress is awaited.
pub fn copy<S: Source, D: Destination>(
    source: ImageAt<S>,
    destination: ImageAt<D>,
    options: CopyOptions,
) -> Operation<CopyEvent, Result<CopyReport, CopyError>> {
    batch::copy_one(source, destination, options, None)
}

/// Copies several images in one run. Content that they share is checked and uploaded once, also for several
/// repositories of one registry, and the destination's tags are listed once instead of requested one by one. A failed
/// image does not stop the others.
///
/// ```no_run
/// use bp_promote::{CopyOptions, RegistryClient, copy_all};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RegistryClient::builder().build()?;
/// let from = client.repository(&"dev.example.com/shop/web".parse()?);
/// let to = client.repository(&"prod.example.com/shop/web".parse()?);
/// let images = from.tags().await?.into_iter().map(|tag| (from.at(tag.clone()), to.at(tag))).collect();
/// let report = copy_all(images, CopyOptions::default()).await;
/// assert!(report.failed().next().is_none());
/// # Ok(()) }
/// ```
///
/// # Errors
/// Each image has its own; see [`RunReport::failed`].
///
/// # Permissions
/// As [`copy`].
///
/// # Cancel safety
/// As [`copy`].
pub fn copy_all<S: Source, D: Destination>(
    images: Vec<(ImageAt<S>, ImageAt<D>)>,
    options: CopyOptions,
) -> Operation<CopyEvent, RunReport> {
    batch::copy_all(images.into_iter().map(|(from, to)| (from, to, None)).collect(), options)
}
