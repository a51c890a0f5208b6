//! Decide from the watched objects whether a step is in effect and the pods that receive its traffic work.

use std::sync::Arc;

use bp_artifact::{
    config::TrafficObject,
    deploy::{Cause, Progress},
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::DynamicObject;

use super::{
    WeightedPair,
    reconciled::{self, Baseline},
    route::{self, Acceptance},
    share::{Pair, shown},
    targets::TargetHealth,
};
use crate::{
    api::{
        pod,
        symptom::{Recovery, Symptom},
    },
    traffic::pods::Failing,
};

/// What is expected of an object and of the pods of one Service.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) weights: Vec<Pair>,
    /// The events of an Ingress before the change; `None` if there was no change, or for an HTTPRoute.
    pub(super) since: Option<Baseline>,
    /// Whether only that the weights are in effect matters, and that one pod is ready: after a return.
    pub(super) is_return: bool,
}

/// The watched objects at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) object: Option<Arc<DynamicObject>>,
    pub(super) events: Vec<Arc<Event>>,
    /// The pods of the Service.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) targets: TargetHealth,
}

/// The state of a step.
#[derive(Debug, PartialEq)]
pub(super) enum State {
    /// The weights are in effect, and all pods and targets are ready.
    Good,
    /// Something is not known or not ready yet.
    Waiting(String),
    /// The controller refuses the object, and retries.
    Refused(String),
    /// No pod or target can serve: a failure under traffic.
    Unfit(Symptom),
    /// The pods fail.
    Failing(Symptom),
    /// Another client changed the weights.
    Superseded(String),
    /// The object was deleted.
    Gone,
}

impl Snapshot {
    fn living(&self) -> Vec<&Arc<Pod>> {
        self.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The ready pods.
    pub(super) fn serving(&self) -> Vec<Arc<Pod>> {
        self.living().into_iter().filter(|pod| pod::is_ready(pod)).cloned().collect()
    }

    /// The counts of pods, with the state as stage.
    pub(super) fn progress(&self, state: &State) -> Progress {
        let (living, ready) = (self.living().len(), self.serving().len());
        let mut progress = Progress::default();
        progress.desired = living as u32;
        progress.running = ready as u32;
        progress.pending = (living - ready) as u32;
        progress.stage = match state {
            State::Good => "weights in effect".to_owned(),
            State::Waiting(why) | State::Refused(why) => why.clone(),
            State::Unfit(symptom) | State::Failing(symptom) => symptom.message.clone(),
            State::Superseded(_) | State::Gone => String::new(),
        };
        progress
    }

    /// Judges a step. `fail_after` pods that fail for the same reason fail it.
    pub(super) fn judge(&self, pair: &WeightedPair, expected: &Expected, fail_after: usize) -> State {
        let Some(object) = &self.object else { return State::Gone };
        if object.metadata.deletion_timestamp.is_some() {
            return State::Gone;
        }
        match pair.split(DynamicObject::clone(object)) {
            Err(error) => return State::Superseded(error.to_string()),
            Ok(split) if split.weights() != expected.weights => {
                return State::Superseded(shown(&split.weights()));
            }
            Ok(_) => {}
        }
        let living = self.living();
        if !expected.is_return
            && let Some(symptom) = Failing::of(&living, fail_after).symptom
        {
            return State::Failing(symptom);
        }
        let acceptance = match (&pair.object, &expected.since) {
            (TrafficObject::HttpRoute(_), _) => route::acceptance(object),
            (TrafficObject::Ingress(_), Some(before)) => reconciled::acceptance(&self.events, before),
            (TrafficObject::Ingress(_), None) => Acceptance::Accepted,
        };
        match acceptance {
            Acceptance::Refused(why) => return State::Refused(why),
            Acceptance::Unknown(why) => return State::Waiting(why),
            Acceptance::Accepted => {}
        }
        let ready = self.serving().len();
        match ready {
            0 => {
                let message = "no pod of the Service is ready";
                return State::Unfit(Symptom::new(Cause::HealthCheckFailed, Recovery::Never, message));
            }
            _ if expected.is_return => return State::Good,
            _ if ready < living.len() => {
                return State::Waiting(format!("{ready} of {} pods are ready", living.len()));
            }
            _ => {}
        }
        match &self.targets {
            TargetHealth::NotRead | TargetHealth::Healthy => State::Good,
            TargetHealth::Unknown(why) | TargetHealth::Waiting(why) => State::Waiting(why.clone()),
            TargetHealth::Unhealthy(why) => {
                State::Unfit(Symptom::new(Cause::LoadBalancerUnhealthy, Recovery::Never, why))
            }
        }
    }
}
