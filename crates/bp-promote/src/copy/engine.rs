//! The copy itself: everything that can go on at the same time does.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex},
};

use bp_artifact::{Digest, Tag, sync::lock};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use super::{
    Carried, CopyError, CopyEvent, CopyOutcome, Side, counted::Counted, run::Run, subset, walk::Walk,
};
use crate::{
    content::{Descriptor, Manifest, Reference},
    registry::RegistryError,
    store::{Destination, RepositoryState, RunContext, Source, StoreError, TagList},
};

/// The images of a run that have their source and their destination in common.
pub(super) struct Engine {
    pub(super) source: Counted<dyn Source>,
    pub(super) destination: Counted<dyn Destination>,
    pub(super) run: Arc<Run>,
    /// Each blob and manifest is carried once, however many refer to it.
    carried: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// What the destination is known to hold.
    state: OnceCell<RepositoryState>,
    /// How many images these are.
    pub(super) images: usize,
    /// The destination's tags, where many are asked for; `None` where they cannot be listed.
    tags: OnceCell<Option<HashSet<Tag>>>,
}

/// One image of a run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) from: Reference,
    pub(super) to: Reference,
    /// What the destination's name must name, when that was planned.
    pub(super) expected: Option<Option<Digest>>,
}

/// What became of one image.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) digest: Digest,
    pub(super) outcome: CopyOutcome,
    /// The manifest or index, if it was read.
    pub(super) top: Option<Manifest>,
    /// The index that it is a selection of.
    pub(super) selected_from: Option<Digest>,
    /// What the destination's name named before.
    pub(super) previous: Option<Digest>,
}

/// What both sides have under the names that are asked for.
enum Looked {
    Equal(Digest, Option<Manifest>),
    Different(Manifest, Option<Digest>),
}

impl Engine {
    /// With so many images it is cheaper to list the destination's tags than to ask for each.
    const MANY: usize = 3;

    pub(super) fn new<S: Source, D: Destination>(source: S, destination: D, run: &Arc<Run>) -> Self {
        let context = |side| RunContext::new(run.tally.observer(side), run.options.no_clobber);
        Engine {
            source: Counted::source(source, &context(Side::Source)),
            destination: Counted::destination(destination, &context(Side::Destination)),
            run: Arc::clone(run),
            carried: Mutex::default(),
            state: OnceCell::new(),
            images: 1,
            tags: OnceCell::new(),
        }
    }

    /// Carries one image, and names it.
    pub(super) async fn carry(self: &Arc<Self>, job: &Job) -> Result<Done, CopyError> {
        let to = &job.to;
        let (looked, selected_from) = self.unless_cancelled(self.look(job)).await?;
        let (top, found) = match looked {
            Looked::Equal(digest, top) => {
                let previous = Some(digest.clone());
                return Ok(Done { digest, outcome: CopyOutcome::Unchanged, top, selected_from, previous });
            }
            Looked::Different(top, found) => (top, found),
        };
        // What names something is awaited also when cancelled: its answer tells whether the name has moved.
        let outcome = match self.name_if_complete(to, &top).await? {
            true => {
                self.run.tally.manifest(&top.digest, Carried::Present);
                CopyOutcome::Tagged
            }
            false => {
                let outcome = self.unless_cancelled(self.prepare(to, &top, found.as_ref())).await?;
                self.publish(to, &top).await?;
                outcome
            }
        };
        Ok(Done { digest: top.digest.clone(), outcome, top: Some(top), selected_from, previous: found })
    }

    /// Nothing more will be written.
    pub(super) async fn finish(&self) -> Result<(), CopyError> {
        self.destination.finish().await.map_err(|source| self.unwritable(&"what was copied", source))
    }

    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<T, CopyError> {
        tokio::select! {
            done = work => done,
            () = self.run.events.cancelled() => Err(CopyError::Cancelled),
        }
    }

    /// What there is on both sides, and whether the destination's name may be moved.
    async fn look(self: &Arc<Self>, job: &Job) -> Result<(Looked, Option<Digest>), CopyError> {
        let Job { from, to, expected } = job;
        let options = &self.run.options;
        let ((top, selected_from), found) = match from {
            Reference::Digest(digest) if options.platforms.is_empty() => {
                // The digest is known: when the destination has it under this name, the source is not even asked.
                let found = self.head(to).await?;
                if found.as_ref() == Some(digest) && !options.referrers {
                    self.resolved(digest, true);
                    return Ok((Looked::Equal(digest.clone(), None), None));
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
                self.carry_attached(&top, true, &Walk::default()).await?;
            }
            return Ok((Looked::Equal(top.digest.clone(), Some(top)), selected_from));
        }
        if let Some(planned) = expected.as_ref().filter(|planned| **planned != found) {
            let (destination, reference) = (self.destination.name(), to.to_string());
            return Err(CopyError::Moved { destination, reference, planned: planned.clone(), found });
        }
        if let (Some(found), Reference::Tag(_), true) = (&found, to, options.no_clobber) {
            return Err(self.taken(to, found.clone(), &top, None));
        }
        if found.is_some() {
            // Something is there already: no need to ask whether it is new.
            let _ = self.state.set(RepositoryState::Tagged);
        }
        Ok((Looked::Different(top, found), selected_from))
    }

    /// Everything but the name.
    async fn prepare(
        self: &Arc<Self>,
        to: &Reference,
        top: &Manifest,
        found: Option<&Digest>,
    ) -> Result<CopyOutcome, CopyError> {
        let by_digest = Reference::Digest(top.digest.clone());
        // What an attempt to name it has told need not be asked again.
        let there = match to == &by_digest || self.names_first(to) {
            true => found == Some(&top.digest),
            false => self.was_read_there() || self.head(&by_digest).await?.is_some(),
        };
        let walk = Walk::default();
        let outcome = match there {
            true => CopyOutcome::Tagged,
            false => {
                self.carry_links(top, &walk, 0).await?;
                CopyOutcome::Copied
            }
        };
        if self.run.options.referrers {
            self.carry_attached(top, there, &walk).await?;
        }
        self.run.tally.manifest(&top.digest, if there { Carried::Present } else { Carried::Sent });
        Ok(outcome)
    }

    /// A destination that is named by digest takes nothing else.
    pub(super) fn other_digest(&self, to: &Reference, top: &Manifest) -> Option<CopyError> {
        match to {
            Reference::Digest(asked) if *asked != top.digest => {
                Some(CopyError::OtherDigest { asked: asked.clone(), found: top.digest.clone() })
            }
            _ => None,
        }
    }

    /// What is to be copied of the image that `reference` names, and the digest of the whole if it is a selection.
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
        self.source.manifest(reference).await.map_err(|source| match source.is_not_found() {
            true => CopyError::NoImage {
                source_name: self.source.name(),
                reference: reference.to_string(),
                source: Box::new(source),
            },
            false => self.unreadable(reference, source),
        })
    }

    /// Everything that a manifest refers to, which is so many levels below the image's own.
    pub(super) fn carry_links<'a>(
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
                .map(|child| self.once(&child.digest, self.child(child, walk, depth + 1)));
            let blobs = links.blobs.iter().map(|blob| self.once(&blob.digest, self.blob(blob)));
            let (children, blobs) = (try_join_all(children), try_join_all(blobs));
            try_join(children, blobs).await.map(|_| ())
        })
    }

    /// Runs `work` unless the same digest was carried before, or waits for who carries it.
    pub(super) async fn once(
        &self,
        digest: &Digest,
        work: impl Future<Output = Result<(), CopyError>>,
    ) -> Result<(), CopyError> {
        let cell = {
            let mut carried = lock(&self.carried);
            Arc::clone(carried.entry(digest.clone()).or_default())
        };
        cell.get_or_try_init(|| work).await.copied()
    }

    /// A manifest of an index: read while the destination is asked for it, stored when all of it is there.
    async fn child(self: &Arc<Self>, child: &Descriptor, walk: &Walk, depth: usize) -> Result<(), CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let read = async {
            let _permit = self.run.lookups.acquire().await;
            self.source.manifest(&reference).await.map_err(|source| self.unreadable(&child.digest, source))
        };
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
            self.run.tally.manifest(&child.digest, Carried::Present);
            return Ok(());
        }
        self.carry_links(&manifest, walk, depth).await?;
        let _permit = self.run.lookups.acquire().await;
        let put = self.destination.put_manifest(&manifest).await;
        put.map_err(|source| self.unwritable(&child.digest, source))?;
        self.run.tally.manifest(&child.digest, Carried::Sent);
        Ok(())
    }

    pub(super) async fn state(&self) -> Result<RepositoryState, CopyError> {
        let ask = || async {
            let _permit = self.run.lookups.acquire().await;
            self.destination.state().await.map_err(|source| self.unwritable(&"anything", source))
        };
        self.state.get_or_try_init(ask).await.copied()
    }

    /// Whether what is to be copied was read where it goes to: then it needs a name there, and nothing else.
    pub(super) fn was_read_there(&self) -> bool {
        let (from, to) = (self.source.repository(), self.destination.repository());
        from.is_some() && from == to && self.run.options.platforms.is_empty()
    }

    /// What the destination has under this name.
    pub(super) async fn head(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let absent = match (reference, self.listed().await) {
            (_, Some(_)) if self.is_empty() => true,
            (Reference::Tag(tag), Some(known)) => !known.contains(tag),
            _ => false,
        };
        if absent { Ok(None) } else { self.ask(reference).await }
    }

    /// The destination's tags, listed once, where many are asked for. A destination that cannot be listed is asked for
    /// each, which then tells what is wrong.
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

    /// Whether the destination is known to hold nothing, neither tags nor what hangs on its manifests.
    pub(super) fn is_empty(&self) -> bool {
        self.known_state() == Some(RepositoryState::Empty)
    }

    /// What the destination holds, as far as it was asked.
    pub(super) fn known_state(&self) -> Option<RepositoryState> {
        self.state.get().copied()
    }

    pub(super) async fn ask(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let found = self.destination.head(reference).await;
        Ok(found.map_err(|source| self.unwritable(reference, source))?.map(|found| found.digest))
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
