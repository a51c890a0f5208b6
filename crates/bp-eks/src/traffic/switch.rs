//! The switch: one patch, its precondition, and the way to see it through.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bp_artifact::{
    Classified, DeployEvent, DigestRef, Emitter, FailureReport, OnFailure, Outcome, ResolvedImage, Verdict,
};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::{
    api::Applied,
    balancer,
    error::TrafficError,
    follow::{End, Follower},
    green::Inner,
    slots::{Labels, Slot},
    state::{SWITCHED_BACK_FROM, SWITCHED_FROM, SlotState, Survey},
};
use crate::rollout::{
    self, Error,
    causes::Symptom,
    proof,
    retry::{OfApi, Patience, retried},
    unobserved,
};

/// What to do about traffic that was not seen going back.
const SWITCH_BACK: &str = "run the switch back again to resume";

type Events = Emitter<DeployEvent>;

/// How a patch of the selector ended.
enum Patched {
    /// It is in place.
    Done,
    /// Somebody else switched first; what the Service selects now.
    Superseded(String),
}

impl Inner {
    pub(super) async fn switch(
        &self,
        image: &ResolvedImage,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        balancer::refuse(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let to = self.staged(&survey, image).await?;
        self.tell_planned(&survey, Some(image), to != &survey.traffic.live, events);
        self.turn(&survey, to, SWITCHED_FROM, Some(image), events).await
    }

    /// The slot that was staged with this image and can take the traffic.
    async fn staged<'s>(
        &self,
        survey: &'s Survey,
        image: &ResolvedImage,
    ) -> Result<&'s SlotState, TrafficError> {
        let Some(to) = survey.with_image(&image.reference) else {
            let image = image.reference.clone();
            return Err(TrafficError::NotStaged { service: self.service.clone(), image });
        };
        if to != &survey.traffic.live {
            self.check_ready(survey, to, image).await?;
        }
        Ok(to)
    }

    pub(super) async fn deploy(
        &self,
        image: &ResolvedImage,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        balancer::refuse(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let slot = survey.slot_for(&image.reference);
        let changes = slot != &survey.traffic.live || !slot.is_up(&image.reference);
        self.tell_planned(&survey, Some(image), changes, events);
        let staged = self.bring(&survey, image, events).await?;
        if !staged.verdict.is_success() {
            return Ok(self.finished(staged, events));
        }
        self.not_cancelled(events)?;
        let survey = self.survey().await?;
        let to = self.staged(&survey, image).await?;
        let outcome = self.move_traffic(&survey, to, SWITCHED_FROM, Some(image), events).await?;
        Ok(self.finished(Outcome { changed: staged.changed || outcome.changed, ..outcome }, events))
    }

    /// Says what is going to happen, once for each operation.
    pub(super) fn tell_planned(
        &self,
        survey: &Survey,
        image: Option<&ResolvedImage>,
        changes: bool,
        events: &Events,
    ) {
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: image.map(|image| image.reference.clone()),
            current: Some(survey.traffic.live.revision()),
            changes,
        });
    }

    pub(super) async fn switch_back(&self, events: &Events) -> Result<Outcome, TrafficError> {
        let survey = self.survey().await?;
        let (live, idle) = (&survey.traffic.live, &survey.traffic.idle);
        let nothing = || TrafficError::NothingToSwitchBack { object: self.object() };
        let to = match (survey.annotation(SWITCHED_FROM), survey.annotation(SWITCHED_BACK_FROM)) {
            (Some(from), _) if from == idle.slot.name => idle,
            // An earlier run has done it.
            (_, Some(from)) if from == idle.slot.name => live,
            _ => return Err(nothing()),
        };
        if to.available == 0 {
            let (object, why) =
                (format!("deployment/{}", to.slot.deployment), "it has no ready pod".to_owned());
            return Err(TrafficError::NotReady { object, why });
        }
        let pinned = to.image.as_deref().and_then(|image| image.parse::<DigestRef>().ok());
        let image = pinned.map(ResolvedImage::from);
        self.tell_planned(&survey, image.as_ref(), to != live, events);
        self.turn(&survey, to, SWITCHED_BACK_FROM, image.as_ref(), events).await
    }

    /// What takes the traffic is whole, and is seen to run the image.
    async fn check_ready(
        &self,
        survey: &Survey,
        to: &SlotState,
        image: &ResolvedImage,
    ) -> Result<(), TrafficError> {
        let not_ready = |why: String| {
            let object = format!("deployment/{}", to.slot.deployment);
            Err(TrafficError::NotReady { object, why })
        };
        if let Some(deployment) = &survey.deployments.1 {
            self.check_labels(deployment, &self.slots.selector_of(&to.slot, &survey.selector))?;
        }
        if !to.complete || to.available == 0 {
            return not_ready(format!("{} of {} replicas are available", to.available, to.replicas));
        }
        match self.target(&to.slot, self.options.clone()).prove().await?.judge(image) {
            Verdict::Deployed => Ok(()),
            other => not_ready(other.to_string()),
        }
    }

    /// Moves the traffic to a slot, which ends the operation.
    pub(super) async fn turn(
        &self,
        survey: &Survey,
        to: &SlotState,
        mark: &'static str,
        image: Option<&ResolvedImage>,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        let outcome = self.move_traffic(survey, to, mark, image, events).await?;
        Ok(self.finished(outcome, events))
    }

    /// Moves the traffic to a slot and sees it through. `mark` says on the Service which way it went.
    async fn move_traffic(
        &self,
        survey: &Survey,
        to: &SlotState,
        mark: &'static str,
        image: Option<&ResolvedImage>,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let live = &survey.traffic.live;
        let selector = self.slots.selector_of(&to.slot, &survey.selector);
        let changes = to != live;
        let base = Outcome {
            target: self.id.clone(),
            verdict: Verdict::Unproven,
            image: image.map(|image| image.reference.clone()),
            changed: changes,
            revision: Some(to.revision()),
            previous: Some(live.revision()),
            failure: None,
            proof: bp_artifact::Proof::default(),
            detail: String::new(),
        };
        if changes {
            self.not_cancelled(events)?;
            let patience = Patience::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
            let mark = Some((mark, &live.slot));
            let patch = || self.patch(&survey.service, &survey.selector, &selector, mark);
            let patched = retried(patience, events, &self.id, patch).await;
            self.not_cancelled(events)?;
            match patched {
                Ok(Patched::Done) => {}
                Ok(Patched::Superseded(selected)) => {
                    let detail = format!("somebody made the Service select {selected}");
                    let base = Outcome { changed: false, ..base };
                    return Ok(Outcome { verdict: Verdict::Superseded, detail, ..base });
                }
                Err(error) => {
                    let detail = may_be_applied(&self.object(), error)?;
                    return Ok(Outcome { verdict: Verdict::Unobserved, detail, ..base });
                }
            }
        }
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: to.revision(),
            deployment: format!("selector {}={}", self.slots.label(), to.slot.name),
            adopted: !changes,
        });
        let follower = Follower::start(&self.namespace, &self.service, &selector, &self.id, events);
        let fail_after = self.options.fail_after.get() as usize;
        let bake = if changes { self.bake } else { Duration::ZERO };
        Ok(match follower.follow(deadline, bake, self.options.grace, fail_after).await? {
            End::Arrived(pods) => {
                let container = self.container_of(survey, to);
                let pods = pods.iter().map(AsRef::as_ref);
                let proof = match image {
                    Some(image) => proof::against(pods, &container, image),
                    None => proof::of(pods, &container),
                };
                let verdict = image.map_or(Verdict::Unproven, |image| proof.judge(image));
                let detail = format!("{} has the traffic", to.slot.name);
                Outcome { verdict, proof, detail, ..base }
            }
            End::Superseded(selected) => {
                let detail = format!("somebody made the Service select {selected}");
                Outcome { verdict: Verdict::Superseded, detail, ..base }
            }
            End::Gone => {
                Outcome { verdict: Verdict::Gone, detail: "the Service was deleted".to_owned(), ..base }
            }
            End::OutOfTime { ready: true } => {
                let detail = "the endpoints do not follow the selector".to_owned();
                Outcome { verdict: Verdict::DeadlineExceeded, detail, ..base }
            }
            End::Unobserved(error) => {
                let what = format!("{} selects {}", self.object(), to.slot.name);
                Outcome { verdict: Verdict::Unobserved, detail: unobserved(&what, &error), ..base }
            }
            End::OutOfTime { ready: false } => self.take_back(base, survey, to, None, events).await?,
            End::Failed(symptom) => self.take_back(base, survey, to, symptom, events).await?,
        })
    }

    pub(super) fn finished(&self, outcome: Outcome, events: &Events) -> Outcome {
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        outcome
    }

    /// The pods that took the traffic fail: their evidence first, then the traffic goes back.
    async fn take_back(
        &self,
        failed: Outcome,
        survey: &Survey,
        to: &SlotState,
        symptom: Option<Symptom>,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        let failure = self.evidence(to, symptom, events).await;
        events.emit(DeployEvent::Failing { target: self.id.clone(), failure: failure.clone() });
        let live = &survey.traffic.live;
        let failed = Outcome { verdict: Verdict::FailedInPlace, failure: Some(failure), ..failed };
        if to == live || self.options.on_failure == OnFailure::Leave {
            let detail = format!("{} fails and has the traffic", to.slot.name);
            return Ok(Outcome { detail, ..failed });
        }
        self.not_cancelled(events)?;
        events.emit(DeployEvent::RollingBack { target: self.id.clone(), to: Some(live.revision()) });
        let lost = |detail: String| Outcome { verdict: Verdict::RollbackFailed, detail, ..failed.clone() };
        let switched = &self.slots.selector_of(&to.slot, &survey.selector);
        let back = Some((SWITCHED_BACK_FROM, &to.slot));
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let put_back = || async move {
            let service = self.namespace.service(&self.service).await?;
            self.patch(&service, switched, &survey.selector, back).await
        };
        let patience = Patience::after_change(deadline, self.options.grace);
        match retried(patience, events, &self.id, put_back).await {
            Ok(Patched::Done) => {}
            Ok(Patched::Superseded(selected)) => {
                return Ok(lost(format!("somebody made the Service select {selected} while going back")));
            }
            Err(error) => {
                self.not_cancelled(events)?;
                let why = error.of_api().map_or_else(|| error.to_string(), Error::without_advice);
                let detail =
                    format!("the traffic could not be put back to {}: {why}; {SWITCH_BACK}", live.slot.name);
                return Ok(match error.of_api() {
                    Some(Error::Unreachable { .. }) => {
                        Outcome { verdict: Verdict::Unobserved, detail, ..failed }
                    }
                    Some(error) if error.is_retryable() || error.is_refusal() => Outcome { detail, ..failed },
                    _ => lost(detail),
                });
            }
        }
        let follower = Follower::start(&self.namespace, &self.service, &survey.selector, &self.id, events);
        // That the old pods have it is all that counts now.
        Ok(match follower.follow(deadline, Duration::ZERO, self.options.grace, usize::MAX).await? {
            End::Arrived(_) => Outcome {
                verdict: Verdict::RolledBack,
                revision: Some(live.revision()),
                detail: format!("{} has the traffic again", live.slot.name),
                ..failed
            },
            End::Unobserved(error) => Outcome {
                verdict: Verdict::Unobserved,
                detail: format!(
                    "{} selects {} again; what became of it can no longer be observed: {}; {SWITCH_BACK}",
                    self.object(),
                    live.slot.name,
                    error.without_advice()
                ),
                ..failed
            },
            _ => lost(format!("{} has the traffic again, and no ready pod", live.slot.name)),
        })
    }

    /// Why the pods of a slot fail.
    async fn evidence(&self, slot: &SlotState, symptom: Option<Symptom>, events: &Events) -> FailureReport {
        let target = self.target(&slot.slot, self.options.clone());
        if let Ok(Some(report)) = target.0.diagnose(events).await {
            return report;
        }
        match symptom {
            Some(symptom) => FailureReport::new(symptom.cause, symptom.message)
                .in_container(symptom.container, symptom.exit_code),
            None => {
                let message = format!("no pod of {} is ready to answer", slot.slot.deployment);
                FailureReport::new(bp_artifact::Cause::HealthCheckFailed, message)
            }
        }
    }

    /// Applies a selector, if the Service still selects what was read. A version that has moved on for other reasons
    /// is read again.
    async fn patch(
        &self,
        service: &Service,
        from: &Labels,
        to: &Labels,
        mark: Option<(&str, &Slot)>,
    ) -> Result<Patched, TrafficError> {
        let mut pauses = pauses().build();
        let mut version = service.metadata.resource_version.clone();
        loop {
            let config = self.config(version.as_deref(), to, mark);
            let object = self.namespace.object("service", &self.service);
            let take_over = self.options.take_over;
            let applied = self.namespace.apply::<Service>("patch services", &object, &config, take_over);
            if let Applied::Done(_) = applied.await? {
                return Ok(Patched::Done);
            }
            let Some(pause) = pauses.next() else {
                return Err(TrafficError::Contended { object: self.object() });
            };
            tokio::time::sleep(pause).await;
            let service = self.namespace.service(&self.service).await?;
            let selected = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
            // An earlier try of ours, whose answer was lost.
            if selected == *to {
                return Ok(Patched::Done);
            }
            if selected != *from {
                return Ok(Patched::Superseded(super::slots::shown(&selected)));
            }
            version = service.metadata.resource_version;
        }
    }

    /// What we say of the Service: its selector, and which way it went.
    pub(super) fn config(
        &self,
        version: Option<&str>,
        selector: &Labels,
        mark: Option<(&str, &Slot)>,
    ) -> serde_json::Value {
        let annotations: Labels =
            mark.into_iter().map(|(key, slot)| (key.to_owned(), slot.name.clone())).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.service, "resourceVersion": version, "annotations": annotations },
            "spec": { "selector": selector },
        })
    }

    /// The name of the container that has the image.
    fn container_of(&self, survey: &Survey, to: &SlotState) -> String {
        if let Some(container) = &self.container {
            return container.clone();
        }
        let deployment = match to == &survey.traffic.live {
            true => Some(&survey.deployments.0),
            false => survey.deployments.1.as_ref(),
        };
        let pod = deployment.and_then(|d| d.spec.as_ref()?.template.spec.as_ref());
        pod.and_then(|pod| pod.containers.first()).map(|c| c.name.clone()).unwrap_or_default()
    }
}

/// What people are told of a change that was sent and not answered.
///
/// # Errors
/// When it was answered: nothing was changed.
pub(super) fn may_be_applied(object: &str, error: TrafficError) -> Result<String, TrafficError> {
    match error {
        TrafficError::Rollout(error) => Ok(rollout::may_be_applied(&object, error)?),
        error => Err(error),
    }
}

/// Between tries of a patch that somebody else came before: the controllers write often, but not for long.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(6)
        .with_jitter()
}
