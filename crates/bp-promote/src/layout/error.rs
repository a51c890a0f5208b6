//! Errors of OCI layouts.

use std::{io, path::PathBuf};

use bp_artifact::{
    Digest,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};

/// An error of an OCI layout: a directory or an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The path is not an OCI layout.
    #[error("{} is not an OCI layout: {reason}", path.display())]
    NotALayout {
        /// The directory or archive.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An archive was given as a destination that is updated in place.
    #[error("{} is an archive, which cannot be changed in place: write a new archive", path.display())]
    ReadOnly {
        /// The archive.
        path: PathBuf,
    },
    /// The layout does not have the image or blob.
    #[error("{} has no {reference}{}", path.display(), Names(names))]
    NotFound {
        /// The layout.
        path: PathBuf,
        /// The requested tag or digest.
        reference: String,
        /// The tags that it has.
        names: Vec<String>,
    },
    /// The content of a file does not match the digest in its name.
    #[error("{} is corrupt: its content has the digest {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The digest in its name.
        expected: Digest,
        /// The digest of its content.
        found: Digest,
    },
    /// A file is not a valid manifest.
    #[error("{} is not a valid manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ManifestError,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// `read`, `write`, `create`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Classified for LayoutError {
    fn class(&self) -> ErrorClass {
        match self {
            LayoutError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                ErrorClass::BadInput
            }
            LayoutError::Io { .. } => ErrorClass::Unavailable,
            LayoutError::Corrupt { .. } => ErrorClass::DigestMismatch,
            _ => ErrorClass::BadInput,
        }
    }

    /// File system errors are considered permanent.
    fn is_retryable(&self) -> bool {
        false
    }
}

/// The maximum number of names in a message.
const MAX_NAMES: usize = 20;

/// ` (it has 1.0, 1.1)`, or nothing.
struct Names<'a>(&'a [String]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => match names.split_at_checked(MAX_NAMES) {
                Some((first, more)) if !more.is_empty() => {
                    write!(f, " (it has {} and {} more)", first.join(", "), more.len())
                }
                Some(_) | None => write!(f, " (it has {})", names.join(", ")),
            },
        }
    }
}
