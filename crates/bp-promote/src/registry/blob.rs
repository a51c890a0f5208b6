//! Reading blobs: hashed while they are streamed, resumed with a `Range` request when the connection breaks.

use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode, header};
use backon::ExponentialBackoff;
use bp_artifact::{
    Digest,
    digest::Hasher,
    error::{Classified as _, chain},
};
use bytes::{Buf as _, Bytes};
use futures_util::stream;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{
    RegistryError, RepositoryClient,
    body::{Body, stalled},
    http::{Call, is_page},
    repository::text,
};
use crate::{
    content::Descriptor,
    retry::Retry,
    store::{BlobStream, StoreError},
};

impl RepositoryClient {
    /// Whether the blob exists in this repository.
    ///
    /// # Errors
    /// When the registry is unavailable, or denies access.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchCheckLayerAvailability`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        #[cfg(feature = "ecr")]
        if let Some(layers) = &self.layers
            && let Some(present) = layers.has(digest, &self.requests).await
        {
            return Ok(present);
        }
        let path = self.path(format_args!("blobs/{digest}"));
        match self.send(&self.push, &self.host.call(Method::HEAD, path.clone()), &[200]).await {
            Ok(found) if !is_page(found.headers()) => return Ok(true),
            Err(RegistryError::NotFound { .. }) => return Ok(false),
            // Some registries and proxies reject HEAD requests; other servers return a page for any path.
            Ok(_) => {}
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error),
        }
        let first_byte = self.host.call(Method::GET, path).header(header::RANGE, "bytes=0-0");
        match self.send(&self.push, &first_byte, &[200, 206]).await {
            Ok(found) => Ok(!is_page(found.headers())),
            // It is sent again, which is always permitted.
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size of a blob, if the registry states it.
    pub(super) async fn size_of_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let call = self.host.call(Method::HEAD, self.path(format_args!("blobs/{digest}")));
        let response = self.send(&self.pull, &call, &[200]).await?;
        Ok(text(response.headers(), header::CONTENT_LENGTH).and_then(|length| length.parse().ok()))
    }

    /// Reads a blob as a stream. The bytes are hashed, and the last piece is withheld until the digest is verified. If
    /// the connection breaks or stalls, reading continues from that position with a `Range` request.
    ///
    /// # Errors
    /// When the blob does not exist, or the registry is unavailable or denies access.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:GetDownloadUrlForLayer`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn blob(&self, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        self.read_blob(blob, Some(Hasher::new(blob.digest.algorithm()))).await
    }

    /// Reads a blob as [`blob`](Self::blob) does, but without hashing it, for a caller that verifies it.
    ///
    /// # Errors
    /// When the blob does not exist, or the registry is unavailable or denies access.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:GetDownloadUrlForLayer`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn unhashed_blob(&self, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        self.read_blob(blob, None).await
    }

    async fn read_blob(
        &self,
        blob: &Descriptor,
        hasher: Option<Hasher>,
    ) -> Result<BlobStream, RegistryError> {
        let call = self.host.call(Method::GET, self.path(format_args!("blobs/{}", blob.digest)));
        let mut reading = Reading {
            client: self.clone(),
            hasher,
            blob: blob.clone(),
            call,
            at: 0,
            skip: 0,
            ranges: true,
            body: None,
            delays: self.client.0.retry.delays(),
            progress: 0,
            pace: ReadPace::default(),
            span: Span::current(),
        };
        reading.open().await?;
        Ok(Box::pin(stream::try_unfold(reading, |reading| async {
            reading.next().await.map_err(StoreError::Registry)
        })))
    }
}

/// A blob being read.
struct Reading {
    client: RepositoryClient,
    call: Call,
    blob: Descriptor,
    /// `None` if the caller verifies the bytes.
    hasher: Option<Hasher>,
    /// The number of bytes returned so far.
    at: u64,
    /// The number of bytes at the start of this response that were already returned.
    skip: u64,
    /// Whether the registry has not rejected a part yet.
    ranges: bool,
    body: Option<Body>,
    /// The delays of the remaining retries.
    delays: ExponentialBackoff,
    /// The number of bytes returned since the last retry.
    progress: u64,
    pace: ReadPace,
    /// The span in which it was opened: the bytes may be read in a task of the HTTP client.
    span: Span,
}

/// How fast a blob arrives. A sender of single bytes never triggers the idle timeout.
#[derive(Default)]
struct ReadPace {
    /// The time spent waiting for data. The time in which the destination does not accept data does not count.
    waited: Duration,
    bytes: u64,
}

impl ReadPace {
    /// At least this number of bytes must arrive within this time.
    const BYTES: u64 = 16 << 10;
    const TIME: Duration = Duration::from_secs(60);

    /// Counts data that arrived after this time; returns whether it is too slow.
    fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= Self::BYTES {
            *self = ReadPace::default();
        }
        self.waited >= Self::TIME
    }
}

impl Reading {
    /// The bytes after which the retries start over. Otherwise a blob could take as many requests as it has bytes.
    const MIN_PROGRESS: u64 = 64 << 10;

    async fn open(&mut self) -> Result<(), RegistryError> {
        let mut call = self.rest();
        let mut response = self.client.send(&self.client.pull, &call, &[200, 206]).await;
        let is_refused = response.as_ref().is_err_and(|error| error.is_refusal() && !error.is_retryable());
        if is_refused && self.at > 0 && self.ranges {
            // Parts are optional, and some registries and caches reject them.
            self.ranges = false;
            call = self.rest();
            response = self.client.send(&self.client.pull, &call, &[200, 206]).await;
        }
        let response = response?;
        // A registry without range support sends the whole blob: skip what was already returned.
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let content_range = text(response.headers(), header::CONTENT_RANGE);
                content_range.and_then(|range| range_start(&range)).unwrap_or(self.at)
            }
            _ => {
                self.check_length(response.headers())?;
                0
            }
        };
        self.skip = self.at.checked_sub(start).ok_or_else(|| RegistryError::Protocol {
            at: self.call.at.clone(),
            reason: format!("the response to a request for bytes from {} starts at {start}", self.at),
        })?;
        self.body = Some(response.into_body());
        Ok(())
    }

    /// The request for the bytes that were not returned yet, or for the whole blob.
    fn rest(&self) -> Call {
        if self.at == 0 || !self.ranges {
            return self.call.clone();
        }
        // Some registries require the last position.
        let last = self.blob.size.saturating_sub(1).max(self.at);
        self.call.clone().header(header::RANGE, &format!("bytes={}-{last}", self.at))
    }

    /// Rejects a blob whose size differs from its descriptor's, before it is read.
    fn check_length(&self, headers: &HeaderMap) -> Result<(), RegistryError> {
        let length = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        match length.filter(|length| *length != self.blob.size) {
            None => Ok(()),
            Some(size) => Err(RegistryError::Protocol {
                at: self.call.at.clone(),
                reason: format!("its descriptor states {} bytes, but the blob has {size}", self.blob.size),
            }),
        }
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, RegistryError> {
        loop {
            if self.at == self.blob.size && self.body.is_none() {
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                let span = self.span.clone();
                self.open().instrument(span).await?;
                continue;
            };
            let start = Instant::now();
            let frame = body.frame().await;
            let waited = start.elapsed();
            let error = match frame {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if self.pace.is_too_slow(waited, data.len() as u64) {
                        let (bytes, time) = (self.pace.bytes, self.pace.waited);
                        return Err(RegistryError::Slow { at: self.call.at.clone(), bytes, time });
                    }
                    match self.fresh(data) {
                        Some(piece) => return self.take(piece).map(|piece| Some((piece, self))),
                        None => continue,
                    }
                }
                None if self.at == self.blob.size => {
                    // An empty blob has a digest too.
                    self.verify()?;
                    return Ok(None);
                }
                None => RegistryError::Transport {
                    at: self.call.at.clone(),
                    source: "the response body ended early".into(),
                },
                Some(Err(source)) => match stalled(source) {
                    Ok(idle) => RegistryError::Stalled { at: self.call.at.clone(), idle },
                    Err(source) => RegistryError::Transport { at: self.call.at.clone(), source },
                },
            };
            self.resume(error).await?;
        }
    }

    /// The part of `data` that was not returned yet.
    fn fresh(&mut self, mut data: Bytes) -> Option<Bytes> {
        let known = self.skip.min(data.len() as u64);
        self.skip = self.skip.saturating_sub(known);
        data.advance(known as usize);
        (!data.is_empty()).then_some(data)
    }

    fn take(&mut self, piece: Bytes) -> Result<Bytes, RegistryError> {
        self.progress = self.progress.saturating_add(piece.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.at = self.at.saturating_add(piece.len() as u64);
        // A blob that is too long fails here; the last piece is returned only after verification.
        if self.at >= self.blob.size {
            self.verify()?;
        }
        Ok(piece)
    }

    fn verify(&self) -> Result<(), RegistryError> {
        let at = self.call.at.clone();
        if let Some(hasher) = &self.hasher {
            let found = hasher.clone().finish();
            if found != self.blob.digest {
                return Err(RegistryError::Corrupt { at, expected: self.blob.digest.clone(), found });
            }
        }
        if self.at != self.blob.size {
            let (stated, size) = (self.blob.size, self.at);
            let reason = format!("its descriptor states {stated} bytes, but the response has {size}");
            return Err(RegistryError::Protocol { at, reason });
        }
        Ok(())
    }

    /// Prepares to resume after an error, unless the error is permanent or the retries are exhausted.
    async fn resume(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        if self.progress >= Self::MIN_PROGRESS {
            self.delays = self.client.client.0.retry.delays();
        }
        self.progress = 0;
        self.pace = ReadPace::default();
        if !error.is_retryable() {
            return Err(error);
        }
        let Some(delay) = self.delays.next() else { return Err(error) };
        if let Some(observer) = &self.client.observer {
            let reason = format!("{}, resuming at byte {}", chain(&error), self.at);
            observer(Retry { reason, pause: delay });
        }
        tokio::time::sleep(delay).await;
        self.body = None;
        Ok(())
    }
}

/// The start of a Content-Range: 700 for `bytes 700-999/1000`.
pub(super) fn range_start(content_range: &str) -> Option<u64> {
    let (unit, range) = content_range.trim().split_once(' ')?;
    let (start, _) = range.split_once('-')?;
    if unit.eq_ignore_ascii_case("bytes") { start.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::range_start;

    #[test]
    fn content_ranges() {
        for (header, start) in [
            ("bytes 700-999/1000", Some(700)),
            ("Bytes 0-0/*", Some(0)),
            ("bytes */1000", None),
            ("items 1-2/3", None),
            ("bytes=1-2", None),
            ("", None),
        ] {
            assert_eq!(range_start(header), start, "{header}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(header in "(bytes )?[-0-9/*a-z é]*") {
            let _ = range_start(&header);
        }
    }
}
