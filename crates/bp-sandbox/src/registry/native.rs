//! Access to the registry for the Amazon ECR API.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Manifest, Registry, TagMutability, document::Document, store::Upload};

/// A manifest or index, for the image lists of ECR.
#[derive(Debug, Clone)]
pub(crate) struct ImageRecord {
    pub(crate) manifest: Manifest,
    /// The size of the manifest, its configuration and its layers.
    pub(crate) size: u64,
    pub(crate) tags: Vec<String>,
    /// Since when it is archived.
    pub(crate) archived_at: Option<Timestamp>,
}

impl Registry {
    /// The creation time and tag mutability of the repository.
    pub(crate) fn describe(&self, name: &str) -> Option<(Timestamp, TagMutability)> {
        let store = self.store();
        let repository = store.repositories.get(name)?;
        let mutability = repository.mutability.as_ref().unwrap_or(&self.options.mutability);
        Some((repository.created_at, mutability.clone()))
    }

    /// All manifests and indexes of the repository.
    pub(crate) fn images(&self, name: &str) -> Option<Vec<ImageRecord>> {
        let store = self.store();
        let repository = store.repositories.get(name)?;
        let record = |manifest: &Manifest| {
            let content: u64 = Document::read(&manifest.bytes)
                .map(|document| document.blobs().map(|blob| blob.size).sum())
                .unwrap_or_default();
            let named = repository.tags.iter().filter(|(_, digest)| **digest == manifest.digest);
            ImageRecord {
                manifest: manifest.clone(),
                size: content + manifest.bytes.len() as u64,
                tags: named.map(|(tag, _)| tag.clone()).collect(),
                archived_at: repository.archived.get(&manifest.digest).copied(),
            }
        };
        Some(repository.manifests.values().map(record).collect())
    }

    /// The manifest of a tag or digest, also an archived one.
    pub(crate) fn stored_manifest(&self, name: &str, reference: &str) -> Option<Manifest> {
        self.store().repositories.get(name)?.stored(reference).cloned()
    }

    /// Archives an image of `repository`, as UpdateImageStorageClass does: it cannot be pulled until it is restored.
    pub fn archive(&self, repository: &str, digest: &str) {
        let now = self.clock.now();
        self.with(repository, |repository| repository.archived.insert(digest.to_owned(), now));
    }

    /// Restores an archived image. A push does so too.
    pub(crate) fn restore(&self, name: &str, digest: &str) {
        self.with(name, |repository| repository.archived.remove(digest));
    }

    /// The size of a blob of the repository.
    pub(crate) fn blob_size(&self, name: &str, digest: &str) -> Option<u64> {
        Some(self.store().repositories.get(name)?.blobs.get(digest)?.blob.size)
    }

    /// Whether all images that refer to the blob are archived.
    pub(crate) fn is_blob_archived(&self, name: &str, digest: &str) -> bool {
        let store = self.store();
        let Some(repository) =
            store.repositories.get(name).filter(|repository| !repository.archived.is_empty())
        else {
            return false;
        };
        let refers = |manifest: &&Manifest| {
            Document::read(&manifest.bytes)
                .is_some_and(|document| document.blobs().any(|blob| blob.digest == digest))
        };
        let mut images = repository.manifests.values().filter(refers).peekable();
        images.peek().is_some() && images.all(|image| repository.archived.contains_key(&image.digest))
    }

    /// Starts an upload in parts.
    pub(crate) fn initiate_upload(&self, name: &str) -> String {
        let id = format!("{:032x}", fastrand::u128(..));
        self.store().uploads.insert(id.clone(), Upload::new(name));
        id
    }

    /// The bytes received by an upload in progress, and the size of its last part.
    pub(crate) fn upload_has(&self, name: &str, id: &str) -> Option<(u64, Option<u64>)> {
        let store = self.store();
        let upload = store.uploads.get(id).filter(|upload| upload.repository == name)?;
        Some((upload.blob.size, upload.parts.last().copied()))
    }

    /// Adds a part to an upload in progress.
    pub(crate) fn append_part(&self, id: &str, part: Bytes) {
        if let Some(upload) = self.store().uploads.get_mut(id) {
            upload.hasher.update(&part);
            upload.parts.push(part.len() as u64);
            upload.blob.push(part);
        }
    }

    /// Completes an upload in parts. `false` when the content has another digest.
    pub(crate) fn complete_upload(&self, name: &str, id: &str, digest: &str) -> bool {
        self.store_upload(name, id, digest).is_ok()
    }

    /// Deletes the repository and its content. `false` when it does not exist.
    pub(crate) fn delete_repository(&self, name: &str) -> bool {
        self.store().repositories.remove(name).is_some()
    }
}
