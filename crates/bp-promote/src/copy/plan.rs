//! To see first: what a copy would do, and doing just that.

use std::fmt;

use bp_artifact::{Digest, Operation};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{
    batch::{self, Batch, IMAGES, Images},
    error::CopyError,
    event::{Carried, CopyEvent},
    options::CopyOptions,
    report::{CopyOutcome, CopyReport, RunReport},
    run::Run,
};
use crate::store::{Destination, ImageAt, Source};

/// What a copy would do. It can be kept as JSON and [applied](apply) later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyPlan {
    /// Where it is read.
    pub source: String,
    /// Where it goes.
    pub destination: String,
    /// Its name there: a tag or a digest.
    pub reference: String,
    /// What is copied.
    pub digest: Digest,
    /// The index that this is a selection of platforms of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_from: Option<Digest>,
    /// What the destination has under this name now: it must have the same when the plan is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Digest>,
    /// What it comes to.
    pub outcome: CopyOutcome,
    /// Manifests and indexes that were looked at. What is below one that is there is there too.
    pub manifests: Vec<Planned>,
    /// Configurations and layers below those that are not there, and those of referrers.
    pub blobs: Vec<Planned>,
    /// What is attached, where that is to go along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Vec<PlannedReferrer>>,
    /// The requests that carrying it alone takes, without retries, tokens and referrers. In a run of several images it
    /// takes less.
    pub requests: Requests,
}

/// One piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Planned {
    /// Which.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it would come to the destination. What would be mounted is sent where the registry refuses that.
    pub how: Carried,
}

/// One manifest that is attached to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedReferrer {
    /// What it is attached to.
    pub subject: Digest,
    /// Which.
    pub digest: Digest,
    /// How it would come to the destination.
    pub how: Carried,
}

/// Requests, by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Requests {
    /// To where it is read.
    pub source: u64,
    /// To where it goes.
    pub destination: u64,
}

impl CopyPlan {
    /// Bytes of blobs that would be sent, by what their descriptors claim.
    pub fn bytes(&self) -> u64 {
        let sent = self.blobs.iter().filter(|blob| blob.how == Carried::Sent);
        sent.fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

/// A few lines for people.
impl fmt::Display for CopyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |all: &[Planned], how| all.iter().filter(|one| one.how == how).count();
        writeln!(f, "{} -> {} as {}", self.source, self.destination, self.reference)?;
        if let Some(whole) = &self.selected_from {
            writeln!(f, "  a selection of platforms of {whole}: the digest changes")?;
        }
        match (&self.outcome, &self.found) {
            (CopyOutcome::Unchanged, _) => writeln!(f, "  {} is there already", self.digest)?,
            (_, None) => writeln!(f, "  {} is new, to {}", self.reference, self.digest)?,
            (_, Some(found)) => writeln!(f, "  {} moves from {found} to {}", self.reference, self.digest)?,
        }
        if let Some(referrers) = &self.referrers {
            let sent = referrers.iter().filter(|one| one.how == Carried::Sent).count();
            writeln!(f, "  referrers: {sent} to send of {}", referrers.len())?;
        }
        if self.outcome == CopyOutcome::Unchanged && self.bytes() == 0 {
            return write!(f, "  nothing to send");
        }
        let sent = count(&self.manifests, Carried::Sent);
        writeln!(f, "  manifests: {sent} to send of {}", self.manifests.len())?;
        let (sent, mounted) = (count(&self.blobs, Carried::Sent), count(&self.blobs, Carried::Mounted));
        let (all, bytes) = (self.blobs.len(), self.bytes());
        writeln!(f, "  blobs: {sent} to send of {all}, {mounted} to mount; {bytes} bytes")?;
        let Requests { source, destination } = self.requests;
        write!(f, "  requests: {source} to the source, {destination} to the destination")
    }
}

/// What a run of several images would do. What they share is listed with the first image that needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunPlan {
    /// One plan for each image, in the order in which they were given.
    pub images: Vec<CopyPlan>,
}

impl RunPlan {
    /// Bytes of blobs that would be sent.
    pub fn bytes(&self) -> u64 {
        self.images.iter().fold(0, |sum, image| sum.saturating_add(image.bytes()))
    }
}

/// A few lines for each image, and one for all.
impl fmt::Display for RunPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in &self.images {
            writeln!(f, "{image}")?;
        }
        let changed = self.images.iter().filter(|image| image.outcome != CopyOutcome::Unchanged).count();
        write!(f, "{changed} of {} images change, {} bytes to send", self.images.len(), self.bytes())
    }
}

/// Finds out what [`copy`](super::copy) would do. Reads only.
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
    Operation::spawn(|events| {
        let work = all(events);
        async move { work.await.map(|mut plan| plan.images.remove(0)) }
    })
}

/// Finds out what [`copy_all`](super::copy_all) would do. Reads only.
///
/// # Errors
/// See [`CopyError`]; the first that is met.
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
    Operation::spawn(plan_of(images, options))
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
                images = work => images?,
                () = batch.run.events.cancelled() => return Err(CopyError::Cancelled),
            };
            Ok(RunPlan { images })
        })
    }
}

/// Does what was planned: copies the planned digest, whatever the source's tag names by now, with its referrers if
/// those were planned, and refuses when the destination's name has moved since.
///
/// # Errors
/// [`CopyError::Moved`] when the destination's name names neither what it did nor what it is to name; else as
/// [`copy`](super::copy).
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
    let options = if plan.referrers.is_some() { options.referrers() } else { options };
    batch::copy_one(pinned(plan, source), destination, options, Some(plan.found.clone()))
}

/// Does what was planned for several images: as [`apply`] for each of them. `images` are those that the plan was made
/// for, in the same order.
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
    let referrers = plan.images.iter().any(|image| image.referrers.is_some());
    let options = if referrers { options.referrers() } else { options };
    let planned = |(plan, (source, destination)): (&CopyPlan, (ImageAt<S>, ImageAt<D>))| {
        (pinned(plan, source), destination, Some(plan.found.clone()))
    };
    let images: Images<S, D> = plan.images.iter().zip(images).map(planned).collect();
    batch::copy_all(images, options)
}

/// The image that the plan is about, whatever its name names by now.
fn pinned<S>(plan: &CopyPlan, source: ImageAt<S>) -> ImageAt<S> {
    let digest = plan.selected_from.as_ref().unwrap_or(&plan.digest);
    ImageAt::new(source.store, digest.clone())
}
