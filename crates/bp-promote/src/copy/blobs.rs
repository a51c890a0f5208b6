//! Copying blobs: each once per run and registry, by a mount or a streamed upload.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bp_artifact::{Repository, error::chain, operation::Emitter};
use futures_util::stream;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{CopyError, CopyEvent, Side, Transfer, engine::Engine, tally::AttemptProgress};
use crate::{
    content::Descriptor,
    retry::Transient as _,
    store::{PutError, RepositoryState, StoreError, Stored},
};

impl Engine {
    /// Copies a blob in a separate task, so that hashing can use several cores.
    pub(super) async fn blob(self: &Arc<Self>, blob: &Descriptor) -> Result<(), CopyError> {
        let (engine, blob) = (Arc::clone(self), blob.clone());
        let task = tokio::spawn(async move { engine.transfer(&blob).await }.in_current_span());
        match AbortOnDropHandle::new(task).await {
            Ok(done) => done,
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => Err(CopyError::Cancelled),
        }
    }

    /// Uploads each blob once per run to a registry; other repositories of that registry mount it from the first one.
    async fn transfer(&self, blob: &Descriptor) -> Result<(), CopyError> {
        let blob = &self.sized(blob).await?;
        self.run.tally.found(blob);
        let Some(to) = self.destination.repository() else { return self.copy_blob(blob, None).await };
        let first = AtomicBool::new(false);
        let first_upload = self.run.first_upload(to.registry(), &blob.digest);
        let upload = || async {
            first.store(true, Ordering::Relaxed);
            self.copy_blob(blob, self.mount()).await.map(|()| to.clone())
        };
        let uploaded_to = first_upload.get_or_try_init(upload).await?;
        if first.into_inner() { Ok(()) } else { self.copy_blob(blob, Some(uploaded_to)).await }
    }

    /// The descriptor with its size, which an upload must state. If the manifest omits it, the source is asked.
    pub(super) async fn sized(&self, blob: &Descriptor) -> Result<Descriptor, CopyError> {
        if blob.has_size() {
            return Ok(blob.clone());
        }
        let size = match blob.inline() {
            Some(data) => Ok(Some(data.len() as u64)),
            None => self.source.blob_size(&blob.digest).await,
        };
        let unknown = || StoreError::Other("its descriptor has no size, and the source states none".into());
        let size = size.and_then(|size| size.ok_or_else(unknown));
        Ok(blob.with_size(size.map_err(|source| self.unreadable(&blob.digest, source))?))
    }

    async fn copy_blob(&self, blob: &Descriptor, mount: Option<&Repository>) -> Result<(), CopyError> {
        let unwritable = |source| self.unwritable(&blob.digest, source);
        let new = self.state().await? == RepositoryState::Empty;
        if !new && self.destination.has_blob(blob).await.map_err(unwritable)? {
            self.run.tally.blob(blob, Transfer::Present);
            return Ok(());
        }
        let _permit = self.run.transfers.acquire().await;
        let mut attempts = 0_u32;
        let attempt = || {
            attempts = attempts.saturating_add(1);
            self.attempt(blob, mount, attempts)
        };
        let how =
            self.run.options.retry.run_when(PutError::retries, notify_retry(&self.run.events), attempt).await;
        let how = how.map_err(|error| match error {
            PutError::Source(source) => self.unreadable(&blob.digest, source),
            PutError::Destination(source) => unwritable(source),
        })?;
        self.run.tally.blob(blob, how);
        Ok(())
    }

    #[tracing::instrument(
        level = "debug",
        name = "copy_blob",
        skip_all,
        fields(digest = %blob.digest, size = blob.size, attempt = attempt)
    )]
    async fn attempt(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
        attempt: u32,
    ) -> Result<Transfer, PutError> {
        // The upload may have succeeded although its response was lost.
        if attempt > 1 && self.destination.has_blob(blob).await.map_err(PutError::Destination)? {
            return Ok(Transfer::Present);
        }
        let progress = AttemptProgress::new(&self.run.tally);
        let bytes = async {
            if let Some(data) = blob.inline() {
                return Ok(progress.count(Box::pin(stream::once(async { Ok(data) }))));
            }
            let bytes =
                if self.run.options.trust_destination && self.destination.capabilities().checks_digests {
                    self.source.unhashed_blob(blob).await
                } else {
                    self.source.blob(blob).await
                };
            bytes.map(|bytes| progress.count(bytes))
        };
        let stored = self.destination.put_blob(blob, mount, Box::pin(bytes)).await?;
        progress.stored();
        Ok(match stored {
            Stored::Uploaded => Transfer::Sent,
            Stored::Mounted => Transfer::Mounted,
        })
    }

    /// The source repository, if the destination can mount blobs from it: within one registry only.
    pub(super) fn mount(&self) -> Option<&Repository> {
        let (from, to) = (self.source.repository()?, self.destination.repository()?);
        (from.registry() == to.registry() && from != to).then_some(from)
    }
}

/// Emits an event for each retry of a blob.
fn notify_retry(events: &Emitter<CopyEvent>) -> impl Fn(&PutError, std::time::Duration) {
    |error, pause| {
        let (side, source) = match error {
            PutError::Source(source) => (Side::Source, source),
            PutError::Destination(source) => (Side::Destination, source),
        };
        events.emit(CopyEvent::Retrying { side, reason: chain(source), pause });
    }
}
