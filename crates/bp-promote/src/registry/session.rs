//! Uploads in several requests: with a journal, an upload continues after an error or after the process was killed;
//! and a registry or a proxy may limit the size of a request.

use std::sync::Arc;

use ::http::{Method, header};
use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use url::Url;

use super::{
    RegistryError, RepositoryClient,
    error::RequestLine,
    http::Call,
    repository::{STORED, text},
    upload::{UploadSession, failed, with_digest},
};
use crate::{
    content::Descriptor,
    journal::{Journal, Upload},
    store::{BlobStream, PutError, Stored},
};

impl RepositoryClient {
    /// The journal, if an upload of this blob is recorded in it.
    pub(super) fn journal_for(&self, blob: &Descriptor) -> Option<&Journal> {
        // Amazon ECR does not report which part of an upload it has.
        let journal = self.client.0.journal.as_ref()?;
        (journal.is_large(blob.size) && self.repository.registry().ecr().is_none()).then_some(journal)
    }

    /// The upload that the journal has recorded, if the registry still has it; otherwise a new one.
    pub(super) async fn resume_session(
        &self,
        blob: &Descriptor,
        journal: &Journal,
    ) -> Result<Option<UploadSession>, RegistryError> {
        if let Some(Upload { location, .. }) = journal.upload(&self.repository.to_string(), &blob.digest)
            && let Some(session) = self.upload_status(&location).await
            && session.has <= blob.size
        {
            return Ok(Some(session));
        }
        self.open_session(blob, None).await
    }

    /// Sends the part of the blob that the registry does not have yet, in one request or in several of the size that the
    /// registry accepts, and completes the upload.
    pub(super) async fn send_session(
        &self,
        blob: &Descriptor,
        session: UploadSession,
        stream: BlobStream,
        journal: Option<&Journal>,
    ) -> Result<Stored, PutError> {
        let UploadSession { mut url, least, most, mut has } = session;
        let note = |url: &Url, offset| {
            let upload = Upload { location: url.to_string(), offset };
            if let Some(journal) = journal {
                journal.open_upload(&self.repository.to_string(), &blob.digest, upload);
            }
        };
        note(&url, has);
        let pieces = Pieces::of(skip(stream, has));
        while has < blob.size {
            let limits = [self.host.chunk(), most].into_iter().flatten();
            let left = blob.size.saturating_sub(has);
            let size = limits.min().unwrap_or(u64::MAX).min(left);
            let end = has.saturating_add(size);
            let mut call = self.upload_call(Method::PATCH, url.clone());
            call = call.header(header::CONTENT_LENGTH, &size.to_string());
            if has > 0 || size < blob.size {
                call = call.header(header::CONTENT_RANGE, &format!("{has}-{}", end.saturating_sub(1)));
            }
            // Amazon ECR, possibly behind another host name, responds with 201.
            // The last request reads to the end of the stream.
            let part = if size < left { size } else { u64::MAX };
            let sent = self.send_stream(&call, pieces.take(part), STORED).await;
            let response = sent.map_err(|error| self.in_chunks(error, size, least))?;
            if response.headers().contains_key(header::LOCATION) {
                url = self.client.0.http.target(&call, &response).map_err(failed)?;
            }
            has = end;
            note(&url, has);
        }
        let call = self.upload_call(Method::PUT, with_digest(url, blob)).header(header::CONTENT_LENGTH, "0");
        let response = self.send(&self.push, &call, STORED).await.map_err(failed)?;
        self.check_stored(&call, blob, response).await.map_err(failed)
    }

    /// An open upload, with the number of bytes that the registry has. `None` if it no longer exists.
    async fn upload_status(&self, location: &str) -> Option<UploadSession> {
        let url = Url::parse(location).ok().filter(|url| self.host.origin.admits(url))?;
        let call = self.upload_call(Method::GET, url);
        let response = self.send(&self.push, &call, &[204]).await.ok()?;
        let has = has_bytes(&text(response.headers(), header::RANGE)?)?;
        let url = self.client.0.http.target(&call, &response).unwrap_or_else(|_| call.url().clone());
        Some(UploadSession::new(url, response.headers(), has))
    }

    /// A request to an open upload. Its URL may be a secret, so the request line omits it.
    pub(super) fn upload_call(&self, method: Method, url: Url) -> Call {
        let registry = self.repository.registry().clone();
        let at = RequestLine { method, registry, path: self.path("blobs/uploads/…") };
        let call = Call::new(at, url, self.host.origin.clone());
        call.header(header::CONTENT_TYPE, "application/octet-stream")
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

/// A blob that is sent in several requests.
#[derive(Clone)]
struct Pieces(Arc<Mutex<Remaining>>);

/// The part of a blob that was not sent yet.
struct Remaining {
    stream: BlobStream,
    /// The rest of a piece that was longer than the request.
    rest: Bytes,
}

impl Pieces {
    fn of(stream: BlobStream) -> Self {
        Pieces(Arc::new(Mutex::new(Remaining { stream, rest: Bytes::new() })))
    }

    /// The next `size` bytes.
    fn take(&self, size: u64) -> BlobStream {
        Box::pin(stream::try_unfold((self.clone(), size), |(pieces, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut remaining = pieces.0.lock().await;
            let mut piece = std::mem::take(&mut remaining.rest);
            if piece.is_empty() {
                match remaining.stream.next().await {
                    Some(next) => piece = next?,
                    None => return Ok(None),
                }
            }
            if piece.len() as u64 > left {
                remaining.rest = piece.split_off(left as usize);
            }
            drop(remaining);
            let left = left.saturating_sub(piece.len() as u64);
            Ok(Some((piece, (pieces, left))))
        }))
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
            bytes = bytes.saturating_sub(known);
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
