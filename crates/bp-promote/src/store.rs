//! Where images come from and go to: registries and OCI layouts.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bp_artifact::{
    Digest, Repository, Tag,
    error::{Classified, ErrorClass},
};
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
#[non_exhaustive]
pub enum RepositoryState {
    /// Nothing was ever pushed there: it has no manifests and no blobs.
    Empty,
    /// No tags, so that manifests are not to be expected. It may have blobs of a copy that was killed.
    Untagged,
    /// Images.
    Tagged,
}

/// The tags of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagList {
    /// It cannot list them.
    Unavailable,
    /// It was never pushed to, as with [`RepositoryState::Empty`].
    NoRepository,
    /// All of them.
    Tags(HashSet<Tag>),
}

/// How a blob came to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// Its bytes were sent.
    Uploaded,
    /// The registry took it from another of its repositories.
    Mounted,
}

/// What a destination guarantees. By default, nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It hashes the blobs that it stores, and rejects those that have another digest.
    pub checks_digests: bool,
    /// It rejects a manifest while something is missing that the manifest refers to. It then implements
    /// [`Destination::publish_if_complete`].
    pub validates_references: bool,
}

impl Capabilities {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`checks_digests`](Self#structfield.checks_digests).
    pub fn checks_digests(mut self, checks: bool) -> Self {
        self.checks_digests = checks;
        self
    }

    /// Sets [`validates_references`](Self#structfield.validates_references).
    pub fn validates_references(mut self, validates: bool) -> Self {
        self.validates_references = validates;
        self
    }
}

/// Where an image is read.
pub trait Source: Send + Sync + 'static {
    /// Its name in messages. Two sources with the same name are the same.
    fn name(&self) -> String;

    /// Reads a manifest or index, verified.
    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>>;

    /// Reads a blob, verified.
    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>>;

    /// The manifests that have `subject` as theirs.
    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>>;

    /// The repository, when it is one of a registry: a destination there may mount its blobs.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// Reads a blob for a destination that [checks digests](Capabilities::checks_digests): it need not be verified
    /// here, where that saves something.
    fn unhashed_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        self.blob(blob)
    }

    /// The tags under which cosign keeps what belongs to `subject`. By default, none.
    fn attached_tags<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// A run begins: requests are counted and retries are reported there.
    fn begin(&mut self, _: &RunContext) {}
}

/// Where an image is written. Everything it holds can be seen only when it is complete.
pub trait Destination: Send + Sync + 'static {
    /// Its name in messages. Two destinations with the same name are the same.
    fn name(&self) -> String;

    /// What `reference` points to now.
    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>>;

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

    /// Stores a manifest under the name that it is asked for by: the last step, which makes an image visible.
    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The repository, when it is one of a registry: its blobs may be mounted into others there.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// What it guarantees.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// What it is known to hold, found out with one request at most. By default images, so that it is asked for each.
    fn state(&self) -> BoxFuture<'_, Result<RepositoryState, StoreError>> {
        Box::pin(async { Ok(RepositoryState::Tagged) })
    }

    /// All its tags, where many are to be looked up. By default it is asked for each.
    fn tags(&self) -> BoxFuture<'_, Result<TagList, StoreError>> {
        Box::pin(async { Ok(TagList::Unavailable) })
    }

    /// Whether it has the blob. By default every blob is sent.
    fn has_blob<'a>(&'a self, _: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// Reads back a manifest that it stores; `None`, the default, where that is not possible. Signatures that a
    /// destination cannot read back are not merged with those of the source.
    fn stored_manifest<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// The manifests that have `subject` as theirs. By default none are known, and all are sent.
    fn referrers<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Stores a manifest whose subject is `subject`, so that it is listed there. By default it is
    /// [stored](Self::put_manifest) like any other.
    fn put_referrer<'a>(
        &'a self,
        _: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.put_manifest(manifest)
    }

    /// Where the destination [validates references](Capabilities::validates_references): stores a manifest under a tag
    /// if all that it refers to is there. `false` when it is not; then nothing has changed.
    fn publish_if_complete<'a>(
        &'a self,
        _: &'a Reference,
        _: &'a Manifest,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// A run begins: requests are counted and retries are reported there.
    fn begin(&mut self, _: &RunContext) {}

    /// The run is over: nothing more will be written.
    fn finish(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a run has in common with one of its sides.
#[derive(Clone)]
pub struct RunContext {
    requests: RequestCounter,
    observer: Observer,
    keeps_tags: bool,
}

impl RunContext {
    pub(crate) fn new(observer: Observer, keeps_tags: bool) -> Self {
        RunContext { requests: RequestCounter::default(), observer, keeps_tags }
    }

    /// Where each request is to be counted, for the reports.
    pub fn requests(&self) -> &RequestCounter {
        &self.requests
    }

    /// Whom to report retries to.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Whether a tag that the run has not made itself must stay, also one that lists referrers.
    pub fn keeps_tags(&self) -> bool {
        self.keeps_tags
    }
}

/// Counts requests. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct RequestCounter(Arc<AtomicU64>);

impl RequestCounter {
    /// Counts one more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An image in a source or destination.
#[derive(Debug, Clone)]
#[non_exhaustive]
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
