//! Errors of a copy.

use std::{fmt, io, time::Duration};

use bp_artifact::{
    Digest, Platform, Tag,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};

use crate::store::StoreError;

/// Why a copy failed. What was copied so far remains at the destination; a rerun continues from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source has no such image.
    #[error("{reference} not found in {source_name}")]
    NoImage {
        /// The source that was searched.
        source_name: String,
        /// The tag or digest.
        reference: String,
        /// The source's error.
        source: Box<StoreError>,
    },
    /// The destination repository does not exist, and is not created on push.
    #[error("{destination} does not exist: create the repository first")]
    NoRepository {
        /// The repository.
        destination: String,
        /// The destination's error.
        source: Box<StoreError>,
    },
    /// A manifest, blob or list could not be read from the source.
    #[error("cannot read {what} from {source_name}")]
    Source {
        /// The source.
        source_name: String,
        /// The object.
        what: String,
        /// The cause.
        source: Box<StoreError>,
    },
    /// A manifest, blob or tag could not be written to the destination.
    #[error("cannot copy {what} to {destination}")]
    Destination {
        /// The destination.
        destination: String,
        /// The object.
        what: String,
        /// The cause.
        source: Box<StoreError>,
    },
    /// A manifest of the source is invalid.
    #[error("cannot copy manifest {digest}: it is invalid")]
    Manifest {
        /// The digest of the manifest.
        digest: Digest,
        /// The cause.
        source: ManifestError,
    },
    /// The image exceeds a limit of the copy: its source may be faulty or malicious.
    #[error("the image exceeds a limit at manifest {digest}: {limit}")]
    Limit {
        /// The manifest at which the limit was exceeded.
        digest: Digest,
        /// A description of the limit.
        limit: String,
    },
    /// The tag points to another image and may not be moved.
    #[error("tag {tag} of {destination} already points to {found} and may not be moved to {wanted}")]
    TagTaken {
        /// The destination.
        destination: String,
        /// The tag.
        tag: String,
        /// The digest that it points to.
        found: Digest,
        /// The digest that it was to be moved to.
        wanted: Digest,
        /// The destination's error; `None` when the conflict was found before pushing.
        source: Option<Box<StoreError>>,
    },
    /// The destination's reference was moved after the copy was planned.
    #[error("{reference} of {destination} {} after the copy was planned: create a new plan", Since(found))]
    Moved {
        /// The destination.
        destination: String,
        /// The tag or digest.
        reference: String,
        /// What it pointed to when the copy was planned.
        planned: Option<Digest>,
        /// What it points to now.
        found: Option<Digest>,
    },
    /// The destination's reference has a digest that is not that of the image.
    #[error("the source image has the digest {found}, but the destination reference requires {asked}")]
    OtherDigest {
        /// The digest in the destination's reference.
        asked: Digest,
        /// The digest of the source's image.
        found: Digest,
    },
    /// The image does not have the platform, or is not an index.
    #[error("{digest} has no platform {wanted}{}", Has(found))]
    NoPlatform {
        /// The digest of the image.
        digest: Digest,
        /// The requested platform.
        wanted: Platform,
        /// The platforms that it has.
        found: Vec<String>,
    },
    /// What the tag points to could not be recorded before it moved. It was not moved.
    #[error("cannot record what tag {tag} of {destination} points to: it was not moved")]
    NotRecorded {
        /// The destination.
        destination: String,
        /// The tag.
        tag: Tag,
        /// The cause.
        source: io::Error,
    },
    /// Platforms were selected, although the digest must be kept.
    #[error(
        "cannot select platforms: the result would not have the digest {digest}, which this copy must keep"
    )]
    DigestMustStay {
        /// The digest to keep.
        digest: Digest,
    },
    /// The time for the run is over. A response that was still awaited may have moved the tag, to the complete image.
    #[error("the copy was not complete after {} s; rerun it to resume, or increase --timeout", timeout.as_secs())]
    TimedOut {
        /// The time that was set for the run.
        timeout: Duration,
    },
    /// The caller cancelled.
    #[error("the copy was cancelled; rerun it to resume")]
    Cancelled,
}

impl Classified for CopyError {
    fn class(&self) -> ErrorClass {
        match self {
            CopyError::Source { source, .. } | CopyError::Destination { source, .. } => source.class(),
            CopyError::TimedOut { .. } | CopyError::NotRecorded { .. } => ErrorClass::Unavailable,
            CopyError::NoImage { .. }
            | CopyError::NoRepository { .. }
            | CopyError::Manifest { .. }
            | CopyError::Limit { .. }
            | CopyError::NoPlatform { .. }
            | CopyError::OtherDigest { .. } => ErrorClass::BadInput,
            CopyError::TagTaken { .. } | CopyError::DigestMustStay { .. } => ErrorClass::Refused,
            CopyError::Moved { .. } => ErrorClass::Superseded,
            CopyError::Cancelled => ErrorClass::Interrupted,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            CopyError::Source { source, .. } | CopyError::Destination { source, .. } => source.is_retryable(),
            error => matches!(error, CopyError::Cancelled | CopyError::TimedOut { .. }),
        }
    }
}

/// ` (it has linux/amd64)`, or `: it is not a multi-platform index`.
struct Has<'a>(&'a [String]);

impl fmt::Display for Has<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(": it is not a multi-platform index"),
            platforms => write!(f, " (it has {})", platforms.join(", ")),
        }
    }
}

/// How a reference changed after it was planned.
struct Since<'a>(&'a Option<Digest>);

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since(None) => f.write_str("was deleted"),
            Since(Some(found)) => write!(f, "was moved to {found}"),
        }
    }
}
