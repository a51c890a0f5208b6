//! A repository of a registry as source and destination of copies.

use std::collections::HashSet;

use bp_artifact::{Digest, Repository, Tag};
use futures_core::future::BoxFuture;

use super::repository::RepositoryClient;
use crate::{
    content::{Descriptor, Manifest, Reference},
    retry::Observer,
    store::{BlobStream, Destination, Holding, PutError, Source, StoreError, Stored},
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

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.blob(blob).await?) })
    }

    fn unhashed_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.unhashed_blob(blob).await?) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.referrers(subject).await?) })
    }

    fn attached_tags<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Tag>, StoreError>> {
        Box::pin(async move { Ok(self.attached_tags(subject).await?) })
    }

    fn requests(&self) -> u64 {
        self.requests()
    }

    fn observe(&mut self, observer: Observer) {
        *self = self.observed(observer);
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

    fn stored_manifest<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async move { Ok(Some(self.manifest(&digest.clone().into()).await?)) })
    }

    fn never_move_tags(&mut self) {
        self.keeps_lists = true;
    }

    fn holding(&self) -> BoxFuture<'_, Result<Holding, StoreError>> {
        Box::pin(async move { Ok(self.holding().await?) })
    }

    fn tags(&self) -> BoxFuture<'_, Result<Option<HashSet<Tag>>, StoreError>> {
        Box::pin(async move {
            Ok(match (self.listed_tags().await?, self.nothing()) {
                (Some(tags), _) => Some(tags.into_iter().collect()),
                (None, Holding::Nothing) => None,
                (None, _) => Some(HashSet::new()),
            })
        })
    }

    fn refuses_gaps(&self) -> bool {
        self.refuses_gaps()
    }

    fn publish_if_whole<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.put_if_whole(reference, manifest).await?) })
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.has_blob(&blob.digest).await?) })
    }

    /// As the distribution specification asks of every registry.
    fn checks_digests(&self) -> bool {
        true
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
        Box::pin(async move { Ok(self.put_manifest(&manifest.digest.clone().into(), manifest).await?) })
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
        Box::pin(async move { Ok(self.put_manifest(reference, manifest).await?) })
    }

    fn requests(&self) -> u64 {
        self.requests()
    }

    fn observe(&mut self, observer: Observer) {
        *self = self.observed(observer);
    }
}
