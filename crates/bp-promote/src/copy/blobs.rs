//! Carrying blobs: each once, by a mount or a stream.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bp_artifact::{Repository, error::Classified as _, operation::Emitter};
use futures_util::stream;
use tokio_util::task::AbortOnDropHandle;

use super::{Carried, CopyError, CopyEvent, Side, engine::Engine, tally::Passing};
use crate::{
    content::Descriptor,
    store::{PutError, RepositoryState, Stored},
};

impl Engine {
    /// A blob, on a task of its own: hashing is work for more than one core.
    pub(super) async fn blob(self: &Arc<Self>, blob: &Descriptor) -> Result<(), CopyError> {
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
        let new = self.state().await? == RepositoryState::Empty;
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
            let bytes =
                match self.run.options.trust_destination && self.destination.capabilities().checks_digests {
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
