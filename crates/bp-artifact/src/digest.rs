//! Content digests (`sha256:…`, `sha512:…`): parsing, hashing and verification.

use std::{fmt, str::FromStr, sync::Arc};

use sha2::Digest as _;

use crate::parse::{ParseError, serde_as_text};

/// A hash algorithm that the OCI image specification registers.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// `sha256`, which every registry supports.
    Sha256,
    /// `sha512`, optional in the specification.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A content digest, `sha256:<64 hex digits>` or `sha512:<128 hex digits>`, in lower case.
///
/// ```
/// use bp_artifact::Digest;
///
/// let digest = Digest::sha256(b"{}");
/// assert_eq!(digest.to_string(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
/// assert_eq!(digest.short(), "44136fa355b3");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` under `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha256:") { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first twelve hex digits, for display only.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }

    /// The algorithm and the first twelve hex digits, for log lines: `sha256:44136fa355b3`. For display only.
    pub fn abbreviated(&self) -> String {
        format!("{}:{}", self.algorithm().name(), self.short())
    }

    /// The complete digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `bytes` have this digest.
    pub fn verifies(&self, bytes: impl AsRef<[u8]>) -> bool {
        Self::of(self.algorithm(), bytes) == *self
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: String| ParseError::new("a digest", text, reason);
        let Some((name, hex)) = text.split_once(':') else {
            return Err(wrong("expected sha256:<64 hex digits>".into()));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(wrong(format!("the algorithm {name:?} is not one of sha256, sha512"))),
        };
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("the digits must be 0-9 and a-f, in lower case".into()));
        }
        if hex.len() != algorithm.hex_len() {
            return Err(wrong(format!(
                "{name} takes {} hex digits, found {}",
                algorithm.hex_len(),
                hex.len()
            )));
        }
        Ok(Digest(text.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Digest);

/// Computes a [`Digest`] incrementally.
///
/// ```
/// use bp_artifact::{Digest, digest::{Algorithm, Hasher}};
///
/// let mut hasher = Hasher::new(Algorithm::Sha256);
/// hasher.update(b"{");
/// hasher.update(b"}");
/// assert_eq!(hasher.finish(), Digest::sha256("{}"));
/// ```
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// An empty hasher for `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (name, bytes) = match self.0 {
            State::Sha256(state) => ("sha256", state.finalize().to_vec()),
            State::Sha512(state) => ("sha512", state.finalize().to_vec()),
        };
        let mut text = format!("{name}:");
        for byte in bytes {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
        }
        Digest(text.into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Sha256(_) => "Hasher(sha256)",
            State::Sha512(_) => "Hasher(sha512)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_known_vectors() {
        assert_eq!(
            Digest::sha256("abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(Digest::of(Algorithm::Sha512, "abc").to_string().starts_with("sha512:ddaf35a193617aba"));
    }

    #[test]
    fn rejects_invalid_digests() {
        for (text, reason) in [
            ("", "expected sha256:<64 hex digits>"),
            ("latest", "expected sha256:<64 hex digits>"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "the algorithm \"md5\" is not one of sha256, sha512"),
            ("sha256:", "sha256 takes 64 hex digits, found 0"),
            ("sha256:ABC", "the digits must be 0-9 and a-f, in lower case"),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().reason(), reason, "{text}");
        }
    }

    #[test]
    fn hashes_incrementally_to_the_same_digest() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::sha256("abc"));
    }
}
