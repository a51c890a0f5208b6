//! OCI layouts as source and destination of copies.

use bp_artifact::{Digest, Repository, Tag};
use futures_core::future::BoxFuture;

use super::{OciLayout, file};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::{BlobStream, Destination, PutError, Source, StoreError, Stored, TagList},
};

impl Source for OciLayout {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>> {
        Box::pin(async move { Ok(self.read_manifest(reference).await?) })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move { Ok(self.read_blob(blob).await?) })
    }

    fn blob_size<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move { Ok(self.files.size(&Self::blob_name(digest)).await) })
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
}

impl Destination for OciLayout {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.find(reference).await?) })
    }

    fn stored_manifest<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        Box::pin(async move { Ok(Some(self.read_manifest(&digest.clone().into()).await?)) })
    }

    fn tags(&self) -> BoxFuture<'_, Result<TagList, StoreError>> {
        Box::pin(async move {
            let names = self.images().await?.into_iter().filter_map(|(name, _)| name?.parse().ok());
            Ok(TagList::Tags(names.collect()))
        })
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.files.size(&Self::blob_name(&blob.digest)).await == Some(blob.size)) })
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
        Box::pin(async move { Ok(file::replace(&self.writable(&manifest.digest)?, &manifest.bytes).await?) })
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
}
