//! What the warning events about a pod say, as far as they are about its present state: an event is kept for an hour,
//! long after its reason has passed.

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::start;
use crate::api::{
    event, pod,
    symptom::{Recovery, Symptom},
    text::Text,
};

/// The symptom in a warning event about a pod that is not ready.
pub(super) fn symptom(pod: &Pod, event: &Event) -> Option<Symptom> {
    let message = event.message.text();
    match event.reason.text() {
        "FailedScheduling" if !is_scheduled(pod) => Some(scheduling(message)),
        "FailedMount" if !is_prepared(pod) => {
            if start::is_cache(message) {
                return Some(Symptom::new(Cause::ResourceInitialization, Recovery::Sometime, message));
            }
            let other = || Symptom::new(Cause::ResourceInitialization, Recovery::Sometime, message);
            Some(start::reference(message).unwrap_or_else(other))
        }
        "FailedAttachVolume"
        | "FailedMapVolume"
        | "FailedCreatePodSandBox"
        | "FailedCreatePodContainer"
        | "FailedPrepareDynamicResources"
        | "NetworkNotReady"
            if !is_prepared(pod) =>
        {
            Some(Symptom::new(Cause::ResourceInitialization, Recovery::Sometime, message))
        }
        "Unhealthy" => unhealthy(pod, event),
        _ => None,
    }
}

/// The answer of a scheduler. That of Fargate reads the pod's specification and its own profiles.
fn scheduling(message: &str) -> Symptom {
    if message.starts_with("Pod not supported on Fargate") {
        return Symptom::new(Cause::ConfigInvalid, Recovery::Never, message);
    }
    Symptom::new(Cause::Unschedulable, Recovery::Sometime, message)
}

fn is_scheduled(pod: &Pod) -> bool {
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    is_bound || pod::condition(pod, "PodScheduled").is_some_and(|(status, ..)| status == "True")
}

/// Whether volumes and network are in place: the kubelet mounts all volumes before it creates the sandbox.
fn is_prepared(pod: &Pod) -> bool {
    match pod::condition(pod, "PodReadyToStartContainers") {
        Some((status, ..)) => status == "True",
        None => pod::has_started(pod),
    }
}

/// A failed probe of the present run of a container.
fn unhealthy(pod: &Pod, event: &Event) -> Option<Symptom> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    let statuses = statuses.unwrap_or_default();
    let is_present = |container: &&ContainerStatus| {
        let running = container.state.as_ref().and_then(|state| state.running.as_ref());
        let started = running.and_then(|running| running.started_at.as_ref()).map(|time| time.0);
        running.is_some()
            && !container.ready
            && event::concerns(event, &container.name)
            && event::is_since(event, started)
    };
    let mut present = statuses.iter().filter(is_present);
    let (container, others) = (present.next(), present.next().is_some());
    if container.is_none() && !statuses.is_empty() {
        return None;
    }
    let named = event::container(event).or_else(|| container.filter(|_| !others).map(|c| c.name.as_str()));
    let symptom = Symptom::new(Cause::HealthCheckFailed, Recovery::Sometime, event.message.text());
    Some(Symptom { container: named.map(str::to_owned), ..symptom })
}
