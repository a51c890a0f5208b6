//! Options of a copy.

use std::{sync::Arc, time::Duration};

use bp_artifact::Platform;

use super::PublishObserver;
use crate::retry::RetryPolicy;

/// Options of a copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    pub(super) concurrency: usize,
    pub(super) no_clobber: bool,
    pub(super) confirms_absence: bool,
    pub(super) referrers: bool,
    pub(super) external: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) trust_destination: bool,
    pub(super) platforms: Vec<Platform>,
    pub(super) keeps_digest: bool,
    pub(super) retry: RetryPolicy,
    pub(super) observer: Option<Arc<dyn PublishObserver>>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            concurrency: 32,
            no_clobber: false,
            confirms_absence: false,
            referrers: false,
            external: false,
            timeout: None,
            trust_destination: false,
            platforms: Vec::new(),
            keeps_digest: false,
            retry: RetryPolicy::default(),
            observer: None,
        }
    }
}

impl CopyOptions {
    /// The maximum number of blobs in transfer at a time, and of concurrent manifest requests; at least 1, default 32.
    pub fn concurrency(mut self, blobs: usize) -> Self {
        self.concurrency = blobs.max(1);
        self
    }

    /// Refuses to move a tag that points to something else: the image's tag, cosign's tags, and the fallback tags that
    /// list referrers. A cosign tag that already has all signatures of the source is left unchanged, without an error.
    ///
    /// The registry API cannot do this atomically: only [immutable tags](crate::CopyError::TagTaken) protect against
    /// concurrent writers.
    pub fn no_clobber(mut self) -> Self {
        self.no_clobber = true;
        self
    }

    /// Also copies referrers: signatures, attestations and SBOMs of the image and of each of its platforms, and what is
    /// attached to those; through the referrers API or its fallback tags, and under cosign's tags.
    pub fn referrers(mut self) -> Self {
        self.referrers = true;
        self
    }

    /// Copies no referrers, and no cosign tags: the default, unless [`referrers`](Self::referrers) was called.
    pub fn without_referrers(mut self) -> Self {
        self.referrers = false;
        self
    }

    /// Confirms with one more request that a tag that is about to be created does not exist: some registries respond to
    /// HEAD with 404 although the tag exists, and the [previous digest](super::CopyReport::previous) would be lost.
    /// [`no_clobber`](Self::no_clobber) does so too.
    pub fn confirm_absence(mut self) -> Self {
        self.confirms_absence = true;
        self
    }

    /// Also copies layers of a non-distributable type (Windows base layers) that can be fetched from other URLs. They
    /// are read from the source, which must have them; their licence may restrict that.
    pub fn nondistributable_layers(mut self) -> Self {
        self.external = true;
        self
    }

    /// Limits the time of the whole run; default: unlimited. Images that are not complete by then fail.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Does not hash blobs for a destination that verifies digests itself and rejects a mismatch. That saves most of
    /// the CPU time of a copy; corrupted bytes are detected at the end of an upload, and read again.
    ///
    /// The risk: a registry that does *not* verify digests, against the specification, stores corrupted bytes under a
    /// valid digest. Manifests are always hashed, and so are blobs that are written to a layout.
    pub fn trust_destination(mut self) -> Self {
        self.trust_destination = true;
        self
    }

    /// Copies only these platforms of an index, with their attestations. They become a new index **with a digest that
    /// differs** from the source's: tests and signatures of the old digest do not apply to it. The report
    /// has both digests.
    pub fn platforms(mut self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        self.platforms = platforms.into_iter().collect();
        self
    }

    /// Refuses to copy under another digest than the source's, as for promotions: combined with
    /// [`platforms`](Self::platforms) the copy fails.
    pub fn keep_digest(mut self) -> Self {
        self.keeps_digest = true;
        self
    }

    /// Notifies `observer` of each tag of an image before it moves. If that fails, the tag is not moved: what it pointed to
    /// is recorded even if the process is killed right after the tag has moved. Combine it with
    /// [`confirm_absence`](Self::confirm_absence).
    pub fn publish_observer(mut self, observer: Arc<dyn PublishObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// How the transfer of a blob is retried, in addition to the retries of single requests.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}
