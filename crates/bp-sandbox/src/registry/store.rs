//! Registry content: repositories with manifests, blobs and tags, and uploads in progress.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use sha2::Digest as _;

use super::{document::Document, options::TagMutability};

/// A stored manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Its digest.
    pub digest: String,
    /// The Content-Type of the push.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// When it was pushed.
    pub pushed_at: Timestamp,
}

/// The bytes of a blob, in the chunks in which they were received.
#[derive(Debug, Default)]
pub(super) struct Blob {
    pub(super) pieces: Vec<Bytes>,
    pub(super) size: u64,
}

impl Blob {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.size += piece.len() as u64;
        self.pieces.push(piece);
    }

    /// The bytes `from..to` as chunks, without copying.
    pub(super) fn slice(&self, from: u64, to: u64) -> Vec<Bytes> {
        let mut at = 0;
        let mut slices = Vec::new();
        for piece in &self.pieces {
            let end = at + piece.len() as u64;
            let (start, stop) = (from.max(at), to.min(end));
            if start < stop {
                slices.push(piece.slice((start - at) as usize..(stop - at) as usize));
            }
            at = end;
        }
        slices
    }

    pub(super) fn bytes(&self) -> Bytes {
        if let [only] = self.pieces.as_slice() {
            return only.clone();
        }
        let mut all = BytesMut::with_capacity(self.size as usize);
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.freeze()
    }
}

/// A blob in a repository, and since when.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) blob: Arc<Blob>,
    pub(super) since: Timestamp,
}

/// One repository.
pub(super) struct Repository {
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "used by the ECR API"))]
    pub(super) created_at: Timestamp,
    pub(super) mutability: Option<TagMutability>,
    pub(super) manifests: BTreeMap<String, Manifest>,
    pub(super) blobs: HashMap<String, Link>,
    pub(super) tags: BTreeMap<String, String>,
    /// The archived images, and since when: they cannot be pulled.
    pub(super) archived: BTreeMap<String, Timestamp>,
    /// The replications of each image.
    #[cfg(feature = "aws")]
    pub(super) replicated: BTreeMap<String, Vec<Replicated>>,
}

impl Repository {
    pub(super) fn new(created_at: Timestamp) -> Self {
        Repository {
            created_at,
            mutability: None,
            manifests: BTreeMap::new(),
            blobs: HashMap::new(),
            tags: BTreeMap::new(),
            archived: BTreeMap::new(),
            #[cfg(feature = "aws")]
            replicated: BTreeMap::new(),
        }
    }

    /// The manifest of a tag or digest, unless it is archived.
    pub(super) fn manifest(&self, reference: &str) -> Option<&Manifest> {
        self.stored(reference).filter(|manifest| !self.archived.contains_key(&manifest.digest))
    }

    /// The manifest of a tag or digest, also an archived one.
    pub(super) fn stored(&self, reference: &str) -> Option<&Manifest> {
        self.manifests.get(self.tags.get(reference).map_or(reference, String::as_str))
    }

    /// Whether a manifest of the repository refers to the blob.
    pub(super) fn uses(&self, digest: &str) -> bool {
        self.manifests
            .values()
            .filter_map(|manifest| Document::read(&manifest.bytes))
            .any(|document| document.blobs().any(|blob| blob.digest == digest))
    }
}

/// The replication of one image to one destination.
#[cfg(feature = "aws")]
#[derive(Debug, Clone)]
pub(super) struct Replicated {
    pub(super) region: String,
    pub(super) account: String,
    /// When it is complete; never if the destination does not exist.
    pub(super) complete_at: Option<Timestamp>,
}

/// An upload in progress.
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) blob: Blob,
    pub(super) hasher: Hasher,
    /// The sizes of the received parts (requests).
    pub(super) parts: Vec<u64>,
}

impl Upload {
    pub(super) fn new(repository: &str) -> Self {
        Upload {
            repository: repository.to_owned(),
            blob: Blob::default(),
            hasher: Hasher::default(),
            parts: Vec::new(),
        }
    }
}

/// The content of one registry.
#[derive(Default)]
pub(super) struct Store {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) uploads: HashMap<String, Upload>,
}

/// Computes SHA-256 while bytes arrive; SHA-512 is computed afterwards, if the client uses it.
#[derive(Default)]
pub(super) struct Hasher(sha2::Sha256);

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Whether the hashed content, which is `blob`, has this digest.
    pub(super) fn verifies(self, blob: &Blob, digest: &str) -> bool {
        match digest.split_once(':') {
            Some(("sha256", hex)) => hex::encode(self.0.finalize()) == hex,
            Some(("sha512", hex)) => {
                let mut hasher = sha2::Sha512::new();
                blob.pieces.iter().for_each(|piece| hasher.update(piece));
                hex::encode(hasher.finalize()) == hex
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("repository", &self.repository).field("size", &self.blob.size).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_across_chunks() {
        let mut blob = Blob::default();
        for piece in ["abc", "", "def", "g"] {
            blob.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(blob.slice(2, 5).concat(), b"cde");
        assert_eq!(blob.slice(0, 7).concat(), b"abcdefg");
        assert_eq!(blob.slice(7, 9).concat(), b"");
        assert_eq!(blob.bytes(), "abcdefg");
    }
}
