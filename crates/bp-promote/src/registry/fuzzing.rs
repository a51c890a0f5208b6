//! Doors for the fuzz targets, which are not there in any other build.

use http::{HeaderMap, HeaderValue, header};

use super::{blob::range_start, challenge::Challenge, lists::next_link};

/// Reads a `WWW-Authenticate` header.
pub fn challenge(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::WWW_AUTHENTICATE, value);
    if let Some(Challenge::Bearer { realm, service }) = Challenge::read(&headers) {
        let given = headers[header::WWW_AUTHENTICATE].len();
        assert!(realm.len() + service.unwrap_or_default().len() <= given);
    }
}

/// Finds the next page in a `Link` header, and goes there from a page.
pub fn link(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    if let Some(target) = next_link(text) {
        assert!(text.contains(target) && !target.contains('>'));
        let page = url::Url::parse("https://registry.example.com/v2/a/tags/list?n=2").expect("a URL");
        let _ = page.join(target);
    }
}

/// Reads a `Content-Range` header.
pub fn content_range(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    if let Some(start) = range_start(text) {
        let digits = start.to_string();
        assert!(text.contains(&digits) && text.to_ascii_lowercase().trim_start().starts_with("bytes"));
    }
}
