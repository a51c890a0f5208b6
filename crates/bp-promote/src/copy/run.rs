//! What the images of one run share: its bounds, its counts, and the blobs that it has carried.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bp_artifact::{Digest, Emitter, Operation, Registry, Repository};
use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::sync::{OnceCell, Semaphore};

use super::{
    CopyEvent, CopyOptions, ImageAt, ImageReport, RunReport,
    engine::{Engine, Job},
    tally::Tally,
};
use crate::store::{Destination, Source};

/// Images of a run, with what the destination's name must name where that was planned.
pub(super) type Images<S, D> = Vec<(ImageAt<S>, ImageAt<D>, Option<Option<Digest>>)>;

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
        let mut surveyed = self.surveyed.lock().unwrap_or_else(PoisonError::into_inner);
        surveyed.insert((destination.to_owned(), digest.clone()))
    }

    /// Where this run puts the blob first in this registry.
    pub(super) fn landing(&self, registry: &Registry, blob: &Digest) -> Landing {
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(landed.entry((registry.clone(), blob.clone())).or_default())
    }
}

/// The images of a run, each with the engine that it shares with those from and to the same places.
pub(super) struct Batch {
    pub(super) run: Arc<Run>,
    engines: Vec<Arc<Engine>>,
    pub(super) jobs: Vec<(Arc<Engine>, Job)>,
}

impl Batch {
    pub(super) fn new<S: Source, D: Destination>(images: Images<S, D>, run: Arc<Run>) -> Self {
        let (mut engines, mut jobs) = (Vec::<Engine>::new(), Vec::new());
        for (source, destination, expected) in images {
            let same = |engine: &Engine| {
                engine.source.name() == source.store.name()
                    && engine.destination.name() == destination.store.name()
            };
            let at = match engines.iter().position(same) {
                Some(at) => {
                    engines[at].images += 1;
                    at
                }
                None => {
                    engines.push(Engine::new(source.store, destination.store, &run));
                    engines.len() - 1
                }
            };
            jobs.push((at, Job { from: source.reference, to: destination.reference, expected }));
        }
        let engines: Vec<Arc<Engine>> = engines.into_iter().map(Arc::new).collect();
        let jobs = jobs.into_iter().map(|(at, job)| (Arc::clone(&engines[at]), job)).collect();
        Batch { run, engines, jobs }
    }
}

/// Images of a run under way at a time. Their blobs have a bound of their own.
pub(super) const IMAGES: usize = 64;

/// Carries all images of a run.
pub(super) fn start<S: Source, D: Destination>(
    images: Images<S, D>,
    options: CopyOptions,
) -> Operation<CopyEvent, RunReport> {
    Operation::spawn(|events| {
        let batch = Batch::new(images, Run::new(options, events));
        async move {
            let done = stream::iter(batch.jobs.clone())
                .map(|(engine, job)| async move {
                    let done = engine.carry(&job).await;
                    let previous = done.as_ref().ok().and_then(|done| done.previous.clone());
                    let result = done.map(|done| (done.digest, done.outcome));
                    let (source, destination) = (engine.source.name(), engine.destination.name());
                    ImageReport { source, destination, reference: job.to.to_string(), previous, result }
                })
                .buffered(IMAGES);
            let images = done.collect().await;
            let finished = join_all(batch.engines.iter().map(|engine| engine.finish())).await;
            let unfinished = finished.into_iter().filter_map(Result::err).collect();
            let engines = batch.engines.iter().map(Arc::as_ref);
            RunReport::new(images, unfinished, &batch.run, engines)
        }
    })
}
