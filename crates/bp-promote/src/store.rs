//! Traits for sources and destinations of copies: registries, OCI layouts, or custom stores.

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
    retry::{Observer, Retries, Transient},
};

/// The bytes of a blob. If they do not match the digest, the stream ends with an error before the last piece.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// An error of a source or destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An OCI layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A custom store.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the requested object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            StoreError::Registry(RegistryError::NotFound { .. })
                | StoreError::Layout(LayoutError::NotFound { .. })
        )
    }

    /// Whether the destination refused to publish because of its current state: an immutable tag, or another conflict.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, StoreError::Registry(error) if error.is_conflict())
    }

    /// Whether the destination refused to move an existing tag.
    pub(crate) fn is_immutable_tag(&self) -> bool {
        matches!(self, StoreError::Registry(error) if error.is_immutable_tag())
    }

    /// Whether the bytes did not match the digest.
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
        self.retries() != Retries::Never
    }
}

impl Transient for StoreError {
    fn retries(&self) -> Retries {
        match self {
            StoreError::Registry(error) => error.retries(),
            // File system errors are permanent, and a custom store does its own retries.
            StoreError::Layout(_) | StoreError::Other(_) => Retries::Never,
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            StoreError::Registry(error) => error.retry_after(),
            StoreError::Layout(_) | StoreError::Other(_) => None,
        }
    }
}

/// An error of a blob transfer, by side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Reading.
    #[error("failed to read from the source")]
    Source(#[source] StoreError),
    /// Writing.
    #[error("failed to write to the destination")]
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

    /// Includes errors that result from corrupted bytes, and unknown uploads.
    fn is_retryable(&self) -> bool {
        self.retries() != Retries::Never
    }
}

impl Transient for PutError {
    fn retries(&self) -> Retries {
        match self {
            PutError::Destination(StoreError::Registry(error))
                if error.has_code("DIGEST_INVALID") || error.has_code("SIZE_INVALID") =>
            {
                Retries::AtMost(2)
            }
            PutError::Destination(StoreError::Registry(error)) if error.is_lost_upload() => {
                Retries::AtMost(4)
            }
            PutError::Destination(error) | PutError::Source(error) => error.retries(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        self.inner().retry_after()
    }
}

/// What a destination repository is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepositoryState {
    /// Nothing was ever pushed: there are no manifests and no blobs.
    Empty,
    /// It has no tags and probably no manifests. It may have blobs of an interrupted copy.
    Untagged,
    /// It has tags.
    Tagged,
}

/// The result of listing a destination's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagList {
    /// The destination cannot list tags.
    Unavailable,
    /// The repository does not exist, or nothing was ever pushed to it; see [`RepositoryState::Empty`].
    NoRepository,
    /// All tags.
    Tags(HashSet<Tag>),
}

/// How a blob was stored at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// Its bytes were uploaded.
    Uploaded,
    /// The registry mounted it from another of its repositories.
    Mounted,
}

/// Guarantees of a destination. By default there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Hashes the blobs that it stores, and rejects a mismatch.
    pub checks_digests: bool,
    /// Rejects a manifest while content that it refers to is missing. Such a destination implements
    /// [`Destination::publish_if_complete`].
    pub validates_references: bool,
}

impl Capabilities {
    /// No guarantees.
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

/// A store to copy images from.
pub trait Source: Send + Sync + 'static {
    /// The name in messages. Two sources with the same name are treated as the same.
    fn name(&self) -> String;

    /// Reads and verifies a manifest or index.
    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>>;

    /// Why an image that was not found cannot be read although the source has it, such as an archived one. By default
    /// there is no such reason.
    fn explain_missing<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Option<StoreError>> {
        Box::pin(async { None })
    }

    /// Reads and verifies a blob.
    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>>;

    /// The size of a blob whose descriptor [does not state it](Descriptor::has_size). By default it is unknown, and the
    /// copy fails.
    fn blob_size<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// The manifests whose subject is `subject`.
    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>>;

    /// The repository, if the source is one of a registry: a destination in the same registry may mount its blobs.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// Reads a blob for a destination that [checks digests](Capabilities::checks_digests); verification may be skipped.
    fn unhashed_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        self.blob(blob)
    }

    /// The cosign tags of `subject`. By default none.
    fn attached_tags<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Called at the start of a run, with the counter and the observer to use.
    fn begin(&mut self, _: &RunContext) {}
}

/// A store to copy images to. Everything in it must be complete before it becomes visible.
pub trait Destination: Send + Sync + 'static {
    /// The name in messages. Two destinations with the same name are treated as the same.
    fn name(&self) -> String;

    /// The descriptor that `reference` currently points to.
    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>>;

    /// As [`head`](Self::head), which it defaults to, but by reading the manifest: called if a decision rests on the
    /// absence of a tag, and `head` may be wrong.
    fn confirm<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        self.head(reference)
    }

    /// Stores a blob from `source`, or mounts it from another repository of the same registry. `source` is awaited only
    /// if the bytes are needed.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        mount: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>>;

    /// Stores the exact bytes of a manifest under its digest.
    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Stores a manifest under `reference`: the last step, which makes an image visible.
    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The repository, if the destination is one of a registry: its blobs may be mounted into others.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// The guarantees of the destination.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// What the destination is known to have, with at most one request. Defaults to `Tagged`: everything is checked.
    fn state(&self) -> BoxFuture<'_, Result<RepositoryState, StoreError>> {
        Box::pin(async { Ok(RepositoryState::Tagged) })
    }

    /// Lists all tags, when several are needed. By default each tag is requested separately.
    fn tags(&self) -> BoxFuture<'_, Result<TagList, StoreError>> {
        Box::pin(async { Ok(TagList::Unavailable) })
    }

    /// Whether the blob exists. By default every blob is sent.
    fn has_blob<'a>(&'a self, _: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// Reads back a stored manifest; `None`, the default, if this is not possible: signatures at the destination are
    /// then not merged with those of the source.
    fn stored_manifest<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// The manifests whose subject is `subject`. By default none are listed, and all are sent.
    fn referrers<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Stores a manifest and lists it as a referrer of `subject`. By default it is [stored](Self::put_manifest) like
    /// any other manifest.
    fn put_referrer<'a>(
        &'a self,
        _: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.put_manifest(manifest)
    }

    /// For a destination that [validates references](Capabilities::validates_references): stores a manifest under a tag
    /// if all content that it refers to exists. Otherwise returns `false`, without any change.
    fn publish_if_complete<'a>(
        &'a self,
        _: &'a Reference,
        _: &'a Manifest,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }

    /// Called at the start of a run, with the counter and the observer to use.
    fn begin(&mut self, _: &RunContext) {}

    /// Called at the end of the run: nothing more will be written.
    fn finish(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Called for each warning: a sentence about an optional feature of a store that is not used.
pub type WarningObserver = Arc<dyn Fn(String) + Send + Sync>;

/// What a run passes to its source and destination.
#[derive(Clone)]
pub struct RunContext {
    requests: RequestCounter,
    observer: Observer,
    warnings: WarningObserver,
    keeps_tags: bool,
}

impl RunContext {
    pub(crate) fn new(observer: Observer, warnings: WarningObserver, keeps_tags: bool) -> Self {
        RunContext { requests: RequestCounter::default(), observer, warnings, keeps_tags }
    }

    /// The counter to increment for each request.
    pub fn requests(&self) -> &RequestCounter {
        &self.requests
    }

    /// The observer to notify of retries.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The observer to notify of warnings.
    pub fn warnings(&self) -> &WarningObserver {
        &self.warnings
    }

    /// Whether tags that this run did not create must not be moved, including the fallback tags that list referrers.
    pub fn keeps_tags(&self) -> bool {
        self.keeps_tags
    }
}

/// Counts requests. Cheap to clone; clones share the count.
#[derive(Debug, Clone, Default)]
pub struct RequestCounter(Arc<AtomicU64>);

impl RequestCounter {
    /// Counts one request.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of requests counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An image in a source or destination.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageAt<S> {
    /// The store.
    pub store: S,
    /// The tag or digest.
    pub reference: Reference,
}

impl<S> ImageAt<S> {
    /// The image `reference` in `store`.
    pub fn new(store: S, reference: impl Into<Reference>) -> Self {
        ImageAt { store, reference: reference.into() }
    }
}
