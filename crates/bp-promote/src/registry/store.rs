//! Registry repositories as source and destination of copies.

use std::collections::HashSet;

use bp_artifact::{Digest, Repository, Tag};
use futures_core::future::BoxFuture;

use super::{
    lists::{Pages, optional_list_retries},
    repository::RepositoryClient,
};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::{
        BlobStream, Capabilities, Destination, PutError, RepositoryState, RunContext, Source, StoreError,
        Stored, TagList,
    },
};

impl Source for RepositoryClient {
    fn name(&self) -> String {
        self.repository().to_string()
    }

    fn repository(&self) -> Option<&Repository> {
        Some(self.repository())
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>> {
        Box::pin(async move { Ok(self.manifest(reference).await?) })
    }

    #[cfg(feature = "ecr")]
    fn explain_missing<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Option<StoreError>> {
        Box::pin(async move { self.archived(reference).await.map(StoreError::from) })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.blob(blob).await?) })
    }

    fn unhashed_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.unhashed_blob(blob).await?) })
    }

    fn blob_size<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move { Ok(self.size_of_blob(digest).await?) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.referrers(subject).await?) })
    }

    fn attached_tags<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>> {
        Box::pin(async move { Ok(self.attached_tags(subject).await?) })
    }

    fn begin(&mut self, run: &RunContext) {
        *self = self.in_run(run);
    }
}

impl Destination for RepositoryClient {
    fn name(&self) -> String {
        self.repository().to_string()
    }

    fn repository(&self) -> Option<&Repository> {
        Some(self.repository())
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.head(reference).await?) })
    }

    fn confirm<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.confirm_head(reference).await?) })
    }

    fn stored_manifest<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async move { Ok(Some(self.manifest(&digest.clone().into()).await?)) })
    }

    /// Every registry checks digests, as the distribution specification requires.
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().checks_digests(true).validates_references(self.host.validates_references)
    }

    fn state(&self) -> BoxFuture<'_, Result<RepositoryState, StoreError>> {
        Box::pin(async move { Ok(self.state().await) })
    }

    fn tags(&self) -> BoxFuture<'_, Result<TagList, StoreError>> {
        Box::pin(async move {
            let listed = self.listed_tags(Pages::PAGES, optional_list_retries).await?;
            Ok(match (listed, self.state_without_tags()) {
                (Some(tags), _) => TagList::Tags(tags.into_iter().collect()),
                (None, RepositoryState::Empty) => TagList::NoRepository,
                (None, RepositoryState::Untagged | RepositoryState::Tagged) => TagList::Tags(HashSet::new()),
            })
        })
    }

    fn publish_if_complete<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.put_if_complete(reference, manifest).await?) })
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.has_blob(&blob.digest).await?) })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        mount: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>> {
        Box::pin(self.put_blob(blob, mount, source))
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.put_listed(&manifest.digest.clone().into(), manifest).await?) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.referrers(subject).await?) })
    }

    fn put_referrer<'a>(
        &'a self,
        subject: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.put_referrer(subject, manifest).await?) })
    }

    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.put_listed(reference, manifest).await?) })
    }

    fn begin(&mut self, run: &RunContext) {
        *self = self.in_run(run).for_pushes();
    }
}
