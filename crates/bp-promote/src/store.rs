//! Where images come from and go to: registries and OCI layouts.

use std::{collections::HashSet, pin::Pin};

use bp_artifact::{Classified, Digest, ErrorClass, Repository, Tag};
use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture};

use crate::{
    content::{Descriptor, Manifest, Reference},
    layout::LayoutError,
    registry::RegistryError,
    retry::{Observer, Transient},
};

/// The bytes of a blob. It ends in an error when they are not those that were asked for, before the last piece is
/// given.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// What went wrong with a source or destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An OCI layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A store of the caller's own.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether it means that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            StoreError::Registry(RegistryError::NotFound { .. })
                | StoreError::Layout(LayoutError::NotFound { .. })
        )
    }

    /// Whether a tag is there and may not move.
    pub(crate) fn is_immutable_tag(&self) -> bool {
        matches!(self, StoreError::Registry(error) if error.is_immutable_tag())
    }

    /// Whether the bytes were not those that were asked for.
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            StoreError::Registry(RegistryError::Corrupt { .. })
                | StoreError::Layout(LayoutError::Corrupt { .. })
        )
    }
}

impl Classified for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            StoreError::Registry(error) => error.class(),
            StoreError::Layout(error) => error.class(),
            StoreError::Other(_) => ErrorClass::Unavailable,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            StoreError::Registry(error) => error.is_retryable(),
            StoreError::Layout(error) => error.is_retryable(),
            // It knows best how often to try.
            StoreError::Other(_) => false,
        }
    }
}

impl Transient for StoreError {
    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            StoreError::Registry(error) => error.retry_after(),
            StoreError::Layout(_) | StoreError::Other(_) => None,
        }
    }
}

/// Which side of a transfer failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Reading.
    #[error("the source broke off")]
    Source(#[source] StoreError),
    /// Writing.
    #[error("the destination failed")]
    Destination(#[source] StoreError),
}

impl PutError {
    fn inner(&self) -> &StoreError {
        match self {
            PutError::Source(error) | PutError::Destination(error) => error,
        }
    }
}

impl Classified for PutError {
    fn class(&self) -> ErrorClass {
        self.inner().class()
    }

    /// Also what came of bytes that were spoilt on the way, or of an upload that the registry forgot.
    fn is_retryable(&self) -> bool {
        let spoilt = |error: &RegistryError| {
            ["DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"]
                .iter()
                .any(|code| error.has_code(code))
        };
        match self {
            PutError::Destination(StoreError::Registry(error)) if spoilt(error) => true,
            _ => self.inner().is_retryable(),
        }
    }
}

impl Transient for PutError {
    fn retry_after(&self) -> Option<std::time::Duration> {
        self.inner().retry_after()
    }
}

/// What a destination is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Nothing was ever pushed there: asking for anything is in vain.
    Nothing,
    /// No tags, so that manifests are not to be expected. Blobs of a copy that was killed may be there.
    NoTags,
    /// Images.
    Something,
}

/// How a blob came to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Its bytes were sent.
    Uploaded,
    /// The registry took it from another of its repositories.
    Mounted,
}

/// Where an image is read.
pub trait Source: Send + Sync + 'static {
    /// Its name for people.
    fn name(&self) -> String;

    /// The repository, when it is one of a registry.
    fn repository(&self) -> Option<&Repository>;

    /// Reads a manifest or index, verified.
    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>>;

    /// Reads a blob, verified.
    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>>;

    /// Reads a blob for a destination that [checks digests](Destination::checks_digests): it need not be verified
    /// here, where that saves something.
    fn unhashed_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        self.blob(blob)
    }

    /// The manifests that have `subject` as theirs.
    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>>;

    /// The tags under which cosign keeps what belongs to `subject`.
    fn attached_tags<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>>;

    /// How many requests were sent.
    fn requests(&self) -> u64;

    /// Whom to tell of retries. Starts to count requests anew.
    fn observe(&mut self, observer: Observer);
}

/// Where an image is written. Everything it holds can be seen only when it is whole.
pub trait Destination: Send + Sync + 'static {
    /// Its name for people.
    fn name(&self) -> String;

    /// The repository, when it is one of a registry.
    fn repository(&self) -> Option<&Repository>;

    /// What `reference` names now.
    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>>;

    /// Reads back a manifest that it stores; `None` where that is not possible. Signatures that a destination cannot read
    /// back are not merged with those of the source.
    fn stored_manifest<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// Refuses from now on to move a tag that was not made by this destination, also one that lists referrers.
    fn never_move_tags(&mut self) {}

    /// What it is known to hold, found out with one request at most.
    fn holding(&self) -> BoxFuture<'_, Result<Holding, StoreError>>;

    /// All its tags, or `None` when it is known to hold nothing.
    fn tags(&self) -> BoxFuture<'_, Result<Option<HashSet<Tag>>, StoreError>>;

    /// Whether the blob is there.
    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Whether it hashes the blobs that it stores, and refuses those that have another digest.
    fn checks_digests(&self) -> bool {
        false
    }

    /// Stores a blob from `source`, or by a mount from another repository of the same registry. `source` is awaited
    /// only when the bytes are needed.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        mount: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>>;

    /// Stores a manifest under its digest, byte for byte.
    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The manifests that have `subject` as theirs.
    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>>;

    /// Stores a manifest whose subject is `subject`, so that it is listed there.
    fn put_referrer<'a>(
        &'a self,
        subject: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Stores a manifest under the name that it is asked for by: the last step, which makes an image visible.
    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Whether it is known to refuse a manifest when it misses something that this refers to.
    fn refuses_gaps(&self) -> bool {
        false
    }

    /// Where the destination [refuses gaps](Self::refuses_gaps): stores a manifest under a tag if all that it refers to
    /// is there. `false` when it is not, or the destination makes no promise; then nothing has changed.
    fn publish_if_whole<'a>(
        &'a self,
        _: &'a Reference,
        _: &'a Manifest,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// The run is over: nothing more will be written.
    fn finish(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// How many requests were sent.
    fn requests(&self) -> u64;

    /// Whom to tell of retries. Starts to count requests anew.
    fn observe(&mut self, observer: Observer);
}

/// An image in a source or destination.
#[derive(Debug, Clone)]
pub struct ImageAt<S> {
    /// Where.
    pub store: S,
    /// Under which name.
    pub reference: Reference,
}

impl<S> ImageAt<S> {
    /// The image `reference` in `store`.
    pub fn new(store: S, reference: impl Into<Reference>) -> Self {
        ImageAt { store, reference: reference.into() }
    }
}
