//! What registries and layouts hold: manifests, and the descriptors that link them.

use std::{fmt, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Digest, ImageRef, Tag, media_type, resolve::ManifestError};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

/// All manifests that a registry may hold.
pub(crate) static ACCEPT: LazyLock<String> = LazyLock::new(|| {
    format!("{}, application/vnd.oci.artifact.manifest.v1+json, */*;q=0.5", media_type::IMAGES.join(", "))
});

/// The name of a manifest in a repository or layout: a tag, or its digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// The identity.
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
    /// What `image` asks for: its digest if it has one, else its tag.
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

/// A link to other content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// What it is. Empty where a manifest leaves it out.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Where else it can be had. Such a layer is not pushed to registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    /// The content itself in base64, where it is small and comes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What an artifact is, in a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Whatever somebody noted beside the link.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    annotations: Value,
}

impl Descriptor {
    /// An annotation of the link.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)?.as_str()
    }

    /// The content that comes along, if it is what the digest says.
    pub(crate) fn inline(&self) -> Option<Bytes> {
        let bytes = BASE64_STANDARD.decode(self.data.as_ref()?).ok()?;
        let right =
            bytes.len() as u64 == self.size && Digest::of(self.digest.algorithm(), &bytes) == self.digest;
        right.then(|| bytes.into())
    }

    /// A link to `bytes`.
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

/// A manifest or index, byte for byte as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// What it is, by the registry's Content-Type or its own `mediaType`.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a manifest links to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Links {
    /// Configuration and layers, foreign ones left out, each once.
    pub blobs: Vec<Descriptor>,
    /// The manifests of an index, each once.
    pub manifests: Vec<Descriptor>,
    /// What it refers to as its subject.
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
    /// Takes `bytes` for a manifest. `told` is the Content-Type, `expected` the digest that was asked for.
    ///
    /// # Errors
    /// When the digest is another one, or neither side says what the bytes are.
    pub fn read(told: Option<&str>, expected: Option<&Digest>, bytes: Bytes) -> Result<Self, ManifestError> {
        let digest = match expected {
            Some(expected) => Digest::of(expected.algorithm(), &bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(ManifestError::Digest { expected: expected.clone(), found: digest });
        }
        let told = told.map(|told| told.split(';').next().unwrap_or(told).trim()).filter(|told| {
            !matches!(*told, "" | "application/json" | "application/octet-stream" | "text/plain")
        });
        let media_type = match told {
            Some(told) => told.to_owned(),
            None => document(&bytes)?.media_type.ok_or_else(|| ManifestError::Malformed {
                reason: "neither the registry nor its mediaType says what it is".to_owned(),
            })?,
        };
        Ok(Manifest { media_type, digest, bytes })
    }

    /// What it links to.
    ///
    /// # Errors
    /// When it is not the JSON of a manifest.
    pub fn links(&self) -> Result<Links, ManifestError> {
        let Document { config, layers, blobs, manifests, subject, .. } = document(&self.bytes)?;
        let held = config.into_iter().chain(layers).chain(blobs).filter(|blob| blob.urls.is_empty());
        Ok(Links { blobs: once(held), manifests: once(manifests), subject })
    }

    /// Its configuration, if it is a manifest that has one.
    pub fn config(&self) -> Option<Descriptor> {
        document(&self.bytes).ok()?.config
    }

    /// The link to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }
}

fn document(bytes: &[u8]) -> Result<Document, ManifestError> {
    object(bytes).map_err(|error| ManifestError::Malformed { reason: error.to_string() })
}

/// Reads a JSON object. Without this check an array would do too, as a list of the object's fields.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes),
        _ => Err(serde_json::Error::custom("it is not a JSON object")),
    }
}

/// Reads `null` as the absence of a value: that is how Go writes an empty list.
pub(crate) fn null_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Sizes are those of the specification, which knows no larger ones than an `int64` holds.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    match i64::try_from(size) {
        Ok(_) => Ok(size),
        Err(_) => Err(D::Error::custom(format_args!("a descriptor claims {size} bytes"))),
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
    fn links_hold_each_blob_once_and_no_foreign_layer() {
        let foreign = descriptor("f").replace('}', r#","urls":["https://example.com/f"]}"#);
        let [a, b] = [descriptor("a"), descriptor("b")];
        let text = format!(r#"{{"schemaVersion":2,"config":{a},"layers":[{b},{b},{foreign},{a}]}}"#);
        let manifest = Manifest::read(Some("application/vnd.x+json"), None, text.into()).unwrap();
        let links = manifest.links().unwrap();
        let digests: Vec<_> = links.blobs.iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(digests, [Digest::sha256("a"), Digest::sha256("b")]);
    }

    #[test]
    fn the_registry_says_what_it_is_or_else_the_manifest_itself() {
        let own: Bytes = r#"{"mediaType":"own/type"}"#.into();
        let read = |told| Manifest::read(told, None, own.clone()).unwrap().media_type;
        assert_eq!(read(Some("told/type; charset=utf-8")), "told/type");
        assert_eq!(read(Some("application/json")), "own/type");
        assert_eq!(read(None), "own/type");
        assert!(matches!(Manifest::read(None, None, "{}".into()), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn other_bytes_are_refused() {
        let asked = Digest::sha256("{}");
        assert!(Manifest::read(Some("a/b"), Some(&asked), "{}".into()).is_ok());
        let error = Manifest::read(Some("a/b"), Some(&asked), "{} ".into()).unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }));
    }
}
