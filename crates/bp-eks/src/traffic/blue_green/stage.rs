//! Stage an image: roll it out in the idle slot while the live slot keeps the traffic.

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{
        DeployEvent, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::ResourceExt;
use serde_json::json;

use super::{
    SlotSwitch,
    slots::{Slot, Slots},
    state::Survey,
};
use crate::{
    api::retry::{RetryLimit, with_retries},
    ending::Ending,
    error::Error,
    options::Options,
    target::Rollout,
    traffic::{
        api::{Applied, MANAGED_BY},
        balancer,
        error::TrafficError,
        labels::Labels,
    },
    workload::template,
};

impl SlotSwitch {
    pub(super) async fn stage(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        balancer::check_no_load_balancer(&self.namespace, &self.service).await?;
        let survey = self.survey().await?;
        let changes = !survey.slot_for(&image.reference).is_up(&image.reference);
        let mut run = survey.begin(reporter, Intent::deploy(image), changes);
        let staged = self.roll_out_in_slot(&mut run, &survey, image, true).await?;
        Ok(staged.close(run))
    }

    /// Rolls the image out in the slot without traffic and points the test Service to it. `reports`: whether this
    /// rollout is reported as the change of the operation.
    pub(super) async fn roll_out_in_slot(
        &self,
        run: &mut Run,
        survey: &Survey,
        image: &ResolvedImage,
        reports: bool,
    ) -> Result<Ending, TrafficError> {
        let (live, slot) = (&survey.traffic.live, survey.slot_for(&image.reference));
        let selector = self.slots.selector_of(&slot.slot, &survey.selector);
        let up = slot.is_up(&image.reference);
        let deployment =
            if slot == live { Some(&survey.deployments.0) } else { survey.deployments.1.as_ref() };
        if let Some(deployment) = deployment {
            self.check_labels(deployment, &selector)?;
        }
        run.in_place(Some(Revision::new(slot.slot.name.clone(), &image.reference)));
        let mut part = Part { reports, made: false };
        let staged = if slot == live {
            // The live slot has the image already: only verify that it runs.
            let rollout = self.target(&slot.slot, self.slot_options().adopt_only()).deploy(image);
            self.follow(run, rollout, &mut part).await?
        } else {
            self.roll_out_idle(run, survey, image, &mut part).await?
        };
        if let Some(test) =
            self.test_service.as_deref().filter(|_| slot != live && staged.verdict().is_success())
        {
            self.retry_refused(run, || self.point_test_service(test, &survey.service, &selector)).await?;
        }
        let verdict = staged.verdict();
        if staged.changed || !up {
            run.changed();
        }
        if let Some(report) = staged.failure {
            run.failing(report);
        }
        let name = &slot.slot.name;
        let detail = match verdict {
            Verdict::FailedInPlace => {
                format!("slot {name} failed to become ready; slot {} keeps the traffic", live.slot.name)
            }
            Verdict::Deployed if slot == live => format!("slot {name} already has the traffic"),
            Verdict::Deployed => format!("slot {name} is ready; slot {} has the traffic", live.slot.name),
            Verdict::Unproven
            | Verdict::DigestMismatch
            | Verdict::RolledBack
            | Verdict::RollbackFailed
            | Verdict::Stopped
            | Verdict::Superseded
            | Verdict::Gone
            | Verdict::AwaitingApproval
            | Verdict::DeadlineExceeded
            | Verdict::Unobserved => format!("slot {name}: {}", staged.detail),
        };
        let Some(ended) = Ended::of(verdict) else { return Ok(Ending::Proven(staged.proof, detail)) };
        run.observed(staged.proof);
        // The live slot kept the traffic throughout.
        Ok(Ending::Ended(if ended == Ended::FailedInPlace { Ended::RolledBack } else { ended }, detail))
    }

    /// The options for a slot without traffic: a failed rollout is left in place for inspection.
    fn slot_options(&self) -> Options {
        self.options.clone().on_failure(bp_artifact::deploy::OnFailure::Leave)
    }

    /// Retries `call` while the API server refuses for a transient reason.
    async fn retry_refused<T, F>(&self, run: &Run, call: impl FnMut() -> F) -> Result<T, TrafficError>
    where
        F: Future<Output = Result<T, TrafficError>>,
    {
        let limit =
            RetryLimit::until(bp_artifact::time::deadline(self.options.grace.min(self.options.deadline)));
        let done = with_retries(limit, run, call).await;
        self.checkpoint(run)?;
        done
    }

    /// Rolls the image out in the idle slot, with the replicas of the live one.
    ///
    /// Sets the image before the replicas, so that no pod of an earlier image is started.
    async fn roll_out_idle(
        &self,
        run: &Run,
        survey: &Survey,
        image: &ResolvedImage,
        part: &mut Part,
    ) -> Result<Outcome, TrafficError> {
        let (live, idle) = (&survey.traffic.live, &survey.traffic.idle);
        let target = self.target(&idle.slot, self.slot_options());
        self.checkpoint(run)?;
        if survey.deployments.1.is_none() {
            let made = self.derive_deployment(&survey.deployments.0, &idle.slot, image)?;
            self.retry_refused(run, || self.namespace.create(&made)).await?;
            part.made = true;
        } else if idle.replicas < live.replicas {
            if !idle.has(&image.reference) {
                let outcome = self.follow(run, target.deploy(image), part).await?;
                if !matches!(outcome.verdict(), Verdict::Deployed | Verdict::Unproven) {
                    return Ok(outcome);
                }
            }
            self.checkpoint(run)?;
            self.retry_refused(run, || self.namespace.scale(&idle.slot.deployment, live.replicas)).await?;
        }
        self.follow(run, target.deploy(image), part).await
    }

    /// Runs a rollout as a part of the operation; reports only one `Applied` event.
    async fn follow(&self, run: &Run, rollout: Rollout, part: &mut Part) -> Result<Outcome, TrafficError> {
        let rolled_out = run.nested_with(rollout, |mut event| {
            if let DeployEvent::Applied { adopted, .. } = &mut event {
                *adopted &= !part.made;
                return std::mem::take(&mut part.reports).then_some(event);
            }
            Some(event)
        });
        match rolled_out.await {
            Err(Error::Interrupted { .. }) => Err(self.interrupted()),
            rolled_out => Ok(rolled_out?),
        }
    }

    /// The second Deployment, derived from the live one.
    fn derive_deployment(
        &self,
        live: &Deployment,
        slot: &Slot,
        image: &ResolvedImage,
    ) -> Result<Deployment, TrafficError> {
        let environment = &self.options.environment;
        let mut deployment =
            derive_deployment(live, &self.slots, slot, self.container.as_deref(), image, environment)?;
        let annotations = &self.options.annotations;
        deployment.metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
        Ok(deployment)
    }

    /// Creates the test Service, or points an existing one of bp-eks to the slot.
    async fn point_test_service(
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

/// Which changes the rollouts inside an operation report.
struct Part {
    /// Whether to report the next change.
    reports: bool,
    /// Whether this operation made the change that the rollout adopts.
    made: bool,
}

/// Whether bp-eks created this object.
pub(super) fn is_ours(object: &Service) -> bool {
    object.labels().get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1)
}

/// A `ClusterIP` Service with the ports of `live`, deleted together with `live`.
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

/// A copy of the live Deployment for another slot, with another image.
fn derive_deployment(
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
    fn second_deployment_differs_only_in_slot_and_image() {
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
        let made = derive_deployment(&live, &slots, &slots.pair()[1], Some("web"), &image, &[]).unwrap();
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
        assert!(
            derive_deployment(&live, &slots, &slots.pair()[1], None, &image, &[]).is_err(),
            "which container?"
        );
    }
}
