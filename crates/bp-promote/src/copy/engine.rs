//! The copy itself: everything that can go on at the same time does.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use bp_artifact::{Classified as _, Digest, Emitter, Repository};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Carried, CopyError, CopyEvent, CopyOptions, CopyOutcome, CopyReport, Side,
    tally::{Passing, Tally},
};
use crate::{
    content::{Descriptor, Manifest, Reference},
    registry::RegistryError,
    store::{Destination, PutError, Source, StoreError, Stored},
};

/// One copy under way.
pub(super) struct Engine {
    pub(super) source: Box<dyn Source>,
    pub(super) destination: Box<dyn Destination>,
    options: CopyOptions,
    events: Emitter<CopyEvent>,
    /// Blobs under way.
    transfers: Semaphore,
    /// Requests for manifests under way.
    pub(super) lookups: Semaphore,
    /// Each blob and manifest of the run is carried once, however many refer to it.
    carried: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// Whether the destination is known to hold nothing.
    new: OnceCell<bool>,
    pub(super) tally: Tally,
}

/// What is to be named at the end.
enum Prepared {
    Unchanged(Digest, Option<Manifest>),
    Ready { top: Manifest, outcome: CopyOutcome },
}

impl Engine {
    pub(super) fn new<S: Source, D: Destination>(
        mut source: S,
        mut destination: D,
        options: CopyOptions,
        events: Emitter<CopyEvent>,
    ) -> Self {
        let tally = Tally::new(events.clone());
        source.observe(tally.observer(Side::Source));
        destination.observe(tally.observer(Side::Destination));
        Engine {
            source: Box::new(source),
            destination: Box::new(destination),
            transfers: Semaphore::new(options.concurrency),
            lookups: Semaphore::new(options.concurrency),
            options,
            events,
            carried: Mutex::default(),
            new: OnceCell::new(),
            tally,
        }
    }

    pub(super) async fn run(
        self: Arc<Self>,
        from: Reference,
        to: Reference,
    ) -> Result<CopyReport, CopyError> {
        let prepared = tokio::select! {
            prepared = self.prepare(&from, &to) => prepared?,
            () = self.events.cancelled() => return Err(CopyError::Cancelled),
        };
        match prepared {
            Prepared::Unchanged(digest, top) => Ok(self.report(digest, CopyOutcome::Unchanged, top)),
            Prepared::Ready { top, outcome } => {
                // Awaited also when cancelled: its answer tells whether the name has moved.
                self.publish(&to, &top).await?;
                Ok(self.report(top.digest.clone(), outcome, Some(top)))
            }
        }
    }

    /// Everything but the name.
    async fn prepare(self: &Arc<Self>, from: &Reference, to: &Reference) -> Result<Prepared, CopyError> {
        let (top, found) = match from {
            Reference::Digest(digest) => {
                // The digest is known: when the destination has it under this name, the source is not even asked.
                let found = self.head(to).await?;
                if found.as_ref() == Some(digest) && !self.options.referrers {
                    self.resolved(digest, true);
                    return Ok(Prepared::Unchanged(digest.clone(), None));
                }
                (self.top(from).await?, found)
            }
            Reference::Tag(_) => try_join(self.top(from), self.head(to)).await?,
        };
        if let Some(error) = self.other_digest(to, &top) {
            return Err(error);
        }
        let present = found.as_ref() == Some(&top.digest);
        self.resolved(&top.digest, present);
        if present {
            if self.options.referrers {
                self.carry_attached(&top, true).await?;
            }
            return Ok(Prepared::Unchanged(top.digest.clone(), Some(top)));
        }
        if let Some(planned) = self.options.expected.as_ref().filter(|planned| **planned != found) {
            let (destination, reference) = (self.destination.name(), to.to_string());
            return Err(CopyError::Moved { destination, reference, planned: planned.clone(), found });
        }
        if let (Some(found), Reference::Tag(_), true) = (&found, to, self.options.no_clobber) {
            return Err(self.taken(to, found.clone(), &top, None));
        }
        if found.is_some() {
            // Something is there already: no need to ask whether it is new.
            let _ = self.new.set(false);
        }
        let by_digest = Reference::Digest(top.digest.clone());
        let outcome = match to != &by_digest && self.head(&by_digest).await?.is_some() {
            true => CopyOutcome::Tagged,
            false => {
                self.carry_links(&top).await?;
                CopyOutcome::Copied
            }
        };
        if self.options.referrers {
            self.carry_attached(&top, outcome == CopyOutcome::Tagged).await?;
        }
        let how = match outcome {
            CopyOutcome::Copied => Carried::Sent,
            _ => Carried::Present,
        };
        self.tally.manifest(&top.digest, how);
        Ok(Prepared::Ready { top, outcome })
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

    pub(super) async fn top(&self, reference: &Reference) -> Result<Manifest, CopyError> {
        self.source.manifest(reference).await.map_err(|source| match source.is_not_found() {
            true => CopyError::NoImage {
                source_name: self.source.name(),
                reference: reference.to_string(),
                source,
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
            let blobs = links.blobs.iter().map(|blob| {
                self.tally.found(blob);
                self.once(&blob.digest, self.blob(blob))
            });
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
            let _permit = self.lookups.acquire().await;
            self.source.manifest(&reference).await.map_err(|source| self.unreadable(&child.digest, source))
        };
        let known = async {
            if self.is_new().await? {
                return Ok(None);
            }
            let _permit = self.lookups.acquire().await;
            self.head(&reference).await
        };
        let (manifest, known) = try_join(read, known).await?;
        if known.is_some() {
            self.tally.manifest(&child.digest, Carried::Present);
            return Ok(());
        }
        self.carry_links(&manifest).await?;
        let _permit = self.lookups.acquire().await;
        let put = self.destination.put_manifest(&manifest).await;
        put.map_err(|source| self.unwritable(&child.digest, source))?;
        self.tally.manifest(&child.digest, Carried::Sent);
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

    async fn transfer(&self, blob: &Descriptor) -> Result<(), CopyError> {
        let unwritable = |source| self.unwritable(&blob.digest, source);
        let new = self.is_new().await?;
        let _permit = self.transfers.acquire().await;
        if !new && self.destination.has_blob(blob).await.map_err(unwritable)? {
            self.tally.blob(blob, Carried::Present);
            return Ok(());
        }
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            self.attempt(blob, attempts)
        };
        let how = self.options.retry.run_when(PutError::is_retryable, told(&self.events), attempt).await;
        let how = how.map_err(|error| match error {
            PutError::Source(source) => self.unreadable(&blob.digest, source),
            PutError::Destination(source) => unwritable(source),
        })?;
        self.tally.blob(blob, how);
        Ok(())
    }

    async fn attempt(&self, blob: &Descriptor, attempt: u32) -> Result<Carried, PutError> {
        // The answer to an upload may have been lost, and not the upload.
        if attempt > 1 && self.destination.has_blob(blob).await.map_err(PutError::Destination)? {
            return Ok(Carried::Present);
        }
        let passing = Passing::new(&self.tally);
        let bytes = async {
            let bytes = match self.options.trust_destination && self.destination.checks_digests() {
                true => self.source.unhashed_blob(blob).await,
                false => self.source.blob(blob).await,
            };
            bytes.map(|bytes| passing.count(bytes))
        };
        let stored = self.destination.put_blob(blob, self.mount(), Box::pin(bytes)).await?;
        passing.stored();
        Ok(match stored {
            Stored::Uploaded => Carried::Sent,
            Stored::Mounted => Carried::Mounted,
        })
    }

    /// From where the destination's registry can take blobs itself: only within one registry.
    fn mount(&self) -> Option<&Repository> {
        let (from, to) = (self.source.repository()?, self.destination.repository()?);
        (from.registry() == to.registry() && from != to).then_some(from)
    }

    async fn is_new(&self) -> Result<bool, CopyError> {
        let ask = || async {
            let _permit = self.lookups.acquire().await;
            self.destination.is_new().await.map_err(|source| self.unwritable(&"anything", source))
        };
        self.new.get_or_try_init(ask).await.copied()
    }

    /// What the destination has under this name.
    pub(super) async fn head(&self, reference: &Reference) -> Result<Option<Digest>, CopyError> {
        let found = self.destination.head(reference).await;
        Ok(found.map_err(|source| self.unwritable(reference, source))?.map(|found| found.digest))
    }

    /// The last step.
    pub(super) async fn publish(&self, to: &Reference, top: &Manifest) -> Result<(), CopyError> {
        if let Err(error) = self.destination.publish(to, top).await {
            if !error.is_immutable_tag() {
                return Err(self.unwritable(to, error));
            }
            // It may be that nothing had to be moved: by who came first, or by us when the answer was lost.
            match self.head(to).await? {
                Some(found) if found == top.digest => {}
                Some(found) => return Err(self.taken(to, found, top, Some(error))),
                None => return Err(self.unwritable(to, error)),
            }
        }
        if let Reference::Tag(tag) = to {
            self.events.emit(CopyEvent::Tagged { tag: tag.clone(), digest: top.digest.clone() });
        }
        Ok(())
    }

    fn resolved(&self, digest: &Digest, present: bool) {
        let (source, destination) = (self.source.name(), self.destination.name());
        self.events.emit(CopyEvent::Resolved { source, destination, digest: digest.clone(), present });
    }

    fn report(&self, digest: Digest, outcome: CopyOutcome, top: Option<Manifest>) -> CopyReport {
        let sums = self.tally.sums();
        CopyReport {
            digest,
            outcome,
            manifests: sums.manifests,
            blobs: sums.blobs,
            referrers: sums.referrers,
            bytes: sums.sent,
            source_requests: self.source.requests(),
            destination_requests: self.destination.requests(),
            top,
        }
    }

    pub(super) fn unreadable(&self, what: &dyn std::fmt::Display, source: StoreError) -> CopyError {
        CopyError::Source { source_name: self.source.name(), what: what.to_string(), source }
    }

    pub(super) fn unwritable(&self, what: &dyn std::fmt::Display, source: StoreError) -> CopyError {
        let destination = self.destination.name();
        match &source {
            StoreError::Registry(error @ RegistryError::NotFound { .. })
                if error.has_code("NAME_UNKNOWN") =>
            {
                CopyError::NoRepository { destination, source }
            }
            _ => CopyError::Destination { destination, what: what.to_string(), source },
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
