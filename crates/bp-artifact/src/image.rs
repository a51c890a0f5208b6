//! Resolved images: the digest and, for an index, the platforms.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{digest::Digest, media_type, platform::Platform, reference::DigestRef};

/// An image whose tag has been resolved: what pipeline stages pass on and deploy.
///
/// Created by a resolver, from `artifact.json`, or [from a `DigestRef`](From) when nothing else is known; then
/// [`platforms`](Self::platforms) is empty, and another running digest is *unproven*, not a *mismatch*.
///
/// ```
/// use bp_artifact::{Digest, DigestRef, ResolvedImage};
///
/// let digest = Digest::sha256("the index");
/// let reference: DigestRef = format!("registry.example.com/web@{digest}").parse()?;
/// let image = ResolvedImage::from(reference);
/// assert!(image.covers(&digest) && !image.is_complete());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResolvedImage {
    /// Repository and digest of the manifest or index that the tag pointed to.
    pub reference: DigestRef,
    /// The media type that the registry returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Size of the manifest or index in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The platforms of an index with their manifests' digests. For a single-platform manifest: that platform if
    /// known, with the same digest. Empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformImage>,
}

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// The digest of that platform's manifest.
    pub digest: Digest,
    /// Unknown fields, from a later version or another tool.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl PlatformImage {
    /// The manifest `digest` for `platform`.
    pub fn new(platform: Platform, digest: Digest) -> Self {
        PlatformImage { platform, digest, rest: Map::new() }
    }
}

impl ResolvedImage {
    /// The digest of the manifest or index.
    pub fn digest(&self) -> &Digest {
        self.reference.digest()
    }

    /// Whether `running` is this image: its own digest or that of one of its platforms.
    ///
    /// Container runtimes report either, depending on how they pulled.
    pub fn covers(&self, running: &Digest) -> bool {
        running == self.digest() || self.platforms.iter().any(|p| p.digest == *running)
    }

    /// Whether all digests that may run are known, so that any other running digest is a mismatch: true for an index
    /// with known platforms, and for a manifest that is not an index.
    pub fn is_complete(&self) -> bool {
        self.media_type.as_deref().is_some_and(media_type::is_manifest) || !self.platforms.is_empty()
    }

    /// The same image under another repository, as after a byte-identical copy.
    pub fn moved_to(&self, repository: &crate::reference::Repository) -> Self {
        ResolvedImage { reference: repository.at(self.digest().clone()), ..self.clone() }
    }
}

impl From<DigestRef> for ResolvedImage {
    fn from(reference: DigestRef) -> Self {
        ResolvedImage { reference, media_type: None, size: None, platforms: Vec::new() }
    }
}
