//! Planning a copy: checks what the destination has, without writing.
#![allow(clippy::arithmetic_side_effects, reason = "counts of this process, and a depth that Walk limits")]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bp_artifact::{Digest, sync::lock};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};

use super::{
    CopyError, CopyOutcome, CopyPlan, Planned, PlannedReferrer, Requests, Transfer,
    attached::Tagged,
    engine::{Engine, Job},
    signatures::Union,
    walk::Walk,
};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::RepositoryState,
};

/// What was found so far for one image.
#[derive(Default)]
struct Survey {
    found: Mutex<Found>,
    walk: Walk,
}

#[derive(Default)]
struct Found {
    manifests: Vec<Planned>,
    blobs: Vec<Planned>,
    requests: Requests,
}

impl Survey {
    fn lock(&self) -> MutexGuard<'_, Found> {
        lock(&self.found)
    }

    fn requests(&self, source: u64, destination: u64) {
        let requests = &mut self.lock().requests;
        requests.source += source;
        requests.destination += destination;
    }
}

impl Engine {
    pub(super) async fn plan(self: &Arc<Self>, job: &Job) -> Result<CopyPlan, CopyError> {
        let Job { from, to, .. } = job;
        let ((top, selected_from), found) = try_join(self.wanted(from), self.head(to)).await?;
        if let Some(error) = self.other_digest(to, &top) {
            return Err(error);
        }
        let survey = Survey::default();
        let outcome = if found.as_ref() == Some(&top.digest) {
            // The copy resolves the source first, and then checks the destination by digest.
            survey.requests(0, 1);
            CopyOutcome::Unchanged
        } else {
            self.survey_top(to, &top, found.is_some(), &survey).await?
        };
        let referrers =
            if self.run.options.referrers { Some(self.survey_attached(&top, &survey).await?) } else { None };
        let Found { manifests, blobs, requests } =
            survey.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(CopyPlan {
            source: self.source.name(),
            destination: self.destination.name(),
            source_reference: Some(from.to_string()),
            reference: to.to_string(),
            digest: top.digest,
            selected_from,
            platforms: self.run.options.platforms.clone(),
            nondistributable_layers: self.run.options.external,
            found,
            outcome,
            manifests,
            blobs,
            referrers,
            requests,
        })
    }

    async fn survey_top(
        &self,
        to: &Reference,
        top: &Manifest,
        has_reference: bool,
        survey: &Survey,
    ) -> Result<CopyOutcome, CopyError> {
        let by_digest = Reference::Digest(top.digest.clone());
        let present =
            to != &by_digest && (self.is_same_repository() || self.head(&by_digest).await?.is_some());
        // One HEAD for the reference; one for the digest unless the first publishing attempt replaces it; one PUT.
        let known_by_publishing = self.publishes_first(to) && present;
        let heads = if known_by_publishing || self.is_same_repository() || to == &by_digest { 1 } else { 2 };
        survey.requests(1, heads + 1);
        if present {
            survey.lock().manifests.push(planned(&top.descriptor(), Transfer::Present));
            return Ok(CopyOutcome::Tagged);
        }
        if !has_reference {
            // Its state is requested once.
            survey.requests(0, 1);
        }
        self.survey_links(top, survey, 0).await?;
        Ok(CopyOutcome::Copied)
    }

    /// Plans everything below a manifest that is missing at the destination, `depth` levels below the image's own.
    fn survey_links<'a>(
        &'a self,
        manifest: &'a Manifest,
        survey: &'a Survey,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        Box::pin(async move {
            let links = survey.walk.links(manifest, depth)?;
            survey.lock().manifests.push(planned(&manifest.descriptor(), Transfer::Sent));
            let new = |descriptor: &&Descriptor| {
                self.run.is_first_check(&self.destination.name(), &descriptor.digest)
            };
            let children: Vec<_> = links.manifests.iter().filter(new).collect();
            let blobs: Vec<_> = self.content_of(&links).filter(new).collect();
            let children = children.into_iter().map(|child| self.survey_child(child, survey, depth + 1));
            let blobs = blobs.into_iter().map(|blob| self.survey_blob(blob, survey));
            try_join(try_join_all(children), try_join_all(blobs)).await.map(|_| ())
        })
    }

    async fn survey_child(&self, child: &Descriptor, survey: &Survey, depth: usize) -> Result<(), CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let checks = self.state().await? == RepositoryState::Tagged;
        let present = {
            let _permit = self.run.lookups.acquire().await;
            checks && self.head(&reference).await?.is_some()
        };
        survey.requests(1, u64::from(checks) + u64::from(!present));
        if present {
            survey.lock().manifests.push(planned(child, Transfer::Present));
            return Ok(());
        }
        match self.child_manifest(child).await? {
            Some(manifest) => self.survey_links(&manifest, survey, depth).await,
            None => self.survey_blob(child, survey).await,
        }
    }

    async fn survey_blob(&self, blob: &Descriptor, survey: &Survey) -> Result<(), CopyError> {
        let blob = &self.sized(blob).await?;
        let checks = self.state().await? != RepositoryState::Empty;
        let present = checks && {
            let _permit = self.run.lookups.acquire().await;
            let present = self.destination.has_blob(blob).await;
            present.map_err(|source| self.unwritable(&blob.digest, source))?
        };
        let how = if present {
            Transfer::Present
        } else if self.is_mounted(blob) {
            Transfer::Mounted
        } else {
            Transfer::Sent
        };
        let (reads, writes) = match how {
            Transfer::Sent => (1, 2),
            Transfer::Mounted => (0, 1),
            Transfer::Present => (0, 0),
        };
        survey.requests(reads, u64::from(checks) + writes);
        survey.lock().blobs.push(planned(blob, how));
        Ok(())
    }

    /// Whether the blob would be mounted from another repository of the registry.
    fn is_mounted(&self, blob: &Descriptor) -> bool {
        let Some(to) = self.destination.repository() else { return false };
        let first = self.run.first_upload(to.registry(), &blob.digest).set(to.clone()).is_ok();
        !first || self.mount().is_some()
    }

    /// Plans the referrers, level by level; each manifest is visited once, so that a cycle ends.
    async fn survey_attached(
        &self,
        top: &Manifest,
        survey: &Survey,
    ) -> Result<Vec<PlannedReferrer>, CopyError> {
        let mut planned = Vec::new();
        let mut seen = HashSet::new();
        let mut level = self.members(top).await?;
        while !level.is_empty() {
            let subjects: Vec<Digest> =
                level.drain(..).filter(|subject| seen.insert(subject.clone())).collect();
            let found =
                try_join_all(subjects.iter().map(|subject| self.survey_subject(subject, survey))).await?;
            for referrer in found.into_iter().flatten() {
                level.push(referrer.digest.clone());
                planned.push(referrer);
            }
        }
        Ok(planned)
    }

    async fn survey_subject(
        &self,
        subject: &Digest,
        survey: &Survey,
    ) -> Result<Vec<PlannedReferrer>, CopyError> {
        let attached = self.attached(subject, &survey.walk).await?;
        let mut planned = Vec::new();
        for referrer in attached.referrers {
            let present = attached.present.contains(&referrer);
            if !present {
                match self.referrer_manifest(subject, &referrer).await? {
                    Some(manifest) => self.survey_links(&manifest, survey, 0).await?,
                    None => continue,
                }
            }
            planned.push(self.referrer(subject, referrer, present));
        }
        for tag in attached.tags {
            let (ours, tagged) = self.tagged(&tag).await?;
            let (digest, new) = match tagged {
                Tagged::Equal => (ours.digest, None),
                Tagged::Other(found, Union::Destination | Union::Neither(_)) => (found, None),
                Tagged::Absent | Tagged::Other(_, Union::Source) => (ours.digest.clone(), Some(ours)),
                Tagged::Other(_, Union::Both(merged)) => {
                    (merged.manifest.digest.clone(), Some(merged.manifest))
                }
            };
            if let Some(manifest) = &new {
                self.survey_links(manifest, survey, 0).await?;
            }
            planned.push(self.referrer(subject, digest, new.is_none()));
        }
        Ok(planned)
    }

    fn referrer(&self, subject: &Digest, digest: Digest, present: bool) -> PlannedReferrer {
        let how = if present { Transfer::Present } else { Transfer::Sent };
        PlannedReferrer { subject: subject.clone(), digest, how }
    }
}

fn planned(descriptor: &Descriptor, how: Transfer) -> Planned {
    Planned { digest: descriptor.digest.clone(), size: descriptor.size, how }
}
