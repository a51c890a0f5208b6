//! Publishing a copied image under its reference: the last step, which makes it visible.

use bp_artifact::Digest;

use super::{CopyError, CopyEvent, TagChange, engine::Engine};
use crate::{
    content::{Manifest, Reference},
    store::{RepositoryState, StoreError},
};

impl Engine {
    /// The change that publishing `top` under `to` is, if somebody is to be notified of it.
    pub(super) fn tag_change(
        &self,
        to: &Reference,
        top: &Manifest,
        previous: Option<&Digest>,
    ) -> Option<TagChange> {
        let (Reference::Tag(tag), Some(_)) = (to, &self.run.options.observer) else { return None };
        Some(TagChange {
            source: self.source.repository().cloned(),
            destination: self.destination.repository().cloned(),
            tag: tag.clone(),
            digest: top.digest.clone(),
            previous: previous.cloned(),
        })
    }

    /// Notifies the observer of the change, once.
    pub(super) fn announce(&self, change: &mut Option<TagChange>) -> Result<(), CopyError> {
        let (Some(change), Some(observer)) = (change.take(), &self.run.options.observer) else {
            return Ok(());
        };
        observer.before_publish(&change).map_err(|source| CopyError::NotRecorded {
            destination: self.destination.name(),
            tag: change.tag,
            source,
        })
    }

    /// Whether publishing is tried before anything is checked: a destination that rejects manifests with missing
    /// content thereby says whether it already has everything.
    pub(super) fn publishes_first(&self, to: &Reference) -> bool {
        self.destination.capabilities().validates_references
            && !self.run.options.referrers
            && matches!(to, Reference::Tag(_))
    }

    /// Publishes the manifest right away, if its content may already exist. Returns whether it was published.
    pub(super) async fn try_publish(
        &self,
        to: &Reference,
        top: &Manifest,
        change: &mut Option<TagChange>,
    ) -> Result<bool, CopyError> {
        let empty = matches!(self.known_state(), Some(RepositoryState::Empty | RepositoryState::Untagged));
        if !self.publishes_first(to) || empty {
            return Ok(false);
        }
        self.announce(change)?;
        match self.destination.publish_if_complete(to, top).await {
            Ok(false) => Ok(false),
            done => self.finish_publish(to, top, done.map(drop)).await.map(|()| true),
        }
    }

    /// Publishes the manifest under its reference.
    pub(super) async fn publish(
        &self,
        to: &Reference,
        top: &Manifest,
        change: &mut Option<TagChange>,
    ) -> Result<(), CopyError> {
        self.announce(change)?;
        let done = self.destination.publish(to, top).await;
        self.finish_publish(to, top, done).await
    }

    /// Handles the result of publishing.
    async fn finish_publish(
        &self,
        to: &Reference,
        top: &Manifest,
        done: Result<(), StoreError>,
    ) -> Result<(), CopyError> {
        match done {
            Ok(()) => {
                self.emit_tagged(to, top);
                Ok(())
            }
            Err(error) if error.is_conflict() => self.check_conflict(to, top, error).await,
            Err(error) => Err(self.unwritable(to, error)),
        }
    }

    /// Checks what the tag points to after a conflict. It is a success if that is the image: another writer was first, or the
    /// response to an earlier attempt was lost.
    async fn check_conflict(
        &self,
        to: &Reference,
        top: &Manifest,
        error: StoreError,
    ) -> Result<(), CopyError> {
        let mut found = self.request_head(to).await?;
        if found.is_none() {
            // The registry says that the tag exists: HEAD may be answered wrongly.
            found = self.confirm(to).await?;
        }
        match found {
            Some(found) if found == top.digest => {
                self.emit_tagged(to, top);
                Ok(())
            }
            Some(found) if error.is_immutable_tag() => Err(self.tag_taken(to, found, top, Some(error))),
            Some(_) | None => Err(self.unwritable(to, error)),
        }
    }

    fn emit_tagged(&self, to: &Reference, top: &Manifest) {
        if let Reference::Tag(tag) = to {
            self.run.events.emit(CopyEvent::Tagged { tag: tag.clone(), digest: top.digest.clone() });
        }
    }

    pub(super) fn tag_taken(
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
