//! OCI image layouts: a directory as source and destination, a tar archive as source or destination.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

mod archive;
mod error;
mod file;
mod files;
mod pack;
mod store;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bp_artifact::{Digest, Tag, digest::Hasher, media_type::OCI_INDEX, text::SingleLine};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tokio::{
    fs,
    io::{AsyncWriteExt as _, Take},
    sync::Mutex,
};
use tokio_util::io::ReaderStream;

pub use self::{error::LayoutError, pack::OciArchive};
use self::{
    file::Partial,
    files::{Archive, Files, path_in},
};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::{BlobStream, PutError, StoreError},
};

const MARKER: &str = "oci-layout";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the full name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An OCI image layout: a directory or, as a source, a tar archive that contains one.
///
/// Files are written atomically, and an image is added to `index.json` only after all of its content. Several handles
/// and processes may write to one directory; each locks it while it changes `index.json`. Symbolic links in a layout are
/// not followed. To write an archive, use [`OciArchive`].
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
    files: Files,
    /// Locked while `index.json` is read and replaced.
    index: Arc<Mutex<()>>,
}

impl OciLayout {
    /// Opens a layout as a source: a directory, or a tar archive, which is read in place.
    ///
    /// # Errors
    /// When it is not an OCI layout, for example the output of `docker save` or a compressed archive.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let files = match fs::metadata(&root).await {
            Ok(metadata) if metadata.is_file() => {
                let path = root.clone();
                let scanned = tokio::task::spawn_blocking(move || Archive::scan(path)).await;
                let lost = |_| io::Error::from(io::ErrorKind::Interrupted);
                let failed = |source| LayoutError::Io { doing: "read", path: root.clone(), source };
                Files::Archive(Arc::new(scanned.map_err(lost).map_err(failed)??))
            }
            _ => Files::Directory(root.clone()),
        };
        let layout = OciLayout { root, files, index: Arc::default() };
        layout.check().await?;
        Ok(layout)
    }

    /// Unpacks a tar archive from a stream that cannot be read twice, such as a pipe, and opens it as a layout.
    /// `directory` must be empty; the caller removes it.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the directory cannot be written.
    ///
    /// # Cancel safety
    /// After cancellation the stream is still read to its end.
    pub async fn unpack(
        stream: impl io::Read + Send + 'static,
        directory: impl Into<PathBuf>,
    ) -> Result<Self, LayoutError> {
        let directory = directory.into();
        let target = directory.clone();
        let unpacked = tokio::task::spawn_blocking(move || archive::unpack(stream, &target)).await;
        let failed = |source| LayoutError::Io { doing: "write", path: directory.clone(), source };
        unpacked.map_err(|_| failed(io::ErrorKind::Interrupted.into()))??;
        Self::open(directory).await
    }

    /// Checks the marker file and the version of the layout.
    async fn check(&self) -> Result<(), LayoutError> {
        let invalid =
            |reason: &str| LayoutError::NotALayout { path: self.root.clone(), reason: reason.into() };
        let bytes = match self.files.read(MARKER).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Files::Archive(archive) = &self.files
                    && let Some(directory) = &archive.nested
                {
                    let directory = SingleLine(directory);
                    return Err(invalid(&format!(
                        "the layout is in its directory {directory}: create the archive with tar -C {directory} -cf \
                         <file> ."
                    )));
                }
                return Err(invalid(match self.files.size("manifest.json").await {
                    Some(_) => {
                        "it is the output of `docker save`, whose digest differs from the registry's; \
                         export it with `docker buildx build --output type=oci,dest=<file>`"
                    }
                    None => "the file oci-layout is missing",
                }));
            }
            Err(source) => {
                return Err(LayoutError::Io { doing: "read", path: self.files.shown(MARKER), source });
            }
        };
        let version: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match version.get("imageLayoutVersion").and_then(Value::as_str) {
            Some(version) if version.starts_with("1.") => Ok(()),
            _ => Err(invalid("its imageLayoutVersion is not 1.x")),
        }
    }

    /// Opens a layout as a destination, or creates it.
    ///
    /// # Errors
    /// When the directory has other content, or cannot be written.
    ///
    /// # Cancel safety
    /// After cancellation the next call completes the layout.
    pub async fn create(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let blobs = root.join("blobs/sha256");
        let marker = root.join(MARKER);
        if !fs::try_exists(&marker).await.unwrap_or(false) {
            if let Ok(mut entries) = fs::read_dir(&root).await {
                while let Ok(Some(entry)) = entries.next_entry().await {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // Another writer may create the layout at the same time.
                    let is_own = name == "blobs" || name.starts_with(".oci-layout.");
                    if !is_own && !fs::try_exists(&marker).await.unwrap_or(false) {
                        let reason = format!("it is not empty: it contains {name}");
                        return Err(LayoutError::NotALayout { path: root, reason });
                    }
                }
            }
            let is_link = path_in(&root, "blobs/sha256");
            is_link.map_err(|source| LayoutError::Io { doing: "create", path: blobs.clone(), source })?;
            fs::create_dir_all(&blobs).await.map_err(|source| LayoutError::Io {
                doing: "create",
                path: blobs.clone(),
                source,
            })?;
            let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
            file::replace(&marker, version.as_bytes()).await?;
        }
        Self::open(root).await
    }

    /// The path of the directory or archive.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The images in `index.json`, each with its tag if it has one.
    ///
    /// # Errors
    /// When `index.json` cannot be read.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn images(&self) -> Result<Vec<(Option<String>, Descriptor)>, LayoutError> {
        let index = self.read_index().await?;
        let entries = index.get("manifests").and_then(Value::as_array).into_iter().flatten();
        Ok(entries
            .filter_map(|entry| {
                let descriptor = serde_json::from_value(entry.clone()).ok()?;
                Some((name_of(entry).map(str::to_owned), descriptor))
            })
            .collect())
    }

    /// The tag, or else the digest, of the only image.
    ///
    /// # Errors
    /// When the layout has no image, or more than one.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn only_image(&self) -> Result<Reference, LayoutError> {
        let images = self.images().await?;
        match images.as_slice() {
            [(name, descriptor)] => {
                let tag = name.as_deref().and_then(|name| name.parse::<Tag>().ok());
                Ok(tag.map(Reference::Tag).unwrap_or_else(|| Reference::Digest(descriptor.digest.clone())))
            }
            [] => Err(self.not_found(&"image").await),
            _ => Err(self.not_found(&"single image: select one by its tag").await),
        }
    }

    /// The reference to the image with this name: its tag, or the full name that podman or containerd has written.
    ///
    /// # Errors
    /// When the layout has no such image, or several.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn named(&self, name: &str) -> Result<Reference, LayoutError> {
        let images = self.images().await?;
        match select(&images, name) {
            Selected::One(image) => Ok(match name.parse::<Tag>() {
                Ok(tag) => Reference::Tag(tag),
                Err(_) => Reference::Digest(image.digest.clone()),
            }),
            Selected::None => Err(self.not_found(&name).await),
            Selected::Several => Err(self.not_found(&several(name)).await),
        }
    }

    /// The path of a blob within the layout.
    fn blob_name(digest: &Digest) -> String {
        format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
    }

    /// The path to write a blob to. Archives are read-only.
    fn writable(&self, digest: &Digest) -> Result<PathBuf, LayoutError> {
        match &self.files {
            Files::Directory(root) => {
                let name = Self::blob_name(digest);
                let failed = |source| LayoutError::Io { doing: "write", path: root.join(&name), source };
                path_in(root, &name).map_err(failed)
            }
            Files::Archive(archive) => Err(LayoutError::ReadOnly { path: archive.path.clone() }),
        }
    }

    async fn read_index(&self) -> Result<Map<String, Value>, LayoutError> {
        let invalid = |reason| LayoutError::NotALayout { path: self.root.clone(), reason };
        match self.files.read("index.json").await {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| invalid(format!("its index.json is invalid: {error}"))),
            // A newly created layout has no index yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(source) => {
                Err(LayoutError::Io { doing: "read", path: self.files.shown("index.json"), source })
            }
        }
    }

    async fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, LayoutError> {
        let images = self.images().await?;
        match reference {
            Reference::Tag(tag) => match select(&images, tag.as_str()) {
                Selected::One(image) => Ok(Some(image.clone())),
                Selected::None => Ok(None),
                Selected::Several => Err(self.not_found(&several(tag.as_str())).await),
            },
            Reference::Digest(digest) => {
                if let Some((_, listed)) = images.into_iter().find(|(_, listed)| listed.digest == *digest) {
                    return Ok(Some(listed));
                }
                let size = self.files.size(&Self::blob_name(digest)).await;
                Ok(size.map(|size| Descriptor::of("", digest.clone(), size)))
            }
        }
    }

    /// The listed manifests whose subject is `subject`.
    async fn listed_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, LayoutError> {
        let mut found = Vec::new();
        for (_, listed) in self.images().await? {
            let manifest = self.read_manifest(&Reference::Digest(listed.digest.clone())).await?;
            let links = manifest.links().unwrap_or_default();
            if links.subject.is_some_and(|of| of.digest == *subject) {
                found.push(listed);
            }
        }
        Ok(found)
    }

    async fn not_found(&self, reference: &(dyn std::fmt::Display + Sync)) -> LayoutError {
        let images = self.images().await.unwrap_or_default();
        let names = images.into_iter().filter_map(|(name, _)| name).collect();
        LayoutError::NotFound { path: self.root.clone(), reference: reference.to_string(), names }
    }

    async fn read_manifest(&self, reference: &Reference) -> Result<Manifest, LayoutError> {
        let Some(found) = self.find(reference).await? else {
            return Err(self.not_found(reference).await);
        };
        let name = Self::blob_name(&found.digest);
        let path = self.files.shown(&name);
        let bytes = match self.files.read(&name).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(&found.digest).await);
            }
            Err(source) => return Err(LayoutError::Io { doing: "read", path, source }),
        };
        let media_type = Some(found.media_type.as_str()).filter(|media_type| !media_type.is_empty());
        Manifest::read(media_type, Some(&found.digest), bytes.into()).map_err(|source| match source {
            bp_artifact::resolve::ManifestError::Digest { expected, found } => {
                LayoutError::Corrupt { path, expected, found }
            }
            source => LayoutError::Manifest { path, source },
        })
    }

    async fn read_blob(&self, blob: &Descriptor) -> Result<BlobStream, LayoutError> {
        let name = Self::blob_name(&blob.digest);
        let path = self.files.shown(&name);
        let file = match self.files.open(&name).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(&blob.digest).await);
            }
            Err(source) => return Err(LayoutError::Io { doing: "read", path, source }),
        };
        let reading = Reading {
            pieces: ReaderStream::with_capacity(file, 128 << 10),
            hasher: Hasher::new(blob.digest.algorithm()),
            blob: blob.clone(),
            at: 0,
            path,
        };
        Ok(Box::pin(stream::try_unfold(reading, |reading| async {
            reading.next().await.map_err(StoreError::Layout)
        })))
    }

    async fn write_blob(&self, blob: &Descriptor, mut bytes: BlobStream) -> Result<(), PutError> {
        let failed = |error| PutError::Destination(StoreError::Layout(error));
        let path = self.writable(&blob.digest).map_err(failed)?;
        let mut partial = Partial::create(&path).await.map_err(failed)?;
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(PutError::Source)?;
            let written = partial.file.write_all(&piece).await;
            written
                .map_err(|source| failed(LayoutError::Io { doing: "write", path: path.clone(), source }))?;
        }
        partial.finish().await.map_err(failed)
    }

    /// Locks the directory against writers with another handle or in another process, until the result is dropped. On
    /// file systems that have no locks, only writers with clones of this handle are serialised.
    async fn lock_directory(&self) -> Result<Option<std::fs::File>, LayoutError> {
        let root = self.root.clone();
        let lock = move || -> io::Result<std::fs::File> {
            let directory = std::fs::File::open(root)?;
            directory.lock()?;
            Ok(directory)
        };
        match tokio::task::spawn_blocking(lock).await {
            Ok(Ok(locked)) => Ok(Some(locked)),
            Ok(Err(error)) => {
                let error = SingleLine(&error);
                tracing::warn!(%error, path = %self.root.display(), "cannot lock the layout");
                Ok(None)
            }
            Err(_) => {
                let source = io::ErrorKind::Interrupted.into();
                Err(LayoutError::Io { doing: "lock", path: self.root.clone(), source })
            }
        }
    }

    async fn list(&self, reference: &Reference, manifest: &Manifest) -> Result<(), LayoutError> {
        file::replace(&self.writable(&manifest.digest)?, &manifest.bytes).await?;
        let _held = self.index.lock().await;
        let _locked = self.lock_directory().await?;
        let mut index = self.read_index().await?;
        index.entry("schemaVersion").or_insert(json!(2));
        index.entry("mediaType").or_insert(json!(OCI_INDEX));
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
        });
        if let Reference::Tag(tag) = reference {
            let annotations = json!({ REF_NAME: tag });
            entry.as_object_mut().into_iter().for_each(|entry| {
                entry.insert("annotations".to_owned(), annotations.clone());
            });
        }
        let mut entries = match index.remove("manifests") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let digest = manifest.digest.as_str();
        entries.retain(|other| match (reference, name_of(other)) {
            (Reference::Tag(tag), Some(name)) => name != tag.as_str(),
            // An untagged entry for the same digest is redundant.
            (_, None) => other["digest"] != digest,
            (Reference::Digest(_), Some(_)) => true,
        });
        entries.push(entry);
        index.insert("manifests".to_owned(), Value::Array(entries));
        file::replace(&self.root.join("index.json"), Value::Object(index).to_string().as_bytes()).await
    }
}

/// A file being read and hashed.
struct Reading {
    pieces: ReaderStream<Take<fs::File>>,
    hasher: Hasher,
    blob: Descriptor,
    at: u64,
    path: PathBuf,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, LayoutError> {
        match self.pieces.next().await {
            Some(Ok(piece)) => {
                self.hasher.update(&piece);
                self.at = self.at.saturating_add(piece.len() as u64);
                // The last piece is returned only after verification.
                if self.at >= self.blob.size {
                    self.verify()?;
                }
                Ok(Some((piece, self)))
            }
            Some(Err(source)) => Err(LayoutError::Io { doing: "read", path: self.path, source }),
            None => self.verify().map(|()| None),
        }
    }

    fn verify(&self) -> Result<(), LayoutError> {
        let found = self.hasher.clone().finish();
        if found == self.blob.digest {
            Ok(())
        } else {
            let (path, expected) = (self.path.clone(), self.blob.digest.clone());
            Err(LayoutError::Corrupt { path, expected, found })
        }
    }
}

/// The images that a name selects.
enum Selected<'a> {
    None,
    One(&'a Descriptor),
    Several,
}

/// Selects an image by its name: the name in the layout, the full name that containerd has written, or the tag of a full
/// name as podman writes it (`docker.io/library/web:v1`).
fn select<'a>(images: &'a [(Option<String>, Descriptor)], wanted: &str) -> Selected<'a> {
    let full_name = |image: &'a Descriptor| image.annotation(CONTAINERD_NAME);
    let exact = images.iter().find(|(name, _)| name.as_deref() == Some(wanted));
    if let Some((_, image)) =
        exact.or_else(|| images.iter().find(|(_, image)| full_name(image) == Some(wanted)))
    {
        return Selected::One(image);
    }
    let has_tag = |name: &str| name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted);
    let mut tagged = images
        .iter()
        .filter(|(name, image)| name.as_deref().or_else(|| full_name(image)).is_some_and(has_tag))
        .map(|(_, image)| image);
    match tagged.next() {
        None => Selected::None,
        Some(first) if tagged.all(|other| other.digest == first.digest) => Selected::One(first),
        Some(_) => Selected::Several,
    }
}

fn several(tag: &str) -> String {
    format!("single image with the tag {tag}: use the full name")
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}
