//! What has been done so far, told as it is counted.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use bp_artifact::{Digest, operation::Emitter, sync::lock};
use futures_util::StreamExt as _;

use super::{Carried, CopyEvent, Counts, Kept, Progress, Side};
use crate::{
    content::Descriptor,
    retry::{Observer, Retry},
    store::BlobStream,
};

/// The counts of one copy. Cheap to clone; clones count together.
#[derive(Clone)]
pub(super) struct Tally {
    events: Emitter<CopyEvent>,
    counts: Arc<Mutex<Sums>>,
    kept: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) manifests: Counts,
    pub(super) blobs: Counts,
    pub(super) referrers: Counts,
    /// Bytes of blobs that were sent to their end.
    pub(super) sent: u64,
    progress: Progress,
}

impl Tally {
    pub(super) fn new(events: Emitter<CopyEvent>) -> Self {
        Tally { events, counts: Arc::default(), kept: Arc::default() }
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

    /// A blob was found that belongs to the image.
    pub(super) fn found(&self, blob: &Descriptor) {
        self.progress(|progress| {
            progress.blobs_total += 1;
            progress.bytes_total = progress.bytes_total.saturating_add(blob.size);
        });
    }

    pub(super) fn blob(&self, blob: &Descriptor, how: Carried) {
        let mut counts = self.lock();
        counts.blobs.add(how);
        counts.progress.blobs += 1;
        match how {
            Carried::Sent => counts.sent = counts.sent.saturating_add(blob.size),
            // No byte passed by here.
            Carried::Mounted | Carried::Present => {
                counts.progress.bytes = counts.progress.bytes.saturating_add(blob.size);
            }
        }
        let progress = counts.progress;
        drop(counts);
        self.events.emit(CopyEvent::Blob { digest: blob.digest.clone(), size: blob.size, how });
        self.events.emit(CopyEvent::Progress(progress));
    }

    pub(super) fn manifest(&self, digest: &Digest, how: Carried) {
        self.lock().manifests.add(how);
        self.events.emit(CopyEvent::Manifest { digest: digest.clone(), how });
    }

    pub(super) fn referrer(&self, subject: &Digest, digest: &Digest, how: Carried) {
        self.lock().referrers.add(how);
        self.events.emit(CopyEvent::Referrer { subject: subject.clone(), digest: digest.clone(), how });
    }

    /// A tag at the destination was left as it is. Several images may have it attached.
    pub(super) fn kept(&self, one: Kept) {
        let mut kept = lock(&self.kept);
        if !kept.contains(&one) {
            kept.push(one.clone());
            self.events.emit(CopyEvent::Kept(one));
        }
    }

    pub(super) fn all_kept(&self) -> Vec<Kept> {
        lock(&self.kept).clone()
    }

    /// Whom a side tells of its retries.
    pub(super) fn observer(&self, side: Side) -> Observer {
        let events = self.events.clone();
        Arc::new(move |Retry { reason, pause }| events.emit(CopyEvent::Retrying { side, reason, pause }))
    }
}

/// The bytes of one attempt to carry a blob. They count as progress until the attempt fails.
pub(super) struct Passing {
    tally: Tally,
    passed: Arc<AtomicU64>,
    stored: bool,
}

impl Passing {
    pub(super) fn new(tally: &Tally) -> Self {
        Passing { tally: tally.clone(), passed: Arc::default(), stored: false }
    }

    /// The same bytes, counted.
    pub(super) fn count(&self, bytes: BlobStream) -> BlobStream {
        let (tally, passed) = (self.tally.clone(), Arc::clone(&self.passed));
        Box::pin(bytes.inspect(move |piece| {
            if let Ok(piece) = piece {
                passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
                tally.progress(|progress| progress.bytes = progress.bytes.saturating_add(piece.len() as u64));
            }
        }))
    }

    pub(super) fn stored(mut self) {
        self.stored = true;
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let passed = self.passed.load(Ordering::Relaxed);
        if !self.stored && passed > 0 {
            self.tally.progress(|progress| progress.bytes = progress.bytes.saturating_sub(passed));
        }
    }
}

impl Counts {
    fn add(&mut self, how: Carried) {
        match how {
            Carried::Sent => self.sent += 1,
            Carried::Mounted => self.mounted += 1,
            Carried::Present => self.present += 1,
        }
    }
}
