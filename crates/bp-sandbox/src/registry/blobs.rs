//! Blobs: get, with ranges, and delete.

use std::convert::Infallible;

use futures_util::stream;
use http::{Method, Response, header, request};

use super::{
    Registry,
    error::{Answer, CONTENT_DIGEST, RegistryError, empty, set},
    store::Blob,
};
use crate::{body::Body, digest::is_digest};

impl Registry {
    pub(super) fn get_blob(&self, parts: &request::Parts, name: &str, digest: &str) -> Answer {
        let store = self.store();
        let repository = store.repositories.get(name).ok_or_else(|| RegistryError::no_repository(name))?;
        if !is_digest(digest) {
            return Err(RegistryError::bad_digest(format!("invalid digest: {digest}")));
        }
        let link = repository.blobs.get(digest).ok_or_else(|| RegistryError::no_blob(digest))?;
        if parts.method == Method::GET
            && let Some(storage) = &self.options.storage
        {
            let mut response = empty(307);
            let signed = format!("https://{storage}/{}/{name}/{digest}?X-Amz-Signature=sandbox", self.host);
            set(&mut response, header::LOCATION, &signed);
            return Ok(response);
        }
        serve(&link.blob, digest, parts, self.options.ranges)
    }

    pub(super) fn delete_blob(&self, name: &str, digest: &str) -> Answer {
        let mut store = self.store();
        let repository =
            store.repositories.get_mut(name).ok_or_else(|| RegistryError::no_repository(name))?;
        match repository.blobs.remove(digest) {
            Some(_) => Ok(empty(202)),
            None => Err(RegistryError::no_blob(digest)),
        }
    }
}

/// Serves the blob, or the requested range.
pub(super) fn serve(blob: &Blob, digest: &str, parts: &request::Parts, ranges: bool) -> Answer {
    let etag = format!("\"{digest}\"");
    if parts.headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return Ok(empty(304));
    }
    let requested = parts.headers.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| ranges);
    let (status, from, to) = match requested.and_then(|range| read_range(range, blob.size)) {
        None => (200, 0, blob.size),
        Some(Ok((from, to))) => (206, from, to),
        Some(Err(())) => {
            let range = format!("bytes */{}", blob.size);
            return Err(RegistryError::new(416, "RANGE_INVALID", "the requested range is not satisfiable")
                .with(header::CONTENT_RANGE, range));
        }
    };
    let mut response: Response<Body> = empty(status);
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::CONTENT_LENGTH, &(to - from).to_string());
    set(&mut response, header::ETAG, &etag);
    set(&mut response, CONTENT_DIGEST, digest);
    if ranges {
        set(&mut response, header::ACCEPT_RANGES, "bytes");
    }
    if status == 206 {
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {from}-{}/{}", to - 1, blob.size));
    }
    let pieces = blob.slice(from, to).into_iter().map(Ok::<_, Infallible>);
    *response.body_mut() = Body::stream(stream::iter(pieces));
    Ok(response)
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n` as a half-open range. `None` when it is not a single range, which is ignored.
fn read_range(range: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return None,
    };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ranges() {
        for (text, read) in [
            ("bytes=0-0", Some(Ok((0, 1)))),
            ("bytes=2-", Some(Ok((2, 10)))),
            ("bytes=-3", Some(Ok((7, 10)))),
            ("bytes=5-99", Some(Ok((5, 10)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=4-2", None),
            ("bytes=0-1,4-5", None),
            ("items=0-1", None),
        ] {
            assert_eq!(read_range(text, 10), read, "{text}");
        }
    }
}
