//! How a copy goes about it.

use bp_artifact::Platform;

use crate::retry::RetryPolicy;

/// How a copy goes about it.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    pub(super) concurrency: usize,
    pub(super) no_clobber: bool,
    pub(super) referrers: bool,
    pub(super) trust_destination: bool,
    pub(super) platforms: Vec<Platform>,
    pub(super) keeps_digest: bool,
    pub(super) retry: RetryPolicy,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            concurrency: 32,
            no_clobber: false,
            referrers: false,
            trust_destination: false,
            platforms: Vec::new(),
            keeps_digest: false,
            retry: RetryPolicy::default(),
        }
    }
}

impl CopyOptions {
    /// At most this many blobs under way at a time, and as many requests for manifests; at least one.
    pub fn concurrency(mut self, blobs: usize) -> Self {
        self.concurrency = blobs.max(1);
        self
    }

    /// Refuses to move a tag that points to something else: the image's tag, cosign's tags, and the fallback tags that
    /// list referrers. A tag of cosign that has all of the source's signatures stays, and is no failure.
    ///
    /// The registries' API cannot do this atomically: only [immutable tags](crate::CopyError::TagTaken) are safe from two
    /// who write at the same time.
    pub fn no_clobber(mut self) -> Self {
        self.no_clobber = true;
        self
    }

    /// Carries what is attached too: signatures, attestations and SBOMs of the image and of each of its platforms, and
    /// what is attached to those; by the referrers API or its fallback tags, and under the tags of cosign.
    pub fn referrers(mut self) -> Self {
        self.referrers = true;
        self
    }

    /// Leaves the hashing of blobs to a destination that does it anyway, and refuses what has another digest. That
    /// saves most of a copy's work; spoilt bytes are found at the end of an upload, and read again.
    ///
    /// The risk: a registry that does *not* check, against the specification, stores spoilt bytes under a good name.
    /// Manifests are hashed in any case, and so are blobs that go to a layout.
    pub fn trust_destination(mut self) -> Self {
        self.trust_destination = true;
        self
    }

    /// Takes these platforms of an index only, with their attestations. They become an index of their own: **its digest
    /// is another one** than the source's, so that what was tested or signed by the old digest is not what arrives. The
    /// report names both.
    pub fn platforms(mut self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        self.platforms = platforms.into_iter().collect();
        self
    }

    /// Refuses to copy anything under another digest than the source's, as promotions do: a selection of
    /// [`platforms`](Self::platforms) fails then.
    pub fn keep_digest(mut self) -> Self {
        self.keeps_digest = true;
        self
    }

    /// How the transfer of a blob is tried again, besides the retries of single requests.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}
