//! Test of a custom store as source and destination.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bp_artifact::{Digest, Repository, Tag};
use bp_promote::{
    CopyError, CopyOptions,
    content::{Descriptor, Manifest, Reference},
    copy,
    copy::CopyOutcome,
    store::{
        BlobStream, Destination, ImageAt, PutError, RequestCounter, RunContext, Source, StoreError, Stored,
    },
};
use bytes::Bytes;
use common::*;
use futures_core::future::BoxFuture;
use futures_util::{TryStreamExt as _, stream};

/// An in-memory store that implements only the required methods.
#[derive(Clone, Default)]
struct Memory {
    contents: Arc<Mutex<Contents>>,
    /// Counts the manifests that were read.
    read: RequestCounter,
}

#[derive(Default)]
struct Contents {
    manifests: HashMap<Digest, Manifest>,
    blobs: HashMap<Digest, Bytes>,
    tags: HashMap<Tag, Digest>,
}

impl Memory {
    fn find(&self, reference: &Reference) -> Option<Manifest> {
        let contents = self.contents.lock().unwrap();
        let digest = match reference {
            Reference::Tag(tag) => contents.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        contents.manifests.get(digest).cloned()
    }
}

fn missing(what: &dyn std::fmt::Display) -> StoreError {
    StoreError::Other(format!("memory has no {what}").into())
}

impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Manifest, StoreError>> {
        self.read.add();
        Box::pin(async move { self.find(reference).ok_or_else(|| missing(reference)) })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobStream, StoreError>> {
        Box::pin(async move {
            let bytes = self.contents.lock().unwrap().blobs.get(&blob.digest).cloned();
            let bytes = bytes.ok_or_else(|| missing(&blob.digest))?;
            Ok(Box::pin(stream::once(async { Ok(bytes) })) as BlobStream)
        })
    }

    fn referrers<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn begin(&mut self, run: &RunContext) {
        self.read = run.requests().clone();
    }
}

impl Destination for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        Box::pin(async move { Ok(self.find(reference).map(|manifest| manifest.descriptor())) })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        _: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>> {
        Box::pin(async move {
            let pieces = source.await.map_err(PutError::Source)?;
            let pieces: Vec<Bytes> = pieces.try_collect().await.map_err(PutError::Source)?;
            self.contents.lock().unwrap().blobs.insert(blob.digest.clone(), pieces.concat().into());
            Ok(Stored::Uploaded)
        })
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            self.contents.lock().unwrap().manifests.insert(manifest.digest.clone(), manifest.clone());
            Ok(())
        })
    }

    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.put_manifest(manifest).await?;
            if let Reference::Tag(tag) = reference {
                self.contents.lock().unwrap().tags.insert(tag.clone(), manifest.digest.clone());
            }
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_store_is_source_and_destination() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let memory = Memory::default();
    let here = |name: &str| ImageAt::new(memory.clone(), name.parse::<Tag>().unwrap());
    let at = |host: &str| world.client.image(&format!("{host}/shop/web:v1").parse().unwrap());
    for outcome in [CopyOutcome::Copied, CopyOutcome::Unchanged] {
        let report = copy(at(SRC), here("v1"), CopyOptions::default()).await.unwrap();
        assert_eq!((report.digest.as_str(), report.outcome), (image.digest(), outcome));
    }
    for read in [3, 1] {
        let report = copy(here("v1"), at(DST), CopyOptions::default()).await.unwrap();
        assert_eq!(report.source_requests, read, "a store counts its own requests");
    }
    world.assert_copied(&image);

    // The errors of the store are returned unchanged.
    let error = copy(here("v2"), at(DST), CopyOptions::default()).await.unwrap_err();
    assert!(matches!(error, CopyError::Source { .. }));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "memory has no v2");
}
