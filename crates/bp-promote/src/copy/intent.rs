//! What is about to be published, for a caller that must know it after the process was killed.

use std::{fmt, io};

use bp_artifact::{Digest, Repository, Tag};

/// A tag of the destination that is about to point to another image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagChange {
    /// The source repository; `None` if the source is not a registry.
    pub source: Option<Repository>,
    /// The destination repository; `None` if the destination is not a registry.
    pub destination: Option<Repository>,
    /// The tag.
    pub tag: Tag,
    /// The digest that it will point to.
    pub digest: Digest,
    /// The digest that it points to now.
    pub previous: Option<Digest>,
}

/// Is notified of each tag before it moves: see
/// [`CopyOptions::publish_observer`](super::CopyOptions::publish_observer).
pub trait PublishObserver: fmt::Debug + Send + Sync {
    /// Records a change, such as in a file.
    ///
    /// # Errors
    /// When it cannot be recorded: the tag is not moved, and the copy of the image fails.
    fn before_publish(&self, change: &TagChange) -> io::Result<()>;
}
