//! Why pods ended in the phase `Failed`: rejected or evicted by the kubelet, or stopped with their node.
//!
//! Their controller replaces them; the reason explains a rollout that makes no progress.

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::Pod;

use crate::api::{
    symptom::{Recovery, Symptom},
    text::Text,
};

/// Whether the pod has ended without success.
pub(crate) fn has_failed(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.text() == "Failed")
}

/// The symptom of a failed pod, by the reason that the kubelet or a controller gave. `None` when its containers say why.
pub(super) fn reason(pod: &Pod) -> Option<Symptom> {
    let status = pod.status.as_ref()?;
    let (reason, message) = (status.reason.text(), status.message.text());
    let (cause, recovery) = match reason {
        "Evicted" if is_own_limit(message) => (Cause::ConfigInvalid, Recovery::Never),
        "Evicted" | "Preempting" | "Preempted" | "Terminated" | "NodeShutdown" | "Shutdown" | "NodeLost" => {
            (Cause::NodeFailed, Recovery::Sometime)
        }
        "UnexpectedAdmissionError" => (Cause::ResourceInitialization, Recovery::Sometime),
        "SysctlForbidden" | "AppArmor" | "PodOSNotSupported" => (Cause::ConfigInvalid, Recovery::Never),
        // The node no longer matches what the scheduler knew.
        "NodeAffinity"
        | "NodeSelectorMismatching"
        | "MatchNodeSelector"
        | "TopologyAffinityError"
        | "NodePorts"
        | "PodFitsHostPorts"
        | "TaintToleration" => (Cause::Unschedulable, Recovery::Sometime),
        _ if reason.starts_with("OutOf") => (Cause::Unschedulable, Recovery::Sometime),
        "" | "DeadlineExceeded" => return None,
        _ if has_ended_containers(pod) => return None,
        // Rejected by the kubelet for a reason that later versions have added: `VolumeAttachmentLimitExceeded`.
        _ => (Cause::ResourceInitialization, Recovery::Sometime),
    };
    let message =
        if message.is_empty() { reason.to_owned() } else { format!("{reason}: {}", message.trim()) };
    Some(Symptom::new(cause, recovery, message))
}

fn has_ended_containers(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut containers = status.flat_map(|status| status.container_statuses.iter().flatten());
    containers.any(|container| container.state.as_ref().is_some_and(|state| state.terminated.is_some()))
}

/// Whether the pod used more than its own limit, and not the node more than it has.
fn is_own_limit(message: &str) -> bool {
    message.starts_with("Pod ephemeral local storage usage exceeds the total limit of containers")
        || message.starts_with("Usage of EmptyDir volume")
        || message.contains("exceeded its local ephemeral storage limit")
}

/// Whether the node stopped the pod, for a reason that is not the pod's.
pub(crate) fn by_its_node(pod: &Pod) -> bool {
    has_failed(pod) && reason(pod).is_some_and(|symptom| symptom.cause == Cause::NodeFailed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_may_exceed_its_own_limit_be_rejected_or_lose_its_node() {
        for (reason, message, expected) in [
            (
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
                Some((Cause::ConfigInvalid, Recovery::Never)),
            ),
            (
                "Evicted",
                "Container web exceeded its local ephemeral storage limit \"1Gi\". ",
                Some((Cause::ConfigInvalid, Recovery::Never)),
            ),
            (
                "Evicted",
                "The node was low on resource: memory. Container web was using 1Gi, request is 0.",
                Some((Cause::NodeFailed, Recovery::Sometime)),
            ),
            (
                "Terminated",
                "Pod was terminated in response to imminent node shutdown.",
                Some((Cause::NodeFailed, Recovery::Sometime)),
            ),
            (
                "OutOfcpu",
                "Node didn't have enough resource: cpu",
                Some((Cause::Unschedulable, Recovery::Sometime)),
            ),
            ("", "", None),
        ] {
            let status = json!({ "phase": "Failed", "reason": reason, "message": message });
            let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
            assert_eq!(super::reason(&pod).map(|s| (s.cause, s.recovery)), expected, "{reason} {message}");
        }
    }
}
