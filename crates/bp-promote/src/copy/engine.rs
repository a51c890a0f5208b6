//! The copy engine: reads, uploads and checks run concurrently; the tag is pushed last.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex},
};

use bp_artifact::{Digest, Tag, sync::lock, text::SingleLine};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use super::{
    CopyError, CopyEvent, CopyOutcome, Side, Transfer, counted::Counted, run::Run, subset, walk::Walk,
};
use crate::{
    content::{Descriptor, Links, Manifest, Reference},
    registry::RegistryError,
    store::{Destination, RepositoryState, RunContext, Source, StoreError, TagList},
};

/// Copies the images of a run that have the same source and destination.
pub(super) struct Engine {
    pub(super) source: Counted<dyn Source>,
    pub(super) destination: Counted<dyn Destination>,
    pub(super) run: Arc<Run>,
    /// One cell per blob and manifest: each is copied once, even if several images refer to it.
    cells: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// The known state of the destination repository.
    state: OnceCell<RepositoryState>,
    /// The number of images.
    pub(super) images: usize,
    /// The destination's tags, listed if there are several images; `None` if they cannot be listed.
    tags: OnceCell<Option<HashSet<Tag>>>,
}

/// One image of a run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) from: Reference,
    pub(super) to: Reference,
    /// The digest that the destination's reference must point to, if this was planned.
    pub(super) expected: Option<Option<Digest>>,
}

/// The result for one image.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) digest: Digest,
    pub(super) outcome: CopyOutcome,
    /// The manifest or index, if it was read.
    pub(super) top: Option<Manifest>,
    /// The digest of the index that this is a platform selection of.
    pub(super) selected_from: Option<Digest>,
    /// The digest that the destination's reference pointed to before.
    pub(super) previous: Option<Digest>,
}

/// The result of comparing source and destination.
enum Comparison {
    Equal(Digest, Option<Manifest>),
    Different(Manifest, Option<Digest>),
}

impl Engine {
    /// From this number of images on, listing the destination's tags takes fewer requests than a HEAD for each.
    const MANY: usize = 3;

    pub(super) fn new<S: Source, D: Destination>(source: S, destination: D, run: &Arc<Run>) -> Self {
        let context = |side| {
            RunContext::new(run.tally.observer(side), run.tally.warnings(side), run.options.no_clobber)
        };
        Engine {
            source: Counted::source(source, &context(Side::Source)),
            destination: Counted::destination(destination, &context(Side::Destination)),
            run: Arc::clone(run),
            cells: Mutex::default(),
            state: OnceCell::new(),
            images: 0,
            tags: OnceCell::new(),
        }
    }

    /// Copies one image and publishes it under its reference.
    #[tracing::instrument(
        name = "copy_image",
        skip_all,
        fields(
            source = %SingleLine(self.source.name()),
            destination = %SingleLine(self.destination.name()),
            reference = %job.to,
        )
    )]
    pub(super) async fn copy(self: &Arc<Self>, job: &Job) -> Result<Done, CopyError> {
        let to = &job.to;
        let (comparison, selected_from) = self.unless_stopped(self.compare(job)).await?;
        let (top, found) = match comparison {
            Comparison::Equal(digest, top) => {
                let previous = Some(digest.clone());
                return Ok(Done { digest, outcome: CopyOutcome::Unchanged, top, selected_from, previous });
            }
            Comparison::Different(top, found) => (top, found),
        };
        let mut change = self.tag_change(to, &top, found.as_ref());
        // The publishing request is awaited even after cancellation: its response says whether the tag was moved.
        let outcome = if self.run.in_time(self.try_publish(to, &top, &mut change)).await? {
            self.run.tally.manifest(&top.digest, Transfer::Present);
            CopyOutcome::Tagged
        } else {
            let outcome = self.unless_stopped(self.prepare(to, &top, found.as_ref())).await?;
            self.run.in_time(self.publish(to, &top, &mut change)).await?;
            outcome
        };
        Ok(Done { digest: top.digest.clone(), outcome, top: Some(top), selected_from, previous: found })
    }

    /// Finishes the destination: nothing more is written.
    pub(super) async fn finish(&self) -> Result<(), CopyError> {
        self.destination.finish().await.map_err(|source| self.unwritable(&"the images", source))
    }

    /// Runs `work` until it is cancelled, or the time of the run is over.
    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<T, CopyError> {
        tokio::select! {
            done = self.run.in_time(work) => done,
            () = self.run.events.cancelled() => Err(CopyError::Cancelled),
        }
    }

    /// Resolves the reference on both sides, and checks whether the destination's reference may be moved.
    async fn compare(self: &Arc<Self>, job: &Job) -> Result<(Comparison, Option<Digest>), CopyError> {
        let Job { from, to, expected } = job;
        let options = &self.run.options;
        let ((top, selected_from), found) = match from {
            Reference::Digest(digest) if options.platforms.is_empty() => {
                // If the destination's reference already points to this digest, no request to the source is needed.
                let found = self.head(to).await?;
                if found.as_ref() == Some(digest) && !options.referrers {
                    self.resolved(digest, true);
                    return Ok((Comparison::Equal(digest.clone(), None), None));
                }
                (self.wanted(from).await?, found)
            }
            _ => try_join(self.wanted(from), self.head(to)).await?,
        };
        if let Some(error) = self.other_digest(to, &top) {
            return Err(error);
        }
        let present = found.as_ref() == Some(&top.digest);
        self.resolved(&top.digest, present);
        if present {
            if options.referrers {
                self.copy_attached(&top, true, &Walk::default()).await?;
            }
            return Ok((Comparison::Equal(top.digest.clone(), Some(top)), selected_from));
        }
        if let Some(planned) = expected.as_ref().filter(|planned| **planned != found) {
            let (destination, reference) = (self.destination.name(), to.to_string());
            return Err(CopyError::Moved { destination, reference, planned: planned.clone(), found });
        }
        if let (Some(found), Reference::Tag(_), true) = (&found, to, options.no_clobber) {
            return Err(self.tag_taken(to, found.clone(), &top, None));
        }
        if found.is_some() {
            // The repository has at least this tag, so its state is known without a request.
            let _ = self.state.set(RepositoryState::Tagged);
        }
        Ok((Comparison::Different(top, found), selected_from))
    }

    /// Copies everything except the reference itself.
    async fn prepare(
        self: &Arc<Self>,
        to: &Reference,
        top: &Manifest,
        found: Option<&Digest>,
    ) -> Result<CopyOutcome, CopyError> {
        let by_digest = Reference::Digest(top.digest.clone());
        // If publishing was tried first, its result already says whether the digest exists.
        let present = if to == &by_digest || self.publishes_first(to) {
            found == Some(&top.digest)
        } else {
            self.is_same_repository() || self.head(&by_digest).await?.is_some()
        };
        let walk = Walk::default();
        let outcome = if present {
            CopyOutcome::Tagged
        } else {
            self.copy_links(top, &walk, 0).await?;
            CopyOutcome::Copied
        };
        if self.run.options.referrers {
            self.copy_attached(top, present, &walk).await?;
        }
        self.run.tally.manifest(&top.digest, if present { Transfer::Present } else { Transfer::Sent });
        Ok(outcome)
    }

    /// A destination reference with a digest accepts only an image with that digest.
    pub(super) fn other_digest(&self, to: &Reference, top: &Manifest) -> Option<CopyError> {
        match to {
            Reference::Digest(asked) if *asked != top.digest => {
                Some(CopyError::OtherDigest { asked: asked.clone(), found: top.digest.clone() })
            }
            _ => None,
        }
    }

    /// The manifest to copy for `reference`; for a platform selection also the digest of the complete index.
    pub(super) async fn wanted(
        &self,
        reference: &Reference,
    ) -> Result<(Manifest, Option<Digest>), CopyError> {
        let top = self.top(reference).await?;
        match self.run.options.platforms.as_slice() {
            [] => Ok((top, None)),
            _ if self.run.options.keeps_digest => Err(CopyError::DigestMustStay { digest: top.digest }),
            platforms => Ok((subset::of(&top, platforms)?, Some(top.digest))),
        }
    }

    pub(super) async fn top(&self, reference: &Reference) -> Result<Manifest, CopyError> {
        let _permit = self.run.lookups.acquire().await;
        match self.source.manifest(reference).await {
            Ok(manifest) => Ok(manifest),
            Err(source) if source.is_not_found() => match self.source.explain_missing(reference).await {
                Some(reason) => Err(self.unreadable(reference, reason)),
                None => Err(CopyError::NoImage {
                    source_name: self.source.name(),
                    reference: reference.to_string(),
                    source: Box::new(source),
                }),
            },
            Err(source) => Err(self.unreadable(reference, source)),
        }
    }

    /// Copies everything that a manifest refers to. `depth` is its distance from the image's own manifest.
    pub(super) fn copy_links<'a>(
        self: &'a Arc<Self>,
        manifest: &'a Manifest,
        walk: &'a Walk,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        Box::pin(async move {
            let links = walk.links(manifest, depth)?;
            let children = links
                .manifests
                .iter()
                .map(|child| self.once(&child.digest, self.child(child, walk, depth.saturating_add(1))));
            let blobs = self.content_of(&links).map(|blob| self.once(&blob.digest, self.blob(blob)));
            let (children, blobs) = (try_join_all(children), try_join_all(blobs));
            try_join(children, blobs).await.map(|_| ())
        })
    }

    /// The blobs to copy, with the non-distributable layers if they are to be copied too.
    pub(super) fn content_of<'a>(&self, links: &'a Links) -> impl Iterator<Item = &'a Descriptor> {
        let external: &[Descriptor] = if self.run.options.external { &links.external } else { &[] };
        links.blobs.iter().chain(external)
    }

    /// Reads a manifest of an index; `None` if it is a blob, as in the indexes of some build caches.
    pub(super) async fn child_manifest(&self, child: &Descriptor) -> Result<Option<Manifest>, CopyError> {
        let _permit = self.run.lookups.acquire().await;
        let reference = Reference::Digest(child.digest.clone());
        match self.source.manifest(&reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() && !child.is_known_manifest() => Ok(None),
            Err(error) if error.is_not_found() => {
                let reason = self.source.explain_missing(&reference).await;
                Err(self.unreadable(&child.digest, reason.unwrap_or(error)))
            }
            Err(error) => Err(self.unreadable(&child.digest, error)),
        }
    }

    /// Runs `work` once per digest; concurrent callers wait for the first one.
    pub(super) async fn once(
        &self,
        digest: &Digest,
        work: impl Future<Output = Result<(), CopyError>>,
    ) -> Result<(), CopyError> {
        let cell = {
            let mut cells = lock(&self.cells);
            Arc::clone(cells.entry(digest.clone()).or_default())
        };
        cell.get_or_try_init(|| work).await.copied()
    }

    /// Copies a manifest of an index: reads it while the destination is checked, stores it after all of its content.
    async fn child(self: &Arc<Self>, child: &Descriptor, walk: &Walk, depth: usize) -> Result<(), CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let read = self.child_manifest(child);
        let known = async {
            match self.state().await? {
                RepositoryState::Empty | RepositoryState::Untagged => Ok(None),
                RepositoryState::Tagged => {
                    let _permit = self.run.lookups.acquire().await;
                    self.head(&reference).await
                }
            }
        };
        let (manifest, known) = try_join(read, known).await?;
        if known.is_some() {
            self.run.tally.manifest(&child.digest, Transfer::Present);
            return Ok(());
        }
        let Some(manifest) = manifest else { return self.blob(child).await };
        self.copy_links(&manifest, walk, depth).await?;
        let _permit = self.run.lookups.acquire().await;
        let put = self.destination.put_manifest(&manifest).await;
        put.map_err(|source| self.unwritable(&child.digest, source))?;
        self.run.tally.manifest(&child.digest, Transfer::Sent);
        Ok(())
    }

    pub(super) async fn state(&self) -> Result<RepositoryState, CopyError> {
        let ask = || async {
            let _permit = self.run.lookups.acquire().await;
            self.destination.state().await.map_err(|source| self.unwritable(&"images", source))
        };
        self.state.get_or_try_init(ask).await.copied()
    }

    /// Whether source and destination are the same repository: then only the reference has to be published.
    pub(super) fn is_same_repository(&self) -> bool {
        let (from, to) = (self.source.repository(), self.destination.repository());
        from.is_some() && from == to && self.run.options.platforms.is_empty()
    }

    /// The digest that the destination's reference points to.
    pub(super) async fn head(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let absent = match (reference, self.listed().await) {
            (_, Some(_)) if self.is_empty() => true,
            (Reference::Tag(tag), Some(known)) => !known.contains(tag),
            _ => false,
        };
        if !absent {
            self.request_head(reference).await
        } else if self.is_decisive(reference) && !self.is_empty() {
            // A list may be incomplete.
            self.confirm(reference).await
        } else {
            Ok(None)
        }
    }

    /// Whether a decision rests on the absence of a reference: whether a tag may be created, or what it pointed to before.
    fn is_decisive(&self, reference: &Reference) -> bool {
        let options = &self.run.options;
        (options.no_clobber || options.confirms_absence) && matches!(reference, Reference::Tag(_))
    }

    /// The digest that a reference points to, from its manifest.
    pub(super) async fn confirm(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let found = self.destination.confirm(reference).await;
        Ok(found.map_err(|source| self.unwritable(reference, source))?.map(|found| found.digest))
    }

    /// The destination's tags, listed once if there are several images. If listing fails, each tag is requested
    /// separately, and that request reports the error.
    async fn listed(&self) -> Option<&HashSet<Tag>> {
        if self.images < Self::MANY {
            return None;
        }
        let list = || async {
            let (state, tags) = match self.destination.tags().await.ok()? {
                TagList::Unavailable => return None,
                TagList::NoRepository => (RepositoryState::Empty, HashSet::new()),
                TagList::Tags(tags) if tags.is_empty() => (RepositoryState::Untagged, tags),
                TagList::Tags(tags) => (RepositoryState::Tagged, tags),
            };
            let _ = self.state.set(state);
            Some(tags)
        };
        self.tags.get_or_init(list).await.as_ref()
    }

    /// Whether the destination is known to be empty, without tags and without manifests.
    pub(super) fn is_empty(&self) -> bool {
        self.known_state() == Some(RepositoryState::Empty)
    }

    /// The state of the destination repository, if it is known.
    pub(super) fn known_state(&self) -> Option<RepositoryState> {
        self.state.get().copied()
    }

    pub(super) async fn request_head(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let found = self.destination.head(reference).await;
        match found.map_err(|source| self.unwritable(reference, source))? {
            None if self.is_decisive(reference) => self.confirm(reference).await,
            found => Ok(found.map(|found| found.digest)),
        }
    }

    fn resolved(&self, digest: &Digest, present: bool) {
        let (source, destination) = (self.source.name(), self.destination.name());
        self.run.events.emit(CopyEvent::Resolved { source, destination, digest: digest.clone(), present });
    }

    pub(super) fn unreadable(&self, what: &dyn std::fmt::Display, source: StoreError) -> CopyError {
        CopyError::Source {
            source_name: self.source.name(),
            what: what.to_string(),
            source: Box::new(source),
        }
    }

    pub(super) fn unwritable(&self, what: &dyn std::fmt::Display, source: StoreError) -> CopyError {
        let destination = self.destination.name();
        match &source {
            StoreError::Registry(error @ RegistryError::NotFound { .. })
                if error.has_code("NAME_UNKNOWN") =>
            {
                CopyError::NoRepository { destination, source: Box::new(source) }
            }
            _ => CopyError::Destination { destination, what: what.to_string(), source: Box::new(source) },
        }
    }
}
