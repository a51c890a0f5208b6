//! Multi-part uploads through Amazon ECR's own API, which reports the parts it has.
//!
//! Not tested against AWS itself, only against the sandbox's model of it.

use std::{error::Error as StdError, ops::RangeInclusive};

use aws_sdk_ecr::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use bp_artifact::{aws::AwsError, error::Classified as _};
use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;

use crate::{
    content::Descriptor,
    journal::Upload,
    registry::{error::RegistryError, repository::RepositoryClient, session::skip},
    store::{BlobStream, PutError, StoreError, Stored},
};

/// The scheme that marks an upload id in the journal, since such an upload has no URL.
const SCHEME: &str = "ecr:";

/// An upload in progress.
struct Parts<'a> {
    repository: &'a RepositoryClient,
    client: &'a Client,
    blob: &'a Descriptor,
    id: String,
    /// The offset of the next part.
    at: u64,
}

impl RepositoryClient {
    /// The Amazon ECR client, if the blob is to be uploaded in parts.
    pub(in crate::registry) fn parts_for(&self, blob: &Descriptor) -> Option<&Client> {
        let wanted = self.client.0.ecr_parts && blob.size > 0;
        self.client.0.ecr.of(self.repository.registry()).filter(|_| wanted)
    }

    /// Stores a blob in parts. Holds one part in memory.
    pub(in crate::registry) async fn put_in_parts(
        &self,
        blob: &Descriptor,
        client: &Client,
        source: BoxFuture<'_, Result<BlobStream, StoreError>>,
    ) -> Result<Stored, PutError> {
        let repository = self.repository.to_string();
        let journal = self.client.0.journal.as_ref();
        let open = journal.and_then(|journal| journal.upload(&repository, &blob.digest));
        let known = open.and_then(|Upload { location, offset }| {
            let id = location.strip_prefix(SCHEME)?.to_owned();
            (offset <= blob.size).then_some((id, offset))
        });
        // The part size of a resumed upload is not known: assume the size that ECR has always returned.
        let (id, at, size) = match known {
            Some((id, at)) => (id, at, Self::PART),
            None => {
                let (id, size) = self.initiate(client).await.map_err(destination)?;
                (id, 0, size)
            }
        };
        let mut parts = Parts { repository: self, client, blob, id, at };
        let done = parts.send_all(skip(source.await.map_err(PutError::Source)?, at), size).await;
        if let Some(journal) = journal
            && !matches!(&done, Err(PutError::Source(_)))
            && !matches!(&done, Err(PutError::Destination(error)) if error.is_retryable())
        {
            journal.close_upload(&repository, &blob.digest);
        }
        done
    }

    const PART: usize = 10 << 20;
    /// Amazon ECR rejects smaller parts, except for the last; the upper limit bounds the memory for one part.
    const PARTS: RangeInclusive<usize> = 5 << 20..=64 << 20;

    async fn initiate(&self, client: &Client) -> Result<(String, usize), RegistryError> {
        const ACTION: &str = "ecr:InitiateLayerUpload";
        let call = client.initiate_layer_upload().set_registry_id(self.account());
        let call = call.repository_name(self.repository.path()).send();
        self.context(&self.push).count();
        let answer = call.await.map_err(|error| self.failed(ACTION, error))?;
        let size = answer.part_size().and_then(|size| usize::try_from(size).ok());
        match answer.upload_id() {
            Some(id) => {
                let size = size.unwrap_or(Self::PART).clamp(*Self::PARTS.start(), *Self::PARTS.end());
                Ok((id.to_owned(), size))
            }
            None => Err(self.service(ACTION, false, "the response has no upload id".into())),
        }
    }

    fn account(&self) -> Option<String> {
        self.repository.registry().ecr().map(|(account, _)| account.to_owned())
    }

    fn failed<E>(&self, action: &'static str, error: SdkError<E>) -> RegistryError
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let error = AwsError::of(&error);
        // An upload that has expired or has other content is restarted.
        let again = ["UploadNotFoundException", "InvalidLayerPartException", "InvalidLayerException"];
        let retryable = error.kind().is_retryable() || error.code().is_some_and(|code| again.contains(&code));
        self.service(action, retryable, error.into())
    }

    fn service(
        &self,
        action: &'static str,
        retryable: bool,
        source: Box<dyn StdError + Send + Sync>,
    ) -> RegistryError {
        RegistryError::Service { action, repository: self.repository.clone(), retryable, source }
    }
}

impl Parts<'_> {
    async fn send_all(&mut self, mut stream: BlobStream, size: usize) -> Result<Stored, PutError> {
        let mut buffer = BytesMut::new();
        while let Some(piece) = stream.next().await {
            buffer.extend_from_slice(&piece.map_err(PutError::Source)?);
            while buffer.len() >= size {
                let part = buffer.split_to(size).freeze();
                self.send(part).await.map_err(destination)?;
            }
        }
        if !buffer.is_empty() {
            self.send(buffer.freeze()).await.map_err(destination)?;
        }
        self.complete().await.map_err(destination)?;
        Ok(Stored::Uploaded)
    }

    async fn send(&mut self, part: Bytes) -> Result<(), RegistryError> {
        let (first, next) = (self.at, self.at.saturating_add(part.len() as u64));
        let call = self.client.upload_layer_part().set_registry_id(self.repository.account());
        let call = call.repository_name(self.repository.repository.path()).upload_id(&self.id);
        let call = call.part_first_byte(first as i64).part_last_byte((next as i64).saturating_sub(1));
        let call = call.layer_part_blob(Blob::new(Vec::from(part)));
        self.repository.context(&self.repository.push).count();
        if let Err(error) = call.send().await {
            let error = self.repository.failed("ecr:UploadLayerPart", error);
            // ECR's state differs from the journal's: do not resume this upload again.
            self.forget();
            return Err(error);
        }
        self.at = next;
        if let Some(journal) = &self.repository.client.0.journal {
            let upload = Upload { location: format!("{SCHEME}{}", self.id), offset: next };
            journal.open_upload(&self.repository.repository.to_string(), &self.blob.digest, upload);
        }
        Ok(())
    }

    async fn complete(&self) -> Result<(), RegistryError> {
        let call = self.client.complete_layer_upload().set_registry_id(self.repository.account());
        let call = call.repository_name(self.repository.repository.path()).upload_id(&self.id);
        self.repository.context(&self.repository.push).count();
        match call.layer_digests(self.blob.digest.as_str()).send().await {
            Ok(_) => Ok(()),
            // Another client has uploaded the same layer.
            Err(error) if error.code() == Some("LayerAlreadyExistsException") => Ok(()),
            Err(error) => {
                self.forget();
                Err(self.repository.failed("ecr:CompleteLayerUpload", error))
            }
        }
    }

    fn forget(&self) {
        if let Some(journal) = &self.repository.client.0.journal {
            journal.close_upload(&self.repository.repository.to_string(), &self.blob.digest);
        }
    }
}

fn destination(error: RegistryError) -> PutError {
    PutError::Destination(StoreError::Registry(error))
}
