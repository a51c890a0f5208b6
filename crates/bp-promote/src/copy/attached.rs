//! Copying referrers of an image: signatures, attestations, SBOMs, and their own referrers.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bp_artifact::{Digest, Tag};
use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use super::{
    CopyError, KeptTag, SkippedReferrer, Transfer,
    engine::Engine,
    signatures::{self, Union},
    walk::Walk,
};
use crate::content::{Manifest, Reference};

/// The image whose referrers are copied.
struct Root<'a> {
    top: &'a Manifest,
    /// Set once the destination has the image, which must precede its referrers.
    present: OnceCell<()>,
    walk: &'a Walk,
}

/// The referrers and cosign tags of one manifest.
pub(super) struct Attached {
    pub(super) referrers: Vec<Digest>,
    /// The cosign tags of the manifest (`sha256-<hex>.sig`, `.att`, `.sbom`).
    pub(super) tags: Vec<Tag>,
    /// The referrers that the destination lists.
    pub(super) present: HashSet<Digest>,
}

/// What a cosign tag points to at the destination.
pub(super) enum Tagged {
    /// The tag does not exist.
    Absent,
    /// The same manifest as at the source.
    Equal,
    /// Another manifest.
    Other(Digest, Union),
}

impl Engine {
    /// Copies the referrers of `top` and of its children, then the referrers of those, and so on. Each manifest is
    /// visited once, so that a cycle ends. `present`: whether the destination already has `top`.
    pub(super) async fn copy_attached(
        self: &Arc<Self>,
        top: &Manifest,
        present: bool,
        walk: &Walk,
    ) -> Result<(), CopyError> {
        let root = Root { top, present: OnceCell::new_with(present.then_some(())), walk };
        let mut seen = HashSet::new();
        let mut level = self.members(top).await?;
        while !level.is_empty() {
            let new: Vec<Digest> = level.drain(..).filter(|subject| seen.insert(subject.clone())).collect();
            let found = try_join_all(new.iter().map(|subject| self.attached_to(subject, &root))).await?;
            level = found.concat();
        }
        Ok(())
    }

    /// Copies the referrers of one manifest; returns their digests.
    async fn attached_to(
        self: &Arc<Self>,
        subject: &Digest,
        root: &Root<'_>,
    ) -> Result<Vec<Digest>, CopyError> {
        let Attached { referrers, tags, present } = self.attached(subject, root.walk).await?;
        let referrers = referrers.iter().map(|referrer| async {
            let how = if present.contains(referrer) {
                Transfer::Present
            } else if self.copy_referrer(subject, referrer, root).await? {
                Transfer::Sent
            } else {
                return Ok(None);
            };
            self.run.tally.referrer(subject, referrer, how);
            Ok::<_, CopyError>(Some(referrer.clone()))
        });
        let tags = tags.into_iter().map(|tag| self.copy_tag(subject, tag, root.walk));
        let (found, tagged) = try_join(try_join_all(referrers), try_join_all(tags)).await?;
        let mut found: Vec<Digest> = found.into_iter().flatten().collect();
        // An SBOM under a tag may itself be signed.
        found.extend(tagged.into_iter().flatten());
        Ok(found)
    }

    /// The referrers of one manifest at the source and at the destination, with one list request to each.
    pub(super) async fn attached(&self, subject: &Digest, walk: &Walk) -> Result<Attached, CopyError> {
        let (referrers, tags) = {
            let _permit = self.run.lookups.acquire().await;
            let lists = try_join(self.source.referrers(subject), self.source.attached_tags(subject));
            let (referrers, tags) = lists.await.map_err(|source| self.unreadable(subject, source))?;
            // Only the digests are kept, since a list may be large. A referrer that is its own subject is ignored: it
            // would be a cycle.
            let digests = referrers.into_iter().map(|referrer| referrer.digest);
            (digests.filter(|digest| digest != subject).collect::<Vec<_>>(), tags)
        };
        walk.count_manifests(referrers.len().saturating_add(tags.len()), subject)?;
        let present: HashSet<Digest> = if referrers.is_empty() || self.is_empty() {
            HashSet::new()
        } else {
            let _permit = self.run.lookups.acquire().await;
            let present = self.destination.referrers(subject).await;
            let present = present.map_err(|source| self.unwritable(subject, source))?;
            present.into_iter().map(|referrer| referrer.digest).collect()
        };
        Ok(Attached { referrers, tags, present })
    }

    /// Reads a listed referrer. A list may be outdated or belong to something else: `None`, with a report, if the
    /// manifest does not exist or does not refer to the subject.
    pub(super) async fn referrer_manifest(
        &self,
        subject: &Digest,
        referrer: &Digest,
    ) -> Result<Option<Manifest>, CopyError> {
        let reference = Reference::Digest(referrer.clone());
        let reason = match self.source.manifest(&reference).await {
            Ok(manifest) if manifest.subject().as_ref() == Some(subject) => return Ok(Some(manifest)),
            Ok(_) => "it does not refer to that subject",
            Err(source) if source.is_not_found() => match self.source.explain_missing(&reference).await {
                // A signature that cannot be read is not skipped.
                Some(reason) => return Err(self.unreadable(referrer, reason)),
                None => "it does not exist",
            },
            Err(source) => return Err(self.unreadable(referrer, source)),
        };
        let (source, subject, digest) = (self.source.name(), subject.clone(), referrer.clone());
        self.run.tally.skipped(SkippedReferrer { source, subject, digest, reason });
        Ok(None)
    }

    /// Returns whether it was copied.
    async fn copy_referrer(
        self: &Arc<Self>,
        subject: &Digest,
        referrer: &Digest,
        root: &Root<'_>,
    ) -> Result<bool, CopyError> {
        let Some(manifest) = self.referrer_manifest(subject, referrer).await? else { return Ok(false) };
        self.copy_links(&manifest, root.walk, 0).await?;
        let store = || self.destination.put_manifest(root.top);
        root.present
            .get_or_try_init(store)
            .await
            .map_err(|source| self.unwritable(&root.top.digest, source))?;
        let what = format!("referrer {referrer} of {subject}");
        let put = self.destination.put_referrer(subject, &manifest).await;
        put.map_err(|source| self.unwritable(&what, source))?;
        Ok(true)
    }

    /// Copies a cosign tag. Returns the source's digest if the destination's tag points to it afterwards.
    async fn copy_tag(
        self: &Arc<Self>,
        subject: &Digest,
        tag: Tag,
        walk: &Walk,
    ) -> Result<Option<Digest>, CopyError> {
        let (ours, tagged) = self.tagged(&tag).await?;
        let reference = Reference::Tag(tag.clone());
        let (digest, how) = match tagged {
            Tagged::Equal => (ours.digest.clone(), Transfer::Present),
            Tagged::Other(found, Union::Destination) => (found, Transfer::Present),
            Tagged::Other(found, _) if self.run.options.no_clobber => {
                return Err(self.tag_taken(&reference, found, &ours, None));
            }
            Tagged::Absent | Tagged::Other(_, Union::Source) => {
                self.copy_links(&ours, walk, 0).await?;
                self.publish(&reference, &ours, &mut None).await?;
                (ours.digest.clone(), Transfer::Sent)
            }
            Tagged::Other(_, Union::Both(merged)) => {
                let blobs = merged.blobs.iter().map(|blob| self.once(&blob.digest, self.blob(blob)));
                try_join_all(blobs).await?;
                self.publish(&reference, &merged.manifest, &mut None).await?;
                (merged.manifest.digest, Transfer::Sent)
            }
            Tagged::Other(found, Union::Neither(reason)) => {
                let (destination, wanted) = (self.destination.name(), ours.digest.clone());
                self.run.tally.kept(KeptTag { destination, tag, digest: found.clone(), wanted, reason });
                (found, Transfer::Present)
            }
        };
        self.run.tally.referrer(subject, &digest, how);
        Ok((digest == ours.digest).then_some(digest))
    }

    /// The manifest that a cosign tag points to at the source, and how the destination's tag compares with it.
    pub(super) async fn tagged(&self, tag: &Tag) -> Result<(Manifest, Tagged), CopyError> {
        let reference = Reference::Tag(tag.clone());
        // Read, and not requested with HEAD or found in a list, which may both be wrong: what the tag points to would be
        // lost.
        let found = async { if self.is_empty() { Ok(None) } else { self.confirm(&reference).await } };
        let (ours, found) = try_join(self.top(&reference), found).await?;
        let tagged = match found {
            None => Tagged::Absent,
            Some(found) if found == ours.digest => Tagged::Equal,
            Some(found) => {
                let theirs = self.destination.stored_manifest(&found).await;
                let union = match theirs.map_err(|source| self.unwritable(&reference, source))? {
                    Some(theirs) => signatures::union(tag, &ours, &theirs),
                    None => Union::Neither("the manifest at the destination cannot be read"),
                };
                Tagged::Other(found, union)
            }
        };
        Ok((ours, tagged))
    }

    /// The digests of the image's own manifests: the image and, for an index, all manifests below it, each once.
    pub(super) async fn members(&self, top: &Manifest) -> Result<Vec<Digest>, CopyError> {
        let walk = Walk::default();
        let mut members = vec![top.digest.clone()];
        let mut seen = HashSet::from([top.digest.clone()]);
        let mut indexes = VecDeque::from([(top.clone(), 0)]);
        while let Some((index, depth)) = indexes.pop_front() {
            let links = walk.links(&index, depth)?;
            for child in links.manifests.into_iter().filter(|child| seen.insert(child.digest.clone())) {
                if child.media_type.contains("index") || child.media_type.contains("manifest.list") {
                    let reference = Reference::Digest(child.digest.clone());
                    let nested = self.source.manifest(&reference).await;
                    let nested = nested.map_err(|source| self.unreadable(&child.digest, source))?;
                    indexes.push_back((nested, depth.saturating_add(1)));
                }
                members.push(child.digest);
            }
        }
        Ok(members)
    }
}
