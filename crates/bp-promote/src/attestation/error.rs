//! Errors of keys and attestations.

use std::path::PathBuf;

use bp_artifact::{
    Digest,
    error::{Classified, ErrorClass},
};

use super::KeyId;
use crate::store::StoreError;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a supported key.
    #[error("{origin} is not a usable key: {reason}")]
    Unsupported {
        /// Where the key is from.
        origin: String,
        /// Why.
        reason: &'static str,
    },
    /// The signer failed.
    #[error("{origin} cannot sign: {reason}")]
    Failed {
        /// The signer.
        origin: String,
        /// Why.
        reason: String,
    },
}

impl Classified for KeyError {
    fn class(&self) -> ErrorClass {
        match self {
            KeyError::Unreadable { .. } | KeyError::Unsupported { .. } => ErrorClass::BadInput,
            KeyError::Failed { .. } => ErrorClass::Unavailable,
        }
    }
}

/// Why a statement cannot be read or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// It is malformed.
    #[error("{record} is not a valid attestation: {reason}")]
    Malformed {
        /// The digest of its manifest.
        record: Digest,
        /// Why.
        reason: String,
    },
    /// None of its signatures is valid for a known key.
    #[error("no signature is valid for one of the {} known keys", known.len())]
    Unverified {
        /// The keys.
        known: Vec<KeyId>,
    },
    /// The content is not a statement of the expected form.
    #[error("it is not the expected statement: {reason}")]
    Unexpected {
        /// Why.
        reason: String,
    },
    /// There are too many.
    #[error("{image} has more than {most} referrers: statements cannot be distinguished from noise")]
    TooMany {
        /// The image.
        image: Digest,
        /// The maximum.
        most: usize,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The registry or layout.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classified for AttestationError {
    fn class(&self) -> ErrorClass {
        match self {
            AttestationError::Malformed { .. }
            | AttestationError::Unverified { .. }
            | AttestationError::Unexpected { .. }
            | AttestationError::TooMany { .. } => ErrorClass::Refused,
            AttestationError::Key(error) => error.class(),
            AttestationError::Store(error) => error.class(),
        }
    }
}
