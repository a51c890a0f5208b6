//! What the images of one run share: its bounds, its counts, and the blobs that it has carried.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use bp_artifact::{Digest, Registry, Repository, operation::Emitter, sync::lock};
use tokio::sync::{OnceCell, Semaphore};

use super::{event::CopyEvent, options::CopyOptions, tally::Tally};

/// The repository of a registry that a blob was put into first.
type Landing = Arc<OnceCell<Repository>>;

/// One run, of one image or many.
pub(super) struct Run {
    pub(super) options: CopyOptions,
    pub(super) events: Emitter<CopyEvent>,
    pub(super) tally: Tally,
    /// Blobs under way.
    pub(super) transfers: Semaphore,
    /// Requests for manifests under way.
    pub(super) lookups: Semaphore,
    /// Where this run has put a blob in a registry first: from there it is mounted into others.
    landed: Mutex<HashMap<(Registry, Digest), Landing>>,
    /// What was looked for already in a destination, when planning.
    surveyed: Mutex<HashSet<(String, Digest)>>,
}

impl Run {
    pub(super) fn new(options: CopyOptions, events: Emitter<CopyEvent>) -> Arc<Self> {
        Arc::new(Run {
            tally: Tally::new(events.clone()),
            transfers: Semaphore::new(options.concurrency),
            lookups: Semaphore::new(options.concurrency),
            options,
            events,
            landed: Mutex::default(),
            surveyed: Mutex::default(),
        })
    }

    /// Whether this is the first time that somebody looks for it there.
    pub(super) fn survey(&self, destination: &str, digest: &Digest) -> bool {
        let mut surveyed = lock(&self.surveyed);
        surveyed.insert((destination.to_owned(), digest.clone()))
    }

    /// Where this run puts the blob first in this registry.
    pub(super) fn landing(&self, registry: &Registry, blob: &Digest) -> Landing {
        let mut landed = lock(&self.landed);
        Arc::clone(landed.entry((registry.clone(), blob.clone())).or_default())
    }
}
