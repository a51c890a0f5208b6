//! Content digests: SHA-256, and SHA-512 where a client uses it.

use sha2::Digest as _;

/// The SHA-256 digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// The digest of `bytes` by the algorithm of `like`.
pub(crate) fn digest_like(like: &str, bytes: &[u8]) -> String {
    if like.starts_with("sha512:") {
        format!("sha512:{}", hex::encode(sha2::Sha512::digest(bytes)))
    } else {
        digest_of(bytes)
    }
}

/// Whether `text` is a digest by one of the registered algorithms.
pub(crate) fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 => hex,
        Some(("sha512", hex)) if hex.len() == 128 => hex,
        _ => return false,
    };
    length.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
