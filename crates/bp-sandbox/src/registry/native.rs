//! What Amazon ECR's own API tells of the registry, beyond the specification's.

use jiff::Timestamp;

use super::{Manifest, Registry, TagMutability, document::Document};

/// A manifest or index as ECR lists it.
#[derive(Debug, Clone)]
pub(crate) struct ImageRecord {
    pub(crate) manifest: Manifest,
    /// The manifest with its configuration and layers.
    pub(crate) size: u64,
    pub(crate) tags: Vec<String>,
}

impl Registry {
    /// When the repository was created, and which of its tags may move.
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
            }
        };
        Some(repository.manifests.values().map(record).collect())
    }

    /// The size of a blob of the repository.
    pub(crate) fn blob_size(&self, name: &str, digest: &str) -> Option<u64> {
        Some(self.store().repositories.get(name)?.blobs.get(digest)?.blob.size)
    }

    /// Deletes the repository with all that it holds. `false` when there is none.
    pub(crate) fn delete_repository(&self, name: &str) -> bool {
        self.store().repositories.remove(name).is_some()
    }
}
