//! Uploading blobs: in one streamed request, or by a mount.

use std::sync::{Arc, Mutex};

use ::http::{Method, Response, header};
use bp_artifact::{Repository, sync::lock};
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{
    RegistryError, RepositoryClient,
    auth::Scope,
    http::{Body, Call},
};
use crate::{
    content::Descriptor,
    store::{BlobStream, PutError, StoreError, Stored},
};

impl RepositoryClient {
    /// Stores a blob from `source`, or mounts it from another repository of the registry.
    ///
    /// # Errors
    /// When reading the source fails, or the registry rejects the blob, is unavailable or denies access.
    ///
    /// # Permissions
    /// Push. On Amazon ECR: `ecr:InitiateLayerUpload`, `ecr:UploadLayerPart`, `ecr:CompleteLayerUpload`.
    ///
    /// # Cancel safety
    /// A cancelled upload leaves nothing visible; the registry discards it.
    pub async fn put_blob(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
        source: BoxFuture<'_, Result<BlobStream, StoreError>>,
    ) -> Result<Stored, PutError> {
        if let Some(journal) = &self.client.0.journal {
            journal.begin(&self.repository.to_string());
        }
        #[cfg(feature = "ecr")]
        if let (None, Some(ecr)) = (mount, self.parts_for(blob)) {
            return self.put_in_parts(blob, ecr, source).await;
        }
        if let (None, Some(journal)) = (mount, self.journal_for(blob)) {
            return self.put_resumable(blob, journal, source).await;
        }
        let failed = |error| PutError::Destination(StoreError::Registry(error));
        let (session, stream) = match mount {
            Some(_) => match self.open_session(blob, mount).await.map_err(failed)? {
                None => return Ok(Stored::Mounted),
                session => (session, source.await.map_err(PutError::Source)?),
            },
            // Open the source and the upload concurrently.
            None => {
                let session = async { self.open_session(blob, None).await.map_err(failed) };
                let opened = async { source.await.map_err(PutError::Source) };
                tokio::try_join!(session, opened)?
            }
        };
        let Some(url) = session else { return Ok(Stored::Mounted) };
        let call = self.upload_call(Method::PUT, with_digest(url, blob));
        let call = call.header(header::CONTENT_LENGTH, &blob.size.to_string());
        self.send_stream(&call, stream, &[201]).await.map(|_| Stored::Uploaded)
    }

    /// Sends the bytes of a blob.
    pub(super) async fn send_stream(
        &self,
        call: &Call,
        stream: BlobStream,
        expected: &'static [u16],
    ) -> Result<Response<Body>, PutError> {
        // Records an error of the source: the transport only reports that the request's body failed.
        let broken: Arc<Mutex<Option<StoreError>>> = Arc::default();
        let body = body_of(stream, Arc::clone(&broken));
        let sent = self.client.stream(self.context(&self.push), call, body, expected).await;
        let broken = lock(&broken).take();
        match (sent, broken) {
            (_, Some(error)) => Err(PutError::Source(error)),
            (Err(error), None) => Err(PutError::Destination(StoreError::Registry(error))),
            (Ok(response), None) => Ok(response),
        }
    }

    /// The URL to upload the blob to, or `None` if the registry mounted it.
    pub(super) async fn open_session(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
    ) -> Result<Option<Url>, RegistryError> {
        let mut path = self.path("blobs/uploads/");
        let mut scope = self.push.clone();
        if let Some(from) = mount {
            let from_path = utf8_percent_encode(from.path(), NON_ALPHANUMERIC);
            path += &format!("?mount={}&from={from_path}", blob.digest);
            scope = scope.and(&Scope::pull(from));
        }
        let call = self.host.call(Method::POST, path).header(header::CONTENT_LENGTH, "0");
        let response = match self.send(&scope, &call, &[201, 202]).await {
            Ok(response) => response,
            // If the mount is refused, upload instead.
            Err(error) if mount.is_some() && !bp_artifact::error::Classified::is_retryable(&error) => {
                return Box::pin(self.open_session(blob, None)).await;
            }
            Err(error) => return Err(error),
        };
        if response.status() == ::http::StatusCode::CREATED && mount.is_some() {
            return Ok(None);
        }
        self.client.0.http.target(&call, &response).map(Some)
    }
}

/// The URL that completes an upload. The existing query of the Location is kept unchanged.
pub(super) fn with_digest(mut url: Url, blob: &Descriptor) -> Url {
    let digest = format!("digest={}", utf8_percent_encode(blob.digest.as_str(), NON_ALPHANUMERIC));
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{digest}"),
        _ => digest,
    };
    url.set_query(Some(&query));
    url
}

/// Converts the stream into a request body. An error of the stream is stored in `broken`.
fn body_of(stream: BlobStream, broken: Arc<Mutex<Option<StoreError>>>) -> Body {
    let frames = stream.map(move |piece| {
        piece.map(Frame::data).map_err(|error| {
            *lock(&broken) = Some(error);
            "reading the source failed".into()
        })
    });
    StreamBody::new(frames).boxed_unsync()
}
