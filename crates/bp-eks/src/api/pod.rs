//! What a pod says of itself.

use k8s_openapi::api::core::v1::Pod;

use super::text::Text;

/// Whether it was taken off its node for the node's sake: the controller makes another.
pub(crate) fn was_taken_off(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().map_or("", |status| status.reason.text());
    matches!(reason, "Evicted" | "Preempting" | "Terminated" | "NodeShutdown")
}

/// Whether the pod counts as ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
}

/// Status, reason and message of a condition.
pub(crate) fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<(&'p str, &'p str, &'p str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_.text() == kind)?;
    Some((found.status.text(), found.reason.text(), found.message.text()))
}
