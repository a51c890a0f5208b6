//! Switch a Service's selector in one patch with a precondition, watch the result, and switch back on failure.

use std::time::Duration;

use backon::BackoffBuilder;
use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{
        FailureReport, OnFailure, Reporter,
        run::{Ended, Intent, Run},
    },
    error::Classified,
};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::{
    SlotSwitch,
    follow::{End, Follower},
    slots::Slot,
    state::{SWITCHED_BACK_FROM, SWITCHED_FROM, SlotState, Survey},
};
use crate::{
    api::{
        retry::{AsApiError, RetryLimit, with_retries},
        symptom::Symptom,
    },
    error::Error,
    rollout::proof,
    traffic::{
        api::{Applied, may_be_applied, pauses},
        balancer,
        error::TrafficError,
        labels::Labels,
    },
};

/// The advice after a switch back that was not observed to complete.
const SWITCH_BACK: &str = "rerun the switch back to resume";

/// The result of a patch of the selector.
enum Patched {
    /// The selector is set.
    Done,
    /// Another client changed the selector first; the value it has now.
    Superseded(String),
}

impl SlotSwitch {
    pub(super) async fn switch(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        balancer::check_no_load_balancer(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let to = self.staged(&survey, image).await?;
        let run = survey.begin(reporter, Intent::deploy(image), to != &survey.traffic.live);
        self.move_traffic(run, &survey, to, SWITCHED_FROM).await
    }

    /// The slot that has this image, checked to be ready for traffic.
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
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        balancer::check_no_load_balancer(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let slot = survey.slot_for(&image.reference);
        let changes = slot != &survey.traffic.live || !slot.is_up(&image.reference);
        let mut run = survey.begin(reporter, Intent::deploy(image), changes);
        let staged = self.roll_out_in_slot(&mut run, &survey, image, false).await?;
        if !staged.is_success(image) {
            return Ok(staged.close(run));
        }
        self.checkpoint(&run)?;
        let survey = self.survey().await?;
        let to = self.staged(&survey, image).await?;
        self.move_traffic(run, &survey, to, SWITCHED_FROM).await
    }

    pub(super) async fn switch_back(&self, reporter: &Reporter) -> Result<Outcome, TrafficError> {
        let survey = self.survey().await?;
        let (live, idle) = (&survey.traffic.live, &survey.traffic.idle);
        let nothing = || TrafficError::NothingToSwitchBack { object: self.object() };
        let to = match (survey.annotation(SWITCHED_FROM), survey.annotation(SWITCHED_BACK_FROM)) {
            (Some(from), _) if from == idle.slot.name => idle,
            // An earlier run has switched back already.
            (_, Some(from)) if from == idle.slot.name => live,
            _ => return Err(nothing()),
        };
        if to.available == 0 {
            let (object, why) =
                (format!("deployment/{}", to.slot.deployment), "it has no ready pod".to_owned());
            return Err(TrafficError::NotReady { object, why });
        }
        let run = survey.begin(reporter, Intent::restore(&to.revision()), to != live);
        self.move_traffic(run, &survey, to, SWITCHED_BACK_FROM).await
    }

    /// Checks that the slot's rollout is complete and its pods run the image.
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
        let verdict = self.target(&to.slot, self.options.clone()).prove().await?.judge(image);
        if verdict == Verdict::Deployed { Ok(()) } else { not_ready(verdict.to_string()) }
    }

    /// Switches the traffic to a slot and watches the result, which ends the operation. `mark` is the annotation that
    /// records the previous slot on the Service.
    pub(super) async fn move_traffic(
        &self,
        mut run: Run,
        survey: &Survey,
        to: &SlotState,
        mark: &'static str,
    ) -> Result<Outcome, TrafficError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let live = &survey.traffic.live;
        let selector = self.slots.selector_of(&to.slot, &survey.selector);
        let changes = to != live;
        run.in_place(Some(to.revision()));
        if changes {
            self.checkpoint(&run)?;
            let limit = RetryLimit::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
            let mark = Some((mark, &live.slot));
            let patch = || self.patch(&survey.service, &survey.selector, &selector, mark);
            let patched = with_retries(limit, &run, patch).await;
            self.checkpoint(&run)?;
            match patched {
                Ok(Patched::Done) => run.changed(),
                Ok(Patched::Superseded(selected)) => {
                    let detail = format!("another client changed the selector to {selected}");
                    return Ok(run.ended(Ended::Superseded, detail));
                }
                Err(error) => {
                    let detail = may_be_applied(&self.object(), error)?;
                    run.changed();
                    return Ok(run.ended(Ended::Unobserved, detail));
                }
            }
        }
        run.applied(to.revision(), format!("selector {}={}", self.slots.label(), to.slot.name), !changes);
        let follower = Follower::start(&self.namespace, &self.service, &selector, &run);
        let fail_after = self.options.fail_after.map_or(2, |pods| pods.get() as usize);
        let bake = if changes { self.bake } else { Duration::ZERO };
        match follower.follow(deadline, bake, self.options.grace, fail_after).await? {
            End::Arrived(pods) => {
                let container = self.container_of(survey, to);
                let pods = pods.iter().map(AsRef::as_ref);
                let proof = match run.image() {
                    Some(image) => proof::against(pods, &container, image),
                    None => proof::of(pods, &container),
                };
                run.detail(format!("slot {} has the traffic", to.slot.name));
                Ok(run.proven(proof))
            }
            End::Superseded(selected) => {
                Ok(run.ended(Ended::Superseded, format!("another client changed the selector to {selected}")))
            }
            End::Gone => Ok(run.ended(Ended::Gone, "the Service was deleted")),
            End::OutOfTime { ready: true } => {
                Ok(run.ended(Ended::DeadlineExceeded, "the endpoints do not match the new selector"))
            }
            End::Unobserved(error) => {
                let what = format!("{} selects slot {}", self.object(), to.slot.name);
                Ok(run.ended(Ended::Unobserved, error.unobserved(&what)))
            }
            End::OutOfTime { ready: false } => self.roll_back(run, survey, to, None).await,
            End::Failed(symptom) => self.roll_back(run, survey, to, symptom).await,
        }
    }

    /// The pods that received the traffic fail: collects evidence, then restores the previous selector.
    async fn roll_back(
        &self,
        mut run: Run,
        survey: &Survey,
        to: &SlotState,
        symptom: Option<Symptom>,
    ) -> Result<Outcome, TrafficError> {
        let live = &survey.traffic.live;
        run.failing(self.evidence(to, symptom, &run).await);
        if to == live || self.options.on_failure == OnFailure::Leave {
            let detail = format!("slot {} fails and keeps the traffic", to.slot.name);
            return Ok(run.ended(Ended::FailedInPlace, detail));
        }
        self.checkpoint(&run)?;
        run.rolling_back(Some(live.revision()));
        let switched = &self.slots.selector_of(&to.slot, &survey.selector);
        let back = Some((SWITCHED_BACK_FROM, &to.slot));
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let restore_selector = || async move {
            let service = self.namespace.service(&self.service).await?;
            self.patch(&service, switched, &survey.selector, back).await
        };
        let limit = RetryLimit::after_change(deadline, self.options.grace);
        match with_retries(limit, &run, restore_selector).await {
            Ok(Patched::Done) => {}
            Ok(Patched::Superseded(selected)) => {
                let detail =
                    format!("another client changed the selector to {selected} during the switch back");
                return Ok(run.ended(Ended::RollbackFailed, detail));
            }
            Err(error) => {
                self.checkpoint(&run)?;
                let why = error.as_api_error().map_or_else(|| error.to_string(), Error::without_advice);
                let detail =
                    format!("failed to restore the traffic to slot {}: {why}; {SWITCH_BACK}", live.slot.name);
                let ended = match error.as_api_error() {
                    Some(Error::Unreachable { .. }) => Ended::Unobserved,
                    Some(error) if error.is_retryable() || error.is_refusal() => Ended::FailedInPlace,
                    Some(_) | None => Ended::RollbackFailed,
                };
                return Ok(run.ended(ended, detail));
            }
        }
        let follower = Follower::start(&self.namespace, &self.service, &survey.selector, &run);
        // Only that the previous pods receive the traffic matters now.
        let (ended, detail) = match follower
            .follow(deadline, Duration::ZERO, self.options.grace, usize::MAX)
            .await?
        {
            End::Arrived(_) => {
                run.in_place(Some(live.revision()));
                (Ended::RolledBack, format!("slot {} has the traffic again", live.slot.name))
            }
            End::Unobserved(error) => (
                Ended::Unobserved,
                format!(
                    "{} selects slot {} again, but its endpoints can no longer be observed: {}; {SWITCH_BACK}",
                    self.object(),
                    live.slot.name,
                    error.without_advice()
                ),
            ),
            End::Failed(_) | End::Superseded(_) | End::Gone | End::OutOfTime { .. } => (
                Ended::RollbackFailed,
                format!("slot {} has the traffic again, but no ready pod", live.slot.name),
            ),
        };
        Ok(run.ended(ended, detail))
    }

    /// The failure report of a slot's pods.
    async fn evidence(
        &self,
        slot: &SlotState,
        symptom: Option<Symptom>,
        reporter: &Reporter,
    ) -> FailureReport {
        let target = self.target(&slot.slot, self.options.clone());
        if let Ok(Some(report)) = target.0.diagnose(reporter).await {
            return report;
        }
        let report = match symptom {
            Some(symptom) => FailureReport::new(symptom.cause, symptom.message)
                .in_container(symptom.container, symptom.exit_code),
            None => {
                let message = format!("no pod of deployment/{} is ready", slot.slot.deployment);
                FailureReport::new(bp_artifact::deploy::Cause::HealthCheckFailed, message)
            }
        };
        let namespace = &self.namespace.namespace;
        report.inspect_with(["kubectl", "-n", namespace, "describe", "deployment", &slot.slot.deployment])
    }

    /// Applies a selector if the Service still has the selector that was read. When only other fields have changed,
    /// reads the new resource version and retries.
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
            // An earlier attempt succeeded, but its answer was lost.
            if selected == *to {
                return Ok(Patched::Done);
            }
            if selected != *from {
                return Ok(Patched::Superseded(crate::traffic::labels::format_labels(&selected)));
            }
            version = service.metadata.resource_version;
        }
    }

    /// The apply configuration of the Service: its selector and the annotation that records the switch.
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
        let deployment = if to == &survey.traffic.live {
            Some(&survey.deployments.0)
        } else {
            survey.deployments.1.as_ref()
        };
        let pod = deployment.and_then(|d| d.spec.as_ref()?.template.spec.as_ref());
        pod.and_then(|pod| pod.containers.first()).map(|c| c.name.clone()).unwrap_or_default()
    }
}
