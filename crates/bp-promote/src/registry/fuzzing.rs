//! The functions behind the fuzz targets in `fuzz/`. A unit test runs them on the corpus.

use std::{
    collections::HashSet,
    fmt::{Debug, Display},
    str::FromStr,
};

use bp_artifact::{Digest, ImageRef, Registry, Repository, Tag, media_type};
use http::{HeaderMap, HeaderValue, header};

use super::{blob::range_start, challenge::Challenge, lists::next_link, session::has_bytes};
use crate::content::Manifest;

/// Reads bytes as a manifest: the digest matches the bytes, and links have no duplicates.
pub fn manifest(bytes: &[u8]) {
    for content_type in [None, Some(media_type::OCI_INDEX)] {
        let Ok(manifest) = Manifest::read(content_type, None, bytes.to_vec().into()) else { continue };
        assert!(manifest.digest.verifies(bytes));
        assert!(Manifest::read(content_type, Some(&manifest.digest), bytes.to_vec().into()).is_ok());
        let Ok(links) = manifest.links() else { continue };
        for all in [&links.blobs, &links.external, &links.manifests] {
            let digests: HashSet<_> = all.iter().map(|link| &link.digest).collect();
            assert_eq!(digests.len(), all.len());
        }
        for blob in &links.blobs {
            if let Some(data) = blob.inline() {
                assert!(blob.digest.verifies(&data) && (!blob.has_size() || blob.size == data.len() as u64));
            }
        }
    }
}

/// Parses an image reference: what parses is displayed in a form that parses to the same value.
pub fn reference(text: &[u8]) {
    fn same<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) {
        match text.parse::<T>() {
            Ok(read) => match read.to_string().parse::<T>() {
                Ok(again) => assert_eq!(again, read),
                Err(error) => panic!("the displayed form does not parse: {error}"),
            },
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    same::<ImageRef>(text);
    same::<Repository>(text);
    same::<Registry>(text);
    same::<Tag>(text);
    same::<Digest>(text);
}

/// Parses a `WWW-Authenticate` header.
pub fn challenge(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::WWW_AUTHENTICATE, value);
    if let Some(Challenge::Bearer { realm, service }) = Challenge::read(&headers) {
        let given = headers[header::WWW_AUTHENTICATE].len();
        assert!(realm.len() + service.unwrap_or_default().len() <= given);
    }
}

/// Parses a `Link` header.
pub fn link(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    if let Some(target) = next_link(text) {
        assert!(text.contains(target) && !target.contains('>'));
        let page = url::Url::parse("https://registry.example.com/v2/a/tags/list?n=2").expect("a URL");
        let _ = page.join(target);
    }
}

/// Parses a `Content-Range` header.
pub fn content_range(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    if let Some(start) = range_start(text) {
        assert!(text.contains(&start.to_string()));
        assert!(text.to_ascii_lowercase().trim_start().starts_with("bytes"));
    }
}

/// Parses the `Range` header of an upload status.
pub fn range(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    match has_bytes(text) {
        None | Some(0) => {}
        Some(has) => assert!(text.contains(&(has - 1).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 6] = [
        ("challenge", super::challenge),
        ("content_range", super::content_range),
        ("link", super::link),
        ("manifest", super::manifest),
        ("range", super::range),
        ("reference", super::reference),
    ];

    #[test]
    fn every_target_passes_on_its_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let entries = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path());
            let seeds: Vec<_> = entries.collect();
            assert!(!seeds.is_empty(), "{name} has no corpus");
            seeds.iter().for_each(|seed| target(&fs::read(seed).unwrap()));
        }
    }
}
