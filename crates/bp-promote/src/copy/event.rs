//! What a copy tells while it goes on.

use std::{fmt, time::Duration};

use bp_artifact::{Digest, Tag, operation::Event};
use serde::{Deserialize, Serialize};

use super::Kept;

/// What a copy tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum CopyEvent {
    /// The source was read: this is what is copied.
    Resolved {
        /// Where it is read.
        source: String,
        /// Where it goes.
        destination: String,
        /// Its digest.
        digest: Digest,
        /// Whether the destination has it under this name already.
        present: bool,
    },
    /// How far it is. Merged when nobody reads.
    Progress(Progress),
    /// A blob is at the destination.
    Blob {
        /// Which.
        digest: Digest,
        /// Its size.
        size: u64,
        /// How it came there.
        how: Carried,
    },
    /// A manifest or index is at the destination.
    Manifest {
        /// Which.
        digest: Digest,
        /// How it came there.
        how: Carried,
    },
    /// Something that is attached to the image is at the destination.
    Referrer {
        /// What it is attached to.
        subject: Digest,
        /// Which.
        digest: Digest,
        /// How it came there.
        how: Carried,
    },
    /// Something that is attached to the image at the source was not copied: the destination has other content under its
    /// tag.
    Kept(Kept),
    /// Something failed and is tried again.
    Retrying {
        /// `source` or `destination`.
        side: Side,
        /// Why, in one line.
        reason: String,
        /// After this pause.
        #[serde(rename = "pauseMs", serialize_with = "milliseconds")]
        pause: Duration,
    },
    /// The tag names the image.
    Tagged {
        /// The tag.
        tag: Tag,
        /// What it names.
        digest: Digest,
    },
}

/// How content came to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Carried {
    /// It was sent.
    Sent,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was there.
    Present,
}

/// A side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Side {
    /// Where it is read.
    Source,
    /// Where it is written.
    Destination,
}

/// How far a copy is. The totals grow while it is found out what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Progress {
    /// Blobs that are at the destination.
    pub blobs: u64,
    /// Blobs that were found so far.
    pub blobs_total: u64,
    /// Bytes of blobs that are at the destination or under way to it.
    pub bytes: u64,
    /// Bytes of all blobs that were found so far.
    pub bytes_total: u64,
}

impl Event for CopyEvent {
    fn supersedes(&self, earlier: &Self) -> bool {
        matches!((self, earlier), (CopyEvent::Progress(_), CopyEvent::Progress(_)))
    }
}

/// One entry of a log. What it quotes of registries is not made safe for a terminal: print it through
/// [`bp_artifact::text`].
impl fmt::Display for CopyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyEvent::Resolved { source, destination, digest, present } => {
                let how = if *present { "there already" } else { "new there" };
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
            CopyEvent::Kept(Kept { destination, tag, digest, wanted, reason }) => write!(
                f,
                "warning: {destination}:{tag} still points to {}; {} was not merged into it: {reason}",
                digest.short(),
                wanted.short()
            ),
            CopyEvent::Retrying { side, reason, pause } => {
                write!(f, "{side}: {reason}; retrying in {pause:?}")
            }
            CopyEvent::Tagged { tag, digest } => write!(f, "{tag} points to {}", digest.short()),
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carried::Sent => "sent",
            Carried::Mounted => "mounted",
            Carried::Present => "present",
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
