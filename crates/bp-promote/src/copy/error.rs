//! Why a copy failed.

use std::fmt;

use bp_artifact::{
    Digest, Platform,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};

use crate::store::StoreError;

/// Why a copy failed. Running it again goes on with what is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source has no such image.
    #[error("{source_name} has no {reference}")]
    NoImage {
        /// Where it was looked for.
        source_name: String,
        /// The tag or digest.
        reference: String,
        /// What the source said.
        source: Box<StoreError>,
    },
    /// The destination has no such repository, and does not make one.
    #[error("{destination} does not exist: create the repository first")]
    NoRepository {
        /// The repository.
        destination: String,
        /// What the destination said.
        source: Box<StoreError>,
    },
    /// Something could not be read.
    #[error("cannot read {what} from {source_name}")]
    Source {
        /// Where it was to be read.
        source_name: String,
        /// What was to be read.
        what: String,
        /// What happened.
        source: Box<StoreError>,
    },
    /// Something could not be written.
    #[error("cannot write {what} to {destination}")]
    Destination {
        /// Where it was to be written.
        destination: String,
        /// What was to be written.
        what: String,
        /// What happened.
        source: Box<StoreError>,
    },
    /// A manifest of the source cannot be understood.
    #[error("the manifest {digest} cannot be copied")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The image is larger than any that is copied: its source may be faulty or hostile.
    #[error("the image cannot be copied: at {digest}, {limit}")]
    Limit {
        /// The manifest that led beyond the limit.
        digest: Digest,
        /// The limit.
        limit: String,
    },
    /// The tag is taken, and may not move.
    #[error("the tag {tag} of {destination} names {found} and may not be moved to {wanted}")]
    TagTaken {
        /// Where.
        destination: String,
        /// The tag.
        tag: String,
        /// What it names.
        found: Digest,
        /// What it was to name.
        wanted: Digest,
        /// What the destination said; nothing when it was not asked.
        source: Option<Box<StoreError>>,
    },
    /// The destination's name has moved since the copy was planned.
    #[error("{reference} of {destination} {}: plan again", Since(found))]
    Moved {
        /// Where.
        destination: String,
        /// The name.
        reference: String,
        /// What it named when the copy was planned.
        planned: Option<Digest>,
        /// What it names now.
        found: Option<Digest>,
    },
    /// The destination was asked for under a digest that the source's image does not have.
    #[error("the source's image is {found}, but the destination's reference says {asked}")]
    OtherDigest {
        /// The digest in the destination's reference.
        asked: Digest,
        /// The digest of the source's image.
        found: Digest,
    },
    /// The image has no such platform, or is no index.
    #[error("{digest} has no platform {wanted}{}", Has(found))]
    NoPlatform {
        /// The image.
        digest: Digest,
        /// The platform that was asked for.
        wanted: Platform,
        /// Those that it has.
        found: Vec<String>,
    },
    /// A selection of platforms was asked for where the digest must stay.
    #[error("a selection of platforms has another digest, but this copy must keep {digest}")]
    DigestMustStay {
        /// The digest that must stay.
        digest: Digest,
    },
    /// The caller cancelled.
    #[error("the copy was cancelled; run it again to go on")]
    Cancelled,
}

impl Classified for CopyError {
    fn class(&self) -> ErrorClass {
        match self {
            CopyError::Source { source, .. } | CopyError::Destination { source, .. } => source.class(),
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
            // There is nothing wrong with it.
            error => matches!(error, CopyError::Cancelled),
        }
    }
}

/// ` (it has linux/amd64)`, or that it is no index.
struct Has<'a>(&'a [String]);

impl fmt::Display for Has<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(": it is no index of platforms"),
            platforms => write!(f, " (it has {})", platforms.join(", ")),
        }
    }
}

/// What happened to a name since it was planned with.
struct Since<'a>(&'a Option<Digest>);

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since(None) => f.write_str("was removed since it was planned"),
            Since(Some(found)) => write!(f, "was moved to {found} since it was planned"),
        }
    }
}
