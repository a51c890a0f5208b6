//! What can go wrong with an OCI layout.

use std::{io, path::PathBuf};

use bp_artifact::{
    Digest,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};

/// What went wrong with an OCI layout directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The directory holds something else.
    #[error("{} is no OCI layout: {reason}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive is written as a whole.
    #[error("{} is an archive, which is not changed in place: write a new one", path.display())]
    ReadOnly {
        /// The archive.
        path: PathBuf,
    },
    /// The layout has no such image or blob.
    #[error("{} has no {reference}{}", path.display(), Names(names))]
    NotFound {
        /// The directory.
        path: PathBuf,
        /// What was asked for.
        reference: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// A file does not hold what its name says.
    #[error("{} holds bytes with the digest {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The digest in its name.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// A file is no manifest.
    #[error("{} is no usable manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The file system.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Classified for LayoutError {
    fn class(&self) -> ErrorClass {
        match self {
            LayoutError::Io { .. } => ErrorClass::Unavailable,
            _ => ErrorClass::BadInput,
        }
    }

    /// A file system that fails once fails again.
    fn is_retryable(&self) -> bool {
        false
    }
}

/// ` (it has 1.0, 1.1)`, or nothing.
struct Names<'a>(&'a [String]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, " (it has {})", names.join(", ")),
        }
    }
}
