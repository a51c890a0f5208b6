//! Read the status and conditions of a pod, and keep only what is read.

use k8s_openapi::api::core::v1::Pod;

use super::text::Text;

/// Removes what is never read: of a thousand pods it would be most of the memory.
pub(crate) fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    let Some(spec) = &mut pod.spec else { return };
    (spec.volumes, spec.tolerations, spec.affinity) = (None, None, None);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        (container.command, container.args) = (None, None);
        (container.env, container.env_from, container.volume_mounts) = (None, None, None);
    }
}

/// Whether the pod counts as ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
}

/// Whether any container was ever started.
pub(crate) fn has_started(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut containers =
        status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
    containers.any(|container| {
        let state = container.state.as_ref();
        container.restart_count > 0 || state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    })
}

/// Status, reason and message of a condition.
pub(crate) fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<(&'p str, &'p str, &'p str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_.text() == kind)?;
    Some((found.status.text(), found.reason.text(), found.message.text()))
}
