//! Naming what was copied: the last step, which makes it visible.

use bp_artifact::Digest;

use super::{CopyError, CopyEvent, engine::Engine};
use crate::{
    content::{Manifest, Reference},
    store::{RepositoryState, StoreError},
};

impl Engine {
    /// Whether publishing is tried before anything is looked for: where the destination is known to reject what is
    /// incomplete, its answer tells whether everything exists there.
    pub(super) fn names_first(&self, to: &Reference) -> bool {
        self.destination.capabilities().validates_references
            && !self.run.options.referrers
            && matches!(to, Reference::Tag(_))
    }

    /// Names what may be there already, where that is tried first.
    pub(super) async fn name_if_complete(&self, to: &Reference, top: &Manifest) -> Result<bool, CopyError> {
        let empty = matches!(self.known_state(), Some(RepositoryState::Empty | RepositoryState::Untagged));
        if !self.names_first(to) || empty {
            return Ok(false);
        }
        match self.destination.publish_if_complete(to, top).await {
            Ok(false) => Ok(false),
            done => self.told(to, top, done.map(drop)).await.map(|()| true),
        }
    }

    /// The last step.
    pub(super) async fn publish(&self, to: &Reference, top: &Manifest) -> Result<(), CopyError> {
        let done = self.destination.publish(to, top).await;
        self.told(to, top, done).await
    }

    /// What came of naming it.
    async fn told(
        &self,
        to: &Reference,
        top: &Manifest,
        done: Result<(), StoreError>,
    ) -> Result<(), CopyError> {
        match done {
            Ok(()) => {
                self.named(to, top);
                Ok(())
            }
            Err(error) if error.is_immutable_tag() => self.settle(to, top, error).await,
            Err(error) => Err(self.unwritable(to, error)),
        }
    }

    /// A tag that may not move is no failure when it names the image: by who came first, or by us when the answer was
    /// lost.
    async fn settle(&self, to: &Reference, top: &Manifest, error: StoreError) -> Result<(), CopyError> {
        match self.ask(to).await? {
            Some(found) if found == top.digest => {
                self.named(to, top);
                Ok(())
            }
            Some(found) => Err(self.taken(to, found, top, Some(error))),
            None => Err(self.unwritable(to, error)),
        }
    }

    fn named(&self, to: &Reference, top: &Manifest) {
        if let Reference::Tag(tag) = to {
            self.run.events.emit(CopyEvent::Tagged { tag: tag.clone(), digest: top.digest.clone() });
        }
    }

    pub(super) fn taken(
        &self,
        to: &Reference,
        found: Digest,
        top: &Manifest,
        source: Option<StoreError>,
    ) -> CopyError {
        CopyError::TagTaken {
            destination: self.destination.name(),
            tag: to.to_string(),
            found,
            wanted: top.digest.clone(),
            source: source.map(Box::new),
        }
    }
}
