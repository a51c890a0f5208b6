//! Plan a copy without changing anything, and apply the plan later.

use std::fmt;

use bp_artifact::{Digest, Operation, Platform, deploy::preflight::Finding};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{
    batch::{self, Batch, IMAGES, Images},
    error::CopyError,
    event::{CopyEvent, Transfer},
    options::CopyOptions,
    report::{CopyOutcome, CopyReport, RunReport},
    run::Run,
};
use crate::store::{Destination, ImageAt, Source};

/// What a copy would do. It can be stored as JSON and [applied](apply) later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyPlan {
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// The destination's reference: a tag or a digest.
    pub reference: String,
    /// The source's reference when the copy was planned: a tag or a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_reference: Option<String>,
    /// The digest to copy.
    pub digest: Digest,
    /// The digest of the index that this is a platform selection of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_from: Option<Digest>,
    /// The selected platforms, if not all are copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Whether layers of a non-distributable type are copied too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nondistributable_layers: bool,
    /// What the destination's reference points to now; it must be unchanged when the plan is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Digest>,
    /// The outcome of the copy.
    pub outcome: CopyOutcome,
    /// Manifests and indexes that were checked. The content of one that the destination already has is not listed.
    pub manifests: Vec<Planned>,
    /// Configurations and layers of the manifests that are missing at the destination, and of referrers.
    pub blobs: Vec<Planned>,
    /// Referrers, if they are to be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Vec<PlannedReferrer>>,
    /// The number of requests for copying this image alone, without retries, tokens and referrers. A run of several
    /// images needs fewer.
    pub requests: Requests,
}

/// A manifest or blob in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Planned {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// How it would be stored at the destination. A blob to be mounted is sent if the registry refuses the mount.
    pub how: Transfer,
}

/// A referrer in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedReferrer {
    /// The digest of the manifest that it is attached to.
    pub subject: Digest,
    /// The digest of the referrer.
    pub digest: Digest,
    /// How it would be stored at the destination.
    pub how: Transfer,
}

/// The number of requests to each side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Requests {
    /// To the source.
    pub source: u64,
    /// To the destination.
    pub destination: u64,
}

impl CopyPlan {
    /// Bytes of blobs to send, by the sizes in their descriptors.
    pub fn bytes(&self) -> u64 {
        let sent = self.blobs.iter().filter(|blob| blob.how == Transfer::Sent);
        sent.fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

/// A summary of a few lines.
impl fmt::Display for CopyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |all: &[Planned], how| all.iter().filter(|one| one.how == how).count();
        writeln!(f, "{} -> {} as {}", self.source, self.destination, self.reference)?;
        if let Some(index) = &self.selected_from {
            writeln!(f, "  selected platforms of {index}: the digest changes")?;
        }
        match (&self.outcome, &self.found) {
            (CopyOutcome::Unchanged, _) => writeln!(f, "  {} is already up to date", self.digest)?,
            (_, None) => writeln!(f, "  {} is created, pointing to {}", self.reference, self.digest)?,
            (_, Some(found)) => writeln!(f, "  {} moves from {found} to {}", self.reference, self.digest)?,
        }
        if let Some(referrers) = &self.referrers {
            let sent = referrers.iter().filter(|one| one.how == Transfer::Sent).count();
            writeln!(f, "  referrers: {sent} of {} to send", referrers.len())?;
        }
        if self.outcome == CopyOutcome::Unchanged && self.bytes() == 0 {
            return write!(f, "  nothing to send");
        }
        let sent = count(&self.manifests, Transfer::Sent);
        writeln!(f, "  manifests: {sent} of {} to send", self.manifests.len())?;
        let (sent, mounted) = (count(&self.blobs, Transfer::Sent), count(&self.blobs, Transfer::Mounted));
        let (all, bytes) = (self.blobs.len(), self.bytes());
        writeln!(f, "  blobs: {sent} of {all} to send, {mounted} to mount; {bytes} bytes")?;
        let Requests { source, destination } = self.requests;
        write!(f, "  requests: {source} to the source, {destination} to the destination")
    }
}

/// What a run of several images would do. Shared content is listed with the first image that needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunPlan {
    /// One plan for each image, in the order in which they were given.
    pub images: Vec<CopyPlan>,
    /// What Amazon ECR's API says about the destinations, if it was asked: see `bp_promote::ecr::check`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl RunPlan {
    /// Bytes of blobs that would be sent.
    pub fn bytes(&self) -> u64 {
        self.images.iter().fold(0, |sum, image| sum.saturating_add(image.bytes()))
    }
}

/// A summary of a few lines for each image, and a line of totals.
impl fmt::Display for RunPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in &self.images {
            writeln!(f, "{image}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let changed = self.images.iter().filter(|image| image.outcome != CopyOutcome::Unchanged).count();
        write!(f, "{changed} of {} images to change, {} bytes to send", self.images.len(), self.bytes())
    }
}

/// Plans a [`copy`](super::copy): what it would do. Only reads.
///
/// # Errors
/// See [`CopyError`].
///
/// # Permissions
/// Pull from the source and at the destination; see [`copy`](super::copy).
///
/// # Cancel safety
/// Reads only.
pub fn plan<S: Source, D: Destination>(
    source: ImageAt<S>,
    destination: ImageAt<D>,
    options: CopyOptions,
) -> Operation<CopyEvent, Result<CopyPlan, CopyError>> {
    let all = plan_of(vec![(source, destination)], options);
    let plan_one = |events| {
        let work = all(events);
        async move { work.await.map(|mut plan| plan.images.remove(0)) }
    };
    tracing::info_span!("plan_copy", images = 1).in_scope(|| Operation::spawn(plan_one))
}

/// Plans a [`copy_all`](super::copy_all): what it would do. Only reads.
///
/// # Errors
/// The first [`CopyError`] that occurs.
///
/// # Permissions
/// As [`plan`].
///
/// # Cancel safety
/// Reads only.
pub fn plan_all<S: Source, D: Destination>(
    images: Vec<(ImageAt<S>, ImageAt<D>)>,
    options: CopyOptions,
) -> Operation<CopyEvent, Result<RunPlan, CopyError>> {
    let span = tracing::info_span!("plan_copy", images = images.len());
    span.in_scope(|| Operation::spawn(plan_of(images, options)))
}

fn plan_of<S: Source, D: Destination>(
    images: Vec<(ImageAt<S>, ImageAt<D>)>,
    options: CopyOptions,
) -> impl FnOnce(
    bp_artifact::operation::Emitter<CopyEvent>,
) -> futures_core::future::BoxFuture<'static, Result<RunPlan, CopyError>> {
    move |events| {
        let images = images.into_iter().map(|(from, to)| (from, to, None)).collect();
        let batch = Batch::new(images, Run::new(options, events));
        Box::pin(async move {
            let work = async {
                stream::iter(batch.jobs.clone())
                    .map(|(engine, job)| async move { engine.plan(&job).await })
                    .buffered(IMAGES)
                    .try_collect::<Vec<_>>()
                    .await
            };
            let images = tokio::select! {
                images = batch.run.in_time(work) => images?,
                () = batch.run.events.cancelled() => return Err(CopyError::Cancelled),
            };
            Ok(RunPlan { images, findings: Vec::new() })
        })
    }
}

/// Applies a plan: copies the planned digest, even if the source's tag has moved since, with its referrers if they
/// were planned. Fails if the destination's reference has moved since.
///
/// # Errors
/// [`CopyError::Moved`] if the destination's reference points to neither the planned previous nor the planned new
/// digest; otherwise as for [`copy`](super::copy).
///
/// # Permissions
/// As [`copy`](super::copy).
///
/// # Cancel safety
/// As [`copy`](super::copy).
pub fn apply<S: Source, D: Destination>(
    plan: &CopyPlan,
    source: ImageAt<S>,
    destination: ImageAt<D>,
    options: CopyOptions,
) -> Operation<CopyEvent, Result<CopyReport, CopyError>> {
    let options = as_planned(options, [plan]);
    batch::copy_one(pinned(plan, source), destination, options, Some(plan.found.clone()))
}

/// Applies the plan of several images, as [`apply`] does for one. `images` must be those that were planned, in the
/// same order.
///
/// # Errors
/// Each image has its own; see [`RunReport::failed`].
///
/// # Permissions
/// As [`copy`](super::copy).
///
/// # Cancel safety
/// As [`copy`](super::copy).
pub fn apply_all<S: Source, D: Destination>(
    plan: &RunPlan,
    images: Vec<(ImageAt<S>, ImageAt<D>)>,
    options: CopyOptions,
) -> Operation<CopyEvent, RunReport> {
    let options = as_planned(options, &plan.images);
    let planned = |(plan, (source, destination)): (&CopyPlan, (ImageAt<S>, ImageAt<D>))| {
        (pinned(plan, source), destination, Some(plan.found.clone()))
    };
    let images: Images<S, D> = plan.images.iter().zip(images).map(planned).collect();
    batch::copy_all(images, options)
}

/// The options with what was planned. The images of a run have the same options.
fn as_planned<'a>(mut options: CopyOptions, images: impl IntoIterator<Item = &'a CopyPlan>) -> CopyOptions {
    for image in images {
        if image.referrers.is_some() {
            options = options.referrers();
        }
        if image.nondistributable_layers {
            options = options.nondistributable_layers();
        }
        if !image.platforms.is_empty() {
            options = options.platforms(image.platforms.clone());
        }
    }
    options
}

/// The planned image by its digest, whatever the source's tag points to now.
fn pinned<S>(plan: &CopyPlan, source: ImageAt<S>) -> ImageAt<S> {
    let digest = plan.selected_from.as_ref().unwrap_or(&plan.digest);
    ImageAt::new(source.store, digest.clone())
}
