//! Resumable uploads: with a journal, an upload continues after an error or after the process was killed.

use ::http::{Method, header};
use bp_artifact::error::Classified as _;
use bytes::Buf as _;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use url::Url;

use super::{
    RegistryError, RepositoryClient, error::RequestLine, http::Call, repository::text, upload::with_digest,
};
use crate::{
    content::Descriptor,
    journal::{Journal, Upload},
    store::{BlobStream, PutError, StoreError, Stored},
};

impl RepositoryClient {
    /// The journal, if an upload of this blob is recorded in it.
    pub(super) fn journal_for(&self, blob: &Descriptor) -> Option<&Journal> {
        // Amazon ECR does not report which part of an upload it has.
        let journal = self.client.0.journal.as_ref()?;
        (journal.is_large(blob.size) && self.repository.registry().ecr().is_none()).then_some(journal)
    }

    /// Stores a blob: uploads the part that the registry does not have yet, and completes the upload.
    pub(super) async fn put_resumable(
        &self,
        blob: &Descriptor,
        journal: &Journal,
        source: BoxFuture<'_, Result<BlobStream, StoreError>>,
    ) -> Result<Stored, PutError> {
        let repository = self.repository.to_string();
        let done = self.resume_upload(blob, journal, &repository, source).await;
        match &done {
            // After a transient error the next attempt resumes the upload; a rejected upload cannot be resumed.
            Err(PutError::Source(_)) => {}
            Err(PutError::Destination(error)) if error.is_retryable() => {}
            _ => journal.close_upload(&repository, &blob.digest),
        }
        done
    }

    async fn resume_upload(
        &self,
        blob: &Descriptor,
        journal: &Journal,
        repository: &str,
        source: BoxFuture<'_, Result<BlobStream, StoreError>>,
    ) -> Result<Stored, PutError> {
        let failed = |error| PutError::Destination(StoreError::Registry(error));
        let open = async {
            if let Some(Upload { location, .. }) = journal.upload(repository, &blob.digest)
                && let Some((url, has)) = self.upload_status(&location).await
                && has <= blob.size
            {
                return Ok((url, has));
            }
            let url = self.open_session(blob, None).await.map_err(failed)?;
            Ok((url.ok_or_else(|| failed(self.no_mount()))?, 0))
        };
        let opened = async { source.await.map_err(PutError::Source) };
        let ((mut url, has), stream) = tokio::try_join!(open, opened)?;
        let note = |url: &Url, offset| {
            let upload = Upload { location: url.to_string(), offset };
            journal.open_upload(repository, &blob.digest, upload);
        };
        note(&url, has);
        if has < blob.size {
            let mut call = self.upload_call(Method::PATCH, url);
            call = call.header(header::CONTENT_LENGTH, &(blob.size - has).to_string());
            if has > 0 {
                call = call.header(header::CONTENT_RANGE, &format!("{has}-{}", blob.size - 1));
            }
            // Amazon ECR, possibly behind another host name, responds with 201.
            let response = self.send_stream(&call, skip(stream, has), &[201, 202]).await?;
            url = self.client.0.http.target(&call, &response).map_err(failed)?;
            note(&url, blob.size);
        }
        let call = self.upload_call(Method::PUT, with_digest(url, blob)).header(header::CONTENT_LENGTH, "0");
        self.send(&self.push, &call, &[201]).await.map_err(failed)?;
        Ok(Stored::Uploaded)
    }

    /// The current URL of an open upload, and the number of bytes that the registry has. `None` if it no longer exists.
    async fn upload_status(&self, location: &str) -> Option<(Url, u64)> {
        let url = Url::parse(location).ok().filter(|url| self.host.origin.admits(url))?;
        let call = self.upload_call(Method::GET, url);
        let response = self.send(&self.push, &call, &[204]).await.ok()?;
        let has = has_bytes(&text(response.headers(), header::RANGE)?)?;
        Some((self.client.0.http.target(&call, &response).unwrap_or_else(|_| call.url().clone()), has))
    }

    /// A request to an open upload. Its URL may be a secret, so the request line omits it.
    pub(super) fn upload_call(&self, method: Method, url: Url) -> Call {
        let registry = self.repository.registry().clone();
        let at = RequestLine { method, registry, path: self.path("blobs/uploads/…") };
        let call = Call::new(at, url, self.host.origin.clone());
        call.header(header::CONTENT_TYPE, "application/octet-stream")
    }

    fn no_mount(&self) -> RegistryError {
        let at = self.host.call(Method::POST, self.path("blobs/uploads/")).at;
        RegistryError::Protocol { at, reason: "it mounted a blob instead of starting an upload".to_owned() }
    }
}

/// The number of bytes in the `Range` of an upload: `0-1023`, as in the specification, or `bytes=0-1023`.
pub(super) fn has_bytes(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    match (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?) {
        // Zero bytes and one byte have the same range.
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        // An upload that does not start at 0 cannot be resumed.
        _ => None,
    }
}

/// Drops the first bytes of the stream. They are still read, so that the digest covers them.
pub(super) fn skip(stream: BlobStream, mut bytes: u64) -> BlobStream {
    if bytes == 0 {
        return stream;
    }
    Box::pin(stream.filter_map(move |piece| {
        let rest = piece.map(|mut piece| {
            let known = bytes.min(piece.len() as u64);
            bytes -= known;
            piece.advance(known as usize);
            (!piece.is_empty()).then_some(piece)
        });
        std::future::ready(rest.transpose())
    }))
}

#[cfg(test)]
mod tests {
    use super::has_bytes;

    #[test]
    fn parses_upload_ranges() {
        for (range, has) in [
            ("0-1023", Some(1024)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("0-18446744073709551615", None),
            ("5-9", None),
            ("0--1", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(has_bytes(range), has, "{range}");
        }
    }
}
