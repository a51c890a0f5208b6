//! Parse manifests and indexes: digest, media type, platforms.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    digest::Digest,
    error::{Classified, ErrorClass},
    image::{PlatformImage, ResolvedImage},
    media_type,
    platform::Platform,
    reference::DigestRef,
};

/// Why bytes are not the requested manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The digest of the bytes does not match.
    #[error("its digest is {found}, expected {expected}")]
    Digest {
        /// The digest that was requested, or that the registry reported.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The bytes are not a manifest in JSON.
    #[error("it is not a manifest: {reason}")]
    Malformed {
        /// The reason.
        reason: String,
    },
    /// A manifest of Docker's schema version 1, which has no digest of its own.
    #[error("its media type {media_type} is not supported: rebuild the image with a current tool")]
    Unsupported {
        /// The media type.
        media_type: String,
    },
}

impl Classified for ManifestError {
    fn class(&self) -> ErrorClass {
        match self {
            ManifestError::Digest { .. } => ErrorClass::DigestMismatch,
            ManifestError::Malformed { .. } => ErrorClass::Unexpected,
            ManifestError::Unsupported { .. } => ErrorClass::BadInput,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Child>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Child {
    digest: Digest,
    platform: Option<ChildPlatform>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
struct ChildPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl ChildPlatform {
    fn os(&self) -> &str {
        self.os.as_deref().unwrap_or_default()
    }

    fn architecture(&self) -> &str {
        self.architecture.as_deref().unwrap_or_default()
    }
}

impl Child {
    /// Whether this is not a runnable image: an attestation that BuildKit adds to the index, or another artifact.
    fn is_attestation(&self) -> bool {
        let unknown = |p: &ChildPlatform| p.os() == "unknown" && p.architecture() == "unknown";
        self.platform.as_ref().is_some_and(unknown)
            || self.artifact_type.is_some()
            || self.annotations.as_ref().is_some_and(|all| all.contains_key("vnd.docker.reference.type"))
    }

    fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        Platform::new(platform.os(), platform.architecture(), platform.variant.as_deref()).ok()
    }
}

impl ResolvedImage {
    /// Parses the manifest that a registry returned for `reference`, after checking that `bytes` have its digest.
    /// `media_type` is the Content-Type of the response, if present.
    ///
    /// The platforms of an index are listed completely or not at all: if one image has no platform, the list is empty,
    /// so that a digest of this index is never reported as a mismatch. Attestations are not listed.
    ///
    /// ```
    /// use bp_artifact::{Digest, Repository, ResolvedImage};
    ///
    /// let index = br#"{"schemaVersion":2,"manifests":[
    ///   {"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ///    "platform":{"os":"linux","architecture":"arm64"}}]}"#;
    /// let repository: Repository = "registry.example.com/web".parse()?;
    /// let image = ResolvedImage::from_manifest(repository.at(Digest::sha256(index)), None, index)?;
    /// assert_eq!(image.platforms[0].platform.to_string(), "linux/arm64");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the digest does not match, or the bytes are not a manifest.
    pub fn from_manifest(
        reference: DigestRef,
        media_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Self, ManifestError> {
        let expected = reference.digest();
        let found = Digest::of(expected.algorithm(), bytes);
        if found != *expected {
            return Err(ManifestError::Digest { expected: expected.clone(), found });
        }
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Malformed { reason: error.to_string() })?;
        // The document's `mediaType` is optional in OCI, and the Content-Type may have parameters.
        let content_type = media_type.map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
        let media_type = manifest.media_type.or(content_type);
        match (manifest.schema_version, media_type) {
            (2, media_type) => Ok(ResolvedImage {
                platforms: manifest.manifests.as_deref().map(platforms).unwrap_or_default(),
                reference,
                media_type,
                size: Some(bytes.len() as u64),
            }),
            (1, media_type) => {
                let media_type = media_type.unwrap_or_else(|| media_type::DOCKER_MANIFEST_V1.to_owned());
                Err(ManifestError::Unsupported { media_type })
            }
            (version, _) => {
                Err(ManifestError::Malformed { reason: format!("its schemaVersion is {version}, not 2") })
            }
        }
    }
}

fn platforms(children: &[Child]) -> Vec<PlatformImage> {
    let image = |child: &Child| Some(PlatformImage::new(child.platform()?, child.digest.clone()));
    let images = children.iter().filter(|child| !child.is_attestation()).map(image);
    images.collect::<Option<Vec<_>>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reference::Repository;

    fn read(manifest: &Value, media_type: Option<&str>) -> Result<ResolvedImage, ManifestError> {
        let bytes = manifest.to_string();
        let repository: Repository = "r.example.com/web".parse().unwrap();
        ResolvedImage::from_manifest(repository.at(Digest::sha256(&bytes)), media_type, bytes.as_bytes())
    }

    fn child(name: &str, platform: Value) -> Value {
        json!({ "digest": Digest::sha256(name), "size": 1, "platform": platform })
    }

    #[test]
    fn lists_platforms_without_attestations() {
        let mut attestation = child("att", json!({ "os": "unknown", "architecture": "unknown" }));
        attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [
                child("a", json!({ "os": "linux", "architecture": "amd64" })),
                child("b", json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })),
                attestation,
            ],
        });
        let image = read(&index, None).unwrap();
        let platforms: Vec<String> = image.platforms.iter().map(|p| p.platform.to_string()).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8"]);
        assert_eq!(image.size, Some(index.to_string().len() as u64));
        assert!(image.is_complete() && image.covers(&Digest::sha256("b")));
        assert!(!image.covers(&Digest::sha256("att")));
    }

    #[test]
    fn lists_no_platforms_if_one_image_has_none() {
        let index = json!({ "schemaVersion": 2, "manifests": [
            child("a", json!({ "os": "linux", "architecture": "amd64" })),
            child("b", Value::Null),
        ]});
        let image = read(&index, Some("application/vnd.oci.image.index.v1+json; charset=utf-8")).unwrap();
        assert!(image.platforms.is_empty() && !image.is_complete());
        assert_eq!(image.media_type.as_deref(), Some(media_type::OCI_INDEX));
    }

    #[test]
    fn treats_null_as_an_absent_field() {
        let mut linux = child("a", json!({ "os": "linux", "architecture": "amd64", "variant": null }));
        linux["annotations"] = Value::Null;
        linux["artifactType"] = Value::Null;
        let unknown = child("b", json!({ "os": null, "architecture": null }));
        let image =
            read(&json!({ "schemaVersion": 2, "mediaType": null, "manifests": [linux] }), None).unwrap();
        assert_eq!(image.platforms.len(), 1);
        assert!(
            read(&json!({ "schemaVersion": 2, "manifests": [unknown] }), None).unwrap().platforms.is_empty()
        );
        assert!(read(&json!({ "schemaVersion": 2, "manifests": null }), None).unwrap().platforms.is_empty());
    }

    #[test]
    fn a_single_manifest_is_complete() {
        let manifest = json!({ "schemaVersion": 2, "config": {}, "layers": [] });
        let image = read(&manifest, Some(media_type::OCI_MANIFEST)).unwrap();
        assert!(image.platforms.is_empty() && image.is_complete());
    }

    #[test]
    fn rejects_wrong_digests_and_unsupported_formats() {
        let repository: Repository = "r.example.com/web".parse().unwrap();
        let error = ResolvedImage::from_manifest(repository.at(Digest::sha256("x")), None, b"y").unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }), "{error}");
        assert!(matches!(read(&json!([]), None), Err(ManifestError::Malformed { .. })));
        assert!(matches!(read(&json!({}), None), Err(ManifestError::Malformed { .. })));
        assert!(matches!(read(&json!({ "schemaVersion": 1 }), None), Err(ManifestError::Unsupported { .. })));
        let bad_child = json!({ "schemaVersion": 2, "manifests": [{ "digest": "sha256:x" }] });
        assert!(matches!(read(&bad_child, None), Err(ManifestError::Malformed { .. })));
    }
}
