//! The order of things: survey, plan, apply, follow, prove; and back when it fails.

use std::sync::Arc;

use bp_artifact::{
    Current, DeployEvent, DigestRef, Emitter, FailureReport, OnFailure, Outcome, Proof, ResolvedImage,
    Revision, Verdict,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use tokio::time::Instant;

use super::{
    api::{SharedSet, is_ours},
    error::Error,
    evidence,
    follow::{End, Follower, chain},
    judge::{Ours, Picture},
    proof,
    status::{self, RolloutStatus},
    target::Inner,
    template::{self, Slot},
    text::Text,
    undo,
    watch::Watches,
};

type Events = Emitter<DeployEvent>;

/// What a roll-out starts from.
struct Start<'s> {
    deployment: Deployment,
    sets: Vec<SharedSet>,
    slot: Slot,
    /// Whether the Deployment's template is rolled out.
    settled: bool,
    /// What to go back to. A first roll-out that is not done has nothing.
    previous: Option<Revision>,
    follower: Follower<'s>,
}

impl Start<'_> {
    /// What stands in the template.
    fn in_place(&self) -> Revision {
        revision_of(&self.deployment, &self.slot)
    }

    fn is_paused(&self) -> bool {
        self.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
    }

    /// The number that the controller will give to a template that is applied now.
    fn next_number(&self) -> String {
        let numbers = template::owned(&self.deployment, &self.sets).map(template::revision);
        (numbers.max().unwrap_or_default() + 1).to_string()
    }
}

fn revision_of(deployment: &Deployment, slot: &Slot) -> Revision {
    Revision {
        id: template::revision(deployment).to_string(),
        image: template::deployed_image(deployment, &slot.name).to_owned(),
    }
}

fn is_settled(deployment: &Deployment) -> bool {
    let generation = deployment.metadata.generation.unwrap_or_default();
    RolloutStatus::of(deployment, generation) == RolloutStatus::Complete
}

/// What to go back to: what is rolled out, or else what ran before the roll-out under way.
fn stable(deployment: &Deployment, sets: &[SharedSet], slot: &Slot) -> Option<Revision> {
    if is_settled(deployment) {
        return Some(revision_of(deployment, slot));
    }
    template::stable_set(deployment, sets).map(|set| Revision {
        id: template::revision(set).to_string(),
        image: template::set_image(set, &slot.name).to_owned(),
    })
}

impl Inner {
    pub(super) async fn deploy(&self, image: &ResolvedImage, events: &Events) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.options.deadline;
        let mut start = self.start(events, deadline).await?;
        let in_place = start.in_place();
        let same = in_place.image.parse::<DigestRef>().is_ok_and(|there| there == image.reference);
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: start.previous.clone().or_else(|| Some(in_place.clone())),
            changes: !same,
        });
        let base = Outcome {
            image: Some(image.reference.clone()),
            previous: start.previous.clone(),
            ..self.outcome(in_place.clone(), !same)
        };
        if same && start.settled {
            return Ok(self.finish(base, &start.follower.picture(), Some(image), &start.slot, events).await);
        }
        if start.is_paused() {
            return Err(Error::Paused { workload: self.cluster.place.workload.clone() });
        }
        let revision = match same {
            true => in_place,
            false => Revision { id: start.next_number(), image: image.reference.to_string() },
        };
        let ours = match same {
            true => self.ours(&start.deployment, &start.deployment, &start.slot),
            false if self.options.adopt_only => {
                let (verdict, detail) = (Verdict::Superseded, "another image is in its place".to_owned());
                return Ok(Outcome { verdict, detail, ..base });
            }
            false => {
                self.not_cancelled(events)?;
                let applied = self.apply(&start.slot, &revision.image).await?;
                self.ours(&start.deployment, &applied, &start.slot)
            }
        };
        self.tell_applied(&revision, &ours, same, events);
        let end = start.follower.follow(&ours, deadline).await?;
        let base = Outcome { revision: Some(revision), detail: String::new(), ..base };
        let Some((mut outcome, picture)) = self.conclude(base, end, &mut start, events).await else {
            let picture = start.follower.picture();
            let done = picture.deployment.as_deref().map(|d| revision_of(d, &start.slot));
            let base = Outcome {
                image: Some(image.reference.clone()),
                previous: start.previous.clone(),
                ..self.outcome(done.unwrap_or_else(|| start.in_place()), !same)
            };
            return Ok(self.finish(base, &picture, Some(image), &start.slot, events).await);
        };
        if outcome.verdict == Verdict::FailedInPlace {
            outcome = self.undo(outcome, &mut start, &picture, events).await?;
        }
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    pub(super) async fn restore(&self, revision: &Revision, events: &Events) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.options.deadline;
        let mut start = self.start(events, deadline).await?;
        let current = start.deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let wanted = undo::template_of(&start.deployment, &start.sets, &start.slot, revision);
        let same = start.in_place().image == revision.image && wanted.is_none_or(|wanted| wanted == current);
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: revision.image.parse().ok(),
            current: Some(start.in_place()),
            changes: !same,
        });
        let image = revision.image.parse::<DigestRef>().ok();
        let asked = image.clone().map(ResolvedImage::from);
        let base = Outcome { image, ..self.outcome(start.in_place(), !same) };
        if same && start.settled {
            return Ok(self
                .finish(base, &start.follower.picture(), asked.as_ref(), &start.slot, events)
                .await);
        }
        if start.is_paused() {
            return Err(Error::Paused { workload: self.cluster.place.workload.clone() });
        }
        let ours = match same {
            true => self.ours(&start.deployment, &start.deployment, &start.slot),
            false => {
                self.not_cancelled(events)?;
                let applied = self.put_back(&start.sets, &start.slot, revision).await?;
                self.ours(&start.deployment, &applied, &start.slot)
            }
        };
        self.tell_applied(revision, &ours, same, events);
        let end = start.follower.follow(&ours, deadline).await?;
        let outcome = match self.conclude(base.clone(), end, &mut start, events).await {
            Some((outcome, _)) => outcome,
            None => {
                let picture = start.follower.picture();
                let done = picture.deployment.as_deref().map(|d| revision_of(d, &start.slot));
                let base = Outcome { revision: done, detail: String::new(), ..base };
                return Ok(self.finish(base, &picture, asked.as_ref(), &start.slot, events).await);
            }
        };
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    /// What keeps the workload's pods from being well now, with the evidence.
    pub(crate) async fn diagnose(&self, events: &Events) -> Result<Option<FailureReport>, Error> {
        let start = self.start(events, Instant::now() + self.options.deadline).await?;
        let picture = start.follower.picture();
        match picture.reason() {
            Some(symptom) => Ok(Some(evidence::gather(&self.cluster, &picture, symptom).await)),
            None => Ok(None),
        }
    }

    pub(super) async fn current(&self) -> Result<Current, Error> {
        let (deployment, sets, slot) = self.read().await?;
        let in_place = revision_of(&deployment, &slot);
        let rolling_out = (!is_settled(&deployment)).then(|| in_place.clone());
        let stable = stable(&deployment, &sets, &slot).unwrap_or(in_place);
        Ok(Current { stable, rolling_out })
    }

    /// The revision before the one in place.
    pub(super) async fn previous(&self) -> Result<Revision, Error> {
        let (deployment, sets, slot) = self.read().await?;
        let set = match is_settled(&deployment) {
            true => template::earlier_set(&deployment, &sets),
            false => template::stable_set(&deployment, &sets),
        };
        let set = set.ok_or_else(|| Error::NoPrevious { workload: self.cluster.place.workload.clone() })?;
        let image = template::set_image(set, &slot.name).to_owned();
        Ok(Revision { id: template::revision(set).to_string(), image })
    }

    pub(super) async fn prove(&self) -> Result<Proof, Error> {
        let (deployment, sets, slot) = self.read().await?;
        let Some(set) = template::new_set(&deployment, &sets) else { return Ok(Proof::default()) };
        let pods = self.cluster.list_pods(&deployment, set).await?;
        Ok(proof::of(pods.iter(), &slot.name))
    }

    async fn read(&self) -> Result<(Deployment, Vec<SharedSet>, Slot), Error> {
        let deployment = self.cluster.deployment().await?;
        let slot = self.slot(&deployment)?;
        let sets = self.cluster.list_replica_sets(&deployment).await?;
        Ok((deployment, sets, slot))
    }

    fn slot(&self, deployment: &Deployment) -> Result<Slot, Error> {
        let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        template::slot(&spec, &self.cluster.place.workload, self.container.as_deref())
    }

    /// Reads the Deployment and takes the watches, so that what may not be read is known before anything is changed.
    async fn start<'s>(&'s self, events: &'s Events, deadline: Instant) -> Result<Start<'s>, Error> {
        let deployment = self.cluster.deployment().await?;
        let slot = self.slot(&deployment)?;
        let watches = Watches::start(&self.cluster, &deployment);
        let follower = Follower::start(&self.cluster, &self.id, events, watches, deadline).await?;
        let deployment = follower.watches.deployment().map_or(deployment, |seen| Deployment::clone(&seen));
        let sets = follower.watches.sets();
        let settled = is_settled(&deployment);
        let previous = stable(&deployment, &sets, &slot);
        Ok(Start { deployment, sets, slot, settled, previous, follower })
    }

    /// Applies the image. The field is taken from its owner if that is us under our other name (an undo writes the whole
    /// template), or if it was allowed.
    pub(super) async fn apply(&self, slot: &Slot, image: &str) -> Result<Deployment, Error> {
        match self.cluster.apply(slot, image, false).await {
            Err(Error::Conflict { workload, conflicts }) => {
                let own = !conflicts.is_empty() && conflicts.iter().all(|c| is_ours(&c.manager));
                match own || self.options.take_over {
                    true => self.cluster.apply(slot, image, true).await,
                    false => Err(Error::Conflict { workload, conflicts }),
                }
            }
            other => other,
        }
    }

    /// The roll-out that `applied` began, on what was there `before`.
    fn ours(&self, before: &Deployment, applied: &Deployment, slot: &Slot) -> Ours {
        Ours {
            uid: applied.metadata.uid.text().to_owned(),
            generation: applied.metadata.generation.unwrap_or_default(),
            container: slot.name.clone(),
            image: template::deployed_image(applied, &slot.name).to_owned(),
            stalled_before: status::stalled(before).and_then(|(_, since)| since),
            fail_after: self.options.fail_after.get() as usize,
        }
    }

    fn tell_applied(&self, revision: &Revision, ours: &Ours, adopted: bool, events: &Events) {
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision.clone(),
            deployment: format!("generation {}", ours.generation),
            adopted,
        });
    }

    fn not_cancelled(&self, events: &Events) -> Result<(), Error> {
        match events.is_cancelled() {
            true => Err(Error::Interrupted { workload: self.cluster.place.workload.clone() }),
            false => Ok(()),
        }
    }

    /// Reads an end other than success; a failure with its evidence, and told at once.
    async fn conclude(
        &self,
        base: Outcome,
        end: End,
        start: &mut Start<'_>,
        events: &Events,
    ) -> Option<(Outcome, Picture)> {
        let picture = start.follower.picture();
        let (verdict, symptom, detail) = match end {
            End::Complete => return None,
            End::Failed(symptom) => {
                (Verdict::FailedInPlace, Some(symptom), "the new pods do not come up".into())
            }
            End::Paused => (Verdict::Stopped, None, "the Deployment was paused".to_owned()),
            End::Superseded(image) => {
                (Verdict::Superseded, None, format!("somebody put {image} in its place"))
            }
            End::Gone => (Verdict::Gone, None, "the Deployment was deleted".to_owned()),
            End::OutOfTime(symptom) => (Verdict::DeadlineExceeded, symptom, "it goes on".to_owned()),
        };
        let mut failure = None;
        if let Some(symptom) = symptom {
            let report = evidence::gather(&self.cluster, &picture, symptom).await;
            events.emit(DeployEvent::Failing { target: self.id.clone(), failure: report.clone() });
            failure = Some(report);
        }
        Some((Outcome { verdict, failure, detail, ..base }, picture))
    }

    /// Goes back to what was noted before the first change, and follows that to its end.
    async fn undo(
        &self,
        failed: Outcome,
        start: &mut Start<'_>,
        picture: &Picture,
        events: &Events,
    ) -> Result<Outcome, Error> {
        let in_place = |detail: &str| Outcome { detail: detail.to_owned(), ..failed.clone() };
        if self.options.on_failure == OnFailure::Leave {
            return Ok(in_place("left as it is, as asked"));
        }
        let Some(previous) = start.previous.clone() else {
            return Ok(in_place("it is the first roll-out: there is nothing to go back to"));
        };
        self.not_cancelled(events)?;
        events.emit(DeployEvent::RollingBack { target: self.id.clone(), to: Some(previous.clone()) });
        let lost = |detail: String| Outcome { verdict: Verdict::RollbackFailed, detail, ..failed.clone() };
        let applied = match self.put_back(&picture.sets, &start.slot, &previous).await {
            Ok(applied) => applied,
            Err(error) => return Ok(lost(chain(&error))),
        };
        let before = picture.deployment.as_deref().unwrap_or(&start.deployment);
        let ours = self.ours(before, &applied, &start.slot);
        let deadline = Instant::now() + self.options.deadline;
        let outcome = match start.follower.follow(&ours, deadline).await {
            Ok(End::Complete) => Outcome {
                verdict: Verdict::RolledBack,
                revision: start.follower.picture().deployment.as_deref().map(|d| revision_of(d, &start.slot)),
                detail: format!("revision {previous} runs again"),
                ..failed.clone()
            },
            Ok(End::Failed(symptom)) => {
                lost(format!("the previous revision does not come up: {}", symptom.message))
            }
            Ok(End::Paused) => lost("the Deployment was paused while going back".into()),
            Ok(End::Superseded(image)) => lost(format!("somebody put {image} there while going back")),
            Ok(End::Gone) => Outcome {
                verdict: Verdict::Gone,
                detail: "the Deployment was deleted while going back".into(),
                ..failed.clone()
            },
            Ok(End::OutOfTime(_)) => lost("the previous revision is not up by the deadline".into()),
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            Err(error) => lost(chain(&error)),
        };
        Ok(outcome)
    }

    /// An outcome to begin with.
    fn outcome(&self, revision: Revision, changed: bool) -> Outcome {
        Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: None,
            changed,
            revision: Some(revision),
            previous: None,
            failure: None,
            proof: Proof::default(),
            detail: if changed { String::new() } else { "already in place".to_owned() },
        }
    }

    /// Success is what the pods prove.
    async fn finish(
        &self,
        mut outcome: Outcome,
        picture: &Picture,
        image: Option<&ResolvedImage>,
        slot: &Slot,
        events: &Events,
    ) -> Outcome {
        let pods = self.running_pods(picture).await;
        let pods = pods.iter().map(AsRef::as_ref);
        outcome.proof = match image {
            Some(image) => proof::against(pods, &slot.name, image),
            None => proof::of(pods, &slot.name),
        };
        outcome.verdict = image.map_or(Verdict::Unproven, |image| outcome.proof.judge(image));
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        outcome
    }

    /// The pods of our template, read anew: the watch of the Deployment may be ahead of the one of its pods.
    async fn running_pods(&self, picture: &Picture) -> Vec<Arc<Pod>> {
        let known = || picture.new_pods().into_iter().cloned().collect();
        let Some(deployment) = &picture.deployment else { return Vec::new() };
        let Ok(sets) = self.cluster.list_replica_sets(deployment).await else { return known() };
        let Some(set) = template::new_set(deployment, &sets) else { return known() };
        let listed = self.cluster.list_pods(deployment, set).await;
        listed.map_or_else(|_| known(), |pods| pods.into_iter().map(Arc::new).collect())
    }
}
