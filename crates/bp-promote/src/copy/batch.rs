//! Copying one image or several in a run: images with the same source and destination share an engine.

use std::sync::Arc;

use bp_artifact::{Digest, Operation};
use futures_util::{StreamExt as _, future::join_all, stream};

use super::{
    engine::{Done, Engine, Job},
    error::CopyError,
    event::CopyEvent,
    options::CopyOptions,
    report::{CopyReport, ImageReport, RunReport},
    run::Run,
};
use crate::store::{Destination, ImageAt, Source};

/// The images of a run; for a planned copy with the digest that the destination's reference is expected to point to.
pub(super) type Images<S, D> = Vec<(ImageAt<S>, ImageAt<D>, Option<Option<Digest>>)>;

/// Copies a single image.
pub(super) fn copy_one<S: Source, D: Destination>(
    source: ImageAt<S>,
    destination: ImageAt<D>,
    options: CopyOptions,
    expected: Option<Option<Digest>>,
) -> Operation<CopyEvent, Result<CopyReport, CopyError>> {
    tracing::info_span!("copy", images = 1).in_scope(|| {
        Operation::spawn(|events| {
            let run = Run::new(options, events);
            let engine = Arc::new(Engine::new(source.store, destination.store, &run));
            let job = Job { from: source.reference, to: destination.reference, expected };
            async move {
                let done = engine.copy(&job).await?;
                engine.finish().await?;
                Ok(report_of(done, &run, &engine))
            }
        })
    })
}

/// The images of a run, each with the engine for its source and destination.
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
                Some(at) => at,
                None => {
                    engines.push(Engine::new(source.store, destination.store, &run));
                    engines.len().saturating_sub(1)
                }
            };
            if let Some(engine) = engines.get_mut(at) {
                engine.images = engine.images.saturating_add(1);
            }
            jobs.push((at, Job { from: source.reference, to: destination.reference, expected }));
        }
        let engines: Vec<Arc<Engine>> = engines.into_iter().map(Arc::new).collect();
        let jobs = jobs.into_iter().filter_map(|(at, job)| Some((Arc::clone(engines.get(at)?), job)));
        let jobs = jobs.collect();
        Batch { run, engines, jobs }
    }
}

/// How many images of a run are copied at a time. Their blobs have a separate limit.
pub(super) const IMAGES: usize = 64;

/// Copies all images of a run.
pub(super) fn copy_all<S: Source, D: Destination>(
    images: Images<S, D>,
    options: CopyOptions,
) -> Operation<CopyEvent, RunReport> {
    tracing::info_span!("copy", images = images.len()).in_scope(|| {
        Operation::spawn(|events| {
            let batch = Batch::new(images, Run::new(options, events));
            async move {
                let done = stream::iter(batch.jobs.clone())
                    .map(|(engine, job)| async move {
                        let done = engine.copy(&job).await;
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
                report_of_all(images, unfinished, &batch.run, engines)
            }
        })
    })
}

fn report_of(done: Done, run: &Run, engine: &Engine) -> CopyReport {
    let sums = run.tally.sums();
    CopyReport {
        digest: done.digest,
        outcome: done.outcome,
        previous: done.previous,
        selected_from: done.selected_from,
        manifests: sums.manifests,
        blobs: sums.blobs,
        referrers: sums.referrers,
        kept: run.tally.all_kept(),
        skipped: run.tally.all_skipped(),
        bytes: sums.sent,
        source_requests: engine.source.requests(),
        destination_requests: engine.destination.requests(),
        top: done.top,
    }
}

fn report_of_all<'a>(
    images: Vec<ImageReport>,
    unfinished: Vec<CopyError>,
    run: &Run,
    engines: impl Iterator<Item = &'a Engine> + Clone,
) -> RunReport {
    let sums = run.tally.sums();
    RunReport {
        images,
        manifests: sums.manifests,
        blobs: sums.blobs,
        referrers: sums.referrers,
        kept: run.tally.all_kept(),
        skipped: run.tally.all_skipped(),
        bytes: sums.sent,
        source_requests: engines.clone().map(|engine| engine.source.requests()).sum(),
        destination_requests: engines.map(|engine| engine.destination.requests()).sum(),
        unfinished,
    }
}
