//! Manifests, indexes and descriptors: what registries and OCI layouts store besides blobs.

use std::{fmt, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Digest, ImageRef, Tag, media_type, resolve::ManifestError};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

/// The `Accept` header for manifests of any type that a registry may store.
pub(crate) static ACCEPT: LazyLock<String> = LazyLock::new(|| {
    format!("{}, application/vnd.oci.artifact.manifest.v1+json, */*;q=0.5", media_type::IMAGES.join(", "))
});

/// A reference to a manifest in a repository or layout: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A tag, which may be moved.
    Tag(Tag),
    /// A digest, which identifies the content.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Reference {
    /// The reference in `image`: its digest if it has one, otherwise its tag.
    pub fn from_image(image: &ImageRef) -> Self {
        match (image.digest(), image.tag()) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => unreachable!("an ImageRef has a tag or a digest"),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Reference::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Reference::Digest(digest)
    }
}

/// A descriptor: the type, digest and size of other content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type. Empty if the manifest omits it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other locations of the content. A layer with URLs (a foreign layer) is not pushed to registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    /// The content in base64, if it is embedded in the descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The artifact type, in a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations of the descriptor.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    annotations: Value,
}

impl Descriptor {
    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)?.as_str()
    }

    /// The embedded content, if it matches the size and the digest.
    pub(crate) fn inline(&self) -> Option<Bytes> {
        let bytes = BASE64_STANDARD.decode(self.data.as_ref()?).ok()?;
        let matches =
            bytes.len() as u64 == self.size && Digest::of(self.digest.algorithm(), &bytes) == self.digest;
        matches.then(|| bytes.into())
    }

    /// A descriptor of content with this type, digest and size.
    pub fn of(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            data: None,
            artifact_type: None,
            annotations: Value::Null,
        }
    }
}

/// A manifest or index, with the exact bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The media type, from the registry's Content-Type or the manifest's own `mediaType`.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// The descriptors in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Links {
    /// Configuration and layers, without foreign layers and duplicates.
    pub blobs: Vec<Descriptor>,
    /// The manifests of an index, without duplicates.
    pub manifests: Vec<Descriptor>,
    /// The subject that the manifest refers to.
    pub subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default")]
    blobs: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default")]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Reads `bytes` as a manifest. `content_type` is the Content-Type, `expected` the requested digest.
    ///
    /// # Errors
    /// When the digest differs from `expected`, or neither the Content-Type nor the manifest states a media type.
    pub fn read(
        content_type: Option<&str>,
        expected: Option<&Digest>,
        bytes: Bytes,
    ) -> Result<Self, ManifestError> {
        let digest = match expected {
            Some(expected) => Digest::of(expected.algorithm(), &bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(ManifestError::Digest { expected: expected.clone(), found: digest });
        }
        let content_type = content_type
            .map(|content_type| content_type.split(';').next().unwrap_or(content_type).trim())
            .filter(|content_type| {
                !matches!(*content_type, "" | "application/json" | "application/octet-stream" | "text/plain")
            });
        let media_type = match content_type {
            Some(content_type) => content_type.to_owned(),
            None => document(&bytes)?.media_type.ok_or_else(|| ManifestError::Malformed {
                reason: "it has no mediaType, and the registry sent no media type either".to_owned(),
            })?,
        };
        Ok(Manifest { media_type, digest, bytes })
    }

    /// The descriptors in the manifest.
    ///
    /// # Errors
    /// When the bytes are not the JSON of a manifest.
    pub fn links(&self) -> Result<Links, ManifestError> {
        let Document { config, layers, blobs, manifests, subject, .. } = document(&self.bytes)?;
        let pushed = config.into_iter().chain(layers).chain(blobs).filter(|blob| blob.urls.is_empty());
        Ok(Links { blobs: once(pushed), manifests: once(manifests), subject })
    }

    /// The descriptor of its configuration, if it has one.
    pub fn config(&self) -> Option<Descriptor> {
        document(&self.bytes).ok()?.config
    }

    /// The descriptor of the manifest itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }
}

fn document(bytes: &[u8]) -> Result<Document, ManifestError> {
    object(bytes).map_err(|error| ManifestError::Malformed { reason: error.to_string() })
}

/// Reads a JSON object. Without the check serde would also accept an array, as the fields in order.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes),
        _ => Err(serde_json::Error::custom("it is not a JSON object")),
    }
}

/// Reads `null` as the default: Go serialises an empty list as `null`.
pub(crate) fn null_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A size must fit into an `int64`, as in the specification.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    match i64::try_from(size) {
        Ok(_) => Ok(size),
        Err(_) => Err(D::Error::custom(format_args!("the size {size} of a descriptor exceeds an int64"))),
    }
}

fn once(descriptors: impl IntoIterator<Item = Descriptor>) -> Vec<Descriptor> {
    let mut seen = std::collections::HashSet::new();
    descriptors.into_iter().filter(|descriptor| seen.insert(descriptor.digest.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(content: &str) -> String {
        format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, Digest::sha256(content), content.len())
    }

    #[test]
    fn links_omit_duplicate_blobs_and_foreign_layers() {
        let foreign = descriptor("f").replace('}', r#","urls":["https://example.com/f"]}"#);
        let [a, b] = [descriptor("a"), descriptor("b")];
        let text = format!(r#"{{"schemaVersion":2,"config":{a},"layers":[{b},{b},{foreign},{a}]}}"#);
        let manifest = Manifest::read(Some("application/vnd.x+json"), None, text.into()).unwrap();
        let links = manifest.links().unwrap();
        let digests: Vec<_> = links.blobs.iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(digests, [Digest::sha256("a"), Digest::sha256("b")]);
    }

    #[test]
    fn the_content_type_takes_precedence_over_the_own_media_type() {
        let own: Bytes = r#"{"mediaType":"own/type"}"#.into();
        let read = |content_type| Manifest::read(content_type, None, own.clone()).unwrap().media_type;
        assert_eq!(read(Some("header/type; charset=utf-8")), "header/type");
        assert_eq!(read(Some("application/json")), "own/type");
        assert_eq!(read(None), "own/type");
        assert!(matches!(Manifest::read(None, None, "{}".into()), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn rejects_bytes_with_another_digest() {
        let asked = Digest::sha256("{}");
        assert!(Manifest::read(Some("a/b"), Some(&asked), "{}".into()).is_ok());
        let error = Manifest::read(Some("a/b"), Some(&asked), "{} ".into()).unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }));
    }
}
