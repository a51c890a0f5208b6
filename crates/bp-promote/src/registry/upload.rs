//! Uploading blobs: in one streamed request, in several if a registry or proxy rejects that, or by a mount.

use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use bp_artifact::{Repository, error::Classified as _, sync::lock};
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{
    RegistryError, RepositoryClient,
    auth::Scope,
    body::Body,
    endpoints::request_path,
    host::Host,
    http::Call,
    repository::{STORED, check_reported, not_stored, text},
};
use crate::{
    content::Descriptor,
    journal::Journal,
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
        let journal = if mount.is_none() { self.journal_for(blob) } else { None };
        let done = self.upload(blob, mount, journal, source).await;
        if let Some(journal) = journal {
            match &done {
                // After a transient error the next attempt resumes the upload; a rejected upload cannot be resumed.
                Err(PutError::Source(_)) => {}
                Err(PutError::Destination(error)) if error.is_retryable() => {}
                _ => journal.close_upload(&self.repository.to_string(), &blob.digest),
            }
        }
        done
    }

    async fn upload(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
        journal: Option<&Journal>,
        source: BoxFuture<'_, Result<BlobStream, StoreError>>,
    ) -> Result<Stored, PutError> {
        let (session, stream) = match mount {
            Some(_) => match self.open_session(blob, mount).await.map_err(failed)? {
                None => return Ok(Stored::Mounted),
                session => (session, source.await.map_err(PutError::Source)?),
            },
            // Open the source and the upload concurrently.
            None => {
                let session = async {
                    match journal {
                        Some(journal) => self.resume_session(blob, journal).await.map_err(failed),
                        None => self.open_session(blob, None).await.map_err(failed),
                    }
                };
                let opened = async { source.await.map_err(PutError::Source) };
                tokio::try_join!(session, opened)?
            }
        };
        let Some(session) = session else { return Ok(Stored::Mounted) };
        let is_limited = session.most.is_some_and(|most| blob.size > most);
        if journal.is_some() || self.host.chunk().is_some() || is_limited {
            return self.send_session(blob, session, stream, journal).await;
        }
        let call = self.upload_call(Method::PUT, with_digest(session.url, blob));
        let call = call.header(header::CONTENT_LENGTH, &blob.size.to_string());
        let sent = self.send_stream(&call, stream, STORED).await;
        let response = sent.map_err(|error| self.in_chunks(error, blob.size, session.least))?;
        self.check_stored(&call, blob, response).await.map_err(failed)
    }

    /// Checks the response to the last request of an upload.
    pub(super) async fn check_stored(
        &self,
        call: &Call,
        blob: &Descriptor,
        response: Response<Body>,
    ) -> Result<Stored, RegistryError> {
        let is_reported = check_reported(call, response.headers(), &blob.digest)?;
        let status = response.status();
        // The body is not needed, and would be held during the check.
        drop(response);
        let is_stored = status == StatusCode::CREATED || is_reported;
        if is_stored || self.has_blob(&blob.digest).await? {
            Ok(Stored::Uploaded)
        } else {
            Err(not_stored(call, status))
        }
    }

    /// After a request of `sent` bytes was rejected because of its size or its body, the next attempt is sent in smaller
    /// requests, of at least `least` bytes.
    pub(super) fn in_chunks(&self, error: PutError, sent: u64, least: u64) -> PutError {
        match error {
            PutError::Destination(StoreError::Registry(RegistryError::Refused {
                at,
                status: status @ (405 | 413),
                errors,
            })) => {
                let chunk = match (status, &at.method) {
                    (405, &Method::PUT) => Some(self.host.require_chunks(least)),
                    (405, _) => None,
                    _ => self.host.reduce_chunk(sent, least),
                };
                failed(RegistryError::TooLarge { at, status, errors, chunk })
            }
            error => error,
        }
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
            (Err(error), None) => Err(failed(error)),
            (Ok(response), None) => Ok(response),
        }
    }

    /// A new upload of the blob, or `None` if the registry mounted it.
    pub(super) async fn open_session(
        &self,
        blob: &Descriptor,
        mount: Option<&Repository>,
    ) -> Result<Option<UploadSession>, RegistryError> {
        let mut path = self.path("blobs/uploads/");
        let mut scope = self.push.clone();
        if let Some(from) = mount {
            let from_path = request_path(from);
            let from_path = utf8_percent_encode(&from_path, NON_ALPHANUMERIC);
            path += &format!("?mount={}&from={from_path}", blob.digest);
            scope = scope.and(&Scope::pull(from));
        }
        let call = self.host.call(Method::POST, path).header(header::CONTENT_LENGTH, "0");
        let response = match self.send(&scope, &call, STORED).await {
            Ok(response) => response,
            // If the mount is refused, upload instead.
            Err(error) if mount.is_some() && !error.is_retryable() => {
                return Box::pin(self.open_session(blob, None)).await;
            }
            Err(error) => return Err(error),
        };
        if response.status() == StatusCode::CREATED && mount.is_some() {
            check_reported(&call, response.headers(), &blob.digest)?;
            return Ok(None);
        }
        let url = self.client.0.http.target(&call, &response)?;
        Ok(Some(UploadSession::new(url, response.headers(), 0)))
    }
}

/// An upload in progress.
pub(super) struct UploadSession {
    pub(super) url: Url,
    /// The minimum size of the requests, except the last one.
    pub(super) least: u64,
    /// The maximum size of the requests. It is not in the specification, but some registries state it.
    pub(super) most: Option<u64>,
    /// The number of bytes that the registry has.
    pub(super) has: u64,
}

impl UploadSession {
    /// An upload whose status is described by these headers.
    pub(super) fn new(url: Url, headers: &HeaderMap, has: u64) -> Self {
        const LEAST: HeaderName = HeaderName::from_static("oci-chunk-min-length");
        const MOST: HeaderName = HeaderName::from_static("oci-chunk-max-length");
        let number = |name| text(headers, name)?.trim().parse::<u64>().ok();
        let least = number(LEAST).unwrap_or_default();
        let most = number(MOST).map(|most| most.max(Host::LEAST_CHUNK)).filter(|most| *most >= least);
        UploadSession { url, least, most, has }
    }
}

pub(super) fn failed(error: RegistryError) -> PutError {
    PutError::Destination(StoreError::Registry(error))
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
