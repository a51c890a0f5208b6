//! Copying images, byte for byte.

mod attached;
mod batch;
mod blobs;
mod counted;
mod engine;
mod error;
mod event;
mod naming;
mod options;
mod plan;
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
    event::{Carried, CopyEvent, Progress, Side},
    options::CopyOptions,
    plan::{CopyPlan, Planned, PlannedReferrer, Requests, RunPlan, apply, apply_all, plan, plan_all},
    report::{CopyOutcome, CopyReport, Counts, ImageReport, Kept, RunReport},
};
use crate::store::{Destination, ImageAt, Source};

/// Copies an image or index with all that it refers to, byte for byte: the digest stays.
///
/// What the destination has is not sent again; children come before their parents and the name comes last, so that
/// nothing can be seen that is not whole. It can be stopped or killed at any time: running it again goes on with what
/// is there.
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
/// See [`CopyError`]. The destination's name then names what it named before, or the whole image when the answer to
/// the last request was lost.
///
/// # Permissions
/// Pull from the source; pull and push at the destination. On Amazon ECR: `ecr:GetAuthorizationToken`;
/// `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer` and, for referrers, `ecr:ListImages` on the source; `ecr:BatchGetImage`,
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
    batch::copy_one(source, destination, options, None)
}

/// Copies several images in one run: what they share is looked for and moved once, also into several repositories of
/// one registry, and the destination's tags are listed once instead of asked for one by one. An image that fails does
/// not stop the others.
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
