//! Why a pod is not ready by its conditions: scheduling, readiness gates, containers that run and are not ready.

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::{ContainerState, Event, Pod};

use super::exits::{self, restarted};
use crate::api::{
    pod,
    symptom::{Recovery, Symptom},
    text::Text,
};

/// The prefixes of the readiness gates of the AWS Load Balancer Controller, where the rest is the name of a
/// TargetGroupBinding, and of the AWS Gateway API controller for VPC Lattice.
const TARGET_HEALTH: [&str; 3] = [
    "target-health.elbv2.k8s.aws/",
    "target-health.alb.ingress.k8s.aws/",
    "application-networking.k8s.aws/pod-readiness-gate",
];

/// The pod is unschedulable, or a scheduling gate holds it. Not final, because a node may be added.
pub(super) fn scheduling(pod: &Pod) -> Option<Symptom> {
    let (status, reason, message) = pod::condition(pod, "PodScheduled")?;
    if status != "False" {
        return None;
    }
    let cause = match reason {
        "SchedulingGated" => Cause::Unschedulable,
        _ if message.to_ascii_lowercase().contains("persistentvolumeclaim") => Cause::ResourceInitialization,
        "Unschedulable" | "SchedulerError" => Cause::Unschedulable,
        _ => return None,
    };
    Some(Symptom::new(cause, Recovery::Sometime, message))
}

/// The first readiness gate that is not true, while the containers are ready.
pub(super) fn readiness_gate(pod: &Pod) -> Option<Symptom> {
    let (status, reason, said) = pod::condition(pod, "Ready")?;
    if status != "False" || reason != "ReadinessGatesNotReady" {
        return None;
    }
    let of_target = |kind: &str| TARGET_HEALTH.iter().any(|prefix| kind.starts_with(prefix));
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let gates: Vec<&str> = gates.map(|gate| gate.condition_type.as_str()).collect();
    let is_gate = |kind: &str| gates.contains(&kind) || of_target(kind);
    let failing = conditions.into_iter().find(|c| is_gate(c.type_.text()) && c.status.text() != "True");
    let Some(failing) = failing else {
        // `corresponding condition of pod readiness gate "…" does not exist.`
        let Some(gate) = said.split('"').nth(1) else {
            return Some(Symptom::new(Cause::HealthCheckFailed, Recovery::Sometime, said));
        };
        let cause = if of_target(gate) { Cause::LoadBalancerUnhealthy } else { Cause::HealthCheckFailed };
        let message = format!(
            "the readiness gate {gate} has no condition yet: its controller has not registered the pod"
        );
        return Some(Symptom::new(cause, Recovery::Sometime, message));
    };
    let (kind, reason) = (failing.type_.text(), failing.reason.text());
    let cause = if of_target(kind) { Cause::LoadBalancerUnhealthy } else { Cause::HealthCheckFailed };
    let is_in_progress = matches!(reason, "Elb.RegistrationInProgress" | "Elb.InitialHealthChecking");
    let recovery = if is_in_progress { Recovery::Starting } else { Recovery::Sometime };
    let mut message = format!("the readiness gate {kind} is not true");
    for part in [reason, failing.message.text()] {
        if !part.is_empty() {
            message.push_str(&format!(": {part}"));
        }
    }
    Some(Symptom::new(cause, recovery, message))
}

/// A container runs and has not become ready, and no event says why. Of one that was restarted, the last run has ended.
pub(super) fn unready(pod: &Pod, events: &[&Event]) -> Option<Symptom> {
    let status = pod.status.as_ref()?;
    let mut containers = status.container_statuses.iter().flatten();
    let is_running = |state: &ContainerState| state.running.is_some();
    let unready = containers.find(|c| !c.ready && c.state.as_ref().is_some_and(is_running))?;
    let has_ended = unready.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    let symptom = if unready.restart_count > 0 && has_ended {
        let last = exits::crash(pod, unready, events);
        let message = format!("it runs and is not ready; before: {}", last.message);
        Symptom { message, recovery: Recovery::Starting, ..last }
    } else {
        let message = if unready.restart_count > 0 {
            format!("it runs and is not ready, {}", restarted(unready.restart_count))
        } else {
            "it runs and is not ready".to_owned()
        };
        Symptom::new(Cause::HealthCheckFailed, Recovery::Starting, message)
    };
    Some(symptom.of_container(&unready.name))
}
