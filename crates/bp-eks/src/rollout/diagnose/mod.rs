//! Diagnose why pods do not become ready: map container states, conditions and events to a cause, by the component that
//! reports it and the step that failed.
//!
//! A cause that cannot recover is *final* and ends the rollout early; a cause that may recover (a pending node, a slow
//! probe, a busy registry) is reported if the rollout stalls. Between them are those that somebody retries: they may
//! last for the grace period, or for some restarts.

mod clauses;
mod conditions;
mod ended;
mod exits;
mod pulls;
mod start;
mod warnings;

use std::cmp::Reverse;

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};

pub(crate) use self::{
    clauses::is_format_error,
    ended::{by_its_node, has_failed},
    exits::restarted,
};
use crate::api::{
    event, pod,
    symptom::{Recovery, Symptom},
    text::Text,
};

/// The symptom of `pod`, preferring final ones; `events` are the warnings about the pod.
pub(crate) fn of_pod<'e>(pod: &Pod, events: impl Iterator<Item = &'e Event>) -> Option<Symptom> {
    let status = pod.status.as_ref()?;
    if has_failed(pod)
        && let Some(symptom) = ended::reason(pod)
    {
        return Some(symptom);
    }
    // The latest first: an earlier one may have passed.
    let mut events: Vec<&Event> = events.collect();
    events.sort_by_key(|event| Reverse(event::last_seen(event)));
    let inits = status.init_container_statuses.iter().flatten();
    let containers = inits.chain(status.container_statuses.iter().flatten());
    let mut found: Vec<Symptom> =
        containers.filter_map(|container| of_container(pod, container, &events)).collect();
    found.extend(conditions::scheduling(pod));
    if !pod::is_ready(pod) {
        found.extend(conditions::readiness_gate(pod));
        found.extend(events.iter().filter_map(|event| warnings::symptom(pod, event)));
        found.extend(conditions::unready(pod, &events));
    }
    // The sort is stable: among equal symptoms the first container's wins.
    found.sort_by_key(|symptom| Reverse(symptom.rank()));
    found.into_iter().next()
}

fn of_container(pod: &Pod, container: &ContainerStatus, events: &[&Event]) -> Option<Symptom> {
    let state = container.state.as_ref()?;
    let symptom = match state {
        ContainerState { waiting: Some(waiting), .. } => {
            let message = waiting.message.text();
            match waiting.reason.text() {
                "ErrImagePull" | "ImagePullBackOff" => of_pull(container, message, events),
                // The kubelet retries both.
                "RegistryUnavailable" | "ImageInspectError" => {
                    Symptom::new(Cause::ImagePullFailed, Recovery::Sometime, message)
                }
                "SignatureValidationFailed" => {
                    Symptom::new(Cause::AdmissionRefused, Recovery::Never, message)
                }
                "InvalidImageName" => Symptom::new(Cause::ConfigInvalid, Recovery::Never, message),
                "ErrImageNeverPull" => Symptom::new(Cause::ConfigInvalid, Recovery::Never, message),
                "CreateContainerConfigError" => start::configuration(message)?,
                "CreateContainerError" | "RunContainerError" => start::start(message),
                "PostStartHookError" => exits::hook(container, message),
                "CrashLoopBackOff" => exits::crash(pod, container, events),
                _ => return None,
            }
        }
        ContainerState { terminated: Some(terminated), .. } if terminated.exit_code != 0 => {
            let symptom = exits::exit(terminated, container.restart_count);
            // The container is restarted; only a program for another architecture can never start.
            let is_final = symptom.cause == Cause::WrongArchitecture;
            let recovery = if symptom.recovery == Recovery::Never && !is_final {
                Recovery::Sometime
            } else {
                symptom.recovery
            };
            Symptom { recovery, ..symptom }
        }
        _ => return None,
    };
    Some(symptom.of_container(&container.name))
}

/// An image pull that failed.
fn of_pull(container: &ContainerStatus, message: &str, events: &[&Event]) -> Symptom {
    // Older kubelets report only "Back-off pulling image"; the reason is in the event.
    let says = |event: &&&Event| {
        event.message.text().starts_with("Failed to pull image") && event::concerns(event, &container.name)
    };
    let reported = if pulls::is_bare(message) {
        events.iter().find(says).map(|event| event.message.text())
    } else {
        None
    };
    let message = reported.unwrap_or(message);
    let (cause, recovery) = pulls::cause(message);
    Symptom::new(cause, recovery, message)
}

/// Whether the text reports missing AWS credentials: the service account has no role (IRSA) or Pod Identity
/// association, or the role does not trust it.
pub(crate) fn is_identity_error(text: &str) -> bool {
    let said = [
        "AssumeRoleWithWebIdentity",
        "InvalidIdentityToken",
        "WebIdentityErr",
        "NoCredentialProviders",
        "Unable to locate credentials",
        "no EC2 IMDS role found",
        "Could not load credentials from any providers",
        "the credential provider was not enabled",
        "PodIdentityAssociation",
    ];
    said.iter().any(|said| text.contains(said))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "web-1" }, "status": status })).unwrap()
    }

    fn container(state: Value, last: Value, restarts: u32) -> Value {
        json!({ "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last,
        }] })
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(json!({ "waiting": { "reason": reason, "message": message } }), json!({}), 0)
    }

    fn crash(last: Value) -> Value {
        let state = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } });
        container(state, json!({ "terminated": last }), 3)
    }

    fn event(reason: &str, message: &str, count: i32) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": reason, "message": message, "count": count,
        }))
        .unwrap()
    }

    fn cause(status: Value, events: &[Event]) -> Option<(Cause, bool)> {
        of_pod(&pod(status), events.iter()).map(|symptom| (symptom.cause, symptom.is_final()))
    }

    #[test]
    fn maps_waiting_reasons_to_causes() {
        let pull =
            |message: &str| waiting("ErrImagePull", &format!("rpc error: code = Unknown desc = {message}"));
        for (status, expected) in [
            (pull("r.example.com/web@sha256:1: not found"), Some((Cause::ImageNotFound, true))),
            (pull("no match for platform in manifest: not found"), Some((Cause::WrongArchitecture, true))),
            (pull("unexpected status: 403 Forbidden"), Some((Cause::ImagePullDenied, true))),
            (pull("no basic auth credentials"), Some((Cause::ImagePullDenied, true))),
            (pull("dial tcp: i/o timeout"), Some((Cause::ImagePullFailed, false))),
            (pull("429 Too Many Requests"), Some((Cause::ImagePullFailed, false))),
            (
                waiting(
                    "ImagePullBackOff",
                    "Back-off pulling image \"x\": ErrImagePull: r.example.com/x:1: not found",
                ),
                Some((Cause::ImageNotFound, true)),
            ),
            (
                waiting("ImagePullBackOff", "Back-off pulling image \"x\""),
                Some((Cause::ImagePullFailed, false)),
            ),
            (waiting("InvalidImageName", "couldn't parse"), Some((Cause::ConfigInvalid, true))),
            (
                waiting("CreateContainerConfigError", "secret \"db\" not found"),
                Some((Cause::SecretMissing, false)),
            ),
            (
                waiting("CreateContainerConfigError", "couldn't find key url in Secret shop/db"),
                Some((Cause::SecretMissing, false)),
            ),
            (
                waiting("CreateContainerConfigError", "configmap \"web\" not found"),
                Some((Cause::ConfigInvalid, false)),
            ),
            (
                waiting(
                    "CreateContainerConfigError",
                    "failed to sync secret cache: timed out waiting for the condition",
                ),
                None,
            ),
            (
                waiting("CreateContainerError", "exec: \"/web\": exec format error"),
                Some((Cause::WrongArchitecture, true)),
            ),
            (
                waiting("RunContainerError", "exec: \"/web\": no such file or directory"),
                Some((Cause::ConfigInvalid, true)),
            ),
            (waiting("ContainerCreating", ""), None),
            (waiting("PodInitializing", ""), None),
        ] {
            assert_eq!(cause(status.clone(), &[]), expected, "{status}");
        }
    }

    #[test]
    fn reads_the_pull_error_of_older_kubelets_from_the_event() {
        let status = waiting("ImagePullBackOff", "Back-off pulling image \"x\"");
        let events = [event(
            "Failed",
            "Failed to pull image \"x\": rpc error: code = NotFound desc = r.example.com/x:1: not found",
            2,
        )];
        assert_eq!(cause(status, &events), Some((Cause::ImageNotFound, true)));
    }

    #[test]
    fn maps_crashes_to_causes() {
        let liveness =
            [event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", 3)];
        for (last, events, expected) in [
            (json!({ "exitCode": 1, "reason": "Error" }), &[][..], Cause::ContainerExited),
            (json!({ "exitCode": 0, "reason": "Completed" }), &[], Cause::ContainerExited),
            (json!({ "exitCode": 137, "reason": "OOMKilled" }), &[], Cause::OutOfMemory),
            (json!({ "exitCode": 137, "reason": "Error" }), &liveness, Cause::HealthCheckFailed),
            (json!({ "exitCode": 1, "reason": "Error" }), &liveness, Cause::ContainerExited),
            (
                json!({ "exitCode": 128, "reason": "StartError", "message": "exec /web: exec format error" }),
                &[],
                Cause::WrongArchitecture,
            ),
        ] {
            assert_eq!(cause(crash(last.clone()), events), Some((expected, true)), "{last}");
        }
        let symptom = of_pod(&pod(crash(json!({ "exitCode": 3, "reason": "Error" }))), [].iter()).unwrap();
        assert_eq!((symptom.container.as_deref(), symptom.exit_code), (Some("web"), Some(3)));
        assert_eq!(symptom.message, "exit code 3, restarted 3 times");
    }

    #[test]
    fn single_exit_is_not_final() {
        let state = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        assert_eq!(cause(container(state, json!({}), 0), &[]), Some((Cause::ContainerExited, false)));
    }

    #[test]
    fn transient_symptoms_are_not_final() {
        let unschedulable = |message: &str| {
            json!({ "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message },
            ] })
        };
        for (status, events, expected) in [
            (
                unschedulable("0/3 nodes are available: 3 Insufficient cpu."),
                vec![],
                Some((Cause::Unschedulable, false)),
            ),
            (
                unschedulable("0/3 nodes are available: persistentvolumeclaim \"data\" not found."),
                vec![],
                Some((Cause::ResourceInitialization, false)),
            ),
            (
                json!({}),
                vec![event("Unhealthy", "Readiness probe failed: connection refused", 5)],
                Some((Cause::HealthCheckFailed, false)),
            ),
            (
                json!({}),
                vec![event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"v\" : secret \"db\" not found",
                    1,
                )],
                Some((Cause::SecretMissing, false)),
            ),
            (
                json!({}),
                vec![event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"v\" : secret \"db\" not found",
                    30,
                )],
                Some((Cause::SecretMissing, false)),
            ),
            (
                json!({ "conditions": [{ "type": "Ready", "status": "True" }] }),
                vec![event("Unhealthy", "Readiness probe failed: connection refused", 5)],
                None,
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted" }),
                vec![event("Unhealthy", "x", 1)],
                Some((Cause::NodeFailed, false)),
            ),
        ] {
            assert_eq!(cause(status.clone(), &events), expected, "{status}");
        }
    }
}
