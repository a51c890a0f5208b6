//! What a copy did.

use bp_artifact::{Digest, Repository, ResolvedImage, Tag, resolve::ManifestError};
use serde::{Deserialize, Serialize};

use super::error::CopyError;
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
    /// What the destination's name named before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The digest of the index that this is a selection of platforms of: only when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_from: Option<Digest>,
    /// Manifests and indexes.
    pub manifests: Counts,
    /// Configurations and layers.
    pub blobs: Counts,
    /// What is attached, if that was asked for.
    pub referrers: Counts,
    /// What is attached at the source and was not copied, since the destination has other content under its tag.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Requests to the source, those for tokens left out.
    pub source_requests: u64,
    /// Requests to the destination, those for tokens left out.
    pub destination_requests: u64,
    /// The manifest or index, if it was read.
    #[serde(skip)]
    pub(super) top: Option<Manifest>,
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

/// What a run of several images did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunReport {
    /// The images, in the order in which they were given.
    pub images: Vec<ImageReport>,
    /// Manifests and indexes.
    pub manifests: Counts,
    /// Configurations and layers, each counted once for a repository.
    pub blobs: Counts,
    /// What is attached, if that was asked for.
    pub referrers: Counts,
    /// What is attached at a source and was not copied, since the destination has other content under its tag.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Requests to the sources, those for tokens left out.
    pub source_requests: u64,
    /// Requests to the destinations, those for tokens left out.
    pub destination_requests: u64,
    /// Destinations that could not be brought to their end, such as an archive that could not be written.
    #[serde(skip)]
    pub unfinished: Vec<CopyError>,
}

impl RunReport {
    /// The report, or the first thing that went wrong.
    ///
    /// # Errors
    /// When an image was not copied, or a destination not finished.
    pub fn into_result(mut self) -> Result<Self, CopyError> {
        if let Some(at) = self.images.iter().position(|image| image.result.is_err())
            && let Err(error) = self.images.swap_remove(at).result
        {
            return Err(error);
        }
        match self.unfinished.pop() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// The images that were not copied, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&ImageReport, &CopyError)> {
        self.images.iter().filter_map(|image| Some((image, image.result.as_ref().err()?)))
    }
}

/// What became of one image of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageReport {
    /// Where it was read.
    pub source: String,
    /// Where it went.
    pub destination: String,
    /// Its name there.
    pub reference: String,
    /// What that name named before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Its digest there and what was done, or why it was not copied.
    #[serde(serialize_with = "outcome")]
    pub result: Result<(Digest, CopyOutcome), CopyError>,
}

fn outcome<S: serde::Serializer>(
    result: &Result<(Digest, CopyOutcome), CopyError>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(None)?;
    match result {
        Ok((digest, outcome)) => {
            map.serialize_entry("digest", digest)?;
            map.serialize_entry("outcome", outcome)?;
        }
        Err(error) => map.serialize_entry("error", &error.to_string())?,
    }
    map.end()
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CopyOutcome {
    /// The destination had it under this name: nothing was changed.
    Unchanged,
    /// The destination had all of it: only the name is new.
    Tagged,
    /// Content was carried over.
    Copied,
}

/// A tag of cosign at the destination that was left as it is, because what it points to and what the source has cannot be
/// merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Kept {
    /// Where.
    pub destination: String,
    /// The tag.
    pub tag: Tag,
    /// What it points to.
    pub digest: Digest,
    /// What it points to at the source.
    pub wanted: Digest,
    /// Why the two cannot be merged.
    pub reason: &'static str,
}

/// How content came to the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Taken by the registry from another of its repositories.
    pub mounted: u64,
    /// There already.
    pub present: u64,
}
