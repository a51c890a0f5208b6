//! Reports of finished copies.

use bp_artifact::{Digest, Repository, ResolvedImage, Tag, resolve::ManifestError};
use serde::{Deserialize, Serialize};

use super::error::CopyError;
use crate::content::Manifest;

/// The report of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyReport {
    /// The digest, the same on both sides.
    pub digest: Digest,
    /// The outcome.
    pub outcome: CopyOutcome,
    /// What the destination's reference pointed to before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The digest of the index that this is a platform selection of; only if platforms were selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_from: Option<Digest>,
    /// Manifests and indexes.
    pub manifests: Counts,
    /// Configurations and layers.
    pub blobs: Counts,
    /// Referrers, if they were requested.
    pub referrers: Counts,
    /// Cosign tags that were not copied, because the destination's tag has other content that cannot be merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptTag>,
    /// Entries in lists of referrers that were not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedReferrer>,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Requests to the source, without token requests.
    pub source_requests: u64,
    /// Requests to the destination, without token requests.
    pub destination_requests: u64,
    /// The manifest or index, if it was read.
    #[serde(skip)]
    pub(super) top: Option<Manifest>,
}

impl CopyReport {
    /// The copied image in `repository`, ready to deploy by digest. Its platforms are unknown if the source was given
    /// by digest and the destination already had it.
    ///
    /// # Errors
    /// When it is not an image but another kind of artifact.
    pub fn image_in(&self, repository: &Repository) -> Result<ResolvedImage, ManifestError> {
        let reference = repository.at(self.digest.clone());
        match &self.top {
            Some(top) => ResolvedImage::from_manifest(reference, Some(&top.media_type), &top.bytes),
            None => Ok(reference.into()),
        }
    }
}

/// The report of a run of several images.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunReport {
    /// The images, in the order in which they were given.
    pub images: Vec<ImageReport>,
    /// Manifests and indexes.
    pub manifests: Counts,
    /// Configurations and layers, each counted once per repository.
    pub blobs: Counts,
    /// Referrers, if they were requested.
    pub referrers: Counts,
    /// Cosign tags that were not copied, because the destination's tag has other content that cannot be merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptTag>,
    /// Entries in lists of referrers that were not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedReferrer>,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Requests to the sources, without token requests.
    pub source_requests: u64,
    /// Requests to the destinations, without token requests.
    pub destination_requests: u64,
    /// Errors of destinations that could not be finished, such as an archive that could not be written.
    #[serde(skip)]
    pub unfinished: Vec<CopyError>,
}

impl RunReport {
    /// Returns the report, or the first error.
    ///
    /// # Errors
    /// When an image was not copied, or a destination was not finished.
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

/// The result for one image of a run.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageReport {
    /// The source.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// The destination's reference.
    pub reference: String,
    /// What that reference pointed to before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Its digest and the outcome, or the error.
    #[serde(serialize_with = "outcome")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "outcome_schema"))]
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

/// The schema of [`outcome`].
#[cfg(feature = "schema")]
fn outcome_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "digest": generator.subschema_for::<Digest>(),
            "outcome": generator.subschema_for::<CopyOutcome>(),
            "error": { "type": "string" },
        },
    })
}

/// The outcome of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CopyOutcome {
    /// The destination's reference already pointed to the image: nothing was changed.
    Unchanged,
    /// The destination had all content: only the reference was published.
    Tagged,
    /// Content was copied.
    Copied,
}

/// A cosign tag at the destination that was left unchanged, because its content and the source's cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct KeptTag {
    /// The destination.
    pub destination: String,
    /// The tag.
    pub tag: Tag,
    /// What it points to at the destination.
    pub digest: Digest,
    /// What it points to at the source.
    pub wanted: Digest,
    /// Why the two cannot be merged.
    pub reason: &'static str,
}

/// An entry in the source's list of referrers that was not copied, because it is not a referrer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct SkippedReferrer {
    /// The source.
    pub source: String,
    /// The manifest that the list belongs to.
    pub subject: Digest,
    /// The listed manifest.
    pub digest: Digest,
    /// Why it is not a referrer.
    pub reason: &'static str,
}

/// How many items were stored at the destination, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counts {
    /// Uploaded.
    pub sent: u64,
    /// Mounted by the registry from another of its repositories.
    pub mounted: u64,
    /// Already at the destination.
    pub present: u64,
}
