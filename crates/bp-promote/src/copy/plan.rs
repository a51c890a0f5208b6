//! To see first: what a copy would do, and doing just that.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bp_artifact::{Digest, Operation};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};
use serde::{Deserialize, Serialize};

use super::{CopyError, CopyEvent, CopyOptions, CopyOutcome, CopyReport, ImageAt, engine::Engine};
use crate::{
    content::{Manifest, Reference},
    store::{Destination, Source},
};

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
    /// What the destination has under this name now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Digest>,
    /// What it comes to.
    pub outcome: CopyOutcome,
    /// Manifests and indexes that were looked at. What is below one that is there is there too.
    pub manifests: Vec<Planned>,
    /// Configurations and layers below those that are not there.
    pub blobs: Vec<Planned>,
}

/// One piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Which.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the destination has it.
    pub present: bool,
}

impl CopyPlan {
    /// Bytes of blobs that would be sent.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().filter(|blob| !blob.present).map(|blob| blob.size).sum()
    }
}

/// A few lines for people.
impl fmt::Display for CopyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = |all: &[Planned]| all.iter().filter(|one| !one.present).count();
        writeln!(f, "{} -> {} as {}", self.source, self.destination, self.reference)?;
        match (&self.outcome, &self.found) {
            (CopyOutcome::Unchanged, _) => return write!(f, "  it is there already: nothing to do"),
            (_, None) => writeln!(f, "  {} is new", self.reference)?,
            (_, Some(found)) => writeln!(f, "  {} moves from {found}", self.reference)?,
        }
        writeln!(f, "  to {}", self.digest)?;
        writeln!(f, "  manifests: {} to send of {}", missing(&self.manifests), self.manifests.len())?;
        write!(f, "  blobs: {} to send of {}, {} bytes", missing(&self.blobs), self.blobs.len(), self.bytes())
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
    Operation::spawn(|events| {
        let stop = events.clone();
        let engine = Arc::new(Engine::new(source.store, destination.store, options, events));
        async move {
            tokio::select! {
                plan = engine.plan(&source.reference, &destination.reference) => plan,
                () = stop.cancelled() => Err(CopyError::Cancelled),
            }
        }
    })
}

/// Does what was planned: copies the planned digest, whatever the source's tag names by now, and refuses when the
/// destination's name has moved since.
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
    let pinned = ImageAt::new(source.store, plan.digest.clone());
    super::copy(pinned, destination, options.expecting(plan.found.clone()))
}

/// What was found so far.
#[derive(Default)]
struct Survey {
    seen: HashSet<Digest>,
    manifests: Vec<Planned>,
    blobs: Vec<Planned>,
}

impl Engine {
    async fn plan(self: Arc<Self>, from: &Reference, to: &Reference) -> Result<CopyPlan, CopyError> {
        let (top, found) = try_join(self.top(from), self.head(to)).await?;
        if let Some(error) = self.other_digest(to, &top) {
            return Err(error);
        }
        let survey = Mutex::new(Survey::default());
        let outcome = match found.as_ref() == Some(&top.digest) {
            true => CopyOutcome::Unchanged,
            false => match self.survey(&top, &survey).await? {
                true => CopyOutcome::Tagged,
                false => CopyOutcome::Copied,
            },
        };
        let survey = survey.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(CopyPlan {
            source: self.source.name(),
            destination: self.destination.name(),
            reference: to.to_string(),
            digest: top.digest,
            found,
            outcome,
            manifests: survey.manifests,
            blobs: survey.blobs,
        })
    }

    /// Looks for a manifest and, when it is not there, for all below it. Whether it is there.
    fn survey<'a>(
        &'a self,
        manifest: &'a Manifest,
        survey: &'a Mutex<Survey>,
    ) -> BoxFuture<'a, Result<bool, CopyError>> {
        Box::pin(async move {
            let present = self.head(&Reference::Digest(manifest.digest.clone())).await?.is_some();
            let links = manifest
                .links()
                .map_err(|source| CopyError::Manifest { digest: manifest.digest.clone(), source })?;
            let (children, blobs) = {
                let mut survey = survey.lock().unwrap_or_else(PoisonError::into_inner);
                let size = manifest.bytes.len() as u64;
                survey.manifests.push(Planned { digest: manifest.digest.clone(), size, present });
                if present {
                    return Ok(true);
                }
                let mut new = |digest: &Digest| survey.seen.insert(digest.clone());
                let children: Vec<_> =
                    links.manifests.into_iter().filter(|child| new(&child.digest)).collect();
                let blobs: Vec<_> = links.blobs.into_iter().filter(|blob| new(&blob.digest)).collect();
                (children, blobs)
            };
            let children = children.iter().map(|child| async {
                let reference = Reference::Digest(child.digest.clone());
                let manifest = {
                    let _permit = self.lookups.acquire().await;
                    self.source.manifest(&reference).await
                };
                let manifest = manifest.map_err(|source| self.unreadable(&child.digest, source))?;
                self.survey(&manifest, survey).await
            });
            let blobs = blobs.iter().map(|blob| async {
                let _permit = self.lookups.acquire().await;
                let present = self.destination.has_blob(blob).await;
                let present = present.map_err(|source| self.unwritable(&blob.digest, source))?;
                let planned = Planned { digest: blob.digest.clone(), size: blob.size, present };
                survey.lock().unwrap_or_else(PoisonError::into_inner).blobs.push(planned);
                Ok::<_, CopyError>(())
            });
            try_join(try_join_all(children), try_join_all(blobs)).await?;
            Ok(false)
        })
    }
}
