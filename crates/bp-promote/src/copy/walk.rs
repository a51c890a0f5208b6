//! Limits on the size and depth of an image. A faulty or malicious registry could serve manifests without end; the
//! limits are far above any image built to run.

use std::sync::atomic::{AtomicU64, Ordering};

use bp_artifact::Digest;

use super::CopyError;
use crate::content::{Links, Manifest};

/// How much of one image has been read.
#[derive(Default)]
pub(super) struct Walk {
    manifests: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl Walk {
    /// The nesting depth of indexes: real ones have two levels.
    const DEPTH: usize = 16;
    const MANIFESTS: u64 = 10_000;
    const BLOBS: u64 = 100_000;
    /// The total size of all manifests, which are held in memory while the content below them is copied.
    const BYTES: u64 = 256 << 20;

    /// The descriptors in a manifest at `depth` levels below the image's own.
    pub(super) fn links(&self, manifest: &Manifest, depth: usize) -> Result<Links, CopyError> {
        let digest = &manifest.digest;
        let links =
            manifest.links().map_err(|source| CopyError::Manifest { digest: digest.clone(), source })?;
        if depth >= Self::DEPTH && !links.manifests.is_empty() {
            let limit = format!("indexes are nested more than {} deep", Self::DEPTH);
            return Err(CopyError::Limit { digest: digest.clone(), limit });
        }
        add(&self.bytes, manifest.bytes.len(), Self::BYTES, digest, "bytes of manifests")?;
        add(&self.blobs, links.blobs.len(), Self::BLOBS, digest, "blobs")?;
        self.count_manifests(links.manifests.len(), digest)?;
        Ok(links)
    }

    /// Counts manifests that were found below `digest`, or attached to it.
    pub(super) fn count_manifests(&self, manifests: usize, digest: &Digest) -> Result<(), CopyError> {
        add(&self.manifests, manifests, Self::MANIFESTS, digest, "manifests")
    }
}

fn add(sum: &AtomicU64, more: usize, most: u64, digest: &Digest, what: &str) -> Result<(), CopyError> {
    let more = u64::try_from(more).unwrap_or(u64::MAX);
    if sum.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= most {
        return Ok(());
    }
    Err(CopyError::Limit {
        digest: digest.clone(),
        limit: format!("more than {most} {what} belong to the image"),
    })
}
