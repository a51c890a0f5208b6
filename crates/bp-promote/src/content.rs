//! Manifests, indexes and descriptors: what registries and OCI layouts store besides blobs.

use std::{fmt, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Digest, ImageRef, Platform, Tag, media_type, resolve::ManifestError};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::{Map, Value};

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
#[serde(rename_all = "camelCase", from = "DescriptorFields")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type. Empty if the manifest omits it.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes; 0 if the manifest omits it, see [`has_size`](Self::has_size).
    pub size: u64,
    /// Other locations of the content. Only layers of a non-distributable type may exist there alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The content in base64, if it is embedded in the descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The artifact type, in a list of referrers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations of the descriptor.
    #[serde(skip_serializing_if = "Value::is_null")]
    annotations: Value,
    #[serde(skip)]
    has_size: bool,
}

/// The fields of a descriptor as they are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorFields {
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: String,
    digest: Digest,
    #[serde(default, deserialize_with = "size")]
    size: Option<u64>,
    #[serde(default, deserialize_with = "null_as_default")]
    urls: Vec<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Value,
}

impl From<DescriptorFields> for Descriptor {
    fn from(fields: DescriptorFields) -> Self {
        let DescriptorFields { media_type, digest, size, urls, data, artifact_type, annotations } = fields;
        let has_size = size.is_some();
        let size = size.unwrap_or_default();
        Descriptor { media_type, digest, size, urls, data, artifact_type, annotations, has_size }
    }
}

impl Descriptor {
    /// Whether the manifest states the size.
    pub fn has_size(&self) -> bool {
        self.has_size
    }

    /// The same descriptor with this size.
    pub(crate) fn with_size(&self, size: u64) -> Self {
        Descriptor { size, has_size: true, ..self.clone() }
    }

    /// Whether it is a layer that registries are not meant to store, and that can be fetched from another location.
    fn is_external(&self) -> bool {
        !self.urls.is_empty() && NON_DISTRIBUTABLE.iter().any(|kind| self.media_type.starts_with(kind))
    }

    /// Whether its media type is that of a configuration or layer. Some build caches are indexes of those.
    fn is_blob(&self) -> bool {
        media_type::is_image_config(&self.media_type)
            || BLOBS.iter().any(|kind| self.media_type.starts_with(kind))
    }

    /// Whether its media type is that of a manifest or index.
    pub(crate) fn is_known_manifest(&self) -> bool {
        media_type::IMAGES.contains(&self.media_type.as_str()) || self.media_type == ARTIFACT
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)?.as_str()
    }

    /// The embedded content, if it matches the size and the digest.
    pub(crate) fn inline(&self) -> Option<Bytes> {
        let bytes = BASE64_STANDARD.decode(self.data.as_ref()?).ok()?;
        let has_other_size = self.has_size && bytes.len() as u64 != self.size;
        let matches = !has_other_size && Digest::of(self.digest.algorithm(), &bytes) == self.digest;
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
            has_size: true,
        }
    }
}

/// A manifest or index, with the exact bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The media type: the manifest's own `mediaType`, otherwise the registry's Content-Type.
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
    /// Configuration and layers, without duplicates and without the external ones.
    pub blobs: Vec<Descriptor>,
    /// Layers of a non-distributable type that can be fetched from their URLs.
    pub external: Vec<Descriptor>,
    /// The manifests of an index, without duplicates.
    pub manifests: Vec<Descriptor>,
    /// The subject that the manifest refers to.
    pub subject: Option<Descriptor>,
}

/// The type of the unreleased artifact manifest.
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// The types of layers that registries are not meant to store.
const NON_DISTRIBUTABLE: [&str; 2] =
    ["application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign."];

/// The types of layers and of other content that is not a manifest.
const BLOBS: [&str; 3] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
    "application/vnd.buildkit.cacheconfig.",
];

/// The members by which a manifest's type is recognised.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shape {
    schema_version: Value,
    media_type: Value,
    config: Value,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

impl Shape {
    /// The media type that the members imply.
    fn implied(&self) -> Option<&'static str> {
        let config = self.config.get("mediaType").and_then(Value::as_str);
        match (&self.manifests, &self.layers, config) {
            (Some(_), None, _) => Some(media_type::OCI_INDEX),
            (None, Some(_), Some(media_type::DOCKER_CONFIG)) => Some(media_type::DOCKER_MANIFEST),
            (None, Some(_), _) if self.config.is_object() => Some(media_type::OCI_MANIFEST),
            _ => None,
        }
    }

    /// The media type of the manifest: its own, otherwise the Content-Type unless the members contradict it.
    fn media_type(&self, content_type: Option<&str>) -> Option<String> {
        let own = self.media_type.as_str().filter(|own| !own.is_empty());
        let is_index = |kind| matches!(kind, media_type::OCI_INDEX | media_type::DOCKER_INDEX);
        let chosen = own.or_else(|| match (content_type, self.implied()) {
            (Some(sent), Some(implied)) => {
                let contradicts = media_type::IMAGES.contains(&sent) && is_index(sent) != is_index(implied);
                Some(if contradicts { implied } else { sent })
            }
            (sent, implied) => sent.or(implied),
        });
        chosen.map(str::to_owned)
    }

    /// Whether it is a manifest of Docker's schema version 1.
    fn is_schema_1(&self, content_type: Option<&str>) -> bool {
        const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
        let declared = self.media_type.as_str().or(content_type);
        declared.is_some_and(|declared| declared.starts_with(SCHEMA_1))
            || self.schema_version == 1 && self.fs_layers.is_some()
    }
}

/// Whether a Content-Type does not identify a manifest. Static file servers and proxies send such types.
fn is_generic(content_type: &str) -> bool {
    matches!(content_type, "" | "application/json" | "application/xml")
        || content_type.ends_with("/octet-stream")
        || content_type.starts_with("text/")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
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
    /// The manifest's own `mediaType` takes precedence over the Content-Type: its bytes are hashed, the header is not.
    ///
    /// # Errors
    /// When the digest differs from `expected`, no media type is stated or implied, or it is a manifest of Docker's
    /// schema version 1.
    pub fn read(
        content_type: Option<&str>,
        expected: Option<&Digest>,
        bytes: Bytes,
    ) -> Result<Self, ManifestError> {
        let content_type = content_type
            .map(|content_type| content_type.split(';').next().unwrap_or(content_type).trim())
            .filter(|content_type| !is_generic(content_type));
        let shape: Shape = object(&bytes).unwrap_or_default();
        // First, since the digest of a signed manifest is not that of its bytes.
        if shape.is_schema_1(content_type) {
            let media_type = content_type.unwrap_or(media_type::DOCKER_MANIFEST_V1).to_owned();
            return Err(ManifestError::Unsupported { media_type });
        }
        let digest = match expected {
            Some(expected) => Digest::of(expected.algorithm(), &bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(ManifestError::Digest { expected: expected.clone(), found: digest });
        }
        let media_type = match shape.media_type(content_type) {
            Some(media_type) => media_type,
            None => {
                document(&bytes)?;
                let reason = "it has no mediaType, and the registry sent no media type either".to_owned();
                return Err(ManifestError::Malformed { reason });
            }
        };
        Ok(Manifest { media_type, digest, bytes })
    }

    /// The descriptors in the manifest. In a manifest of an unknown type, members that are not descriptors are ignored.
    ///
    /// # Errors
    /// When the bytes are not the JSON of a manifest.
    pub fn links(&self) -> Result<Links, ManifestError> {
        let is_known = media_type::IMAGES.contains(&self.media_type.as_str());
        let document = if is_known { document(&self.bytes)? } else { unknown_document(&self.bytes)? };
        let Document { config, layers, blobs, manifests, subject } = document;
        // The entries of a build cache's index are layers.
        let (entries, manifests): (Vec<_>, Vec<_>) = manifests.into_iter().partition(Descriptor::is_blob);
        let content = config.into_iter().chain(layers).chain(blobs).chain(entries);
        let (external, blobs): (Vec<_>, Vec<_>) = content.partition(Descriptor::is_external);
        Ok(Links { blobs: once(blobs), external: once(external), manifests: once(manifests), subject })
    }

    /// The manifests of an index with their platforms. Those without a platform, such as attestations, are left out.
    ///
    /// # Errors
    /// When the bytes are not the JSON of a manifest.
    pub fn platforms(&self) -> Result<Vec<(Platform, Descriptor)>, ManifestError> {
        let members: Map<String, Value> =
            object(&self.bytes).map_err(|error| ManifestError::Malformed { reason: error.to_string() })?;
        let entries = members.get("manifests").and_then(Value::as_array).into_iter().flatten();
        let platform = |entry: &Value| {
            let descriptor = serde_json::from_value(entry.clone()).ok()?;
            let is_known = entry.pointer("/platform/os").is_none_or(|os| os != "unknown");
            Some((platform_of(entry).filter(|_| is_known)?, descriptor))
        };
        Ok(entries.filter_map(platform).collect())
    }

    /// The digest of the subject that it refers to.
    pub(crate) fn subject(&self) -> Option<Digest> {
        self.links().ok()?.subject.map(|subject| subject.digest)
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

/// The platform of an entry of an index.
pub(crate) fn platform_of(entry: &Value) -> Option<Platform> {
    let text = |name: &str| entry.get("platform")?.get(name)?.as_str();
    Platform::new(text("os")?, text("architecture")?, text("variant")).ok()
}

fn document(bytes: &[u8]) -> Result<Document, ManifestError> {
    object(bytes).map_err(|error| ManifestError::Malformed { reason: error.to_string() })
}

/// Reads a manifest of an unknown type: its members may be anything.
fn unknown_document(bytes: &[u8]) -> Result<Document, ManifestError> {
    let members: Map<String, Value> =
        object(bytes).map_err(|error| ManifestError::Malformed { reason: error.to_string() })?;
    let one = |value: &Value| serde_json::from_value::<Descriptor>(value.clone()).ok();
    let all = |name: &str| match members.get(name) {
        Some(Value::Array(entries)) => entries.iter().filter_map(one).collect(),
        _ => Vec::new(),
    };
    let [config, subject] = ["config", "subject"].map(|name| members.get(name).and_then(one));
    Ok(Document { config, subject, layers: all("layers"), blobs: all("blobs"), manifests: all("manifests") })
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
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let size = Option::<u64>::deserialize(deserializer)?;
    match size.map(i64::try_from) {
        Some(Err(_)) => {
            let size = size.unwrap_or_default();
            Err(D::Error::custom(format_args!("the size {size} of a descriptor exceeds an int64")))
        }
        Some(Ok(_)) | None => Ok(size),
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
    fn links_separate_external_layers_and_omit_duplicates() {
        let with_urls = |text: &str| text.replace('}', r#","urls":["https://example.com/f"]}"#);
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let foreign = with_urls(&descriptor("f")).replace("a/b", foreign);
        // A type that registries store is copied wherever else it can be fetched.
        let [a, b, c] = [descriptor("a"), descriptor("b"), with_urls(&descriptor("c"))];
        let text = format!(r#"{{"schemaVersion":2,"config":{a},"layers":[{b},{b},{foreign},{c},{a}]}}"#);
        let manifest = Manifest::read(Some("application/vnd.x+json"), None, text.into()).unwrap();
        let links = manifest.links().unwrap();
        let digests = |all: &[Descriptor]| all.iter().map(|blob| blob.digest.clone()).collect::<Vec<_>>();
        assert_eq!(digests(&links.blobs), ["a", "b", "c"].map(Digest::sha256));
        assert_eq!(digests(&links.external), ["f"].map(Digest::sha256));
    }

    #[test]
    fn the_own_media_type_takes_precedence_over_the_content_type() {
        let read = |content_type: Option<&str>, text: &str| {
            Manifest::read(content_type, None, text.to_owned().into()).map(|manifest| manifest.media_type)
        };
        let own = r#"{"mediaType":"own/type"}"#;
        for sent in [Some("header/type; charset=utf-8"), Some("application/json"), None] {
            assert_eq!(read(sent, own).unwrap(), "own/type");
        }
        let blob = descriptor("a");
        let image = format!(r#"{{"config":{blob},"layers":[]}}"#);
        let docker = image.replace("a/b", media_type::DOCKER_CONFIG);
        let index = r#"{"manifests":[]}"#;
        for (sent, text, expected) in [
            (Some("header/type; charset=utf-8"), "{}", "header/type"),
            (Some(media_type::DOCKER_MANIFEST), &image, media_type::DOCKER_MANIFEST),
            (Some(media_type::DOCKER_INDEX), index, media_type::DOCKER_INDEX),
            // The content contradicts the header.
            (Some(media_type::OCI_INDEX), &image, media_type::OCI_MANIFEST),
            (Some(media_type::OCI_MANIFEST), index, media_type::OCI_INDEX),
            // The header does not identify the type.
            (Some("application/json"), &image, media_type::OCI_MANIFEST),
            (Some("binary/octet-stream"), &docker, media_type::DOCKER_MANIFEST),
            (Some("text/html; charset=utf-8"), index, media_type::OCI_INDEX),
            (None, index, media_type::OCI_INDEX),
        ] {
            assert_eq!(read(sent, text).unwrap(), expected, "{sent:?} {text}");
        }
        assert!(matches!(read(None, "{}"), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn refuses_docker_schema_1_before_its_digest_is_compared() {
        let text = r#"{"schemaVersion":1,"name":"shop/web","fsLayers":[],"signatures":[]}"#;
        let other = Digest::sha256("the payload without signatures");
        for sent in
            [Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), Some("text/plain"), None]
        {
            let error = Manifest::read(sent, Some(&other), text.into()).unwrap_err();
            assert!(matches!(error, ManifestError::Unsupported { .. }), "{sent:?} {error:?}");
        }
    }

    #[test]
    fn manifests_of_unknown_types_may_have_members_of_any_type() {
        let layer = descriptor("a");
        for (config, count) in [("5", 1), (r#""text""#, 1), (r#"{"x":1}"#, 1), (&descriptor("c"), 2)] {
            let text = format!(r#"{{"config":{config},"layers":[1,{layer}],"manifests":{{}},"subject":[]}}"#);
            let unknown = Manifest::read(Some("application/vnd.x+json"), None, text.clone().into()).unwrap();
            assert_eq!(unknown.links().unwrap().blobs.len(), count, "{text}");
            let known = Manifest::read(Some(media_type::OCI_MANIFEST), None, text.into()).unwrap();
            assert!(known.links().is_err(), "a known type is not incomplete");
        }
    }

    #[test]
    fn a_missing_size_is_not_zero() {
        let read = |text: &str| serde_json::from_str::<Descriptor>(text).unwrap();
        let digest = Digest::sha256("a");
        for missing in ["", r#","size":null"#] {
            let read = read(&format!(r#"{{"digest":"{digest}"{missing},"data":"YQ=="}}"#));
            assert!(!read.has_size() && read.inline().is_some());
            assert!(read.with_size(1).has_size() && read.with_size(2).inline().is_none());
        }
        assert!(read(&format!(r#"{{"digest":"{digest}","size":0}}"#)).has_size());
    }

    #[test]
    fn rejects_bytes_with_another_digest() {
        let asked = Digest::sha256("{}");
        assert!(Manifest::read(Some("a/b"), Some(&asked), "{}".into()).is_ok());
        let error = Manifest::read(Some("a/b"), Some(&asked), "{} ".into()).unwrap_err();
        assert!(matches!(error, ManifestError::Digest { .. }));
    }
}
