//! State shared by the images of one run: limits, counters, and the first upload of each blob.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex},
};

use bp_artifact::{Digest, Registry, Repository, operation::Emitter, sync::lock};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{error::CopyError, event::CopyEvent, options::CopyOptions, tally::Tally};

/// The repository of a registry that a blob is uploaded to first.
type FirstUpload = Arc<OnceCell<Repository>>;

/// A run, of one image or several.
pub(super) struct Run {
    pub(super) options: CopyOptions,
    pub(super) events: Emitter<CopyEvent>,
    pub(super) tally: Tally,
    deadline: Option<Instant>,
    /// Limits concurrent blob transfers.
    pub(super) transfers: Semaphore,
    /// Limits concurrent manifest requests.
    pub(super) lookups: Semaphore,
    /// The repository per registry that this run uploaded each blob to first; others mount it from there.
    first_uploads: Mutex<HashMap<(Registry, Digest), FirstUpload>>,
    /// The digests that a plan has already checked, per destination.
    surveyed: Mutex<HashSet<(String, Digest)>>,
}

impl Run {
    pub(super) fn new(options: CopyOptions, events: Emitter<CopyEvent>) -> Arc<Self> {
        Arc::new(Run {
            tally: Tally::new(events.clone()),
            transfers: Semaphore::new(options.concurrency),
            lookups: Semaphore::new(options.concurrency),
            deadline: options.timeout.map(bp_artifact::time::deadline),
            options,
            events,
            first_uploads: Mutex::default(),
            surveyed: Mutex::default(),
        })
    }

    /// Runs `work` until the deadline of the run.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<T, CopyError> {
        let (Some(deadline), Some(timeout)) = (self.deadline, self.options.timeout) else {
            return work.await;
        };
        match tokio::time::timeout_at(deadline, work).await {
            Ok(done) => done,
            Err(_) => Err(CopyError::TimedOut { timeout }),
        }
    }

    /// Whether this is the first check of the digest at this destination.
    pub(super) fn is_first_check(&self, destination: &str, digest: &Digest) -> bool {
        let mut surveyed = lock(&self.surveyed);
        surveyed.insert((destination.to_owned(), digest.clone()))
    }

    /// The repository of this registry that the run uploads the blob to first.
    pub(super) fn first_upload(&self, registry: &Registry, blob: &Digest) -> FirstUpload {
        let mut first_uploads = lock(&self.first_uploads);
        Arc::clone(first_uploads.entry((registry.clone(), blob.clone())).or_default())
    }
}
