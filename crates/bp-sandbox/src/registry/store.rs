//! What a registry holds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// A stored manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: String,
    /// The Content-Type that it was pushed with.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

#[derive(Debug, Default)]
struct Repository {
    manifests: HashMap<String, Manifest>,
    blobs: HashMap<String, Bytes>,
    tags: HashMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Store(Mutex<HashMap<String, Repository>>);

impl Store {
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        let repositories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let repository = repositories.get(repository)?;
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        repository.manifests.get(digest).cloned()
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let repositories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        repositories.get(repository)?.blobs.get(digest).cloned()
    }
}
