//! The ID of a key.

use std::fmt;

use bp_artifact::Digest;
use serde::{Deserialize, Serialize};

/// The ID of a key: the SHA-256 of the public key (SubjectPublicKeyInfo in DER), in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The ID of a public key (SubjectPublicKeyInfo in DER).
    pub(super) fn of(der: &[u8]) -> Self {
        KeyId(Digest::sha256(der).hex().to_owned())
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
