//! The order of things: survey, plan, register, update, follow, prove.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookAction, DeploymentLifecycleHookStatus, Service, ServiceDeploymentStatus,
};
use bp_artifact::{
    DeployEvent, DigestRef, Emitter, OnFailure, Outcome, Proof, ResolvedImage, Revision, Verdict,
};

use tokio::time::Instant;

use crate::{
    apply::Applied,
    definition::TaskDefinition,
    error::Error,
    follow::{End, Follower},
    limits,
    options::InFlight,
    prove::{Running, Scope},
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
        let deadline = self.deadline();
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
            return Ok(self.finish(base, Some(&survey.service), Some(image), deadline, events).await);
        }
        self.not_cancelled(events, None)?;
        let (ours, service, adopted) = match start.adopted.clone() {
            Some(followed) => (followed, survey.service.clone(), true),
            None => match self.begin(&wanted, &start, deadline, events).await? {
                (_, Applied::Begun(ours, service)) => (ours, *service, false),
                (registered, Applied::Unknown(why)) => {
                    let base = Outcome { revision: Some(revision(registered)), ..base };
                    return Ok(self.unobserved(base, why, events));
                }
            },
        };
        let definition = ours.definition.clone();
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision(definition.clone()),
            deployment: ours.id.clone(),
            adopted,
        });
        let back_to = (self.options.on_failure == OnFailure::RollBack).then(|| previous.clone());
        let end = Follower::new(self, events, ours, &service, back_to).adopted(adopted).run().await?;
        let in_place = match end.verdict {
            Verdict::RolledBack => previous.clone(),
            _ => revision(definition),
        };
        Ok(self.conclude(Outcome { revision: Some(in_place), ..base }, end, Some(image), events).await)
    }

    /// When the work that begins now has to be done.
    fn deadline(&self) -> Instant {
        bp_artifact::time::deadline(self.options.deadline)
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
                // Nothing of ours is changed yet: an error stays one.
                InFlight::Wait => {
                    Follower::new(self, events, followed, &survey.service, None).wait().await?;
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

    /// Registers or reuses, and updates the service. Gives the definition that is deployed.
    async fn begin(
        &self,
        wanted: &TaskDefinition,
        start: &Start,
        deadline: Instant,
        events: &Events,
    ) -> Result<(String, Applied), Error> {
        let registered = match wanted.is_same(&start.current) {
            true => start.survey.definition.clone(),
            false => self.api.register(wanted).await?.arn().unwrap_or_default().to_owned(),
        };
        self.not_cancelled(events, None)?;
        // A failed deployment of the same definition keeps its id, and its failure, unless it is forced.
        let force = self.options.force || (start.survey.failed && registered == start.survey.definition);
        let applied = self.apply(&start.survey.service, &registered, force, deadline).await?;
        Ok((registered, applied))
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
            let base = base(&stable);
            return Ok(self.finish(base, Some(&survey.service), None, self.deadline(), events).await);
        };
        let brought = self.revision(&followed.definition).await?;
        let end = Follower::new(self, events, followed, &survey.service, None).adopted(true).run().await?;
        let in_place = if end.verdict == Verdict::RolledBack { &stable } else { &brought };
        let outcome = Outcome { image: brought.image.parse().ok(), ..base(in_place) };
        Ok(self.conclude(outcome, end, None, events).await)
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
        let deadline = self.deadline();
        if there {
            return Ok(self.finish(base, Some(&survey.service), None, deadline, events).await);
        }
        limits::check(&survey.service, &self.api.definition(&revision.id).await?)?;
        self.not_cancelled(events, None)?;
        // ECS may be on its way there: then its rollback is followed, and its success is ours.
        let (ours, service, adopted) = match self.rolling_back_to(&survey, revision).await? {
            Some(followed) => (followed, survey.service, true),
            None => {
                let force = survey.failed && survey.definition == revision.id;
                match self.apply(&survey.service, &revision.id, force, deadline).await? {
                    Applied::Begun(ours, service) => (ours, *service, false),
                    Applied::Unknown(why) => return Ok(self.unobserved(base, why, events)),
                }
            }
        };
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision.clone(),
            deployment: ours.id.clone(),
            adopted,
        });
        let mut end = Follower::new(self, events, ours, &service, None).adopted(adopted).run().await?;
        if adopted && end.verdict == Verdict::RolledBack {
            (end.verdict, end.failure) = (Verdict::Deployed, None);
        }
        Ok(self.conclude(base, end, None, events).await)
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
    ) -> Outcome {
        let End { verdict, failure, detail, service, deadline } = end;
        let outcome = Outcome { verdict, failure, detail, ..base };
        self.finish(outcome, service.as_ref(), image, deadline, events).await
    }

    /// The outcome of a change that may have been applied and was never seen.
    fn unobserved(&self, base: Outcome, why: String, events: &Events) -> Outcome {
        let detail = format!("{why}; run the same command again to resume");
        let outcome = Outcome { verdict: Verdict::Unobserved, detail, ..base };
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        outcome
    }

    /// Proves what runs, and tells the outcome. After success the proof decides; after a rollback it informs.
    async fn finish(
        &self,
        mut outcome: Outcome,
        service: Option<&Service>,
        image: Option<&ResolvedImage>,
        deadline: Instant,
        events: &Events,
    ) -> Outcome {
        if outcome.verdict == Verdict::Deployed {
            let proven = match service {
                Some(service) => self.proven(service, deadline).await,
                None => Err(self.api.not_found()),
            };
            let asked = image.cloned().or_else(|| outcome.image.clone().map(ResolvedImage::from));
            self.judge(&mut outcome, proven, asked.as_ref(), events);
        } else if let Some(service) = service.filter(|_| outcome.verdict == Verdict::RolledBack) {
            // The verdict is clear: that the proof cannot be had changes nothing.
            let running = self.running(service, Scope::Primary).await;
            outcome.proof = running.map(|running| running.proof).unwrap_or_default();
        }
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        outcome
    }

    /// What the proof makes of a success. The platform's own word stands: what cannot be observed is unproven.
    fn judge(
        &self,
        outcome: &mut Outcome,
        proven: Result<Running, Error>,
        asked: Option<&ResolvedImage>,
        events: &Events,
    ) {
        let mut add = |text: &str| outcome.detail = format!("{}; {text}", outcome.detail);
        let running = match proven {
            Ok(running) => running,
            Err(error) => {
                add(&format!("the running digest could not be observed: {}", error.in_one_line()));
                outcome.verdict = Verdict::Unproven;
                return;
            }
        };
        if let Some(note) = running.note() {
            add(&note);
            events.emit(DeployEvent::Notice { target: self.id.clone(), message: note });
        }
        if let Some(missing) = &running.missing {
            add(missing);
        }
        outcome.verdict = asked.map_or(Verdict::Unproven, |image| running.proof.judge(image));
        outcome.proof = running.proof;
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
