//! Bringing an image up in the idle slot, beside what is live.

use bp_artifact::{DeployEvent, Emitter, Outcome, Proof, ResolvedImage, Verdict};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::ResourceExt;
use serde_json::json;

use super::{
    api::{Applied, MANAGED_BY},
    balancer,
    error::TrafficError,
    green::Inner,
    slots::{Labels, Slot, Slots},
    state::{SlotState, Survey},
};
use crate::rollout::{
    Options, Rollout,
    retry::{Patience, retried},
    template,
};

type Events = Emitter<DeployEvent>;

impl Inner {
    pub(super) async fn stage(
        &self,
        image: &ResolvedImage,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        balancer::refuse(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let changes = !survey.slot_for(&image.reference).is_up(&image.reference);
        self.tell_planned(&survey, Some(image), changes, events);
        let outcome = self.bring(&survey, image, events).await?;
        Ok(self.finished(outcome, events))
    }

    /// Brings the image up where it has no traffic, and leads the test Service there.
    pub(super) async fn bring(
        &self,
        survey: &Survey,
        image: &ResolvedImage,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        let (live, slot) = (&survey.traffic.live, survey.slot_for(&image.reference));
        let selector = self.slots.selector_of(&slot.slot, &survey.selector);
        let up = slot.is_up(&image.reference);
        let deployment =
            if slot == live { Some(&survey.deployments.0) } else { survey.deployments.1.as_ref() };
        if let Some(deployment) = deployment {
            self.check_labels(deployment, &selector)?;
        }
        let base = self.outcome(survey, slot, image, !up);
        let staged = match slot == live {
            // Nothing is staged beside itself; that it runs is shown all the same.
            true => {
                let rollout = self.target(&slot.slot, self.own().adopt_only()).deploy(image);
                self.follow(rollout, events, &mut None).await?
            }
            false => self.bring_up(survey, image, events).await?,
        };
        if let Some(test) =
            self.test_service.as_deref().filter(|_| slot != live && staged.verdict.is_success())
        {
            self.insist(events, || self.lead_test_service(test, &survey.service, &selector)).await?;
        }
        let name = &slot.slot.name;
        let (verdict, detail) = match staged.verdict {
            Verdict::FailedInPlace => {
                let why = format!("{name} does not come up; {} has the traffic, as before", live.slot.name);
                (Verdict::RolledBack, why)
            }
            Verdict::Deployed if slot == live => {
                (Verdict::Deployed, format!("{name} has the traffic already"))
            }
            Verdict::Deployed => {
                (Verdict::Deployed, format!("{name} is ready; {} has the traffic", live.slot.name))
            }
            other => (other, format!("{name}: {}", staged.detail)),
        };
        let outcome = Outcome {
            verdict,
            detail,
            changed: base.changed || staged.changed,
            failure: staged.failure,
            proof: staged.proof,
            ..base
        };
        Ok(outcome)
    }

    /// An outcome to begin with: `slot` with `image`.
    pub(super) fn outcome(
        &self,
        survey: &Survey,
        slot: &SlotState,
        image: &ResolvedImage,
        changed: bool,
    ) -> Outcome {
        let revision = bp_artifact::Revision::new(&slot.slot.name, &image.reference);
        Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: Some(image.reference.clone()),
            changed,
            revision: Some(revision),
            previous: Some(survey.traffic.live.revision()),
            failure: None,
            proof: Proof::default(),
            detail: String::new(),
        }
    }

    /// Our options for a slot that has no traffic: what fails there is left to be looked at.
    fn own(&self) -> Options {
        self.options.clone().on_failure(bp_artifact::OnFailure::Leave)
    }

    /// Calls again while the API server refuses for a reason that may pass.
    async fn insist<T, F>(&self, events: &Events, call: impl FnMut() -> F) -> Result<T, TrafficError>
    where
        F: Future<Output = Result<T, TrafficError>>,
    {
        let patience =
            Patience::until(bp_artifact::time::deadline(self.options.grace.min(self.options.deadline)));
        let done = retried(patience, events, &self.id, call).await;
        self.not_cancelled(events)?;
        done
    }

    /// The idle slot with this image and as many replicas as the live one.
    ///
    /// The image comes first and the replicas after it, so that nothing of an earlier image is started.
    async fn bring_up(
        &self,
        survey: &Survey,
        image: &ResolvedImage,
        events: &Events,
    ) -> Result<Outcome, TrafficError> {
        let (live, idle) = (&survey.traffic.live, &survey.traffic.idle);
        let target = self.target(&idle.slot, self.own());
        self.not_cancelled(events)?;
        let mut applied = None;
        if survey.deployments.1.is_none() {
            let made = self.made_after(&survey.deployments.0, &idle.slot, image)?;
            self.insist(events, || self.namespace.create(&made)).await?;
            applied = Some(false);
        } else if idle.replicas < live.replicas {
            if !idle.has(&image.reference) {
                let outcome = self.follow(target.deploy(image), events, &mut applied).await?;
                if !matches!(outcome.verdict, Verdict::Deployed | Verdict::Unproven) {
                    return Ok(outcome);
                }
            }
            self.not_cancelled(events)?;
            self.insist(events, || self.namespace.scale(&idle.slot.deployment, live.replicas)).await?;
        }
        self.follow(target.deploy(image), events, &mut applied).await
    }

    /// Tells the events of a rollout, which is a part of our operation, and gives its outcome. `applied` says whether we
    /// have made the change ourselves that the rollout adopts, and whether that was told: it is told once.
    async fn follow(
        &self,
        mut rollout: Rollout,
        events: &Events,
        applied: &mut Option<bool>,
    ) -> Result<Outcome, TrafficError> {
        loop {
            tokio::select! {
                event = rollout.next_event() => match event {
                    // Ours ends later.
                    Some(DeployEvent::Planned { .. } | DeployEvent::Finished { .. }) => {}
                    Some(DeployEvent::Applied { .. }) if *applied == Some(true) => {}
                    Some(DeployEvent::Applied { target, revision, deployment, adopted }) => {
                        let adopted = adopted && applied.is_none();
                        *applied = Some(true);
                        events.emit(DeployEvent::Applied { target, revision, deployment, adopted });
                    }
                    Some(event) => events.emit(event),
                    None => break,
                },
                () = events.cancelled() => return Err(TrafficError::Interrupted { object: self.object() }),
            }
        }
        Ok(rollout.await?)
    }

    /// The second Deployment, made after the live one.
    fn made_after(
        &self,
        live: &Deployment,
        slot: &Slot,
        image: &ResolvedImage,
    ) -> Result<Deployment, TrafficError> {
        made_after(live, &self.slots, slot, self.container.as_deref(), image, &self.options.environment)
    }

    /// Makes the test Service, or leads the one that we made to the slot.
    async fn lead_test_service(
        &self,
        name: &str,
        service: &Service,
        selector: &Labels,
    ) -> Result<(), TrafficError> {
        let there = self.namespace.services().get_opt(name).await;
        let object = self.namespace.object("service", name);
        let there = there.map_err(|e| object.error("get services", e))?;
        if there.is_some_and(|service| !is_ours(&service)) {
            return Err(TrafficError::NotOurs { service: name.to_owned() });
        }
        let config = test_service(name, service, selector);
        match self.namespace.apply::<Service>("patch services", &object, &config, false).await? {
            Applied::Done(_) => Ok(()),
            Applied::Stale => Err(TrafficError::Contended { object: object.to_string() }),
        }
    }
}

/// Whether we made this object.
pub(super) fn is_ours(object: &Service) -> bool {
    object.labels().get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1)
}

/// A Service like `live`, for inside the cluster only. It goes with the live one.
fn test_service(name: &str, live: &Service, selector: &Labels) -> serde_json::Value {
    let spec = live.spec.clone().unwrap_or_default();
    let ports: Vec<_> = spec
        .ports
        .into_iter()
        .flatten()
        .map(|port| k8s_openapi::api::core::v1::ServicePort { node_port: None, ..port })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": { (MANAGED_BY.0): MANAGED_BY.1 },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": live.name_any(), "uid": live.metadata.uid,
            }],
        },
        "spec": { "type": "ClusterIP", "ports": ports, "selector": selector },
    })
}

/// A Deployment like the live one, for another slot and with another image.
fn made_after(
    live: &Deployment,
    slots: &Slots,
    slot: &Slot,
    container: Option<&str>,
    image: &ResolvedImage,
    environment: &[(String, String)],
) -> Result<Deployment, TrafficError> {
    let mut spec = live.spec.clone().unwrap_or_default();
    let (label, value) = (slots.label().to_owned(), slot.name.clone());
    let workload = format!("deployment/{}", live.name_any());
    if let (Ok(workload), Ok(json)) = (workload.parse(), serde_json::to_value(&spec.template)) {
        let container = template::slot(&json, &workload, container)?;
        let changed = template::with(json, &container, &image.reference.to_string(), environment);
        spec.template = serde_json::from_value(changed).unwrap_or(spec.template);
    }
    let of_pods = spec.template.metadata.get_or_insert_default();
    of_pods.labels.get_or_insert_default().insert(label.clone(), value.clone());
    spec.selector.match_labels.get_or_insert_default().insert(label.clone(), value.clone());
    let mut labels = live.metadata.labels.clone().unwrap_or_default();
    labels.entry(label).and_modify(|there| *there = value);
    let mut made = Deployment { spec: Some(spec), ..Deployment::default() };
    made.metadata.name = Some(slot.deployment.clone());
    made.metadata.labels = Some(labels);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_deployment_differs_in_slot_and_image_alone() {
        let live: Deployment = serde_json::from_value(json!({
            "metadata": {
                "name": "web-blue", "namespace": "shop", "uid": "1", "resourceVersion": "7",
                "labels": { "app": "web", "slot": "blue" },
                "annotations": { "deployment.kubernetes.io/revision": "4" },
            },
            "spec": {
                "replicas": 3,
                "selector": { "matchLabels": { "app": "web", "slot": "blue" } },
                "template": {
                    "metadata": { "labels": { "app": "web", "slot": "blue" } },
                    "spec": { "containers": [{ "name": "web", "image": "a" }, { "name": "proxy", "image": "p" }] },
                },
            },
        }))
        .unwrap();
        let image = format!("r.example.com/web@{}", bp_artifact::Digest::sha256("b"));
        let image = ResolvedImage::from(image.parse::<bp_artifact::DigestRef>().unwrap());
        let slots = Slots::of_service("web");
        let made = made_after(&live, &slots, &slots.pair()[1], Some("web"), &image, &[]).unwrap();
        let expected = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web-green", "labels": { "app": "web", "slot": "green" } },
            "spec": {
                "replicas": 3,
                "selector": { "matchLabels": { "app": "web", "slot": "green" } },
                "template": {
                    "metadata": { "labels": { "app": "web", "slot": "green" } },
                    "spec": { "containers": [
                        { "name": "web", "image": image.reference.to_string() }, { "name": "proxy", "image": "p" },
                    ] },
                },
            },
        });
        assert_eq!(serde_json::to_value(&made).unwrap(), expected);
        assert!(made_after(&live, &slots, &slots.pair()[1], None, &image, &[]).is_err(), "which container?");
    }
}
