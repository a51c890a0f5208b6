//! What is attached to an image: signatures, attestations, SBOMs, and what is attached to those.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bp_artifact::{Digest, Tag};
use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use super::{
    Carried, CopyError, Kept,
    engine::Engine,
    signatures::{self, Union},
    walk::Walk,
};
use crate::content::{Manifest, Reference};

/// The image that everything hangs on.
struct Root<'a> {
    top: &'a Manifest,
    /// Set when the destination has it: what refers to it comes after it.
    there: OnceCell<()>,
    walk: &'a Walk,
}

/// What is attached to one manifest.
pub(super) struct Attached {
    pub(super) referrers: Vec<Digest>,
    /// Under which names cosign keeps more of it.
    pub(super) tags: Vec<Tag>,
    /// The referrers that the destination lists.
    pub(super) there: HashSet<Digest>,
}

/// What a tag of cosign points to at the destination.
pub(super) enum Tagged {
    /// Nothing.
    Absent,
    /// The same as at the source.
    Equal,
    /// Something else.
    Other(Digest, Union),
}

impl Engine {
    /// Carries what is attached to `top`, to its children, and to what was carried, wave by wave; each once, so that
    /// a circle ends. `there`: whether the destination has `top` already.
    pub(super) async fn carry_attached(
        self: &Arc<Self>,
        top: &Manifest,
        there: bool,
        walk: &Walk,
    ) -> Result<(), CopyError> {
        let root = Root { top, there: OnceCell::new_with(there.then_some(())), walk };
        let mut seen = HashSet::new();
        let mut wave = self.members(top).await?;
        while !wave.is_empty() {
            let new: Vec<Digest> = wave.drain(..).filter(|subject| seen.insert(subject.clone())).collect();
            let found = try_join_all(new.iter().map(|subject| self.attached_to(subject, &root))).await?;
            wave = found.concat();
        }
        Ok(())
    }

    /// Carries what is attached to one manifest, and names it.
    async fn attached_to(
        self: &Arc<Self>,
        subject: &Digest,
        root: &Root<'_>,
    ) -> Result<Vec<Digest>, CopyError> {
        let Attached { referrers, tags, there } = self.attached(subject, root.walk).await?;
        let referrers = referrers.iter().map(|referrer| async {
            let how = match there.contains(referrer) {
                true => Carried::Present,
                false => self.carry_referrer(subject, referrer, root).await?,
            };
            self.run.tally.referrer(subject, referrer, how);
            Ok::<_, CopyError>(referrer.clone())
        });
        let tags = tags.into_iter().map(|tag| self.carry_tag(subject, tag, root.walk));
        let (mut found, tagged) = try_join(try_join_all(referrers), try_join_all(tags)).await?;
        // An SBOM under a tag may have a signature of its own.
        found.extend(tagged.into_iter().flatten());
        Ok(found)
    }

    /// What is attached to one manifest on both sides, with one listing of each.
    pub(super) async fn attached(&self, subject: &Digest, walk: &Walk) -> Result<Attached, CopyError> {
        let (referrers, tags) = {
            let _permit = self.run.lookups.acquire().await;
            let lists = try_join(self.source.referrers(subject), self.source.attached_tags(subject));
            let (referrers, tags) = lists.await.map_err(|source| self.unreadable(subject, source))?;
            // Of a list, which may be large, no more is kept than this. One that names its own subject is no reason to
            // go round.
            let digests = referrers.into_iter().map(|referrer| referrer.digest);
            (digests.filter(|digest| digest != subject).collect::<Vec<_>>(), tags)
        };
        walk.met(referrers.len() + tags.len(), subject)?;
        let there: HashSet<Digest> = match referrers.is_empty() || self.is_empty() {
            true => HashSet::new(),
            false => {
                let _permit = self.run.lookups.acquire().await;
                let there = self.destination.referrers(subject).await;
                let there = there.map_err(|source| self.unwritable(subject, source))?;
                there.into_iter().map(|referrer| referrer.digest).collect()
            }
        };
        Ok(Attached { referrers, tags, there })
    }

    async fn carry_referrer(
        self: &Arc<Self>,
        subject: &Digest,
        referrer: &Digest,
        root: &Root<'_>,
    ) -> Result<Carried, CopyError> {
        let reference = Reference::Digest(referrer.clone());
        let manifest = self.source.manifest(&reference).await;
        let manifest = manifest.map_err(|source| self.unreadable(referrer, source))?;
        self.carry_links(&manifest, root.walk, 0).await?;
        let store = || self.destination.put_manifest(root.top);
        root.there
            .get_or_try_init(store)
            .await
            .map_err(|source| self.unwritable(&root.top.digest, source))?;
        let named = format!("{referrer}, a referrer of {subject},");
        let put = self.destination.put_referrer(subject, &manifest).await;
        put.map_err(|source| self.unwritable(&named, source))?;
        Ok(Carried::Sent)
    }

    /// What cosign keeps under a tag of its own. Gives its digest when the destination has the same.
    async fn carry_tag(
        self: &Arc<Self>,
        subject: &Digest,
        tag: Tag,
        walk: &Walk,
    ) -> Result<Option<Digest>, CopyError> {
        let (ours, tagged) = self.tagged(&tag).await?;
        let reference = Reference::Tag(tag.clone());
        let (digest, how) = match tagged {
            Tagged::Equal => (ours.digest.clone(), Carried::Present),
            Tagged::Other(found, Union::Destination) => (found, Carried::Present),
            Tagged::Other(found, _) if self.run.options.no_clobber => {
                return Err(self.taken(&reference, found, &ours, None));
            }
            Tagged::Absent | Tagged::Other(_, Union::Source) => {
                self.carry_links(&ours, walk, 0).await?;
                self.publish(&reference, &ours).await?;
                (ours.digest.clone(), Carried::Sent)
            }
            Tagged::Other(_, Union::Both(merged)) => {
                let blobs = merged.blobs.iter().map(|blob| self.once(&blob.digest, self.blob(blob)));
                try_join_all(blobs).await?;
                self.publish(&reference, &merged.manifest).await?;
                (merged.manifest.digest, Carried::Sent)
            }
            Tagged::Other(found, Union::Neither(reason)) => {
                let (destination, wanted) = (self.destination.name(), ours.digest.clone());
                self.run.tally.kept(Kept { destination, tag, digest: found.clone(), wanted, reason });
                (found, Carried::Present)
            }
        };
        self.run.tally.referrer(subject, &digest, how);
        Ok((digest == ours.digest).then_some(digest))
    }

    /// What a tag of cosign points to at the source, and what is to become of it at the destination.
    pub(super) async fn tagged(&self, tag: &Tag) -> Result<(Manifest, Tagged), CopyError> {
        let reference = Reference::Tag(tag.clone());
        let (ours, found) = try_join(self.top(&reference), self.head(&reference)).await?;
        let tagged = match found {
            None => Tagged::Absent,
            Some(found) if found == ours.digest => Tagged::Equal,
            Some(found) => {
                let theirs = self.destination.stored_manifest(&found).await;
                let union = match theirs.map_err(|source| self.unwritable(&reference, source))? {
                    Some(theirs) => signatures::union(tag, &ours, &theirs),
                    None => Union::Neither("the destination cannot be read back"),
                };
                Tagged::Other(found, union)
            }
        };
        Ok((ours, tagged))
    }

    /// The image's own manifests: itself and, of an index, all below it, each once.
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
                    indexes.push_back((nested, depth + 1));
                }
                members.push(child.digest);
            }
        }
        Ok(members)
    }
}
