//! The order of things: survey, plan, register, update, follow, prove.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookAction, DeploymentLifecycleHookStatus, Service, ServiceDeploymentStatus,
};
use bp_artifact::{
    DeployEvent, DigestRef, Emitter, OnFailure, Outcome, Proof, ResolvedImage, Revision, Verdict,
};

use crate::{
    definition::TaskDefinition,
    error::Error,
    follow::{End, Follower},
    limits,
    options::InFlight,
    survey::{Followed, Survey},
    target::Inner,
};

type Events = Emitter<DeployEvent>;

/// What a deployment starts from, once nothing of somebody else's is in its way.
struct Start {
    survey: Survey,
    /// The definition of the primary deployment.
    current: TaskDefinition,
    /// A deployment under way that brings what we bring.
    adopted: Option<Followed>,
    previous: Revision,
}

impl Inner {
    pub(crate) async fn deploy(&self, image: &ResolvedImage, events: &Events) -> Result<Outcome, Error> {
        let start = self.start(&image.reference, events).await?;
        let Start { survey, current, previous, .. } = &start;
        let wanted = self.wanted(current, &image.reference)?;
        limits::check(&survey.service, &wanted)?;
        let unchanged = wanted.is_same(current) && survey.is_settled() && !self.options.force;
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: Some(previous.clone()),
            changes: !unchanged && start.adopted.is_none(),
        });
        let revision = |definition: String| Revision { id: definition, image: image.reference.to_string() };
        let base = Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: Some(image.reference.clone()),
            changed: !unchanged,
            revision: Some(revision(survey.definition.clone())),
            previous: Some(previous.clone()),
            failure: None,
            proof: Proof::default(),
            detail: "already deployed".to_owned(),
        };
        if unchanged {
            return self.finish(base, Some(&survey.service), Some(image), events).await;
        }
        self.not_cancelled(events, None)?;
        let (ours, service, adopted) = match start.adopted.clone() {
            Some(followed) => (followed, survey.service.clone(), true),
            None => {
                let (ours, service) = self.begin(&wanted, &start, events).await?;
                (ours, service, false)
            }
        };
        let definition = ours.definition.clone();
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision(definition.clone()),
            deployment: ours.id.clone(),
            adopted,
        });
        let back_to = (self.options.on_failure == OnFailure::RollBack).then(|| previous.clone());
        let end = Follower::new(self, events, ours, &service, back_to).run().await?;
        let in_place = match end.verdict {
            Verdict::RolledBack => previous.clone(),
            _ => revision(definition),
        };
        self.conclude(Outcome { revision: Some(in_place), ..base }, end, Some(image), events).await
    }

    /// The definition to deploy: the given one or what is in place, with the overlay, and with our image in our
    /// containers.
    pub(crate) fn wanted(
        &self,
        current: &TaskDefinition,
        image: &DigestRef,
    ) -> Result<TaskDefinition, Error> {
        let base = self.base.as_ref().unwrap_or(current);
        let overlaid = base.with(&self.overlay)?;
        self.containers().try_fold(overlaid, |definition, container| definition.with_image(container, image))
    }

    /// The containers that run our image.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.container).chain(&self.also)
    }

    /// Reads what is there and gets past a deployment under way, as the policy says.
    async fn start(&self, image: &DigestRef, events: &Events) -> Result<Start, Error> {
        loop {
            let survey = self.survey().await?;
            let current = self.api.definition(&survey.definition).await?;
            let previous = match survey.is_settled() {
                true => self.as_revision(&current)?,
                false => self.revision(&self.stable(&survey).await?).await?,
            };
            let Some(followed) = survey.in_flight.clone() else {
                return Ok(Start { survey, current, adopted: None, previous });
            };
            let brought = match followed.definition == survey.definition {
                true => current.clone(),
                false => self.api.definition(&followed.definition).await?,
            };
            let same = brought.is_same(&self.wanted(&current, image)?);
            match self.options.in_flight {
                InFlight::AdoptIfSameTarget | InFlight::Supersede | InFlight::Wait if same => {
                    return Ok(Start { survey, current, adopted: Some(followed), previous });
                }
                InFlight::Supersede => return Ok(Start { survey, current, adopted: None, previous }),
                InFlight::Wait => {
                    Follower::new(self, events, followed, &survey.service, None).run().await?;
                }
                InFlight::Fail | InFlight::AdoptIfSameTarget => {
                    return Err(Error::InFlight {
                        service: self.api.service.clone(),
                        deployment: followed.id,
                        definition: followed.definition,
                    });
                }
            }
        }
    }

    /// Registers or reuses, and updates the service.
    async fn begin(
        &self,
        wanted: &TaskDefinition,
        start: &Start,
        events: &Events,
    ) -> Result<(Followed, Service), Error> {
        let registered = match wanted.is_same(&start.current) {
            true => start.survey.definition.clone(),
            false => self.api.register(wanted).await?.arn().unwrap_or_default().to_owned(),
        };
        self.not_cancelled(events, None)?;
        // A failed deployment of the same definition keeps its id, and its failure, unless it is forced.
        let force = self.options.force || (start.survey.failed && registered == start.survey.definition);
        let service = self.api.update(&registered, force).await?;
        Ok((self.begun(&service)?, service))
    }

    fn begun(&self, service: &Service) -> Result<Followed, Error> {
        Followed::primary(service).ok_or_else(|| Error::UnexpectedAnswer {
            operation: "ecs:UpdateService",
            reason: "the service has no primary deployment".to_owned(),
        })
    }

    fn not_cancelled(&self, events: &Events, deployment: Option<&Followed>) -> Result<(), Error> {
        match events.is_cancelled() {
            true => Err(Error::Interrupted { deployment: deployment.map(|followed| followed.id.clone()) }),
            false => Ok(()),
        }
    }

    pub(crate) async fn watch(&self, events: &Events) -> Result<Outcome, Error> {
        let survey = self.survey().await?;
        let stable = self.revision(&self.stable(&survey).await?).await?;
        let base = |revision: &Revision| Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: revision.image.parse().ok(),
            changed: false,
            revision: Some(revision.clone()),
            previous: (*revision != stable).then(|| stable.clone()),
            failure: None,
            proof: Proof::default(),
            detail: "nothing is under way".to_owned(),
        };
        let Some(followed) = self.latest(&survey).await? else {
            return self.finish(base(&stable), Some(&survey.service), None, events).await;
        };
        let brought = self.revision(&followed.definition).await?;
        let end = Follower::new(self, events, followed, &survey.service, None).run().await?;
        let in_place = if end.verdict == Verdict::RolledBack { &stable } else { &brought };
        let outcome = Outcome { image: brought.image.parse().ok(), ..base(in_place) };
        self.conclude(outcome, end, None, events).await
    }

    pub(crate) async fn restore(&self, revision: &Revision, events: &Events) -> Result<Outcome, Error> {
        let survey = self.survey().await?;
        let there = survey.is_settled() && survey.definition == revision.id;
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: revision.image.parse().ok(),
            current: Some(self.revision(&survey.definition).await?),
            changes: !there,
        });
        let base = Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: revision.image.parse().ok(),
            changed: !there,
            revision: Some(revision.clone()),
            previous: None,
            failure: None,
            proof: Proof::default(),
            detail: "in place".to_owned(),
        };
        if there {
            return self.finish(base, Some(&survey.service), None, events).await;
        }
        limits::check(&survey.service, &self.api.definition(&revision.id).await?)?;
        self.not_cancelled(events, None)?;
        // ECS may be on its way there: then its rollback is followed, and its success is ours.
        let (ours, service, adopted) = match self.rolling_back_to(&survey, revision).await? {
            Some(followed) => (followed, survey.service, true),
            None => {
                let force = survey.failed && survey.definition == revision.id;
                let service = self.api.update(&revision.id, force).await?;
                (self.begun(&service)?, service, false)
            }
        };
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision.clone(),
            deployment: ours.id.clone(),
            adopted,
        });
        let mut end = Follower::new(self, events, ours, &service, None).run().await?;
        if adopted && end.verdict == Verdict::RolledBack {
            (end.verdict, end.failure) = (Verdict::Deployed, None);
        }
        self.conclude(base, end, None, events).await
    }

    /// The deployment under way, if it is being rolled back to this revision.
    async fn rolling_back_to(&self, survey: &Survey, revision: &Revision) -> Result<Option<Followed>, Error> {
        let Some(followed) = &survey.in_flight else { return Ok(None) };
        let Some(arn) = &followed.arn else { return Ok(None) };
        let deployment = self.api.deployment(arn).await?;
        let going_back = deployment.is_some_and(|d| {
            let rolling = [ServiceDeploymentStatus::RollbackInProgress];
            d.status.is_some_and(|status| rolling.contains(&status))
        });
        Ok((going_back && survey.definition == revision.id).then(|| followed.clone()))
    }

    /// Puts the end into the outcome.
    async fn conclude(
        &self,
        base: Outcome,
        end: End,
        image: Option<&ResolvedImage>,
        events: &Events,
    ) -> Result<Outcome, Error> {
        let End { verdict, failure, detail, service } = end;
        self.finish(Outcome { verdict, failure, detail, ..base }, service.as_ref(), image, events).await
    }

    /// Proves what runs, and tells the outcome. After success the proof decides; after a rollback it informs.
    async fn finish(
        &self,
        mut outcome: Outcome,
        service: Option<&Service>,
        image: Option<&ResolvedImage>,
        events: &Events,
    ) -> Result<Outcome, Error> {
        let proven = match (outcome.verdict, service) {
            (Verdict::Deployed, Some(service)) => Some(self.proof_of(service).await?),
            // The verdict is clear: that the proof cannot be had changes nothing.
            (Verdict::RolledBack, Some(service)) => self.proof_of(service).await.ok(),
            _ => None,
        };
        outcome.proof = proven.unwrap_or_default();
        if outcome.verdict == Verdict::Deployed {
            let asked = image.cloned().or_else(|| outcome.image.clone().map(ResolvedImage::from));
            outcome.verdict = asked.map_or(Verdict::Unproven, |image| outcome.proof.judge(&image));
        }
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    pub(crate) async fn approve(&self, action: DeploymentLifecycleHookAction) -> Result<(), Error> {
        let nothing = || Error::NotAwaitingApproval { service: self.api.service.clone() };
        let listed = self.api.deployments(&[ServiceDeploymentStatus::InProgress], None).await?;
        let arn = listed.into_iter().find_map(|d| d.service_deployment_arn).ok_or_else(nothing)?;
        let deployment = self.api.deployment(&arn).await?.ok_or_else(nothing)?;
        let mut hooks = deployment.lifecycle_hook_details.unwrap_or_default().into_iter();
        let hook = hooks
            .find(|h| h.status == Some(DeploymentLifecycleHookStatus::AwaitingAction))
            .and_then(|h| h.hook_id)
            .ok_or_else(nothing)?;
        self.api.answer_hook(&arn, &hook, action).await
    }
}
