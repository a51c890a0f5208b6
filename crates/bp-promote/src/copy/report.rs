//! What a copy did.

use bp_artifact::{Digest, ManifestError, Repository, ResolvedImage};
use serde::{Deserialize, Serialize};

use crate::content::Manifest;

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyReport {
    /// The digest, the same on both sides.
    pub digest: Digest,
    /// What was done.
    pub outcome: CopyOutcome,
    /// Manifests and indexes.
    pub manifests: Counts,
    /// Configurations and layers.
    pub blobs: Counts,
    /// What is attached, if that was asked for.
    pub referrers: Counts,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Requests to the source, those for tokens left out.
    pub source_requests: u64,
    /// Requests to the destination, those for tokens left out.
    pub destination_requests: u64,
    /// The manifest or index, if it was read.
    #[serde(skip)]
    pub(crate) top: Option<Manifest>,
}

impl CopyReport {
    /// The image as it now is in `repository`: what deploys. Its platforms are not known when the source was named by
    /// digest and the destination had it.
    ///
    /// # Errors
    /// When it is no image, as with an artifact of another kind.
    pub fn image_in(&self, repository: &Repository) -> Result<ResolvedImage, ManifestError> {
        let reference = repository.at(self.digest.clone());
        match &self.top {
            Some(top) => ResolvedImage::from_manifest(reference, Some(&top.media_type), &top.bytes),
            None => Ok(reference.into()),
        }
    }
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyOutcome {
    /// The destination had it under this name: nothing was changed.
    Unchanged,
    /// The destination had all of it: only the name is new.
    Tagged,
    /// Content was carried over.
    Copied,
}

/// How content came to the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Taken by the registry from another of its repositories.
    pub mounted: u64,
    /// There already.
    pub present: u64,
}
