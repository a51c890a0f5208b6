//! Going back to an earlier revision, and what a release runs now.

use bp_artifact::{
    Current, DeployEvent, DigestRef, Emitter, Outcome, Proof, ResolvedImage, Revision, Verdict,
};

use super::{
    error::HelmError,
    lease::Held,
    manifest::{Placed, placed},
    program::{Program, words},
    recover::deployed,
    release::{HelmRevision, Inner},
};

type Events = Emitter<DeployEvent>;

impl Inner {
    pub(super) async fn rollback(
        &self,
        revision: Option<u32>,
        events: &Events,
    ) -> Result<Outcome, HelmError> {
        let mut held = self.take(events).await?;
        let mut validity = held.validity();
        let ended = tokio::select! {
            ended = self.rollback_held(&mut held, revision, events) => ended,
            () = validity.lost() => Err(HelmError::LeaseLost { release: self.release.clone() }),
        };
        held.release().await;
        let outcome = ended?;
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    /// Runs `helm rollback` and waits until the workloads are up.
    pub(super) async fn roll_back_to(
        &self,
        helm: &Program,
        revision: &str,
        events: &Events,
    ) -> Result<Result<(), String>, HelmError> {
        let timeout = format!("--timeout={}s", self.options.deadline.as_secs().clamp(1, u32::MAX.into()));
        let mut running =
            helm.start(&words(["rollback", &self.release, revision, "--wait=watcher", &timeout]))?;
        tokio::select! {
            ended = &mut running.ending => {
                let ended = ended?;
                Ok(if ended.success { Ok(()) } else { Err(ended.message) })
            }
            () = events.cancelled() => {
                running.stop().await;
                Err(self.interrupted())
            }
        }
    }

    async fn rollback_held(
        &self,
        held: &mut Held,
        revision: Option<u32>,
        events: &Events,
    ) -> Result<Outcome, HelmError> {
        let helm = self.program(Some(held)).await?;
        helm.check().await?;
        let history = self.free(&helm, held, events).await?;
        let current = deployed(&history);
        let last = history.last().map_or(0, |last| last.revision);
        // What was deployed once: helm calls it superseded.
        let good = |number: &&HelmRevision| matches!(number.status.as_str(), "deployed" | "superseded");
        let wanted = revision.or_else(|| {
            let earlier =
                history.iter().rev().filter(good).find(|r| Some(r.revision) != current.map(|c| c.revision));
            // A failed upgrade left the deployed one in place: that is where to go back to.
            let failed = history.last().is_some_and(|last| last.status == "failed");
            if failed { current.map(|c| c.revision) } else { earlier.map(|r| r.revision) }
        });
        let Some(wanted) = wanted.filter(|wanted| history.iter().any(|r| r.revision == *wanted)) else {
            return Err(HelmError::NoPrevious { release: self.release.clone() });
        };
        let manifest = self.manifest(&helm, Some(wanted)).await?;
        let same =
            current.is_some_and(|c| c.revision == last) && self.manifest(&helm, None).await? == manifest;
        let image = main_image(&placed(&manifest, "get manifest")?);
        let to = Revision { id: wanted.to_string(), image: image.clone() };
        let pinned = image.parse::<DigestRef>().ok();
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: pinned.clone(),
            current: current.map(|c| Revision { id: c.revision.to_string(), image: String::new() }),
            changes: !same,
        });
        let mut ended = Ok(());
        if !same {
            held.note(last + 1).await?;
            ended = self.roll_back_to(&helm, &to.id, events).await?;
        }
        let proof = self.proof_of(&placed(&manifest, "get manifest")?, &image).await?;
        let (verdict, detail) = match (ended, &pinned) {
            (Err(message), _) => (Verdict::FailedInPlace, message),
            (Ok(()), Some(image)) => (proof.judge(&ResolvedImage::from(image.clone())), String::new()),
            (Ok(()), None) => (Verdict::Unproven, "its image names no digest".to_owned()),
        };
        Ok(Outcome {
            target: self.id.clone(),
            verdict,
            image: pinned,
            changed: !same,
            revision: Some(to),
            previous: current.map(|c| Revision { id: c.revision.to_string(), image: String::new() }),
            failure: None,
            proof,
            detail,
        })
    }

    pub(super) async fn current(&self) -> Result<Current, HelmError> {
        let helm = self.program(None).await?;
        let history = self.history(&helm).await?;
        let Some(stable) = deployed(&history) else {
            return Err(HelmError::NoPrevious { release: self.release.clone() });
        };
        let manifest = self.manifest(&helm, Some(stable.revision)).await?;
        let image = main_image(&placed(&manifest, "get manifest")?);
        Ok(Current { stable: Revision { id: stable.revision.to_string(), image }, rolling_out: None })
    }

    pub(super) async fn prove(&self) -> Result<Proof, HelmError> {
        let helm = self.program(None).await?;
        let places = placed(&self.manifest(&helm, None).await?, "get manifest")?;
        let image = main_image(&places);
        self.proof_of(&places, &image).await
    }

    /// What the pods of the workloads with this image report.
    async fn proof_of(&self, places: &[Placed], image: &str) -> Result<Proof, HelmError> {
        let mut proof = Proof::default();
        for place in places.iter().filter(|place| place.image == image) {
            let Some(workload) = &place.workload else { continue };
            let found = self.target(workload, &place.container).prove().await?;
            proof.observations.extend(found.observations);
        }
        Ok(proof)
    }

    pub(super) async fn read_history(&self) -> Result<Vec<HelmRevision>, HelmError> {
        let helm = self.program(None).await?;
        self.history(&helm).await
    }
}

/// The image that most of a manifest's places have, those pinned to a digest first.
fn main_image(places: &[Placed]) -> String {
    let pinned = |place: &&Placed| place.image.contains("@sha256:");
    let count = |image: &str| places.iter().filter(|place| place.image == image).count();
    let best = places.iter().rev().max_by_key(|place| (pinned(place), count(&place.image)));
    best.map(|place| place.image.clone()).unwrap_or_default()
}
