//! OCI image layouts: a directory as source and destination.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

mod error;
mod file;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bp_artifact::{Digest, Hasher, Repository, Tag};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tokio::{fs, io::AsyncWriteExt as _, sync::Mutex};
use tokio_util::io::ReaderStream;

pub use self::error::LayoutError;
use self::file::Partial;
use crate::{
    content::{Descriptor, Manifest, Reference},
    retry::Observer,
    store::{BlobStream, Destination, Holding, PutError, Source, StoreError, Stored},
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI image layout in a directory.
///
/// Files appear whole or not at all, and `index.json` names an image only when all of it is there.
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
    /// Held while `index.json` is read and replaced.
    index: Arc<Mutex<()>>,
}

impl OciLayout {
    /// Opens a layout to read from.
    ///
    /// # Errors
    /// When the directory is no OCI layout.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let layout = OciLayout { root: root.into(), index: Arc::default() };
        let wrong =
            |reason: &str| LayoutError::NotALayout { path: layout.root.clone(), reason: reason.into() };
        let marker = layout.root.join("oci-layout");
        let bytes = match fs::read(&marker).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let docker = fs::try_exists(layout.root.join("manifest.json")).await.unwrap_or(false);
                return Err(wrong(match docker {
                    true => {
                        "it is what `docker save` writes, whose digest is not the registry's; export it with \
                         `docker buildx build --output type=oci,tar=false`"
                    }
                    false => "it has no file oci-layout",
                }));
            }
            Err(source) => return Err(LayoutError::Io { doing: "read", path: marker, source }),
        };
        let version: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match version["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => Ok(layout),
            _ => Err(wrong("its imageLayoutVersion is not 1.x")),
        }
    }

    /// Opens a layout to write to; makes it when there is none.
    ///
    /// # Errors
    /// When the directory holds something else, or cannot be written.
    ///
    /// # Cancel safety
    /// A layout that was begun is finished by the next call.
    pub async fn create(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let blobs = root.join("blobs/sha256");
        let marker = root.join("oci-layout");
        if !fs::try_exists(&marker).await.unwrap_or(false) {
            if let Ok(mut entries) = fs::read_dir(&root).await
                && let Ok(Some(entry)) = entries.next_entry().await
                && entry.file_name() != "blobs"
            {
                let reason = format!("it is not empty: it has {}", entry.file_name().to_string_lossy());
                return Err(LayoutError::NotALayout { path: root, reason });
            }
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

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The images that `index.json` lists, each with its name if it has one.
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

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    async fn read_index(&self) -> Result<Map<String, Value>, LayoutError> {
        let path = self.root.join("index.json");
        let wrong = |reason| LayoutError::NotALayout { path: self.root.clone(), reason };
        match fs::read(&path).await {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| wrong(format!("its index.json: {error}")))
            }
            // A layout that was just made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(source) => Err(LayoutError::Io { doing: "read", path, source }),
        }
    }

    async fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, LayoutError> {
        let images = self.images().await?;
        match reference {
            Reference::Tag(tag) => {
                let named = images.into_iter().find(|(name, _)| name.as_deref() == Some(tag.as_str()));
                Ok(named.map(|(_, descriptor)| descriptor))
            }
            Reference::Digest(digest) => {
                if let Some((_, listed)) = images.into_iter().find(|(_, listed)| listed.digest == *digest) {
                    return Ok(Some(listed));
                }
                let size = fs::metadata(self.blob_path(digest)).await.ok().map(|metadata| metadata.len());
                Ok(size.map(|size| Descriptor::of("", digest.clone(), size)))
            }
        }
    }

    /// The listed manifests that have `subject` as theirs.
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
        let path = self.blob_path(&found.digest);
        let bytes = match fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(&found.digest).await);
            }
            Err(source) => return Err(LayoutError::Io { doing: "read", path, source }),
        };
        let told = Some(found.media_type.as_str()).filter(|told| !told.is_empty());
        Manifest::read(told, Some(&found.digest), bytes.into()).map_err(|source| match source {
            bp_artifact::ManifestError::Digest { expected, found } => {
                LayoutError::Corrupt { path, expected, found }
            }
            source => LayoutError::Manifest { path, source },
        })
    }

    async fn read_blob(&self, blob: &Descriptor) -> Result<BlobStream, LayoutError> {
        let path = self.blob_path(&blob.digest);
        let file = match fs::File::open(&path).await {
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
        let path = self.blob_path(&blob.digest);
        let failed = |error| PutError::Destination(StoreError::Layout(error));
        let mut partial = Partial::create(&path).await.map_err(failed)?;
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(PutError::Source)?;
            let written = partial.file.write_all(&piece).await;
            written
                .map_err(|source| failed(LayoutError::Io { doing: "write", path: path.clone(), source }))?;
        }
        partial.finish().await.map_err(failed)
    }

    async fn list(&self, reference: &Reference, manifest: &Manifest) -> Result<(), LayoutError> {
        file::replace(&self.blob_path(&manifest.digest), &manifest.bytes).await?;
        let _held = self.index.lock().await;
        let mut index = self.read_index().await?;
        index.entry("schemaVersion").or_insert(json!(2));
        index.entry("mediaType").or_insert(json!(INDEX));
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
        });
        if let Reference::Tag(tag) = reference {
            entry["annotations"] = json!({ REF_NAME: tag });
        }
        let mut entries = match index.remove("manifests") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let digest = manifest.digest.as_str();
        entries.retain(|other| match (reference, name_of(other)) {
            (Reference::Tag(tag), Some(name)) => name != tag.as_str(),
            // Listed without a name, it needs no place of its own any more.
            (_, None) => other["digest"] != digest,
            (Reference::Digest(_), Some(_)) => true,
        });
        entries.push(entry);
        index.insert("manifests".to_owned(), Value::Array(entries));
        file::replace(&self.root.join("index.json"), Value::Object(index).to_string().as_bytes()).await
    }
}

/// A file that is being read.
struct Reading {
    pieces: ReaderStream<fs::File>,
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
                self.at += piece.len() as u64;
                // The last piece is given only when all is right.
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
        match found == self.blob.digest {
            true => Ok(()),
            false => {
                let (path, expected) = (self.path.clone(), self.blob.digest.clone());
                Err(LayoutError::Corrupt { path, expected, found })
            }
        }
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}

impl Source for OciLayout {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn repository(&self) -> Option<&Repository> {
        None
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>> {
        Box::pin(async move { Ok(self.read_manifest(reference).await?) })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.read_blob(blob).await?) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.listed_referrers(subject).await?) })
    }

    fn attached_tags<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>> {
        Box::pin(async move {
            let base = format!("{}-{}.", subject.algorithm().name(), subject.hex());
            let names = self.images().await?.into_iter().filter_map(|(name, _)| name);
            Ok(names.filter(|name| name.starts_with(&base)).filter_map(|name| name.parse().ok()).collect())
        })
    }

    fn requests(&self) -> u64 {
        0
    }

    fn observe(&mut self, _: Observer) {}
}

impl Destination for OciLayout {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn repository(&self) -> Option<&Repository> {
        None
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.find(reference).await?) })
    }

    fn holding(&self) -> BoxFuture<'_, Result<Holding, StoreError>> {
        // Looking costs nothing here.
        Box::pin(async { Ok(Holding::Something) })
    }

    fn tags(&self) -> BoxFuture<'_, Result<Option<HashSet<Tag>>, StoreError>> {
        Box::pin(async move {
            let names = self.images().await?.into_iter().filter_map(|(name, _)| name?.parse().ok());
            Ok(Some(names.collect()))
        })
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let metadata = fs::metadata(self.blob_path(&blob.digest)).await;
            Ok(metadata.is_ok_and(|metadata| metadata.len() == blob.size))
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        _: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>> {
        Box::pin(async move {
            let bytes = source.await.map_err(PutError::Source)?;
            self.write_blob(blob, bytes).await?;
            Ok(Stored::Uploaded)
        })
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(file::replace(&self.blob_path(&manifest.digest), &manifest.bytes).await?) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.listed_referrers(subject).await?) })
    }

    fn put_referrer<'a>(
        &'a self,
        _: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let reference = Reference::Digest(manifest.digest.clone());
        Box::pin(async move { Ok(self.list(&reference, manifest).await?) })
    }

    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.list(reference, manifest).await?) })
    }

    fn requests(&self) -> u64 {
        0
    }

    fn observe(&mut self, _: Observer) {}
}

impl OciLayout {
    /// The tag of the only named image.
    ///
    /// # Errors
    /// When there is none, or more than one.
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
            _ => Err(self.not_found(&"single image: name one").await),
        }
    }
}
