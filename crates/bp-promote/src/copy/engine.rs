//! The copy itself: everything that can go on at the same time does.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bp_artifact::{Classified as _, Digest, Emitter, Repository, Tag};
use futures_core::future::BoxFuture;
use futures_util::{
    future::{try_join, try_join_all},
    stream,
};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use super::{Carried, CopyError, CopyEvent, CopyOutcome, Side, run::Run, subset, tally::Passing};
use crate::{
    content::{Descriptor, Manifest, Reference},
    registry::RegistryError,
    store::{Destination, Holding, PutError, Source, StoreError, Stored},
};

/// The images of a run that have their source and their destination in common.
pub(super) struct Engine {
    pub(super) source: Box<dyn Source>,
    pub(super) destination: Box<dyn Destination>,
    pub(super) run: Arc<Run>,
    /// Each blob and manifest is carried once, however many refer to it.
    carried: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// What the destination is known to hold.
    holding: OnceCell<Holding>,
    /// All tags of the destination, where many are asked for.
    tags: OnceCell<HashSet<Tag>>,
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

    pub(super) fn new<S: Source, D: Destination>(mut source: S, mut destination: D, run: &Arc<Run>) -> Self {
        source.observe(run.tally.observer(Side::Source));
        destination.observe(run.tally.observer(Side::Destination));
        Engine {
            source: Box::new(source),
            destination: Box::new(destination),
            run: Arc::clone(run),
            carried: Mutex::default(),
            holding: OnceCell::new(),
            tags: OnceCell::new(),
        }
    }

    /// Gets ready for this many images.
    pub(super) async fn expect(&self, images: usize) -> Result<(), CopyError> {
        if images < Self::MANY {
            return Ok(());
        }
        let tags = self.destination.tags().await.map_err(|source| self.unwritable(&"its tags", source))?;
        let holding = match &tags {
            None => Holding::Nothing,
            Some(tags) if tags.is_empty() => Holding::NoTags,
            Some(_) => Holding::Something,
        };
        let _ = self.holding.set(holding);
        let _ = self.tags.set(tags.unwrap_or_default());
        Ok(())
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
        let outcome = match self.name_if_whole(to, &top).await? {
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
                self.carry_attached(&top, true).await?;
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
            let _ = self.holding.set(Holding::Something);
        }
        Ok((Looked::Different(top, found), selected_from))
    }

    /// Names what may be there already, where the destination is known to refuse what is not whole.
    async fn name_if_whole(&self, to: &Reference, top: &Manifest) -> Result<bool, CopyError> {
        let empty = matches!(self.holding.get(), Some(Holding::Nothing | Holding::NoTags));
        if !matches!(to, Reference::Tag(_)) || self.run.options.referrers || empty {
            return Ok(false);
        }
        match self.destination.publish_if_whole(to, top).await {
            Ok(true) => {
                self.named(to, top);
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(error) if error.is_immutable_tag() => self.settle(to, top, error).await.map(|()| true),
            Err(error) => Err(self.unwritable(to, error)),
        }
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
        let told =
            self.destination.refuses_gaps() && !self.run.options.referrers && matches!(to, Reference::Tag(_));
        let there = match to == &by_digest || told {
            true => found == Some(&top.digest),
            false => self.head(&by_digest).await?.is_some(),
        };
        let outcome = match there {
            true => CopyOutcome::Tagged,
            false => {
                self.carry_links(top).await?;
                CopyOutcome::Copied
            }
        };
        if self.run.options.referrers {
            self.carry_attached(top, there).await?;
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

    /// Everything that a manifest refers to.
    pub(super) fn carry_links<'a>(
        self: &'a Arc<Self>,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        Box::pin(async move {
            let links = manifest
                .links()
                .map_err(|source| CopyError::Manifest { digest: manifest.digest.clone(), source })?;
            let children = links.manifests.iter().map(|child| self.once(&child.digest, self.child(child)));
            let blobs = links.blobs.iter().map(|blob| self.once(&blob.digest, self.blob(blob)));
            let (children, blobs) = (try_join_all(children), try_join_all(blobs));
            try_join(children, blobs).await.map(|_| ())
        })
    }

    /// Runs `work` unless the same digest was carried before, or waits for who carries it.
    async fn once(
        &self,
        digest: &Digest,
        work: impl Future<Output = Result<(), CopyError>>,
    ) -> Result<(), CopyError> {
        let cell = {
            let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(carried.entry(digest.clone()).or_default())
        };
        cell.get_or_try_init(|| work).await.copied()
    }

    /// A manifest of an index: read while the destination is asked for it, stored when all of it is there.
    async fn child(self: &Arc<Self>, child: &Descriptor) -> Result<(), CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let read = async {
            let _permit = self.run.lookups.acquire().await;
            self.source.manifest(&reference).await.map_err(|source| self.unreadable(&child.digest, source))
        };
        let known = async {
            match self.holding().await? {
                Holding::Nothing | Holding::NoTags => Ok(None),
                Holding::Something => {
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
        self.carry_links(&manifest).await?;
        let _permit = self.run.lookups.acquire().await;
        let put = self.destination.put_manifest(&manifest).await;
        put.map_err(|source| self.unwritable(&child.digest, source))?;
        self.run.tally.manifest(&child.digest, Carried::Sent);
        Ok(())
    }

    /// A blob, on a task of its own: hashing is work for more than one core.
    async fn blob(self: &Arc<Self>, blob: &Descriptor) -> Result<(), CopyError> {
        let (engine, blob) = (Arc::clone(self), blob.clone());
        let task = tokio::spawn(async move { engine.transfer(&blob).await });
        match AbortOnDropHandle::new(task).await {
            Ok(done) => done,
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => Err(CopyError::Cancelled),
        }
    }

    /// Each blob of a run moves once to a registry; other repositories there take it from where it landed.
    async fn transfer(&self, blob: &Descriptor) -> Result<(), CopyError> {
        self.run.tally.found(blob);
        let Some(to) = self.destination.repository() else { return self.carry_blob(blob, None).await };
        let first = AtomicBool::new(false);
        let landing = self.run.landing(to.registry(), &blob.digest);
        let land = || async {
            first.store(true, Ordering::Relaxed);
            self.carry_blob(blob, self.mount()).await.map(|()| to.clone())
        };
        let landed = landing.get_or_try_init(land).await?;
        match first.into_inner() {
            true => Ok(()),
            false => self.carry_blob(blob, Some(landed)).await,
        }
    }

    async fn carry_blob(&self, blob: &Descriptor, mount: Option<&Repository>) -> Result<(), CopyError> {
        let unwritable = |source| self.unwritable(&blob.digest, source);
        let new = self.holding().await? == Holding::Nothing;
        if !new && self.destination.has_blob(blob).await.map_err(unwritable)? {
            self.run.tally.blob(blob, Carried::Present);
            return Ok(());
        }
        let _permit = self.run.transfers.acquire().await;
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            self.attempt(blob, mount, attempts)
        };
        let how =
            self.run.options.retry.run_when(PutError::is_retryable, told(&self.run.events), attempt).await;
        let how = how.map_err(|error| match error {
            PutError::Source(source) => self.unreadable(&blob.digest, source),
            PutError::Destination(source) => unwritable(source),
        })?;
        self.run.tally.blob(blob, how);
        Ok(())
    }

    async fn attempt(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
        attempt: u32,
    ) -> Result<Carried, PutError> {
        // The answer to an upload may have been lost, and not the upload.
        if attempt > 1 && self.destination.has_blob(blob).await.map_err(PutError::Destination)? {
            return Ok(Carried::Present);
        }
        let passing = Passing::new(&self.run.tally);
        let bytes = async {
            if let Some(data) = blob.inline() {
                return Ok(passing.count(Box::pin(stream::once(async { Ok(data) }))));
            }
            let bytes = match self.run.options.trust_destination && self.destination.checks_digests() {
                true => self.source.unhashed_blob(blob).await,
                false => self.source.blob(blob).await,
            };
            bytes.map(|bytes| passing.count(bytes))
        };
        let stored = self.destination.put_blob(blob, mount, Box::pin(bytes)).await?;
        passing.stored();
        Ok(match stored {
            Stored::Uploaded => Carried::Sent,
            Stored::Mounted => Carried::Mounted,
        })
    }

    /// From where the destination's registry can take blobs itself: only within one registry.
    pub(super) fn mount(&self) -> Option<&Repository> {
        let (from, to) = (self.source.repository()?, self.destination.repository()?);
        (from.registry() == to.registry() && from != to).then_some(from)
    }

    pub(super) async fn holding(&self) -> Result<Holding, CopyError> {
        let ask = || async {
            let _permit = self.run.lookups.acquire().await;
            self.destination.holding().await.map_err(|source| self.unwritable(&"anything", source))
        };
        self.holding.get_or_try_init(ask).await.copied()
    }

    /// What the destination has under this name.
    pub(super) async fn head(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let absent = match (reference, self.tags.get()) {
            _ if self.holds_nothing() && self.tags.initialized() => true,
            (Reference::Tag(tag), Some(known)) => !known.contains(tag),
            _ => false,
        };
        if absent { Ok(None) } else { self.ask(reference).await }
    }

    /// Whether the destination is known to hold nothing, neither tags nor what hangs on its manifests.
    pub(super) fn holds_nothing(&self) -> bool {
        self.holding.get() == Some(&Holding::Nothing)
    }

    async fn ask(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let found = self.destination.head(reference).await;
        Ok(found.map_err(|source| self.unwritable(reference, source))?.map(|found| found.digest))
    }

    /// The last step.
    pub(super) async fn publish(&self, to: &Reference, top: &Manifest) -> Result<(), CopyError> {
        match self.destination.publish(to, top).await {
            Ok(()) => {
                self.named(to, top);
                Ok(())
            }
            Err(error) if error.is_immutable_tag() => self.settle(to, top, error).await,
            Err(error) => Err(self.unwritable(to, error)),
        }
    }

    /// A tag that may not move is no failure when it names the image: by who came first, or by us when the answer was
    /// lost.
    async fn settle(&self, to: &Reference, top: &Manifest, error: StoreError) -> Result<(), CopyError> {
        match self.ask(to).await? {
            Some(found) if found == top.digest => {
                self.named(to, top);
                Ok(())
            }
            Some(found) => Err(self.taken(to, found, top, Some(error))),
            None => Err(self.unwritable(to, error)),
        }
    }

    fn named(&self, to: &Reference, top: &Manifest) {
        if let Reference::Tag(tag) = to {
            self.run.events.emit(CopyEvent::Tagged { tag: tag.clone(), digest: top.digest.clone() });
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

    fn taken(&self, to: &Reference, found: Digest, top: &Manifest, source: Option<StoreError>) -> CopyError {
        CopyError::TagTaken {
            destination: self.destination.name(),
            tag: to.to_string(),
            found,
            wanted: top.digest.clone(),
            source: source.map(Box::new),
        }
    }
}

/// Tells of another attempt to carry a blob.
fn told(events: &Emitter<CopyEvent>) -> impl Fn(&PutError, std::time::Duration) {
    |error, pause| {
        let (side, source) = match error {
            PutError::Source(source) => (Side::Source, source),
            PutError::Destination(source) => (Side::Destination, source),
        };
        events.emit(CopyEvent::Retrying { side, reason: source.to_string(), pause });
    }
}
