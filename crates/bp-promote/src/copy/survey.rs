//! Looking at what a copy would do.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bp_artifact::{Digest, sync::lock};
use futures_core::future::BoxFuture;
use futures_util::future::{try_join, try_join_all};

use super::{
    Carried, CopyError, CopyOutcome, CopyPlan, Planned, PlannedReferrer, Requests,
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
        let outcome = match found.as_ref() == Some(&top.digest) {
            true => {
                // It is asked for by its digest, which is known then.
                survey.requests(0, 1);
                CopyOutcome::Unchanged
            }
            false => self.survey_top(to, &top, found.is_some(), &survey).await?,
        };
        let referrers = match self.run.options.referrers {
            true => Some(self.survey_attached(&top, &survey).await?),
            false => None,
        };
        let Found { manifests, blobs, requests } =
            survey.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(CopyPlan {
            source: self.source.name(),
            destination: self.destination.name(),
            reference: to.to_string(),
            digest: top.digest,
            selected_from,
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
        something: bool,
        survey: &Survey,
    ) -> Result<CopyOutcome, CopyError> {
        let by_digest = Reference::Digest(top.digest.clone());
        let there = to != &by_digest && (self.was_read_there() || self.head(&by_digest).await?.is_some());
        // The name is looked at, and the digest unless naming it tells whether it is there; at last it is named.
        let told = self.names_first(to) && there;
        let looks = if told || self.was_read_there() || to == &by_digest { 1 } else { 2 };
        survey.requests(1, looks + 1);
        if there {
            survey.lock().manifests.push(planned(&top.descriptor(), Carried::Present));
            return Ok(CopyOutcome::Tagged);
        }
        if !something {
            // What it holds is asked for once.
            survey.requests(0, 1);
        }
        self.survey_links(top, survey, 0).await?;
        Ok(CopyOutcome::Copied)
    }

    /// Looks for all below a manifest that is not there, which is so many levels below the image's own.
    fn survey_links<'a>(
        &'a self,
        manifest: &'a Manifest,
        survey: &'a Survey,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        Box::pin(async move {
            let links = survey.walk.links(manifest, depth)?;
            survey.lock().manifests.push(planned(&manifest.descriptor(), Carried::Sent));
            let new =
                |descriptor: &&Descriptor| self.run.survey(&self.destination.name(), &descriptor.digest);
            let children: Vec<_> = links.manifests.iter().filter(new).collect();
            let blobs: Vec<_> = links.blobs.iter().filter(new).collect();
            let children = children.into_iter().map(|child| self.survey_child(child, survey, depth + 1));
            let blobs = blobs.into_iter().map(|blob| self.survey_blob(blob, survey));
            try_join(try_join_all(children), try_join_all(blobs)).await.map(|_| ())
        })
    }

    async fn survey_child(&self, child: &Descriptor, survey: &Survey, depth: usize) -> Result<(), CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let asks = self.state().await? == RepositoryState::Tagged;
        let there = {
            let _permit = self.run.lookups.acquire().await;
            asks && self.head(&reference).await?.is_some()
        };
        survey.requests(1, u64::from(asks) + u64::from(!there));
        if there {
            survey.lock().manifests.push(planned(child, Carried::Present));
            return Ok(());
        }
        let manifest = {
            let _permit = self.run.lookups.acquire().await;
            self.source.manifest(&reference).await
        };
        let manifest = manifest.map_err(|source| self.unreadable(&child.digest, source))?;
        self.survey_links(&manifest, survey, depth).await
    }

    async fn survey_blob(&self, blob: &Descriptor, survey: &Survey) -> Result<(), CopyError> {
        let asks = self.state().await? != RepositoryState::Empty;
        let there = asks && {
            let _permit = self.run.lookups.acquire().await;
            let there = self.destination.has_blob(blob).await;
            there.map_err(|source| self.unwritable(&blob.digest, source))?
        };
        let how = match there {
            true => Carried::Present,
            false if self.is_mounted(blob) => Carried::Mounted,
            false => Carried::Sent,
        };
        let (reads, writes) = match how {
            Carried::Sent => (1, 2),
            Carried::Mounted => (0, 1),
            Carried::Present => (0, 0),
        };
        survey.requests(reads, u64::from(asks) + writes);
        survey.lock().blobs.push(planned(blob, how));
        Ok(())
    }

    /// Whether the registry would be asked to take the blob from another of its repositories.
    fn is_mounted(&self, blob: &Descriptor) -> bool {
        let Some(to) = self.destination.repository() else { return false };
        let first = self.run.landing(to.registry(), &blob.digest).set(to.clone()).is_ok();
        !first || self.mount().is_some()
    }

    /// Looks for what is attached, wave by wave; each once, so that a circle ends.
    async fn survey_attached(
        &self,
        top: &Manifest,
        survey: &Survey,
    ) -> Result<Vec<PlannedReferrer>, CopyError> {
        let mut planned = Vec::new();
        let mut seen = HashSet::new();
        let mut wave = self.members(top).await?;
        while !wave.is_empty() {
            let subjects: Vec<Digest> =
                wave.drain(..).filter(|subject| seen.insert(subject.clone())).collect();
            let found =
                try_join_all(subjects.iter().map(|subject| self.survey_subject(subject, survey))).await?;
            for referrer in found.into_iter().flatten() {
                wave.push(referrer.digest.clone());
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
            let there = attached.there.contains(&referrer);
            if !there {
                let reference = Reference::Digest(referrer.clone());
                self.survey_links(&self.top(&reference).await?, survey, 0).await?;
            }
            planned.push(self.referrer(subject, referrer, there));
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

    fn referrer(&self, subject: &Digest, digest: Digest, there: bool) -> PlannedReferrer {
        let how = if there { Carried::Present } else { Carried::Sent };
        PlannedReferrer { subject: subject.clone(), digest, how }
    }
}

fn planned(descriptor: &Descriptor, how: Carried) -> Planned {
    Planned { digest: descriptor.digest.clone(), size: descriptor.size, how }
}
