//! Counters of a run, with a progress event for each change.
#![allow(clippy::arithmetic_side_effects, reason = "counts of this process")]

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use bp_artifact::{Digest, operation::Emitter, sync::lock};
use futures_util::StreamExt as _;

use super::{CopyEvent, Counts, KeptTag, Progress, Side, SkippedReferrer, Transfer};
use crate::{
    content::Descriptor,
    retry::{Observer, Retry},
    store::{BlobStream, WarningObserver},
};

/// The counters of a run. Cheap to clone; clones share the counts.
#[derive(Clone)]
pub(super) struct Tally {
    events: Emitter<CopyEvent>,
    counts: Arc<Mutex<Sums>>,
    kept: Arc<Mutex<Vec<KeptTag>>>,
    skipped: Arc<Mutex<Vec<SkippedReferrer>>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) manifests: Counts,
    pub(super) blobs: Counts,
    pub(super) referrers: Counts,
    /// Bytes of blobs that were sent completely.
    pub(super) sent: u64,
    progress: Progress,
}

impl Tally {
    pub(super) fn new(events: Emitter<CopyEvent>) -> Self {
        Tally { events, counts: Arc::default(), kept: Arc::default(), skipped: Arc::default() }
    }

    pub(super) fn sums(&self) -> Sums {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        lock(&self.counts)
    }

    fn progress(&self, change: impl FnOnce(&mut Progress)) {
        let mut counts = self.lock();
        change(&mut counts.progress);
        self.events.emit(CopyEvent::Progress(counts.progress));
    }

    /// Counts a blob that belongs to the image.
    pub(super) fn found(&self, blob: &Descriptor) {
        self.progress(|progress| {
            progress.blobs_total += 1;
            progress.bytes_total = progress.bytes_total.saturating_add(blob.size);
        });
    }

    pub(super) fn blob(&self, blob: &Descriptor, how: Transfer) {
        let mut counts = self.lock();
        counts.blobs.add(how);
        counts.progress.blobs += 1;
        match how {
            Transfer::Sent => counts.sent = counts.sent.saturating_add(blob.size),
            // No bytes were transferred.
            Transfer::Mounted | Transfer::Present => {
                counts.progress.bytes = counts.progress.bytes.saturating_add(blob.size);
            }
        }
        let progress = counts.progress;
        drop(counts);
        self.events.emit(CopyEvent::Blob { digest: blob.digest.clone(), size: blob.size, how });
        self.events.emit(CopyEvent::Progress(progress));
    }

    pub(super) fn manifest(&self, digest: &Digest, how: Transfer) {
        self.lock().manifests.add(how);
        self.events.emit(CopyEvent::Manifest { digest: digest.clone(), how });
    }

    pub(super) fn referrer(&self, subject: &Digest, digest: &Digest, how: Transfer) {
        self.lock().referrers.add(how);
        self.events.emit(CopyEvent::Referrer { subject: subject.clone(), digest: digest.clone(), how });
    }

    /// Reports a cosign tag that was left unchanged, once even if several images have it attached.
    pub(super) fn kept(&self, one: KeptTag) {
        let mut kept = lock(&self.kept);
        if !kept.contains(&one) {
            kept.push(one.clone());
            self.events.emit(CopyEvent::Kept(one));
        }
    }

    pub(super) fn all_kept(&self) -> Vec<KeptTag> {
        lock(&self.kept).clone()
    }

    /// Reports an entry in a list of referrers that is not copied, once even if several images have it.
    pub(super) fn skipped(&self, one: SkippedReferrer) {
        let mut skipped = lock(&self.skipped);
        if !skipped.contains(&one) {
            skipped.push(one.clone());
            self.events.emit(CopyEvent::Skipped(one));
        }
    }

    pub(super) fn all_skipped(&self) -> Vec<SkippedReferrer> {
        lock(&self.skipped).clone()
    }

    /// An observer that emits the warnings of one side as events.
    pub(super) fn warnings(&self, side: Side) -> WarningObserver {
        let events = self.events.clone();
        Arc::new(move |message| events.emit(CopyEvent::Warning { side, message }))
    }

    /// An observer that emits the retries of one side as events.
    pub(super) fn observer(&self, side: Side) -> Observer {
        let events = self.events.clone();
        Arc::new(move |Retry { reason, pause }| events.emit(CopyEvent::Retrying { side, reason, pause }))
    }
}

/// The bytes of one attempt to copy a blob. They count as progress, and are subtracted if the attempt fails.
pub(super) struct AttemptProgress {
    tally: Tally,
    transferred: Arc<AtomicU64>,
    stored: bool,
}

impl AttemptProgress {
    pub(super) fn new(tally: &Tally) -> Self {
        AttemptProgress { tally: tally.clone(), transferred: Arc::default(), stored: false }
    }

    /// Wraps the stream so that its bytes are counted.
    pub(super) fn count(&self, bytes: BlobStream) -> BlobStream {
        let (tally, transferred) = (self.tally.clone(), Arc::clone(&self.transferred));
        Box::pin(bytes.inspect(move |piece| {
            if let Ok(piece) = piece {
                transferred.fetch_add(piece.len() as u64, Ordering::Relaxed);
                tally.progress(|progress| progress.bytes = progress.bytes.saturating_add(piece.len() as u64));
            }
        }))
    }

    pub(super) fn stored(mut self) {
        self.stored = true;
    }
}

impl Drop for AttemptProgress {
    fn drop(&mut self) {
        let transferred = self.transferred.load(Ordering::Relaxed);
        if !self.stored && transferred > 0 {
            self.tally.progress(|progress| progress.bytes = progress.bytes.saturating_sub(transferred));
        }
    }
}

impl Counts {
    fn add(&mut self, how: Transfer) {
        match how {
            Transfer::Sent => self.sent += 1,
            Transfer::Mounted => self.mounted += 1,
            Transfer::Present => self.present += 1,
        }
    }
}
