//! Events of a copy, emitted while it is in progress.

use std::{fmt, time::Duration};

use bp_artifact::{Digest, Tag, operation::Event};
use serde::{Deserialize, Serialize};

use super::{KeptTag, SkippedReferrer};

/// An event of a copy, emitted while it is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum CopyEvent {
    /// The source's reference was resolved to the digest that is copied.
    Resolved {
        /// The source.
        source: String,
        /// The destination.
        destination: String,
        /// The digest.
        digest: Digest,
        /// Whether the destination's reference already points to it.
        present: bool,
    },
    /// Counts of blobs and bytes. Successive events are merged when the receiver is slow.
    Progress(Progress),
    /// A blob is stored at the destination.
    Blob {
        /// The digest.
        digest: Digest,
        /// The size in bytes.
        size: u64,
        /// How it was stored.
        how: Transfer,
    },
    /// A manifest or index is stored at the destination.
    Manifest {
        /// The digest.
        digest: Digest,
        /// How it was stored.
        how: Transfer,
    },
    /// A referrer (signature, attestation, SBOM) is stored at the destination.
    Referrer {
        /// The digest of the manifest that it is attached to.
        subject: Digest,
        /// The digest of the referrer.
        digest: Digest,
        /// How it was stored.
        how: Transfer,
    },
    /// A cosign tag was not copied: the destination's tag has other content that cannot be merged.
    Kept(KeptTag),
    /// An entry in a list of referrers was not copied, because it is not a referrer.
    Skipped(SkippedReferrer),
    /// An optional feature of a registry is not used, such as the referrers API.
    Warning {
        /// `source` or `destination`.
        side: Side,
        /// The feature, and what is done instead.
        message: String,
    },
    /// An attempt failed and is retried.
    Retrying {
        /// `source` or `destination`.
        side: Side,
        /// The error with its causes, in one line.
        reason: String,
        /// The delay before the next attempt.
        #[serde(rename = "pauseMs", serialize_with = "milliseconds")]
        #[cfg_attr(feature = "schema", schemars(with = "u64"))]
        pause: Duration,
    },
    /// The tag now points to the image.
    Tagged {
        /// The tag.
        tag: Tag,
        /// The digest that it points to.
        digest: Digest,
    },
}

/// How content was stored at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transfer {
    /// It was uploaded.
    Sent,
    /// The registry mounted it from another of its repositories.
    Mounted,
    /// The destination already had it.
    Present,
}

/// A side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// The progress of a copy. The totals grow while manifests are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Progress {
    /// Blobs that are stored at the destination.
    pub blobs: u64,
    /// Blobs found so far.
    pub blobs_total: u64,
    /// Bytes of blobs that are stored at the destination or being uploaded.
    pub bytes: u64,
    /// Bytes of all blobs found so far.
    pub bytes_total: u64,
}

impl Event for CopyEvent {
    fn supersedes(&self, earlier: &Self) -> bool {
        matches!((self, earlier), (CopyEvent::Progress(_), CopyEvent::Progress(_)))
    }
}

/// One log line. Text from registries is not escaped: print it through [`bp_artifact::text`].
impl fmt::Display for CopyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyEvent::Resolved { source, destination, digest, present } => {
                let how = if *present { "already up to date" } else { "to be copied" };
                write!(f, "{}: {source} -> {destination}, {how}", digest.abbreviated())
            }
            CopyEvent::Progress(Progress { blobs, blobs_total, bytes, bytes_total }) => {
                write!(f, "{blobs}/{blobs_total} blobs, {bytes}/{bytes_total} bytes")
            }
            CopyEvent::Blob { digest, size, how } => {
                write!(f, "blob {} {how} ({size} bytes)", digest.short())
            }
            CopyEvent::Manifest { digest, how } => write!(f, "manifest {} {how}", digest.short()),
            CopyEvent::Referrer { subject, digest, how } => {
                write!(f, "referrer {} of {} {how}", digest.short(), subject.short())
            }
            CopyEvent::Kept(KeptTag { destination, tag, digest, wanted, reason }) => write!(
                f,
                "warning: {destination}:{tag} still points to {}; {} was not merged into it: {reason}",
                digest.short(),
                wanted.short()
            ),
            CopyEvent::Skipped(SkippedReferrer { source, subject, digest, reason }) => write!(
                f,
                "warning: {source} lists {} as a referrer of {}, which is not copied: {reason}",
                digest.short(),
                subject.short()
            ),
            CopyEvent::Warning { side, message } => write!(f, "warning: {side}: {message}"),
            CopyEvent::Retrying { side, reason, pause } => {
                write!(f, "{side}: {reason}; retrying in {pause:.1?}")
            }
            CopyEvent::Tagged { tag, digest } => write!(f, "{tag} points to {}", digest.short()),
        }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transfer::Sent => "sent",
            Transfer::Mounted => "mounted",
            Transfer::Present => "present",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Destination => "destination",
        })
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}
