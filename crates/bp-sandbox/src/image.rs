//! Build OCI images from files, reproducibly: tar layers, gzip, configuration, manifests and an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::Path,
};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};

use crate::digest::digest_of;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Path in the image -> contents and mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// Builds an [`Image`].
///
/// ```
/// use bp_sandbox::ImageBuilder;
///
/// let image = ImageBuilder::new()
///     .platform("linux/amd64")
///     .platform("linux/arm64")
///     .layer([("etc/motd", "hello")])
///     .layer_for("linux/arm64", [("app/server", "an arm program")])
///     .entrypoint(["/app/server"])
///     .env("PORT", "8080")
///     .label("org.opencontainers.image.source", "https://example.com/shop/web")
///     .build();
/// assert_eq!(image.manifests().len(), 3, "two platforms and their index");
/// assert_ne!(image.platform("linux/amd64"), image.platform("linux/arm64"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    platforms: Vec<String>,
    /// Each layer with its platform, or `None` for all platforms.
    layers: Vec<(Option<String>, Files)>,
    config: Map<String, Value>,
    env: Vec<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
}

impl ImageBuilder {
    /// An image without layers; the platform defaults to `linux/amd64`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a platform, `os/architecture` or `os/architecture/variant`. Several platforms produce an index.
    pub fn platform(mut self, platform: &str) -> Self {
        self.platforms.push(platform.to_owned());
        self
    }

    /// Adds a layer of these files (path and contents, executable) to all platforms.
    pub fn layer<P: Into<String>, C: AsRef<[u8]>>(self, files: impl IntoIterator<Item = (P, C)>) -> Self {
        self.add(None, files)
    }

    /// Adds a layer of these files to one platform.
    pub fn layer_for<P: Into<String>, C: AsRef<[u8]>>(
        self,
        platform: &str,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Self {
        self.add(Some(platform.to_owned()), files)
    }

    fn add<P: Into<String>, C: AsRef<[u8]>>(
        mut self,
        platform: Option<String>,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Self {
        let file = |(path, contents): (P, C)| (path.into(), (contents.as_ref().to_vec(), 0o755));
        self.layers.push((platform, files.into_iter().map(file).collect()));
        self
    }

    /// Adds a layer of all files below `directory` to all platforms; their paths in the image start with `prefix`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn directory(mut self, directory: &Path, prefix: &str) -> io::Result<Self> {
        let mut files = Files::new();
        collect(directory, prefix.trim_matches('/'), &mut files)?;
        self.layers.push((None, files));
        Ok(self)
    }

    /// Sets the entrypoint: the program and its first arguments.
    pub fn entrypoint<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        self.config.insert("Entrypoint".into(), json!(command));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Adds a label to the configuration, such as `dev.bp-sandbox.behaviour` (see [`Behaviour`](crate::Behaviour)).
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// Adds an annotation to the manifests and the index.
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// Builds the image.
    pub fn build(mut self) -> Image {
        if self.platforms.is_empty() {
            self.platforms.push("linux/amd64".to_owned());
        }
        if !self.env.is_empty() {
            self.config.insert("Env".into(), json!(self.env));
        }
        if !self.labels.is_empty() {
            self.config.insert("Labels".into(), Value::Object(self.labels.clone()));
        }
        let mut image = Image::default();
        let mut children = Vec::new();
        for platform in &self.platforms {
            let bytes = self.manifest(platform, &mut image);
            let digest = digest_of(&bytes);
            let mut child = descriptor(MANIFEST, &bytes);
            child["platform"] = platform_fields(platform);
            children.push(child);
            image.platforms.insert(platform.clone(), digest.clone());
            image.digest = digest;
            image.manifests.push((MANIFEST.to_owned(), bytes));
        }
        if children.len() > 1 {
            let mut index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
            self.annotate(&mut index);
            let bytes = serialized(index);
            image.digest = digest_of(&bytes);
            image.manifests.push((INDEX.to_owned(), bytes));
        }
        image
    }

    fn manifest(&self, platform: &str, image: &mut Image) -> Bytes {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        let selected = self.layers.iter().filter(|(of, _)| of.as_deref().is_none_or(|of| of == platform));
        for (_, files) in selected {
            let tar = tar(files).expect("writing to memory");
            diff_ids.push(digest_of(&tar));
            let layer = gzip(&tar).expect("writing to memory");
            layers.push(descriptor(LAYER, &layer));
            image.add_blob(layer);
        }
        let mut config = platform_fields(platform);
        config["created"] = "1970-01-01T00:00:00Z".into();
        config["config"] = Value::Object(self.config.clone());
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = serialized(config);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers,
        });
        image.add_blob(config);
        self.annotate(&mut manifest);
        serialized(manifest)
    }

    fn annotate(&self, document: &mut Value) {
        if !self.annotations.is_empty() {
            document["annotations"] = Value::Object(self.annotations.clone());
        }
    }
}

/// An image with its manifests and blobs.
#[derive(Debug, Clone, Default)]
pub struct Image {
    digest: String,
    manifests: Vec<(String, Bytes)>,
    blobs: Vec<Bytes>,
    platforms: BTreeMap<String, String>,
}

impl Image {
    /// The digest of the index, or of the only manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The digest of a platform's manifest.
    ///
    /// # Panics
    /// When the image is not built for that platform.
    pub fn platform(&self, platform: &str) -> &str {
        self.platforms.get(platform).unwrap_or_else(|| panic!("the image is not built for {platform}"))
    }

    /// Media types and bytes of the manifests; the index is last.
    pub fn manifests(&self) -> &[(String, Bytes)] {
        &self.manifests
    }

    /// The distinct layers and configurations.
    pub fn blobs(&self) -> &[Bytes] {
        &self.blobs
    }

    /// Writes the image as an OCI image layout with this tag.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write_layout(&self, directory: &Path, tag: &str) -> io::Result<()> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for bytes in self.blobs.iter().chain(self.manifests.iter().map(|(_, bytes)| bytes)) {
            fs::write(blobs.join(digest_of(bytes).trim_start_matches("sha256:")), bytes)?;
        }
        let (media_type, bytes) = self.manifests.last().expect("an image has a manifest");
        let mut top = descriptor(media_type, bytes);
        top["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] });
        fs::write(directory.join("index.json"), serialized(index))?;
        fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
    }

    fn add_blob(&mut self, bytes: Bytes) {
        if !self.blobs.contains(&bytes) {
            self.blobs.push(bytes);
        }
    }
}

/// The document with its keys in alphabetical order: the order of `serde_json` depends on a feature that any crate of the
/// build can enable, and the digest of an image must not.
fn serialized(document: Value) -> Bytes {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<String, Value> = fields.into_iter().collect();
                Value::Object(fields.into_iter().map(|(name, value)| (name, sorted(value))).collect())
            }
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    sorted(document).to_string().into()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len() })
}

/// The platform `linux/arm64/v8` as fields of a configuration or of a descriptor's `platform`.
fn platform_fields(platform: &str) -> Value {
    let mut parts = platform.splitn(3, '/');
    let mut fields = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        fields["variant"] = variant.into();
    }
    fields
}

/// A tar archive of the files and their parent directories, all owned by root and with modification time 0.
fn tar(files: &Files) -> io::Result<Vec<u8>> {
    let header = |kind, size: usize, mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let parents: BTreeSet<&str> = files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]))
        .filter(|parent| !parent.is_empty())
        .collect();
    let mut tar = tar::Builder::new(Vec::new());
    for parent in parents {
        let mut header = header(tar::EntryType::Directory, 0, 0o755);
        tar.append_data(&mut header, format!("{parent}/"), io::empty())?;
    }
    for (path, (contents, mode)) in files {
        let mut header = header(tar::EntryType::Regular, contents.len(), *mode);
        tar.append_data(&mut header, path, contents.as_slice())?;
    }
    tar.into_inner()
}

fn gzip(bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

fn collect(directory: &Path, prefix: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = match prefix {
            "" => name.to_string_lossy().into_owned(),
            prefix => format!("{prefix}/{}", name.to_string_lossy()),
        };
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, files)?;
        } else {
            files.insert(path, (fs::read(entry.path())?, mode(&entry.metadata()?)));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    // Only the executable bit: other bits differ between checkouts.
    if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 }
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0o755
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_reproducible() {
        let build = || {
            ImageBuilder::new()
                .platform("linux/amd64")
                .platform("linux/arm64/v8")
                .layer([("app/a", "1"), ("app/b", "2")])
                .label("a", "b")
                .build()
        };
        let (first, second) = (build(), build());
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.blobs().len(), 3, "a shared layer and two configurations");
        let index: Value = serde_json::from_slice(&first.manifests()[2].1).unwrap();
        assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");
        assert_eq!(index["manifests"][1]["digest"], first.platform("linux/arm64/v8"));
    }

    #[test]
    fn the_digest_does_not_depend_on_the_build() {
        let image = ImageBuilder::new()
            .platform("linux/amd64")
            .platform("linux/arm64")
            .layer([("app/a", "1")])
            .entrypoint(["/app/a"])
            .label("z", "1")
            .label("a", "2")
            .annotation("b", "3")
            .build();
        let configuration = std::str::from_utf8(&image.blobs()[1]).unwrap();
        let places = ["architecture", "config", "Entrypoint", "Labels", "a", "z", "created", "os", "rootfs"]
            .map(|key| configuration.find(&format!("\"{key}\":")).unwrap());
        assert!(places.is_sorted(), "{configuration}");
        assert_eq!(image.digest(), "sha256:053fcb6076a9e8b5e8e0083e49e961e9ea12daa3cb0deceea7cd786ed4c92c69");
    }

    #[test]
    fn layers_are_gzipped_tar_archives() {
        let image = ImageBuilder::new().layer([("app/bin/server", "#!/bin/sh\n")]).build();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&image.blobs()[0][..]));
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(paths, ["app/", "app/bin/", "app/bin/server"]);
    }
}
