//! Read the state of a blue/green pair: the live slot, the image and replicas of each slot, the previous slot.

use bp_artifact::{
    DigestRef,
    deploy::{
        Reporter, Revision,
        run::{Intent, Run},
    },
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::ResourceExt;
use serde::Serialize;

use super::{SlotSwitch, slots::Slot};
use crate::{
    error::Error,
    traffic::{
        error::TrafficError,
        labels::{Labels, format_labels},
    },
    workload::{RolloutStatus, template},
};

/// Annotation on the Service: the slot it was switched from. Written in the same patch as the selector.
pub(super) const SWITCHED_FROM: &str = "bp-eks/switched-from";
/// Annotation on the Service: the slot it was switched back from.
pub(super) const SWITCHED_BACK_FROM: &str = "bp-eks/switched-back-from";
/// Annotation on the Service: the slot that was scaled down.
pub(super) const CLEANED_UP: &str = "bp-eks/cleaned-up";

/// The live and the idle slot of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Traffic {
    /// The slot that the Service selects.
    pub live: SlotState,
    /// The other slot.
    pub idle: SlotState,
    /// The slot that the traffic was switched from, while it can be switched back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched_from: Option<String>,
}

/// The state of a slot's Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SlotState {
    /// The slot.
    #[serde(flatten)]
    pub slot: Slot,
    /// The image in its Deployment's template. `None` when there is no Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The desired number of replicas.
    pub replicas: i32,
    /// The number of available replicas.
    pub available: i32,
    /// Whether the rollout of its Deployment is complete and every replica available.
    pub complete: bool,
}

impl SlotState {
    pub(super) fn of(slot: &Slot, deployment: Option<&Deployment>, container: Option<&str>) -> Self {
        let spec = deployment.and_then(|d| d.spec.as_ref());
        let status = deployment.and_then(|d| d.status.as_ref());
        let complete = |d: &Deployment| {
            let generation = d.metadata.generation.unwrap_or_default();
            RolloutStatus::of_deployment(d, generation) == RolloutStatus::Complete
        };
        SlotState {
            slot: slot.clone(),
            image: deployment.map(|d| image_of(d, container).to_owned()),
            replicas: spec.map_or(0, |spec| spec.replicas.unwrap_or(1)),
            available: status.and_then(|s| s.available_replicas).unwrap_or_default(),
            complete: deployment.is_some_and(complete),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision::new(&self.slot.name, self.image.clone().unwrap_or_default())
    }

    /// Whether the image is rolled out and every replica available.
    pub(super) fn is_up(&self, image: &DigestRef) -> bool {
        self.has(image) && self.complete && self.replicas > 0
    }

    /// Whether the template has this image's digest.
    pub(super) fn has(&self, image: &DigestRef) -> bool {
        let pinned = self.image.as_deref().and_then(|text| text.parse::<DigestRef>().ok());
        pinned.is_some_and(|pinned| pinned.digest() == image.digest())
    }
}

/// The image of `container`; defaults to the first container.
fn image_of<'d>(deployment: &'d Deployment, container: Option<&str>) -> &'d str {
    let Some(spec) = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return "" };
    let image = match container {
        Some(name) => template::pod_image(spec, name),
        None => spec.containers.first().and_then(|c| c.image.as_deref()),
    };
    image.unwrap_or_default()
}

/// The state of a pair and the objects it was read from.
pub(super) struct Survey {
    pub(super) traffic: Traffic,
    pub(super) service: Service,
    pub(super) selector: Labels,
    /// Of the live slot, and of the idle one.
    pub(super) deployments: (Deployment, Option<Deployment>),
}

impl Survey {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.service.annotations().get(key).map(String::as_str)
    }

    /// Begins an operation whose current and previous revision is the live slot.
    pub(super) fn begin(&self, reporter: &Reporter, intent: Intent, changes: bool) -> Run {
        let live = self.traffic.live.revision();
        let intent = intent.current(Some(live.clone())).previous(Some(live)).changes(changes);
        let mut run = Run::planned(reporter, intent);
        run.unchanged();
        run
    }

    /// The slot to roll the image out in: the live slot if it has the image already, otherwise the idle one.
    pub(super) fn slot_for(&self, image: &DigestRef) -> &SlotState {
        if self.traffic.live.has(image) { &self.traffic.live } else { &self.traffic.idle }
    }

    /// The slot that has the image; the live one if both have it.
    pub(super) fn with_image(&self, image: &DigestRef) -> Option<&SlotState> {
        [&self.traffic.live, &self.traffic.idle].into_iter().find(|state| state.has(image))
    }
}

impl SlotSwitch {
    /// Reads the Service and both Deployments.
    pub(super) async fn survey(&self) -> Result<Survey, TrafficError> {
        let service = self.namespace.service(&self.service).await?;
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let live = self.slots.selected(&self.service, &selector)?;
        let idle = self.slots.other(live);
        let (running, waiting) = tokio::try_join!(
            self.namespace.deployment(&live.deployment),
            self.namespace.deployment(&idle.deployment),
        )?;
        let Some(running) = running else {
            let object = self.namespace.object("deployment", &live.deployment);
            return Err(Error::NotFound { object: Box::new(object) }.into());
        };
        let container = self.container.as_deref();
        let switched_from = service.annotations().get(SWITCHED_FROM).cloned();
        let traffic = Traffic {
            live: SlotState::of(live, Some(&running), container),
            idle: SlotState::of(idle, waiting.as_ref(), container),
            switched_from: switched_from.filter(|name| *name == idle.name),
        };
        Ok(Survey { traffic, service, selector, deployments: (running, waiting) })
    }

    /// Fails when `selector` does not match the pods of the Deployment.
    pub(super) fn check_labels(
        &self,
        deployment: &Deployment,
        selector: &Labels,
    ) -> Result<(), TrafficError> {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let metadata = template.and_then(|template| template.metadata.as_ref());
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        if crate::traffic::labels::selects(selector, &labels) {
            Ok(())
        } else {
            Err(TrafficError::NotReady {
                object: format!("deployment/{}", deployment.name_any()),
                why: format!(
                    "its pods have the labels {}, but the Service would select {}",
                    format_labels(&labels),
                    format_labels(selector)
                ),
            })
        }
    }
}
